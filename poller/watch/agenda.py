"""What one source does next: which list to sweep, or which record's detail to read. Pure.

Sweeps and details stand in one queue by their value (see pacing). A list is worth more for as long as
somebody goes on changing rows of it; how long that is, its own rows show. Before that queue goes what was
asked for at once, then records whose row has changed; these wait for a sweep that is due once they have
cost as much as it does, so that a thousand of them do not hide the next win. Details that are older than
they may be wait for one likewise: where the budget does not suffice for their age, lists are read all the
same.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .habits import DAY_S, EDGES_S, GUESS_PER_S, Bursts
from .pacing import Round, Subject, turns, worth
from .token_bucket import Demand

SWEEP_WEIGHT = 25.0
"""A change of a row against one that only the detail shows: wins and losses are seen in rows, and are to be
known about five times as soon (anchors/polling.md §3b)."""
FADE_S = 7 * DAY_S
"""What a list has shown counts half after this."""
LONGEST_RETRY_S = 60.0
"""A list that cannot be read is tried after `every`, twice that, … and at most this, or `every`."""
FIRST_ROUND = 2
"""Requests of sweeps for each of a detail at most, until every detail was read once: nothing is known of
how often they change, and until then nothing that only they show can be told."""
OVERDUE = 3
"""Requests of overdue details for each of a sweep at most: `max_age` is kept while it needs no more than
three quarters of the pace, and a list is read however many more it would need."""
SETTLED = 0.2
"""How much the newest of a row of measurements counts."""
CROWD = 20
"""More rows than these at once are an import and not people at work: they say nothing of what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A list, or details that share a rate."""

    list: str = ""
    """Empty for details."""
    count: int
    cost: int
    rate: float
    plain_s: float
    """Interval at a price of 1."""
    least_s: float
    most_s: float = math.inf

    def interval_s(self, price: float) -> float:
        """Between two readings of one of them."""
        return min(max(self.least_s, self.plain_s * price), max(self.least_s, self.most_s))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the schedule comes to, if so many requests a second go on being spent."""

    sweeps_s: Mapping[str, float]
    """List -> between the beginnings of two of its sweeps."""
    oldest_s: float | None
    """Between two readings of the detail that waits longest; None where none is read in turn."""
    delay_s: float | None
    """From a change to its detection, on average; None where nothing is there to change."""


@dataclass(slots=True)
class ListState:
    """One list, and how its sweeps went."""

    cost: int = 2
    """Requests that a sweep takes."""
    began_at: float = -math.inf
    period_s: float = 0.0
    """Between the beginnings of its last two sweeps."""
    asked: bool = True
    failures: int = 0
    seen: float = 0.0
    """Rows that changed, faded by age."""
    begun: float = 0.0
    """Of these the ones that do not go on with a burst."""
    over_s: float = 0.0
    records: int = 0
    bursts: Bursts = field(default_factory=Bursts)
    lively: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Row -> when it was last seen to have changed, and how much of a burst went on then."""
    extra: float = 0.0
    """Further changes of those rows per second."""

    @property
    def rate(self) -> float:
        """Changes of its rows per second, as now believed."""
        return self._believed(self.seen)

    @property
    def rate_now(self) -> float:
        """The same since the last sweep: more while somebody is at work on some rows, else less."""
        return self._believed(self.begun) + self.extra

    def _believed(self, seen: float) -> float:
        return (seen + 1) / (self.over_s + 1 / (GUESS_PER_S * max(1, self.records)))

    def note(self, changed: Collection[str]) -> None:
        """The last sweep showed that these rows have changed since the one before."""
        now, gap_s = self.began_at, self.period_s
        if gap_s <= 0:
            return
        usual, begun = self._believed(self.begun) / max(1, self.records), float(len(changed))
        for row, (at, left) in self.lively.items():
            since_s, again = now - gap_s - at, row in changed
            own = self.bursts.note(usual, since_s=since_s, gap_s=gap_s, changed=again, left=left)
            begun -= 1 - own if again else 0.0
        fade = 0.5 ** (gap_s / FADE_S)
        self.seen, self.begun = self.seen * fade + len(changed), self.begun * fade + begun
        self.over_s = self.over_s * fade + gap_s
        if len(changed) <= CROWD:
            self.lively |= dict.fromkeys(changed, (now, self.bursts.left(gap_s)))
        self.lively = {row: each for row, each in self.lively.items() if 0 <= now - each[0] < EDGES_S[-1]}
        self.extra = sum(left * self.bursts.extra_at(now - at) for at, left in self.lively.values())


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next."""

    what: Literal["sweep", "detail"]
    subject: Subject
    """(kind, id); the id is empty for a sweep."""
    cost: int
    first: bool
    """It need not wait for credit."""


