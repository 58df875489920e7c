"""Settling attempts with Redis, for as long as it takes: in batches, in order, each of them once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from poller.errors import StoreError
from poller.store.queue import Outcome, Queue

from .lanes import Lane

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 15.0

T = TypeVar("T")


class Patience:
    """Tries again while Redis does not answer: after 0.1 s, doubling to 15 s, for ever."""

    def __init__(
        self,
        *,
        endpoint: str,
        chance: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._log = structlog.get_logger().bind(endpoint=endpoint)
        self._chance, self._sleep = chance, sleep
        self._failed = 0

    async def keep(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer. Fenced and everything that is not Redis's fault goes through."""
        while True:
            try:
                answer = await ask()
            except StoreError as exc:
                await self.rest(exc)
            else:
                self.rested()
                return answer

    async def rest(self, exc: StoreError) -> None:
        """Wait before the next try."""
        pause = min(FIRST_PAUSE_S * 2.0 ** min(self._failed, 12), LONGEST_PAUSE_S)
        if not self._failed:
            self._log.warning("store.unavailable", reason=str(exc))
        self._failed += 1
        await self._sleep(pause * (1 - 0.2 * self._chance()))

    def rested(self) -> None:
        """Note an answer."""
        if self._failed:
            self._log.info("store.back", tries=self._failed)
        self._failed = 0


class Settler:
    """Settles what becomes of the events of one lane. While one script runs, the next batch gathers."""

    def __init__(self, queue: Queue, lane: Lane, *, patience: Patience, stamp: str) -> None:
        self.lane = lane
        self._queue = queue
        self._patience = patience
        self._stamp = stamp
        self._batches = 0
        self._gathered: list[tuple[Sequence[Outcome], asyncio.Future[None]]] = []
        self._news = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """What to add to the counters of the place with the next batch."""

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Settle together, and return when Redis has it.

        Raises:
            Fenced: a newer holder was there. Conflict: Redis lost the settlement before. Nothing was written.
        """
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered.append((outcomes, settled))
        self._news.set()
        await settled

    async def flush(self) -> None:
        """Note where the lane stands if it has moved without anything to settle."""
        if self.counts or self.lane.place() != self.lane.kept:
            await self.settle(())

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            Fenced: as `settle`.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            while self._gathered:
                batch, self._gathered = self._gathered, []
                await self._write(batch)

    async def _write(self, batch: Sequence[tuple[Sequence[Outcome], "asyncio.Future[None]"]]) -> None:
        place, counts, self.counts = self.lane.place(), self.counts, Counter()
        outcomes = [outcome for each, _ in batch for outcome in each]
        self._batches += 1
        name = f"{self._stamp}.{self._batches}"
        try:
            await self._patience.keep(
                lambda: self._queue.settle(
                    self.lane.source, batch=name, place=place, counts=counts, outcomes=outcomes
                )
            )
        except BaseException as exc:
            _fail(batch, exc)
            raise
        self.lane.kept = place
        for _, settled in batch:
            if not settled.done():
                settled.set_result(None)


def _fail(batch: Sequence[tuple[Sequence[Outcome], "asyncio.Future[None]"]], exc: BaseException) -> None:
    for _, settled in batch:
        if isinstance(exc, asyncio.CancelledError):
            settled.cancel()
        elif not settled.done():
            settled.set_exception(exc)
            settled.exception()  # whoever waits gets it; one who no longer does must not be warned of
