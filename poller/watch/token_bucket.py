"""How fast a source may spend: a credit that grows evenly, and its share in the budget of its host. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

FREE_SHARE = 0.95
"""Of a budget, for sweeps and details; the rest is for confirmations (store/budget.py)."""
SPARE = 2.0
"""Requests that may be saved up beyond what the dearest sweep costs."""
LEAST_PART = 0.25
"""Of an even share: what a source is left however little it seems to need."""


class TokenBucket:
    """Requests that may be sent now. What goes first may overdraw it, and is made good by what follows."""

    def __init__(self, *, per_s: float, now: float) -> None:
        self.per_s = per_s
        self._left = 0.0
        self._at = now

    def left(self, now: float, *, dearest: float) -> float:
        """How many may be sent now; saved up to the dearest sweep and a little."""
        grown = self._left + max(0.0, now - self._at) * self.per_s
        self._left, self._at = min(max(self._left, dearest + SPARE), grown), now
        return self._left

    def wait_s(self, cost: float, now: float, *, dearest: float, overdraw: float = 0.0) -> float:
        """Seconds until `cost` may be spent."""
        lacking = cost - overdraw - self.left(now, dearest=max(cost, dearest))
        if lacking <= 1e-9:
            return 0.0
        return lacking / self.per_s if self.per_s > 0 else math.inf

    def spend(self, count: int) -> None:
        """So many requests were paid for."""
        self._left -= count


@dataclass(frozen=True, slots=True)
class Demand:
    """What one source asks of its host's budget."""

    weight: float
    """Requests a second, were all it reads read at its plain interval: sources share in this proportion."""
    most_per_s: float
    """Requests a second that it could use at all."""


def shares(demands: Mapping[str, Demand], per_s: float) -> dict[str, float]:
    """Part `per_s` requests a second among sources: by weight, but no more than each can use."""
    given: dict[str, float] = {}
    open_ = dict(demands)
    left = per_s
    while open_:
        total = sum(each.weight for each in open_.values())
        parts = {
            name: left * (each.weight / total if total > 0 else 1 / len(open_))
            for name, each in open_.items()
        }
        full = [name for name, each in open_.items() if each.most_per_s <= parts[name]]
        if not full:
            return {**given, **parts}
        for name in full:
            given[name] = open_.pop(name).most_per_s
            left = max(0.0, left - given[name])
    return given


def part_of(name: str, demands: Mapping[str, Demand], per_s: float) -> float:
    """Requests a second for one source; at least a little, or it could never show that it needs more."""
    return max(shares(demands, per_s)[name], LEAST_PART * per_s / len(demands))
