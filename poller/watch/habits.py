"""How often each record changes: learned from its own past, from all others', and from bursts. Pure.

A record keeps two numbers, how many changes were seen and over how long; what they mean depends on the
population, so the prior is fitted to it (empirical Bayes: a mixture over a grid of rates, by EM). Edits
come in bursts: how much more likely a further change is after one is learned from all records together,
and a burst's further changes say nothing about how often bursts begin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

DAY_S = 86_400.0
GUESS_PER_S = 0.2 / DAY_S
"""Changes of a record's detail before anything was seen (anchors/polling.md §3b)."""
HALF_LIFE_S = 30 * DAY_S
"""What was seen counts half after this: a deal that was lively and is signed goes quiet."""
EDGES_S = (0.0, 180.0, 600.0, 1800.0, 5400.0)
"""Times after a change between which bursts are told apart; after the last one a burst has ended."""

_GRID = tuple(GUESS_PER_S * 1.6**step for step in range(-13, 18))
_NARROW = 1.5
"""Spread (of the logarithm) of the prior before anything was seen."""
_FLOOR = 1e-7
_ROUNDS = 4
"""EM steps at each fit: it goes on from the last one, so few are enough and keep the prior smooth."""
_DOUBT_S = 6 * 3600.0
"""Watched bursts without a further change that are taken for granted, so that few say little."""
_LASTS_S = 1200.0
"""A burst before anything was seen (anchors/polling.md §3b)."""
_SURE = 2.0
"""Deviations by which further changes must exceed chance: bursts that are none cost 2 % of the mean."""

Cell = tuple[int, int]


@dataclass(slots=True)
class Habit:
    """What one record has shown."""

    seen: float = 0.0
    """Changes, those within a burst not counted, faded by age."""
    over_s: float = 0.0
    """Time they were looked for, faded likewise."""
    rate: float = GUESS_PER_S
    """How often it begins to change, per second, as now believed."""
    changed_at: float = -math.inf
    """When its last change was found."""
    left: float = 1.0
    """How much of a burst goes on after that: less where the change may have been there for long."""

    @property
    def cell(self) -> Cell:
        """Records with about the same past are believed the same."""
        seen = round(4 * self.seen) if self.seen < 4 else round(16 + 10 * math.log(self.seen / 4))
        return seen, round(8 * math.log(1 + self.over_s / 3600))


class Population:
    """All records of a source: what their pasts say of each of them."""

    def __init__(self) -> None:
        self._prior = _broad()
        self._cells: dict[Cell, int] = {}
        self._likely: dict[Cell, tuple[float, ...]] = {}
        self._rates: dict[Cell, float] = {}

    def enter(self, habit: Habit) -> None:
        """Count a record in."""
        self._cells[habit.cell] = self._cells.get(habit.cell, 0) + 1
        habit.rate = self.rate(habit.cell)

    def leave(self, habit: Habit) -> None:
        """Count a record out."""
        left = self._cells.get(habit.cell, 0) - 1
        if left > 0:
            self._cells[habit.cell] = left
        else:
            self._cells.pop(habit.cell, None)

    def note(self, habit: Habit, *, gap_s: float, seen: float) -> None:
        """A look after `gap_s` seconds found a change (`seen` up to 1) or none (0)."""
        self.leave(habit)
        fade = 0.5 ** (gap_s / HALF_LIFE_S)
        habit.seen = habit.seen * fade + seen
        # A change lies in the middle of its gap on average, and one look sees one at most.
        habit.over_s = habit.over_s * fade + gap_s * (1 - seen / 2)
        self.enter(habit)

    def rate(self, cell: Cell) -> float:
        """The mean rate (per second) of records with such a past."""
        known = self._rates.get(cell)
        if known is None:
            weights = [p * like for p, like in zip(self._prior, self._likelihood(cell), strict=True)]
            total = sum(weights) or 1.0
            known = sum(w * rate for w, rate in zip(weights, _GRID, strict=True)) / total
            self._rates[cell] = known
        return known

    def fit(self) -> None:
        """Fit the prior to what all records have shown; rates follow as records are read."""
        for _ in range(_ROUNDS):
            self._step()
        self._rates.clear()
        self._likely = {cell: self._likely[cell] for cell in self._cells}

    def spread(self) -> dict[float, int]:
        """Rate -> how many records are believed to have it."""
        found: dict[float, int] = {}
        for cell, count in self._cells.items():
            rate = self.rate(cell)
            found[rate] = found.get(rate, 0) + count
        return found

    def _step(self) -> None:
        found = [0.0] * len(_GRID)
        for cell, count in self._cells.items():
            weights = [p * like for p, like in zip(self._prior, self._likelihood(cell), strict=True)]
            share = count / (sum(weights) or 1.0)
            found = [sum_ + share * weight for sum_, weight in zip(found, weights, strict=True)]
        total = sum(found) or 1.0
        if self._cells:
            self._prior = tuple(max(_FLOOR, each / total) for each in found)

    def _likelihood(self, cell: Cell) -> tuple[float, ...]:
        known = self._likely.get(cell)
        if known is None:
            known = self._likely[cell] = _likelihood(*_past(cell))
        return known


