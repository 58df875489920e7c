"""Detection delay on a virtual clock, divided by the least possible: our schedule beside what others do.

    python tests/bench/schedule.py [--days 20] [--seeds 1] [--warm 0.33] [--mixed] [--only TEXT]

The bound is (Σ√(wλc))² / (2BΣwλ): nobody does better under Poisson who knows every rate and no moment
(anchors/polling.md §3b). Nobody knows the rates: `learner` is the bound of who knows only the population
that a record's rate is drawn from and has seen what happened so far (numerically, by Bayes), and so the
least that any policy can reach. In sessions changes come in clusters, and less than 1 is possible: how much
less, `told all` shows, our rule for who knows every rate and how sessions go, and is told at each reading
whether one goes on.

Details alone: 500 records, 0.5 requests a second, 0.2 changes of a record a day; the first third of the
time (`--warm`) is for learning and not counted. Mixed: two lists and their details at 0.8 requests a second,
a row and a detail each changing 0.2 times a day; a row's change counts SWEEP_WEIGHT times. The last table is
Markdown, as the README quotes it.
"""

import argparse
import heapq
import math
import random
import statistics
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol

from poller.watch.agenda import SWEEP_WEIGHT, Agenda, Choice
from poller.watch.habits import DAY_S
from poller.watch.pacing import Round

PER_DAY = 0.2
RECORDS, PER_S = 500, 0.5
MIXED_PER_S, PAGE = 0.8, 100
SIZES = ({"opportunity": 500, "project": 300}, {"opportunity": 2000, "project": 1000})
WARM = 1 / 3
EVERY_S, MAX_AGE_S = 30.0, DAY_S
FURTHER, APART_S = 3.0, 300.0
"""Further changes of a session on average, and how far apart on average."""
QUANTILES = 400
"""Points by which a population is known to the learner."""

Draw = Callable[[random.Random], float]


def lognormal(sigma: float) -> Draw:
    """Rates with mean 1."""
    return lambda rng: rng.lognormvariate(-sigma * sigma / 2, sigma)


POPULATIONS: dict[str, Draw] = {
    "lognormal σ 1": lognormal(1.0),
    "lognormal σ 1.5": lognormal(1.5),
    "lognormal σ 2": lognormal(2.0),
    "10 % hot × 100": lambda rng: (100 if rng.random() < 0.1 else 1) / 10.9,
}


def rates(population: str, count: int, rng: random.Random) -> list[float]:
    """Changes per second of so many records."""
    return [PER_DAY / DAY_S * POPULATIONS[population](rng) for _ in range(count)]


Span = tuple[float, float]
"""A session's first change and its last."""


def poisson(rate: float, until: float, rng: random.Random) -> list[float]:
    """Moments of change, independent of each other."""
    at, found = 0.0, []
    while (at := at + rng.expovariate(rate)) < until:
        found.append(at)
    return found


def alone(rate: float, until: float, rng: random.Random) -> tuple[list[float], list[Span]]:
    """Changes without sessions."""
    return poisson(rate, until, rng), []


def sessions(rate: float, until: float, rng: random.Random) -> tuple[list[float], list[Span]]:
    """As many changes, in clusters."""
    found, spans = [], []
    for begin in poisson(rate / (1 + FURTHER), until, rng):
        at = begin
        while at < until:
            found.append(at)
            if rng.random() < 1 / (1 + FURTHER):
                break
            at += rng.expovariate(1 / APART_S)
        spans.append((begin, at))
    return sorted(found), spans


NAMES = ("round robin", "proportional", "told all", "poller")
PROCESSES = {"Poisson": alone, "sessions": sessions}


@dataclass(slots=True)
class Unit:
    """One list or one record's detail, and what happens to it."""

    rate: float
    cost: int
    weight: float
    changes: list[float]
    spans: list[Span] = field(default_factory=list)
    read_to: int = 0
    list: str = ""
    """For a list its name; empty for a detail."""


@dataclass
class Told:
    """What a policy came to."""

    delays: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    of_list: list[bool] = field(default_factory=list)
    """Whether a sweep told it, or a detail."""
    requests: int = 0
    cpu_s: float = 0.0

    @property
    def mean(self) -> float:
        """Weighted."""
        return sum(map(float.__mul__, self.delays, self.weights)) / sum(self.weights)

    def percentile(self, share: float) -> float:
        """Weighted likewise."""
        left = share * sum(self.weights)
        for delay, weight in sorted(zip(self.delays, self.weights, strict=True)):
            left -= weight
            if left <= 0:
                return delay
        return max(self.delays)

    def add(self, one: "Told") -> None:
        """Another run of the same policy."""
        self.delays += one.delays
        self.weights += one.weights
        self.requests += one.requests
        self.cpu_s += one.cpu_s


