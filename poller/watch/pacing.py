"""Which request to spend next, and when one may be spent: values of sweeps and details, and a credit. Pure.

Each list's sweep is a unit that costs its pages, each record's detail one that costs 1. The next is the one
with the largest weight × rate × age² ÷ cost: at the optimum weight × rate × interval² ÷ cost is the same for
all (anchors/polling.md §3b). That alone may let the quiet ones wait for longer than round robin does; so an
age at which round robin has found 19 of 20 counts more from then on, by as much as it takes to find as many:
among all schedules whose 95th percentile is bounded, the one with the least mean is of this form. The caller
brings the clock.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .habits import EDGES_S, Bursts, Habit, Population

TAIL = 0.95
"""Of the time in which every detail is read once in turn: 95 % of the delays of a round robin are shorter."""
URGE = 0.75
"""How much more an age counts from there on, in squares of it, before a change was found. By the bench a tail
no longer than round robin's needs 0.4 to 0.9 while rates are being learned."""
MOST_URGE = 1.5
"""… and at most: while nothing is known, all are late alike, and no urge would be enough."""
URGED = 0.5
"""How far a change moves it: by so much of what it was likelier than LATE to be found late."""
LATE = 0.048
"""Of the changes, found late: a little fewer than round robin's 1 in 20. 0.01 less costs 1 % of the mean."""
STEADY = 500
"""Readings over which the time between two of them is averaged."""
LEVEL = 1.25
"""Rates within this factor are one queue, in which the oldest is next: a choice costs a few dozen looks."""
FEW = 0.05
"""Further changes after one on average below which there are no bursts to speak of."""
FIT_AFTER = 1000
"""Readings after which the prior is fitted again."""
FITS = 10
"""Fits at once where the past of all records is known already."""

Subject = tuple[str, str]
"""(kind, id) of a record."""


@dataclass(slots=True)
class _Unit:
    habit: Habit
    read_at: float
    fresh: bool
    """Never read: its first reading says nothing of how often it changes."""
    queue: int | None = None
    """The level of its rate; None while it is judged by itself."""


