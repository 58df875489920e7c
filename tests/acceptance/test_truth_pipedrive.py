"""Every Pipedrive change once, and never one that did not happen: seeded lives in every simulated mode."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from truth import FAULTS, Score, live, settle
from truth import judge as judged
from watching import Watched, watching

from poller.model import dumps, loads
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.poll import Swept
from poller.watch.sources import pipedrive_names

judge = partial(judged, dated=False)
"""The bounds of events are held against the truth in the lives of Drum alone."""
pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

HALF_HOUR_S = timedelta(minutes=31).total_seconds()
DAY_S = timedelta(days=1).total_seconds()
MODES: dict[str, dict[str, Any]] = {
    "as documented, all in the same minute": {},
    "a minute between readings, pages of 5": {"page_most": 5, "tick_s": 60},
    "half an hour, next_cursor absent": {"page_most": 7, "last_page": "absent", "tick_s": HALF_HOUR_S},
    "no additional_data, pages of 3": {"page_most": 3, "last_page": "bare", "tick_s": 7},
    "deleted: status kept, 404 by id": {"deleted_status": "kept", "deleted_by_id": "404", "tick_s": 90},
    "deleted: 410 by id": {"deleted_by_id": "410", "tick_s": HALF_HOUR_S},
    "won_time stays on a reopened deal": {"stale_times": True, "tick_s": 20},
    "empty custom fields left out": {"null_custom_fields": False, "tick_s": 45},
    "gzip, etags, errors as HTML": {"gzip": True, "etag": True, "errors": "html", "tick_s": 15},
}
QUIET: dict[str, dict[str, Any]] = {
    "archiving leaves update_time": {"untouched": frozenset({"archive", "unarchive"})},
    "deleting leaves update_time": {"untouched": frozenset({"delete", "restore", "merge"})},
    "all of these, pages of 5": {
        "untouched": frozenset({"archive", "unarchive", "delete", "restore", "merge"}),
        "page_most": 5,
    },
}
LATE: dict[str, dict[str, Any]] = {
    "half the writes 3 minutes late": {"replica_lag_s": 180.0, "replica_lag_share": 0.5},
    "most writes 8 minutes late": {"replica_lag_s": 480.0, "replica_lag_share": 0.7},
}
DRIFTS: dict[str, dict[str, Any]] = {
    "drift, pages of 5": {"page_most": 5},
    "drift, pages of 3, all read each time": {"page_most": 3, "tick_s": 2 * HALF_HOUR_S},
}
AT_MOST = 12
"""Transitions under one crawl: a list that grows as fast as it is read has no end."""
HOLDS = ("poller.source.held", "poller.source.released")
QUICK, LONG = 20, 400


class Clock:
    """The time of the simulator and of the watcher: the real one, and what a test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Hours(Watched):
    """A watched source between whose sweeps time goes by."""

    clock: Clock
    tick_s: float = 0.0

    async def sweep(self) -> list[Swept]:
        """Sweep every list once, after a while."""
        self.clock.ahead_s += self.tick_s
        return await super().sweep()


@pytest.fixture(autouse=True)
def names_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are asked for in each reading."""
    monkeypatch.setattr(pipedrive_names, "EVERY_S", 0.0)


def seed(mode: str) -> int:
    """Each mode has a life of its own."""
    return 300 + [*MODES, *QUIET].index(mode)


@asynccontextmanager
async def lived(
    store: Connection, seed: int, *, tick_s: float = 0.0, records: int = 24, **switches: Any
) -> AsyncIterator[tuple[Any, Hours]]:
    """A simulated company and who watches it, past the baseline."""
    clock = Clock()
    async with (
        serve("pipedrive", options=Options(records=records, seed=seed, clock=clock), **switches) as sim,
        watching(
            store, Keys(), kind="pipedrive", url=sim.url, token=sim.token, timeout_s=2, now=clock
        ) as watched,
    ):
        watched.__class__ = Hours
        assert isinstance(watched, Hours)
        watched.clock = clock
        await watched.sweep()
        assert [event["type"] for event in await watched.events()] == ["poller.source.baseline_completed"]
        watched.tick_s = tick_s
        yield sim, watched


def order_aside(score: Score, sim: Any) -> None:
    """Two new records that show between the same two readings are both above what was known before."""
    later = {entry.subject for entry in sim.log if entry.type.endswith(".appeared")}
    score.invented = [each for each in score.invented if each.partition(".created ")[2] not in later]
    score.missed = [each for each in score.missed if each.partition(".appeared ")[2] not in later]


def unsaid_aside(score: Score, sim: Any) -> None:
    """What befell a deal between two readings that then showed it deleted is said when it is back."""
    happened = {(entry.type, entry.subject) for entry in sim.log}
    last: dict[str, str] = {}
    for event in score.events:
        kind, subject = event["type"], event["subject"]
        line = f"{kind} {subject}"
        returned = last.get(subject, "").endswith(".restored")
        if returned and (kind, subject) in happened and line in score.invented:
            score.invented.remove(line)
        last[subject] = kind


async def ended(watched: Hours, sim: Any, score: Score) -> list[str]:
    """After a life: nothing more comes, revisions have no gap, and what is kept is what the account holds."""
    sim.set(fault_rate=0.0, replica_lag_s=0.0)
    watched.tick_s = 2 * HALF_HOUR_S
    for _ in range(3):
        await watched.sweep()
    wrong = [f"{event['type']} {event['subject']} came late" for event in await watched.events()]
    revisions: dict[str, int] = {}
    for event in score.events:
        subject, revision = event["subject"], event["data"]["revision"]
        if not subject.startswith("source/") and revision != revisions.get(subject, 0) + 1:
            wrong.append(f"{subject} has revision {revision} after {revisions.get(subject, 0)}")
        revisions[subject] = revision
    states = sim.world.states()
    for subject, state in states.items():
        known = await watched.known(subject)
        if known is None or known.gone or known.row != loads(dumps(state.view)):
            wrong.append(f"{subject} is not kept as it is")
    for kind in watched.session.source.lists:
        for record_id in await watched.session.snapshots.listed_ids(kind):
            known = await watched.known(f"{kind}/{record_id}")
            if known and not known.gone and f"{kind}/{record_id}" not in states:
                wrong.append(f"{kind}/{record_id} is kept, and is gone")
    return wrong


def drifting(sim: Any) -> Callable[[Any], Awaitable[None]]:
    """Something happens before each further page of a list."""
    left = iter(range(AT_MOST))

    async def live_on(asked: Any) -> None:
        if "cursor=" in asked.query and next(left, None) is not None:
            sim.life.step()

    return live_on


@pytest.mark.parametrize("mode", MODES)
async def test_each_transition_is_told_once(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Recall 1 and precision 1 for every transition that stood through one reading, in every mode."""
    score = Score()
    async with lived(store, seed(mode), **MODES[mode]) as (sim, watched):
        await live(watched, sim, steps=steps, score=score)
        assert await ended(watched, sim, score) == []
    judge(score, mode, report)


