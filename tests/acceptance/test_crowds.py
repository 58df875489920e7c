"""Many sources and many endpoints in one process: what hangs, dies or is cancelled holds nobody else up."""

import asyncio
import random
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hookside import SECRET
from processes import inside
from waiting import wait_until
from watching import FreeTicket
from website import event

from poller.deliver.signing import encode_secret
from poller.errors import UpstreamError
from poller.model import fields_of
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.poll import Swept
from poller.watch.sources import SOURCES
from poller.watch.upstream import REQUEST_TIMEOUT_S, Upstream

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import soak

pytestmark = pytest.mark.full

EVERY_S = 5.0
CANCELLED, AT_ONCE = 5_000, 20
ENDPOINTS, EVENTS = 100, 20
CONCURRENCY = 32
"""Connections of the soak's endpoint: so many tasks and descriptors come and go."""
MORE_MB = 10.0
BUSY_S = 2.0
"""What a machine that others use too may add: here a hundred sources and both CRMs share one process."""
Figures = Callable[..., None]


def p99(values: list[float]) -> float:
    """All but the hundredth part are below."""
    return sorted(values)[int(len(values) * 0.99) - 1]


@pytest.mark.fault(7)
@pytest.mark.timeout(600)
async def test_half_of_the_sources_hang(redis_url: str, figures: Figures) -> None:
    """Fifty CRMs that take requests and never answer: the other fifty are asked as ever, the hung give up."""
    starts: dict[tuple[str, str], list[float]] = {}
    hung: list[float] = []

    def heard(name: str, told: Swept) -> None:
        if told.complete:
            starts.setdefault((name, told.kind), []).append(told.started)
        else:
            hung.append(told.ended - told.started)

    def late() -> list[float]:
        """How much later than due each sweep began, from the second of each list on; from here on anew."""
        times = [each[1:] for each in starts.values()]
        starts.clear()
        return [b - a - EVERY_S for each in times for a, b in pairwise(each)]

    plain = {"kind": "drum", "every": f"{EVERY_S:g}s", "budget": "100000/5m", "details": False}
    async with serve("drum", options=Options(seed=1)) as good, serve("drum", options=Options(seed=2)) as bad:
        sources = {
            f"{name}-{at}": {**plain, "token": sim.token, "base_url": sim.url}
            for name, sim in (("well", good), ("ill", bad))
            for at in range(50)
        }
        async with inside(redis_url, sources=sources, swept=heard):
            await wait_until(lambda: _swept(starts, 200, times=2), "the crowd at the start to pass", 150)
            starts.clear()
            await wait_until(lambda: _swept(starts, 200, times=3), "every list three times", 150)
            usual = p99(late())
            bad.set(fault_rate=1.0, faults=("hang",))
            await wait_until(lambda: len(hung) >= 50, "every hung source to give up", 4 * REQUEST_TIMEOUT_S)
            assert _swept(starts, 100, times=3)
            now = p99(late())
    off = statistics.median(abs(each - REQUEST_TIMEOUT_S) for each in hung)
    figures(
        f"the others {now:.2f} s late (p99; {usual:.2f} s when none hangs), the hung end {off:.2f} s from "
        f"their 30 s",
        rounds=50,
    )
    assert now < 1.0 + usual + BUSY_S
    assert off < 0.5 + usual + 0.5


def _swept(starts: Mapping[tuple[str, str], list[float]], lists: int, *, times: int) -> bool:
    return sum(len(each) >= times for each in starts.values()) >= lists