class Policy(Protocol):
    """Says what to read next, and hears what came of it."""

    def next(self, now: float) -> int | None: ...
    def read(self, unit: int, now: float, found: int) -> None: ...


class InTurn:
    """Round robin: everything once, then again."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._order = deque(range(len(units)))

    def next(self, now: float) -> int:
        self._order.rotate(-1)
        return self._order[-1]

    def read(self, unit: int, now: float, found: int) -> None:
        """Nothing is learned."""


class Proportional:
    """Each as often as it changes, for rates that are known."""

    def __init__(self, units: Sequence[Unit], per_s: float) -> None:
        plain = [unit.cost / (unit.weight * unit.rate) for unit in units]
        price = sum(unit.cost / each for unit, each in zip(units, plain, strict=True)) / per_s
        self._intervals = [each * price for each in plain]
        rng = random.Random(1)
        self._due = [(each * rng.random(), at) for at, each in enumerate(self._intervals)]
        heapq.heapify(self._due)

    def next(self, now: float) -> int:
        return heapq.heappop(self._due)[1]

    def read(self, unit: int, now: float, found: int) -> None:
        heapq.heappush(self._due, (now + self._intervals[unit], unit))


class ToldAll:
    """Each when its value, weight × 2 ∫ s λ(s) ds ÷ cost over its age, reaches one price for all.

    λ(s) is exact: every rate is known, how sessions go too, and at each reading whether one goes on. The
    price is moved until what is due and what may be spent are the same.
    """

    LASTS_S = APART_S * (1 + FURTHER)
    """A session that goes on, on average."""

    def __init__(self, units: Sequence[Unit], per_s: float) -> None:
        self._units = units
        roots = sum(math.sqrt(unit.weight * unit.rate * unit.cost) for unit in units)
        self._price = (roots / per_s) ** 2
        self._starts = [sorted(begin for begin, _ in unit.spans) for unit in units]
        self._ends = [sorted(end for _, end in unit.spans) for unit in units]
        self._sessions = any(unit.spans for unit in units)
        """Without any the first price is exact."""
        self._late: list[float] = []
        rng = random.Random(1)
        self._due = [(rng.random() * self._interval_s(unit, 0), at) for at, unit in enumerate(units)]
        heapq.heapify(self._due)

    def next(self, now: float) -> int:
        due, unit = heapq.heappop(self._due)
        if self._sessions:
            self._late.append((now - due) / self._interval_s(self._units[unit], 0))
        if len(self._late) == len(self._units):
            self._price *= 1 + min(0.2, max(-0.2, statistics.fmean(self._late)))
            self._late.clear()
        return unit

    def read(self, unit: int, now: float, found: int) -> None:
        going = bisect_right(self._starts[unit], now) - bisect_right(self._ends[unit], now)
        heapq.heappush(self._due, (now + self._interval_s(self._units[unit], going), unit))

    def _interval_s(self, unit: Unit, going: int) -> float:
        """After how long its value reaches the price, while so many of its sessions go on."""
        price, rate, tau = self._price * unit.cost / unit.weight, unit.rate, self.LASTS_S
        usual = rate / (1 + FURTHER) * FURTHER * APART_S if unit.spans else 0.0
        more = 2 * tau * (going - usual) / APART_S
        if not more:
            return math.sqrt(price / rate)
        low, high = 0.0, 2 * math.sqrt(price * (1 + FURTHER) / rate)
        for _ in range(25):
            middle = (low + high) / 2
            fades = math.exp(-middle / tau)
            value = rate * middle**2 + more * (tau * (1 - fades) - middle * fades)
            low, high = (low, middle) if value > price else (middle, high)
        return high


class OurDetails:
    """The round of details, from nothing."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.round = Round(every_s=EVERY_S, max_age_s=MAX_AGE_S)
        last = {("", str(at)): -1000.0 * (at + 1) / len(units) for at in range(len(units))}
        self.round.load(last, unread_at=0.0)

    def next(self, now: float) -> int | None:
        found = self.round.next(now)
        return int(found[0][1]) if found else None

    def read(self, unit: int, now: float, found: int) -> None:
        self.round.read(("", str(unit)), now=now, changed=found > 0)


