"""The law of the budget: no window of any alignment ever holds more than the limit (contract §8)."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import time_machine
from fakeredis import FakeAsyncRedis, FakeServer, _helpers
from fakeredis._socket import _base
from fakeredis.commands_mixins import server_mixin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poller.store.budget import Budget, Class, Grant, Granted
from poller.store.connection import Connection
from poller.store.keys import Keys

START_MS = 1_795_000_000_000
SKEWS_S = (0.0, 3600.0, -90.0)
"""How far the clock of each process is ahead of the server's."""


@dataclass(frozen=True)
class Ask:
    """One wish of one process, and the fate of the requests that come of it, as parts of the deadline."""

    after_ms: int
    process: int
    cls: Class
    n: int
    cost: int
    deadline_ms: int
    arrives: float
    answered: float
    lost: bool
    """No answer: it is never settled, and may arrive as late as its deadline."""


asks = st.builds(
    Ask,
    after_ms=st.integers(0, 2000),
    process=st.integers(0, 2),
    cls=st.sampled_from(["sweep", "confirm", "detail"]),
    n=st.integers(1, 8),
    cost=st.sampled_from([1, 1, 1, 2, 5]),
    deadline_ms=st.integers(1, 3000),
    arrives=st.floats(0, 1),
    answered=st.floats(0, 1),
    lost=st.booleans(),
)


