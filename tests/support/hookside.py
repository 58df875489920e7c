"""The other side of a webhook for tests: a real HTTP receiver on loopback, and an endpoint sending to it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

import msgspec
from aiohttp import web
from clocks import Clock
from waiting import wait_until

from poller.deliver.endpoint import Endpoint
from poller.deliver.outbound import Outbound
from poller.deliver.settings import EndpointSettings
from poller.model import Event, fields_of
from poller.store.connection import Connection
from poller.store.endpoint_stats import EndpointStanding, census
from poller.store.keys import Keys
from poller.store.letters import Attempt, Counts

LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = bytes(range(32))


@dataclass
class Got:
    """One request as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers.get("webhook-id", "")


Reply = int | tuple[int, dict[str, str]] | Callable[[web.Request, "Got"], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """Answers 200, or what `answers` (by event id), `script` (in turn) or `always` say."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answers: dict[str, Reply] = field(default_factory=dict)
    script: list[Reply] = field(default_factory=list)
    always: Reply = 200

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.got]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        got = Got({k.lower(): v for k, v in request.headers.items()}, await request.read())
        self.got.append(got)
        reply = self.answers.get(got.id)
        if reply is None:
            reply = self.script.pop(0) if self.script else self.always
        if isinstance(reply, int):
            return web.Response(status=reply, text=f"said {reply}")
        if isinstance(reply, tuple):
            return web.Response(status=reply[0], headers=reply[1])
        return await reply(request, got)


@asynccontextmanager
async def receiving(receiver: Receiver | None = None):
    """Run a receiver on a free port."""
    receiver = receiver or Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def hang(released: asyncio.Event) -> Reply:
    """Answer only when the event is set."""

    async def wait(request: web.Request, got: Got) -> web.StreamResponse:
        await released.wait()
        return web.Response(text="late")

    return wait


def event(
    n: int,
    *,
    type: str = "drum.opportunity.updated",  # noqa: A002 - the event's own word
    subject: str | None = None,
    **deal: Any,
) -> Event:
    """Make an event; its id is evt_ and n in hex."""
    subject = subject or f"opportunity/{n}"
    data = {"object": {"id": n}, "previous": {}, "changed": [], "revision": 1, "deal": deal or None}
    head = {
        "specversion": "1.0",
        "id": f"evt_{n:x}",
        "source": "/drum/acme",
        "type": type,
        "subject": subject,
    }
    body = msgspec.json.encode({**head, "time": "2026-11-22T10:00:00.000Z", "data": data})
    return Event(id=f"evt_{n:x}", type=type, subject=subject, time="2026-11-22T10:00:00.000Z", body=body)


def quick_outbound(deadline_s: float) -> Callable[[EndpointSettings], Outbound]:
    """Open connections with a shorter deadline."""

    def make(settings: EndpointSettings) -> Outbound:
        return Outbound(
            url=settings.url,
            concurrency=settings.concurrency,
            allow_private=settings.allow_private,
            deadline_s=deadline_s,
        )

    return make


@dataclass
class Told:
    """What the endpoint announced and observed."""

    announced: list[tuple[str, str, str, dict[str, Any]]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    async def announce(self, source: str, type_: str, subject: str, object_: dict[str, Any]) -> None:
        self.announced.append((source, type_, subject, object_))

    @property
    def types(self) -> list[str]:
        return [each[1] for each in self.announced]


@dataclass
class Side:
    """One endpoint in a test: start it, stop it, kill it, start it again."""

    connection: Connection
    keys: Keys
    settings: EndpointSettings
    clock: Callable[[], float]
    sources: Sequence[str] = ("acme",)
    fence: int = 1
    told: Told = field(default_factory=Told)
    endpoint: Endpoint | None = None
    task: "asyncio.Task[None] | None" = None
    stop_event: asyncio.Event = field(default_factory=asyncio.Event)
    tick_s: float = 0.02
    options: dict[str, Any] = field(default_factory=dict)

    def start(self, **changes: Any) -> Endpoint:
        self.settings = replace(self.settings, **changes)
        self.stop_event = asyncio.Event()
        self.endpoint = Endpoint(
            settings=self.settings,
            connection=self.connection,
            keys=self.keys,
            sources=self.sources,
            fence=self.fence,
            now=self.clock,
            chance=self.chance,
            announce=self.told.announce,
            on_attempt=lambda _, attempt: self.told.attempts.append(attempt),
            tick_s=self.tick_s,
            **self.options,
        )
        self.task = asyncio.create_task(self.endpoint.run(self.stop_event))
        return self.endpoint

    _chances: int = 0

    def chance(self) -> float:
        """No jitter worth naming, and yet never the same number twice."""
        self._chances += 1
        return self._chances * 1e-9

    async def stop(self) -> None:
        if self.task:
            self.stop_event.set()
            task, self.task = self.task, None
            await task

    async def kill(self) -> None:
        """End it without a word, as kill -9 does."""
        if self.task:
            task, self.task = self.task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def publish(self, *events: Event, source: str = "acme") -> list[str]:
        key = self.keys.events(source)
        return [(await self.connection.commands.xadd(key, dict(fields_of(each)))).decode() for each in events]


@asynccontextmanager
async def delivering(
    connection: Connection, keys: Keys, url: str, *, clock=None, options=None, **settings: Any
):
    """An endpoint `hook` for a URL, started from the oldest event, ended at the end of the test."""
    plain = {"name": "hook", "url": url, "secrets": (SECRET,), "start": "oldest", "allow_private": LOOPBACK}
    side = Side(
        connection,
        keys,
        EndpointSettings(**{**plain, **settings}),
        clock or Clock(),
        options=options or {},
    )
    try:
        yield side
    finally:
        await side.kill()


async def attempts(side: Side, count: int) -> None:
    """Wait until so many attempts were made."""
    await wait_until(lambda: len(side.told.attempts) >= count, f"{count} attempts", timeout_s=10)


@dataclass(frozen=True, slots=True)
class Gauges:
    """How an endpoint stands at this moment, as only its own process knows."""

    state: str
    in_flight: int
    at_hand: int
    """Events taken from the streams and not yet delivered or dead."""
    waiting: int
    """Those of them that wait for a further attempt, or behind one that does."""


def gauges(endpoint: Endpoint) -> Gauges:
    """Look into a running endpoint."""
    board, state = endpoint._board, endpoint._breaker.state
    return Gauges(
        state.word(now=endpoint._now()), len(endpoint._flights), len(list(board)), sum(board.stored.values())
    )


async def standing_of(connection: Connection, keys: Keys, endpoint: str = "hook") -> EndpointStanding:
    """How it stands by what Redis has, orders that nobody has read yet included."""
    return (await census(connection, keys, {endpoint: ["acme"]}))[endpoint]


async def counts_of(connection: Connection, keys: Keys, endpoint: str = "hook") -> Counts:
    """What it has before it, and what became of the rest."""
    return (await standing_of(connection, keys, endpoint)).counts[0]
