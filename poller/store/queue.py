"""One endpoint's queue, for who holds it: its place in each source's stream, what waits, what is dead.

A place is a cursor and its holes. All entries up to the cursor have had their turn (delivered, dead,
filtered, or waiting with a copy of their own), except the holes, which were under way. So a process that
dies repeats only what was under way, and reading has no side effect that a stale holder could do harm with.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from poller.errors import Conflict, Fenced
from poller.model import Entry

from .connection import Connection, Script, translated
from .keys import Keys
from .letters import (
    Attempt,
    EndpointState,
    Letter,
    Meta,
    Notice,
    Row,
    entries_of,
    fresh,
    letter,
    record,
    rows_of,
)
from .reads import Reads

KEPT_DEAD_S = 14 * 24 * 3600
BURIED_AT_ONCE = 500
READ_AT_ONCE = 200
ATTEMPTS_KEPT = 1000
ABANDONED_AFTER_S = 366 * 24 * 3600
"""What waits for an endpoint that nobody serves ends after this: beyond any retention. Its place stays."""

_OPEN = Script("queue_open")
_SETTLE = Script("queue_settle")
_REFILL = Script("queue_refill")
_SWEEP = Script("queue_sweep")
_SAVE = Script("endpoint_save")
_attempts = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an endpoint is in a source's stream."""

    cursor: str = "0-0"
    holes: tuple[str, ...] = ()
    ordinal: int = 0
    """How many entries the stream ever got up to the cursor: tells the lag, and what trimming took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What an operator asked to be sent again: entries in (after, upto], the dead of before `dead_until`."""

    after: str = ""
    upto: str = ""
    dead_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one event. For `wait`, `at` is when it is due; for `dead`, when it died."""

    what: Literal["done", "wait", "dead"]
    place: str
    at: float = 0.0
    meta: Meta | None = None
    body: bytes = b""

    def args(self) -> tuple[str, str, str, bytes]:
        """Write it as the script reads it."""
        return (self.what, self.place, repr(self.at), record(self.meta, self.body) if self.meta else b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """What a stream says of itself."""

    length: int = 0
    added: int = 0
    first: str = ""
    last: str = "0-0"

    @property
    def trimmed(self) -> int:
        """How many entries are no longer there."""
        return self.added - self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """An endpoint's own state, and what operators asked since the holder last looked."""

    state: EndpointState = field(default_factory=EndpointState)
    notices: tuple[Notice, ...] = ()
    turn: int = 0
    obeyed: int = 0
    want: str = ""
    """enabled or disabled, if somebody asked for it."""
    skip: str = ""
    """Entry id up to which everything is to be passed over."""

    @property
    def seen(self) -> EndpointState:
        """How the endpoint fares, orders that nobody has read yet included."""
        if self.want == "disabled" and not self.state.disabled:
            return msgspec.structs.replace(self.state, disabled="operator")
        if self.want == "enabled":
            return EndpointState(last_success=self.state.last_success)
        return self.state


@dataclass(slots=True)
class _Held:
    """What Redis is to have of a source, by what it has answered."""

    opened: Place = field(default_factory=Place)
    cursor: str = "0-0"
    settled: str = ""
    """The batch that was settled last; the next one builds on it."""
    tried: str = ""
    """… and the one that may have been settled since."""

    @property
    def batches(self) -> set[str]:
        return {self.settled, self.tried}


