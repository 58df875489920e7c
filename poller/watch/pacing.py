"""Which request to spend next, and when one may be spent: values of sweeps and details, and a credit. Pure.

Each list's sweep is a unit that costs its pages, each record's detail one that costs 1. The next is the
one with the largest weight × rate × age^AGE_POWER ÷ cost. With a power of 2 its intervals are the best for
the mean delay (anchors/polling.md §3b: at the optimum weight × rate × interval² ÷ cost is the same for
all); a little more keeps the tail short. The caller brings the clock.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .habits import EDGES_S, Bursts, Habit, Population

AGE_POWER = 2.5
LEVEL = 1.25
"""Rates within this factor are one queue, in which the oldest is next: a choice costs a few dozen looks."""
FIT_AFTER = 1000
"""Readings after which the prior is fitted again."""
SWEEP_WEIGHT = 4.0
"""A change of a row against one that only the detail shows: wins and losses are seen in rows."""

Subject = tuple[str, str]
"""(kind, id) of a record."""


@dataclass(slots=True)
class _Unit:
    habit: Habit
    read_at: float
    queue: int | None = None
    """The level of its rate; None while it is judged by itself."""


class Round:
    """All records of a source whose detail is read in turn."""

    def __init__(self, *, every_s: float, max_age_s: float, power: float = AGE_POWER) -> None:
        self._every_s = every_s
        self._max_age_s = max_age_s
        self._power = power
        self._units: dict[Subject, _Unit] = {}
        self._queues: dict[int, OrderedDict[Subject, None]] = {}
        self._single: dict[Subject, None] = {}
        self._reads = 0
        self.population = Population()
        self.bursts = Bursts()

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._units

    def __iter__(self) -> Iterator[Subject]:
        return iter(self._units)

    def load(self, records: Iterable[tuple[Subject, float, Habit]]) -> None:
        """Begin with records, when each was last read, and what is known of its habit."""
        for subject, read_at, habit in sorted(records, key=lambda each: each[1]):
            self.drop(subject)
            self.population.enter(habit)
            self._units[subject] = _Unit(habit, read_at)
            self._queue(subject, self._units[subject])

    def add(self, subject: Subject, *, read_at: float) -> None:
        """Take in one more record; it is judged by itself until it was read."""
        if subject in self._units:
            return
        unit = self._units[subject] = _Unit(Habit(), read_at)
        self.population.enter(unit.habit)
        self._single[subject] = None

    def drop(self, subject: Subject) -> None:
        """Forget a record that is listed no more."""
        unit = self._units.pop(subject, None)
        if unit is not None:
            self.population.leave(unit.habit)
            self._unqueue(subject, unit)

    def hint(self, subject: Subject, *, now: float) -> None:
        """Its row has changed: whoever works on it may go on."""
        unit = self._units.get(subject)
        if unit is not None:
            unit.habit.changed_at = now
            self._unqueue(subject, unit)
            self._single[subject] = None

    def read(self, subject: Subject, *, now: float, changed: bool, first: bool = False) -> None:
        """Its detail was read; `first` says nothing of how often it changes."""
        unit = self._units.get(subject)
        if unit is None:
            return
        gap_s, habit = max(0.0, now - unit.read_at), unit.habit
        if not first:
            since_s = unit.read_at - habit.changed_at
            own = self.bursts.note(habit.rate, since_s=max(0.0, since_s), gap_s=gap_s, changed=changed)
            self.population.note(habit, gap_s=gap_s, seen=own if changed else 0.0)
        if changed:
            habit.changed_at = now
        self._unqueue(subject, unit)
        unit.read_at = now
        if now - habit.changed_at < EDGES_S[-1]:
            self._single[subject] = None
        else:
            self._queue(subject, unit)
        self._reads += 1
        if self._reads % FIT_AFTER == 0:
            self.population.fit()

    def next(self, now: float) -> tuple[Subject, float] | None:
        """The detail that is worth most now, and its value; None where none may be read yet."""
        best: tuple[Subject, float] | None = None
        for subject in self._candidates():
            value = self._value(self._units[subject], now)
            if value > 0 and (best is None or value > best[1]):
                best = (subject, value)
        return best

    def _candidates(self) -> Iterator[Subject]:
        for queue in self._queues.values():
            yield next(iter(queue))
        yield from self._single

    def _value(self, unit: _Unit, now: float) -> float:
        age_s = now - unit.read_at
        if age_s < self._every_s:
            return 0.0
        if age_s >= self._max_age_s:
            return math.inf
        value = unit.habit.rate * (1 + self.bursts.further) * age_s**self._power
        since_s = unit.read_at - unit.habit.changed_at
        if since_s < EDGES_S[-1]:
            value += self._burst(max(0.0, since_s), age_s)
        return value

    def _burst(self, since_s: float, age_s: float) -> float:
        """What a burst adds: p ∫ s^(p-1) extra(since + s) ds, which for a steady rate is rate × age^p."""
        value = 0.0
        for extra, low, high in zip(self.bursts.extra, EDGES_S, EDGES_S[1:], strict=False):
            start, end = max(0.0, low - since_s), min(age_s, high - since_s)
            if extra and end > start:
                value += extra * (end**self._power - start**self._power)
        return value

    def oldest(self) -> float | None:
        """When the record was read that waits longest; None where there is none."""
        return min((unit.read_at for unit in self._units.values()), default=None)

    def demand(self) -> float:
        """Sum of (weight × rate × cost)^(1/power): what these records ask of a budget beside others."""
        return sum(
            len(queue) * (LEVEL**level * (1 + self.bursts.further)) ** (1 / self._power)
            for level, queue in self._queues.items()
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
