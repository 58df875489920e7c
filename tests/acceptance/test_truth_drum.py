"""Every Drum change once, and never one that did not happen: seeded lives in every mode of the simulator."""

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import realserver
from truth import HEAD, Score, cycle, drift, live
from watching import watching

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys

MODES: dict[str, dict[str, Any]] = {
    "id order": {},
    "latest first, cap 20": {"sort": "updated", "items_cap": 20},
    "by name, last page repeats": {"sort": "name", "items_cap": 10, "past_end": "last"},
    "404 past the end, short numbers": {"items_cap": 20, "past_end": "404", "numbers": "short"},
    "pagy 8 headers, cap 20": {"headers": "pagy8", "items_cap": 20},
    "pagy 9 headers, latest first": {"headers": "pagy9", "items_cap": 20, "sort": "updated"},
    "renamed headers, numbers as strings": {"headers": "renamed", "items_cap": 20, "numbers": "string"},
    "conversion later, same number": {"conversion_after": 2, "number_on_win": False},
    "retention, phases, unknown keys": {"retention": True, "phases": True, "extra_keys": {"vip": True}},
    "error bodies as HTML": {"errors": "html"},
}
FAULTS = (
    "http502", "http500", "http503", "html200", "truncated", "cut", "reset", "object", "wrong_types",
    "gzip_twice", "empty",
)  # fmt: skip
ROUGH: dict[str, dict[str, Any]] = {
    "5 % faults of every kind": {"fault_rate": 0.05, "faults": FAULTS, "items_cap": 10},
    "500 past the end": {"past_end": "500", "items_cap": 10},
    "order of keys and lists shuffled": {"shuffled": True},
    "another order at each request": {"sort": "random", "items_cap": 8},
}
DRIFTS: dict[str, dict[str, Any]] = {
    "drift, id order": {"items_cap": 8},
    "drift, latest first": {"items_cap": 8, "sort": "updated"},
    "drift, latest first, headers": {"items_cap": 8, "sort": "updated", "headers": "pagy8"},
}
QUICK, LONG = 24, 1_200


@pytest.fixture(scope="module")
def report() -> Iterator[list[str]]:
    """The table, written when the last mode is through (shown with `pytest -s`)."""
    lines: list[str] = [HEAD]
    yield lines
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


@pytest.fixture
async def store() -> AsyncIterator[Connection]:
    """A real server of its own."""
    server = realserver.start()
    connection = Connection.open(server.url)
    yield connection
    await connection.close()
    server.stop()


def steps(config: pytest.Config) -> int:
    """How long a life is."""
    return LONG if config.getoption("--long") else QUICK


def judge(score: Score, mode: str, report: list[str], *, recall: bool = True) -> None:
    """Note the row, and hold it against what was promised."""
    report.append(score.line(mode))
    assert score.invented == []
    assert score.missed == [] or not recall


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
async def test_each_transition_is_told_once(
    mode: str, store: Connection, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Recall 1 and precision 1 for every transition that stood through one reading, in every mode."""
    score = Score()
    async with (
        serve("drum", options=Options(records=24, seed=11), **MODES[mode]) as sim,
        watching(store, Keys(), kind="drum", url=sim.url, token=sim.token) as watched,
    ):
        await cycle(watched)
        assert [event["type"] for event in await watched.events()] == ["poller.source.baseline_completed"]
        await live(watched, sim, steps=steps(pytestconfig), score=score)
    judge(score, mode, report)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", ROUGH)
async def test_a_rough_server_changes_nothing(
    mode: str, store: Connection, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Faults and strange orders delay what is told, and never make anything up."""
    score = Score()
    async with (
        serve("drum", options=Options(records=24, seed=12)) as sim,
        watching(store, Keys(), kind="drum", url=sim.url, token=sim.token, timeout_s=2) as watched,
    ):
        await cycle(watched)
        await watched.events()
        sim.set(**ROUGH[mode])
        await live(watched, sim, steps=steps(pytestconfig), cycles=8, score=score)
    judge(score, mode, report, recall="another order" not in mode)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("at_once", [2, 5])
async def test_transitions_between_two_sweeps_collapse_rightly(
    at_once: int, store: Connection, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Several transitions between two sweeps are one event each of the right record, or one with the end."""
    score = Score()
    async with (
        serve("drum", options=Options(records=24, seed=13)) as sim,
        watching(store, Keys(), kind="drum", url=sim.url, token=sim.token) as watched,
    ):
        await cycle(watched)
        await watched.events()
        await live(watched, sim, steps=2 * steps(pytestconfig), at_once=at_once, score=score)
    judge(score, f"{at_once} transitions between sweeps", report)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", DRIFTS)
async def test_a_list_that_moves_under_its_sweep(
    mode: str, store: Connection, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Records that slip from page to page while the list is read are neither lost nor removed."""
    score = Score()
    async with (
        serve("drum", options=Options(records=48, seed=14), **DRIFTS[mode]) as sim,
        watching(store, Keys(), kind="drum", url=sim.url, token=sim.token) as watched,
    ):
        await cycle(watched)
        await watched.events()
        await drift(watched, sim, windows=steps(pytestconfig) // 4, score=score)
    judge(score, mode, report)
