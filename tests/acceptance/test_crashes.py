"""kill -9 at random moments: nothing lost, nothing twice in the stream, one webhook-id for every repeat."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faultproxy import FaultProxy, fault_proxy
from processes import Home, Running, home
from realserver import RealServer
from receiver import Receiver, receiving
from tales import Tale, show
from waiting import wait_until

from poller.simulators import Options, serve

pytestmark = pytest.mark.full

QUICK, LONG = 50, 200
AT_ONCE, BLOWS_A_WINDOW = 20, 4
LATEST_ANSWER = 30
"""A process is killed after one of its first thirty answers …"""
LATEST_S = 0.03
"""… at once or up to this much later, when it commits what it was told."""


class Moments:
    """Random moments of a process's work, by what it asks of the simulator."""

    def __init__(self, sim: Any, *, seed: int) -> None:
        self._chance = random.Random(seed)
        self._left = 0
        self._struck = asyncio.Event()
        self._blow: Callable[[], None] = lambda: None
        self._sim = sim
        self.mid_request = 0
        sim.between(before=self._asked, after=self._answered)

    async def strike(self, blow: Callable[[], None]) -> None:
        """Do it after some more requests: in the midst of one, or when its answer is being committed."""
        self._blow, self._left = blow, self._chance.randint(1, 2 * LATEST_ANSWER)
        self._struck.clear()
        async with asyncio.timeout(30):
            await self._struck.wait()

    async def _asked(self, _: Any) -> None:
        self._count()

    async def _answered(self, _: Any) -> None:
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            late_s = self._chance.uniform(0, LATEST_S)
            if self._chance.random() < 0.5:
                self._strike()
            else:
                asyncio.get_running_loop().call_later(late_s, self._strike)

    def _strike(self) -> None:
        self.mid_request += self._sim.requests[-1].end == 0
        self._blow()
        self._struck.set()


@dataclass
class Stage:
    """One account, its poller, its receiver, and the moments at which something happens to them."""

    sim: Any
    place: Home
    receiver: Receiver
    tale: Tale
    moments: Moments
    running: Running
    blows: int = 0

    async def restart(self) -> None:
        """See the process dead, and start the next."""
        await self.running.end()
        self.running = await self.place.run()

    async def end(self) -> None:
        """Wait until everything was delivered, stop in good order, judge, and show the table."""
        verdict = await self.tale.verdict()
        ids = {event["id"] for event in verdict.events}
        await wait_until(lambda: self.receiver.counts.keys() >= ids, "every event at the receiver", 20)
        self.running.terminate()
        assert await self.running.end() == 0
        head = ("blows", "mid-request", "transitions", "due", "told", "delivered", "repeats")
        told, got = len(verdict.told), len(self.receiver.counts)
        row = (self.tale.transitions, len(self.tale.due), told, got, self.receiver.repeats)
        show(head, (self.blows, self.moments.mid_request, *row))
        verdict.check(self.receiver)


@asynccontextmanager
async def staged(folder: Path, *, redis_url: str = "", ours: str = "", seed: int = 3) -> AsyncIterator[Stage]:
    """A life that has begun, watched by a process; on an external Redis where one is named.

    `ours` is where the test reads that Redis, `redis_url` where the process does.
    """
    async with serve("drum", options=Options(records=60, seed=7)) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token}
        redis = {"url": redis_url} if redis_url else {}
        async with home(folder, sources={"acme": acme}, receiver=receiver.url, redis=redis) as place:
            running = await place.run()
            tale = Tale(sim, place, url=ours)
            await tale.baseline()
            yield Stage(sim, place, receiver, tale, Moments(sim, seed=seed), running)


@pytest.mark.timeout(1800)
async def test_kill_9_at_random_moments(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The process dies at any moment of its work and is started again on the same directory: all is well."""
    most = LONG if pytestconfig.getoption("--long") else QUICK
    async with staged(tmp_path) as stage:
        while stage.blows < most:
            window = stage.tale.live(AT_ONCE)
            for _ in range(BLOWS_A_WINDOW):
                await stage.moments.strike(stage.running.kill)
                await stage.restart()
                stage.blows += 1
            await stage.tale.settle(window)
        await stage.end()


@pytest.mark.timeout(1800)
async def test_kill_9_of_the_server_too(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The server dies with its poller or without it: what its file lost is found again, under the same id."""
    most = 40 if pytestconfig.getoption("--long") else 6
    async with staged(tmp_path, seed=4) as stage:
        while stage.blows < most:
            window = stage.tale.live(AT_ONCE)
            await stage.moments.strike(stage.place.kill_server)
            if stage.blows % 2:
                stage.running.kill()
                await stage.restart()
            stage.blows += 1
            stage.tale.forget()
            await stage.tale.settle(window)
        await stage.end()


@pytest.mark.timeout(1800)
async def test_lost_replies_of_redis(
    tmp_path: Path, real_server: RealServer, redis_url: str, pytestconfig: pytest.Config
) -> None:
    """Redis does what it was told and its reply is lost: nothing is done twice, and nothing stays open."""
    most = 1_000 if pytestconfig.getoption("--long") else 12
    async with (
        fault_proxy(path=real_server.socket) as proxy,
        staged(tmp_path, redis_url=proxy.url, ours=redis_url, seed=5) as stage,
    ):
        while proxy.dropped < most:
            window = stage.tale.live(AT_ONCE // 2)
            await stage.moments.strike(partial(_drop, proxy))
            await stage.tale.settle(window)
        stage.blows = proxy.dropped
        await stage.end()


def _drop(proxy: FaultProxy) -> None:
    proxy.drop_replies += 1