@pytest.mark.fault(8)
async def test_requests_cancelled_at_any_moment(figures: Figures) -> None:
    """After thousands of cancelled requests the pool serves as before, and no descriptor is left open."""
    chance = random.Random(6)
    async with serve("drum", options=Options(records=20, seed=4, keep=100)) as sim:
        upstream = Upstream(base_url=sim.url, auth=SOURCES["drum"].auth(sim.token))

        async def ask() -> int:
            return (await upstream.get("/api/v1/opportunities", ticket=FreeTicket())).status

        async def cancelled() -> None:
            for _ in range(CANCELLED // AT_ONCE):
                try:
                    async with asyncio.timeout(chance.uniform(0, 0.02)):
                        await ask()
                except (TimeoutError, UpstreamError):
                    continue

        assert [await ask() for _ in range(5)] == [200] * 5
        before = _descriptors()
        await asyncio.gather(*(cancelled() for _ in range(AT_ONCE)))
        after = [await ask() for _ in range(100)]
        await wait_until(lambda: _descriptors() <= before + 6, "closed connections to go", 10)
        more = _descriptors() - before
        await upstream.close()
    figures(
        f"{after.count(200)} of the next 100 succeed, descriptors {more:+d} (4 connections)", rounds=CANCELLED
    )
    assert after == [200] * 100


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@dataclass
class Crowd:
    """Receivers of every kind on one port, and when each event came to which."""

    url: str = ""
    came: dict[tuple[str, str], float] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """204, but for those that are ill."""
        await request.read()
        name = request.match_info["name"]
        if name == "slow":
            await self.released.wait()
        if name == "failing":
            return web.Response(status=500)
        if name == "resetting" and request.transport is not None:
            request.transport.abort()
        self.came.setdefault((name, request.headers["webhook-id"]), time.monotonic())
        return web.Response(status=204)


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    """Have them while the block runs."""
    made, app = Crowd(), web.Application()
    app.router.add_post("/{name}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.released.set()
        await runner.cleanup()


@pytest.mark.fault(18)
@pytest.mark.timeout(300)
async def test_one_endpoint_of_a_hundred_is_ill(redis_url: str, figures: Figures) -> None:
    """Dead, slow, failing or resetting: the others get what is theirs as soon as with all well."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/dead"
        took = {}
        for ill in ("well", "dead", "slow", "failing", "resetting"):
            took[ill] = await _delays(redis_url, ill, dead)
    more = {name: each - took["well"] for name, each in took.items() if name != "well"}
    told = ", ".join(f"{name} {each:+.2f} s" for name, each in more.items())
    figures(f"p99 {took['well']:.2f} s with all well; one {told}", rounds=ENDPOINTS * EVENTS)
    assert max(more.values()) < 1.0 + BUSY_S


async def _delays(url: str, ill: str, dead: str) -> float:
    """How long it takes until the well have an event (p99, in seconds)."""
    hook = {"secrets": [encode_secret(SECRET)], "from": "oldest", "allow_private": ["127.0.0.0/8"]}
    connection, keys = Connection.open(url), Keys(f"poller-{ill}")
    async with crowd() as receivers:
        urls = {f"well-{at}": f"{receivers.url}/well-{at}" for at in range(ENDPOINTS - 1)}
        urls["ill"] = dead if ill == "dead" else f"{receivers.url}/{ill}"
        webhooks = {name: {**hook, "url": each} for name, each in urls.items()}
        acme = {"kind": "drum", "token": "t", "base_url": "http://127.0.0.1:9"}
        redis: Any = connection.commands
        async with inside(url, redis={"prefix": keys.prefix}, sources={"acme": acme}, webhooks=webhooks):
            delays: list[float] = []
            for number in range(EVENTS + 1):
                made = event(number)
                sent = time.monotonic()
                await redis.xadd(keys.events("acme"), dict(fields_of(made)))
                wanted = {(name, made.id) for name in urls if name != "ill"}
                await wait_until(lambda wanted=wanted: wanted <= receivers.came.keys(), "all of them", 60)
                if number:  # the first waits for the start
                    delays += [receivers.came[each] - sent for each in wanted]
            receivers.released.set()
    await connection.close()
    return p99(delays)


@pytest.mark.fault(21)
@pytest.mark.timeout(3600)
def test_a_soak_leaves_memory_tasks_and_descriptors_flat(
    pytestconfig: pytest.Config, figures: Figures
) -> None:
    """Sweep after sweep, event after event: nothing is kept. `tests/bench/soak.py` has the full form."""
    long = pytestconfig.getoption("--long")
    told = soak.run(sweeps=10_000 if long else 400, events=100_000 if long else 2_000, rate=200)
    figures(soak.words(told), rounds=told.sweeps)
    (fewest, most), (least, largest) = told.spread("tasks"), told.spread("descriptors")
    assert most - fewest <= 2 * CONCURRENCY
    assert largest - least <= CONCURRENCY
    assert told.warm[-1].rss_mb - told.warm[0].rss_mb < MORE_MB
    assert not long or told.slope_mb < 1.0
