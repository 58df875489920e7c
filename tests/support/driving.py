"""One source driven from a test: the real driver, a real budget, a simulator over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from waiting import wait_until

from poller.model import dumps, loads
from poller.store.budget import Budget
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases
from poller.store.snapshots import Snapshots
from poller.watch.driver import Driver, Plan
from poller.watch.limiter import RateLimiter
from poller.watch.poll import Swept
from poller.watch.session import Manner, SourceSession
from poller.watch.sources import SOURCES
from poller.watch.sources.base import Account
from poller.watch.token_bucket import Demand
from poller.watch.upstream import Upstream


async def alone(_mine: Demand, per_s: float) -> float:
    """The only source of its host has all of its pace."""
    return per_s


@dataclass
class Driven:
    """A driver at work, and what can be seen of it."""

    session: SourceSession
    driver: Driver
    connection: Connection
    keys: Keys
    stop: asyncio.Event
    due: asyncio.Event
    task: "asyncio.Task[None]"
    swept: list[Swept] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    def ask(self, **request: Any) -> None:
        """Leave an operator's request, and let the driver look."""
        self.asked.append(dumps(request))
        self.due.set()

    async def until(self, condition: Callable[[], Any], what: str, *, within_s: float = 30.0) -> Any:
        """Wait for a condition, and fail with what the driver failed with."""

        def look() -> Any:
            if self.task.done() and not self.stop.is_set():
                self.task.result()
            return condition()

        return await wait_until(look, what, within_s)

    async def told(self) -> list[dict[str, Any]]:
        """All events so far, as decoded CloudEvents."""
        redis: Any = self.connection.commands
        found = await redis.xrange(self.keys.events(self.session.source.name))
        return [loads(fields[b"event"]) for _, fields in found]

    async def events(self) -> list[str]:
        """Types of all events so far."""
        return [event["type"] for event in await self.told()]


@asynccontextmanager
async def driving(
    connection: Connection,
    keys: Keys,
    sim: Any,
    *,
    limit: int = 100_000,
    window_s: float = 60.0,
    every_s: float = 0.2,
    max_age_s: float = 86_400.0,
    name: str = "acme",
    token: str = "",
    **manner: Any,
) -> AsyncIterator[Driven]:
    """Hold the lease of a source and drive it while the block runs."""
    leases = Leases(connection, holder=f"test-{id(sim)}", ttl_s=3600)
    fence = await leases.acquire(keys.source_lease(name))
    assert fence is not None
    made, token = SOURCES[sim.kind], token or sim.token
    upstream = Upstream(base_url=sim.url, auth=made.auth(token), timeout_s=5.0)
    source = made(Account(name=name, base_url=sim.url), upstream)
    snapshots = Snapshots(connection, keys, name, fence=fence)
    budget = Budget(
        connection, keys, host="sim", egress="default", limit=limit, window_s=window_s, source=name
    )
    limiter = RateLimiter(budget, host="sim", limit=limit, window_s=window_s, timeout_s=5.0)
    session = SourceSession(
        source=source,
        source_kind=sim.kind,
        snapshots=snapshots,
        memory=await snapshots.open(),
        limiter=limiter,
        manner=Manner(**manner),
    )
    stop, due = asyncio.Event(), asyncio.Event()
    swept: list[Swept] = []
    reports: list[dict[str, Any]] = []
    asked: list[bytes] = []

    async def take() -> bytes | None:
        return asked.pop(0) if asked else None

    async def report(told: dict[str, Any]) -> None:
        reports.append(told)

    plan = Plan(every_s=every_s, max_age_s=max_age_s, part=alone)
    driver = Driver(
        session, limiter=limiter, plan=plan, due=due, asked=take, report=report, swept=swept.append
    )
    task = asyncio.create_task(driver.run(stop))
    driven = Driven(session, driver, connection, keys, stop, due, task, swept, reports, asked)
    try:
        yield driven
    finally:
        stop.set()
        due.set()
        async with asyncio.timeout(10):
            await task
        await source.close()
        await leases.release(keys.source_lease(name), fence)
