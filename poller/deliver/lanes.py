"""What one endpoint has before it, and in which order it may go: in memory, no I/O, no clock.

A `Lane` follows one source's stream and knows how to say where it stands. The `Board` holds what all
lanes have taken and gives out the oldest event that may go: one at a time for each subject, in the
order of the stream, and no later one past an earlier one that still fails (contract §7).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from poller.model import Entry, Event
from poller.store.letters import Letter, Meta, Position, before, position
from poller.store.queue import Place

from .retry import Health

Rank = tuple[bool, Position, str]


@dataclass(slots=True, eq=False)
class Item:
    """One event on its way. `stored` ones wait in Redis as well; the others can be read again."""

    source: str
    place: str
    meta: Meta
    event: Event | None
    """None while only Redis holds the body."""
    key: tuple[Position, str]
    ordinal: int = 0
    due: float = 0.0
    urgent: bool = False
    """It met a 410 and goes first."""
    stored: bool = False
    flying: bool = False
    ticket: int = 0
    """Which of its entries in the heaps is valid; 0 for none."""
    gone: bool = False

    @property
    def subject(self) -> tuple[str, str]:
        return (self.source, self.meta.subject)

    @property
    def rank(self) -> Rank:
        """Oldest first, but for what is urgent."""
        return (not self.urgent, *self.key)


def item_of(entry: Entry, *, due: float, ordinal: int = 0) -> Item:
    """Take an entry of the stream."""
    event = entry.event
    meta = Meta(id=event.id, type=event.type, subject=event.subject, time=event.time)
    key = (position(entry.place), entry.source)
    return Item(entry.source, entry.place, meta, event, key, ordinal=ordinal, due=due)


def waiting_item(source: str, letter: Letter) -> Item:
    """Take up what already waits in Redis; a due time of 0 is what a 410 leaves behind."""
    key = (position(letter.place), source)
    return Item(
        source, letter.place, letter.meta, None, key, due=letter.at, urgent=letter.at == 0, stored=True
    )


@dataclass(slots=True)
class Lane:
    """One source's stream as one endpoint reads it."""

    source: str
    read_to: str
    ordinal: int
    """How many entries the stream ever got up to `read_to`."""
    top: str = ""
    top_ordinal: int = 0
    outstanding: dict[str, Item] = field(default_factory=dict)
    """Read, and neither settled nor stored; in the stream's order."""
    kept: Place | None = None
    """The place as last settled."""

    @classmethod
    def at(cls, source: str, place: Place) -> "Lane":
        """Go on from a place."""
        return cls(source, place.cursor, place.ordinal, place.cursor, place.ordinal, kept=place)

    def step(self, place: str) -> int:
        """Move past the next entry of the stream; give its ordinal."""
        self.read_to = place
        self.ordinal += 1
        return self.ordinal

    def hold(self, item: Item) -> None:
        """Note an entry that is read and not settled."""
        self.outstanding[item.place] = item

    def let_go(self, item: Item) -> None:
        """Note that an entry is settled, or stored."""
        if self.outstanding.pop(item.place, None) and item.ordinal > self.top_ordinal:
            self.top, self.top_ordinal = item.place, item.ordinal

    def place(self) -> Place:
        """Say where the lane stands: a cursor, and what is below it and still under way."""
        if not self.outstanding:
            self.top, self.top_ordinal = self.read_to, self.ordinal
        else:
            self._past_what_was_skipped()
        return Place(cursor=self.top, ordinal=self.top_ordinal, holes=tuple(self._holes()))

    def _past_what_was_skipped(self) -> None:
        first = next(iter(self.outstanding.values()))
        if first.ordinal > self.top_ordinal + 1:
            self.top, self.top_ordinal = before(first.place), first.ordinal - 1

    def _holes(self) -> Iterator[str]:
        for item in self.outstanding.values():
            if item.ordinal > self.top_ordinal:
                return
            yield item.place


