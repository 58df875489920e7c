"""Looking for events over all streams, newest first, with a limit on the time that it takes."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from poller.model import Entry, loads
from poller.store.letters import Position, place_of, position
from poller.store.page_reads import BEGINNING, PageReads

from .answers import EventsQuery, PlacedEvent

SEARCH_S = 0.1
"""A search that finds little gives back what it has, and where to go on."""
LONGEST_PLACE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for; empty wants everything."""

    type: str = ""
    source: str = ""
    subject: str = ""
    text: str = ""

    def __call__(self, entry: Entry) -> bool:
        event = entry.event
        return (
            (not self.source or entry.source == self.source)
            and (not self.type or fnmatchcase(event.type, self.type))
            and (not self.subject or self.subject in {event.subject, event.id})
            and (not self.text or self.text.lower().encode() in event.body.lower())
        )


def wanted_in(asked: EventsQuery) -> Wanted:
    """What a query asks for."""
    return Wanted(type=asked.type, source=asked.source, subject=asked.subject, text=asked.q)


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
    if not valid_place(place):
        msg = f"{cursor!r} is no cursor"
        raise ValueError(msg)
    return position(place), source


async def find(
    page_reads: PageReads, sources: Sequence[str], wanted: Wanted, *, limit: int, before: str = ""
) -> Found:
    """Look for events, newest first.

    Raises:
        ValueError: `before` is no cursor. StoreUnavailable, StoreRefused: Redis cannot tell.
    """
    start = cursor_at(before) if before else None
    asked = [name for name in sources if not wanted.source or name == wanted.source]
    lanes = [_Lane(page_reads, name, wanted, _below(start, name), limit) for name in asked]
    end, found = time.monotonic() + SEARCH_S, list[Entry]()
    while len(found) < limit and await _filled(lanes, until=end):
        lane = max((each for each in lanes if each.entries), key=lambda each: each.head, default=None)
        if lane is None:
            return Found(tuple(found), None, None)
        found.append(lane.entries.pop(0))
    if len(found) == limit:
        more = any(each.entries or not each.ended for each in lanes)
        return Found(tuple(found), cursor_of(found[-1]) if more else None, None)
    return _out_of_time(lanes, found, limit)


async def _filled(lanes: "Sequence[_Lane]", *, until: float) -> bool:
    """Let every lane know its newest entry or its end; False where the time is over before that.

    Each is looked through once at least, then always the one that the others wait for.
    """
    while blank := [lane for lane in lanes if lane.blank]:
        slowest = max(blank, key=lambda lane: (not lane.walked, lane.upto or BEGINNING))
        if slowest.walked and time.monotonic() > until:
            return False
        await slowest.walk()
    return True


def _out_of_time(lanes: "Sequence[_Lane]", found: list[Entry], limit: int) -> Found:
    """Give what is known to be newest, and go on from where the slowest lane is."""
    frontier = max(lane.upto for lane in lanes if lane.blank and lane.upto is not None)
    ready = [entry for lane in lanes for entry in lane.entries if position(entry.place) >= frontier]
    ready.sort(key=lambda entry: (position(entry.place), entry.source), reverse=True)
    found += ready[: limit - len(found)]
    if len(found) == limit:
        return Found(tuple(found), cursor_of(found[-1]), frontier[0] / 1000)
    return Found(tuple(found), f"{place_of(frontier)}.", frontier[0] / 1000)


class _Lane:
    """One stream on the way back."""

    def __init__(
        self, page_reads: PageReads, source: str, wanted: Wanted, upto: Position | None, limit: int
    ) -> None:
        self._page_reads, self._source, self._wanted, self._limit = page_reads, source, wanted, limit
        self.upto = upto
        self.entries: list[Entry] = []
        self.ended = False
        self.walked = False

    @property
    def blank(self) -> bool:
        """Whether it is not known yet what comes next."""
        return not self.entries and not self.ended

    @property
    def head(self) -> tuple[Position, str]:
        """Where its next entry stands; of equal places, the last source by name comes first."""
        return position(self.entries[0].place), self._source

    async def walk(self) -> None:
        """Look on for one step."""
        wanted = self._wanted
        step = await self._page_reads.search(
            self._source,
            upto=self.upto,
            count=self._limit,
            type_=wanted.type,
            subject=wanted.subject,
            text=wanted.text,
        )
        self.entries, self.upto, self.ended = step.entries, step.reached, step.ended
        self.walked = True


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
        if isinstance(event, Mapping) and isinstance(event.get("data"), Mapping):
            return dict(event)
    kept = entry.event
    return {"id": kept.id, "type": kept.type, "subject": kept.subject, "time": kept.time, "data": {}}


def valid_place(text: str) -> bool:
    """Whether a text can be an entry's place."""
    ms, dash, seq = text.partition("-")
    if not (text.isascii() and ms.isdigit() and (not dash or seq.isdigit()) and len(text) <= LONGEST_PLACE):
        return False
    return max(position(text)) < 2**63
