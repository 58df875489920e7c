"""A record that moves to the other list is known by its id before its first row there: what falls between."""

from collections.abc import Callable
from typing import Any

import pytest
from watching import Watched, drum

from poller.store.connection import Connection

Change = Callable[[Any, str], Any]


async def to_won(sim: Any, watched: Watched) -> str:
    """Won: the deals' sweep misses it and reads the project by its id."""
    sim.orders.win(101)
    await watched.poll.sweep("opportunity")
    return "project"


async def to_reverted(sim: Any, watched: Watched) -> str:
    """A project that is a deal again: the projects' sweep misses it and reads the deal by its id."""
    sim.orders.win(101)
    await watched.cycle()
    sim.orders.revert(101)
    await watched.poll.sweep("project")
    return "opportunity"


async def to_restored(sim: Any, watched: Watched) -> str:
    """A removed deal that is restored as a project: the projects' first row has it read by its id."""
    sim.orders.archive(101)
    await watched.sweep()
    await watched.sweep()
    sim.orders.restore(101)
    sim.orders.win(101)
    await watched.poll.sweep("project")
    return "project"


MOVES = {"won": to_won, "reverted": to_reverted, "restored": to_restored}
MOVED = {
    "won": ["drum.opportunity.won", "drum.project.created"],
    "reverted": ["drum.opportunity.reopened", "drum.project.removed"],
    "restored": ["drum.opportunity.won", "drum.project.created"],
}


def tags(kind: str) -> str:
    """The field of a kind's tags, which only its detail view has."""
    return {"project": "project_tags", "opportunity": "opportunity_tags"}[kind]


def end(kind: str) -> str:
    """A date that both views have."""
    return {"project": "end_date", "opportunity": "estimated_end_date"}[kind]


CHANGES: dict[str, tuple[Change, str]] = {
    "in its row": (lambda orders, kind: orders.update(101, **{end(kind): "2031-01-01"}), "updated"),
    "in its detail": (lambda orders, kind: orders.update(101, **{tags(kind): ["told"]}), "updated"),
    "in both": (
        lambda orders, kind: orders.update(101, name="Told", **{tags(kind): ["told"]}),
        "updated",
    ),
    "of its status": (
        lambda orders, kind: orders.complete(101) if kind == "project" else orders.lose(101),
        "",
    ),
}


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("move", MOVES)
async def test_what_falls_between_the_reading_at_a_move_and_the_first_row_is_told_once(
    connection: Connection, move: str, change: str, crash: bool
) -> None:
    """By the new list's first sweep or the reading after it, whoever makes them; and never again."""
    async with drum(connection, records=12) as (sim, watched):
        kind = await MOVES[move](sim, watched)
        moved = [type_ for type_, subject in await watched.told() if subject.endswith("/101")]
        assert moved[-2:] == MOVED[move]
        order, suffix = CHANGES[change]
        order(sim.orders, kind)
        if crash:
            await watched.restart()
        told = []
        await watched.poll.sweep(kind)
        told += await watched.told()
        for _ in range(3):
            told += await watched.cycle()
        suffix = suffix or {"project": "completed", "opportunity": "lost"}[kind]
        assert told == [(f"drum.{kind}.{suffix}", f"{kind}/101")]


@pytest.mark.parametrize("move", MOVES)
async def test_work_that_falls_between_them_is_told_once(connection: Connection, move: str) -> None:
    """A deliverable that was added in between is added, under the record as it is called now."""
    async with drum(connection, records=12) as (sim, watched):
        kind = await MOVES[move](sim, watched)
        await watched.events()
        (made,) = sim.orders.work.add_deliverable(101, name="Phase two")
        told = []
        await watched.poll.sweep(kind)
        told += await watched.events()
        for _ in range(3):
            await watched.cycle_quietly()
            told += await watched.events()
        assert [(event["type"], event["subject"]) for event in told] == [
            ("drum.deliverable.added", made.subject)
        ]
        assert told[0]["data"]["object"]["parent"] == f"{kind}/101"


@pytest.mark.parametrize("move", MOVES)
async def test_a_move_with_nothing_between_is_all_that_is_told(connection: Connection, move: str) -> None:
    """The first row of a record that was read by its id is no news."""
    async with drum(connection, records=12) as (sim, watched):
        kind = await MOVES[move](sim, watched)
        await watched.events()
        await watched.poll.sweep(kind)
        for _ in range(3):
            await watched.cycle_quietly()
        assert await watched.told() == []


@pytest.mark.parametrize("change", ["in its row", "of its status", "in its detail"])
@pytest.mark.parametrize("move", MOVES)
async def test_without_details_what_its_row_shows_is_told_all_the_same(
    connection: Connection, move: str, change: str
) -> None:
    """Fields of the list view and what a status means are nobody's choice; what only the detail has is."""
    async with drum(connection, records=12, manner={"details": False}) as (sim, watched):
        kind = await MOVES[move](sim, watched)
        await watched.events()
        order, suffix = CHANGES[change]
        order(sim.orders, kind)
        await watched.sweep()
        await watched.sweep()
        suffix = suffix or {"project": "completed", "opportunity": "lost"}[kind]
        due = [] if change == "in its detail" else [(f"drum.{kind}.{suffix}", f"{kind}/101")]
        assert await watched.told() == due


@pytest.mark.parametrize("change", ["in its row", "of its status"])
@pytest.mark.parametrize("move", MOVES)
async def test_without_details_a_reading_before_its_row_hides_nothing(
    connection: Connection, move: str, change: str
) -> None:
    """One that moved back is read by its id at once: what moved meanwhile is still told by its first row."""
    async with drum(connection, records=12, manner={"details": False}) as (sim, watched):
        kind = await MOVES[move](sim, watched)
        await watched.events()
        order, suffix = CHANGES[change]
        order(sim.orders, kind)
        await watched.details([f"{kind}/101"])
        await watched.sweep()
        suffix = suffix or {"project": "completed", "opportunity": "lost"}[kind]
        assert await watched.told() == [(f"drum.{kind}.{suffix}", f"{kind}/101")]


async def test_without_details_an_update_names_only_what_the_list_has(connection: Connection) -> None:
    """A field that only the detail view has is not watched, whatever else moved with it."""
    async with drum(connection, records=12, manner={"details": False}) as (sim, watched):
        kind = await to_won(sim, watched)
        await watched.events()
        sim.orders.update(101, name="Told", **{tags(kind): ["untold"]})
        await watched.sweep()
        (event,) = await watched.events()
        assert event["data"]["changed"] == ["name"]