@dataclass
class World:
    """Three processes, one store, one host that writes down when each request arrived."""

    limit: int
    window_ms: int
    jumps: list[tuple[int, int]] = field(default_factory=list)
    """The store's clock is set: so many ms after the last time, by so many ms."""
    arrivals: list[float] = field(default_factory=list)
    _now: float = float(START_MS)
    _queue: list[tuple[float, int, tuple[object, ...]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def at(self, when: float, *what: object) -> None:
        heapq.heappush(self._queue, (when, next(self._order), what))

    async def live(self, wishes: list[Ask]) -> None:
        now = float(START_MS)
        for ask in wishes:
            now += ask.after_ms
            self.at(now, "ask", ask.process, ask, 5)
        set_at, ahead = float(START_MS), 0
        for after_ms, by_ms in self.jumps:
            set_at += after_ms
            self.at(set_at, "set", 0, by_ms)
            self.at(set_at, "name", 0)  # two at once might come to less than is noticed
        for process in range(3):
            self.at(START_MS - 1, "name", process)
        server = FakeServer()
        store = Connection(FakeAsyncRedis(server=server), FakeAsyncRedis(server=server))
        budgets = [self._budget(store, f"s{process}") for process in range(3)]
        with pytest.MonkeyPatch.context() as patched, time_machine.travel(0, tick=False) as clock:
            servers = SimpleNamespace(**vars(time))
            for module in (_base, _helpers, server_mixin):
                patched.setattr(module, "time", servers)
            while self._queue:
                when, _, (kind, process, *what) = heapq.heappop(self._queue)
                ahead += what[0] if kind == "set" else 0
                self._now = when
                servers.time = lambda at=when + ahead: at / 1000
                clock.move_to(when / 1000 + SKEWS_S[process])
                await self._happen(when, budgets[process], kind, *what)
                await self._charges(store)
        await store.close()

    async def _charges(self, store: Connection) -> None:
        """What is kept of all charges is what adding them up gives."""
        log, state = Keys().budget("h", "e"), Keys().blocked("h", "e")
        found: dict[bytes, int] = {}
        for member in await store.commands.zrange(log, 0, -1):
            _, _, cls, cost = member.split(b"/")
            found[cls] = found.get(cls, 0) + int(cost)
        words = (await store.commands.hget(state, "units") or b"").split()
        assert dict(zip(words[::2], map(int, words[1::2]), strict=True)) == found

    def _budget(self, store: Connection, source: str) -> Budget:
        window_s = self.window_ms / 1000
        return Budget(
            store,
            Keys(),
            host="h",
            egress="e",
            limit=self.limit,
            window_s=window_s,
            source=source,
            granted=Granted(clock=lambda: self._now / 1000),
        )

    async def _happen(self, now: float, budget: Budget, kind: str, *what) -> None:
        if kind == "ask":
            await self._ask(now, budget, *what)
        elif kind == "arrive":
            self.arrivals.append(now)
        elif kind == "name":
            await budget.name()
        elif kind == "answer":
            await budget.settle(*what)

    async def _ask(self, now: float, budget: Budget, ask: Ask, tries: int) -> None:
        cost = min(ask.cost, self.limit)
        reply = await budget.take(ask.cls, n=ask.n, cost=cost, deadline_s=ask.deadline_ms / 1000)
        if isinstance(reply, Grant):
            for index in range(len(reply)):
                self._send(now, reply, index, ask)
        elif tries:
            self.at(now + max(1, reply.ask_again_s * 1000), "ask", ask.process, ask, tries - 1)

    def _send(self, now: float, grant: Grant, index: int, ask: Ask) -> None:
        # The requests of one grant follow each other, the last one just before the deadline at worst.
        turn = (index + ask.arrives) / len(grant)
        arrives = now + turn * ask.deadline_ms
        for _ in range(min(ask.cost, self.limit)):
            self.at(arrives, "arrive", ask.process)
        if not ask.lost:
            answered = arrives + ask.answered * (now + ask.deadline_ms - arrives)
            self.at(answered, "answer", ask.process, grant, index)


def most_in_any_window(arrivals: list[float], window_ms: float) -> int:
    """The largest number of arrivals in any half-open window, at any alignment: a sliding server's view."""
    arrivals = sorted(arrivals)
    first, most = 0, 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - window_ms:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_in_aligned(arrivals: list[float], window_ms: float) -> int:
    """What a server with windows aligned to the epoch counts at most."""
    counts: dict[int, int] = {}
    for at in arrivals:
        counts[int(at // window_ms)] = counts.get(int(at // window_ms), 0) + 1
    return max(counts.values(), default=0)


def most_from_first_hit(arrivals: list[float], window_ms: float) -> int:
    """What a server whose window starts at the first request after the last one counts at most."""
    start, count, most = float("-inf"), 0, 0
    for at in sorted(arrivals):
        if at >= start + window_ms:
            start, count = at, 0
        count += 1
        most = max(most, count)
    return most


def check(limit: int, window_ms: int, wishes: list[Ask], jumps: list[tuple[int, int]]) -> None:
    world = World(limit, window_ms, jumps)
    asyncio.run(world.live(wishes))
    for count in (most_in_any_window, most_in_aligned, most_from_first_hit):
        assert count(world.arrivals, window_ms) <= limit


limits = st.integers(1, 12)
windows_ms = st.sampled_from([1000, 2500, 5000])
jumps = st.lists(
    st.tuples(st.integers(0, 6000), st.sampled_from([-3_600_000, -1500, -300, 2100, 4000, 3_600_000])),
    max_size=4,
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(limits, windows_ms, st.lists(asks, max_size=25), jumps)
def test_no_window_is_over_the_limit(
    limit: int, window_ms: int, wishes: list[Ask], jumps: list[tuple[int, int]]
) -> None:
    """Whatever processes with other clocks wish, no aligned, first-hit or sliding server counts more.

    Nor where the clock of the store is set meanwhile, back or forth.
    """
    check(limit, window_ms, wishes, jumps)


@pytest.mark.long
@pytest.mark.timeout(3600)
@thorough
@given(limits, windows_ms, st.lists(asks, max_size=25), jumps)
def test_no_window_is_over_the_limit_in_10000_schedules(
    limit: int, window_ms: int, wishes: list[Ask], jumps: list[tuple[int, int]]
) -> None:
    """The same, 10,000 times."""
    check(limit, window_ms, wishes, jumps)
