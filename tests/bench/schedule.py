"""Detection delay on a virtual clock, divided by the least possible: our schedule beside what others do.

    python tests/bench/schedule.py [--days 20] [--seeds 1] [--warm 0.33] [--mixed] [--only TEXT] [--who TEXT]

The bound is (Σ√(wλc))² / (2BΣwλ): nobody does better under Poisson who knows every rate and no moment
(anchors/polling.md §3b). Nobody knows the rates: `learner` is the same rule by Bayes for who knows the
population that rates are drawn from and how sessions go, and is told at each reading how many changes or
sessions the record has had; `rates told` knows each rate itself. Ours has only what its readings show. In
sessions less than 1 is possible.

Details alone: 500 records, 0.5 requests a second, 0.2 changes of a record a day; the first third of the
time (`--warm`) is for learning and not counted. Under Poisson their delays are those to be expected between
the readings that were made, else those of the changes that happened. Mixed: two lists and their details at
0.8 requests a second, a row and a detail each changing 0.2 times a day; a row's change counts SWEEP_WEIGHT
times. The last table is Markdown, as the README quotes it.
"""

import argparse
import heapq
import math
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import itemgetter
from typing import Protocol

from poller.watch.agenda import SWEEP_WEIGHT, Agenda, Choice
from poller.watch.habits import DAY_S
from poller.watch.pacing import Round

PER_DAY = 0.2
RECORDS, PER_S = 500, 0.5
MIXED_PER_S, PAGE = 0.8, 100
SIZES = ({"opportunity": 500, "project": 300}, {"opportunity": 2000, "project": 1000})
WARM = 1 / 3
EVERY_S, MIXED_EVERY_S, MAX_AGE_S = 30.0, 5.0, DAY_S
"""Beside lists of 500 the least time between two sweeps is set lower than the default of 30 s, which would
bind: to nobody else it applies."""
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


def poisson(rate: float, until: float, rng: random.Random) -> list[float]:
    """Moments of change, independent of each other."""
    at, found = 0.0, []
    while (at := at + rng.expovariate(rate)) < until:
        found.append(at)
    return found


def alone(rate: float, until: float, rng: random.Random) -> tuple[list[float], list[float]]:
    """Each change is a session of its own."""
    found = poisson(rate, until, rng)
    return found, found


def sessions(rate: float, until: float, rng: random.Random) -> tuple[list[float], list[float]]:
    """As many changes, in clusters; and the first one of each."""
    found, begins = [], poisson(rate / (1 + FURTHER), until, rng)
    for begin in begins:
        at = begin
        while at < until:
            found.append(at)
            if rng.random() < 1 / (1 + FURTHER):
                break
            at += rng.expovariate(1 / APART_S)
    return sorted(found), begins


PROCESSES = {"Poisson": alone, "sessions": sessions}


@dataclass(slots=True)
class Unit:
    """One list or one record's detail, and what happens to it."""

    rate: float
    cost: int
    weight: float
    changes: list[float]
    begins: list[float]
    """Its sessions."""
    read_to: int = 0
    list: str = ""
    """For a list its name; empty for a detail."""
    records: Sequence[int] = ()
    """For a list the unit of whose row each change is."""


@dataclass
class Told:
    """What a policy came to."""

    delays: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    of_list: list[bool] = field(default_factory=list)
    """Whether a sweep told it, or a detail."""
    gaps: dict[float, float] = field(default_factory=dict)
    """Instead of these: time between two readings -> changes to be expected in all such times together.

    Where each change comes by itself its delay may be any up to that time. So nothing is left to the chance
    of when it came, and what is compared are the readings.
    """
    requests: int = 0
    cpu_s: float = 0.0

    @property
    def mean(self) -> float:
        """Weighted."""
        if self.gaps:
            return sum(gap / 2 * count for gap, count in self.gaps.items()) / self.changes
        return sum(map(float.__mul__, self.delays, self.weights)) / sum(self.weights)

    @property
    def changes(self) -> float:
        """How many were told."""
        return sum(self.gaps.values()) or len(self.delays)

    @property
    def most(self) -> float:
        """The longest delay."""
        return max(self.gaps or self.delays)

    def percentile(self, share: float) -> float:
        """Weighted likewise."""
        if self.gaps:
            late = (1 - share) * self.changes
            return bisect_left(
                range(round(self.most)),
                -late,
                key=lambda at: -sum(count * (1 - at / gap) for gap, count in self.gaps.items() if gap > at),
            )
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
        for gap, count in one.gaps.items():
            self.gaps[gap] = self.gaps.get(gap, 0.0) + count
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


