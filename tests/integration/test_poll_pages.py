"""How a list is read: page after page with nothing in between, and again before anybody is asked by id."""

from typing import Any

import pytest
from watching import FreeTicket, drum

from poller.store.connection import Connection


def asked(sim: Any, since: int) -> list[str]:
    """What was asked since: `list` for a page, else the id."""
    paths = [each.path.rpartition("/")[2] for each in list(sim.requests)[since:]]
    return [last if last.isdigit() else "list" for last in paths]


async def test_pages_are_read_without_another_request_between_them(connection: Connection) -> None:
    """Wins, losses, absences and new deals that need an answer by id wait until the last page was read."""
    async with drum(connection, records=60, items_cap=5, conversion_after=None) as (sim, watched):
        listed = [row.id for row in sim.world.live("opportunity") if row.values["project_status"] in "123"]
        await watched.events()
        sim.orders.lose(listed[0])
        sim.orders.win(listed[5])
        sim.orders.archive(listed[9])
        sim.orders.win(listed[10])
        sim.orders.convert(listed[10])
        (made,) = sim.orders.create_opportunity(name="New")
        sim.orders.win(int(made.subject.partition("/")[2]))
        before = len(sim.requests)
        told = await watched.poll.sweep("opportunity")
        found = asked(sim, before)
        pages = told.pages + 1  # one more is past the end
        assert pages > 5
        assert found[:pages] == ["list"] * pages
        assert {str(listed[0]), str(listed[5]), str(listed[9]), str(listed[10])} <= set(found[pages:])
        assert {kind.rpartition(".")[2] for kind, _ in await watched.told()} == {"lost", "won", "created"}


@pytest.mark.parametrize("headers", ["off", "pagy8", "pagy9", "renamed"])
async def test_a_list_that_shows_an_id_twice_is_read_again_before_anybody_is_asked(
    connection: Connection, headers: str
) -> None:
    """One that slid from the last page to the first, which was read already, is no suspect."""
    async with drum(connection, records=30, items_cap=5, sort="updated", headers=headers) as (sim, watched):
        await watched.events()
        pages = watched.session.source.pages("opportunity", size=500, ticket=FreeTicket())
        last = int([page async for page in pages][-1].ids[-1])

        async def touch(request: Any) -> None:
            if request.path.endswith("opportunities") and "page=2" in request.query:
                sim.between()
                sim.orders.update(last, name="Slid to the first page")

        sim.between(before=touch)
        before = len(sim.requests)
        told = await watched.poll.sweep("opportunity")
        assert set(asked(sim, before)) == {"list"}
        assert (told.complete, told.suspects) == (True, 0)
        assert await watched.told() == [("drum.opportunity.updated", f"opportunity/{last}")]


@pytest.mark.parametrize("headers", ["pagy8", "pagy9", "renamed"])
async def test_a_list_whose_ids_do_not_add_up_is_read_again_before_anybody_is_asked(
    connection: Connection, headers: str
) -> None:
    """The total that the server sends is more than what its pages showed: nobody is suspect yet."""
    async with drum(connection, records=30, items_cap=5, headers=headers) as (sim, watched):
        await watched.events()
        moved = [row.id for row in sim.world.live("opportunity")]

        async def slip(request: Any) -> None:
            if request.path.endswith("opportunities") and "page=2" in request.query:
                sim.between(before=back)
                sim.orders.archive(moved[0])

        async def back(request: Any) -> None:
            if request.path.endswith("opportunities") and "page=3" in request.query:
                sim.between()
                sim.orders.restore(moved[0])

        sim.between(before=slip)
        before = len(sim.requests)
        told = await watched.poll.sweep("opportunity")
        assert set(asked(sim, before)) == {"list"}
        assert (told.complete, told.suspects) == (True, 0)
        assert await watched.told() == []


async def test_a_list_that_never_stands_still_is_read_three_times_and_then_asked(
    connection: Connection,
) -> None:
    """Drift does not eat the budget without end: what all three readings missed is asked for by id."""
    async with drum(connection, records=30, items_cap=5, headers="pagy8") as (sim, watched):
        await watched.events()
        sim.orders.archive(101)

        async def add(request: Any) -> None:
            if request.path.endswith("opportunities") and "page=2" in request.query:
                sim.orders.create_opportunity(name="Another")

        sim.between(before=add)
        before = len(sim.requests)
        await watched.poll.sweep("opportunity")
        found = asked(sim, before)
        assert sum("page=1&" in f"{each.query}&" for each in list(sim.requests)[before:]) == 3
        assert [each for each in found if each != "list"] == ["101", "101"]
        assert {kind.rpartition(".")[2] for kind, _ in await watched.told()} == {"created"}


@pytest.mark.parametrize("number", ["1e9999999999999999999999", "1e1000000", "-1e-1000000"])
async def test_a_number_beyond_all_sense_ends_its_sweep_and_nothing_else(
    connection: Connection, number: str
) -> None:
    """Written out it would fill the memory: the page is not believed, its list is read again next time."""
    async with drum(connection, records=12, extra_keys={"score": 1}) as (sim, watched):
        await watched.events()
        encoded = sim.world.encoded

        def absurd(row: Any, role: Any, *, detail: bool) -> bytes:
            body: bytes = encoded(row, role, detail=detail)
            return body.replace(b'"score":1', f'"score":{number}'.encode()) if row.id == 101 else body

        sim.world.encoded = absurd
        sim.orders.update(101, name="Beside it")
        told = await watched.poll.sweep("opportunity")
        assert not told.complete
        assert "digits" in told.reason
        sim.world.encoded = encoded
        await watched.poll.sweep("opportunity")
        assert await watched.told() == [("drum.opportunity.updated", "opportunity/101")]
