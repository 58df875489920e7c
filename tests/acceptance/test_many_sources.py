"""One process, 20 sources of the three kinds, each host with its own limiter: none broken, nobody delayed.

One host stops answering and one refuses everything; the other 18 sources go on as before.
"""

import math
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from processes import Running, home
from redis.asyncio import Redis
from truth import due
from waiting import wait_until

from poller.model import loads
from poller.simulators import Options, serve
from poller.store.keys import Keys

pytestmark = pytest.mark.full

EVERY_S = 3.0
TURNS = 2
"""Sweeps of each list in a phase, at least."""
PHASE_S = 60.0
"""What a busy machine may take for them."""
SLACK_S = 1.0
LONGEST_S = 20.0
"""No pause between two sweeps is as long: who waited for the host that hangs would have waited 30 s."""
RECORDS = 12
DRUM, CLOSE, PIPEDRIVE = (100, 10.0), (40, 5.0), (300, 10.0)
"""What each host is sent at most, in so many seconds: Pipedrive's in tokens."""
BURST, BURST_S = 20, 2.0
REFUSAL_S = 5.0


@dataclass
class Host:
    """One simulated host, and the sources on it."""

    sim: Any
    names: list[str]
    budget: tuple[int, float]
    cost: Callable[[Any], int] = field(default=lambda _asked: 1)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """As they stand in the settings file."""
        limit, window_s = self.budget
        plain = {
            "kind": self.sim.kind,
            "token": self.sim.token,
            "base_url": self.sim.url,
            "every": f"{EVERY_S:g}s",
            "budget": f"{limit}/{window_s:g}s",
        }
        return dict.fromkeys(self.names, plain)

    def answers(self, *statuses: int) -> int:
        """How many requests were answered with these."""
        return sum(asked.status in statuses for asked in self.sim.requests)

    def most(self) -> int:
        """What it received at most in any window of its budget, at any alignment."""
        return most_in([(asked.start, self.cost(asked)) for asked in self.sim.requests], self.budget[1])


def most_in(costs: list[tuple[float, int]], window_s: float) -> int:
    """The largest sum in any window."""
    most = total = first = 0
    for at, cost in costs:
        total += cost
        while costs[first][0] <= at - window_s:
            total -= costs[first][1]
            first += 1
        most = max(most, total)
    return most


@asynccontextmanager
async def hosts() -> AsyncIterator[dict[str, Host]]:
    """Nine hosts with 18 sources that are to fare well, one that will hang, and one that will refuse."""
    async with AsyncExitStack() as stack:

        async def host(kind: str, names: list[str], budget: tuple[int, float], **switches: Any) -> Host:
            options = Options(records=RECORDS, seed=len(names) + ord(names[0][-1]))
            return Host(
                await stack.enter_async_context(serve(kind, options=options, **switches)), names, budget
            )

        def numbered(name: str, count: int) -> list[str]:
            return [f"{name}-{number}" for number in range(count)]

        limits = {"limit": DRUM[0], "limit_period_s": DRUM[1]}
        found = {
            "drum": await host("drum", numbered("drum", 6), DRUM, **limits),
            "close": await host(
                "close", numbered("close", 5), CLOSE, rate_limit=CLOSE[0], rate_window_s=CLOSE[1]
            ),
            "hangs": await host("drum", ["hangs"], DRUM, **limits),
            "refuses": await host("close", ["refuses"], CLOSE, rate_window_s=REFUSAL_S),
        }
        for name in numbered("pipedrive", 7):
            found[name] = await host("pipedrive", [name], PIPEDRIVE, burst=BURST, daily_tokens=30_000)
        yield found


def well(found: dict[str, Host]) -> list[Host]:
    """Those that go on."""
    return [each for name, each in found.items() if name not in ("hangs", "refuses")]


# --- what the log says ------------------------------------------------------------------------------


def swept(running: Running, names: list[str]) -> dict[tuple[str, str], list[float]]:
    """When each list of these sources was read to its end (Unix seconds)."""
    times: dict[tuple[str, str], list[float]] = {}
    for line in running.logged("source.swept", complete=True):
        if line["source"] in names:
            at = datetime.fromisoformat(line["time"]).timestamp()
            times.setdefault((line["source"], line["list"]), []).append(at)
    return times


async def turns(running: Running, names: list[str], lists: int, *, since: float) -> dict[Any, list[float]]:
    """Wait until each list was read often enough; the seconds between two readings of each since then."""

    def enough() -> dict[Any, list[float]] | None:
        times = {key: [at for at in each if at >= since] for key, each in swept(running, names).items()}
        done = len(times) == lists and all(len(each) > TURNS for each in times.values())
        return {key: [b - a for a, b in pairwise(each)] for key, each in times.items()} if done else None

    gaps: dict[Any, list[float]] = await wait_until(enough, f"{TURNS} sweeps of {lists} lists", PHASE_S)
    return gaps


def last(running: Running) -> float:
    """When the last line was logged."""
    return max(datetime.fromisoformat(line["time"]).timestamp() for line in running.logged("source.swept"))


# --- what happens -----------------------------------------------------------------------------------


