"""Holds one lease and runs the work that needs it, for as long as the service runs; never dies of a fault."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from poller.errors import Conflict, Fenced, PollerError, StoreError, StoreRefused
from poller.store.leases import Leases

LOOK_S = 0.25
"""How often a free lease is tried. A death is taken over within the lease and 1 s (contract §8): its
heartbeat has run out as its lease has, a beat (0.5 s) later that is seen, and this much later used."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Between two tries of a unit that fails: all is normal again within 10 s after Redis is."""
FINISH_S = 20.0
"""How long work may take to finish when its unit goes to another replica, and a delivery at the end of the
service, when its receiver is slow: less than the 25 s of contract §8."""
GIVE_BACK_S = 1.0
"""Redis that does not answer holds up no end: the lease runs out by itself."""

Work = Callable[[int, asyncio.Event], Awaitable[None]]
"""(fence, stop): works until stop is set, then returns."""

log = structlog.get_logger("poller.app")


@dataclass(kw_only=True)
class Worker:
    """One unit of work: a source to poll or an endpoint to serve."""

    name: str
    key: str
    leases: Leases
    work: Work
    mine: Callable[[], bool]
    """Whether this unit is this replica's share now."""
    renew_s: float
    stop_s: float = FINISH_S
    """How long work may take to finish when the service ends; then it is cut off, as by a kill."""
    holds: bool = False
    refused: str = ""
    """Why Redis will not have it worked on here, such as state of a newer poller; empty while it does."""
    _anew: asyncio.Event = field(default_factory=asyncio.Event)
    _worked_s: float = 0.0
    """How long it held the lease the last time."""

    async def run(self, stop: asyncio.Event) -> None:
        """Hold and work, lose and try again, until told to stop."""
        pause_s = LOOK_S
        while not stop.is_set():
            try:
                worked = await self._once(stop)
                self.refused = ""
                pause_s = SHORTEST_PAUSE_S if worked else LOOK_S
            except (Fenced, Conflict) as exc:
                log.info("lease.lost", unit=self.name, reason=str(exc))
                pause_s = LOOK_S
            except PollerError as exc:
                pause_s = self._after_fault(pause_s)
                self.refused = str(exc) if isinstance(exc, StoreRefused) else ""
                log.warning("unit.stopped", unit=self.name, reason=str(exc), again_in_s=pause_s)
            except Exception:
                pause_s = self._after_fault(pause_s)
                log.exception("unit.failed", unit=self.name, again_in_s=pause_s)
            await rest(stop, pause_s)

    def begin_anew(self) -> None:
        """Have the work finish and begin again from what is kept: what it planned holds no more."""
        self._anew.set()

    def _after_fault(self, last_s: float) -> float:
        """Seconds until the next try: twice the last, or the shortest where it has worked for longer."""
        if self._worked_s > last_s:
            return SHORTEST_PAUSE_S
        return min(last_s * 2, LONGEST_PAUSE_S)

    async def _once(self, stop: asyncio.Event) -> bool:
        """Work under the lease until it is lost, given away, or the service stops; False if not held."""
        self._worked_s = 0.0
        fence = await self.leases.acquire(self.key) if self.mine() else None
        if fence is None:
            return False
        self.holds = True
        taken_at = asyncio.get_running_loop().time()
        log.info("lease.taken", unit=self.name, fence=fence)
        try:
            await self._held(fence, stop)
        finally:
            self.holds = False
            self._worked_s = asyncio.get_running_loop().time() - taken_at
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(GIVE_BACK_S):
                    await self.leases.release(self.key, fence)
        return True

    async def _held(self, fence: int, stop: asyncio.Event) -> None:
        finish = asyncio.Event()
        work = asyncio.ensure_future(self.work(fence, finish))
        watch = asyncio.ensure_future(self._watch(fence, stop))
        told, anew = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._anew.wait())
        self._anew.clear()
        try:
            await asyncio.wait({work, watch, told, anew}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and not watch.result():
                msg = f"{self.name}: its lease was not renewed in time; another replica takes over"
                raise Fenced(msg)
            finish.set()
            await asyncio.wait({work, told}, timeout=FINISH_S, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({work}, timeout=self.stop_s if stop.is_set() else 0)
            if work.done():
                work.result()
        finally:
            await _cut_off(work, watch, told, anew)

    async def _watch(self, fence: int, stop: asyncio.Event) -> bool:
        """Renew until there is a reason to finish; False when the lease is another's."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while not stop.is_set() and self.mine():
            await rest(stop, self.renew_s)
            try:
                if not await self.leases.renew(self.key, fence):
                    return False
                renewed, self.refused = loop.time(), ""  # it has worked for as long as that
            except StoreError:
                # Redis is away: nobody else can take the lease either, and no commit gets through.
                log.warning("lease.unrenewed", unit=self.name, for_s=round(loop.time() - renewed, 1))
        return True


async def _cut_off(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel, and wait for what they do last; one that hangs then ends with the process."""
    for task in tasks:
        task.cancel()
    _, left = await asyncio.wait(tasks, timeout=GIVE_BACK_S)
    for task in left:
        log.warning("unit.hangs", what=str(task))
    await asyncio.gather(*(task for task in tasks if task.done()), return_exceptions=True)


async def rest(stop: asyncio.Event, seconds: float) -> None:
    """Wait so many seconds, or until told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
