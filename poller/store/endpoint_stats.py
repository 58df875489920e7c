"""How endpoints stand, all of them read together: three round trips, however many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .connection import Connection, translated
from .keys import Keys
from .letters import Counts, EndpointState, position
from .queue import StreamFacts, orders_in, recovery_of, stream_facts

Row = tuple[dict[bytes, bytes], int, list[bytes]]
"""A place's fields, how many are dead, which wait."""


@dataclass(frozen=True, slots=True)
class EndpointStanding:
    """One endpoint."""

    state: EndpointState
    holder: str | None
    counts: list[Counts]
    """One for each of its sources."""


async def census(
    connection: Connection, keys: Keys, wanted: Mapping[str, Sequence[str]]
) -> dict[str, EndpointStanding]:
    """Look at these endpoints with the sources of each.

    Raises:
        StoreUnavailable, StoreRefused: as every reading.
    """
    states = await _states(connection, keys, list(wanted))
    pairs = [(endpoint, source) for endpoint, sources in wanted.items() for source in sources]
    rows = await _rows(connection, keys, pairs)
    facts = {
        source: await stream_facts(connection, keys.events(source))
        for source in dict.fromkeys(source for _, source in pairs)
    }
    ahead = await _ahead(connection, keys, {pair: row for pair, row in rows.items() if _cursor(row)}, facts)
    found: dict[str, list[Counts]] = {endpoint: [] for endpoint in wanted}
    for (endpoint, source), row in rows.items():
        next_place = ahead.get((endpoint, source))
        found[endpoint].append(_counts(endpoint, source, row, facts[source], next_place))
    return {name: EndpointStanding(*states[name], found[name]) for name in wanted}


async def _states(
    connection: Connection, keys: Keys, names: Sequence[str]
) -> dict[str, tuple[EndpointState, str | None]]:
    with translated():
        seconds, micros = await connection.commands.time()
        async with connection.commands.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(keys.endpoint(name))
                pipe.hmget(keys.endpoint_lease(name), ["holder", "until"])
            told: list[Any] = await pipe.execute()
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    return {
        name: (orders_in(told[2 * at]).seen, _holder(told[2 * at + 1], now_ms))
        for at, name in enumerate(names)
    }


def _holder(lease: Sequence[bytes | None], now_ms: float) -> str | None:
    name, until = lease
    return None if name is None or until is None or float(until) <= now_ms else name.decode()


async def _rows(
    connection: Connection, keys: Keys, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Row]:
    with translated():
        async with connection.commands.pipeline(transaction=False) as pipe:
            for endpoint, source in pairs:
                pipe.hgetall(keys.place(source, endpoint))
                pipe.zcard(keys.dead(source, endpoint))
                pipe.zrange(keys.waiting(source, endpoint), 0, -1)
            told: list[Any] = await pipe.execute()
    return {pair: (told[3 * at], int(told[3 * at + 1]), told[3 * at + 2]) for at, pair in enumerate(pairs)}


def _cursor(row: Row) -> str:
    return row[0].get(b"cursor", b"").decode()


async def _ahead(
    connection: Connection,
    keys: Keys,
    rows: Mapping[tuple[str, str], Row],
    facts: Mapping[str, StreamFacts],
) -> dict[tuple[str, str], str]:
    """The next entry that each endpoint has not come to yet, where there is one."""
    behind = [
        (endpoint, source, _cursor(row))
        for (endpoint, source), row in rows.items()
        if position(facts[source].last) > position(_cursor(row))
    ]
    with translated():
        async with connection.commands.pipeline(transaction=False) as pipe:
            for _, source, cursor in behind:
                pipe.xrange(keys.events(source), min=f"({cursor}", count=1)
            told: list[Any] = await pipe.execute() if behind else []
    return {
        (endpoint, source): found[0][0].decode()
        for (endpoint, source, _), found in zip(behind, told, strict=True)
        if found
    }


def _counts(endpoint: str, source: str, row: Row, facts: StreamFacts, next_place: str | None) -> Counts:
    raw, dead, waiting = row
    kept = {name.decode(): value.decode() for name, value in raw.items()}
    recovery = recovery_of(kept)
    places = [*(place.decode() for place in waiting), *kept.get("holes", "").split()]
    places += [next_place] if next_place else []
    return Counts(
        source=source,
        endpoint=endpoint,
        waiting=len(waiting),
        dead=dead,
        lag=max(0, facts.added - max(int(kept["ordinal"]), facts.trimmed)) if "ordinal" in kept else 0,
        oldest_waiting=min(position(place)[0] for place in places) / 1000 if places else None,
        delivered=int(kept.get("delivered", 0)),
        died=int(kept.get("died", 0)),
        filtered=int(kept.get("filtered", 0)),
        unsure=int(kept.get("unsure", 0)),
        lost=int(kept.get("lost", 0)),
        recovering=bool(recovery.after or recovery.dead_until),
    )
