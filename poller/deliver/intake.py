"""Taking events in: from each source's stream, from what waits in Redis, and from what is sent again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog

from poller.errors import StoreUnavailable
from poller.model import Entry, Event
from poller.store.known_sources import KnownSources
from poller.store.letters import Letter, Row, letter_of, position
from poller.store.queue import Outcome, Queue, Recovery, StreamFacts
from poller.store.streams import Streams

from .lanes import Board, Item, Lane, item_of, waiting_item
from .retry import JITTER
from .settling import Patience, Settler

READ_AT_ONCE = 128
MOST_AT_HAND = 256
"""Entries of one source that are read and not yet settled; the rest stays in the stream."""
MOST_WAITING = 10_000
"""Events of one source that may wait in Redis before its stream is left to wait instead."""
BLOCK_MS = 1000
BUSY_BLOCK_MS = 10
READ_DEADLINE_S = 6.0
AGAIN_AT_ONCE = 100
MARGIN = 200
"""Events are only sent again while fewer than this many wait: fresh ones are not to be crowded out."""


@dataclass(slots=True)
class Followed:
    """One source as the endpoint follows it."""

    lane: Lane
    settler: Settler
    recovery: Recovery = field(default_factory=Recovery)
    known: str = ""
    """The stream's last entry when it was last looked at: tells a lost tail from a new stream."""


