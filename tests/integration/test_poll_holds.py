"""What is held, and what lifts it: too much gone at once, another account's token, 403 by id."""

from collections.abc import Callable
from typing import Any

import pytest
from watching import Watched, drum

from poller.simulators.drum import World
from poller.store.connection import Connection

SOURCE = "source/acme"


async def objects(watched: Watched) -> list[tuple[str, dict[str, Any]]]:
    """Suffix and object of the source's events since the last call; of records only the suffix."""
    return [
        (e["type"].rpartition(".")[2], e["data"]["object"] if e["subject"] == SOURCE else {})
        for e in await watched.events()
    ]


def deals(sim: Any) -> list[int]:
    """Ids of the listed opportunities."""
    return [row.id for row in sim.world.live("opportunity")]


# --- too much gone at once ------------------------------------------------------------------------


@pytest.mark.parametrize(("gone", "held"), [(20, False), (21, True)])
async def test_more_than_twenty_gone_at_once_are_held(connection: Connection, gone: int, held: bool) -> None:
    """Twenty are removed as found; one more, and removals wait."""
    async with drum(connection, records=90) as (sim, watched):
        await watched.events()
        for record in deals(sim)[:gone]:
            sim.orders.archive(record)
        for _ in range(3):
            await watched.sweep()
        told = [suffix for suffix, _ in await objects(watched)]
        assert told == (["held"] if held else ["removed"] * gone)


