"""One source watched from a test: the real wing, a real store, a simulator over real HTTP, no schedule."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from poller.errors import Limited, UpstreamError
from poller.model import loads
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases
from poller.store.snapshots import Snapshots
from poller.watch.events import Known, known_of
from poller.watch.poll import Poll, Swept
from poller.watch.session import Manner, SourceSession
from poller.watch.sources import SOURCES
from poller.watch.sources.base import Account
from poller.watch.upstream import Upstream


class FreeTicket:
    """A request that costs nothing: what is watched here is not the budget."""

    spent = 0

    async def use(self, cost: int = 1) -> None:
        """Always allowed."""
        self.spent += cost

    async def answered(self) -> None:
        """Nothing to note."""

    async def refused(self, pause: Any, status: int) -> float:
        """No host is blocked here."""
        return 0.0

    async def welcomed(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to give back."""


class FreeLimiter:
    """Pays for everything at once."""

    async def ticket(self, purpose: str, requests: int) -> FreeTicket:
        """A ticket, at once."""
        return FreeTicket()

    async def offer(self, purpose: str) -> FreeTicket | float:
        """A ticket, at once."""
        return FreeTicket()


class Watched:
    """A source, and what came of watching it."""

    def __init__(
        self,
        session: SourceSession,
        connection: Connection,
        keys: Keys,
        name: str,
        anew: Callable[[], Awaitable[SourceSession]],
    ) -> None:
        self.session = session
        self.poll = Poll(session)
        self._anew = anew
        self._redis: Any = connection.commands
        self._keys = keys
        self._name = name
        self._read = "-"

    async def sweep(self) -> list[Swept]:
        """Sweep every list once."""
        told = []
        for kind in self.session.source.lists:
            with suppress(Limited):
                told.append(await self.poll.sweep(kind))
        return told

    async def details(self, subjects: list[str] | None = None) -> None:
        """Read these records by id, or every listed one."""
        if subjects is None:
            subjects = [
                f"{kind}/{record_id}"
                for kind in self.session.source.lists
                if self.session.source.kinds[kind].detailed
                for record_id in sorted(await self.session.snapshots.listed_ids(kind))
            ]
        for subject in subjects:
            kind, _, record_id = subject.partition("/")
            with suppress(UpstreamError):
                await self.poll.detail(kind, record_id, FreeTicket())

    async def events(self) -> list[dict[str, Any]]:
        """The events that came since the last call, as decoded CloudEvents."""
        start = "-" if self._read == "-" else f"({self._read}"
        found = await self._redis.xrange(self._keys.events(self._name), start, "+")
        if found:
            self._read = found[-1][0].decode()
        return [loads(fields[b"event"]) for _, fields in found]

    async def told(self) -> list[tuple[str, str]]:
        """Type and subject of the events that came since the last call."""
        return [(event["type"], event["subject"]) for event in await self.events()]

    async def cycle(self) -> list[tuple[str, str]]:
        """Sweep every list, read every detail; type and subject of what came of it."""
        await self.cycle_quietly()
        return await self.told()

    async def cycle_quietly(self) -> None:
        """Sweep every list, read every detail; what came of it is left to be read."""
        await self.sweep()
        await self.details()

    async def restart(self) -> None:
        """Forget everything but what Redis keeps, as after a crash."""
        self.session = await self._anew()
        self.poll = Poll(self.session)

    async def known(self, subject: str) -> Known | None:
        """What is kept of a record."""
        kind, _, record_id = subject.partition("/")
        return known_of((await self.session.snapshots.records(kind, [record_id])).get(record_id))


@asynccontextmanager
async def watching(
    connection: Connection,
    keys: Keys,
    *,
    kind: str,
    url: str,
    token: str,
    name: str = "acme",
    timeout_s: float = 5.0,
    account: Mapping[str, Any] | None = None,
    now: Callable[[], float] = time.time,
    **manner: Any,
) -> AsyncIterator[Watched]:
    """Hold the lease of a source and watch it while the block runs; again under the same name goes on."""
    leases = Leases(connection, holder=f"test-{id(object())}", ttl_s=3600)
    fence = await leases.acquire(keys.source_lease(name))
    assert fence is not None
    made = SOURCES[kind]
    upstream = Upstream(base_url=url, auth=made.auth(token), timeout_s=timeout_s, now=now)
    source = made(Account(name=name, base_url=url, **(account or {})), upstream)

    async def anew() -> SourceSession:
        snapshots = Snapshots(connection, keys, name, fence=fence)
        return SourceSession(
            source=source,
            source_kind=kind,
            snapshots=snapshots,
            memory=await snapshots.open(),
            limiter=FreeLimiter(),
            manner=Manner(**manner),
            now=now,
        )

    try:
        yield Watched(await anew(), connection, keys, name, anew)
    finally:
        await source.close()
        await leases.release(keys.source_lease(name), fence)


@asynccontextmanager
async def drum(
    connection: Connection,
    *,
    records: int = 4,
    seed: int = 3,
    world: Any = None,
    begin: bool = True,
    account: Mapping[str, Any] | None = None,
    manner: Mapping[str, Any] | None = None,
    **switches: Any,
) -> AsyncIterator[tuple[Any, Watched]]:
    """A simulated Drum and a source that watches it; with `begin` after its baseline, details and all."""
    options = Options(records=records, seed=seed)
    async with (
        serve("drum", world, options=options, **switches) as sim,
        watching(
            connection,
            Keys(),
            kind="drum",
            url=sim.url,
            token=sim.token,
            timeout_s=2,
            account=account,
            **(manner or {}),
        ) as watched,
    ):
        if begin:
            await watched.cycle()
        yield sim, watched
