"""What several of these tests stand on: a store of their own, and the table of how lives were told."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import realserver
from truth import HEAD, Score, total

from poller.store.connection import Connection


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, Score]]:
    """The table, written when the last mode is through (shown with `pytest -s`)."""
    scores: dict[str, Score] = {}
    yield scores
    lines = [HEAD, *(score.line(mode) for mode, score in scores.items()), total(scores.values()).line("all")]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


@pytest.fixture
async def store() -> AsyncIterator[Connection]:
    """A real server of its own."""
    server = realserver.start()
    connection = Connection.open(server.url)
    yield connection
    await connection.close()
    server.stop()


@pytest.fixture
def steps(request: pytest.FixtureRequest, rounds: Callable[[int, int], int]) -> int:
    """How long a life is, by the QUICK and LONG of its file; with --rounds never shorter than QUICK."""
    quick: int = request.module.QUICK
    return max(quick, rounds(quick, request.module.LONG))