@dataclass(slots=True)
class Agenda:
    """Everything that one source could read."""

    lists: dict[str, ListState]
    round: Round
    every_s: float
    details: bool
    observed_s: float | None = None
    """Mean time from a change to its detection lately, each taken as the middle of its bounds."""
    _hurried: int = field(default=0)
    """Readings of changed records since the last sweep."""
    _turns: int = field(default=0)
    """… and of records whose turn it was."""
    _owed: int = field(default=0)
    """Requests of sweeps that the first round of details has not had its part of yet."""

    @classmethod
    def of(cls, lists: Iterable[str], *, every_s: float, max_age_s: float, details: bool) -> "Agenda":
        """Begin: every list is to be swept at once."""
        return cls(
            {kind: ListState() for kind in lists},
            Round(every_s=every_s, max_age_s=max_age_s),
            every_s,
            details,
        )

    @property
    def dearest(self) -> int:
        """Requests of the dearest sweep."""
        return max(each.cost for each in self.lists.values())

    @property
    def failing(self) -> bool:
        """Whether no list can be read: then no detail is tried either."""
        return all(each.failures for each in self.lists.values())

    def ask(self, *, kinds: Iterable[str] | None = None) -> None:
        """Sweep these lists (all, if none is named) at once."""
        for kind in self.lists if kinds is None else kinds:
            self.lists[kind].asked = True

    def next(self, now: float, urgent: Iterable[Subject]) -> Choice | None:
        """What is worth most now; None where everything was just read."""
        for kind, mine in self.lists.items():
            if mine.asked:
                return Choice("sweep", (kind, ""), mine.cost, first=True)
        sweep, value = self._best_sweep(now)
        first = next(iter(urgent), None) if not self.failing else None
        if first and not (sweep and self._hurried >= sweep.cost):
            return Choice("detail", first, 1, first=True)
        if not self.details or self.failing:
            return sweep
        detail = self.round.next(now)
        if detail and not (sweep and self._gives_way(detail[1], value, sweep.cost)):
            return Choice("detail", detail[0], 1, first=False)
        return sweep

    def _gives_way(self, detail: float, sweep: float, cost: int) -> bool:
        """Whether a detail of this value waits for a sweep of that one."""
        if math.isinf(detail):
            return self._turns >= OVERDUE * cost
        return detail <= sweep and not (self.round.unread and self._owed >= FIRST_ROUND)

    def _best_sweep(self, now: float) -> tuple[Choice | None, float]:
        best, top = None, 0.0
        for kind, mine in self.lists.items():
            age_s = now - mine.began_at
            if age_s < self._least_s(mine):
                continue
            value = SWEEP_WEIGHT * mine.rate_now * age_s**2 / mine.cost
            if value > top:
                best, top = Choice("sweep", (kind, ""), mine.cost, first=False), value
        return best, top

    def _least_s(self, mine: ListState) -> float:
        """Seconds between two sweeps at least."""
        grown = min(self.every_s * 2.0 ** min(20, max(0, mine.failures - 1)), LONGEST_RETRY_S)
        return max(self.every_s, grown)

    def idle_s(self, now: float) -> float:
        """Seconds until the next list may be swept."""
        return min(each.began_at + self._least_s(each) - now for each in self.lists.values())

    # --- what came of it ------------------------------------------------------------------------

    def begun(self, kind: str, *, now: float) -> None:
        """A sweep begins."""
        mine = self.lists[kind]
        if mine.began_at > -math.inf:
            mine.period_s = now - mine.began_at
        mine.asked, mine.began_at = False, now
        self._hurried = self._turns = 0

    def swept(self, kind: str, *, complete: bool, cost: int, records: int, changed: Collection[str]) -> None:
        """A sweep has ended; one that failed is tried with one request at first."""
        mine = self.lists[kind]
        mine.failures = 0 if complete else mine.failures + 1
        mine.cost = max(1, cost) if complete else 1
        self._owed = min(self._owed + mine.cost, FIRST_ROUND * len(self.round))
        if not complete:
            return
        first, mine.records = mine.records == 0, records
        if first:
            return
        mine.note(changed)
        for _ in range(min(len(changed), CROWD)):
            self._observe(mine.period_s / 2)

    def read(self, choice: Choice, *, now: float, changed: bool) -> None:
        """A detail was read, and shows something new or not."""
        if choice.first:
            self._hurried += 1
        else:
            self._turns += 1
            self._owed = max(0, self._owed - FIRST_ROUND)
        gap_s = self.round.read(choice.subject, now=now, changed=changed, prompted=choice.first)
        if changed and gap_s is not None:
            self._observe(gap_s / 2)

    def _observe(self, delay_s: float) -> None:
        old = self.observed_s
        self.observed_s = delay_s if old is None else old + (delay_s - old) * SETTLED

    # --- what it comes to -------------------------------------------------------------------------

    def demand(self, *, fastest_per_s: float = math.inf) -> Demand:
        """What this source asks of its host's budget, beside the others': no more than it can send."""
        parts = self._parts()
        return Demand(
            weight=sum(each.count * each.cost / each.plain_s for each in parts),
            most_per_s=min(fastest_per_s, sum(each.count * each.cost / each.least_s for each in parts)),
        )

    def outlook(self, per_s: float) -> Outlook:
        """What to expect, if so many requests a second go on being spent."""
        parts = self._parts(per_s)
        price = _price(parts, per_s)
        intervals = [(each, each.interval_s(price)) for each in parts]
        changes = sum(each.count * each.rate for each in parts)
        late = sum(each.count * each.rate * interval_s for each, interval_s in intervals)
        return Outlook(
            sweeps_s={each.list: interval_s for each, interval_s in intervals if each.list},
            oldest_s=max((interval_s for each, interval_s in intervals if not each.list), default=None),
            delay_s=late / changes / 2 if changes and per_s > 0 else None,
        )

    def _parts(self, per_s: float = math.inf) -> list[_Part]:
        """Lists and details."""
        parts = [
            _Part(
                list=kind,
                count=1,
                cost=each.cost,
                rate=each.rate,
                plain_s=math.sqrt(each.cost / (SWEEP_WEIGHT * each.rate)),
                least_s=self._least_s(each),
            )
            for kind, each in self.lists.items()
        ]
        if self.details and not self.failing:
            parts += self._detail_parts(per_s)
        return parts

    def _detail_parts(self, per_s: float) -> Iterator[_Part]:
        # Overdue ones have OVERDUE parts of the pace at most beside the sweeps that wait.
        at_best_s = len(self.round) * (1 + 1 / OVERDUE) / max(per_s, 1e-9)
        rates = [*self.round.rates()]
        _, intervals = turns(rates, urge=self.round.urge)
        scale = math.sqrt(worth(rates, intervals))
        for (count, rate), interval in zip(rates, intervals, strict=True):
            yield _Part(
                count=count,
                cost=1,
                rate=rate,
                plain_s=interval / scale,
                least_s=min(self.every_s, self.round.max_age_s),
                most_s=max(self.round.max_age_s, at_best_s),
            )


def _price(parts: Sequence[_Part], per_s: float) -> float:
    """The price at which so much is spent: intervals grow with it, from none below their least."""
    low, high = 1e-6, 1e12
    for _ in range(80):
        price = math.sqrt(low * high)
        spent = sum(each.count * each.cost / each.interval_s(price) for each in parts)
        low, high = (price, high) if spent > per_s else (low, price)
    return high
