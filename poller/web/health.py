"""Whether this process is alive, and whether it is ready to work."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from poller.errors import StoreError
from poller.store.connection import Connection

from .context import WebContext

REDIS_S = 4.0
"""Within 5 s it must be said that Redis is away; the answer itself takes a moment."""
LOOK_S = 0.5
REMEMBERED = 20
NO_SOURCE = "no source is set up: run `poller init`, or set POLLER_DRUM_TOKEN"
SLOW_LOOP_S = 5.0
"""A loop that is later than this cannot keep a lease of 15 s."""


class LoopWatch:
    """How late the event loop is; the largest delay of the last ten seconds counts."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def lag_s(self) -> float:
        """In seconds."""
        return max(self._late, default=0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._late.append(max(0.0, loop.time() - due))


class Health:
    """The two probes; `stopping` says that the service was told to end."""

    def __init__(self, context: WebContext, watch: LoopWatch, *, stopping: Callable[[], bool]) -> None:
        self._context = context
        self._watch = watch
        self._stopping = stopping

    def alive(self) -> list[str]:
        """Why this process should be started anew; empty while it lives. Touches no dependency."""
        pulse = self._context.pulse()
        reasons = []
        if not pulse.ticking:
            reasons.append(f"the scheduler has not ticked for {pulse.silent_s:.0f} s")
        if self._watch.lag_s > SLOW_LOOP_S:
            reasons.append(f"the event loop is {self._watch.lag_s:.1f} s late: is the machine overloaded?")
        return reasons

    def notes(self) -> list[str]:
        """What the watchdog did since the start."""
        restarts = self._context.pulse().restarts
        return [f"the scheduler was silent and was started again, times: {restarts}"] if restarts else []

    async def ready(self) -> list[str]:
        """Why nothing should be expected of this process now; empty while all is well."""
        if self._stopping():
            return ["it was told to stop"]
        reasons = [*self.alive(), *self._context.pulse().reasons]
        if not self._context.sources:
            reasons.append(NO_SOURCE)
        return list(dict.fromkeys([*reasons, *await redis_trouble(self._context.connection)]))


async def redis_trouble(connection: Connection) -> Sequence[str]:
    """Why Redis cannot be used; empty while it answers."""
    try:
        async with asyncio.timeout(REDIS_S):
            await connection.ping()
    except TimeoutError:
        return [f"Redis gave no answer within {REDIS_S:g} s"]
    except StoreError as exc:
        return [str(exc)]
    return []