class Cubed:
    """The trial of anchors/polling.md §7: believed rate × age³, a gamma prior fitted each 2,000 readings."""

    GUESS_OVER_S = 5 * DAY_S
    FIT_AFTER = 2000

    def __init__(self, units: Sequence[Unit]) -> None:
        self._read_at = [-1000.0 * (at + 1) / len(units) for at in range(len(units))]
        self._found, self._over_s = [0] * len(units), [0.0] * len(units)
        self._prior = PER_DAY / DAY_S * self.GUESS_OVER_S, self.GUESS_OVER_S
        self._roots: list[float] = []
        self._reads = 0

    def next(self, now: float) -> int:
        if not self._roots:
            self._roots = [self._root(at) for at in range(len(self._read_at))]
        ages = (root * (now - at) for root, at in zip(self._roots, self._read_at, strict=True))
        return max(enumerate(ages), key=itemgetter(1))[0]

    def read(self, unit: int, now: float, found: int) -> None:
        self._found[unit] += found > 0
        self._over_s[unit] += now - self._read_at[unit]
        self._read_at[unit] = now
        self._reads += 1
        if self._reads % self.FIT_AFTER:
            self._roots[unit] = self._root(unit)
        else:
            self._fit()

    def _root(self, unit: int) -> float:
        seen, over_s = self._prior
        return ((self._found[unit] + seen) / (self._over_s[unit] + over_s)) ** (1 / 3)

    def _fit(self) -> None:
        mean = sum(self._found) / sum(self._over_s)
        past = [*zip(self._found, self._over_s, strict=True)]
        spread = sum((seen - mean * over_s) ** 2 - mean * over_s for seen, over_s in past)
        spread /= sum(over_s**2 for _, over_s in past)
        if mean > 0 and spread > 0:
            self._prior, self._roots = (mean**2 / spread, mean / spread), []


class Learner:
    """Each when its value, weight × 2 ∫ s λ(s) ds ÷ cost over its age, reaches one price for all.

    λ(s) is what is to be expected by Bayes: the population that rates are drawn from is known, and how
    sessions go; how many sessions of a record there were so far; whether one goes on as readings show it.
    The price is moved until what is due and what may be spent are the same.
    """

    LASTS_S = APART_S * (1 + FURTHER)
    """A session that goes on, on average."""
    OVER_S = 20 * APART_S
    """After so long without a change a session is over."""

    def __init__(self, units: Sequence[Unit], per_s: float, draws: Sequence[float], further: float) -> None:
        self._units = units
        self._further = further
        self._draws = [each / (1 + self._further) for each in draws]
        """Sessions per second, each of as many records."""
        self._rates: dict[tuple[int, int], float] = {}
        roots = sum(math.sqrt(unit.weight * unit.rate * unit.cost) for unit in units)
        self._price = (roots / per_s) ** 2
        self._late: list[float] = []
        self._believed: dict[int, tuple[float, float]] = {}
        rng = random.Random(1)
        due = [(rng.random() * self._interval_s(at, 0.0, 0.0), at) for at in range(len(units))]
        self._lists = sorted(each for each in due if units[each[1]].list)
        """Read when they are due; the details around them a little sooner or later."""
        self._due = sorted(each for each in due if not units[each[1]].list)

    def next(self, now: float) -> int:
        if self._lists and self._lists[0][0] <= now:
            return heapq.heappop(self._lists)[1]
        due, unit = heapq.heappop(self._due)
        self._late.append((now - due) / self._interval_s(unit, now, 0.0))
        if len(self._late) == RECORDS:
            self._price *= 1 + min(0.2, max(-0.2, statistics.fmean(self._late)))
            self._late.clear()
        return unit

    def read(self, unit: int, now: float, found: int) -> None:
        going = self._going(unit, now, found) if self._further else 0.0
        into = self._lists if self._units[unit].list else self._due
        heapq.heappush(into, (now + self._interval_s(unit, now, going), unit))

    def _begins(self, unit: int, now: float) -> float:
        """Sessions per second."""
        mine = self._units[unit]
        if mine.list:
            return mine.rate / (1 + self._further)
        days = round(now / DAY_S * 4)
        seen = bisect_right(mine.begins, now)
        if (seen, days) not in self._rates:
            self._rates[seen, days] = expected(self._draws, seen, days * DAY_S / 4)
        return self._rates[seen, days]

    def _going(self, unit: int, now: float, found: int) -> float:
        """How many sessions are to be expected to go on."""
        mine = self._units[unit]
        return self._of_rows(mine, now) if mine.list else self._of_detail(unit, now, found > 0)

    def _of_rows(self, mine: Unit, now: float) -> float:
        """A list is read so often that its rows tell the moments of their changes, about."""
        last = dict[int, float]()
        for at in range(mine.read_to - 1, -1, -1):
            if mine.changes[at] < now - self.OVER_S:
                break
            last.setdefault(mine.records[at], mine.changes[at])
        silent = (FURTHER * math.exp((changed - now) / APART_S) for changed in last.values())
        return sum(each / (1 + each) for each in silent)

    def _of_detail(self, unit: int, now: float, changed: bool) -> float:
        """From whether it has changed since the last reading."""
        was, at = self._believed.get(unit, (0.0, 0.0))
        begins = self._begins(unit, now)
        usual = begins * FURTHER * APART_S
        going = usual + (was - usual) * math.exp((at - now) * (1 / self.LASTS_S + begins))
        silent = was * math.exp((at - now) / APART_S)
        quiet = silent + (1 - was) * math.exp((at - now) * begins)
        belief = (going - silent) / (1 - quiet) if changed else silent / quiet
        self._believed[unit] = belief, now
        return belief

    def _interval_s(self, unit: int, now: float, going: float) -> float:
        """After how long its value reaches the price, while so many of its sessions go on."""
        mine, tau, begins = self._units[unit], self.LASTS_S, self._begins(unit, now)
        price, rate = self._price * mine.cost / mine.weight, begins * (1 + self._further)
        more = 2 * tau * (going - begins * self._further * APART_S) / APART_S
        if not more:
            return math.sqrt(price / rate)
        low, high = 0.0, 2 * math.sqrt(price * (1 + self._further) / rate)
        for _ in range(25):
            middle = (low + high) / 2
            fades = math.exp(-middle / tau)
            value = rate * middle**2 + more * (tau * (1 - fades) - middle * fades)
            low, high = (low, middle) if value > price else (middle, high)
        return high