async def test_of_a_large_list_a_twentieth_may_go(connection: Connection) -> None:
    """5 % of 600 are 30: as many are removed without a hold, a bounded number in each sweep."""
    async with drum(connection, records=900, begin=False) as (sim, watched):
        await watched.sweep()
        await watched.events()
        listed = deals(sim)
        for record in listed[: len(listed) // 20]:
            sim.orders.archive(record)
        for _ in range(3):
            await watched.sweep()
        told = [suffix for suffix, _ in await objects(watched)]
        assert told == ["removed"] * (len(listed) // 20)


async def test_a_hold_lifts_when_the_records_are_back(connection: Connection) -> None:
    """It says so, and nothing was removed; everything else went on meanwhile."""
    async with drum(connection, records=90) as (sim, watched):
        await watched.events()
        gone = deals(sim)[:30]
        for record in gone:
            sim.orders.archive(record)
        await watched.sweep()
        ((suffix, held),) = await objects(watched)
        assert (suffix, held["list"], held["suspects"]) == ("held", "opportunity", 30)
        sim.orders.update(deals(sim)[-1], name="Goes on")
        await watched.sweep()
        assert [suffix for suffix, _ in await objects(watched)] == ["updated"]
        for record in gone:
            sim.orders.restore(record)
        await watched.sweep()
        ((suffix, released),) = await objects(watched)
        assert (suffix, released) == (
            "released",
            {"list": "opportunity", "reason": "the missing records are back"},
        )


async def test_wins_among_the_held_are_found_twenty_a_sweep(connection: Connection) -> None:
    """An invoice does not wait for an operator: each sweep asks twenty of the missing, in turn."""
    async with drum(connection, records=100) as (sim, watched):
        await watched.events()
        missing = deals(sim)[:45]
        won = missing[::9]
        for record in missing:
            if record in won:
                sim.orders.win(record)
            else:
                sim.orders.archive(record)
        for _ in range(4):
            await watched.poll.sweep("opportunity")
        told = await watched.told()
        assert sorted(s for kind, s in told if kind == "drum.opportunity.won") == sorted(
            f"opportunity/{record}" for record in won
        )
        assert not [s for kind, s in told if kind.endswith("removed")]
        by_sweep = [
            a for a in sim.requests if a.path.startswith("/api/v1/opportunities/") and a.status == 404
        ]
        assert len(by_sweep) <= 80


@pytest.mark.fault(11)
async def test_an_operator_releases_a_hold(connection: Connection, figures: Callable[..., None]) -> None:
    """Then what is gone is removed as found, and the next disappearance is held again."""
    async with drum(connection, records=120) as (sim, watched):
        await watched.events()
        gone = deals(sim)[:30]
        for record in gone:
            sim.orders.archive(record)
        await watched.sweep()
        assert [suffix for suffix, _ in await objects(watched)] == ["held"]
        watched.session.memory.lists["opportunity"].released = True
        for _ in range(3):
            await watched.sweep()
        told = await objects(watched)
        assert ("released", {"list": "opportunity", "reason": "an operator released it"}) in told
        assert [suffix for suffix, _ in told].count("removed") == 30
        figures("30 gone at once: held, 0 removed; released by an operator: 30 removed")
        for record in deals(sim)[:25]:
            sim.orders.archive(record)
        for _ in range(3):
            await watched.sweep()
        assert [suffix for suffix, _ in await objects(watched)] == ["held"]


async def test_a_hold_outlives_a_restart_and_is_said_once(connection: Connection) -> None:
    """Whoever polls next knows that removals wait."""
    async with drum(connection, records=90) as (sim, watched):
        await watched.events()
        for record in deals(sim)[:30]:
            sim.orders.archive(record)
        for _ in range(3):
            await watched.sweep()
            await watched.restart()
        assert [suffix for suffix, _ in await objects(watched)] == ["held"]


@pytest.mark.fault(11)
async def test_an_empty_answer_removes_nothing(connection: Connection) -> None:
    """A list of 200 that is [] for three sweeps is a fault of the server, not the end of the business."""
    async with drum(connection, records=60) as (sim, watched):
        await watched.events()

        async def spoil(asked: Any) -> None:
            if asked.path.endswith("opportunities"):
                sim.fail_next("empty")

        sim.between(before=spoil)
        for _ in range(3):
            await watched.poll.sweep("opportunity")
        sim.between()
        await watched.sweep()
        told = [suffix for suffix, _ in await objects(watched)]
        assert set(told) <= {"held", "released"}
        assert len(told) == 2


async def test_one_empty_answer_is_read_again_before_anything_is_held(connection: Connection) -> None:
    """A fault that passes is not worth an event, and nobody is asked by id."""
    async with drum(connection, records=60) as (sim, watched):
        await watched.events()
        sim.fail_next("empty", path="opportunities")
        told = await watched.poll.sweep("opportunity")
        assert (told.complete, told.suspects) == (True, 0)
        assert await watched.told() == []


# --- another account's token ----------------------------------------------------------------------


def other_account() -> World:
    """An account that shares no id with the first."""
    world = World(account="other", token="other_token", first_id=5_000, with_examples=False)
    world.populate(opportunities=40, projects=30)
    return world


@pytest.mark.parametrize("listed", [90, 34])
async def test_another_accounts_token_holds_everything_before_its_first_commit(
    connection: Connection, listed: int
) -> None:
    """Also where only one of the two lists is long enough to tell; and it lifts by itself."""
    async with drum(connection, records=listed) as (sim, watched):
        await watched.events()
        sim.worlds.append(other_account())
        before = {
            kind: await watched.session.snapshots.listed_ids(kind) for kind in ("opportunity", "project")
        }
        upstream: Any = watched.session.source
        right = upstream._upstream._client.headers["authorization"]
        upstream._upstream._client.headers["authorization"] = "Bearer other_token"
        for _ in range(3):
            told = await watched.sweep()
            assert not any(swept.complete for swept in told)
            await watched.restart()
        assert [suffix for suffix, _ in await objects(watched)] == ["held", "held"]
        after = {
            kind: await watched.session.snapshots.listed_ids(kind) for kind in ("opportunity", "project")
        }
        assert after == before
        upstream._upstream._client.headers["authorization"] = right
        await watched.sweep()
        assert [suffix for suffix, _ in await objects(watched)] == ["released", "released"]
        assert await watched.cycle() == []


async def test_many_new_records_on_the_first_page_are_no_other_account(connection: Connection) -> None:
    """Where none of the page is known but a known record answers by its id, the account is the same."""
    async with drum(connection, records=60, sort="updated", items_cap=20) as (sim, watched):
        await watched.events()
        made = [sim.orders.create_opportunity(name=f"Imported {n}")[0].subject for n in range(25)]
        await watched.sweep()
        assert sorted(await watched.told()) == sorted(("drum.opportunity.created", s) for s in made)


async def test_an_empty_list_and_ids_that_give_no_answer_prove_no_other_account(
    connection: Connection,
) -> None:
    """A host in trouble: nothing is held nor concluded. Only a 404 says that a record is not there."""
    async with drum(connection, records=60) as (sim, watched):
        await watched.events()
        sim.set(fault_rate=1.0, faults=["http502"], fault_path="opportunities/")
        sim.fail_next("empty", path="opportunities")
        swept = await watched.poll.sweep("opportunity")
        assert (swept.complete, "no known id gave an answer" in swept.reason) == (False, True)
        assert await objects(watched) == []
        assert not watched.session.memory.lists["opportunity"].strange


async def test_an_operator_may_say_that_the_other_account_is_meant(connection: Connection) -> None:
    """After a release the old records go, twice asked for, and the new ones come."""
    async with drum(connection, records=60) as (sim, watched):
        await watched.events()
        sim.worlds.append(other_account())
        upstream: Any = watched.session.source
        upstream._upstream._client.headers["authorization"] = "Bearer other_token"
        await watched.sweep()
        for mine in watched.session.memory.lists.values():
            mine.released = True
        for _ in range(4):
            await watched.sweep()
        told = [suffix for suffix, _ in await objects(watched)]
        assert told.count("created") == 70
        assert told.count("removed") == 60
        assert set(told) == {"held", "released", "created", "removed"}


# --- records that answer 403 ----------------------------------------------------------------------


async def test_403_by_id_is_said_once_and_removes_nothing(connection: Connection) -> None:
    """The record is named, held with the reason "forbidden", and released when it answers again."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.archive(101)

        async def forbid(asked: Any) -> None:
            if asked.path.endswith("/101"):
                sim.world.main.archived = True

        async def allow(_asked: Any) -> None:
            sim.world.main.archived = False

        sim.between(before=forbid, after=allow)
        for _ in range(3):
            await watched.sweep()
        told = {"list": "opportunity", "reason": "forbidden", "record": "opportunity/101"}
        assert await objects(watched) == [("held", told)]
        sim.between()
        await watched.sweep()
        ((suffix, released),) = await objects(watched)
        assert (suffix, released["record"]) == ("released", "opportunity/101")
        await watched.sweep()
        assert [suffix for suffix, _ in await objects(watched)] == ["removed"]


async def test_a_strange_list_is_a_bad_answer(connection: Connection) -> None:
    """The sweep says why it ended, for the log and the page."""
    async with drum(connection, records=60) as (sim, watched):
        sim.orders.set_role("blind")
        told = await watched.poll.sweep("opportunity")
        assert "another account's" in told.reason