class Board:
    """Every event that one endpoint has before it, over all its sources."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._items: dict[tuple[str, str], Item] = {}
        self._lines: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
        self._busy: set[tuple[str, str]] = set()
        self._ready: list[tuple[Rank, int, Item]] = []
        self._later: list[tuple[float, int, Item]] = []
        self._tickets = 0
        self.stored: defaultdict[str, int] = defaultdict(int)
        """How many events of each source wait in Redis."""

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()))

    def find(self, source: str, place: str) -> Item | None:
        """Look up an event by its place."""
        return self._items.get((source, place))

    def add(self, item: Item) -> None:
        """Take an event up."""
        self._items[(item.source, item.place)] = item
        self.stored[item.source] += item.stored
        if self._ordered:
            line = self._lines[item.subject]
            line.append(item)
            if len(line) > 1 and line[-2].key > item.key:
                line.sort(key=lambda each: each.key)
        self._queue(item)

    def remove(self, item: Item) -> None:
        """Be done with an event; who comes next in its subject may go."""
        self._items.pop((item.source, item.place), None)
        self.stored[item.source] -= item.stored
        item.gone, item.event, item.ticket = True, None, 0
        if self._ordered:
            self._lines[item.subject].remove(item)
            self._landed(item)

    def store(self, item: Item) -> None:
        """Note that Redis holds the event now, and let its body go."""
        self.stored[item.source] += not item.stored
        item.stored, item.event = True, None

    def postpone(self, item: Item, *, due: float) -> None:
        """Put an event that came back, or whose time has changed, off until `due`."""
        item.due, item.ticket = due, 0
        self._landed(item)
        self._queue(item)

    def behind(self, item: Item) -> list[Item]:
        """List what is in line after an event and only in memory: it has a longer wait before it."""
        if not self._ordered:
            return []
        line = self._lines[item.subject]
        return [each for each in line[line.index(item) + 1 :] if not each.stored and not each.flying]

    def is_behind_a_failure(self, item: Item) -> bool:
        """Tell whether an earlier event of the subject already waits in Redis."""
        return self._ordered and any(each.stored for each in self._before(item))

    def take(self, *, now: float, health: Health) -> Item | None:
        """Give out the oldest event that may go now, or None."""
        self._promote(now)
        while self._ready:
            _, ticket, item = heappop(self._ready)
            if item.ticket != ticket:
                continue
            item.ticket = 0
            if self._may_go(item, now=now, health=health):
                return self._fly(item)
        return None

    def oldest(self) -> Item | None:
        """Give out the oldest event of all for a probe, due or not; None if there is none on the ground."""
        grounded = [item for item in self._items.values() if not item.flying]
        if not grounded:
            return None
        item = min(grounded, key=lambda each: each.rank)
        item.ticket = 0
        return self._fly(item)

    def pull_forward(self, *, latest: float) -> None:
        """Let nothing that waits be due later than `latest`."""
        for item in self._items.values():
            if item.due > latest and not item.flying:
                self.postpone(item, due=latest)

    def look_again(self, *, now: float, health: Health) -> None:
        """Let those go who stood behind an event that has failed for an hour by now."""
        for line in self._lines.values():
            if len(line) > 1 and _passable(line[0], now=now, health=health):
                self._nudge(line)

    def next_due(self) -> float | None:
        """When the next event that waits for its time is due."""
        while self._later and self._later[0][2].ticket != self._later[0][1]:
            heappop(self._later)
        return self._later[0][0] if self._later else None

    def _fly(self, item: Item) -> Item:
        item.flying = True
        if self._ordered:
            self._busy.add(item.subject)
        return item

    def _landed(self, item: Item) -> None:
        if item.flying:
            item.flying = False
            self._busy.discard(item.subject)
        if not self._ordered:
            return
        line = self._lines[item.subject]
        if line:
            self._nudge(line)
        else:
            del self._lines[item.subject]

    def _nudge(self, line: list[Item]) -> None:
        # Whoever was tried may be passed; the first that was not is where the line ends for now.
        for item in line:
            self._queue(item)
            if not item.meta.first:
                return

    def _queue(self, item: Item) -> None:
        if item.ticket or item.flying or item.gone:
            return
        self._tickets += 1
        item.ticket = self._tickets
        heappush(self._later, (item.due, item.ticket, item))

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, ticket, item = heappop(self._later)
            if item.ticket == ticket:
                heappush(self._ready, (item.rank, ticket, item))

    def _before(self, item: Item) -> Iterator[Item]:
        for each in self._lines[item.subject]:
            if each is item:
                return
            yield each

    def _may_go(self, item: Item, *, now: float, health: Health) -> bool:
        if not self._ordered:
            return True
        if item.subject in self._busy:
            return False
        return all(_passable(each, now=now, health=health) for each in self._before(item))


def _passable(item: Item, *, now: float, health: Health) -> bool:
    return health.may_be_passed(first=item.meta.first, last=item.meta.last, now=now)
