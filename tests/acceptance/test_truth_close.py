"""Every Close change once, and never one that did not happen: seeded lives in every mode of the simulator."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from truth import FAULTS, Score, live, settle
from truth import judge as judged
from watching import Watched, watching

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.sources import close

judge = partial(judged, dated=False)
"""The bounds of events are held against the truth in the lives of Drum alone."""
pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

MODES: dict[str, dict[str, Any]] = {
    "as documented": {},
    "pages of 5": {"limit_cap": 5},
    "a minute between transitions, pages of 3": {"limit_cap": 3, "tick_s": 60},
    "dates in whole seconds, pages of 3": {"limit_cap": 3, "resolution_ms": 1000},
    "dates in whole minutes, pages of 2": {"limit_cap": 2, "resolution_ms": 60_000, "tick_s": 20},
    "ties in random order, pages of 3": {"limit_cap": 3, "resolution_ms": 60_000, "tie_order": "random"},
    "filters by the second, pages of 3": {"limit_cap": 3, "filter_precision_ms": 1000, "tick_s": 1},
    "filters by the minute, pages of 3": {"limit_cap": 3, "filter_precision_ms": 60_000, "tick_s": 7},
    "no _skip at all, pages of 3": {"limit_cap": 3, "skip_cap": 0, "tick_s": 11},
    "updates drawn together, with offsets": {"consolidate_s": 3600, "event_dates": "offset", "tick_s": 30},
    "nothing is quiet": {"quiet": frozenset()},
    "gzip, etags, renamed statuses date all": {"gzip": True, "etag": True, "quiet": frozenset({"stall"})},
}
LATE: dict[str, dict[str, Any]] = {
    "events up to 4 transitions late": {"event_delay": 4, "tick_s": 20},
    "writes show up to 3 transitions late": {"lag": 3},
    "a replica 3 transitions behind": {"replica_lag": 3},
    "both, events late, half a minute each": {"lag": 2, "replica_lag": 2, "event_delay": 3, "tick_s": 30},
}
ROUGH: dict[str, dict[str, Any]] = {
    "5 % faults of every kind": {"fault_rate": 0.05, "limit_cap": 8},
    "20 % faults of the event log": {"fault_rate": 0.2, "fault_path": "/event/"},
}
QUIET = frozenset({"rename", "merge", "custom", "currency", "stall", "restore"})
DRIFTS: dict[str, dict[str, Any]] = {
    "drift, pages of 5": {"limit_cap": 5},
    "drift, pages of 5, a minute each": {"limit_cap": 5, "tick_s": 60},
    "drift, pages of 3, whole seconds": {"limit_cap": 3, "resolution_ms": 1000},
    "drift, pages of 3, filters by the minute": {"limit_cap": 3, "filter_precision_ms": 60_000},
    "drift, pages of 4, random ties": {"limit_cap": 4, "tie_order": "random", "resolution_ms": 60_000},
}
AT_MOST = 12
"""Transitions under one crawl: a list that grows as fast as it is read has no end."""
QUICK, LONG = 24, 200


@pytest.fixture(autouse=True)
def names_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are asked for in each reading."""
    monkeypatch.setattr(close, "NAMES_EVERY_S", 0.0)


def seed(mode: str) -> int:
    """Each mode has a life of its own."""
    return 200 + list(MODES).index(mode)


@asynccontextmanager
async def lived(
    store: Connection, seed: int, *, records: int = 24, timeout_s: float = 5.0, **switches: Any
) -> AsyncIterator[tuple[Any, Watched]]:
    """A simulated organisation and who watches it, past the baseline."""
    options = Options(records=records, seed=seed)
    async with (
        serve("close", options=options, rate_limit=None, **switches) as sim,
        watching(store, Keys(), kind="close", url=sim.url, token=sim.token, timeout_s=timeout_s) as watched,
    ):
        await begin(watched)
        yield sim, watched


async def begin(watched: Watched) -> None:
    """The baseline."""
    await watched.sweep()
    assert [event["type"] for event in await watched.events()] == ["poller.source.baseline_completed"]


