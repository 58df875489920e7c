"""Every Drum change once, and never one that did not happen: seeded lives in every mode of the simulator."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from truth import Score, account, cycle, drift, ended, judge, live, roles
from watching import watching

from poller.simulators import Options, serve
from poller.simulators.drum import Agency
from poller.simulators.faults import FAULTS
from poller.simulators.life import Action, Life
from poller.store.connection import Connection
from poller.store.keys import Keys

pytestmark = pytest.mark.timeout(3600)

MODES: dict[str, dict[str, Any]] = {
    "id order": {},
    "id order, cap 100": {"items_cap": 100},
    "latest first, cap 20": {"sort": "updated", "items_cap": 20},
    "latest first, cap 100": {"sort": "updated", "items_cap": 100},
    "by name, last page repeats": {"sort": "name", "items_cap": 10, "past_end": "last"},
    "404 past the end, short numbers": {"items_cap": 20, "past_end": "404", "numbers": "short"},
    "pagy 8 headers, cap 20": {"headers": "pagy8", "items_cap": 20},
    "pagy 9 headers, latest first": {"headers": "pagy9", "items_cap": 20, "sort": "updated"},
    "renamed headers, numbers as strings": {"headers": "renamed", "items_cap": 20, "numbers": "string"},
    "conversion later, same number": {"conversion_after": 2, "number_on_win": False},
    "conversion long after": {"conversion_after": 9},
    "retention, phases, unknown keys": {"retention": True, "phases": True, "extra_keys": {"vip": True}},
    "error bodies as HTML": {"errors": "html"},
    "compressed, with ETags": {"gzip": True, "etag": True},
}
HEAVY: dict[str, Mapping[str, float]] = {
    "archived and restored": {"record_is_archived": 12, "record_is_restored": 12, "deal_is_lost": 2},
    "renamed": {"something_is_renamed": 60},
    "renumbered and moved": {"deliverable_is_reordered": 12, "task_is_moved": 12, "deliverable_comes": 4},
    "won, reverted, reopened": {"deal_is_won": 6, "project_reverts": 40, "deal_is_reopened": 8},
}
"""How much more often than usual these things happen."""
ROUGH: dict[str, dict[str, Any]] = {
    "5 % faults of every kind": {
        "fault_rate": 0.05,
        "faults": tuple(FAULTS),
        "fault_size": 1 << 26,
        "items_cap": 10,
    },
    "500 past the end": {"past_end": "500", "items_cap": 10},
    "order of keys and lists shuffled": {"shuffled": True},
    "another order at each request": {"sort": "random", "items_cap": 8},
}
LEAN: dict[str, tuple[dict[str, Any], Mapping[str, float]]] = {
    "without details": ({}, {}),
    "without details, 5 % faults": (ROUGH["5 % faults of every kind"], {}),
    "without details, won, reverted, reopened": (
        {"conversion_after": 2},
        {**HEAVY["won, reverted, reopened"], "deal_is_lost": 8},
    ),
}
"""Switches, and how much more often than usual some things happen."""
DRIFTS: dict[str, dict[str, Any]] = {
    "drift, id order": {"items_cap": 8},
    "drift, latest first": {"items_cap": 8, "sort": "updated"},
    "drift, latest first, headers": {"items_cap": 8, "sort": "updated", "headers": "pagy8"},
}
EVERY = [*MODES, *HEAVY, *ROUGH, *DRIFTS]
QUICK, LONG = 12, 640


def seed(mode: str) -> int:
    """Each mode has a life of its own."""
    return 11 + (EVERY.index(mode) if mode in EVERY else len(EVERY) + len(mode))


@asynccontextmanager
async def watched_life(
    mode: str,
    store: Connection,
    *,
    records: int = 20,
    timeout_s: float = 5.0,
    details: bool = True,
    **switches: Any,
) -> AsyncIterator[tuple[Any, Any]]:
    """A simulated account and a source that watches it, after the baseline."""
    async with (
        serve("drum", options=Options(records=records, seed=seed(mode)), **switches) as sim,
        watching(
            store, Keys(), kind="drum", url=sim.url, token=sim.token, timeout_s=timeout_s, details=details
        ) as watched,
    ):
        await cycle(watched)
        assert [event["type"] for event in await watched.events()] == ["poller.source.baseline_completed"]
        yield sim, watched


def more_often(sim: Any, mode: str, often: Mapping[str, float]) -> None:
    """Let the life go on with these things so much more often than usual."""
    usual = Agency(sim.world, sim.orders, seed=seed(mode)).actions()
    actions = [Action(each.name, each.weight * often.get(each.name, 1), each.act) for each in usual]
    sim.life = Life(actions, seed=seed(mode), due=sim.orders.due)


@pytest.mark.parametrize("mode", MODES)
async def test_each_transition_is_told_once(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Recall 1 and precision 1 for every transition that stood through one reading, in every mode.

    And in the end the stream, folded over the account as it was, is what is kept, and is the account.
    """
    score = Score()
    async with watched_life(mode, store, **MODES[mode]) as (sim, watched):
        start = account(sim)
        await live(watched, sim, steps=steps, score=score)
        assert await ended(watched, sim, start, score) == []
    judge(score, mode, report)


