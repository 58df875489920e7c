"""A crash at any commit: whoever polls next goes on from Redis, nothing is lost, nothing is told twice."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Cut
from truth import Score, account, ended, settle
from watching import Watched, drum

from poller.errors import Conflict, Fenced, StoreUnavailable
from poller.simulators.drum import Population
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys

FAULTS = ("reply lost once", "replies lost", "server away", "fenced", "conflict")
TRIES = 4
"""How often a commit is sent before it is given up."""


class Trouble:
    """Lets a script that commits meet a fault: the `at`-th from now."""

    def __init__(self, connection: Connection) -> None:
        self.fault, self.at, self.met = "", 0, 0
        self._redis: Any = connection.commands
        self._execute = self._redis.execute_command
        self._redis.execute_command = self._command

    def plan(self, fault: str, at: int) -> None:
        self.fault, self.at = fault, at

    async def _command(self, *args: Any, **options: Any) -> Any:
        if args[0] != "EVALSHA" or not self.fault:
            return await self._execute(*args, **options)
        self.at -= 1
        if self.at > 0:
            return await self._execute(*args, **options)
        self.met += 1
        return await self._meet(*args, **options)

    async def _meet(self, *args: Any, **options: Any) -> Any:
        keys = Keys()
        match self.fault:
            case "fenced":
                self.fault = ""
                await self._execute("HINCRBY", keys.source_lease("acme"), "fence", 1)
                try:
                    return await self._execute(*args, **options)
                finally:
                    await self._execute("HINCRBY", keys.source_lease("acme"), "fence", -1)
            case "conflict":
                self.fault = ""
                await self._execute("HINCRBY", keys.head("acme"), "version", 1)
                return await self._execute(*args, **options)
            case "server away":
                self._give_up_after(TRIES)
                raise Cut
            case "replies lost":
                self._give_up_after(TRIES)
                await self._execute(*args, **options)
                raise Cut
            case _:
                self.fault = ""
                await self._execute(*args, **options)
                raise Cut

    def _give_up_after(self, tries: int) -> None:
        if self.at <= 1 - tries:
            self.fault = ""


def store() -> Connection:
    """An empty store of its own, without retries like the real one."""
    server = FakeServer()
    clients = [FakeAsyncRedis(server=server, retry=Retry(NoBackoff(), 0)) for _ in range(2)]
    return Connection(*clients)


@asynccontextmanager
async def troubled(records: int = 10, **switches: Any) -> AsyncIterator[tuple[Any, Watched, Trouble]]:
    """A simulated account, a source that watches it, and trouble between it and its store."""
    connection = store()
    async with drum(connection, records=records, **switches) as (sim, watched):
        await watched.events()
        yield sim, watched, Trouble(connection)
    await connection.close()


async def cycle_through(watched: Watched) -> int:
    """A cycle, begun anew from Redis after each fault; how many there were."""
    faults = 0
    while True:
        try:
            await watched.cycle_quietly()
        except (StoreUnavailable, Fenced, Conflict):
            faults += 1
            await watched.restart()
        else:
            return faults


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is sent again without a pause."""
    monkeypatch.setattr(snapshots, "_RESENDS_S", (0.0,) * (TRIES - 1))


rounds = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(FAULTS), st.integers(1, 8)), min_size=2, max_size=6
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(1, 10_000), rounds=rounds)
async def test_a_fault_at_any_commit_loses_nothing_and_repeats_nothing(
    seed: int, rounds: list[tuple[int, str, int]]
) -> None:
    """Recall and precision stay 1; ids are unique, revisions have no gap, stream = snapshot = account."""
    async with troubled(seed=seed, conversion_after=2) as (sim, watched, trouble):
        score, start = Score(), account(sim)
        for steps, fault, at in rounds:
            before = sim.log.seq
            sim.life.steps(steps)
            trouble.plan(fault, at)
            await cycle_through(watched)
            trouble.plan("", 0)
            await settle(watched, sim, before, cycles=6, score=score)
        late = [each for each in await ended(watched, sim, start, score) if "came late" not in each]
        assert (score.missed, score.invented, late) == ([], [], [])
        assert len({event["id"] for event in score.events}) == len(score.events)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_win_is_told_once_whatever_commit_fails(fault: str, at: int) -> None:
    """Won and created, and their ids are those of a quiet run."""
    ids = []
    for planned in ("", fault):
        async with troubled() as (sim, watched, trouble):
            sim.orders.win(101)
            sim.orders.lose(102)
            trouble.plan(planned, at)
            await cycle_through(watched)
            trouble.plan("", 0)
            await cycle_through(watched)
            assert bool(trouble.met) == bool(planned)
            events = await watched.events()
            assert sorted(event["type"] for event in events) == [
                "drum.opportunity.lost",
                "drum.opportunity.won",
                "drum.project.created",
            ]
            ids.append(sorted(event["id"] for event in events))
    assert ids[0] == ids[1]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_in_the_baseline_makes_no_events(fault: str) -> None:
    """It is begun again, and says once that it is complete."""
    for at in range(1, 5):
        connection = store()
        async with drum(connection, records=12, begin=False) as (_, watched):
            trouble = Trouble(connection)
            trouble.plan(fault, at)
            await cycle_through(watched)
            assert await watched.told() == [("poller.source.baseline_completed", "source/acme")]
        await connection.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_rename_and_a_role_are_said_once_through_a_fault(fault: str) -> None:
    """What is said for the source moves with the records that showed it."""
    for at in (1, 2, 3):
        async with troubled(records=16) as (sim, watched, trouble):
            sim.orders.rename("team", "2", "Called otherwise")
            sim.orders.set_role("staff")
            trouble.plan(fault, at)
            await cycle_through(watched)
            trouble.plan("", 0)
            await cycle_through(watched)
            assert sorted(kind for kind, _ in await watched.told()) == [
                "poller.source.fields_hidden",
                "poller.source.renamed",
            ]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_large_detail_view_is_told_once_through_a_fault(fault: str) -> None:
    """What goes ahead of its parent in parts is not told again by whoever begins anew."""
    async with troubled() as (sim, watched, trouble):
        everything = Population(sim.world, rng=random.Random(1)).deliverable(2, tasks=1_100)
        sim.orders.work.insert(sim.world.row(101), everything)
        sim.orders.update(101, due_date="2026-05-01T00:00:00Z")
        for at in (2, 1):
            trouble.plan(fault, at)
            await cycle_through(watched)
        assert trouble.met
        told = await watched.told()
        assert len(told) == len(set(told)) == 1_102