class OurAgenda:
    """Lists and details in one queue; a changed row's detail is read next."""

    def __init__(self, units: Sequence[Unit], rows: dict[str, list[int]]) -> None:
        self._units, self._rows = units, rows
        self._lists = {unit.list: at for at, unit in enumerate(units) if unit.list}
        self.agenda = Agenda.of(self._lists, every_s=EVERY_S, max_age_s=MAX_AGE_S, details=True)
        last = {("", str(at)): -float(at + 1) for at, unit in enumerate(units) if not unit.list}
        self.agenda.round.load(last, unread_at=0.0)
        self._urgent: dict[tuple[str, str], float] = {}
        self._choice: Choice | None = None

    def next(self, now: float) -> int | None:
        self._choice = self.agenda.next(now, self._urgent)
        if self._choice is None:
            return None
        kind, record = self._choice.subject
        return self._lists[kind] if self._choice.what == "sweep" else int(record)

    def read(self, unit: int, now: float, found: int) -> None:
        assert self._choice is not None
        mine = self._units[unit]
        if mine.list:
            self.agenda.begun(mine.list, now=now)
            self.agenda.swept(mine.list, complete=True, cost=mine.cost, records=1000, changed=found)
            for record in self._rows[mine.list][mine.read_to - found : mine.read_to]:
                self._urgent[("", str(record))] = now
                self.agenda.round.hint(("", str(record)), now=now)
        else:
            self._urgent.pop(self._choice.subject, None)
            self.agenda.read(self._choice, now=now, changed=found > 0)


def run(policy: Policy, units: Sequence[Unit], *, until: float, per_s: float, warm: float) -> Told:
    """Spend evenly until the end; changes before `warm` are not counted."""
    for unit in units:
        unit.read_to = 0
    told, now, began = Told(), 0.0, time.process_time()
    while now < until:
        at = policy.next(now)
        if at is None:
            now += 1 / per_s
            continue
        unit = units[at]
        now += unit.cost / per_s
        first = unit.read_to
        while unit.read_to < len(unit.changes) and unit.changes[unit.read_to] <= now:
            if unit.changes[unit.read_to] >= warm:
                told.delays.append(now - unit.changes[unit.read_to])
                told.weights.append(unit.weight)
                told.of_list.append(bool(unit.list))
            unit.read_to += 1
        policy.read(at, now, unit.read_to - first)
        told.requests += unit.cost
    told.cpu_s = time.process_time() - began
    return told


def bound(units: Sequence[Unit], per_s: float) -> float:
    """The least mean delay for who knows every rate and no moment."""
    roots = sum(math.sqrt(unit.weight * unit.rate * unit.cost) for unit in units)
    return roots**2 / (2 * per_s * sum(unit.weight * unit.rate for unit in units))


def learner(population: str, units: Sequence[Unit], span: tuple[float, float], rng: random.Random) -> float:
    """The bound of who must learn the rates of details, ÷ the bound: the mean over the time that counts."""
    draws = sorted(rates(population, 200 * QUANTILES, rng))[100::200]
    least = sum(math.sqrt(unit.weight * unit.rate * unit.cost) for unit in units) ** 2
    found = []
    begin, end = span
    for part in range(6):
        past_s = begin + (end - begin) * (part + 0.5) / 6
        believed: dict[int, float] = {}
        spent = late = 0.0
        for unit in units:
            mean = unit.rate
            if not unit.list:
                seen = bisect_right(unit.changes, past_s)
                if seen not in believed:
                    logs = [seen * math.log(each) - each * past_s for each in draws]
                    weights = [math.exp(each - max(logs)) for each in logs]
                    believed[seen] = sum(map(float.__mul__, weights, draws)) / sum(weights)
                mean = believed[seen]
            root = math.sqrt(unit.weight * mean * unit.cost)
            spent += root
            late += unit.weight * unit.rate * unit.cost / root
        found.append(late * spent / least)
    return statistics.mean(found)


def details_only(population: str, process: str, until: float, seed: int) -> list[Unit]:
    """500 records."""
    rng = random.Random(f"{population}/{process}/{seed}")
    return [
        Unit(rate, 1, 1.0, *PROCESSES[process](rate, until, rng)) for rate in rates(population, RECORDS, rng)
    ]


