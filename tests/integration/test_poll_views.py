"""The detail view and what the token may see: nested records, renames, hidden fields, noise."""

import time
from typing import Any

import pytest
from watching import Watched, drum, watching

from poller.model import rfc3339
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.visibility import DETAILS

SOURCE = "source/acme"


async def suffixes(watched: Watched) -> list[str]:
    """What was told since the last call, without prefixes."""
    return [kind.rpartition(".")[2] for kind, _ in await watched.told()]


async def with_work(sim: Any, watched: Watched) -> tuple[int, int]:
    """Opportunity 101 with one deliverable and one task more, both told; their ids."""
    (deliverable,) = sim.orders.work.add_deliverable(101, name="Phase")
    home = int(deliverable.subject.partition("/")[2])
    (task,) = sim.orders.work.add_task(home, name="Task", original_rate="100")
    await watched.details(["opportunity/101"])
    assert await watched.told() == [
        ("drum.deliverable.added", deliverable.subject),
        ("drum.task.added", task.subject),
    ]
    return home, int(task.subject.partition("/")[2])


# --- nested records -------------------------------------------------------------------------------


async def test_the_first_reading_of_a_record_is_silent_about_what_is_in_it(connection: Connection) -> None:
    """Also of one that is new: its deliverables and tasks were there when it was first read."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        (made,) = sim.orders.create_opportunity(name="With work")
        record = int(made.subject.partition("/")[2])
        sim.orders.work.add_deliverable(record, name="There from the start")
        assert await watched.cycle() == [("drum.opportunity.created", made.subject)]
        sim.orders.work.add_deliverable(record, name="Added later")
        await watched.details([made.subject])
        assert await suffixes(watched) == ["added"]


async def test_a_deliverable_and_a_task_are_records_of_their_own(connection: Connection) -> None:
    """Added, worked on, done, reopened, removed; each names its parent."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        home, task = await with_work(sim, watched)
        steps: tuple[tuple[Any, str], ...] = (
            (lambda: sim.orders.work.update_task(task, status="in_progress"), "status_changed"),
            (lambda: sim.orders.work.update_task(task, status="completed"), "completed"),
            (lambda: sim.orders.work.update_task(task, status="in_progress"), "reopened"),
            (lambda: sim.orders.work.update_task(task, note="Called"), "updated"),
            (lambda: sim.orders.work.update_deliverable(home, percentage_complete=40), "updated"),
            (lambda: sim.orders.work.remove_task(task), "removed"),
            (lambda: sim.orders.work.remove_deliverable(home), "removed"),
        )
        for order, expected in steps:
            order()
            await watched.details(["opportunity/101"])
            (event,) = await watched.events()
            assert event["type"].rpartition(".")[2] == expected
            assert event["data"]["object"]["parent"] == "opportunity/101"
            if event["subject"].startswith("task/"):
                assert event["data"]["object"]["deliverable_id"] == home


async def test_a_task_that_moves_to_another_deliverable_is_updated(connection: Connection) -> None:
    """It is neither removed nor added."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        home, task = await with_work(sim, watched)
        (other,) = sim.orders.work.add_deliverable(101, name="Other phase")
        await watched.details(["opportunity/101"])
        await watched.events()
        sim.orders.work.move_task(task, int(other.subject.partition("/")[2]), 1)
        await watched.details(["opportunity/101"])
        (event,) = await watched.events()
        assert event["type"] == "drum.task.updated"
        assert event["data"]["changed"] == ["deliverable_id"]
        assert event["data"]["previous"] == {"deliverable_id": home}


async def test_nothing_is_said_of_what_goes_with_its_parent(connection: Connection) -> None:
    """The removal of the parent says it all; what comes back with it is as it was."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        await with_work(sim, watched)
        sim.orders.archive(101)
        await watched.sweep()
        await watched.sweep()
        sim.orders.restore(101)
        await watched.cycle_quietly()
        assert await suffixes(watched) == ["removed", "restored"]


