"""A receiver that knows nothing of ours: it verifies with `standardwebhooks` and reads with `cloudevents`."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hookside import SECRET
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from poller.deliver.signing import encode_secret


@dataclass
class Arrived:
    """One event as it arrived."""

    id: str
    body: bytes
    type: str
    subject: str
    revision: int


@dataclass
class Receiver:
    """Takes every event, and keeps what it verified."""

    url: str = ""
    got: list[Arrived] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why a request was not believed."""
    _webhook: Webhook = field(default_factory=lambda: Webhook(encode_secret(SECRET)))

    @property
    def counts(self) -> Counter[str]:
        """How often each id came."""
        return Counter(each.id for each in self.got)

    @property
    def repeats(self) -> int:
        """Requests beyond the first of their id."""
        return len(self.got) - len(self.counts)

    async def handle(self, request: web.Request) -> web.Response:
        """Verify, read, keep."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            self._webhook.verify(body, headers)
            self.got.append(_read(headers, body))
        except (WebhookVerificationError, ValueError, KeyError) as exc:
            self.refused.append(f"{type(exc).__name__}: {exc}")
            return web.Response(status=400)
        return web.Response(status=204)


def _read(headers: dict[str, str], body: bytes) -> Arrived:
    event = from_http_event(HTTPMessage({"content-type": "application/cloudevents+json"}, body))
    data: Any = event.get_data()
    if isinstance(data, (str, bytes)):
        data = json.loads(data)
    if headers["webhook-id"] != event.get_id():
        msg = f"webhook-id {headers['webhook-id']} is not the event's id {event.get_id()}"
        raise ValueError(msg)
    return Arrived(event.get_id(), body, event.get_type(), str(event.get_subject()), data["revision"])


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()
