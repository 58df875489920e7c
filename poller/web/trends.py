"""The last day in figures: events by hour, counted a little at a time; the budget, noted once a minute."""

import asyncio
import time
from dataclasses import dataclass, field

import structlog

from poller.errors import StoreError
from poller.store.letters import place_of, position
from poller.store.page_reads import Hour, PageReads

from .context import WebContext

HOURS = 24
HOUR_S = 3600
COUNT_S = 0.04
"""A page waits no longer for the counting; the next one goes on where this one stopped."""
NOTE_S, SOON_S = 60.0, 5.0

log = structlog.get_logger("poller.web")


@dataclass
class _Tally:
    """What was counted of one stream."""

    after: str = ""
    hours: dict[int, Hour] = field(default_factory=dict)
    whole: bool = False

    def add(self, found: Hour) -> None:
        """Count on."""
        had = self.hours.get(found.hour, Hour(found.hour, 0, 0, 0))
        self.hours[found.hour] = Hour(
            found.hour, had.events + found.events, had.won + found.won, had.lost + found.lost
        )


@dataclass(frozen=True, slots=True)
class Day:
    """The last 24 hours of some sources together."""

    hours: tuple[Hour, ...]
    """Oldest first; the last one has only begun."""
    whole: bool
    """Whether everything was counted."""

    @property
    def events(self) -> int:
        """In all."""
        return sum(each.events for each in self.hours)

    @property
    def won(self) -> int:
        """Deals won."""
        return sum(each.won for each in self.hours)

    @property
    def lost(self) -> int:
        """Deals lost."""
        return sum(each.lost for each in self.hours)


class Trends:
    """Counts, and remembers what it has counted."""

    def __init__(self, context: WebContext, page_reads: PageReads) -> None:
        self._context = context
        self._page_reads = page_reads
        self._tallies: dict[str, _Tally] = {}
        self._lock = asyncio.Lock()

    async def day(self, sources: list[str]) -> Day:
        """The last 24 hours of these sources."""
        last = int(time.time()) // HOUR_S
        first = last - HOURS + 1
        end = time.monotonic() + COUNT_S
        async with self._lock:
            for name in sources:
                await self._count(name, first, end)
        tallies = [self._tallies[name] for name in sources if name in self._tallies]
        hours = tuple(_sum(hour, tallies) for hour in range(first, last + 1))
        return Day(hours, all(each.whole for each in tallies))

    async def _count(self, name: str, first: int, end: float) -> None:
        tally = self._tallies.setdefault(name, _Tally())
        start = place_of((first * HOUR_S * 1000, 0))
        if not tally.after or position(tally.after) < position(start):
            tally.after = start
        tally.hours = {hour: each for hour, each in tally.hours.items() if hour >= first}
        tally.whole = False
        more = True
        while more and time.monotonic() < end:
            tally.after, more, found = await self._page_reads.hours(name, after=tally.after)
            for each in found:
                tally.add(each)
        tally.whole = not more

    async def budget(self, source: str) -> list[tuple[float, float]]:
        """(moment, share) for each five minutes of the last day in which something was noted."""
        now = time.time()
        return list((await self._page_reads.spent(source, since=now - HOURS * HOUR_S, until=now)).items())

    async def run(self) -> None:
        """Note once a minute how much of the budget counts, for the sources that this replica polls."""
        while True:
            noted = False
            try:
                noted = await self._note()
            except StoreError as exc:
                log.debug("trends.unnoted", reason=str(exc))
            await asyncio.sleep(NOTE_S if noted else SOON_S)

    async def _note(self) -> bool:
        held = self._context.pulse().held
        if not any(held.get(f"source/{name}") for name in self._context.sources):
            return False
        for each in (await self._context.look()).sources:
            if held.get(f"source/{each.source}"):
                used = sum(each.budget.used.values())
                await self._page_reads.note_spent(
                    each.source, at=time.time(), used=used, limit=each.budget.limit
                )
        return True


def _sum(hour: int, tallies: list[_Tally]) -> Hour:
    mine = [tally.hours[hour] for tally in tallies if hour in tally.hours]
    return Hour(
        hour,
        sum(each.events for each in mine),
        sum(each.won for each in mine),
        sum(each.lost for each in mine),
    )
