"""The HTTP side of the service for tests: over a real port, on a store that the test fills."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from hookside import SECRET

from poller.app.front import context_of
from poller.config import Settings
from poller.deliver.signing import encode_secret
from poller.model import Event, fields_of, rfc3339
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.web import Pulse, Web, listen, opened

TOKEN = "page-token-canary-8f2b"
HINT_SECRET = "drum-secret-canary-77"
WELL = Pulse(ticking=True, silent_s=0.1, restarts=0, reasons=(), held={"source/acme": True})


@dataclass
class Site:
    """The running side, and what a test asks of it."""

    url: str
    web: Web
    http: httpx.AsyncClient
    connection: Connection
    keys: Keys
    pulse: Pulse = WELL
    stopping: bool = False
    stream: dict[str, int] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """GET as nobody in particular."""
        return await self.http.get(path, headers={name.replace("_", "-"): v for name, v in headers.items()})

    async def post(
        self, path: str, body: Any = None, *, token: str = TOKEN, **headers: str
    ) -> httpx.Response:
        """POST as who has the token."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            told["authorization"] = f"Bearer {token}"
        return await self.http.post(path, content=b"" if body is None else json.dumps(body), headers=told)

    async def publish(self, *events: Event, source: str = "acme", ago_s: float | None = None) -> list[str]:
        """Put events into a source's stream, now or some time ago (then oldest first)."""
        redis, places = self.connection.commands, []
        await redis.sadd(self.keys.sources(), source)
        async with redis.pipeline(transaction=False) as pipe:
            for at, each in enumerate(events):
                where = "*" if ago_s is None else f"{int((time.time() - ago_s) * 1000)}-{at}"
                pipe.xadd(self.keys.events(source), dict(fields_of(each)), id=where)
            places = await pipe.execute()
        return [place.decode() for place in places]


def settings_of(
    *,
    sources: Mapping[str, Mapping[str, Any]] | None = None,
    webhooks: Mapping[str, Mapping[str, Any]] | None = None,
    **web: Any,
) -> Settings:
    """Settings with a source `acme` and an endpoint `billing`, unless others are named."""
    drum = {"kind": "drum", "token": "t", "base_url": "http://127.0.0.1:9", "hook_secret": HINT_SECRET}
    hook = {
        "url": "http://127.0.0.1:9/hook",
        "secrets": [encode_secret(SECRET)],
        "allow_private": ["127.0.0.0/8"],
    }
    return Settings.model_validate(
        {
            "web": {"port": 0, "token": TOKEN, **web},
            "sources": {name: {**drum, **given} for name, given in (sources or {"acme": {}}).items()}
            if sources != {}
            else {},
            "webhooks": {name: {**hook, **given} for name, given in (webhooks or {"billing": {}}).items()}
            if webhooks != {}
            else {},
        }
    )


@asynccontextmanager
async def site(connection: Connection, settings: Settings | None = None) -> AsyncIterator[Site]:
    """Answer over a free port while the block runs; nothing polls, and nothing is delivered."""
    settings = settings or settings_of()
    keys = Keys(settings.redis.prefix)
    here: list[Site] = []
    context = context_of(settings, connection, keys, pulse=lambda: here[0].pulse)
    web = Web(context, stopping=lambda: here[0].stopping)
    host = settings.web.host if settings.web.host != "0.0.0.0" else "127.0.0.1"
    listener = listen(settings.web.host, 0)
    port = listener.sock.getsockname()[1]
    url = f"http://{host}:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as http:
        here.append(Site(url, web, http, connection, keys))
        async with opened(web, listener):
            yield here[0]


def event(
    n: int,
    *,
    type: str = "drum.opportunity.status_changed",  # noqa: A002 -- the event's own word
    subject: str = "",
    revision: int = 1,
    **object_: Any,
) -> Event:
    """A lifelike event of about 1.3 KB."""
    at = rfc3339(time.time())
    thing = {
        "id": n,
        "name": f"Website for Client {n}",
        "description": "A new site, with everything that belongs to it. " * 6,
        "project_status": {"id": 2, "name": "Negotiation", "complete_status": False},
        "client": {"id": n, "name": f"Client {n}", "type": "Company"},
        "amount": 25000.0,
        "currency": "AUD",
        **object_,
    }
    subject = subject or f"opportunity/{n}"
    body = {
        "specversion": "1.0",
        "id": f"evt_{n:040x}",
        "source": "/drum/acme",
        "type": type,
        "subject": subject,
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "object": thing,
            "previous": {"project_status": {"id": 1, "name": "Qualifying", "complete_status": False}},
            "changed": ["project_status"],
            "observed": {"not_before": rfc3339(time.time() - 34), "not_after": at},
            "deal": {
                "name": thing["name"],
                "client": f"Client {n}",
                "amount": "25000.00",
                "currency": "AUD",
                "status": "open",
                "stage": "Negotiation",
                "owner": None,
                "url": f"https://app.getdrum.com/opportunities/{n}",
            },
            "revision": revision,
        },
    }
    return Event(id=str(body["id"]), type=type, subject=subject, time=at, body=json.dumps(body).encode())


def drum_hook(
    record: int = 101,
    *,
    event: str = "project.updated",
    now: float | None = None,
    signed: str = "both",
    **more: Any,
) -> tuple[bytes, dict[str, str]]:
    """One of Drum's own webhooks: body and headers. `signed` is both (time and body) or body."""
    at = time.time() if now is None else now
    attributes = {"id": record, "project_type": "project", **more}
    data = {"id": record, "type": "Project", "attributes": attributes}
    body = json.dumps({"event": event, "timestamp": rfc3339(at), "data": data}).encode()
    message = f"{int(at)}.".encode() + body if signed == "both" else body
    signature = hmac.new(HINT_SECRET.encode(), message, hashlib.sha256).hexdigest()
    return body, {"x-webhook-signature": signature, "x-webhook-timestamp": str(int(at))}


def unwell(pulse: Pulse = WELL, **changes: Any) -> Pulse:
    """The same pulse, but for these."""
    return replace(pulse, **changes)
