"""A receiver of poller's webhooks that does each thing once.

    pip install poller fastapi uvicorn
    WEBHOOK_SECRET=whsec_… uvicorn fastapi_receiver:app --port 9000

In poller.toml:

    [webhooks.billing]
    url = "http://127.0.0.1:9000/hooks/poller"
    secret = "whsec_…"                  # poller webhooks secret
    events = ["*.won"]
    allow_private = ["127.0.0.0/8"]     # only because this one is on the same machine
"""

import os
import sqlite3
from typing import Any

from fastapi import FastAPI, Request, Response

import poller

SECRET = os.environ["WEBHOOK_SECRET"]

app = FastAPI()
done = sqlite3.connect(os.environ.get("DONE_DB", "done.db"))
done.execute("CREATE TABLE IF NOT EXISTS invoice (event_id TEXT PRIMARY KEY, client TEXT, amount TEXT)")


@app.post("/hooks/poller")
async def receive(request: Request) -> Response:
    """Verify, do it once, say 204. Anything but 2xx is tried again, for three days."""
    body = await request.body()  # the very bytes: what was signed
    try:
        event = poller.verify(request.headers, body, SECRET)
    except poller.VerificationFailed as exc:
        return Response(str(exc), status_code=400)
    invoice(event)
    return Response(status_code=204)


def invoice(event: dict[str, Any]) -> None:
    """The event's id is the same at every attempt: kept in one transaction with the work, it is done once."""
    deal = event["data"].get("deal") or {}
    with done:
        fresh = done.execute(
            "INSERT OR IGNORE INTO invoice VALUES (?, ?, ?)",
            (event["id"], deal.get("client"), deal.get("amount")),
        ).rowcount
    said = f"invoice {deal.get('client')} {deal.get('amount')}" if fresh else "already done"
    print(f"{said} ({event['id']})", flush=True)