class Round:
    """All records of a source whose detail is read in turn."""

    def __init__(self, *, every_s: float, max_age_s: float) -> None:
        self.every_s = every_s
        self.max_age_s = max_age_s
        self._units: dict[Subject, _Unit] = {}
        self._queues: dict[int, OrderedDict[Subject, None]] = {}
        self._single: dict[Subject, None] = {}
        self.unread = 0
        """Records whose detail was never read."""
        self._reads = 0
        self._read_at = -math.inf
        self._apart_s = 0.0
        """Between two readings on average."""
        self.urge = URGE
        """Less where changes are found sooner than round robin finds them."""
        self._worth = 1.0
        """Turns a value among details into what compares with sweeps."""
        self.population = Population()
        self.bursts = Bursts()

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._units

    def __iter__(self) -> Iterator[Subject]:
        return iter(self._units)

    def load(
        self,
        read_at: Mapping[Subject, float],
        *,
        unread_at: float,
        pasts: Mapping[Subject, tuple[float, float]] | None = None,
    ) -> None:
        """Take in many records and when each was last read, 0 for never: those count as read `unread_at`.

        `pasts`: what `past` told of them, before a restart. What was taken in before keeps its habit and is
        in the queue anew.
        """
        pasts = pasts or {}
        for subject in [*read_at.keys() & self._units.keys()]:
            self.drop(subject)
        for subject, unit in self._units.items():
            self._unqueue(subject, unit)
        for subject, at in read_at.items():
            habit = Habit(*pasts.get(subject, (0.0, 0.0)))
            unit = self._units[subject] = _Unit(habit, at or unread_at, fresh=not at)
            self.unread += unit.fresh
            self.population.enter(habit)
        if any(watched_s for _, watched_s in pasts.values()):
            self._believe()
        for subject, unit in sorted(self._units.items(), key=lambda each: each[1].read_at):
            self._queue(subject, unit)
        self._weigh()

    def add(self, subject: Subject, *, now: float, read_at: float = 0.0) -> None:
        """Take in one new record, read at `read_at` (0: never); it is judged by itself until it is read."""
        if subject in self._units:
            return
        unit = self._units[subject] = _Unit(Habit(), read_at or now - self.every_s, fresh=not read_at)
        self.unread += unit.fresh
        self.population.enter(unit.habit)
        self._single[subject] = None

    def _believe(self) -> None:
        """Learn what is typical from pasts that are new here, and judge every record by it."""
        for _ in range(FITS):
            self.population.fit()
        for unit in self._units.values():
            unit.habit.rate = self.population.rate(unit.habit.cell)

    def past(self, subject: Subject) -> tuple[float, float] | None:
        """Changes that were found and over how many seconds, both faded by age; None where it is not here."""
        unit = self._units.get(subject)
        return None if unit is None else (round(unit.habit.seen, 4), round(unit.habit.over_s, 1))

    def drop(self, subject: Subject) -> None:
        """Forget a record that is listed no more."""
        unit = self._units.pop(subject, None)
        if unit is not None:
            self.unread -= unit.fresh
            self.population.leave(unit.habit)
            self._unqueue(subject, unit)

    def read(self, subject: Subject, *, now: float, changed: bool, prompted: bool = False) -> float | None:
        """Its detail was read; gives the seconds since it was last read, None for the first time.

        `prompted`: because its row had just changed, or somebody asked; what is found then is new.
        """
        unit = self._units.get(subject)
        if unit is None:
            return None
        gap_s, habit, fresh = max(0.0, now - unit.read_at), unit.habit, unit.fresh
        if not fresh:
            since_s = max(0.0, unit.read_at - habit.changed_at)
            own = self.bursts.note(habit.rate, since_s=since_s, gap_s=gap_s, changed=changed, left=habit.left)
            self.population.note(habit, gap_s=gap_s, seen=own if changed else 0.0)
            if changed and not prompted and gap_s > 0:
                late = max(0.0, 1 - self.late_s / gap_s)
                self.urge = min(MOST_URGE, max(0.0, self.urge + URGED * (late - LATE)))
        if changed:
            habit.changed_at, habit.left = now, 1.0 if prompted else self.bursts.left(gap_s)
        self._unqueue(subject, unit)
        self.unread -= fresh
        unit.read_at, unit.fresh = now, False
        if now - habit.changed_at < EDGES_S[-1] and self.bursts.further > FEW:
            self._single[subject] = None
        else:
            self._queue(subject, unit)
        self._note(now)
        if self._reads % FIT_AFTER == 0:
            self.fit()
        return None if fresh else gap_s

    def _note(self, now: float) -> None:
        """A reading took place."""
        apart_s, self._read_at = max(0.0, now - self._read_at), now
        self._reads += 1
        if math.isfinite(apart_s):
            self._apart_s += (apart_s - self._apart_s) / min(self._reads - 1, STEADY)

    def fit(self) -> None:
        """Learn from all records what is typical."""
        self.population.fit()
        self._weigh()

    def _weigh(self) -> None:
        rates = [*self.rates()]
        price, intervals = turns(rates, urge=self.urge)
        self._worth = worth(rates, intervals) / price if price else 1.0

    @property
    def late_s(self) -> float:
        """The age from which a detail is about to be in the tail."""
        return TAIL * self._apart_s * len(self._units)

    def next(self, now: float) -> tuple[Subject, float] | None:
        """The detail that is worth most now, and what; None where none may be read yet.

        What it is worth compares with a sweep's weight × rate × age² ÷ cost: how much delay all details
        together would lose for one more request, at the intervals that this one's value tells. Of those that
        are older than they may be the oldest is next, or one queue of them would shut out the others.
        """
        best: Subject | None = None
        top, lively, late_s = (0.0, math.inf), 1 + self.bursts.further, self.late_s
        for level, queue in self._queues.items():
            subject = next(iter(queue))
            read_at = self._units[subject].read_at
            value = LEVEL**level * lively * self._aged(now - read_at, late_s), -read_at
            if value > top:
                best, top = subject, value
        for subject in self._single:
            unit = self._units[subject]
            value = self._value(unit, now, late_s), -unit.read_at
            if value > top:
                best, top = subject, value
        return None if best is None else (best, top[0] * self._worth)

    def _aged(self, age_s: float, late_s: float) -> float:
        """What an age counts as, squared."""
        if age_s >= self.max_age_s:
            return math.inf
        if age_s < self.every_s:
            return 0.0
        return age_s**2 + (self.urge * late_s**2 if age_s >= late_s else 0.0)

    def _value(self, unit: _Unit, now: float, late_s: float) -> float:
        """The value of one record that is judged by itself."""
        age_s = now - unit.read_at
        value = unit.habit.rate * (1 + self.bursts.further) * self._aged(age_s, late_s)
        since_s = max(0.0, unit.read_at - unit.habit.changed_at)
        if 0 < value < math.inf and since_s < EDGES_S[-1]:
            value += unit.habit.left * self._burst(since_s, age_s)
        return value

    def _burst(self, since_s: float, age_s: float) -> float:
        """What a burst adds: 2 ∫ s extra(since + s) ds, which for a steady rate is rate × age²."""
        value = 0.0
        for extra, (low, high) in zip(self.bursts.extra, pairwise(EDGES_S), strict=True):
            start, end = max(0.0, low - since_s), min(age_s, high - since_s)
            if extra and end > start:
                value += extra * (end**2 - start**2)
        return value

    def oldest(self) -> float | None:
        """When the record was read that waits longest; None where there is none."""
        return min((unit.read_at for unit in self._units.values()), default=None)

    def rates(self) -> Iterator[tuple[int, float]]:
        """How many records share a rate (per second, bursts included), and that rate."""
        lively = 1 + self.bursts.further
        for level, queue in self._queues.items():
            yield len(queue), LEVEL**level * lively
        if self._single:
            yield (
                len(self._single),
                lively * sum(self._units[subject].habit.rate for subject in self._single) / len(self._single),
            )

    # --- queues ---------------------------------------------------------------------------------

    def _queue(self, subject: Subject, unit: _Unit) -> None:
        level = round(math.log(unit.habit.rate, LEVEL))
        self._queues.setdefault(level, OrderedDict())[subject] = None
        unit.queue = level

    def _unqueue(self, subject: Subject, unit: _Unit) -> None:
        self._single.pop(subject, None)
        if unit.queue is None:
            return
        queue = self._queues[unit.queue]
        del queue[subject]
        if not queue:
            del self._queues[unit.queue]
        unit.queue = None