async def test_a_list_and_a_detail_of_one_moment_are_never_compared(connection: Connection) -> None:
    """Each view is compared with itself: a text that differs between them for ever is no change."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        sim.world.rows[102].list_description = "Another text in the list"
        sim.world.touch(102)
        await watched.cycle_quietly()
        assert await suffixes(watched) == ["updated"]
        assert await watched.cycle() == []


@pytest.mark.parametrize("seen", [False, True], ids=["never read", "read before"])
async def test_readings_without_details_leave_what_is_nested_as_it_was(
    connection: Connection, seen: bool
) -> None:
    """Switched on after a status was read: the first reading is silent, a later one tells since the last."""
    async with serve("drum", options=Options(records=4, seed=3)) as sim:
        about = {"kind": "drum", "url": sim.url, "token": sim.token}
        async with watching(connection, Keys(), details=seen, **about) as watched:
            await watched.cycle() if seen else await watched.sweep()
        (made,) = sim.orders.work.add_deliverable(101, name="Meanwhile")
        async with watching(connection, Keys(), details=False, **about) as watched:
            sim.orders.lose(101)
            await watched.sweep()
            await watched.events()
        async with watching(connection, Keys(), details=True, **about) as watched:
            await watched.events()
            await watched.cycle_quietly()
            told = await watched.events()
            assert [(e["type"], e["subject"]) for e in told] == (
                [("drum.deliverable.added", made.subject)] if seen else []
            )
            (entry,) = [each for each in sim.log if each.subject == made.subject]
            for event in told:
                observed = event["data"]["observed"]
                assert observed["not_before"] <= rfc3339(entry.at) <= observed["not_after"]
            (again,) = sim.orders.work.add_deliverable(101, name="Watched")
            assert await watched.cycle() == [("drum.deliverable.added", again.subject)]


# --- renames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("status", "project_status"),
        ("client", "client"),
        ("team", "team"),
        ("lead_score", "lead_score"),
        ("user", "assigned_users"),
        ("resource_type", "resource_type"),
    ],
)
async def test_a_rename_is_said_once_for_the_source(connection: Connection, table: str, field: str) -> None:
    """Whatever is renamed, and however many records print it, in whichever view."""
    async with drum(connection, records=40) as (sim, watched):
        await watched.events()
        used = [key for key in sim.world.tables[table] if sim.orders.in_use(table, key)]
        key = next(key for key in used if key.isdigit())
        sim.orders.rename(table, key, "Called otherwise")
        await watched.cycle_quietly()
        (event,) = await watched.events()
        assert (event["type"], event["subject"]) == ("poller.source.renamed", SOURCE)
        told = event["data"]["object"]
        assert (told["what"], told["id"], told["name"]) == (table, key, "Called otherwise")
        assert await watched.cycle() == []


async def test_a_name_that_goes_back_is_a_second_rename(connection: Connection) -> None:
    """A to B to A are two renames, after a restart too."""
    async with drum(connection, records=40) as (sim, watched):
        await watched.events()
        before = sim.world.tables["team"]["2"].name
        for name in ("Otherwise", before):
            sim.orders.rename("team", "2", name)
            await watched.restart()
            await watched.cycle_quietly()
        assert await suffixes(watched) == ["renamed", "renamed"]


async def test_a_second_rename_goes_on_from_the_first(connection: Connection) -> None:
    """Whichever record shows it: one that was not read since the first one still has the name before it."""
    async with drum(connection) as (sim, watched):
        first, second = sorted(row.id for row in sim.world.live("opportunity"))[:2]
        users = sim.world.rows[first].values["assigned_users"]
        sim.orders.update(second, assigned_users=users)
        await watched.cycle_quietly()
        await watched.events()
        names = [sim.world.tables["user"][users[0]].name, "Second", "Third"]
        for record, name in zip((first, second), names[1:], strict=True):
            sim.orders.rename("user", users[0], name)
            await watched.details([f"opportunity/{record}"])
        told = [event["data"] for event in await watched.events()]
        assert [each["object"]["name"] for each in told] == names[1:]
        assert [each["previous"]["name"] for each in told] == names[:-1]


async def test_a_renamed_status_is_no_change_of_status(connection: Connection) -> None:
    """Status by id: a deal in a renamed status has not moved; one that moved into it has."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.rename("status", "2", "Offer sent")
        sim.orders.set_status(102, 2)
        await watched.sweep()
        assert sorted(await suffixes(watched)) == ["renamed", "status_changed"]


# --- what the token may see -----------------------------------------------------------------------


@pytest.mark.parametrize("role", ["staff", "manager"])
async def test_a_role_that_hides_fields_is_one_event_and_back_another(
    connection: Connection, role: str
) -> None:
    """From admin and back: once for the source, whichever views and kinds the fields are in."""
    async with drum(connection, records=30) as (sim, watched):
        await watched.events()
        sim.orders.set_role(role)
        for _ in range(3):
            await watched.cycle_quietly()
        (hidden,) = await watched.events()
        assert (hidden["type"], hidden["subject"]) == ("poller.source.fields_hidden", SOURCE)
        fields = hidden["data"]["object"]["fields"]
        assert {"opportunity.work_in_progress", "project.remaining_cost_to_complete"} <= set(fields)
        sim.orders.set_role("admin")
        for _ in range(3):
            await watched.cycle_quietly()
        (shown,) = await watched.events()
        assert shown["type"] == "poller.source.fields_shown"
        assert shown["data"]["object"]["fields"] == fields


