"""`subscribe`: the events of all sources, as a group of consumers, each handled to its end or handed on."""

import asyncio
import itertools
import os
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from poller.errors import StoreError, StoreUnavailable
from poller.model import CloudEvent, Entry, loads
from poller.store.connection import Connection
from poller.store.groups import Group
from poller.store.keys import Keys
from poller.store.known_sources import KnownSources
from poller.store.streams import Streams
from poller.watch.sources import SOURCES

AT_ONCE = 256
"""Entries that are read ahead of the loop; what is not reached goes to another consumer after `idle_s`."""
ACK_AT_MOST = 64
"""Acknowledged together where the loop is fast; a crash repeats at most so many, under the same ids."""
ACK_AFTER_S = 0.5
"""… and none that is done waits longer than this while the loop goes on."""
BLOCK_S = 5.0
LOOK_S = 2.0
"""How often new sources, and what dead consumers left, are looked for."""
PAUSES_S = (0.1, 0.5, 2.0, 5.0, 15.0)

ResultT = TypeVar("ResultT")

_MODELS: Mapping[str, type[BaseModel]] = {
    kind.type_prefix: kind.model for made in SOURCES.values() for kind in made.kinds.values()
}


class Message:
    """One event of the stream. What costs time is made when it is asked for, and once."""

    __slots__ = ("_entry", "_event", "_json")

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._json: dict[str, Any] | None = None
        self._event: CloudEvent[Any] | None = None

    def __repr__(self) -> str:
        return f"Message({self.type} of {self.subject}, {self.id}, source {self.source})"

    @property
    def id(self) -> str:
        """The event's id: the same whenever the same change is told, never used twice."""
        return self._entry.event.id

    @property
    def type(self) -> str:
        """E.g. `drum.opportunity.won`."""
        return self._entry.event.type

    @property
    def subject(self) -> str:
        """E.g. `opportunity/101`."""
        return self._entry.event.subject

    @property
    def source(self) -> str:
        """The source's name in the settings."""
        return self._entry.source

    @property
    def body(self) -> bytes:
        """The CloudEvent as JSON."""
        return self._entry.event.body

    @property
    def json(self) -> dict[str, Any]:
        """The CloudEvent decoded; numbers with places are Decimal."""
        if self._json is None:
            self._json = loads(self.body)
        return self._json

    @property
    def event(self) -> CloudEvent[Any]:
        """The CloudEvent typed: `event.data.object` is the record's model where its type is known."""
        if self._event is None:
            self._event = _typed(self.type.rpartition(".")[0]).model_validate(self.json)
        return self._event


@lru_cache(maxsize=100)
def _typed(prefix: str) -> type[CloudEvent[Any]]:
    model: Any = _MODELS.get(prefix, dict[str, Any])
    return CloudEvent[model]


async def subscribe(
    redis_url: str,
    *,
    group: str,
    types: Iterable[str] = ("*",),
    sources: Iterable[str] = ("*",),
    start: Literal["now", "oldest"] = "now",
    prefix: str = "poller",
    idle_s: float = 60.0,
    tries: int = 5,
) -> AsyncGenerator[Message, None]:
    """Give the events of all sources, those of sources that appear later too.

    An event is acknowledged when the body of the loop is through with it. Where the body raises, or the
    process dies, the event is handed out again, to any consumer of the group, after `idle_s` seconds; after
    `tries` times it goes to the group's own dead letters (`PREFIX:{SOURCE}:events:dead:GROUP`). A group
    that is new begins now, or with the `oldest` event still kept; a source that appears after it did, even
    while nobody listened, with its first. Events of one source come in order, but for those that are handed
    out again. While Redis is away it waits.

        async for message in subscribe("redis://127.0.0.1:6379", group="billing", types=["*.won"]):
            await invoice(message.event.data.deal)

    Raises:
        StoreRefused: the server answers, but not as Redis 7.0 or newer does.
    """
    async with _running(redis_url, group=group, prefix=prefix, start=start, idle_s=idle_s) as reader:
        wanted, names = _wanted(tuple(types)), tuple(sources)
        async with aclosing(reader.batches(names)) as batches:
            async for batch, left in batches:
                for entry in batch:
                    if left and await reader.hopeless(entry, tries):
                        continue
                    if wanted(entry.event.type):
                        yield Message(entry)
                    if reader.done(entry):
                        await reader.acknowledge()


def _wanted(globs: tuple[str, ...]) -> Callable[[str], bool]:
    @lru_cache(maxsize=1000)
    def wanted(type_: str) -> bool:
        return any(fnmatchcase(type_, glob) for glob in globs)

    return wanted


