"""One event as one readable line: when, what, which deal, and what became of it."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from .output import clean

_COLOURS = {
    "won": "bold green",
    "completed": "green",
    "created": "cyan",
    "added": "cyan",
    "restored": "cyan",
    "appeared": "cyan",
    "reopened": "yellow",
    "status_changed": "blue",
    "updated": "default",
    "lost": "bold red",
    "removed": "red",
    "suspended": "bold red",
    "held": "bold red",
    "disabled": "bold red",
}
SHOWN = 3
"""Changed fields on a line; the rest is counted."""
WIDEST = 60


def event_line(event: Mapping[str, Any], *tail: tuple[str, str]) -> Text:
    """Render a CloudEvent; `tail` are (text, style) that follow it."""
    kind = str(event["type"])
    data = event.get("data") or {}
    deal = data.get("deal") or {}
    suffix = kind.rpartition(".")[2]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{str(event['time'])[11:19]}  ", "dim")
    line.append(f"{kind:<32} ", _COLOURS.get(suffix, "magenta"))
    line.append(_flat(" · ".join(_about(event, data, deal))))
    moved = _moved(data)
    if moved:
        line.append(f"  {_flat(moved)}", "dim")
    for text, style in tail:
        line.append(f"  {text}", style)
    return line


def _flat(text: str) -> str:
    """On one line whatever a name holds: `clean` lets line breaks pass."""
    return clean(text).replace("\n", "\\n")


def _about(event: Mapping[str, Any], data: Mapping[str, Any], deal: Mapping[str, Any]) -> list[str]:
    amount = deal.get("amount")
    money = f"{_thousands(str(amount))} {deal.get('currency') or ''}".strip() if amount else ""
    thing = data.get("object") or {}
    name = deal.get("name") or thing.get("name") or thing.get("title") or thing.get("reason") or ""
    return [part for part in (str(event["subject"]), str(name), deal.get("client") or "", money) if part]


def _thousands(amount: str) -> str:
    whole, dot, places = amount.partition(".")
    return f"{int(whole):,}{dot}{places}" if whole.lstrip("-").isdigit() else amount


def _moved(data: Mapping[str, Any]) -> str:
    changed = [name for name in data.get("changed") or () if name in (data.get("previous") or {})]
    new = data.get("object") or {}
    told = [f"{name}: {_short(data['previous'][name])} → {_short(new.get(name))}" for name in changed[:SHOWN]]
    more = len(changed) - SHOWN
    return ", ".join(told) + (f", {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name", value.get("id"))
    if isinstance(value, list):
        value = ", ".join(_short(item) for item in value)
    text = "none" if value is None else str(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
