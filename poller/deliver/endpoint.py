"""One endpoint's loop: from the streams of its sources to requests, and from answers to settlements.

Three things run side by side: one reads the streams, one sends what may go, one looks every second at
what time and operators have changed. Each outcome is settled before its connection is free again, so a
process that dies repeats at most one event for each connection, under the same id.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from poller.errors import StoreError
from poller.model import Event
from poller.store.connection import Connection, ended
from poller.store.keys import Keys
from poller.store.known_sources import KnownSources
from poller.store.letters import Attempt, Meta
from poller.store.queue import Orders, Outcome, Queue
from poller.store.streams import Streams

from . import retry
from .breaker import Announce, Breaker
from .filters import wanted_by, wants_source
from .formats import FORMATS
from .intake import Intake
from .journal import Journal
from .lanes import Board, Item
from .outbound import Answer, Outbound
from .retry import Verdict
from .settings import EndpointSettings, outbound_for
from .settling import Patience

TICK_S = 1.0
LOOK_EVERY = 5
SWEEP_EVERY = 60
"""Ticks between two looks at the streams, and between two burials."""
GRACE_S = 18.0
"""How long a stop waits for what is under way: one request's deadline and its settlement."""
HESITATION_S = 1.0
"""Pause between attempts once an endpoint is in doubt, until it takes something or is probed."""
JUMP_S = 5.0
"""A clock that is this much behind what it said before has jumped."""


