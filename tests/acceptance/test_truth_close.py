"""Every Close change once, and never one that did not happen: seeded lives in every mode of the simulator."""

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import realserver
from truth import HEAD, Score, live
from watching import Watched, watching

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.sources import close

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
    "a lag of 3 transitions": {"lag": 3, "tick_s": 20},
    "a replica 3 transitions behind": {"replica_lag": 3, "tick_s": 20},
    "events up to 4 transitions late": {"event_delay": 4, "tick_s": 20},
    "updates drawn together, with offsets": {"consolidate_s": 3600, "event_dates": "offset", "tick_s": 30},
    "nothing is quiet": {"quiet": frozenset()},
    "gzip, etags, renamed statuses date all": {"gzip": True, "etag": True, "quiet": frozenset({"stall"})},
}
QUIET = frozenset({"rename", "merge", "custom", "currency", "stall", "restore"})
FAULTS = (
    "http502", "http500", "http503", "html200", "truncated", "cut", "reset", "object", "wrong_types",
    "gzip_twice", "empty",
)  # fmt: skip
DRIFTS: dict[str, dict[str, Any]] = {
    "drift, pages of 5": {"limit_cap": 5},
    "drift, pages of 5, a minute each": {"limit_cap": 5, "tick_s": 60},
    "drift, pages of 3, whole seconds": {"limit_cap": 3, "resolution_ms": 1000},
}
QUICK, LONG = 24, 500


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


@pytest.fixture(autouse=True)
def names_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are asked for in each reading."""
    monkeypatch.setattr(close, "NAMES_EVERY_S", 0.0)


def steps(config: pytest.Config) -> int:
    """How long a life is."""
    return LONG if config.getoption("--long") else QUICK


def judge(score: Score, mode: str, report: list[str]) -> None:
    """Note the row, and hold it against what was promised."""
    report.append(score.line(mode))
    assert score.invented == []
    assert score.missed == []


async def begin(watched: Watched) -> None:
    """The baseline."""
    await watched.sweep()
    assert [event["type"] for event in await watched.events()] == ["poller.source.baseline_completed"]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
async def test_each_transition_is_told_once(
    mode: str, store: Connection, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Recall 1 and precision 1 for every transition that stood through one reading, in every mode."""
    score = Score()
    async with (
        serve("close", options=Options(records=24, seed=21), rate_limit=None, **MODES[mode]) as sim,
        watching(store, Keys(), kind="close", url=sim.url, token=sim.token) as watched,
    ):
        await begin(watched)
        await live(watched, sim, steps=steps(pytestconfig), cycles=6, score=score)
    judge(score, mode, report)
