"""The queues of all endpoints as operators see them: attempts, dead letters, and orders.

Nothing here needs the endpoint's lease. What moves a single event is done at once; what concerns the
endpoint as a whole is an order, left for whoever serves it, who looks every second.
"""

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Literal

import msgspec

from .connection import Connection, Script, translated
from .keys import Keys
from .letters import Attempt, Letter, before_ms, entries_of, fresh, letter, letter_of, position
from .page_reads import PageReads
from .queue import dead_letters, keys_of, refill_args, stream_facts

_ORDER = Script("endpoint_order")
_REFILL = Script("queue_refill")
ANY = "*"
"""An operator's order stands whatever was asked for before."""
_attempt = msgspec.json.Decoder(Attempt)

SEARCHED_AT_ONCE = 500
Found = Literal["dead", "waiting", "stream"]


class EndpointAdmin:
    """What commands and the page ask and order. Every method raises StoreUnavailable or StoreRefused."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._page_reads = PageReads(connection, keys)

    # --- seeing -------------------------------------------------------------------------

    async def attempts(self, endpoint: str, *, count: int = 100) -> list[Attempt]:
        """Read the newest attempts, newest first; the last 1,000 are kept."""
        with translated():
            rows: Any = await self._connection.commands.xrevrange(self._keys.attempts(endpoint), count=count)
        # Where a reply was lost, or a stop came in the midst of it, an attempt was written twice.
        return list(dict.fromkeys(_attempt.decode(fields[b"a"]) for _, fields in rows))

    async def dead(self, endpoint: str, source: str, *, count: int = 100) -> list[Letter]:
        """Read dead letters, the oldest first; `at` is when each died."""
        return await dead_letters(
            self._connection, self._keys, source, endpoint, until=float("inf"), count=count
        )

    async def find(
        self, endpoint: str, sources: Iterable[str], event: str, *, within_s: float
    ) -> tuple[str, str] | None:
        """Find an event by its id or by its place in the stream; give its source and place, or None.

        Raises:
            TimeoutError: it was not found within that time, and there is more to look through.
        """
        until = monotonic() + within_s
        for source in sources:
            place = await self._find(endpoint, source, event, until)
            if place is not None:
                return source, place
        return None

    async def _find(self, endpoint: str, source: str, event: str, until: float) -> str | None:
        client, tries = self._connection.commands, self._keys.tries(source, endpoint)
        if not event.startswith("evt_"):
            there = await self._letter(endpoint, source, event)
            return event if there else None
        place = await self._search(source, event, until)
        if place is not None:
            return place
        with translated():
            async for key, packed in client.hscan_iter(tries, count=SEARCHED_AT_ONCE):
                if letter(key.decode(), packed).meta.id == event:
                    return str(key.decode())
                _demand_time(until)
        return None

    async def _search(self, source: str, event: str, until: float) -> str | None:
        # Newest first: what somebody asks for is mostly recent.
        upto, ended = None, False
        while not ended:
            step = await self._page_reads.search(source, upto=upto, count=1, subject=event)
            if step.entries:
                return step.entries[0].place
            upto, ended = step.reached, step.ended
            if not ended:
                _demand_time(until)
        return None

    # --- ordering -----------------------------------------------------------------------

    async def resend(self, endpoint: str, source: str, place: str) -> Found | None:
        """Send one event again, from its first attempt; tell where it was found, None if nowhere."""
        found = await self._letter(endpoint, source, place)
        if found is None:
            return None
        where, old = found
        await self._refill(endpoint, source, {}, [fresh(old, at=await self._now_ms() / 1000)])
        await self._order(endpoint)
        return where

    async def _letter(self, endpoint: str, source: str, place: str) -> tuple[Found, Letter] | None:
        keys, client = self._keys, self._connection.commands
        with translated():
            packed: Any = await client.hget(keys.tries(source, endpoint), place)
            died = await client.zscore(keys.dead(source, endpoint), place) if packed else None
        if packed:
            return ("waiting" if died is None else "dead"), letter(place, packed)
        try:
            position(place)
        except ValueError:
            return None
        with translated():
            rows = await client.xrange(keys.events(source), min=place, max=place)
        entries = list(entries_of(source, rows))
        return ("stream", letter_of(entries[0], at=0.0)) if entries else None

    async def recover_since(self, endpoint: str, sources: Iterable[str], *, since: float) -> int:
        """Send everything again that the endpoint wants and that was detected since then (Unix seconds).

        Give the number of sources that have something of that time. The endpoint does it at its own pace,
        with the original ids, and goes on after a crash.
        """
        after = before_ms(int(since * 1000))
        asked = 0
        for source in sources:
            facts = await stream_facts(self._connection, self._keys.events(source))
            if position(facts.last) > position(after):
                await self._refill(endpoint, source, {"replay": (after, ANY), "upto": (facts.last, ANY)}, [])
                asked += 1
        await self._order(endpoint)
        return asked

    async def recover_dead(self, endpoint: str, sources: Iterable[str]) -> int:
        """Send all dead letters again, oldest first, as `recover_since`; give their number."""
        asked = 0
        for source in sources:
            key = self._keys.dead(source, endpoint)
            with translated():
                dead = int(await self._connection.commands.zcard(key))
                newest: Any = await self._connection.commands.zrange(key, -1, -1, withscores=True)
            if newest:
                # Up to the newest, by the clock that let them die: who gives the order may have another one.
                await self._refill(endpoint, source, {"revive": (repr(newest[0][1]), ANY)}, [])
            asked += dead
        await self._order(endpoint)
        return asked

    async def enable(self, endpoint: str, *, from_now: bool = False) -> None:
        """Let an endpoint go on from its place, or from now: then what it missed is passed over.

        What waits for a further attempt becomes a dead letter if it is passed over, and can be resent.
        """
        skip = ["skip", before_ms(await self._now_ms() + 1)] if from_now else []
        await self._order(endpoint, "want", "enabled", *skip)

    async def disable(self, endpoint: str) -> None:
        """Send nothing more to an endpoint; it keeps its place."""
        await self._order(endpoint, "want", "disabled")

    async def _now_ms(self) -> int:
        # The server's clock makes the places of the streams, so it says where now is; the asker's may be off.
        with translated():
            seconds, micros = await self._connection.commands.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def _order(self, endpoint: str, *fields: str) -> None:
        await self._connection.run(_ORDER, [self._keys.endpoint(endpoint)], fields)

    async def _refill(
        self, endpoint: str, source: str, fields: dict[str, tuple[str, str]], letters: Sequence[Letter]
    ) -> None:
        four = keys_of(self._keys, source, endpoint)
        await self._connection.run(_REFILL, four, refill_args("", fields, letters, what="any"))


def _demand_time(until: float) -> None:
    if monotonic() > until:
        msg = "not found in time"
        raise TimeoutError(msg)
