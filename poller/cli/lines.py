"""One event as one readable line on a terminal: when, what, which deal, and what became of it."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from poller.web.words import line_of

from .output import clean

_STYLES = {"good": "bold green", "bad": "bold red", "new": "cyan", "plain": "blue"}


def event_line(event: Mapping[str, Any], *tail: tuple[str, str]) -> Text:
    """Render a CloudEvent; `tail` are (text, style) that follow it."""
    told = line_of(event)
    about = filter(None, (told.subject, told.name, told.client, told.money))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{str(event['time'])[11:19]}  ", "dim")
    line.append(f"{told.type:<32} ", _STYLES[told.tone])
    line.append(_flat(" · ".join(about)))
    if told.moved:
        line.append(f"  {_flat(told.moved)}", "dim")
    for text, style in tail:
        line.append(f"  {text}", style)
    return line


def _flat(text: str) -> str:
    """On one line whatever a name holds: `clean` lets line breaks pass."""
    return clean(text).replace("\n", "\\n")