class _Reader:
    """Reads every source ahead of the loop, keeps what is at hand its own, acknowledges in small lots."""

    def __init__(
        self, group: Group, streams: Streams, known: KnownSources, *, start: str, idle_s: float
    ) -> None:
        self._group = group
        self._streams = streams
        self._kept = known
        self._start = start
        self._idle_s = idle_s
        self._queue: asyncio.Queue[tuple[list[Entry], bool] | Exception] = asyncio.Queue(maxsize=1)
        self._at_hand: dict[str, dict[str, None]] = {}
        self._tried: set[tuple[str, str]] = set()
        """What was left before and counted as tried: to be forgotten when it is done."""
        self._known: set[str] = set()
        """The sources that the group knows; empty while it is not known whether it is new."""
        self._finished: defaultdict[str, list[str]] = defaultdict(list)
        self._count = 0
        self._since = 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def batches(self, names: tuple[str, ...]) -> AsyncGenerator[tuple[list[Entry], bool], None]:
        """What was read, source by source; True: a consumer that is gone had it before."""
        self._tasks[""] = asyncio.create_task(self._guarded(self._look(names)))
        self._tasks["."] = asyncio.create_task(self._guarded(self._touch()))
        while True:
            if self._queue.empty():
                await self.acknowledge()
            found = await self._queue.get()
            if isinstance(found, Exception):
                raise found
            yield found

    async def hopeless(self, entry: Entry, tries: int) -> bool:
        """Whether an entry that was left before has had its tries: then it is buried."""
        if await self._patiently(entry.source, partial(self._group.tried, entry)) < tries:
            self._tried.add((entry.source, entry.place))
            return False
        await self._patiently(entry.source, partial(self._group.bury, entry))
        self._at_hand[entry.source].pop(entry.place, None)
        self._tried.discard((entry.source, entry.place))
        return True

    def done(self, entry: Entry) -> bool:
        """The body is through with it; whether enough is done, or some of it for long enough, to say so."""
        now = time.monotonic()
        if not self._count:
            self._since = now
        self._count += 1
        self._finished[entry.source].append(entry.place)
        return self._count >= ACK_AT_MOST or now - self._since > ACK_AFTER_S

    async def close(self) -> None:
        """Acknowledge what is done, and stop reading."""
        with suppress(StoreError):
            await self.acknowledge(once=True)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        with suppress(StoreError):
            for source in self._at_hand:
                await self._group.leave(source)

    async def acknowledge(self, *, once: bool = False) -> None:
        """Acknowledge what the body is through with."""
        finished, self._finished, self._count = self._finished, defaultdict(list), 0
        for source, places in finished.items():
            tried = [place for place in places if (source, place) in self._tried] if self._tried else []
            done = partial(self._group.done, source, places, tried=tried)
            await (done() if once else self._patiently(source, done))
            self._tried.difference_update((source, place) for place in tried)
            hand = self._at_hand[source]
            for place in places:
                hand.pop(place, None)

    async def _look(self, names: tuple[str, ...]) -> None:
        """Follow every source that is there or appears."""
        self._known.update(await self._patiently("", self._kept.read))
        while True:
            there = await self._patiently("", self._streams.sources)
            if not self._known:
                await self._note(there)
            for source in there:
                wanted = any(fnmatchcase(source, name) for name in names)
                if wanted and source not in self._tasks:
                    # One that appears later, or while nobody listened: none of its events may be missed.
                    start = self._start if source in self._known else "0"
                    self._tasks[source] = asyncio.create_task(self._guarded(self._follow(source, start)))
                elif not wanted and source not in self._known:
                    await self._note([source])
            await asyncio.sleep(LOOK_S)

    async def _note(self, sources: list[str]) -> None:
        await self._patiently("", partial(self._kept.add, sources))
        self._known.update(["", *sources])

    async def _follow(self, source: str, start: str) -> None:
        hand = self._at_hand.setdefault(source, {})
        await self._patiently(source, partial(self._group.join, source, start=start))
        if source not in self._known:
            await self._note([source])
        look_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= look_at:
                found, left = await self._patiently(source, partial(self._take_over, source)), True
                look_at = loop.time() + (0.0 if found else min(LOOK_S, self._idle_s / 2))
            else:
                found, left = await self._patiently(source, partial(self._read, source)), False
            fresh = [entry for entry in found if entry.place not in hand]
            if fresh:
                hand.update((entry.place, None) for entry in fresh)
                await self._queue.put((fresh, left))

    async def _read(self, source: str) -> list[Entry]:
        return await self._group.read(source, count=AT_ONCE, block_s=min(BLOCK_S, self._idle_s / 2))

    async def _take_over(self, source: str) -> list[Entry]:
        return await self._group.take_over(source, idle_s=self._idle_s, count=AT_ONCE)

    async def _touch(self) -> None:
        """What is at hand is not left: nobody may take it over while the body is slow."""
        while True:
            await asyncio.sleep(self._idle_s / 3)
            for source, places in list(self._at_hand.items()):
                await self._patiently(source, partial(self._group.touch, source, list(places)))

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception as exc:  # noqa: BLE001 -- raised again by who reads the queue
            await self._queue.put(exc)

    async def _patiently(self, source: str, work: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Try until Redis is there; a group that its server forgot is made again, from the oldest entry."""
        pauses = itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1]))
        while True:
            try:
                return await work()
            except StoreUnavailable:
                await asyncio.sleep(next(pauses))
            except StoreError as exc:
                if "NOGROUP" not in str(exc):
                    raise
                await self._group.join(source, start="0")


@asynccontextmanager
async def _running(
    redis_url: str, *, group: str, prefix: str, start: str, idle_s: float
) -> AsyncGenerator[_Reader, None]:
    connection, keys = Connection.open(redis_url), Keys(prefix)
    consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    reader = _Reader(
        Group(connection, keys, group=group, consumer=consumer),
        Streams(connection, keys),
        KnownSources(connection, keys.group_sources(group)),
        start="$" if start == "now" else "0",
        idle_s=idle_s,
    )
    try:
        yield reader
    finally:
        await reader.close()
        await connection.close()
