"""The live feed: one follower of all streams for everybody who listens, and server-sent events for each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from poller.errors import StoreError, StoreUnavailable
from poller.model import Entry
from poller.store.connection import ended
from poller.store.letters import place_of, position
from poller.store.streams import Streams

from .render import render
from .search import Wanted, cursor_at, cursor_of

MOST_LISTENERS = 100
BEHIND = 200
"""Events that a listener may be behind; then it is hung up on, and comes back by itself."""
QUIET_S = 15.0
MOST_MISSED = 200
"""Events that somebody who comes back is told of."""

log = structlog.get_logger("poller.web")


class Feed:
    """Follows the streams while somebody listens."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._listeners: set[asyncio.Queue[Entry | None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether nobody else can listen."""
        return self._ended or len(self._listeners) >= MOST_LISTENERS

    def end(self) -> None:
        """Hang up on everybody: the service ends."""
        self._ended = True
        for queue in self._listeners:
            _hang_up(queue)

    async def close(self) -> None:
        """Follow no more."""
        if self._following is not None:
            following, self._following = self._following, None
            await ended([following])

    async def listen(self, wanted: Wanted, *, after: str) -> AsyncIterator[str]:
        """Server-sent events, until the listener goes; `after` is the cursor of the last one it has."""
        queue: asyncio.Queue[Entry | None] = asyncio.Queue(maxsize=BEHIND)
        self._listeners.add(queue)
        try:
            start = await self._streams.start()
            if self._following is None or self._following.done():
                self._following = asyncio.create_task(self._follow(start))
            yield "retry: 2000\n\n"
            last = cursor_at(after)[0] if after else position(start)
            async for entry in self._missed(last, wanted):
                last = max(last, position(entry.place))
                yield _told(entry)
            while (told := await self._next(queue, wanted, last)) is not None:
                yield told
        finally:
            self._listeners.discard(queue)
            if not self._listeners:
                await self.close()

    async def _missed(self, last: tuple[int, int], wanted: Wanted) -> AsyncIterator[Entry]:
        """What came before the follower did, oldest first."""
        sent = 0
        names = await self._streams.sources()
        async with aclosing(self._streams.merged(names, after=place_of(last))) as entries:
            async for entry in entries:
                if wanted(entry):
                    yield entry
                    sent += 1
                if sent == MOST_MISSED:
                    return

    async def _next(
        self, queue: "asyncio.Queue[Entry | None]", wanted: Wanted, last: tuple[int, int]
    ) -> str | None:
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    entry = await queue.get()
            except TimeoutError:
                return ": still here\n\n"
            if entry is None:
                return None
            if wanted(entry) and position(entry.place) > last:
                return _told(entry)

    async def _follow(self, start: str) -> None:
        try:
            async with self._streams.following((), places={}, start=start) as news:
                while True:
                    match await news.get():
                        case Entry() as entry:
                            self._spread(entry)
                        case StoreUnavailable() as fault:
                            log.warning("feed.interrupted", reason=str(fault))
                        case Exception() as fault:
                            raise fault
        except StoreError as exc:
            log.warning("feed.ended", reason=str(exc))
        finally:
            # Nothing more is read: who still listened would hear nothing, and not know it.
            for queue in self._listeners:
                _hang_up(queue)

    def _spread(self, entry: Entry) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(entry)
            except asyncio.QueueFull:
                _hang_up(queue)


def _hang_up(queue: "asyncio.Queue[Entry | None]") -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)


def _told(entry: Entry) -> str:
    """One event as a row of the table, in the form of server-sent events."""
    lines = render("row.html", entry=entry, fresh=True).strip().splitlines()
    data = "\n".join(f"data: {line.strip()}" for line in lines)
    return f"id: {cursor_of(entry)}\n{data}\n\n"