class RatesTold(Learner):
    """The same for who is told every rate, too: what it misses nobody reaches by such a rule."""

    def _begins(self, unit: int, now: float) -> float:
        return self._units[unit].rate / (1 + self._further)


def expected(draws: Sequence[float], seen: int, past_s: float) -> float:
    """The mean of rates, of which one was drawn, after so many events in so many seconds."""
    logs = [seen * math.log(each) - each * past_s for each in draws]
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    return sum(map(float.__mul__, weights, draws)) / sum(weights)


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

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._lists = {unit.list: at for at, unit in enumerate(units) if unit.list}
        self.agenda = Agenda.of(self._lists, every_s=MIXED_EVERY_S, max_age_s=MAX_AGE_S, details=True)
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
            changed = {str(record) for record in mine.records[mine.read_to - found : mine.read_to]}
            self.agenda.swept(mine.list, complete=True, cost=mine.cost, records=1000, changed=changed)
            for record in changed:
                self._urgent["", record] = now
        else:
            self._urgent.pop(self._choice.subject, None)
            self.agenda.read(self._choice, now=now, changed=found > 0)


def run(
    policy: Policy, units: Sequence[Unit], *, until: float, per_s: float, warm: float, expected: bool = False
) -> Told:
    """Spend evenly until the end; changes before `warm` are not counted. `expected`: see `Told.gaps`."""
    for unit in units:
        unit.read_to = 0
    read_at = [0.0] * len(units)
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
            if unit.changes[unit.read_to] >= warm and not expected:
                told.delays.append(now - unit.changes[unit.read_to])
                told.weights.append(unit.weight)
                told.of_list.append(bool(unit.list))
            unit.read_to += 1
        if expected and now > warm:
            gap = now - max(warm, read_at[at])
            told.gaps[gap] = told.gaps.get(gap, 0.0) + unit.rate * gap
        read_at[at] = now
        policy.read(at, now, unit.read_to - first)
        told.requests += unit.cost
    told.cpu_s = time.process_time() - began
    return told


def bound(units: Sequence[Unit], per_s: float) -> float:
    """The least mean delay for who knows every rate and no moment."""
    roots = sum(math.sqrt(unit.weight * unit.rate * unit.cost) for unit in units)
    return roots**2 / (2 * per_s * sum(unit.weight * unit.rate for unit in units))


