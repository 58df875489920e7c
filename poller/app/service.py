"""The service: every source and endpoint under a lease of its own, until SIGTERM."""

import asyncio
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from poller.config import Settings, SourceSettings, WebhookSettings
from poller.deliver.endpoint import Endpoint
from poller.errors import StoreError, StoreUnavailable
from poller.model import Event, dumps
from poller.store import snapshots
from poller.store.budget import Granted
from poller.store.connection import Connection, ServerInfo
from poller.store.embedded import Embedded
from poller.store.keys import Keys
from poller.store.leases import Leases, Replicas, fair_share, inherit
from poller.store.letters import Attempt
from poller.store.snapshots import Requests, Snapshots
from poller.watch.driver import Driver
from poller.watch.poll import Swept
from poller.watch.session import SourceSession
from poller.web import Listener, Pulse, Web, listen, opened

from .announce import Announcer
from .front import context_of
from .lookups import Lookups
from .scheduler import Scheduler
from .sharing import Sharing
from .wiring import endpoint_of, limiter_of, manner_of, plan_of, redis_url, source_of
from .worker import FINISH_S, Work, Worker, rest

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
TRIM_S = 60.0
SOURCE_STOP_S = 2.0
"""What a source has begun when the service ends is committed within this time, or found again by the next
sweep: a CRM that does not answer, a budget that is spent and a list of 100,000 hold up no stop."""
LEAVE_S = 1.0
TEND_S = 5.0
"""Until the next try to start the embedded server again."""
BEAT_S = 0.5
"""How often a replica says that it lives: with worker.LOOK_S it bounds a take-over (contract §8)."""

log = structlog.get_logger("poller.app")


@dataclass(kw_only=True)
class Ears:
    """Who wants to hear of what happens: metrics, the demo, tests."""

    swept: list[Callable[[str, Swept], None]] = field(default_factory=list)
    said: list[Callable[[str, Sequence[Event]], None]] = field(default_factory=list)
    """(source, events), once they are committed."""
    attempted: list[Callable[[str, Attempt], None]] = field(default_factory=list)
    """(endpoint, attempt), once it was answered."""
    serving: list[Callable[[str], None]] = field(default_factory=list)
    """The page's address, once it answers."""