class Intake:
    """Fills the board, and settles what leaves it."""

    def __init__(
        self,
        *,
        queue: Queue,
        board: Board,
        streams: Streams,
        known: KnownSources,
        wants: Callable[[Event], tuple[bool, bool]],
        start: Literal["now", "oldest"],
        first_delay_s: float,
        now: Callable[[], float],
        chance: Callable[[], float],
        spawn: Callable[[Settler], object],
        changed: Callable[[], None],
    ) -> None:
        self._queue, self._board, self._wants, self._start = queue, board, wants, start
        self._first_delay_s, self._now, self._chance = first_delay_s, now, chance
        self._spawn, self._changed = spawn, changed
        self._streams, self._kept = streams, known
        self._known, self._named = frozenset[str](), set[str]()
        self._followed: list[str] = []
        self._sources: dict[str, Followed] = {}
        self._skipped = ""
        self._log = structlog.get_logger().bind(endpoint=queue.endpoint)

    @property
    def names(self) -> list[str]:
        """The sources that are being read."""
        return list(self._sources)

    def follow(self, source: str, *, wanted: bool = True) -> None:
        """Follow one more source from the next `open` on; one that is not `wanted` is only known then."""
        self._named.add(source)
        if wanted and source not in self._followed:
            self._followed.append(source)

    # --- opening ------------------------------------------------------------------------

    async def open(self, *, up_since: float) -> None:
        """Go on in every followed source that is not open yet, with what waits and what was under way.

        Where it has no place in one yet: an endpoint that is new begins as it was told to. One that is not
        begins with a source that is new at its first event, whoever polled that one until now.
        """
        if self._known and self._named <= self._known:
            return
        known = self._known or await self._kept.read()
        for name in self._followed:
            if name not in self._sources:
                start = self._start if not known or name in known else "oldest"
                await self._open(name, start=start, up_since=up_since)
        there = self._named if known else {*self._named, *await self._streams.sources()}
        await self._kept.add(there)
        self._known = frozenset(["", *known, *there])

    async def _open(self, name: str, *, start: Literal["now", "oldest"], up_since: float) -> None:
        place, recovery = await self._queue.open(name, start=start)
        waiting = await self._queue.waiting(name)
        entries = await self._queue.fetch(name, place.holes) if place.holes else []
        lane = Lane.at(name, place)
        stamp = f"{self._queue.fence}.{int(self._chance() * 2**52):x}"
        source = Followed(lane, Settler(self._queue, lane, patience=self._patience(), stamp=stamp), recovery)
        await self._look_at(source)  # before the first read: that one moves past what was trimmed
        # From here on nobody else has a turn: what is on the board may be sent, and is settled by its source.
        self._lose(source, len(place.holes) - len(entries))
        for letter in waiting:
            self._await(name, letter, up_since=up_since)
        for entry in entries:
            self._take(source, entry, ordinal=0)
        self._sources[name] = source
        self._spawn(source.settler)
        self._changed()

    def _await(self, name: str, letter: Letter, *, up_since: float) -> None:
        item = waiting_item(name, letter)
        if letter.meta.last and letter.meta.last < up_since:
            item.due = min(item.due, up_since)  # the endpoint came back since: it was pulled forward
        self._board.add(item)

    # --- reading ------------------------------------------------------------------------

    async def read(self, *, most: int | None = None) -> bool:
        """Read on wherever there is room, and wait a while for news; False where there is no room at all.

        With `most`, no more than so many entries of a source are held at hand.
        """
        limit = MOST_AT_HAND if most is None else most
        open_ = {name: source for name, source in self._sources.items() if self._has_room(source, limit)}
        if not open_:
            return False
        block_ms = BLOCK_MS if len(open_) == len(self._sources) or most else BUSY_BLOCK_MS
        after = {name: source.lane.read_to for name, source in open_.items()}
        count = READ_AT_ONCE if most is None else most
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                rows = await self._queue.read(after, count=count, block_ms=block_ms)
        except TimeoutError as exc:
            msg = f"Redis did not answer a read within {READ_DEADLINE_S:g} s"
            raise StoreUnavailable(msg) from exc
        # Where a lane was put elsewhere meanwhile, what was read of it does not go on from there.
        await self._take_all([each for each in rows if self._goes_on(each.source, after[each.source])])
        return True

    def _goes_on(self, name: str, after: str) -> bool:
        return self._sources[name].lane.read_to == after

    def _has_room(self, source: Followed, limit: int) -> bool:
        at_hand = len(source.lane.outstanding)
        return at_hand < limit and self._board.stored[source.lane.source] < MOST_WAITING

    async def _take_all(self, rows: Sequence[Row]) -> None:
        parked: dict[str, list[Item]] = {}
        for row in rows:
            source = self._sources[row.source]
            ordinal = source.lane.step(row.place)
            item = self._take(source, row.entry, ordinal=ordinal) if row.entry else None
            if item and self._board.is_behind_a_failure(item):
                parked.setdefault(row.source, []).append(item)
        if rows:
            self._changed()
        for name, items in parked.items():
            await self._park(self._sources[name], items)

    def _take(self, source: Followed, entry: Entry, *, ordinal: int) -> Item | None:
        if self._board.find(entry.source, entry.place):
            return None  # an operator had it sent before its turn came
        wanted, sure = self._wants(entry.event)
        if not sure:
            source.settler.counts["unsure"] += 1
        if not wanted:
            source.settler.counts["filtered"] += 1
            return None
        now, delay = self._now(), self._first_delay_s * (1 + JITTER * self._chance())
        item = item_of(entry, due=now + delay if delay else 0.0, ordinal=ordinal)
        source.lane.hold(item)
        self._board.add(item)
        return item

    async def _park(self, source: Followed, items: Sequence[Item]) -> None:
        now = self._now()
        outcomes = [
            Outcome("wait", item.place, now, item.meta, item.event.body) for item in items if item.event
        ]
        for item in items:
            source.lane.let_go(item)
        await source.settler.settle(outcomes)
        for item in items:
            if not item.gone and not item.flying:
                self._board.store(item)

    async def load(self, item: Item) -> Event | None:
        """Read an event that waits, for as long as Redis takes to answer; None if it waits no more."""
        body = await self._patience().keep(lambda: self._queue.body(item.source, item.place))
        return None if body is None else Letter(item.place, item.meta, body).event

    def _patience(self) -> Patience:
        return Patience(endpoint=self._queue.endpoint, chance=self._chance)

    # --- settling -----------------------------------------------------------------------

    async def settle(self, items: Sequence[Item], outcomes: Sequence[Outcome], *, counter: str = "") -> None:
        """Settle events of one source together.

        Raises:
            Fenced: a newer holder was there. Conflict: Redis lost the settlement before. Nothing was written.
        """
        source = self._sources[items[0].source]
        if counter:
            source.settler.counts[counter] += 1
        for item in items:
            source.lane.let_go(item)
        await source.settler.settle(outcomes)

    async def flush(self) -> None:
        """Note where each lane stands."""
        for source in self._sources.values():
            await source.settler.flush()

    # --- what was lost, what is sent again ---------------------------------------------------

    async def look(self) -> None:
        """See whether a stream has lost what was not read yet, or is not the one it was.

        Raises:
            Conflict: what was settled last is lost; nothing that is remembered here holds any more.
        """
        for name, source in self._sources.items():
            await self._queue.check(name)
            await self._look_at(source)

    async def _look_at(self, source: Followed) -> None:
        lane = source.lane
        read_to = lane.read_to
        facts = await self._queue.facts(lane.source)
        if position(facts.last) < position(read_to):
            await self._go_back(source, facts)
        elif lane.read_to == read_to and facts.first and position(facts.first) > position(read_to):
            self._lose(source, facts.trimmed - lane.ordinal)
            lane.ordinal = max(lane.ordinal, facts.trimmed)
        source.known = facts.last

    async def _go_back(self, source: Followed, facts: StreamFacts) -> None:
        # Redis lost its tail, or the stream was born again: what comes now may have lower ids than we read.
        # Repeats have their own ids, so it is better to read a little twice than to wait for ever.
        lane = source.lane
        same = source.known and await self._queue.fetch(lane.source, [source.known])
        lane.read_to = source.known if same else "0-0"
        after = await self._queue.range(lane.source, after=lane.read_to, upto="+", count=MOST_WAITING)
        lane.ordinal = facts.added - len(after)
        lane.top, lane.top_ordinal = lane.read_to, lane.ordinal
        self._log.warning("stream.went_back", source=lane.source, to=lane.read_to)
        self._changed()

    def _lose(self, source: Followed, lost: int) -> None:
        if lost > 0:
            source.settler.counts["lost"] += lost
            self._log.error(
                "stream.unread_trimmed",
                source=source.lane.source,
                lost=lost,
                remedy="raise redis.retention above the longest time an endpoint may be away",
            )

    async def sweep(self) -> None:
        """Bury what was dead for 14 days."""
        for name in self._sources:
            await self._queue.sweep(name, now=self._now())

    async def send_again(self) -> None:
        """Do a part of what operators asked to be recovered, while there is room."""
        for name, source in self._sources.items():
            if self._board.stored[name] >= MARGIN:
                continue
            if source.recovery.after:
                await self._replay(source)
            if source.recovery.dead_until:
                await self._revive(source)

    async def _replay(self, source: Followed) -> None:
        lane, asked = source.lane, source.recovery
        upto = min(asked.upto, lane.read_to, key=position)
        rows = await self._queue.range(lane.source, after=asked.after, upto=upto, count=AGAIN_AT_ONCE)
        now = self._now()
        letters = [
            letter_of(row.entry, at=now)
            for row in rows
            if row.entry and self._wants(row.entry.event)[0] and not self._board.find(lane.source, row.place)
        ]
        done = len(rows) < AGAIN_AT_ONCE
        after = "" if done else rows[-1].place
        await self._queue.replay(
            lane.source, letters, asked=asked, after=after, upto="" if done else asked.upto
        )
        source.recovery = Recovery(after=after, upto="" if done else asked.upto, dead_until=asked.dead_until)
        self._add(lane.source, letters)

    async def _revive(self, source: Followed) -> None:
        asked, name = source.recovery, source.lane.source
        letters = await self._queue.revive(
            name, died_until=asked.dead_until, count=AGAIN_AT_ONCE, now=self._now()
        )
        until = asked.dead_until if letters else 0.0
        source.recovery = Recovery(after=asked.after, upto=asked.upto, dead_until=until)
        self._add(name, letters)

    def _add(self, name: str, letters: Sequence[Letter]) -> None:
        for letter in letters:
            if not self._board.find(name, letter.place):
                self._board.add(waiting_item(name, Letter(letter.place, letter.meta, b"", letter.at)))
        self._changed()

    # --- orders -------------------------------------------------------------------------

    async def reload(self) -> None:
        """Read again what waits and what is to be recovered: an operator may have changed it."""
        for name, source in self._sources.items():
            source.recovery = await self._queue.recovery(name)
            before = {item.place for item in self._board if item.source == name and item.stored}
            letters = {letter.place: letter for letter in await self._queue.waiting(name)}
            for place in before - letters.keys():
                item = self._board.find(name, place)
                if item and not item.flying:
                    self._board.remove(item)
            for letter in letters.values():
                self._refresh(name, letter)
        self._changed()

    def _refresh(self, name: str, letter: Letter) -> None:
        item = self._board.find(name, letter.place)
        if item is None:
            self._board.add(waiting_item(name, letter))
        elif item.stored and not item.flying:
            item.meta = letter.meta  # sent again from its first attempt, it may have been due all the same
            if letter.at < item.due:
                self._board.postpone(item, due=letter.at)

    async def skip(self, upto: str) -> None:
        """Pass over everything up to an entry; what waits for it becomes a dead letter that can be resent.

        When this returns Redis has it. What is under way at that moment is not called back. The caller sees
        to it that nothing is read or sent meanwhile.
        """
        if upto == self._skipped:
            return
        for name, source in self._sources.items():
            await self._move_on(source.lane, upto)
            items = [
                item
                for item in self._board
                if item.source == name and not item.flying and item.key[0] <= position(upto)
            ]
            await self._bury(source, items, now=self._now())
            await source.settler.flush()
        self._skipped = upto

    async def _move_on(self, lane: Lane, upto: str) -> None:
        # Never past the stream's end: a place beyond it is what a lost tail looks like.
        facts = await self._queue.facts(lane.source)
        goal = min(upto, facts.last, key=position)
        left = await self._queue.range(lane.source, after=goal, upto=facts.last, count=MOST_WAITING)
        if position(goal) > position(lane.read_to):
            lane.read_to, lane.ordinal = goal, facts.added - len(left)

    async def _bury(self, source: Followed, items: Sequence[Item], *, now: float) -> None:
        outcomes = []
        for item in items:
            body = await self._queue.body(item.source, item.place) if item.stored else None
            if body is not None:
                item.meta.died, item.meta.why = now, "skipped"
                outcomes.append(Outcome("dead", item.place, now, item.meta, body))
            elif not item.stored:
                outcomes.append(Outcome("done", item.place))  # it may be on its way to wait in Redis
            source.lane.let_go(item)
            self._board.remove(item)
        if outcomes:
            await source.settler.settle(outcomes)
