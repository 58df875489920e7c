// A receiver of poller's webhooks in Node: any Standard Webhooks library verifies them.
//
//   npm install
//   WEBHOOK_SECRET=whsec_… PORT=9000 node express_receiver.mjs
//
// In poller.toml:
//
//   [webhooks.billing]
//   url = "http://127.0.0.1:9000/hooks/poller"
//   secret = "whsec_…"                  # poller webhooks secret
//   events = ["*.won"]
//   allow_private = ["127.0.0.0/8"]     # only because this one is on the same machine

import express from "express";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const app = express();

// Keep these where they outlive the process, beside what you did: an event may come twice, under one id.
const done = new Set();

// The raw bytes are what was signed: express.json() would throw them away.
const raw = express.raw({ type: ["application/json", "application/cloudevents+json"], limit: "5mb" });

app.post("/hooks/poller", raw, (request, response) => {
  let event;
  try {
    event = webhook.verify(request.body, request.headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    return response.status(400).send(error.message);
  }
  if (done.has(event.id)) {
    console.log(`already done (${event.id})`);
  } else {
    const deal = event.data.deal ?? {};
    console.log(`invoice ${deal.client} ${deal.amount} (${event.id})`); // amount is a string: exact
    done.add(event.id);
  }
  // Anything but 2xx is tried again, for three days.
  response.status(204).end();
});

const server = app.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(`listening on ${server.address().port}`);
});