class Endpoint:
    """Serves one endpoint while its lease is held under `fence`."""

    def __init__(
        self,
        *,
        settings: EndpointSettings,
        connection: Connection,
        keys: Keys,
        sources: Iterable[str],
        fence: int,
        now: Callable[[], float],
        chance: Callable[[], float],
        announce: Announce,
        on_attempt: Callable[[str, Attempt], None] = lambda _, __: None,
        outbound: Callable[[EndpointSettings], Outbound] = outbound_for,
        tick_s: float = TICK_S,
    ) -> None:
        self.settings = settings
        self._now, self._chance = now, chance
        self._tick_s, self._make_outbound = tick_s, outbound
        self._log = structlog.get_logger().bind(endpoint=settings.name, host=settings.host)
        self._format = FORMATS[settings.format]
        self._board = Board(ordered=settings.order == "subject")
        self._wake, self._room, self._nudge = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._flights: set[asyncio.Task[None]] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._next_start = self._last_start = self._last_tick = 0.0
        self._ticks = 0
        self._clear = False
        self._queue = Queue(connection, keys, endpoint=settings.name, fence=fence)
        self._journal = Journal(settings=settings, queue=self._queue, on_attempt=on_attempt)
        self._intake = Intake(
            queue=self._queue,
            board=self._board,
            streams=Streams(connection, keys),
            known=KnownSources(connection, keys.endpoint_sources(settings.name)),
            wants=wanted_by(settings.events, settings.filter),
            start=settings.start,
            first_delay_s=settings.schedule_s[0],
            now=now,
            chance=chance,
            spawn=lambda settler: self._spawn(settler.run()),
            changed=self._stir,
        )
        self._breaker = Breaker(
            queue=self._queue,
            settings=settings,
            announce=announce,
            concerned=self._concerned,
            changed=self._nudge.set,
        )
        for source in sources:
            self.follow(source)

    def follow(self, source: str) -> None:
        """Serve one more source, also while running; one that the settings leave out is only known."""
        self._intake.follow(source, wanted=wants_source(self.settings.sources, source))
        self._nudge.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`, then settle what is in flight and return within 20 s.

        Raises:
            Fenced: another replica holds the endpoint now. Conflict: Redis lost what was settled; begin anew.
        """
        schedule = self.settings.schedule_s
        span_h = round(retry.span_s(schedule) / retry.HOUR, 1)
        self._log.info("endpoint.started", attempts=len(schedule), span_h=span_h)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbound = self._make_outbound(self.settings)
        self._next_start = self._now() + self.settings.interval_s  # another may have sent just now
        stopped = asyncio.create_task(stop.wait())
        busy = [self._spawn(each) for each in (self._ticking(), self._reading(), self._sending())]
        try:
            waited: list[asyncio.Future[Any]] = [stopped, self._broken]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not self._broken.done():
                await self._wind_down(busy)
        finally:
            await _end([stopped, *self._workers, *self._flights])
            await self._outbound.close()
        if self._broken.done():
            self._broken.result()
        self._log.info("endpoint.stopped")

    async def _wind_down(self, busy: Sequence["asyncio.Task[None]"]) -> None:
        await _end(busy)
        if self._flights:
            await asyncio.wait(self._flights, timeout=GRACE_S)
        try:
            async with asyncio.timeout(GRACE_S / 10):
                await self._intake.flush()
                await self._keep()
        except (TimeoutError, StoreError) as exc:
            self._log.warning("endpoint.stopped_in_haste", reason=str(exc) or "Redis did not answer in time")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._workers.append(task)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._flights.discard(task)
        self._stir()
        if not task.cancelled() and (exc := task.exception()) and not self._broken.done():
            self._broken.set_exception(exc)

    def _stir(self) -> None:
        self._wake.set()
        self._room.set()

    def _patience(self) -> Patience:
        return Patience(endpoint=self.settings.name, chance=self._chance)

    def _concerned(self) -> list[str]:
        waiting = {item.source for item in self._board}
        return [name for name in self._intake.names if name in waiting] or self._intake.names

    # --- looking ------------------------------------------------------------------------

    async def _ticking(self) -> None:
        patience = self._patience()
        while True:
            try:
                await self._tick()
                patience.rested()
                await _wait(self._nudge, self._tick_s)
            except StoreError as exc:
                await patience.rest(exc)

    async def _tick(self) -> None:
        now, breaker, intake = self._now(), self._breaker, self._intake
        orders = await breaker.load(now=now)
        self._clear = breaker.has_obeyed(orders)  # nothing is read or sent before an order is carried out
        await intake.open(up_since=breaker.health.up_since)
        if not self._clear:
            await self._carry_out(orders, now=now)
        if now < self._last_tick - JUMP_S:
            breaker.clock_went_back(now=now)
            self._board.pull_forward(latest=now + retry.longest_wait_s(self.settings.schedule_s))
        self._last_tick = now
        breaker.heed(*breaker.health.passed(now=now), now=now)
        self._board.look_again(now=now, health=breaker.health)
        await self._keep()
        await intake.flush()
        await self._now_and_then()
        self._stir()

    async def _carry_out(self, orders: Orders, *, now: float) -> None:
        # What is passed over is so in Redis before the order counts as obeyed: a crash in between repeats it.
        if orders.skip:
            await self._intake.skip(orders.skip)
        await self._intake.reload()
        self._breaker.obey(orders, now=now)
        if orders.want == "enabled":
            self._board.pull_forward(latest=now)
        self._clear = True

    async def _keep(self) -> None:
        await self._breaker.save()
        await self._breaker.announce()
        await self._journal.write()

    async def _now_and_then(self) -> None:
        intake = self._intake
        if self._ticks % LOOK_EVERY == 0:
            await intake.look()
        if self._ticks % SWEEP_EVERY == 0:
            await intake.sweep()
        if not self._breaker.health.disabled:
            await intake.send_again()
        self._ticks += 1

    # --- reading ------------------------------------------------------------------------

    async def _reading(self) -> None:
        patience = self._patience()
        while True:
            self._room.clear()
            try:
                if not await self._read():
                    await _wait(self._room, self._tick_s)
                patience.rested()
            except StoreError as exc:
                await patience.rest(exc)

    async def _read(self) -> bool:
        health = self._breaker.health
        if not self._clear or health.disabled:
            return False
        held = health.probing or health.doubtful or health.open_at() > self._now()
        return await self._intake.read(most=1 if held else None)

    # --- sending ------------------------------------------------------------------------

    async def _sending(self) -> None:
        while True:
            self._wake.clear()
            while len(self._flights) < self.settings.concurrency and self._launch():
                pass
            await _wait(self._wake, self._until_next())

    def _launch(self) -> bool:
        now, health = self._now(), self._breaker.health
        if not self._clear or health.disabled or now < health.open_at():
            return False
        slow = health.probing or health.doubtful
        if slow and (self._flights or _ahead(self._last_start + HESITATION_S, now, HESITATION_S)):
            return False
        if _ahead(self._next_start, now, self.settings.interval_s):
            return False
        board = self._board
        item = board.oldest() if health.probing else board.take(now=now, health=health)
        if item is None:
            return False
        self._last_start, self._next_start = now, now + self.settings.interval_s
        task = asyncio.create_task(self._fly(item, probe=health.probing))
        self._flights.add(task)
        task.add_done_callback(self._ended)
        return True

    def _until_next(self) -> float:
        # A clock may jump, so nobody sleeps for long on its word.
        now, due, health = self._now(), self._board.next_due(), self._breaker.health
        moments = [health.open_at(), self._next_start, *([] if due is None else [due])]
        return min(self._tick_s, *(moment - now for moment in moments if moment > now), self._tick_s)

    async def _fly(self, item: Item, *, probe: bool) -> None:
        event = item.event or await self._intake.load(item)
        if event is None:
            self._board.remove(item)
            return
        answer = await self._post(event)
        await self._conclude(item, event, answer, probe=probe)

    async def _post(self, event: Event) -> Answer:
        settings = self.settings
        try:
            request = self._format(
                event, secrets=settings.secrets, at=self._now(), content_type=settings.content_type
            )
        except Exception as exc:  # noqa: BLE001 - an event that cannot be written must not stop the others
            return Answer(status=None, fault="format", detail=type(exc).__name__)
        return await self._outbound.post(body=request.body, headers={**settings.headers, **request.headers})

    # --- concluding ----------------------------------------------------------------------

    async def _conclude(self, item: Item, event: Event, answer: Answer, *, probe: bool) -> None:
        now, breaker = self._now(), self._breaker
        judged = retry.judge(answer.status, retry_after=answer.retry_after, now=now)
        meta = _tried(item.meta, answer, now=now)
        if judged.verdict is Verdict.TAKEN:
            self._succeeded(now)
            name, outcome = "delivered", Outcome("done", item.place)
        elif judged.verdict is Verdict.GONE:
            breaker.heed(*breaker.health.gone(now=now), now=now)
            meta.attempts = item.meta.attempts
            name, outcome = "gone", Outcome("wait", item.place, 0.0, meta, event.body)
        else:
            breaker.heed(*breaker.health.failed(now=now, pause_s=judged.pause_s, probe=probe), now=now)
            if probe:
                self._board.postpone(item, due=item.due)  # it has cost nothing: the event is where it was
                due = breaker.health.probe_at
                self._journal.note(item, answer, outcome="probe", attempt=meta.attempts, now=now, due=due)
                return
            name, outcome = self._after_failure(item, meta, event, judged.pause_s, now=now)
        await self._settle(item, meta, outcome, now=now)
        due_at = outcome.at if name == "later" else None
        self._journal.note(item, answer, outcome=name, attempt=meta.attempts, now=now, due=due_at)

    def _succeeded(self, now: float) -> None:
        breaker = self._breaker
        was_down = breaker.health.probing
        breaker.heed(*breaker.health.succeeded(now=now), now=now)
        if was_down:
            self._board.pull_forward(latest=now)
            self._log.info("endpoint.back", waiting=sum(self._board.stored.values()))
            self._nudge.set()

    def _after_failure(
        self, item: Item, meta: Meta, event: Event, pause_s: float, *, now: float
    ) -> tuple[str, Outcome]:
        schedule = self.settings.schedule_s
        delay = retry.delay_s(schedule, attempts=meta.attempts, chance=self._chance())
        if delay is not None:
            return "later", Outcome("wait", item.place, now + max(delay, pause_s), meta, event.body)
        if self._breaker.health.disabled:
            # It ends parked, not dead: the endpoint takes nothing from anybody.
            meta.attempts = item.meta.attempts
            return "later", Outcome("wait", item.place, now, meta, event.body)
        meta.died = now
        return "dead", Outcome("dead", item.place, now, meta, event.body)

    async def _settle(self, item: Item, meta: Meta, outcome: Outcome, *, now: float) -> None:
        if outcome.what != "wait":
            counter = "delivered" if outcome.what == "done" else "died"
            await self._intake.settle([item], [outcome], counter=counter)
            self._board.remove(item)
            return
        # Whoever stands behind it has a wait before him as well: Redis holds him from now on.
        behind = [(each, each.event) for each in self._board.behind(item)]
        parked = [Outcome("wait", each.place, now, each.meta, event.body) for each, event in behind if event]
        await self._intake.settle([item, *(each for each, _ in behind)], [outcome, *parked])
        item.meta, item.urgent = meta, outcome.at == 0
        for each in (item, *(each for each, _ in behind)):
            if not each.gone:
                self._board.store(each)
        self._board.postpone(item, due=outcome.at)


def _tried(meta: Meta, answer: Answer, *, now: float) -> Meta:
    why = str(answer.status) if answer.status is not None else answer.fault
    return msgspec.structs.replace(
        meta, attempts=meta.attempts + 1, first=meta.first or now, last=now, why=why
    )


def _ahead(moment: float, now: float, at_most: float) -> bool:
    # Further ahead than it can be means that the clock has jumped: then it counts as past.
    return now < moment <= now + at_most


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, which is then taken back, or for a time."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
    event.clear()


async def _end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    tasks = list(tasks)
    await ended(tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
