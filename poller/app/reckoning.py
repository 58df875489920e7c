"""How long sweeps and rounds of details take within a budget, and what would make them shorter. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

KEPT_FREE = 0.05
"""Of a budget, for confirmations: they go first (store/budget.py)."""
NICE_S = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 14400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one source asks of its host's budget."""

    source: str
    requests: int
    """For one sweep of all its lists, the page behind each end included."""
    records: int
    """Whose details are read in turn; 0 where details are off."""
    every_s: float
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the host may be sent."""

    limit: int
    window_s: float

    @property
    def per_s(self) -> float:
        """Requests a second for sweeps and details together."""
        return self.limit * (1 - KEPT_FREE) / self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """How it goes on one host, for all of its sources together."""

    stretch: float
    """How much longer than `every` the time between two sweeps becomes; 1 where the budget suffices."""
    sweeps_share: float
    """Of the budget, for sweeps."""
    round_s: float | None
    """To read every record's detail once; None where sweeps leave nothing for it."""


def requests_of(pages: Sequence[int]) -> int:
    """What one sweep is charged: each list's pages and the one behind its end."""
    return sum(max(2, count + 1) for count in pages)


def reckon(loads: Sequence[Load], allowance: Allowance) -> Reckoning:
    """Reckon for the sources of one host."""
    asked = sum(load.requests / load.every_s for load in loads)
    left = allowance.per_s - asked
    records = sum(load.records for load in loads)
    return Reckoning(
        stretch=max(1.0, asked / allowance.per_s),
        sweeps_share=min(1.0, asked / allowance.per_s),
        round_s=0.0 if not records else records / left if left > 0 else None,
    )


def advice(load: Load, loads: Sequence[Load], allowance: Allowance) -> str:
    """What to change for one source among the `loads` of its host; empty where nothing needs to be."""
    reckoned = reckon(loads, allowance)
    slow = reckoned.round_s is None or reckoned.round_s > load.max_age_s
    if reckoned.stretch <= 1 and not slow:
        return ""
    others = [each for each in loads if each is not load]
    spent = sum(each.requests / each.every_s for each in others)
    details = sum(each.records / each.max_age_s for each in loads)
    free = allowance.per_s - spent - details
    needed = math.ceil(
        (details + spent + load.requests / load.every_s) * allowance.window_s / (1 - KEPT_FREE)
    )
    more = f"raise budget to {needed} in {allowance.window_s:g} s, if the host allows it"
    every_s = _nice(load.requests / free) if free > 0 else None
    if every_s is None:
        return f"{more}, or set details = false"
    return f'set every = "{_words(every_s)}", or {more}'


def _nice(seconds: float) -> float | None:
    return next((each for each in NICE_S if each >= seconds), None)


def _words(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"
