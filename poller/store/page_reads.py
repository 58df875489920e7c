"""What pages show of streams and queues, each in few round trips and with a limit on the work.

Nothing here needs a lease; the one thing that is written is how much of a budget was used, for the plot.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from poller.model import Entry

from .connection import Connection, Script, translated
from .keys import Keys
from .letters import Attempt, Meta, Position, entries_of, place_of, position

WALKED_AT_ONCE = 500
"""Entries that the counting script looks at: under a millisecond of the server's time."""
ATTEMPTS_READ = 1000
BEGINNING: Position = (0, 0)
SLOT_S = 300
SPENT_KEPT_S = 50 * 3600
DAY_S = 86_400

_HOURS = Script("hours")
_SEARCH = Script("search")
_attempt = msgspec.json.Decoder(Attempt)
_meta = msgspec.json.Decoder(Meta)


@dataclass(frozen=True, slots=True)
class Hour:
    """What came in one hour, which is counted from 1970."""

    hour: int
    events: int
    won: int
    lost: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one event at one endpoint."""

    endpoint: str
    what: str
    """passed (delivered or not wanted), waiting, dead, under way, ahead (not read yet), or unknown."""
    at: float | None
    """When it is due, or when it died."""
    meta: Meta | None
    attempts: tuple[Attempt, ...]
    """Oldest first, of the last 1,000 of the endpoint."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What one step of a search gave."""

    entries: list[Entry]
    """Newest first."""
    reached: Position | None
    """Everything from here on was looked at; None where the stream is empty."""
    ended: bool


class PageReads:
    """Reading for pages. Every method raises StoreUnavailable or StoreRefused."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._redis: Any = connection.commands
        self._keys = keys

    async def search(
        self,
        source: str,
        *,
        upto: Position | None,
        count: int,
        type_: str = "",
        subject: str = "",
        text: str = "",
    ) -> Walked:
        """Look on below `upto`, newest first, for `count` entries at most; walks a bounded number of them.

        `type_` is a glob, `subject` a subject or an event's id, `text` stands somewhere in the event;
        empty ones leave nothing out.
        """
        if upto == BEGINNING:
            return Walked([], upto, ended=True)
        start = "+" if upto is None else place_of(upto)
        args = [start, WALKED_AT_ONCE, count, lua_pieces(type_), subject, text.lower()]
        last, ended, rows = await self._connection.run(_SEARCH, [self._keys.events(source)], args)
        reached = upto if last == b"+" else position(last.decode())
        found = [(place, dict(zip(fields[::2], fields[1::2], strict=True))) for place, fields in rows]
        return Walked(list(entries_of(source, found)), reached, bool(ended))

    async def entry(self, source: str, place: str) -> Entry | None:
        """One entry; None where the stream no longer has it."""
        with translated():
            rows = await self._redis.xrange(self._keys.events(source), min=place, max=place)
        return next(iter(entries_of(source, rows)), None)

    async def hours(self, source: str, *, after: str) -> tuple[str, bool, list[Hour]]:
        """Count the next entries after a place by hour: the last counted, whether more follow, the counts."""
        reply = await self._connection.run(_HOURS, [self._keys.events(source)], [after, WALKED_AT_ONCE])
        last, walked, *rest = reply
        found = [Hour(*map(int, rest[at : at + 4])) for at in range(0, len(rest), 4)]
        return last.decode(), int(walked) == WALKED_AT_ONCE, found

    # --- deliveries ---------------------------------------------------------------------------

    async def deliveries(self, source: str, entry: Entry, endpoints: Sequence[str]) -> list[Delivery]:
        """What became of one event at each of these endpoints."""
        keys, place = self._keys, entry.place
        start = place_of((position(place)[0], 0))
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in endpoints:
                    pipe.hmget(keys.place(source, name), "cursor", "holes")
                    pipe.hget(keys.tries(source, name), place)
                    pipe.zscore(keys.waiting(source, name), place)
                    pipe.zscore(keys.dead(source, name), place)
                    pipe.xrange(keys.attempts(name), min=start, count=ATTEMPTS_READ)
                found = await pipe.execute()
        parts = [found[at : at + 5] for at in range(0, len(found), 5)]
        return [_delivery(name, entry, part) for name, part in zip(endpoints, parts, strict=True)]

    # --- budgets ------------------------------------------------------------------------------

    async def note_spent(self, source: str, *, at: float, used: int, limit: int) -> None:
        """Note how much of the budget counted at a moment; the most in five minutes is kept, for two days."""
        day, slot = divmod(int(at), DAY_S)
        key, name = self._keys.spent(source, day), str(slot // SLOT_S)
        with translated():
            known = await self._redis.hget(key, name)
            share = max(round(1000 * used / max(1, limit)), int(known or 0))
            await self._redis.hset(key, name, share)
            await self._redis.expire(key, SPENT_KEPT_S)

    async def spent(self, source: str, *, since: float, until: float) -> dict[float, float]:
        """Start of each five minutes (Unix seconds) -> share of the budget that counted in them at most."""
        found: dict[float, float] = {}
        for day in range(int(since) // DAY_S, int(until) // DAY_S + 1):
            with translated():
                slots = await self._redis.hgetall(self._keys.spent(source, day))
            for slot, share in slots.items():
                at = day * DAY_S + int(slot) * SLOT_S
                if since <= at <= until:
                    found[float(at)] = int(share) / 1000
        return dict(sorted(found.items()))


def lua_pieces(glob: str) -> str:
    """A glob over event types (*, ?, [abc], [!abc]): what stands between its stars as Lua patterns."""
    told = {"*": "*", "?": ".", "[": "[", "]": "]", "!": "^", "-": "-"}
    return "".join(
        each if each.isalnum() or each == "_" else told.get(each, f"%{each}") for each in glob.lower()
    )


def _delivery(name: str, entry: Entry, part: Sequence[Any]) -> Delivery:
    (cursor, holes), packed, due, died, rows = part
    tried = tuple(_of(entry.event.id, entry.place, rows))
    meta = _meta.decode(packed.partition(b"\n")[0]) if packed else None
    at = due if due is not None else died
    return Delivery(name, _what(entry.place, cursor, holes, due, died), at, meta, tried)


def _of(event: str, place: str, rows: Iterable[Any]) -> Iterable[Attempt]:
    wanted = event.encode()
    for _, fields in rows:
        if wanted in fields[b"a"]:
            attempt = _attempt.decode(fields[b"a"])
            if attempt.event == event and attempt.place == place:
                yield attempt


def _what(place: str, cursor: bytes | None, holes: bytes | None, due: Any, died: Any) -> str:
    if died is not None:
        return "dead"
    if due is not None:
        return "waiting"
    if cursor is None:
        return "unknown"
    if position(place) > position(cursor.decode()):
        return "ahead"
    return "under way" if place.encode() in (holes or b"").split() else "passed"
