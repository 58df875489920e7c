"""Which request to spend next, and when one may be spent: values of sweeps and details, and a credit. Pure.

Each list's sweep is a unit that costs its pages, each record's detail one that costs 1. The next is the
one with the largest weight × rate × age² ÷ cost: at the optimum weight × rate × interval² ÷ cost is the same
for all (anchors/polling.md §3b). Among details age is raised to a power p of 2 or a little more, the
smallest at which their tail is no longer than round robin's. The caller brings the clock.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .habits import EDGES_S, Bursts, Habit, Population

POWERS = (2.0, 2.25, 2.5, 2.75, 3.0)
"""What age is raised to: 2 is the best for the mean; the more alike the rates are believed, the less a
higher one costs there, and the tail is shorter."""
SHORT_TAIL = 0.96
"""The 95th percentile of delays aimed at, in rounds of all records: round robin's is 0.95. By the bench 0.945
buys no shorter tail and costs up to 4 % of the mean while rates are being learned."""
LEVEL = 1.25
"""Rates within this factor are one queue, in which the oldest is next: a choice costs a few dozen looks."""
FEW = 0.05
"""Further changes after one on average below which there are no bursts to speak of."""
FIT_AFTER = 1000
"""Readings after which the prior is fitted again."""

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

    def __init__(self, *, every_s: float, max_age_s: float, power: float | None = None) -> None:
        """`power`: what age is raised to; None: what suits the population, fitted now and then."""
        self.every_s = every_s
        self.max_age_s = max_age_s
        self._fixed = power is not None
        self.power = POWERS[-1] if power is None else power
        self._units: dict[Subject, _Unit] = {}
        self._queues: dict[int, OrderedDict[Subject, None]] = {}
        self._single: dict[Subject, None] = {}
        self.unread = 0
        """Records whose detail was never read."""
        self._reads = 0
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

    def load(self, read_at: Mapping[Subject, float], *, unread_at: float) -> None:
        """Take in many records and when each was last read, 0 for never: those count as read `unread_at`.

        What was taken in before keeps its habit and is in the queue anew.
        """
        for subject in [*read_at.keys() & self._units.keys()]:
            self.drop(subject)
        for subject, unit in self._units.items():
            self._unqueue(subject, unit)
        for subject, at in read_at.items():
            unit = self._units[subject] = _Unit(Habit(), at or unread_at, fresh=not at)
            self.unread += unit.fresh
            self.population.enter(unit.habit)
        for subject, unit in sorted(self._units.items(), key=lambda each: each[1].read_at):
            self._queue(subject, unit)
        self._weigh()

    def add(self, subject: Subject, *, now: float) -> None:
        """Take in one new record; it is judged by itself until it was read."""
        if subject in self._units:
            return
        unit = self._units[subject] = _Unit(Habit(), now - self.every_s, fresh=True)
        self.unread += 1
        self.population.enter(unit.habit)
        self._single[subject] = None

    def drop(self, subject: Subject) -> None:
        """Forget a record that is listed no more."""
        unit = self._units.pop(subject, None)
        if unit is not None:
            self.unread -= unit.fresh
            self.population.leave(unit.habit)
            self._unqueue(subject, unit)

    def hint(self, subject: Subject, *, now: float) -> None:
        """Its row has changed: whoever works on it may go on."""
        unit = self._units.get(subject)
        if unit is not None:
            unit.habit.changed_at = now
            self._unqueue(subject, unit)
            self._single[subject] = None

    def read(self, subject: Subject, *, now: float, changed: bool) -> float | None:
        """Its detail was read; gives the seconds since it was last read, None for the first time."""
        unit = self._units.get(subject)
        if unit is None:
            return None
        gap_s, habit, fresh = max(0.0, now - unit.read_at), unit.habit, unit.fresh
        if not fresh:
            since_s = unit.read_at - habit.changed_at
            own = self.bursts.note(habit.rate, since_s=max(0.0, since_s), gap_s=gap_s, changed=changed)
            self.population.note(habit, gap_s=gap_s, seen=own if changed else 0.0)
        if changed:
            habit.changed_at = now
        self._unqueue(subject, unit)
        self.unread -= fresh
        unit.read_at, unit.fresh = now, False
        if now - habit.changed_at < EDGES_S[-1] and self.bursts.further > FEW:
            self._single[subject] = None
        else:
            self._queue(subject, unit)
        self._reads += 1
        if self._reads % FIT_AFTER == 0:
            self.fit()
        return None if fresh else gap_s

    def fit(self) -> None:
        """Learn from all records what is typical, and how much their rates differ."""
        self.population.fit()
        if not self._fixed:
            self.power = power_for([(count, rate) for rate, count in self.population.spread().items()])
        self._weigh()

    def _weigh(self) -> None:
        low, high = self.sums()
        self._worth = high / low if low > 0 else 1.0

    def sums(self) -> tuple[float, float]:
        """Σ rate^(1/p) and Σ rate^(1 - 1/p): what readings at one price cost, and the delay they leave."""
        low = high = 0.0
        for count, rate in self.rates():
            low += count * rate ** (1 / self.power)
            high += count * rate ** (1 - 1 / self.power)
        return low, high

    def next(self, now: float) -> tuple[Subject, float] | None:
        """The detail that is worth most now, and what; None where none may be read yet.

        What it is worth compares with a sweep's weight × rate × age² ÷ cost: how much delay all details
        together would lose for one more request, at the intervals that this one's value tells.
        """
        best: Subject | None = None
        top, power, lively = 0.0, self.power, 1 + self.bursts.further
        for level, queue in self._queues.items():
            subject = next(iter(queue))
            value = self._steady(level, now - self._units[subject].read_at, power) * lively
            if value > top:
                best, top = subject, value
        for subject in self._single:
            value = self._value(self._units[subject], now)
            if value > top:
                best, top = subject, value
        return None if best is None else (best, top ** (2 / power) * self._worth)

    def _steady(self, level: int, age_s: float, power: float) -> float:
        if age_s < self.every_s:
            return 0.0
        return math.inf if age_s >= self.max_age_s else LEVEL**level * age_s**power

    def _value(self, unit: _Unit, now: float) -> float:
        """The value of one record that is judged by itself."""
        age_s = now - unit.read_at
        value = self._steady(0, age_s, self.power) * unit.habit.rate * (1 + self.bursts.further)
        since_s = unit.read_at - unit.habit.changed_at
        if 0 < value < math.inf and since_s < EDGES_S[-1]:
            value += self._burst(max(0.0, since_s), age_s)
        return value

    def _burst(self, since_s: float, age_s: float) -> float:
        """What a burst adds: p ∫ s^(p-1) extra(since + s) ds, which for a steady rate is rate × age^p."""
        value = 0.0
        for extra, (low, high) in zip(self.bursts.extra, pairwise(EDGES_S), strict=True):
            start, end = max(0.0, low - since_s), min(age_s, high - since_s)
            if extra and end > start:
                value += extra * (end**self.power - start**self.power)
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


def power_for(rates: Sequence[tuple[int, float]]) -> float:
    """The smallest of POWERS with a tail no longer than round robin's, for (how many, their rate)."""
    for power in POWERS[:-1]:
        if _tail(rates, power) <= SHORT_TAIL:
            return power
    return POWERS[-1]


def _tail(rates: Sequence[tuple[int, float]], power: float) -> float:
    """95th percentile of the delays, in rounds: those of one rate are even between 0 and its interval."""
    units = sum(count for count, _ in rates)
    spent = sum(count * rate ** (1 / power) for count, rate in rates) / max(1, units)
    changes = sum(count * rate for count, rate in rates)
    intervals = [(count * rate / changes, spent * rate ** (-1 / power)) for count, rate in rates]
    low, high = 0.0, max((interval for _, interval in intervals), default=0.0)
    for _ in range(20):
        middle = (low + high) / 2
        found = sum(share * min(1.0, middle / interval) for share, interval in intervals)
        low, high = (middle, high) if found < 0.95 else (low, middle)
    return high
