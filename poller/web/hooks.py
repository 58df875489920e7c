"""Drum's own webhooks as hints: proven by their HMAC, they make a record be read next, and nothing more.

Drum's document names HMAC-SHA256 in X-Webhook-Signature and a Unix time in X-Webhook-Timestamp, but not the
string that is signed. Both usual ones are taken: `TIMESTAMP.BODY`, and the body alone, whose own `timestamp`
must then be fresh too. A repeat does no harm: the record is read once more, within the budget.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from datetime import datetime
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from poller.model import dumps
from poller.store import snapshots

from .answers import HintTaken
from .faults import fault
from .operations import Operation

FRESH_S = 300.0
REMEMBERED = 1_000
"""Deliveries that are known; one that is repeated is read once."""
PREFIX = "sha256="

log = structlog.get_logger("poller.web")


class _Data(msgspec.Struct):
    id: int | str
    attributes: dict[str, Any] = {}


class _Hook(msgspec.Struct):
    event: str
    data: _Data
    timestamp: str = ""


_decoder = msgspec.json.Decoder(_Hook)


class Hints:
    """Remembers which deliveries were taken."""

    def __init__(self) -> None:
        self._taken: OrderedDict[str, None] = OrderedDict()

    def repeated(self, delivery: str) -> bool:
        """Whether this delivery was taken already."""
        return delivery in self._taken

    def took(self, delivery: str) -> None:
        """Remember one, now that Redis has what it asks for."""
        if delivery:
            self._taken[delivery] = None
        if len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)


def proven(body: bytes, *, signature: str, timestamp: str, secret: str, now: float) -> bool:
    """Whether Drum signed this within the last five minutes."""
    given = signature.strip().removeprefix(PREFIX).lower()
    if not secret or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(now - int(timestamp)) > FRESH_S:
        return False
    key = secret.encode()
    dotted = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    alone = hmac.new(key, body, hashlib.sha256).hexdigest()
    by_both = hmac.compare_digest(given.encode(), dotted.encode())
    by_body = hmac.compare_digest(given.encode(), alone.encode()) and _fresh_body(body, now=now)
    return by_both or by_body


def _fresh_body(body: bytes, *, now: float) -> bool:
    try:
        told = _decoder.decode(body).timestamp
        at = msgspec.convert(told, type=datetime).timestamp()
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError):
        return False
    return abs(now - at) <= FRESH_S


def subject_of(hook: _Hook) -> str | None:
    """The record that a hook is about; None where it is none that is read."""
    if hook.event not in ("project.created", "project.updated"):
        return None
    kind = "opportunity" if hook.data.attributes.get("project_type") == "opportunity" else "project"
    record_id = str(hook.data.id)
    return (
        f"{kind}/{record_id}" if record_id.isascii() and record_id.isdigit() and len(record_id) < 20 else None
    )


async def take(request: Request) -> Response:
    """Take one hint."""
    web, name = request.app.state.web, request.path_params["name"]
    facts = web.context.sources.get(name)
    body = await request.body()
    headers = request.headers
    secret = facts.hook_secret if facts is not None and facts.kind == "drum" else ""
    if not proven(
        body,
        signature=headers.get("x-webhook-signature", ""),
        timestamp=headers.get("x-webhook-timestamp", ""),
        secret=secret,
        now=time.time(),
    ):
        # One answer for every reason: a name that exists is not told from one that does not.
        log.warning("hint.refused", source=name[:64] if facts is not None else None)
        text = (
            "the signature does not prove this request: set hook_secret of this source to Drum's secret key"
        )
        return fault(401, "unproven", text)
    return await _heed(request, name, body)


async def _heed(request: Request, name: str, body: bytes) -> Response:
    web = request.app.state.web
    try:
        hook = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return fault(422, "invalid", "the body is none of Drum's webhooks")
    subject = subject_of(hook)
    delivery = request.headers.get("x-webhook-delivery-id", "")
    taken = subject is not None and not web.hints.repeated(delivery)
    if taken:
        order = dumps({"do": "poll", "record": subject})
        await snapshots.ask(web.context.connection, web.context.keys, name, order)
        web.hints.took(delivery)
    log.info("hint.taken" if taken else "hint.ignored", source=name, hook=hook.event[:64], record=subject)
    return JSONResponse(HintTaken(reads=subject if taken else None).model_dump())


OPERATIONS = (
    Operation(
        method="POST",
        path="/hooks/{name}",
        name="takeHint",
        summary="Take one of Drum's own webhooks as a hint: its record is read next.",
        handler=take,
        answer=HintTaken,
        security="hmac",
        faults=(401, 422, 503),
    ),
)
