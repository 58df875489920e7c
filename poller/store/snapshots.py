"""What was last seen of every record, and the one commit that moves it together with the stream."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from poller.errors import Conflict, Fenced, StoreRefused, StoreUnavailable
from poller.model import Event, fields_of, loads

from .connection import Connection, Script, translated
from .keys import STATE_VERSION, Keys

MOST_CHANGES = 1_000
"""Records in one commit: 5.6 ms of the server's time (house.md); more would hold everybody up."""
_RESENDS_S = (0.1, 0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What moves together: all of it, or nothing."""

    prints: Mapping[str, Mapping[str, bytes | None]] = field(default_factory=dict)
    """kind -> id -> fingerprint of its row; None where it is no longer listed."""
    records: Mapping[str, Mapping[str, bytes | None]] = field(default_factory=dict)
    """kind -> id -> what is known of it; None forgets it."""
    events: Sequence[Event] = ()
    memory: Mapping[str, bytes] = field(default_factory=dict)
    """What the source as a whole remembers."""


class Snapshots:
    """One source's records, for as long as its lease is held."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        source: str,
        *,
        fence: int,
        said: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        """`said` hears of the events of each commit, once they stand."""
        self._said = said
        self._connection = connection
        self._redis: Any = connection.commands
        self._keys = keys
        self._source = source
        self._fence = fence
        self._version = 0
        self.is_older = False
        """Whether the state was written by an older poller, which may have read values differently."""

    async def open(self) -> dict[str, bytes]:
        """Read what the source remembers; from here on commits build on this version.

        Raises:
            StoreRefused: the state was written by a newer poller.
        """
        with translated():
            head = await self._redis.hgetall(self._keys.head(self._source))
        memory = {name.decode(): value for name, value in head.items()}
        state = int(memory.pop("state", STATE_VERSION))
        if state > STATE_VERSION:
            msg = (
                f"source {self._source!r}: its state has version {state}, this poller knows {STATE_VERSION}: "
                f"run the newer poller, or another redis.prefix"
            )
            raise StoreRefused(msg)
        self.is_older = state < STATE_VERSION
        self._version = int(memory.pop("version", 0))
        memory.pop("commit", None)
        return memory

    async def prints(self, kind: str, ids: Sequence[str]) -> list[bytes | None]:
        """The fingerprints of these rows as last seen, None where a record is not listed."""
        with translated():
            found: list[bytes | None] = await self._redis.hmget(self._keys.prints(self._source, kind), ids)
        return found

    async def listed(self, kind: str) -> int:
        """How many records of a kind are listed."""
        with translated():
            return int(await self._redis.hlen(self._keys.prints(self._source, kind)))

    async def listed_ids(self, kind: str) -> set[str]:
        """The ids of all records of a kind that are listed."""
        with translated():
            ids = await self._redis.hkeys(self._keys.prints(self._source, kind))
        return {key.decode() for key in ids}

    async def records(self, kind: str, ids: Iterable[str]) -> dict[str, bytes]:
        """What is known of these records; what was never seen is left out."""
        wanted = list(ids)
        if not wanted:
            return {}
        with translated():
            found = await self._redis.hmget(self._keys.records(self._source, kind), wanted)
        return {key: value for key, value in zip(wanted, found, strict=True) if value is not None}

    async def scan(self, kind: str, cursor: int, *, most: int) -> tuple[int, dict[str, bytes]]:
        """About `most` records of a kind from a cursor on, and the next cursor; 0 begins and ends."""
        with translated():
            at, found = await self._redis.hscan(self._keys.records(self._source, kind), cursor, count=most)
        return int(at), {key.decode(): value for key, value in found.items()}

    async def commit(self, change: Commit) -> None:
        """Move everything in one script, or nothing; a lost reply is asked again by the commit's id.

        Raises:
            Fenced: another replica polls this source now. Conflict: somebody committed in between.
            StoreUnavailable: no reply after several tries; `open` tells what stands.
        """
        keys, args = self._written(change)
        for pause_s in (*_RESENDS_S, None):
            try:
                reply = await self._connection.run(_COMMIT, keys, args, durable=True)
            except StoreUnavailable:
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                break
        self._judge(reply)
        if self._said is not None and change.events:
            self._said(change.events)

    def _judge(self, reply: bytes) -> None:
        match reply:
            case b"OK" | b"DUPLICATE":
                self._version += 1
            case b"FENCED":
                msg = f"source {self._source!r}: another replica polls it now; nothing was written"
                raise Fenced(msg)
            case b"CONFLICT":
                msg = f"source {self._source!r}: version {self._version} has moved on; nothing was written"
                raise Conflict(msg)
            case _:
                msg = f"source {self._source!r}: {reply!r} holds a wrong type: is redis.prefix shared?"
                raise StoreRefused(msg)

    def _written(self, change: Commit) -> tuple[list[str], list[Any]]:
        hashes: dict[str, Mapping[str, bytes | None]] = {
            self._keys.head(self._source): change.memory,
            **{self._keys.prints(self._source, kind): rows for kind, rows in change.prints.items()},
            **{self._keys.records(self._source, kind): rows for kind, rows in change.records.items()},
        }
        keys = [self._keys.source_lease(self._source), self._keys.events(self._source), *hashes]
        args: list[Any] = [self._fence, self._version, secrets.token_hex(12), STATE_VERSION]
        for rows in hashes.values():
            puts = [item for row in rows.items() if row[1] is not None for item in row]
            drops = [key for key, value in rows.items() if value is None]
            args += [len(puts), *puts, len(drops), *drops]
        for event in change.events:
            args += fields_of(event).values()
        return keys, args


_COMMIT = Script("commit")


async def register(connection: Connection, keys: Keys, source: str) -> None:
    """Let consumers find the source's stream."""
    with translated():
        await connection.commands.sadd(keys.sources(), source)


async def ask(connection: Connection, keys: Keys, source: str, request: bytes) -> None:
    """Leave an operator's request for whoever polls the source."""
    with translated():
        await connection.commands.rpush(keys.requests(source), request)


class Requests:
    """What operators ask of a source. One stays until the next is asked for: by then it was obeyed.

    Taken at once, it would be lost with a reply, or with whoever took it; so it may be obeyed twice.
    """

    def __init__(self, connection: Connection, keys: Keys, source: str) -> None:
        self._redis: Any = connection.commands
        self._key = keys.requests(source)
        self._obeyed: bytes | None = None

    async def next(self) -> bytes | None:
        """The oldest request after the last one that was given; None where nobody asked."""
        with translated():
            if self._obeyed is not None:
                await self._redis.lrem(self._key, 1, self._obeyed)
                self._obeyed = None
            found = await self._redis.lindex(self._key, 0)
            while found is not None and not _is_request(found):
                await self._redis.lrem(self._key, 1, found)  # else nobody would ever come past it
                found = await self._redis.lindex(self._key, 0)
        self._obeyed = None if found is None else bytes(found)
        return self._obeyed


def _is_request(found: bytes) -> bool:
    try:
        return isinstance(loads(found), dict)
    except ValueError:
        return False


async def report(connection: Connection, keys: Keys, source: str, told: bytes) -> None:
    """Leave word of the source for the commands and the page."""
    with translated():
        await connection.commands.set(keys.report(source), told)


async def reported(connection: Connection, keys: Keys, source: str) -> bytes | None:
    """What was last said of the source."""
    with translated():
        found: Any = await connection.commands.get(keys.report(source))
    return found if found is None else bytes(found)


async def subject(connection: Connection, keys: Keys, source: str, name: str) -> bytes | None:
    """What is kept of a subject without a snapshot, such as an endpoint: how often it was spoken of."""
    redis: Any = connection.commands
    with translated():
        found: bytes | None = await redis.hget(keys.records(source, "webhook"), name)
    return found


async def say(
    connection: Connection, keys: Keys, source: str, name: str, read: bytes | None, kept: bytes, event: Event
) -> bool:
    """Say one event of such a subject; False where somebody else did in between: read again."""
    reply = await connection.run(
        _SAY,
        [keys.records(source, "webhook"), keys.events(source)],
        [name, read or b"", kept, *fields_of(event).values()],
    )
    if reply not in (b"OK", b"CONFLICT"):
        msg = f"{keys.events(source)} is no stream: is redis.prefix shared with another program?"
        raise StoreRefused(msg)
    return bool(reply == b"OK")


async def trim(connection: Connection, keys: Keys, source: str, *, keep_s: float) -> int:
    """Drop what is older than the retention, by the clock that made the entries' ids; how many went."""
    return int(await connection.run(_TRIM, [keys.events(source)], [int(keep_s * 1000)]))


_TRIM = Script("trim")
_SAY = Script("say")