class Queue:
    """The queue of one endpoint, held under `fence`.

    Every method raises StoreUnavailable or StoreRefused where Redis does not do it, and every writing
    one Fenced where a newer holder was there.
    """

    def __init__(self, connection: Connection, keys: Keys, *, endpoint: str, fence: int) -> None:
        self._connection = connection
        self._keys = keys
        self.endpoint = endpoint
        self.fence = fence
        self._reads = Reads(connection)
        self._held: defaultdict[str, _Held] = defaultdict(_Held)

    def _four(self, source: str) -> tuple[str, str, str, str]:
        return keys_of(self._keys, source, self.endpoint)

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        reply = await self._connection.run(script, keys, args)
        if reply == b"FENCED":
            msg = f"endpoint {self.endpoint} has a newer holder than fence {self.fence}"
            raise Fenced(msg)
        return reply

    async def open(self, source: str, *, start: Literal["now", "oldest"]) -> tuple[Place, Recovery]:
        """Find the place in a source's stream, or make one at its end (`now`) or its beginning."""
        reply = await self._open(source, start)
        kept = dict(zip(map(bytes.decode, reply[::2]), map(bytes.decode, reply[1::2]), strict=True))
        place = Place(cursor=kept["cursor"], holes=tuple(kept["holes"].split()), ordinal=int(kept["ordinal"]))
        batch = kept.get("batch", "")
        self._held[source] = _Held(place, place.cursor, batch, batch)
        return place, recovery_of(kept)

    async def _open(self, source: str, *where: Any) -> Any:
        keys = [self._keys.place(source, self.endpoint), self._keys.events(source)]
        return await self._run(_OPEN, keys, [self.fence, *where])

    async def recovery(self, source: str) -> Recovery:
        """Read what is to be sent again."""
        names = ("replay", "upto", "revive")
        with translated():
            got: Any = await self._connection.commands.hmget(self._keys.place(source, self.endpoint), names)
        return recovery_of({name: value.decode() for name, value in zip(names, got, strict=True) if value})

    async def read(self, after: Mapping[str, str], *, count: int, block_ms: int) -> list[Row]:
        """Read on in several sources at once, `after` an entry of each; wait up to `block_ms` for news."""
        names = {self._keys.events(source): source for source in after}
        streams: Any = {key: after[source] for key, source in names.items()}
        if self._connection.clustered:
            found = await self._reads.read(streams, count=count, wait_s=block_ms / 1000)
            return [row for key, part in found for row in rows_of(names[key], part)]
        with translated():
            reply: Any = await self._connection.blocking.xread(streams, count=count, block=block_ms)
        parts = reply.items() if isinstance(reply, dict) else reply
        return [row for key, part in parts for row in rows_of(names[key.decode()], part)]

    async def range(self, source: str, *, after: str, upto: str, count: int) -> list[Row]:
        """Read entries in (after, upto], oldest first."""
        with translated():
            rows = await self._connection.commands.xrange(
                self._keys.events(source), min=f"({after}", max=upto, count=count
            )
        return list(rows_of(source, rows))

    async def fetch(self, source: str, places: Sequence[str]) -> list[Entry]:
        """Read single entries; what is no longer in the stream is left out."""
        with translated():
            async with self._connection.commands.pipeline(transaction=False) as pipe:
                for place in places:
                    pipe.xrange(self._keys.events(source), min=place, max=place)
                found = await pipe.execute()
        return [entry for rows in found for entry in entries_of(source, rows)]

    async def facts(self, source: str) -> StreamFacts:
        """Ask the stream about itself; one that does not exist is empty."""
        return await stream_facts(self._connection, self._keys.events(source))

    async def waiting(self, source: str) -> list[Letter]:
        """Read everything that waits, without the bodies."""
        _, waiting, tries, _ = self._four(source)
        client = self._connection.commands
        found: list[Letter] = []
        with translated():
            rows: Any = await client.zrange(waiting, 0, -1, withscores=True)
            for start in range(0, len(rows), READ_AT_ONCE):
                part = rows[start : start + READ_AT_ONCE]
                packed: Any = await client.hmget(tries, [place for place, _ in part])
                found += [
                    letter(place.decode(), body.partition(b"\n")[0], at=at)
                    for (place, at), body in zip(part, packed, strict=True)
                    if body
                ]
        return found

    async def body(self, source: str, place: str) -> bytes | None:
        """Read the body of an event that waits; None if it does not wait any more."""
        _, waiting, tries, _ = self._four(source)
        with translated():
            async with self._connection.commands.pipeline(transaction=True) as pipe:
                pipe.zscore(waiting, place)
                pipe.hget(tries, place)
                score, packed = await pipe.execute()
        return None if score is None or packed is None else letter(place, packed).body

    async def settle(
        self, source: str, *, batch: str, place: Place, counts: Mapping[str, int], outcomes: Iterable[Outcome]
    ) -> None:
        """Settle a batch and move the place, in one script; the same batch twice is settled once.

        Raises:
            Conflict: the batch before it is not there any more; nothing was written. Open anew.
        """
        held = self._held[source]
        held.tried = batch
        outcomes = tuple(outcomes)
        reply = await self._settle(source, batch, place, counts, outcomes)
        if reply == b"GONE":
            await self._miss(source)
            reply = await self._settle(source, batch, place, counts, outcomes)
        if reply == b"LOST":
            raise self._forgotten(source)
        held.settled, held.cursor = batch, place.cursor

    async def _settle(
        self, source: str, batch: str, place: Place, counts: Mapping[str, int], outcomes: Iterable[Outcome]
    ) -> Any:
        args: list[Any] = [self.fence, batch, self._held[source].settled]
        args += (place.cursor, place.ordinal, " ".join(place.holes), len(counts))
        for name, by in counts.items():
            args += (name, by)
        for outcome in outcomes:
            args += outcome.args()
        return await self._run(_SETTLE, self._four(source), args)

    async def check(self, source: str) -> None:
        """See whether what was settled last still stands, also while more is being settled.

        Raises:
            Conflict: Redis has lost it, and what it said of those events with it. Open anew.
        """
        held = self._held[source]
        before = held.batches
        with translated():
            kept: Any = await self._connection.commands.hmget(
                self._keys.place(source, self.endpoint), ("batch", "cursor")
            )
        batch, cursor = kept
        if cursor is None and held.batches == before:
            await self._miss(source)
        elif cursor is not None and (batch or b"").decode() not in before | held.batches:
            raise self._forgotten(source)

    async def _miss(self, source: str) -> None:
        # The place itself is gone. Where the stream is as well, all that comes is news: go on as one that has
        # settled nothing. Else the place is put back to where it was opened: a new one may begin at the end.
        held, settled = self._held[source], self._held[source].settled
        if await self.range(source, after="0-0", upto=held.cursor, count=1):
            place = held.opened
            await self._open(source, place.cursor, place.ordinal, " ".join(place.holes))
            raise self._forgotten(source)
        if held.settled == settled:
            held.settled = ""

    def _forgotten(self, source: str) -> Conflict:
        msg = f"endpoint {self.endpoint}: Redis lost what was last settled of {source}; it begins anew"
        return Conflict(msg)

    async def replay(
        self, source: str, letters: Sequence[Letter], *, asked: Recovery, after: str, upto: str
    ) -> None:
        """Let delivered events wait again, and note how far the recovery has come ("" when it is done).

        Where an operator has asked for another than `asked` meanwhile, that one stands.
        """
        fields = {"replay": (after, asked.after), "upto": (upto, asked.upto)}
        await self._refill(source, letters, fields, what="any")

    async def revive(self, source: str, *, died_until: float, count: int, now: float) -> list[Letter]:
        """Let the oldest dead letters wait again from their first attempt; none left ends the recovery."""
        found = await dead_letters(
            self._connection, self._keys, source, self.endpoint, until=died_until, count=count
        )
        again = [fresh(each, at=now) for each in found]
        done = {"revive": ("", repr(died_until))}
        await self._refill(source, again, {} if again else done, what="dead")
        return again

    async def _refill(
        self, source: str, letters: Sequence[Letter], fields: Mapping[str, tuple[str, str]], *, what: str
    ) -> None:
        await self._run(_REFILL, self._four(source), refill_args(self.fence, fields, letters, what=what))

    async def sweep(self, source: str, *, now: float) -> int:
        """Bury the dead of 14 days ago; give the number buried."""
        args = [self.fence, now - KEPT_DEAD_S, BURIED_AT_ONCE, ABANDONED_AFTER_S]
        return int(await self._run(_SWEEP, self._four(source), args))

    async def orders(self) -> Orders:
        """Read how the endpoint fares and what operators asked."""
        with translated():
            kept: Any = await self._connection.commands.hgetall(self._keys.endpoint(self.endpoint))
        return orders_in(kept)

    async def save(self, state: EndpointState, notices: Sequence[Notice], *, turn: int) -> bool:
        """Keep how the endpoint fares; False if an order came in between, which is to be read first."""
        args = [self.fence, turn, msgspec.json.encode(state), msgspec.json.encode(notices)]
        return bool(await self._run(_SAVE, [self._keys.endpoint(self.endpoint)], args) == b"OK")

    async def log(self, attempts: Sequence[Attempt]) -> None:
        """Write attempts into the log of the last 1,000."""
        key = self._keys.attempts(self.endpoint)
        with translated():
            async with self._connection.commands.pipeline(transaction=False) as pipe:
                for each in attempts[-ATTEMPTS_KEPT:]:
                    pipe.xadd(key, {"a": _attempts.encode(each)}, maxlen=ATTEMPTS_KEPT, approximate=True)
                pipe.expire(key, ABANDONED_AFTER_S)
                await pipe.execute()


