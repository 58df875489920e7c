"""How long sweeps and rounds of details take within a budget, and what would make them shorter. Pure.

What is foretold is what the schedule itself makes of it (watch/agenda.py), as long as nothing is known of how
often records change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from poller.watch.agenda import Agenda
from poller.watch.token_bucket import FREE_SHARE, part_of

ALL = "lists"
"""All lists of a source, reckoned as one: their costs are about in proportion to their records."""
NICE_S = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 14400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one source asks of its host's budget."""

    source: str
    requests: int
    """For one sweep of all its lists, the page behind each end included."""
    records: int
    """Whose details are read in turn; 0 where details are off."""
    listed: int = 0
    """Records of its lists, those without details too."""
    every_s: float
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimit:
    """What the host may be sent."""

    limit: int
    window_s: float

    @property
    def per_s(self) -> float:
        """Requests a second for sweeps and details together."""
        return self.limit * FREE_SHARE / self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """How it goes for one source, beside the others of its host."""

    period_s: float
    """Between the beginnings of two sweeps of one list."""
    sweeps_share: float
    """Of the host's budget, for the sweeps of all its sources."""
    round_s: float
    """Between two readings of a detail; 0 where none is read."""
    delay_s: float | None
    """From a change to its event on average; None where there is nothing to change."""


def requests_of(pages: Sequence[int]) -> int:
    """What one sweep is charged: each list's pages and the one behind its end."""
    return sum(max(2, count + 1) for count in pages)


def reckon(mine: Load, others: Sequence[Load], host_limit: HostLimit) -> Reckoning:
    """Reckon for one source, and the others of its host."""
    agendas = {str(number): _agenda(load) for number, load in enumerate([mine, *others])}
    demands = {number: each.demand() for number, each in agendas.items()}
    found = {
        number: each.outlook(part_of(number, demands, host_limit.per_s)) for number, each in agendas.items()
    }
    spent = sum(agendas[number].lists[ALL].cost / each.sweeps_s[ALL] for number, each in found.items())
    return Reckoning(
        period_s=found["0"].sweeps_s[ALL],
        sweeps_share=min(1.0, spent / host_limit.per_s),
        round_s=found["0"].oldest_s or 0.0,
        delay_s=found["0"].delay_s,
    )


def _agenda(load: Load) -> Agenda:
    """Its schedule, before anything was read."""
    made = Agenda.of([ALL], every_s=load.every_s, max_age_s=load.max_age_s, details=load.records > 0)
    made.lists[ALL].cost, made.lists[ALL].records = load.requests, max(load.listed, load.records)
    made.round.load({("", str(number)): 1.0 for number in range(load.records)}, unread_at=0.0)
    return made


def advice(load: Load, loads: Sequence[Load], host_limit: HostLimit, *, most_per_s: float = math.inf) -> str:
    """What to change for one source among the `loads` of its host; empty where nothing needs to be.

    Nothing needs to be where every list can be swept at `every` and every detail read at its `max_age`.
    A budget of more than `most_per_s` is not recommended: the account does not have it.
    """
    others = [each for each in loads if each is not load]
    spent = sum(each.requests / each.every_s for each in others)
    details = sum(each.records / each.max_age_s for each in loads)
    free = host_limit.per_s - spent - details
    if load.requests / load.every_s <= free:
        return ""
    needed = math.ceil((details + spent + load.requests / load.every_s) * host_limit.window_s / FREE_SHARE)
    more = f"raise budget to {needed} in {host_limit.window_s:g} s, if the host allows it"
    more = more if needed <= most_per_s * host_limit.window_s else ""
    every_s = _nice(load.requests / free) if free > 0 else None
    ways = [more, "set details = false"] if every_s is None else [f'set every = "{_words(every_s)}"', more]
    return ", or ".join(way for way in ways if way)


def _nice(seconds: float) -> float | None:
    return next((each for each in NICE_S if each >= seconds), None)


def _words(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"
