"""An account that lives, its poller in a process of its own, its receiver, and moments to strike at."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Home, Running, home
from receiver import Receiver, receiving
from tales import Tale, Verdict
from waiting import wait_until

from poller.simulators import Options, serve

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

    async def end(self) -> Verdict:
        """Wait until everything was delivered, stop in good order, judge."""
        verdict = await self.tale.verdict()
        ids = {event["id"] for event in verdict.events}
        await wait_until(lambda: self.receiver.counts.keys() >= ids, "every event at the receiver", 20)
        self.running.terminate()
        assert await self.running.end() == 0
        verdict.check(self.receiver)
        return verdict

    def told(self, verdict: Verdict) -> str:
        """What came of it, in figures."""
        return (
            f"{self.tale.transitions:,} transitions, {len(self.tale.due):,} events due, "
            f"{len(verdict.told):,} told, 0 lost, 0 twice; {self.receiver.repeats} sent again"
        )


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