def keys_of(keys: Keys, source: str, endpoint: str) -> tuple[str, str, str, str]:
    """What an endpoint has in one source: its place, what waits, what is known of it, what is dead.

    In the order in which the scripts of the queue take them.
    """
    return (
        keys.place(source, endpoint),
        keys.waiting(source, endpoint),
        keys.tries(source, endpoint),
        keys.dead(source, endpoint),
    )


def recovery_of(kept: Mapping[str, str]) -> Recovery:
    """Read what is to be sent again from the place's fields."""
    return Recovery(
        after=kept.get("replay", ""),
        upto=kept.get("upto", ""),
        dead_until=float(kept.get("revive") or 0),
    )


def refill_args(
    fence: int | str, fields: Mapping[str, tuple[str, str]], letters: Sequence[Letter], *, what: str
) -> list[Any]:
    """Write the arguments of queue_refill; fields: name -> (what it shall be, what it is to be now)."""
    args: list[Any] = [fence, len(fields)]
    for name, (value, now) in fields.items():
        args += (name, value, now)
    for each in letters:
        args += (what, each.place, repr(each.at), record(each.meta, each.body))
    return args


async def stream_facts(connection: Connection, key: str) -> StreamFacts:
    """Ask a stream about itself; one that does not exist is empty."""
    client = connection.commands
    with translated():
        if not await client.exists(key):
            return StreamFacts()
        about: Any = await client.xinfo_stream(key)
    first = about["first-entry"]
    return StreamFacts(
        length=about["length"],
        added=about["entries-added"],
        first=first[0].decode() if first else "",
        last=about["last-generated-id"].decode(),
    )


def orders_in(kept: Mapping[bytes, bytes]) -> Orders:
    """Read an endpoint's own state out of the fields that are kept; without any it is a new one's."""
    health, notices = kept.get(b"health"), kept.get(b"notices")
    return Orders(
        state=msgspec.json.decode(health, type=EndpointState) if health else EndpointState(),
        notices=tuple(msgspec.json.decode(notices, type=list[Notice])) if notices else (),
        turn=int(kept.get(b"turn", 0)),
        obeyed=int(kept.get(b"obeyed", 0)),
        want=kept.get(b"want", b"").decode(),
        skip=kept.get(b"skip", b"").decode(),
    )


async def dead_letters(
    connection: Connection, keys: Keys, source: str, endpoint: str, *, until: float, count: int
) -> list[Letter]:
    """Read the oldest dead letters that died by `until`."""
    client = connection.commands
    with translated():
        rows: Any = await client.zrangebyscore(
            keys.dead(source, endpoint), "-inf", until, start=0, num=count, withscores=True
        )
        if not rows:
            return []
        packed: Any = await client.hmget(keys.tries(source, endpoint), [place for place, _ in rows])
    return [
        letter(place.decode(), body, at=at) for (place, at), body in zip(rows, packed, strict=True) if body
    ]