@pytest.mark.parametrize("mode", MODES)
async def test_each_transition_is_told_once(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Recall 1 and precision 1 for every transition that stood through one reading, in every mode."""
    score = Score()
    async with lived(store, seed(mode), **MODES[mode]) as (sim, watched):
        await live(watched, sim, steps=steps, cycles=6, score=score)
    judge(score, mode, report)


@pytest.mark.parametrize("mode", LATE)
async def test_what_shows_late_is_told_when_it_shows(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Writes, replicas and events that show under an older date than what was read before are not missed."""
    score = Score()
    async with lived(store, 22, limit_cap=5) as (sim, watched):
        sim.set(**LATE[mode])
        for _ in range(0, steps, 4):
            start = sim.log.seq
            for _ in range(4):
                sim.life.step()
                await watched.sweep()
            sim.orders.account.catch_up()
            await settle(watched, sim, start, cycles=4, score=score)
    judge(score, mode, report)


@pytest.mark.parametrize("mode", ROUGH)
async def test_a_rough_server_changes_nothing(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Faults delay what is told, and never make anything up."""
    score = Score()
    async with lived(store, 23, timeout_s=2) as (sim, watched):
        sim.set(faults=FAULTS, **ROUGH[mode])
        await live(watched, sim, steps=steps, cycles=12, score=score)
    judge(score, mode, report)


@pytest.mark.parametrize("at_once", [2, 5, 20])
async def test_transitions_between_two_sweeps_collapse_rightly(
    at_once: int, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Several transitions between two sweeps are one event each of the right record, or one with the end."""
    score = Score()
    async with lived(store, 24, limit_cap=5) as (sim, watched):
        await live(watched, sim, steps=2 * steps, at_once=at_once, score=score)
    judge(score, f"{at_once} transitions between sweeps", report)


@pytest.mark.parametrize("whole", [True, False], ids=["all", "what changed"])
@pytest.mark.parametrize("mode", DRIFTS)
async def test_a_list_that_moves_under_its_sweep(
    mode: str, whole: bool, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Records that slip from page to page while the list is read are neither lost nor removed."""
    score = Score()
    async with lived(store, 25, records=48, **DRIFTS[mode]) as (sim, watched):
        if whole:
            wholly(watched)
        for _ in range(steps // 6):
            start = sim.log.seq
            sim.life.steps(6)
            sim.between(before=drifting(sim))
            await watched.sweep()
            sim.between()
            await settle(watched, sim, start, cycles=4, score=score)
    judge(score, f"{mode}: {'all' if whole else 'changes'}", report)


async def test_what_moves_no_date_shows_in_whole_readings(
    store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Changes that leave date_updated as it was are told by the next whole reading, and only once."""
    score = Score()
    async with lived(store, 26, quiet=QUIET) as (sim, watched):
        wholly(watched)
        await live(watched, sim, steps=2 * steps, at_once=2, score=score)
    judge(score, "every kind of change is quiet", report)


async def test_an_outage_of_40_days(store: Connection, report: dict[str, Score]) -> None:
    """After a gap longer than the event log reaches back nothing is missed: all is read, and asked by id."""
    score, days = Score(), 40
    async with serve("close", options=Options(records=24, seed=27), rate_limit=None, limit_cap=5) as sim:
        about = {"kind": "close", "url": sim.url, "token": sim.token}
        async with watching(store, Keys(), **about) as watched:
            await begin(watched)
        start = sim.log.seq
        sim.life.steps(20)
        sim.orders.account.pass_time(days=days)
        sim.life.steps(10)
        async with watching(store, Keys(), now=lambda: time.time() + days * 86_400, **about) as watched:
            await watched.events()
            wholly(watched)
            await settle(watched, sim, start, cycles=4, score=score)
    judge(score, "an outage of 40 days", report)


def drifting(sim: Any) -> Callable[[Any], Awaitable[None]]:
    """Something happens before each page of the list."""
    left = iter(range(AT_MOST))

    async def live_on(asked: Any) -> None:
        if asked.path == close.PATH and next(left, None) is not None:
            sim.life.step()

    return live_on


def wholly(watched: Watched) -> None:
    """From here on each reading is whole."""
    sweep = watched.sweep

    async def all_of_it() -> list[Any]:
        watched.session.memory.lists["opportunity"].whole_at = 0.0
        return await sweep()

    watched.sweep = all_of_it