@pytest.mark.parametrize("mode", HEAVY)
async def test_a_life_of_little_else_is_told_once(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """What is rare in most accounts and common in some: filing, renaming, reordering, reverting."""
    score = Score()
    async with watched_life(mode, store, conversion_after=2) as (sim, watched):
        start = account(sim)
        more_often(sim, mode, HEAVY[mode])
        await live(watched, sim, steps=steps, score=score)
        assert await ended(watched, sim, start, score) == []
    judge(score, mode, report)


@pytest.mark.parametrize("mode", LEAN)
async def test_without_details_the_lists_and_what_a_status_means_are_told_once(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """What only detail views show is then not due; won, lost and reopened are, and nothing else comes."""
    score, (switches, often) = Score(), LEAN[mode]
    async with watched_life(mode, store, timeout_s=2, details=False) as (sim, watched):
        start = account(sim, details=False)
        sim.set(**switches)
        more_often(sim, mode, often)
        await live(watched, sim, steps=4 * steps, cycles=8, score=score)
        sim.set(fault_rate=0.0)
        assert await ended(watched, sim, start, score, echoes=False) == []
    judge(score, mode, report)


async def test_a_token_whose_role_changes(store: Connection, report: dict[str, Score], steps: int) -> None:
    """What it may no longer see is said once, what left its view is removed, and no record is changed."""
    score, mode = Score(), "roles change"
    async with watched_life(mode, store, records=12) as (sim, watched):
        await roles(watched, sim, steps=steps, score=score)
    judge(score, mode, report)


@pytest.mark.parametrize("mode", ROUGH)
async def test_a_rough_server_changes_nothing(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Faults and strange orders delay what is told, and never make anything up."""
    score = Score()
    async with watched_life(mode, store, timeout_s=2) as (sim, watched):
        start = account(sim)
        sim.set(**ROUGH[mode])
        await live(watched, sim, steps=steps, cycles=8, score=score)
        sim.set(fault_rate=0.0, sort="id")
        if "another order" not in mode:
            assert await ended(watched, sim, start, score, echoes=False) == []
    judge(score, mode, report, recall="another order" not in mode)


@pytest.mark.parametrize("at_once", [2, 5])
async def test_transitions_between_two_sweeps_collapse_rightly(
    at_once: int, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Several transitions between two sweeps are one event each of the right record, or one with the end."""
    score, mode = Score(), f"{at_once} transitions between sweeps"
    async with watched_life(mode, store) as (sim, watched):
        start = account(sim)
        await live(watched, sim, steps=2 * steps, at_once=at_once, score=score)
        late = [each for each in await ended(watched, sim, start, score) if "came late" not in each]
        assert late == []
    judge(score, mode, report)


@pytest.mark.parametrize("mode", DRIFTS)
async def test_a_list_that_moves_under_its_sweep(
    mode: str, store: Connection, report: dict[str, Score], steps: int
) -> None:
    """Records that slip from page to page while the list is read are neither lost nor removed."""
    score = Score()
    async with watched_life(mode, store, records=48, **DRIFTS[mode]) as (sim, watched):
        await drift(watched, sim, windows=steps // 4, score=score)
    judge(score, mode, report)
