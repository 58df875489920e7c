"""The streams of all sources as readers see them: the newest, those since a moment, and what comes next.

Each source is read on its own, so that it works on Redis Cluster too, where each lives in its own slot.
"""

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

from poller.errors import StoreUnavailable
from poller.model import Entry

from .connection import Connection, ended, translated
from .keys import Keys
from .letters import Position, before_ms, entries_of, place_of, position, rows_of

AT_ONCE = 200
BLOCK_S = 5.0
LOOK_S = 1.0
"""How often a follower looks for sources that are new, and for a server that went away."""

News: TypeAlias = "asyncio.Queue[Entry | Exception]"


class Streams:
    """Reading without a place of one's own. Every method raises StoreUnavailable or StoreRefused."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def sources(self) -> list[str]:
        """The names of all sources that ever were polled, sorted."""
        with translated():
            names: Any = await self._connection.commands.smembers(self._keys.sources())
        return sorted(name.decode() for name in names)

    async def start(self, *, ago_s: float = 0.0) -> str:
        """The place before everything that comes from now on, or came since so many seconds."""
        with translated():
            seconds, micros = await self._connection.commands.time()
        ms = int(seconds) * 1000 + int(micros) // 1000 - int(ago_s * 1000)
        return before_ms(ms)

    async def newest(self, source: str, *, upto: Position | None = None) -> list[Entry]:
        """The newest entries below `upto`, newest first, AT_ONCE at most; none are left at the end."""
        most = "+" if upto is None else f"({place_of(upto)}"
        with translated():
            rows = await self._connection.commands.xrevrange(
                self._keys.events(source), max=most, count=AT_ONCE
            )
        return list(entries_of(source, rows))

    async def since(self, source: str, *, after: str) -> AsyncGenerator[Entry, None]:
        """Every entry after a place, oldest first, up to the newest when it is reached."""
        while True:
            with translated():
                rows: Any = await self._connection.commands.xrange(
                    self._keys.events(source), min=f"({after}", count=AT_ONCE
                )
            for entry in entries_of(source, rows):
                yield entry
            if len(rows) < AT_ONCE:
                return
            after = rows[-1][0].decode()

    async def merged(self, sources: Iterable[str], *, after: str) -> AsyncGenerator[Entry, None]:
        """The entries of several sources after a place, in the order of their detection."""
        readers = {source: self.since(source, after=after) for source in sources}
        heap: list[tuple[Position, str, Entry]] = []

        async def refill(source: str) -> None:
            with suppress(StopAsyncIteration):
                entry = await anext(readers[source])
                heapq.heappush(heap, (position(entry.place), source, entry))

        for source in readers:
            await refill(source)
        while heap:
            _, source, entry = heapq.heappop(heap)
            yield entry
            await refill(source)

    @asynccontextmanager
    async def following(
        self, wanted: Iterable[str], *, places: Mapping[str, str], start: str
    ) -> AsyncIterator[News]:
        """A queue of what comes after `places` (else after `start`), of `wanted`, or of every source.

        Sources that appear later are followed too. Where Redis is away StoreUnavailable is put once, and
        reading goes on from where it was when Redis is back; any other fault that is put is the end.
        """
        news: News = asyncio.Queue(maxsize=AT_ONCE)
        readers: dict[str, asyncio.Task[None]] = {}

        def follow(name: str) -> None:
            if name not in readers:
                work = partial(self._follow, news, name, places.get(name, start))
                readers[name] = asyncio.create_task(_told(work, news))

        looking = asyncio.create_task(_told(partial(self._look, news, frozenset(wanted), follow), news))
        try:
            yield news
        finally:
            await ended({looking, *readers.values()})
            await ended(readers.values())  # what `_look` started while it was ending

    async def _look(self, news: News, wanted: frozenset[str], follow: Callable[[str], None]) -> None:
        """Start a reader for each source that is there or appears."""
        away = False
        while True:
            try:
                found = await self.sources()
            except StoreUnavailable as exc:
                if not away:
                    await news.put(exc)
                away = True
            else:
                away = False
                for name in wanted or found:
                    follow(name)
            await asyncio.sleep(LOOK_S)

    async def _follow(self, news: News, source: str, after: str) -> None:
        key = self._keys.events(source)
        while True:
            read = self._connection.blocking.xread({key: after}, count=AT_ONCE, block=int(BLOCK_S * 1000))
            try:
                reply: Any = await self._connection.wait(read, block_s=BLOCK_S)
            except StoreUnavailable:
                await asyncio.sleep(LOOK_S)  # `_look` tells of it
                continue
            for _, rows in reply.items() if isinstance(reply, dict) else reply or ():
                for row in rows_of(source, rows):
                    # Also past what is none of ours: else it is read again, at once, for ever.
                    after = row.place
                    if row.entry:
                        await news.put(row.entry)


async def _told(work: Callable[[], Awaitable[None]], news: News) -> None:
    """Let whoever listens know of a fault, instead of falling silent."""
    try:
        await work()
    except Exception as exc:  # noqa: BLE001 -- it is raised again by who reads the queue
        await news.put(exc)
