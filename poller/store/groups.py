"""A consumer group over the streams of all sources: what `poller.subscribe` stands on.

Everything is per source, so that it works on Redis Cluster too. Entries stay in the stream; a group only has
its place, what is pending, and its own dead letters in `poller:{SOURCE}:events:dead:GROUP`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from poller.errors import StoreRefused
from poller.model import Entry, fields_of

from .connection import Connection, translated
from .keys import Keys
from .letters import entries_of

DEAD_MOST = 10_000
"""Dead letters that a group keeps for each source."""


class Group:
    """One consumer of a group."""

    def __init__(self, connection: Connection, keys: Keys, *, group: str, consumer: str) -> None:
        self._connection = connection
        self._redis: Any = connection.commands
        self._keys = keys
        self._group = group
        self._consumer = consumer

    async def join(self, source: str, *, start: str) -> None:
        """Make the group where it is new: at `$` (now) or `0` (the oldest entry)."""
        try:
            with translated():
                await self._redis.xgroup_create(
                    self._keys.events(source), self._group, id=start, mkstream=True
                )
        except StoreRefused as exc:
            if not (isinstance(exc.__cause__, ResponseError) and "BUSYGROUP" in str(exc.__cause__)):
                raise

    async def read(self, source: str, *, count: int, block_s: float) -> list[Entry]:
        """The next entries that nobody of the group has; empty after `block_s`."""
        key = self._keys.events(source)
        asked = self._connection.blocking.xreadgroup(
            self._group, self._consumer, {key: ">"}, count=count, block=int(block_s * 1000)
        )
        reply: Any = await self._connection.wait(asked, block_s=block_s)
        found: list[Entry] = []
        for _, rows in reply.items() if isinstance(reply, dict) else reply or ():
            for part in rows if rows and isinstance(rows[0], list) else [rows]:
                found += entries_of(source, part)
        return found

    async def take_over(self, source: str, *, idle_s: float, count: int) -> list[Entry]:
        """Entries that a consumer left pending for `idle_s`."""
        with translated():
            _, rows, *_ = await self._redis.xautoclaim(
                self._keys.events(source),
                self._group,
                self._consumer,
                min_idle_time=int(idle_s * 1000),
                count=count,
            )
        return list(entries_of(source, rows))

    async def tried(self, entry: Entry) -> int:
        """Count that an entry which was left before is tried once more; how often that was.

        Redis counts how often an entry was handed out, which the neighbours of a poisonous one are too.
        """
        with translated():
            return int(
                await self._redis.hincrby(self._keys.group_tries(entry.source, self._group), entry.place, 1)
            )

    async def touch(self, source: str, places: Iterable[str]) -> None:
        """Say that these are still being worked on, so that nobody takes them over."""
        wanted = list(places)
        if wanted:
            with translated():
                await self._redis.xclaim(
                    self._keys.events(source), self._group, self._consumer, min_idle_time=0,
                    message_ids=wanted, justid=True,
                )  # fmt: skip

    async def done(self, source: str, places: Sequence[str], *, tried: Sequence[str] = ()) -> None:
        """Acknowledge; the tries of those that were `tried` are forgotten."""
        with translated():
            await self._redis.xack(self._keys.events(source), self._group, *places)
            if tried:
                await self._redis.hdel(self._keys.group_tries(source, self._group), *tried)

    async def bury(self, entry: Entry) -> None:
        """Move an entry to the group's own dead letters."""
        key = self._keys.events(entry.source)
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xadd(
                    self._keys.group_dead(entry.source, self._group),
                    dict(fields_of(entry.event)),
                    maxlen=DEAD_MOST,
                )
                pipe.xack(key, self._group, entry.place)
                pipe.hdel(self._keys.group_tries(entry.source, self._group), entry.place)
                await pipe.execute()

    async def leave(self, source: str) -> None:
        """Take this consumer out of the group, if nothing is pending for it."""
        key = self._keys.events(source)
        with translated():
            pending = await self._redis.xpending_range(
                key, self._group, min="-", max="+", count=1, consumername=self._consumer
            )
            if not pending:
                await self._redis.xgroup_delconsumer(key, self._group, self._consumer)
