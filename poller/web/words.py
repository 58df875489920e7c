"""States, spans and events as people say them. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from .answers import DetailsAnswer, EndpointAnswer, SourceAnswer

_STEPS = ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"), (float("inf"), 86400, "days"))
SHOWN = 3
"""Changed fields on a line; the rest is counted."""
WIDEST = 80
STAMPS = frozenset({"date_updated", "updated_at", "update_time", "stage_change_time"})
"""Fields that move with every other one."""

GOOD = frozenset({"won", "completed", "released", "resumed", "recovered", "baseline_completed"})
BAD = frozenset({"lost", "removed", "suspended", "held", "disabled", "failing"})
NEW = frozenset({"created", "added", "appeared", "restored", "reopened", "unarchived"})


def span(seconds: float | None) -> str:
    """A time span as people say it."""
    if seconds is None:
        return "never"
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    _, unit, name = next(step for step in _STEPS if seconds < step[0])
    number = seconds / unit
    return f"{number:.0f} {name}" if number >= 10 or unit > 1 else f"{number:.1f} {name}"


def moment(at: float | None) -> str:
    """A moment in UTC, to the second."""
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float) -> str:
    """A number with its thousands parted."""
    return f"{value:,.0f}"


def plural(count: int, one: str) -> str:
    """A count and its noun."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def many(noun: str) -> str:
    """The plural of a kind of record."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


# --- sources and endpoints ---------------------------------------------------------------------


def source_sentence(source: SourceAnswer) -> str:
    """A source's state in words."""
    if source.state not in ("polling", "starting") or not source.well:
        return source.why
    parts = [f"polling every {span(source.period_s)}"]
    if source.details:
        parts.append(_details(source.details))
    parts.append(f"{source.budget.share * 100:.0f} % of the budget")
    if source.why:
        parts.append(source.why)
    return "; ".join(parts)


def _details(details: DetailsAnswer) -> str:
    if details.read < details.looked_at or details.oldest_s is None:
        return f"details read of {number(details.read)} in {number(details.looked_at)} records"
    return f"details at most {span(details.oldest_s)} old"


def delay_sentence(source: SourceAnswer) -> str:
    """How long a change takes to be told; empty where it is not known yet."""
    if source.expected_delay_s is None:
        return ""
    lately = f", lately {span(source.observed_delay_s)}" if source.observed_delay_s is not None else ""
    return f"a change is told after {span(source.expected_delay_s)} on average{lately}"


def endpoint_sentence(webhook: EndpointAnswer) -> str:
    """An endpoint's state in words."""
    if webhook.why:
        return webhook.why
    if webhook.waiting:
        return f"{webhook.waiting:,} waiting, the oldest for {span(webhook.oldest_waiting_s)}"
    return "everything is delivered" if webhook.delivered else "nothing sent yet"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """That there is no source or webhook of that name, and which was meant."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    others = f'the nearest is "{near[0]}"' if near else f"known here: {', '.join(names) or 'none'}"
    return f'there is no {what} "{name[:64]}"; {others}'


def unknown_type(name: str, known: Collection[str]) -> str:
    """That there is no event type of that name, and which was meant; they are too many to be listed."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'the nearest is "{near[0]}"; ' if near else ""
    return f'there is no event type "{name[:64]}"; {hint}`poller schema` lists them'


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One event on one line."""

    type: str
    tone: str
    """good, bad, new or plain: a colour beside the word, never instead of it."""
    subject: str
    name: str
    client: str
    money: str
    moved: str


def line_of(event: Mapping[str, Any]) -> Line:
    """An event as a line."""
    data = event.get("data") or {}
    deal, thing = data.get("deal") or {}, data.get("object") or {}
    name = deal.get("name") or thing.get("name") or thing.get("title") or thing.get("reason") or ""
    return Line(
        type=str(event.get("type", "")),
        tone=tone_of(str(event.get("type", ""))),
        subject=str(event.get("subject", "")),
        name=short(name) if name else "",
        client=str(deal.get("client") or ""),
        money=money(deal),
        moved=_moved(data),
    )


def tone_of(type_: str) -> str:
    """How an event's type is coloured."""
    suffix = type_.rpartition(".")[2]
    return "good" if suffix in GOOD else "bad" if suffix in BAD else "new" if suffix in NEW else "plain"


def money(deal: Mapping[str, Any]) -> str:
    """An amount with its currency, thousands parted; empty where there is none."""
    amount = str(deal.get("amount") or "")
    if not amount:
        return ""
    whole, dot, places = amount.partition(".")
    shown = f"{int(whole):,}{dot}{places}" if whole.lstrip("-").isdigit() else amount
    return f"{shown} {deal.get('currency') or ''}".strip()


def _moved(data: Mapping[str, Any]) -> str:
    previous, new = data.get("previous") or {}, data.get("object") or {}
    names = [name for name in data.get("changed") or () if name in previous]
    shown = _telling(names)[:SHOWN]
    told = [f"{name}: {short(previous[name])} → {short(new.get(name))}" for name in shown]
    more = len(names) - len(shown)
    return ", ".join(told) + (f", {more} more" if more > 0 else "")


def _telling(names: Sequence[str]) -> list[str]:
    """What tells something: no id beside its name, and not when the row was written."""
    named = {name.rpartition("_")[0] for name in names if name.endswith(("_name", "_label"))}
    return [name for name in names if name not in STAMPS and name.removesuffix("_id") not in named]


def short(value: Any) -> str:
    """A value on a line: the name of what has one, lists parted by commas."""
    text = full(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def full(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return str(value.get("name", value.get("id", "…")))
    if isinstance(value, list):
        return ", ".join(full(item) for item in value) or "none"
    return str(value)
