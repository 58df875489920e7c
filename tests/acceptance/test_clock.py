"""Clocks that are set, triggers that raise, a loop that stands still: polling never stops in silence."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
import time_machine
from apscheduler.triggers.interval import IntervalTrigger
from processes import inside
from waiting import wait_until
from website import TOKEN, settings_of, site, unwell

from poller.app import Service
from poller.app.scheduler import BEAT_S, SILENCE_S, Scheduler
from poller.model import loads
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.poll import Swept

EVERY_S = 1.0
Figures = Callable[..., None]


@dataclass
class Ticking:
    """A scheduler with one job, and when that was due (monotonic seconds)."""

    due: list[float] = field(default_factory=list)
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler({"job": (0.2, self._tick)})

    def _tick(self) -> None:
        self.due.append(time.monotonic())


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticking]:
    """Have it tick while the block runs."""
    made, stop = Ticking(), asyncio.Event()
    running = asyncio.create_task(made.scheduler.run(stop))
    try:
        yield made
    finally:
        stop.set()
        await running


@pytest.mark.fault(13)
async def test_a_trigger_that_raises_stops_nothing_for_good(
    monkeypatch: pytest.MonkeyPatch, fakestore: Connection, figures: Figures
) -> None:
    """APScheduler dies of it in silence; within two beats the watchdog has made it anew, and says so."""
    right = IntervalTrigger.get_next_fire_time

    def wrong(*_: Any) -> None:
        msg = "a trigger that raises"
        raise ValueError(msg)

    async with ticking() as made, site(fakestore, settings_of()) as here:
        await wait_until(lambda: len(made.due) > 2, "the first ticks")
        # APScheduler fails in its own timer, which asyncio reports to whoever listens.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        monkeypatch.setattr(IntervalTrigger, "get_next_fire_time", wrong)
        await wait_until(lambda: time.monotonic() - made.due[-1] > 2 * BEAT_S, "silence", 10)
        monkeypatch.setattr(IntervalTrigger, "get_next_fire_time", right)
        silent_at, count = made.due[-1], len(made.due)
        await wait_until(lambda: len(made.due) > count + 2, "ticks again", 10)
        took_s = made.due[count] - silent_at
        assert made.scheduler.restarts == 1
        here.pulse = unwell(restarts=made.scheduler.restarts)
        said = (await here.get("/healthz", authorization=f"Bearer {TOKEN}")).json()
        assert said == {
            "status": "ok",
            "notes": ["the scheduler was silent and was started again, times: 1"],
        }
    figures(f"trigger raises: ticks again after {took_s:.1f} s, and /healthz says so")
    assert took_s <= SILENCE_S + 2 * BEAT_S


async def test_a_job_that_raises_is_due_again() -> None:
    """What a job raises ends neither the job nor the scheduler, and no restart is needed."""
    times = []

    def job() -> None:
        times.append(1)
        msg = "a job that raises"
        raise ValueError(msg)

    scheduler, stop = Scheduler({"job": (0.1, job)}), asyncio.Event()
    running = asyncio.create_task(scheduler.run(stop))
    await wait_until(lambda: len(times) >= 5, "five times")
    stop.set()
    await running
    assert scheduler.restarts == 0


@dataclass
class Watch:
    """A service on a simulated account, and what it did."""

    sim: Any
    service: Service
    connection: Connection
    swept: list[tuple[float, Swept]] = field(default_factory=list)

    def sweeps(self, after: float = 0.0) -> list[float]:
        """When the opportunities were swept (monotonic seconds)."""
        return [at for at, told in self.swept if told.kind == "opportunity" and at > after]

    async def more(self, count: int) -> list[float]:
        """Wait for so many more sweeps; gives when they were."""
        began = time.monotonic()
        await wait_until(lambda: len(self.sweeps(began)) >= count, f"{count} more sweeps", 20)
        return self.sweeps(began)

    async def events(self) -> list[dict[str, Any]]:
        """The stream."""
        redis: Any = self.connection.commands
        return [loads(fields[b"event"]) for _, fields in await redis.xrange(Keys().events("acme"))]


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[Watch]:
    """Have a service poll an account every second while the block runs."""
    async with serve("drum", options=Options(records=12, seed=3)) as sim:
        swept: list[tuple[float, Swept]] = []
        acme = {"kind": "drum", "token": sim.token, "base_url": sim.url, "every": f"{EVERY_S:g}s"}
        async with inside(
            url,
            sources={"acme": {**acme, "budget": "100000/5m"}},
            swept=lambda _, told: swept.append((time.monotonic(), told)),
        ) as (service, connection):
            watch = Watch(sim, service, connection, swept)
            await wait_until(lambda: len(watch.sweeps()) >= 2, "the first sweeps", 20)
            yield watch


@pytest.mark.fault(12)
@pytest.mark.full
async def test_a_clock_that_is_set_skips_or_adds_one_poll_at_most(redis_url: str, figures: Figures) -> None:
    """An hour forth, an hour back, over the end of summer time: the pace goes on, changes are told."""
    start = datetime(2026, 10, 25, 0, 59, 30, tzinfo=UTC)  # half a minute before clocks go back in Europe
    jumps = (timedelta(hours=1), timedelta(hours=-1), timedelta(hours=-1), timedelta(hours=1))
    gaps, late = [], 0.0
    with time_machine.travel(start, tick=True) as clock:
        async with watching(redis_url) as watch:
            rows = watch.sim.world.rows
            record = next(key for key, row in rows.items() if row.kind == "opportunity" and not row.archived)
            for turn, jump in enumerate(jumps):
                said = len(await watch.events())
                before = watch.sweeps()[-1]
                clock.shift(jump)
                watch.sim.orders.update(record, name=f"Named anew {turn}")
                times = [before, *await watch.more(4)]
                gaps += [b - a for a, b in pairwise(times)]
                await wait_until(lambda said=said: _more(watch, said), "the change is told", 20)
            late = max(gaps)
            events = await watch.events()
            assert (watch.service.scheduler.jumps, watch.service.scheduler.restarts) == (len(jumps), 0)
    ids = {event["id"] for event in events}
    observed = [event["data"]["observed"] for event in events]
    negative = [each for each in observed if each["not_before"] > each["not_after"]]
    figures(f"longest gap {late:.1f} s at every = 1 s, {len(negative)} negative bounds", rounds=len(jumps))
    assert late < 2 * EVERY_S + BEAT_S + 1.0
    assert negative == []
    assert len(ids) == len(events)


async def _more(watch: Watch, than: int) -> bool:
    return len(await watch.events()) > than


@pytest.mark.fault(13)
@pytest.mark.full
async def test_a_loop_that_stands_still_polls_late_and_skips_nothing(
    redis_url: str, figures: Figures
) -> None:
    """Blocked for five seconds, it polls at once when it goes on, and what happened meanwhile is told."""
    async with watching(redis_url) as watch:
        told = watch.sim.life.steps(3)
        due = {entry.subject for step in told for entry in step.entries if entry.seen and not entry.noise}
        _block(5.0)
        went_on = time.monotonic()
        first = (await watch.more(1))[0]
        await wait_until(lambda: _told(watch, due), "what happened meanwhile", 20)
    figures(f"loop blocked for 5 s: the next poll {first - went_on:.2f} s later, nothing skipped")
    assert first - went_on < 3 * EVERY_S


async def _told(watch: Watch, due: set[str]) -> bool:
    return due <= {event["subject"] for event in await watch.events()}


def _block(seconds: float) -> None:
    """Hold the event loop, as a long computation would."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        httpx.URL("http://127.0.0.1/")
