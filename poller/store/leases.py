"""Who holds what: a lease with a fence per source and per endpoint, spread evenly over the replicas.

A lease only saves double work; what keeps a stale holder from writing is the fence, which every
commit and settlement compares in its own script. All times are Redis TIME, never a client's clock.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from xxhash import xxh3_64_intdigest

from .connection import Connection, Script, translated
from .keys import Keys

_ACQUIRE = Script("lease_acquire")
_RENEW = Script("lease_renew")
_RELEASE = Script("lease_release")
_HOLDER = Script("lease_holder")
_BEAT = Script("replicas_beat")

_BETWEEN = "\n"
"""Between the units of a heartbeat: no name has a line break."""


class Leases:
    """The leases of one replica; `holder` is its name, made afresh at each start of the process."""

    def __init__(self, connection: Connection, *, holder: str, ttl_s: float) -> None:
        if not holder or ttl_s <= 0:
            msg = f"a lease needs a holder and a time above 0: holder={holder!r}, ttl_s={ttl_s:g}"
            raise ValueError(msg)
        self._connection = connection
        self._me = holder
        self._ttl_ms = max(1, round(ttl_s * 1000))

    async def acquire(self, key: str) -> int | None:
        """Take the lease at `key` (see Keys) and give its fence, or None where another holds it.

        A fence only grows. Acquiring what is held already renews it and keeps the fence.

        Raises:
            StoreUnavailable, StoreRefused: it may or may not be held; acquire again.
        """
        fence = await self._connection.run(_ACQUIRE, [key], [self._me, self._ttl_ms])
        return None if fence is None else int(fence)

    async def renew(self, key: str, fence: int) -> bool:
        """Hold the lease for another ttl; False says that another replica took it since."""
        return bool(await self._connection.run(_RENEW, [key], [self._me, self._ttl_ms, fence]))

    async def release(self, key: str, fence: int) -> bool:
        """Give the lease back at once; False says that it was no longer ours, and nothing changed."""
        return bool(await self._connection.run(_RELEASE, [key], [self._me, fence]))

    async def holder(self, key: str) -> str | None:
        """Who holds the lease at `key`, or None where it is free or has run out."""
        found = await self._connection.run(_HOLDER, [key], [])
        return None if found is None else str(found.decode())


class Replicas:
    """The heartbeat of one replica, and who else is alive."""

    def __init__(self, connection: Connection, keys: Keys, *, me: str, ttl_s: float) -> None:
        self._connection = connection
        self._key = keys.replicas()
        self._me = me
        self._ttl_ms = max(1, round(ttl_s * 1000))

    async def beat(self, units: Collection[str]) -> dict[str, frozenset[str]]:
        """Say that this replica lives and can take `units`; give the same of all that live, us included.

        One that was silent for ttl_s is forgotten. Beat three times within it.

        Raises:
            StoreUnavailable, StoreRefused: nobody knows who lives; keep what is held while renewals work.
        """
        told = _BETWEEN.join(sorted(units))
        reply = await self._connection.run(_BEAT, [self._key], [self._me, self._ttl_ms, told])
        words = [word.decode() for word in reply]
        return {name: _split(units) for name, units in zip(words[::2], words[1::2], strict=True)}

    async def leave(self) -> None:
        """Stop counting as alive, at once; the last thing before the process ends."""
        with translated():
            await self._connection.commands.hdel(self._key, self._me)


async def living(connection: Connection, keys: Keys, *, ttl_s: float) -> dict[str, float]:
    """The replicas that live, and for how many seconds each was silent; changes nothing.

    Raises:
        StoreUnavailable, StoreRefused: nobody knows who lives.
    """
    redis: Any = connection.commands
    with translated():
        told = await redis.hgetall(keys.replicas())
        seconds, micros = await redis.time()
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    silent = {name.decode(): (now_ms - int(beat.partition(b" ")[0])) / 1000 for name, beat in told.items()}
    return {name: max(0.0, each) for name, each in silent.items() if abs(each) <= ttl_s}


async def inherit(connection: Connection, keys: Keys, leases: Iterable[str]) -> None:
    """Free at once what dead replicas hold, and forget them; their fences stay, so none of them can write.

    Only for a replica that knows itself to be the only one: the one that has the embedded server's lock.
    """
    redis: Any = connection.commands
    with translated():
        for key in leases:
            await redis.hdel(key, "holder", "until", "ttl")
        await redis.delete(keys.replicas())


def _split(told: str) -> frozenset[str]:
    return frozenset(told.split(_BETWEEN)) if told else frozenset()


def fair_share(replicas: Mapping[str, Collection[str]], *, me: str) -> frozenset[str]:
    """Which units `me` should hold, given the living replicas and what each of them can take.

    Every replica that sees the same heartbeats comes to the same spread, without talking: shares
    differ by one at most, and a unit moves only where a replica came or went. Rendezvous hashing
    (Thaler and Ravishankar 1998) with a bound on each share. A unit that only some replicas know
    (during a change of settings) goes to one of those.
    """
    able = _able(replicas)
    floor, spare = divmod(len(able), max(1, len(replicas)))
    load = dict.fromkeys(replicas, 0)
    mine = set()
    # Those with the least choice first; among them in an order that is nobody's favourite.
    for unit in sorted(able, key=lambda unit: (len(able[unit]), _score(unit, ""), unit)):
        room = [name for name in able[unit] if load[name] < floor + (spare > 0)]
        taker = max(room or _least(able[unit], load), key=lambda name: (_score(unit, name), name))
        spare -= load[taker] == floor
        load[taker] += 1
        if taker == me:
            mine.add(unit)
    return frozenset(mine)


def _able(replicas: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    able: dict[str, list[str]] = {}
    for name in sorted(replicas):
        for unit in replicas[name]:
            able.setdefault(unit, []).append(name)
    return able


def _least(names: Iterable[str], load: Mapping[str, int]) -> list[str]:
    names = list(names)
    least = min(load[name] for name in names)
    return [name for name in names if load[name] == least]


def _score(unit: str, name: str) -> int:
    return xxh3_64_intdigest(f"{unit}\n{name}".encode())