def lives(population: str, process: str, until: float, seed: int, sizes: dict[str, int] | None) -> list[Unit]:
    """500 details; or lists of such sizes, and the details of what is in them."""
    rng = random.Random(f"{population}/{process}/{seed}")
    if not sizes:
        return details(rates(population, RECORDS, rng), process, until, rng)
    units: list[Unit] = []
    for name, count in sizes.items():
        mine = rates(population, count, rng)
        rows = [PROCESSES[process](rate, until, rng) for rate in mine]
        happened = sorted((moment, record) for record, life in enumerate(rows) for moment in life[0])
        first = len(units) + 1
        units.append(
            Unit(
                sum(mine),
                math.ceil(count / PAGE) + 1,
                SWEEP_WEIGHT,
                [moment for moment, _ in happened],
                [],
                list=name,
                records=[first + record for _, record in happened],
            )
        )
        units += details(mine, process, until, rng)
    return units


def details(mine: Sequence[float], process: str, until: float, rng: random.Random) -> list[Unit]:
    """One for each rate."""
    return [Unit(rate, 1, 1.0, *PROCESSES[process](rate, until, rng)) for rate in mine]


@dataclass(frozen=True, slots=True)
class Contest:
    """All policies over the same changes."""

    process: str
    what: str
    least: float
    told: dict[str, Told]

    def show(self) -> None:
        """One block, as soon as it is done."""
        print(f"\n{self.process}, {self.what}: the bound is {self.least:.0f} s")
        for name, each in self.told.items():
            print(
                f"  {name:<22}{each.mean / self.least:>6.2f} × {each.percentile(0.95):>8.0f} s p95"
                f"{each.most:>8.0f} s max {each.changes:>8.0f} changes"
                f"{each.cpu_s / max(1, each.requests) * 1e6:>6.0f} µs a request",
                flush=True,
            )

    @property
    def row(self) -> str:
        """Its line of the table: mean ÷ bound, and the 95th percentile in seconds."""
        cells = [
            f"{each.mean / self.least:.2f} / {each.percentile(0.95):,.0f}" for each in self.told.values()
        ]
        return " | ".join(["", self.process, self.what, f"{self.least:.0f} s", *cells, ""]).strip()


def contest(
    population: str, process: str, sizes: dict[str, int] | None, given: argparse.Namespace
) -> Contest:
    """One population over all seeds: details alone, or with the sweeps of lists of such sizes."""
    until, per_s = given.days * DAY_S, MIXED_PER_S if sizes else PER_S
    told, leasts = dict[str, Told](), []
    for seed in range(1, given.seeds + 1):
        units = lives(population, process, until, seed, sizes)
        leasts.append(bound(units, per_s))
        draws = sorted(rates(population, 200 * QUANTILES, random.Random(1)))[100::200]
        further = FURTHER if process == "sessions" else 0.0
        policies: dict[str, Policy] = {
            "round robin": InTurn(units),
            "proportional": Proportional(units, per_s),
            **({} if sizes else {"age³": Cubed(units)}),
            "rates told": RatesTold(units, per_s, draws, further),
            "learner": Learner(units, per_s, draws, further),
            "poller": OurAgenda(units) if sizes else OurDetails(units),
        }
        for name, policy in policies.items():
            if given.who not in name:
                continue
            told.setdefault(name, Told()).add(
                run(
                    policy,
                    units,
                    until=until,
                    per_s=per_s,
                    warm=until * given.warm,
                    expected=process == "Poisson" and not sizes,
                )
            )
    return Contest(process, named(population, sizes), statistics.mean(leasts), told)


def named(population: str, sizes: dict[str, int] | None) -> str:
    """A population, and the lists it is in."""
    return f"{population}, {' + '.join(map(str, sizes.values()))}" if sizes else population


def contests(given: argparse.Namespace) -> Iterator[Contest]:
    """Every process and population."""
    for process, population, sizes in product(PROCESSES, POPULATIONS, SIZES if given.mixed else [None]):
        if given.only in f"{process}, {named(population, sizes)}":
            yield contest(population, process, sizes, given)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--warm", type=float, default=WARM, help="part of the time that is not counted")
    parser.add_argument("--mixed", action="store_true", help="sweeps and details out of one budget instead")
    parser.add_argument("--only", default="", help="only where process, population and sizes hold this text")
    parser.add_argument("--who", default="", help="only the policies whose name holds this text")
    given = parser.parse_args()
    done = []
    for each in contests(given):
        each.show()
        done.append(each)
    if not done or not done[0].told:
        parser.error(f"nothing is called so: --only {given.only!r} --who {given.who!r}")
    heads = ["changes", "population", "bound", *done[0].told]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    print("\n".join(each.row for each in done))


if __name__ == "__main__":
    main()