def turns(rates: Sequence[tuple[int, float]], *, urge: float) -> tuple[float, list[float]]:
    """Where (how many, their rate) are read by `Round.next`: at what value, and each one's interval.

    In readings: all intervals together make one reading a turn.
    """
    late = TAIL * sum(count for count, _ in rates)
    low, high = 0.0, max((rate * (1 + urge) * (2 * late) ** 2 for _, rate in rates), default=0.0)
    for _ in range(60):
        price = (low + high) / 2
        spent = sum(count / _interval(price / rate, late, urge) for count, rate in rates)
        low, high = (price, high) if spent > 1 else (low, price)
    return high, [_interval(high / rate, late, urge) for _, rate in rates]


def _interval(square: float, late: float, urge: float) -> float:
    """The age at which a record is read whose value is reached at this age, squared, while it is not late."""
    if square <= late**2:
        return math.sqrt(square)
    return max(late, math.sqrt(max(0.0, square - urge * late**2)))


def worth(rates: Sequence[tuple[int, float]], intervals: Sequence[float]) -> float:
    """How much delay details lose for one more request: rate × interval², where that is the same for all."""
    delay = sum(count * rate * interval for (count, rate), interval in zip(rates, intervals, strict=True))
    spent = sum(count / interval for (count, _), interval in zip(rates, intervals, strict=True))
    return delay / spent if spent else 0.0