@pytest.mark.parametrize("mode", QUIET)
async def test_what_leaves_update_time_alone_is_told_when_all_is_read(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """What no reading of changes can show is told within the hour, once, and not as something else."""
    score = Score()
    async with lived(store, seed(mode), tick_s=HALF_HOUR_S, **QUIET[mode]) as (sim, watched):
        await live(watched, sim, steps=steps, score=score)
        assert await ended(watched, sim, score) == []
    judge(score, mode, report)


@pytest.mark.parametrize("mode", LATE)
async def test_what_is_seen_late_is_told_when_it_is_seen(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """A write that a replica shows late, under the time it was made, is not missed by the readings since."""
    score = Score()
    async with lived(store, 33, tick_s=40, **LATE[mode]) as (sim, watched):
        await live(watched, sim, steps=steps, score=score)
        watched.clock.ahead_s += max(each["replica_lag_s"] for each in LATE.values())
        await settle(watched, sim, sim.log.seq, cycles=4, score=score)
        order_aside(score, sim)
        unsaid_aside(score, sim)
        assert await ended(watched, sim, score) == []
    judge(score, mode, report)


@pytest.mark.parametrize("tick_s", [0.0, HALF_HOUR_S])
async def test_a_rough_server_changes_nothing(
    tick_s: float, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Faults delay what is told, and never make anything up."""
    score = Score()
    async with lived(store, 34, tick_s=tick_s, page_most=8) as (sim, watched):
        sim.set(fault_rate=0.05, faults=FAULTS)
        await live(watched, sim, steps=steps, cycles=12, score=score)
        # A page that is empty by a fault makes a list of over 20 suspect: that is held, and released again.
        score.invented = [each for each in score.invented if not each.startswith(HOLDS)]
        assert await ended(watched, sim, score) == []
    judge(score, f"5 % faults of every kind, {tick_s:.0f} s", report)


@pytest.mark.parametrize("at_once", [2, 5, 20])
async def test_transitions_between_two_readings_collapse_rightly(
    at_once: int, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Several transitions between two readings are one event of each record, or one with the right end."""
    score = Score()
    async with lived(store, 35, tick_s=HALF_HOUR_S) as (sim, watched):
        await live(watched, sim, steps=2 * steps, at_once=at_once, score=score)
        unsaid_aside(score, sim)
        assert await ended(watched, sim, score) == []
    judge(score, f"{at_once} transitions between readings", report)


@pytest.mark.parametrize("mode", DRIFTS)
async def test_a_list_that_moves_under_its_reading(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """What changes between two pages is neither lost nor removed."""
    score = Score()
    async with lived(store, 36, records=48, **DRIFTS[mode]) as (sim, watched):
        for _ in range(max(5, steps // 8)):
            start = sim.log.seq
            sim.between(before=drifting(sim))
            await watched.sweep()
            sim.between()
            await settle(watched, sim, start, cycles=6, score=score)
        unsaid_aside(score, sim)
        assert await ended(watched, sim, score) == []
    judge(score, mode, report)


async def test_an_outage_of_40_days(store: Connection, report: dict[str, Score], steps: int) -> None:
    """What changed meanwhile is diffed; deals that were deleted and purged unseen are told as removed."""
    score = Score()
    async with lived(store, 37) as (sim, watched):
        for _ in range(max(1, steps // 100)):
            start = sim.log.seq
            for _ in range(40):
                sim.life.step()
                watched.clock.ahead_s += DAY_S
            watched.tick_s = 2 * HALF_HOUR_S
            await settle(watched, sim, start, cycles=6, score=score)
        assert await ended(watched, sim, score) == []
    judge(score, "an outage of 40 days", report)
