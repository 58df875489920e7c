"""APScheduler, which only says "due", and the watchdog beside it.

An exception in a trigger stops APScheduler 3.11 without a word (house.md), so a heartbeat job proves that
it ticks, and where two beats are missing the scheduler is made anew. So it is where the clock was set: by
the old one the next interval could be an hour away, or never.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

BEAT_S = 1.0
SILENCE_S = 2 * BEAT_S + 1.0
JUMP_S = 5.0
"""A clock that is this far from where it was a moment ago has been set."""

log = structlog.get_logger("poller.app")


class Scheduler:
    """Calls each source's `due` at its interval."""

    def __init__(
        self,
        jobs: Mapping[str, tuple[float, Callable[[], Any]]],
        *,
        jumped: Callable[[], None] = lambda: None,
    ) -> None:
        """`jumped` hears when the clock was set: who plans by it must begin anew."""
        self._jobs = jobs
        self._jumped = jumped
        self._ahead_s = time.time() - time.monotonic()
        self._scheduler: Any = None
        self._beat_at = time.monotonic()
        self.restarts = 0
        """Of a scheduler that was silent."""
        self.jumps = 0
        """How often the clock was set."""

    @property
    def silent_s(self) -> float:
        """Seconds since the scheduler last ticked."""
        return time.monotonic() - self._beat_at

    @property
    def started(self) -> bool:
        """Whether it was ever asked to tick; before that its silence means nothing."""
        return self._scheduler is not None

    @property
    def ticking(self) -> bool:
        """Whether the scheduler has ticked lately."""
        return self.silent_s < SILENCE_S

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until told to stop."""
        self._start()
        try:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(BEAT_S):
                        await stop.wait()
                except TimeoutError:
                    self._watch()
        finally:
            self._stop()
            await asyncio.sleep(0)  # APScheduler's shutdown runs through call_soon

    def _watch(self) -> None:
        ahead_s = time.time() - time.monotonic()
        jump_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(jump_s) >= JUMP_S:
            log.warning("clock.jumped", by_s=round(jump_s, 1))
            self.jumps += 1
            self._again()
            self._jumped()
        elif not self.ticking:
            log.error("scheduler.silent", for_s=round(self.silent_s, 1), restarts=self.restarts + 1)
            self.restarts += 1
            self._again()

    def _again(self) -> None:
        self._stop()
        self._start()
        for _, due in self._jobs.values():
            due()

    def _start(self) -> None:
        self._beat_at = time.monotonic()
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._scheduler = AsyncIOScheduler(job_defaults=defaults, timezone=UTC)
        self._scheduler.add_job(self._beat, "interval", seconds=BEAT_S)
        for name, (every_s, due) in self._jobs.items():
            self._scheduler.add_job(
                partial(_never_raising, due, name),
                "interval",
                seconds=every_s,
                id=name,
                next_run_time=datetime.now(UTC),
            )
        self._scheduler.start()

    def _stop(self) -> None:
        if self._scheduler is not None and self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _beat(self) -> None:
        self._beat_at = time.monotonic()


async def _never_raising(due: Callable[[], Any], name: str) -> None:
    """Call it in the loop: what is no coroutine APScheduler runs in a thread, where no Event may be set."""
    try:
        due()
    except Exception:
        log.exception("job.failed", job=name)