async def test_what_details_notice_one_by_one_was_last_seen_by_one_of_them(connection: Connection) -> None:
    """Sweeps in between show nothing of a field that only the detail view has."""
    async with drum(connection, records=30) as (sim, watched):
        await watched.events()
        sim.set(hidden_keys=("invoicing_structure",))
        hidden_at, told = time.time(), list[dict[str, Any]]()
        for record in sorted(await watched.session.snapshots.listed_ids("opportunity"))[:DETAILS]:
            await watched.sweep()
            await watched.details([f"opportunity/{record}"])
            await watched.sweep()
            told += await watched.events()
        (event,) = told
        assert event["type"] == "poller.source.fields_hidden"
        observed = event["data"]["observed"]
        assert observed["not_before"] <= rfc3339(hidden_at) <= observed["not_after"]


async def test_hidden_fields_are_told_for_every_kind_at_once(connection: Connection) -> None:
    """A role without money loses fields of deals, projects, deliverables and tasks in one event."""
    async with drum(connection, records=30) as (sim, watched):
        await watched.events()
        sim.orders.set_role("staff")
        await watched.sweep()
        (event,) = await watched.events()
        fields = event["data"]["object"]["fields"]
        kinds = {name.partition(".")[0] for name in fields}
        assert kinds == {"opportunity", "project", "deliverable", "task"}
        assert {"opportunity.total_budget", "task.budget"} <= set(fields)


async def test_what_moved_while_it_was_hidden_is_re_based_in_silence(connection: Connection) -> None:
    """A hidden field is unknown: when it is back, its value is no change of the record."""
    async with drum(connection, records=30) as (sim, watched):
        await watched.events()
        sim.orders.set_role("staff")
        await watched.cycle_quietly()
        sim.orders.update(101, total_budget="99.00", estimated_deposit="12.00")
        await watched.cycle_quietly()
        sim.orders.set_role("admin")
        for _ in range(3):
            await watched.cycle_quietly()
        assert await suffixes(watched) == ["fields_hidden", "fields_shown"]


async def test_a_field_that_one_record_lacks_is_nobodys_news(connection: Connection) -> None:
    """A key that one detail view leaves out is unknown there, and says nothing of the token."""
    async with drum(connection, records=30) as (sim, watched):
        await watched.events()
        for _ in range(2):
            sim.set(hidden_keys=("due_date",))
            await watched.details(["opportunity/101"])
            sim.set(hidden_keys=())
            await watched.cycle_quietly()
        assert await watched.told() == []


async def test_a_failed_sweep_does_not_lose_what_it_noticed(connection: Connection) -> None:
    """Rows of the pages before the fault were re-based; the next complete sweep still says why."""
    async with drum(connection, records=40, items_cap=10) as (sim, watched):
        await watched.events()
        sim.set(hidden_keys=("planned",))

        async def spoil(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=3" in asked.query:
                sim.between()
                sim.fail_next("truncated", path="opportunities")

        sim.between(before=spoil)
        told = await watched.poll.sweep("opportunity")
        assert not told.complete
        await watched.restart()
        await watched.sweep()
        assert await suffixes(watched) == ["fields_hidden"]


# --- noise ----------------------------------------------------------------------------------------


async def test_with_noise_counters_are_told_and_positions_are_not(connection: Connection) -> None:
    """`noise = true` sends what nobody did; places that others' moves renumber stay silent."""
    async with drum(connection, manner={"noise": True}) as (sim, watched):
        await watched.events()
        home, task = await with_work(sim, watched)
        sim.orders.work.track_time(task, "2")
        await watched.details(["opportunity/101"])
        assert sorted(await watched.told()) == [
            ("drum.deliverable.updated", f"deliverable/{home}"),
            ("drum.opportunity.updated", "opportunity/101"),
            ("drum.task.updated", f"task/{task}"),
        ]
        sim.orders.work.move_deliverable(home, 1)
        await watched.details(["opportunity/101"])
        assert await watched.told() == []


async def test_a_counter_beside_a_real_change_is_told_with_it(connection: Connection) -> None:
    """Noise is left out alone, never cut out of a change."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.update(101, quotes_count=7, due_date="2026-05-01T00:00:00Z")
        await watched.details(["opportunity/101"])
        (event,) = await watched.events()
        assert event["data"]["changed"] == ["due_date", "quotes_count"]