def _past(cell: Cell) -> tuple[float, float]:
    seen = cell[0] / 4 if cell[0] < 16 else 4 * math.exp((cell[0] - 16) / 10)
    return seen, 3600 * (math.exp(cell[1] / 8) - 1)


def _likelihood(seen: float, over_s: float) -> tuple[float, ...]:
    """Poisson, up to a factor: the largest is 1."""
    logs = [seen * math.log(rate) - rate * over_s for rate in _GRID]
    top = max(logs)
    return tuple(math.exp(max(-700.0, each - top)) for each in logs)


def _broad() -> tuple[float, ...]:
    weights = [math.exp(-(math.log(rate / GUESS_PER_S) ** 2) / (2 * _NARROW**2)) for rate in _GRID]
    # Its mean is the guess, not its median: a lognormal's mean lies above it.
    centre = sum(w * rate for w, rate in zip(weights, _GRID, strict=True)) / sum(weights)
    shifted = [
        math.exp(-(math.log(rate * centre / GUESS_PER_S**2) ** 2) / (2 * _NARROW**2)) for rate in _GRID
    ]
    total = sum(shifted)
    return tuple(max(_FLOOR, weight / total) for weight in shifted)


class Bursts:
    """How much more likely a change is for a while after another one, learned from all records."""

    def __init__(self) -> None:
        self._found = [0.0] * (len(EDGES_S) - 1)
        self._usual = [0.0] * (len(EDGES_S) - 1)
        self._spent = [0.0] * (len(EDGES_S) - 1)
        self.extra: tuple[float, ...] = (0.0,) * (len(EDGES_S) - 1)
        """Further changes per second in each part of a burst, beyond the record's own rate."""
        self.further = 0.0
        """How many changes follow one on average, 20 at most."""

    def left(self, gap_s: float) -> float:
        """How much of a burst goes on where a look after `gap_s` found a change: anywhere in it."""
        parts = [*zip(self.extra, pairwise(EDGES_S), strict=True)]
        further = sum(extra * (end - start) for extra, (start, end) in parts)
        lasts_s = _LASTS_S
        if further:
            lasts_s = sum(extra * (end**2 - start**2) / 2 for extra, (start, end) in parts) / further
        return lasts_s / gap_s * -math.expm1(-gap_s / lasts_s) if gap_s > 0 else 1.0

    def extra_at(self, since_s: float) -> float:
        """Further changes per second, so long after one."""
        return next((each for each, end in zip(self.extra, EDGES_S[1:], strict=True) if since_s < end), 0.0)

    def note(self, rate: float, *, since_s: float, gap_s: float, changed: bool, left: float = 1.0) -> float:
        """A look `gap_s` seconds after the last one, that one `since_s` after a change.

        Gives how much of a change is the record's own, 0 to 1; the rest belongs to the burst, of which
        that change had left `left`.
        """
        parts = overlaps(since_s, since_s + gap_s)
        if not parts or gap_s <= 0:
            return 1.0
        own = rate * gap_s
        total = own + sum(left * self.extra[part] * spent for part, spent in parts)
        for part, spent in parts:
            self._spent[part] += left * spent
            self._usual[part] += rate * spent
            if changed:
                self._found[part] += (rate + left * self.extra[part]) * spent / total
        self._learn(parts)
        return own / total

    def _learn(self, parts: Sequence[tuple[int, float]]) -> None:
        extra = list(self.extra)
        for part, _ in parts:
            chance = self._usual[part] + _SURE * math.sqrt(self._found[part])
            extra[part] = max(0.0, self._found[part] - chance) / (self._spent[part] + _DOUBT_S)
        self.extra = tuple(extra)
        stretches = zip(self.extra, pairwise(EDGES_S), strict=True)
        self.further = min(20.0, sum(each * (end - start) for each, (start, end) in stretches))


def overlaps(start_s: float, end_s: float) -> list[tuple[int, float]]:
    """The parts of a burst that a stretch of time after its change covers, and for how long each."""
    if start_s >= EDGES_S[-1]:
        return []
    return [
        (part, min(end_s, high) - max(start_s, low))
        for part, (low, high) in enumerate(pairwise(EDGES_S))
        if start_s < high and end_s > low
    ]