def mixed(
    population: str, process: str, until: float, seed: int, sizes: dict[str, int]
) -> tuple[list[Unit], dict[str, list[int]]]:
    """Two lists and the details of what is in them; for each list whose row changes, in order."""
    rng = random.Random(f"{population}/{process}/{seed}")
    units, rows = [], {}
    for name, count in sizes.items():
        mine = rates(population, count, rng)
        lives = [PROCESSES[process](rate, until, rng) for rate in mine]
        happened = sorted((moment, record) for record, life in enumerate(lives) for moment in life[0])
        first = len(units) + 1
        rows[name] = [first + record for _, record in happened]
        moments, spans = [moment for moment, _ in happened], [span for life in lives for span in life[1]]
        units.append(Unit(sum(mine), math.ceil(count / PAGE) + 1, SWEEP_WEIGHT, moments, spans, list=name))
        units += [Unit(rate, 1, 1.0, *PROCESSES[process](rate, until, rng)) for rate in mine]
    return units, rows


@dataclass(frozen=True, slots=True)
class Contest:
    """All policies over the same changes."""

    process: str
    what: str
    least: float
    floor: float | None
    """The least for who must learn the rates, ÷ `least`."""
    told: dict[str, Told]

    def show(self) -> None:
        """One block, as soon as it is done."""
        note = f"; a learner's is {self.floor:.2f} ×" if self.floor else ""
        print(f"\n{self.process}, {self.what}: the bound is {self.least:.0f} s{note}")
        for name, each in self.told.items():
            print(
                f"  {name:<22}{each.mean / self.least:>6.2f} × {each.percentile(0.95):>8.0f} s p95"
                f"{max(each.delays):>8.0f} s max {len(each.delays):>8} changes"
                f"{each.cpu_s / max(1, each.requests) * 1e6:>6.0f} µs a request",
                flush=True,
            )

    @property
    def row(self) -> str:
        """Its line of the table: mean ÷ bound, and the 95th percentile in seconds."""
        cells = [
            f"{each.mean / self.least:.2f} / {each.percentile(0.95):,.0f}" for each in self.told.values()
        ]
        floor = f"{self.floor:.2f}" if self.floor else "–"
        return " | ".join(["", self.process, self.what, f"{self.least:.0f} s", floor, *cells, ""]).strip()


def contest_details(population: str, process: str, until: float, warm: float, seeds: int) -> Contest:
    """Details alone, over all seeds."""
    told = {name: Told() for name in NAMES}
    leasts, floors = [], []
    for seed in range(1, seeds + 1):
        units = details_only(population, process, until, seed)
        leasts.append(bound(units, PER_S))
        floors.append(learner(population, units, (warm, until), random.Random(seed)))
        policies: list[Policy] = [*others(units, PER_S), OurDetails(units)]
        for into, policy in zip(told.values(), policies, strict=True):
            into.add(run(policy, units, until=until, per_s=PER_S, warm=warm))
    floor = statistics.mean(floors) if process == "Poisson" else None
    return Contest(process, population, statistics.mean(leasts), floor, told)


def others(units: Sequence[Unit], per_s: float) -> tuple[Policy, Policy, Policy]:
    """In turn, by the known rate, and by all that can be known."""
    return InTurn(units), Proportional(units, per_s), ToldAll(units, per_s)


def contest_mixed(population: str, process: str, until: float, warm: float, sizes: dict[str, int]) -> Contest:
    """Sweeps and details out of one budget."""
    units, rows = mixed(population, process, until, 1, sizes)
    policies: list[Policy] = [*others(units, MIXED_PER_S), OurAgenda(units, rows)]
    told = {
        name: run(each, units, until=until, per_s=MIXED_PER_S, warm=warm)
        for name, each in zip(NAMES, policies, strict=True)
    }
    what = f"{population}, {' + '.join(map(str, sizes.values()))}"
    floor = learner(population, units, (warm, until), random.Random(1)) if process == "Poisson" else None
    return Contest(process, what, bound(units, MIXED_PER_S), floor, told)


def contests(given: argparse.Namespace) -> Iterator[Contest]:
    """Every process and population."""
    until = given.days * DAY_S
    warm = until * given.warm
    for process, population in product(PROCESSES, POPULATIONS):
        if given.only not in f"{process} {population}":
            continue
        if given.mixed:
            yield from (contest_mixed(population, process, until, warm, sizes) for sizes in SIZES)
        else:
            yield contest_details(population, process, until, warm, given.seeds)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--warm", type=float, default=WARM, help="part of the time that is not counted")
    parser.add_argument("--mixed", action="store_true", help="sweeps and details out of one budget instead")
    parser.add_argument("--only", default="", help="only where process and population hold this text")
    given = parser.parse_args()
    done = []
    for each in contests(given):
        each.show()
        done.append(each.row)
    print(f"\n| changes | population | bound | learner | {' | '.join(NAMES)} |\n|{'---|' * 8}")
    print("\n".join(done))


if __name__ == "__main__":
    main()
