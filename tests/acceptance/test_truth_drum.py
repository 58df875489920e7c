"""Every Drum change once, and never one that did not happen: seeded lives in every mode of the simulator."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import realserver
from truth import HEAD, Score, cycle, live, settle
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
QUICK, LONG = 60, 1_500


@pytest.fixture(scope="module")
def report() -> AsyncIterator[list[str]]:
    """The table, printed when the last mode is through."""
    lines: list[str] = [HEAD]
    yield lines
    print("\n" + "\n".join(lines))


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


@pytest.mark.parametrize("mode", MODES)
async def test_each_transition_is_told_once(
    mode: str, store: Connection, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Recall 1 and precision 1 for every transition that stood through one reading, in every mode."""
    score = Score()
    async with (
        serve("drum", options=Options(records=30, seed=11), **MODES[mode]) as sim,
        watching(store, Keys(), kind="drum", url=sim.url, token=sim.token) as watched,
    ):
        await cycle(watched)
        assert [event["type"] for event in await watched.events()] == ["poller.source.baseline_completed"]
        await live(watched, sim, steps=steps(pytestconfig), score=score)
    report.append(score.line(mode))
    assert (score.missed, score.invented) == ([], [])
