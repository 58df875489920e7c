"""What is told of each attempt: one line of the log, one observation, one entry of the last 1,000."""

from collections import deque
from collections.abc import Callable

import structlog

from poller.model import rfc3339
from poller.store.letters import Attempt
from poller.store.queue import ATTEMPTS_KEPT, Queue

from .lanes import Item
from .outbound import Answer
from .settings import EndpointSettings


class Journal:
    """The journal of one endpoint. It holds neither secrets nor URLs."""

    def __init__(
        self, *, settings: EndpointSettings, queue: Queue, on_attempt: Callable[[str, Attempt], None]
    ) -> None:
        self._name, self._queue, self._on_attempt = settings.name, queue, on_attempt
        self._log = structlog.get_logger().bind(endpoint=settings.name, host=settings.host)
        self._unwritten: deque[Attempt] = deque(maxlen=ATTEMPTS_KEPT)

    def note(
        self, item: Item, answer: Answer, *, outcome: str, attempt: int, now: float, due: float | None
    ) -> None:
        """Tell of one attempt; `due` is the next one's Unix time."""
        meta, ms = item.meta, round(answer.ms, 1)
        told = Attempt(
            at=now,
            source=item.source,
            place=item.place,
            event=meta.id,
            type=meta.type,
            subject=meta.subject,
            attempt=attempt,
            outcome=outcome,
            status=answer.status,
            fault=answer.fault,
            detail=answer.detail,
            ms=ms,
            excerpt=answer.excerpt.decode("utf-8", "replace"),
            next=due,
        )
        self._unwritten.append(told)
        self._log.info(
            "delivery.attempted",
            source=item.source,
            event_id=meta.id,
            type=meta.type,
            attempt=attempt,
            outcome=outcome,
            status=answer.status,
            fault=answer.fault or None,
            ms=ms,
            next=due and rfc3339(due),
        )
        self._on_attempt(self._name, told)

    async def write(self) -> None:
        """Keep what was told since the last time.

        Raises:
            StoreUnavailable, StoreRefused: it stays for the next time.
        """
        batch = list(self._unwritten)
        if not batch:
            return
        await self._queue.log(batch)
        while self._unwritten and self._unwritten[0].at <= batch[-1].at:
            if self._unwritten.popleft() is batch[-1]:
                return
