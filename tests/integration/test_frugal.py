"""Fewer requests and bytes: what the server says is unchanged is not sent, and nothing is missed for it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from watching import Watched, watching

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys


@pytest.fixture
async def sim() -> AsyncIterator[Any]:
    """A simulated Drum that tags its answers, with three pages of opportunities."""
    options = Options(records=40, seed=3)
    async with serve("drum", options=options, etag=True, items_cap=10, headers="pagy8") as served:
        yield served


@pytest.fixture
async def watched(sim: Any, connection: Connection, keys: Keys) -> AsyncIterator[Watched]:
    """It, with everything read, and again until the size of a page was found and every tag is known."""
    async with watching(connection, keys, kind="drum", url=sim.url, token=sim.token) as made:
        for _ in range(3):
            await made.sweep()
            await made.details()
        await made.events()
        yield made


async def asked(sim: Any, work: Any) -> list[Any]:
    """The requests that some work makes."""
    before = len(sim.wire.requests)
    await work
    return list(sim.wire.requests)[before:]


async def told(watched: Watched) -> list[tuple[str, str]]:
    """Type and subject of what was said since the last time."""
    return [(event["type"], event["subject"]) for event in await watched.events()]


async def test_what_has_not_changed_is_not_sent(watched: Watched, sim: Any) -> None:
    """Of each list only the last page, whose counts prove the end, is sent again; of details nothing."""
    sweep = await asked(sim, watched.sweep())
    last = {each.path: each.number for each in sweep}
    assert [each.status for each in sweep if each.number not in last.values()] == [304] * (len(sweep) - 2)
    assert {each.status for each in sweep if each.number in last.values()} == {200}
    assert {each.status for each in await asked(sim, watched.details())} == {304}
    assert await told(watched) == []


async def test_a_change_on_any_page_is_told(watched: Watched, sim: Any) -> None:
    """Every opportunity's change is found, whichever page it is on."""
    ids = sorted(row.id for row in sim.world.rows.values() if row.kind == "opportunity")
    for record in ids[::5]:
        sim.orders.update(record, name=f"Another {record}")
    await watched.sweep()
    expected = {("drum.opportunity.updated", f"opportunity/{record}") for record in ids[::5]}
    assert set(await told(watched)) == expected


async def test_there_and_back_is_told_twice(watched: Watched, sim: Any) -> None:
    """A → B → A ends with the tag that was known first, and is told all the same."""
    name = sim.world.rows[101].values["name"]
    for value in ("B", name):
        sim.orders.update(101, name=value)
        await watched.sweep()
        assert await told(watched) == [("drum.opportunity.updated", "opportunity/101")]


async def test_there_and_back_is_told_twice_also_where_its_page_was_the_last(
    watched: Watched, sim: Any
) -> None:
    """A page that had a tag, was the last for a while and so had none, and is again what it was at first."""
    ids = sorted(row.id for row in sim.world.live("opportunity"))
    record, name = ids[15], sim.world.rows[ids[15]].values["name"]
    sim.fail_next("http502", path="/opportunities")
    await watched.poll.sweep("opportunity")
    for value, order in (("B", sim.orders.archive), (name, sim.orders.restore)):
        sim.orders.update(record, name=value)
        for each in ids[20:]:
            order(each)
        await watched.poll.sweep("opportunity")
        assert ("drum.opportunity.updated", f"opportunity/{record}") in await told(watched)


async def test_a_row_that_changed_again_on_a_later_page_is_told(watched: Watched, sim: Any) -> None:
    """Its status waits to be told, and so its second row was not looked at: its page must come again."""
    sim.set(sort="name")
    for _ in range(2):
        await watched.poll.sweep("opportunity")
    rows = sorted(sim.world.live("opportunity"), key=lambda row: str(row.values["name"]))
    record, later = rows[3], f"{rows[14].values['name']} "
    sim.orders.set_status(
        record.id, next(each for each in (2, 3) if str(each) != record.values["project_status"])
    )

    async def moves(asked: Any) -> None:
        if asked.path.endswith("/opportunities") and "page=2&" in f"{asked.query}&":
            sim.orders.update(record.id, name=later)

    sim.between(before=moves)
    for _ in range(3):
        await watched.poll.sweep("opportunity")
    suffixes = [kind.rpartition(".")[2] for kind, subject in await told(watched)]
    assert suffixes == ["status_changed", "updated"]


async def test_a_list_that_grows_by_a_page_is_read_to_its_new_end(watched: Watched, sim: Any) -> None:
    """Pages that are unchanged say nothing of how many there are now."""
    made = [sim.orders.create_opportunity(name=f"New {n}")[0].subject for n in range(12)]
    await watched.sweep()
    assert {subject for _, subject in await told(watched)} == set(made)


async def test_a_win_among_unchanged_pages_is_told(watched: Watched, sim: Any) -> None:
    """What leaves one list for the other is found though most of both is as it was."""
    sim.orders.win(101)
    for _ in range(2):
        await watched.sweep()
    assert ("drum.opportunity.won", "opportunity/101") in await told(watched)
    project = await watched.known("project/101")
    assert project is not None
    assert project.row is not None


async def test_a_detail_that_only_it_shows_is_told(watched: Watched, sim: Any) -> None:
    """A tag that no longer holds gives the whole view, with what is new in it."""
    sim.orders.update(101, invoicing_structure="monthly")
    await watched.details()
    assert await told(watched) == [("drum.opportunity.updated", "opportunity/101")]


async def test_an_unchanged_detail_counts_as_read(watched: Watched, sim: Any) -> None:
    """A 304 moves the moment at which the record was last seen so, for its age and the next bounds."""
    before = await watched.known("opportunity/101")
    await watched.details(["opportunity/101"])
    after = await watched.known("opportunity/101")
    assert before is not None
    assert after is not None
    assert after.detail_at > before.detail_at
    assert after.detail == before.detail


async def test_a_changed_rows_detail_is_read_in_full(watched: Watched, sim: Any) -> None:
    """The very same view may say more beside another row: no tag is sent then."""
    sim.orders.update(101, name="Another name")
    await watched.sweep()
    watched.session.urgent["opportunity", "101"] = 1.0
    requests = await asked(sim, watched.details(["opportunity/101"]))
    assert [each.status for each in requests] == [200]


async def test_after_a_failed_sweep_all_is_sent_again(watched: Watched, sim: Any) -> None:
    """A page that was given but whose list was not read to its end is not taken for known."""
    sim.fail_next("http502", path="/opportunities")
    await watched.sweep()
    requests = await asked(sim, watched.sweep())
    assert {each.status for each in requests if each.path.endswith("opportunities")} == {200}
