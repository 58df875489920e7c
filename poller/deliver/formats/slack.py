"""A Slack message for an event, as Block Kit for an incoming webhook: no signature, limits kept.

Limits: https://docs.slack.dev/reference/block-kit/blocks (header 150, section 3,000, 50 blocks);
escaping: https://docs.slack.dev/messaging/formatting-message-text.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from poller.model import Event, Json, dumps, loads

from .request import Request

HEADER_MOST = 150
SECTION_MOST = 3000
CONTEXT_MOST = 2000
FALLBACK_MOST = 4000
FIELD_MOST = 300
FACTS_MOST = 10

_SPACE = re.compile(r"\s+")
_URL = re.compile(r"https?://[^\s<>|\"]+")

_PLAIN = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,12})?")
"""An amount that is worth marking; `1e999999` would be a long line."""

_STATUS = ("project_status", "status_label", "stage_name", "phase_name", "stage_id", "phase_id", "status")
"""Where the sources keep what a deal's status, stage or phase is called, the most readable first."""

_VERBS = {
    "added": "added",
    "appeared": "appeared",
    "archived": "archived",
    "baseline_completed": "first reading completed",
    "completed": "completed",
    "created": "created",
    "disabled": "disabled",
    "failing": "failing",
    "fields_hidden": "fields hidden",
    "fields_shown": "fields shown",
    "held": "removals held back",
    "lost": "lost",
    "phase_changed": "moved",
    "recovered": "recovered",
    "released": "hold released",
    "removed": "removed",
    "renamed": "renamed",
    "reopened": "reopened",
    "restored": "restored",
    "resumed": "resumed",
    "stage_changed": "moved",
    "status_changed": "moved",
    "suspended": "suspended",
    "test": "test",
    "unarchived": "unarchived",
    "updated": "updated",
    "won": "won",
}
_MARKS = {"won": "🎉", "lost": "✖", "suspended": "⚠", "held": "⚠", "failing": "⚠", "disabled": "⚠"}


def render(event: Event, *, secrets: Sequence[bytes], at: float, content_type: str) -> Request:  # noqa: ARG001 - the protocol's
    """Write the message. Slack proves itself by its URL: neither id nor signature is sent."""
    return Request(body=dumps(message(event)), headers={"content-type": "application/json"})


def message(event: Event) -> Json:
    """Make the JSON of the message: `text` for notifications, `blocks` for everything else."""
    data = _mapping(_data(event.body))
    title, body = _title(event, data), _body(event, data)
    blocks: list[Json] = [
        {"type": "header", "text": {"type": "plain_text", "text": fitted(title, HEADER_MOST)}}
    ]
    if body:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": body}})
    context = fitted(f"{event.type} · {event.subject} · {event.time}", CONTEXT_MOST)
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]})
    return {"text": fitted(_fallback(title, data), FALLBACK_MOST), "blocks": blocks}


def fitted(text: str, most: int) -> str:
    """Escape `&`, `<` and `>`, and cut to `most` characters without cutting an escape in two."""
    escaped = escape(text)
    if len(escaped) <= most:
        return escaped
    kept, size = [], 1  # for the ellipsis
    for char in text:
        piece = escape(char)
        if size + len(piece) > most:
            break
        kept.append(piece)
        size += len(piece)
    return "".join(kept).rstrip() + "…"


def escape(text: str) -> str:
    """Escape what Slack takes for control characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def money(amount: str | None, currency: str | None) -> str | None:
    """Write an amount with thousands marked and the places that it has."""
    if not amount:
        return None
    written = f"{Decimal(amount):,f}" if _PLAIN.fullmatch(amount) else amount
    return f"{currency} {written}" if currency else written


def moved(data: Mapping[str, Json]) -> tuple[str | None, str | None]:
    """Tell the old and the new status or stage, where the event knows them."""
    previous, now, deal = (_mapping(data.get(key)) for key in ("previous", "object", "deal"))
    new = _name(deal.get("stage")) or _name(deal.get("status"))
    for key in _STATUS:
        if previous.get(key) is not None:
            return _name(previous[key]), _name(now.get(key)) if _named(now.get(key)) else new
    return None, new


def _data(body: bytes) -> Json:
    try:
        return _mapping(loads(body)).get("data")
    except (ValueError, msgspec.DecodeError):
        return None


def _title(event: Event, data: Mapping[str, Json]) -> str:
    kind, _, verb = event.type.rpartition(".")
    who = _line(_mapping(data.get("deal")).get("name")) or event.subject
    what = _VERBS.get(verb, verb.replace("_", " "))
    mark = _MARKS.get(verb)
    if event.type.startswith("poller."):
        text = f"{kind.rpartition('.')[2].capitalize()} {event.subject.partition('/')[2]}: {what}"
    else:
        text = f"{kind.rpartition('.')[2].capitalize()} {what}: {who}"
    return f"{mark} {text}" if mark else text


def _body(event: Event, data: Mapping[str, Json]) -> str:
    deal = _mapping(data.get("deal"))
    lines = _deal_lines(event, data, deal) if deal else _facts(_mapping(data.get("object")))
    link = deal.get("url")
    # Lines are left out whole: half a line could be half an escape or half a link.
    kept, size = [], 0
    tail = [f"<{link}|Open>"] if isinstance(link, str) and _URL.fullmatch(link) and len(link) < 1000 else []
    room = SECTION_MOST - sum(len(each) + 1 for each in tail)
    for line in lines:
        if size + len(line) + 1 > room:
            break
        kept.append(line)
        size += len(line) + 1
    return "\n".join([*kept, *tail])


def _deal_lines(event: Event, data: Mapping[str, Json], deal: Mapping[str, Json]) -> list[str]:
    old, new = moved(data)
    if event.type.endswith((".won", ".lost")):
        new = _name(deal.get("status")) or event.type.rpartition(".")[2]
    status = f"{old} → {new}" if old and new and old != new else new
    pairs = {
        "Client": deal.get("client"),
        "Amount": money(_text(deal.get("amount")), _text(deal.get("currency"))),
        "Status": status,
        "Owner": deal.get("owner"),
        "Changed": _changed(data) if event.type.endswith(".updated") else None,
    }
    return [_fact(key, value) for key, value in pairs.items() if _line(value)]


def _changed(data: Mapping[str, Json]) -> str | None:
    names = data.get("changed")
    return ", ".join(map(str, names)) if isinstance(names, list) else None


def _facts(thing: Mapping[str, Json]) -> list[str]:
    plain = [
        (key, value) for key, value in thing.items() if isinstance(value, str | int | Decimal) and key != "id"
    ]
    return [_fact(key.replace("_", " ").capitalize(), value) for key, value in plain[:FACTS_MOST]]


def _fact(key: str, value: Json) -> str:
    return f"*{fitted(key, 60)}:* {fitted(_line(value), FIELD_MOST)}"


def _fallback(title: str, data: Mapping[str, Json]) -> str:
    deal = _mapping(data.get("deal"))
    amount = money(_text(deal.get("amount")), _text(deal.get("currency")))
    return " · ".join(part for part in (title, _line(deal.get("client")), amount) if part)


def _mapping(value: Json) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Json) -> str | None:
    return None if value is None else str(value)


def _line(value: Json) -> str:
    return "" if value is None else _SPACE.sub(" ", str(value)).strip()


def _named(value: Json) -> bool:
    return isinstance(value, str | dict)


def _name(value: Json) -> str | None:
    if isinstance(value, dict):
        value = value.get("name")
    return _line(value) or None