def happen(sim: Any) -> None:
    """Each of its kind's transitions, of a record of its own."""
    orders = sim.orders
    match sim.kind:
        case "drum":
            first, second, third, *_ = [
                row.id for row in sim.world.rows.values() if row.kind == "opportunity"
            ]
            orders.win(first)
            orders.lose(second)
            orders.update(third, name="Otherwise")
            orders.create_opportunity(name="Another")
        case "close":
            active = [
                key
                for key, row in sim.world.rows.items()
                if sim.world.state(key).known["status_type"] == "active"
            ]
            orders.win(active[0])
            orders.lose(active[1])
            orders.update(active[2], note="Otherwise")
            orders.delete(active[3])
        case _:
            rows = [row for row in sim.world.rows.values() if row.kind == "deal"]
            open_ = [
                row.id for row in rows if row.values["status"] == "open" and not (row.archived or row.deleted)
            ]
            orders.win(open_[0])
            orders.lose(open_[1])
            orders.archive(open_[2])
            orders.create(title="Another")


async def told(redis: Any, name: str) -> Counter[tuple[str, str]]:
    """What was said of a source's records."""
    events = [loads(fields[b"event"]) for _, fields in await redis.xrange(Keys().events(name))]
    pairs = [(event["type"], event["subject"]) for event in events]
    return Counter(pair for pair in pairs if not pair[0].startswith("poller."))


@pytest.mark.timeout(300)
async def test_20_sources_of_three_kinds_in_one_process(tmp_path: Path) -> None:
    """0 requests over any limit; no source swept later because of another; each change told once to each."""
    async with hosts() as found:
        healthy = well(found)
        names = [name for each in healthy for name in each.names]
        sources = {name: given for each in found.values() for name, given in each.settings.items()}
        lists = sum(len(each.names) * (1 if each.sim.kind == "close" else 2) for each in healthy)
        assert (len(sources), len(names)) == (20, 18)
        async with home(tmp_path, sources=sources) as place:
            running = await place.run()
            await wait_until(lambda: len(swept(running, names)) == lists, "all baselines", PHASE_S)
            before = await turns(running, names, lists, since=last(running))

            starts = {id(each): each.sim.log.seq for each in healthy}
            found["hangs"].sim.set(faults=("hang",), fault_rate=1.0)
            found["refuses"].sim.set(rate_limit=0)
            began = last(running)
            for each in healthy:
                happen(each.sim)
            after = await turns(running, names, lists, since=began)

            redis = Redis.from_url(str(place.server_url()))
            for each in healthy:
                wanted = Counter(due(each.sim.log.since(starts[id(each)])))
                for name in each.names:

                    async def complete(name: str = name, wanted: Counter[Any] = wanted) -> bool:
                        return (await told(redis, name)) >= wanted

                    await wait_until(complete, f"every change of {name}", PHASE_S)
                    assert await told(redis, name) == wanted
            took_s = last(running) - began
            await redis.aclose()
            running.terminate()
            assert await running.end() == 0
        judge(found, before, after, took_s)


def judge(
    found: dict[str, Host],
    before: dict[Any, list[float]],
    after: dict[Any, list[float]],
    took_s: float,
) -> None:
    """Hold the request logs against the limits, and the pauses between sweeps against those from before."""
    for name, host in found.items():
        if name != "refuses":
            assert host.answers(429, 403) == 0, name
    for host in (found["drum"], found["close"]):
        assert host.most() <= host.budget[0]
    for host in well(found):
        if host.sim.kind == "pipedrive":
            charges = [(charge.at, charge.cost) for charge in host.sim.world.meter.charges]
            assert most_in(charges, PIPEDRIVE[1]) <= PIPEDRIVE[0]
            assert most_in([(at, 1) for at, _ in charges], BURST_S) <= BURST
    probes = found["refuses"].answers(429)
    assert 0 < probes <= math.ceil(took_s / REFUSAL_S) + 2
    late = {key: gaps for key, gaps in after.items() if max(gaps) > LONGEST_S}
    assert late == {}
    usual, now = by_source(before), by_source(after)
    for name, gaps in now.items():
        assert statistics.median(gaps) <= 1.25 * statistics.median(usual[name]) + SLACK_S, name
    sent = sum(len(list(host.sim.requests)) for host in found.values())
    sys.stdout.write(
        f"\n20 sources, {sent} requests, 0 over a limit, {probes} probes of the host that refuses\n"
        f"a sweep of the other 18 every {pauses(before)} s while all was well, then every {pauses(after)} s\n"
    )


def by_source(phase: dict[Any, list[float]]) -> dict[str, list[float]]:
    """The pauses between sweeps of a source, of all its lists: of one list alone there are but two."""
    found: dict[str, list[float]] = {}
    for (name, _), gaps in phase.items():
        found.setdefault(name, []).extend(gaps)
    return found


def pauses(phase: dict[Any, list[float]]) -> str:
    """The middle one and the longest."""
    every = [gap for gaps in phase.values() for gap in gaps]
    return f"{statistics.median(every):.2f} (at most {max(every):.2f})"