class Service:
    """One replica."""

    def __init__(
        self, settings: Settings, connection: Connection, *, ears: Ears | None = None, alone: bool = False
    ) -> None:
        """`alone`: it has the embedded server's lock, so whoever held a lease there is dead."""
        self.settings = settings
        self._alone = alone
        self.connection = connection
        self.keys = Keys(settings.redis.prefix)
        self.ears = ears or Ears()
        self.me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        lease_s = settings.redis.lease.total_seconds()
        self._renew_s = lease_s / 3
        self._leases = Leases(connection, holder=self.me, ttl_s=lease_s)
        self._replicas = Replicas(connection, self.keys, me=self.me, ttl_s=lease_s)
        kinds = {name: given.kind for name, given in settings.sources.items()}
        self._announce = Announcer(connection, self.keys, kinds, said=self._said)
        self._due = {name: asyncio.Event() for name in settings.sources}
        self._granted: dict[tuple[str, str], Granted] = {}
        """(host, egress) -> what this replica was granted: a source's work begins anew, this does not."""
        self._share: frozenset[str] = frozenset()
        self.reasons: list[str] = ["starting"]
        """Why the service is not ready; empty when it is."""
        self.scheduler = Scheduler(
            {
                name: (given.every.total_seconds(), self._due[name].set)
                for name, given in settings.sources.items()
            },
            jumped=self._begin_anew,
        )
        self.workers = [*self._source_workers(), *self._endpoint_workers()]

    def pulse(self) -> Pulse:
        """How this replica is, as it knows itself."""
        scheduler = self.scheduler
        return Pulse(
            ticking=scheduler.ticking or not scheduler.started,
            silent_s=scheduler.silent_s if scheduler.started else 0.0,
            restarts=scheduler.restarts,
            reasons=(*self.reasons, *(worker.refused for worker in self.workers if worker.refused)),
            held={worker.name: worker.holds for worker in self.workers},
        )

    def _begin_anew(self) -> None:
        """The clock was set: each source plans its readings anew. Endpoints look at the clock themselves."""
        for worker in self.workers:
            if worker.name.startswith("source/"):
                worker.begin_anew()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then let commits finish, deliveries settle, and give leases back."""
        await self._until_store_answers(stop)
        if stop.is_set():
            return
        await self._beat_once()  # so that nobody waits for a share at the start
        async with asyncio.TaskGroup() as group:
            group.create_task(self.scheduler.run(stop))
            group.create_task(self._beat(stop))
            for worker in self.workers:
                group.create_task(worker.run(stop))
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._replicas.leave()
        log.info("service.stopped", replica=self.me)

    async def _until_store_answers(self, stop: asyncio.Event) -> None:
        """Wait for Redis as long as it takes; one that cannot be used is refused at once.

        Raises:
            StoreRefused: the server is too old, or evicts keys; or a newer poller wrote a source's state.
        """
        pause_s = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                info = await self.connection.check()
                for name in self.settings.sources:
                    await snapshots.register(self.connection, self.keys, name)
                    await Snapshots(self.connection, self.keys, name, fence=0).open()
                if self._alone:
                    await inherit(self.connection, self.keys, [worker.key for worker in self.workers])
            except StoreUnavailable as exc:
                self.reasons = [str(exc)]
                log.warning("store.unavailable", reason=str(exc), again_in_s=pause_s)
                await rest(stop, pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._greet(info)
                return

    def _greet(self, info: ServerInfo) -> None:
        for warning in info.warnings:
            log.warning("store.warning", warning=warning)
        log.info(
            "service.started",
            replica=self.me,
            server=f"{info.name} {info.version}",
            sources=sorted(self.settings.sources),
            webhooks=sorted(self.settings.webhooks),
        )

    async def _beat(self, stop: asyncio.Event) -> None:
        """Say again and again that this replica lives, so that a death is seen well within the second."""
        while not stop.is_set():
            await self._beat_once()
            await rest(stop, min(self._renew_s, BEAT_S))

    async def _beat_once(self) -> None:
        """Say that this replica lives, and work out its share."""
        try:
            alive = await self._replicas.beat([worker.name for worker in self.workers])
            self._share = fair_share(alive, me=self.me)
            silent = "" if self.scheduler.ticking else "the scheduler does not tick"
            self.reasons = [silent] if silent else []
        except StoreError as exc:
            self.reasons = [str(exc)]

    # --- sources ------------------------------------------------------------------------------

    def _source_workers(self) -> list[Worker]:
        return [
            self._worker(
                f"source/{name}",
                self.keys.source_lease(name),
                partial(self._poll, name, given),
                stop_s=SOURCE_STOP_S,
            )
            for name, given in self.settings.sources.items()
        ]

    def _worker(self, name: str, key: str, work: Work, *, stop_s: float = FINISH_S) -> Worker:
        return Worker(
            name=name,
            key=key,
            leases=self._leases,
            work=work,
            mine=lambda: name in self._share,
            renew_s=self._renew_s,
            stop_s=stop_s,
        )

    async def _poll(self, name: str, given: SourceSettings, fence: int, stop: asyncio.Event) -> None:
        said = partial(self._said, name)
        store = Snapshots(self.connection, self.keys, name, fence=fence, said=said)
        memory = await store.open()
        async with AsyncExitStack() as stack:
            source = source_of(name, given)
            stack.push_async_callback(source.close)
            limiter = limiter_of(name, given, self.connection, self.keys, self._granted)
            session = SourceSession(
                source=source,
                source_kind=given.kind,
                snapshots=store,
                memory=memory,
                limiter=limiter,
                manner=manner_of(given),
            )
            driver = Driver(
                session,
                limiter=limiter,
                plan=plan_of(given, Sharing(self.settings, self.connection, self.keys, name).part),
                due=self._due[name],
                asked=Requests(self.connection, self.keys, name).next,
                report=partial(self._report, name),
                swept=partial(self._swept, name),
            )
            self._due[name].set()
            trimming = asyncio.ensure_future(self._trim(name))
            stack.push_async_callback(_cancelled, trimming)
            await driver.run(stop)

    async def _report(self, name: str, told: dict[str, Any]) -> None:
        await snapshots.report(self.connection, self.keys, name, dumps({**told, "replica": self.me}))

    def _swept(self, name: str, told: Swept) -> None:
        for hear in self.ears.swept:
            hear(name, told)

    def _said(self, name: str, events: Sequence[Event]) -> None:
        for hear in self.ears.said:
            hear(name, events)

    async def _trim(self, name: str) -> None:
        """Drop what is older than the retention, once a minute."""
        retention_s = self.settings.redis.retention.total_seconds()
        while True:
            with suppress(StoreError):
                await snapshots.trim(self.connection, self.keys, name, keep_s=retention_s)
            await asyncio.sleep(TRIM_S)

    # --- endpoints --------------------------------------------------------------------------------

    def _endpoint_workers(self) -> list[Worker]:
        return [
            self._worker(
                f"webhook/{name}", self.keys.endpoint_lease(name), partial(self._deliver, name, given)
            )
            for name, given in self.settings.webhooks.items()
        ]

    async def _deliver(self, name: str, given: WebhookSettings, fence: int, stop: asyncio.Event) -> None:
        endpoint = Endpoint(
            settings=endpoint_of(name, given),
            connection=self.connection,
            keys=self.keys,
            sources=list(self.settings.sources),
            fence=fence,
            now=time.time,
            chance=random.random,
            announce=self._announce,
            on_attempt=self._attempted,
        )
        await endpoint.run(stop)

    def _attempted(self, endpoint: str, attempt: Attempt) -> None:
        for hear in self.ears.attempted:
            hear(endpoint, attempt)


async def serve(settings: Settings, *, ears: Ears | None = None, stop: asyncio.Event | None = None) -> None:
    """Run the service until SIGTERM or SIGINT, or until `stop` is set.

    Raises:
        SettingsError: web.port is taken.
        StoreRefused: Redis, or the embedded server, cannot be used as it is.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Lookups())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = url_given = redis_url(settings)
    async with AsyncExitStack() as stack:
        # The port first: one that is taken must be told before anything runs without its probes.
        listener = listen(settings.web.host, settings.web.port)
        stack.callback(listener.close)
        if url is None:
            embedded = Embedded(fsync=settings.redis.durability == "fsync")
            url = await embedded.start(settings.data_dir)
            stack.push_async_callback(embedded.stop)
            stack.push_async_callback(_cancelled, asyncio.ensure_future(_tended(embedded)))
        connection = Connection.open(url, fsync=settings.redis.durability == "fsync")
        stack.push_async_callback(connection.close)
        service = Service(settings, connection, ears=ears, alone=url_given is None)
        # Closed after the last delivery: until then the probes tell of the stop.
        await stack.enter_async_context(_fronted(service, listener, stop))
        await service.run(stop)


@asynccontextmanager
async def _fronted(service: Service, listener: Listener, stop: asyncio.Event) -> AsyncIterator[None]:
    """Answer over HTTP while the block runs (contract §9)."""
    settings, ears = service.settings, service.ears
    context = context_of(settings, service.connection, service.keys, pulse=service.pulse)
    web = Web(context, stopping=stop.is_set)
    ears.swept.append(web.meters.swept)
    ears.said.append(web.meters.said)
    ears.attempted.append(web.meters.attempted)
    async with opened(web, listener):
        log.info("web.serving", url=listener.url)
        for hear in ears.serving:
            hear(listener.url)
        yield


async def _tended(embedded: Embedded) -> None:
    """Have the embedded server started again whenever it died, however long that takes (a full disk)."""
    while True:
        try:
            await embedded.tend()
        except (StoreError, OSError) as exc:
            log.error("store.embedded_down", reason=str(exc), again_in_s=TEND_S)
            await asyncio.sleep(TEND_S)
        else:
            return


async def _cancelled(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
