"""Looking for events over all streams, newest first, with a limit on the time that it takes."""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from poller.model import Entry, loads
from poller.store.letters import Position, place_of, position
from poller.store.views import Views

from .answers import PlacedEvent

MOST_SHOWN = 200
SEARCH_S = 0.12
"""A search that finds little gives back what it has, and where to go on."""
AT_ONCE = 100
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for; empty wants everything."""

    type: str = ""
    source: str = ""
    subject: str = ""
    text: str = ""

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.type or self.subject or self.text)

    def __call__(self, entry: Entry) -> bool:
        event = entry.event
        return (
            (not self.source or entry.source == self.source)
            and (not self.type or fnmatchcase(event.type, self.type))
            and (not self.subject or self.subject in {event.subject, event.id})
            and (not self.text or self.text.lower().encode() in event.body.lower())
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave."""

    entries: tuple[Entry, ...]
    next: str | None
    """Where to go on; None at the end."""
    searched_to: float | None
    """How far back it came (Unix seconds), where it has not ended."""


def cursor_of(entry: Entry) -> str:
    """Where to go on below an entry."""
    return f"{entry.place}.{entry.source}"


def cursor_at(cursor: str) -> tuple[Position, str]:
    """Read a cursor.

    Raises:
        ValueError: it is none.
    """
    place, _, source = cursor.partition(".")
    return position(place), source


async def find(
    views: Views,
    sources: Sequence[str],
    wanted: Wanted,
    *,
    limit: int,
    before: str = "",
    clock: Clock = time.monotonic,
) -> Found:
    """Look for events, newest first.

    Raises:
        ValueError: `before` is no cursor. StoreUnavailable, StoreRefused: Redis cannot tell.
    """
    start = cursor_at(before) if before else None
    asked = [name for name in sources if not wanted.source or name == wanted.source]
    walk = _Walk(views, asked, start, count=limit + 1 if wanted.everything else AT_ONCE)
    end, found, last = clock() + SEARCH_S, list[Entry](), None
    while (entry := await walk.next()) is not None:
        if len(found) == limit or (last is not None and clock() > end):
            assert last is not None
            return Found(tuple(found), cursor_of(last), position(last.place)[0] / 1000)
        if wanted(entry):
            found.append(entry)
        last = entry
    return Found(tuple(found), None, None)


class _Walk:
    """The entries of several streams, newest first; of equal places, the last source by name first."""

    def __init__(
        self, views: Views, sources: Sequence[str], start: tuple[Position, str] | None, *, count: int
    ) -> None:
        self._views = views
        self._count = count
        self._rank = {name: -rank for rank, name in enumerate(sorted(sources))}
        self._heap: list[tuple[int, int, int, Entry]] = []
        self._pages: dict[str, list[Entry]] = {name: [] for name in sources}
        self._upto: dict[str, Position | None] = {name: _below(start, name) for name in sources}
        self._opened = False

    async def next(self) -> Entry | None:
        """The next older entry; None at the end."""
        if not self._opened:
            self._opened = True
            for name in self._pages:
                await self._push(name)
        if not self._heap:
            return None
        *_, entry = heapq.heappop(self._heap)
        await self._push(entry.source)
        return entry

    async def _push(self, name: str) -> None:
        page = self._pages[name]
        if not page:
            page = await self._views.newest(name, upto=self._upto[name], count=self._count)
            page.reverse()
            self._pages[name] = page
            if page:
                self._upto[name] = position(page[0].place)
        if page:
            entry = page.pop()
            ms, seq = position(entry.place)
            heapq.heappush(self._heap, (-ms, -seq, self._rank[name], entry))


def _below(start: tuple[Position, str] | None, name: str) -> Position | None:
    if start is None:
        return None
    (ms, seq), source = start
    return (ms, seq + 1) if name < source else (ms, seq)


def placed(entry: Entry) -> PlacedEvent:
    """An entry as the API gives it."""
    return PlacedEvent(source=entry.source, place=entry.place, event=opened(entry))


def opened(entry: Entry) -> dict[str, Any]:
    """The CloudEvent of an entry; what is no JSON shows as what it is."""
    with suppress(ValueError):
        event = loads(entry.event.body)
        if isinstance(event, Mapping):
            return dict(event)
    kept = entry.event
    return {"id": kept.id, "type": kept.type, "subject": kept.subject, "time": kept.time, "data": {}}


def valid_place(text: str) -> bool:
    """Whether a text can be an entry's place."""
    ms, dash, seq = text.partition("-")
    return text.isascii() and ms.isdigit() and (not dash or seq.isdigit()) and len(text) <= 40


def since_place(at: float) -> str:
    """The place before everything that was detected since a moment."""
    return place_of((max(0, int(at * 1000) - 1), 2**64 - 1))
