"""The 26 traps of facts.md §1.11, each by its number, against the simulated Drum over real HTTP."""

import random
from typing import Any

import pytest
from truth import moment
from watching import drum

from poller.errors import Refused
from poller.model import dumps
from poller.simulators.drum import Population, World
from poller.store.connection import Connection


async def test_trap_1_an_event_says_between_which_two_moments_it_happened(connection: Connection) -> None:
    """No record has a timestamp: both bounds are told, and the change lies between them."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        (entry,) = sim.orders.update(101, name="New name")
        await watched.sweep()
        (event,) = await watched.events()
        assert moment(event, "not_before") < entry.at < moment(event, "not_after") + 0.001


async def test_trap_2_lists_without_an_order_are_read_as_sets(connection: Connection) -> None:
    """Rows in another order at each request, some twice, some not at all: nothing is made up of it."""
    async with drum(connection, records=30, items_cap=7) as (sim, watched):
        await watched.events()
        sim.set(sort="random")
        for _ in range(3):
            await watched.sweep()
        assert await watched.told() == []


async def test_trap_3_a_page_shorter_than_asked_is_not_the_last(connection: Connection) -> None:
    """A server that caps its pages far below what was asked for is read to its end."""
    async with drum(connection, records=40, begin=False, items_cap=7) as (sim, watched):
        await watched.sweep()
        (event,) = await watched.events()
        counts = event["data"]["object"]["counts"]
        assert counts == {kind: len(sim.world.live(kind)) for kind in ("opportunity", "project")}


@pytest.mark.parametrize("past_end", ["empty", "last", "404", "500"])
async def test_trap_4_every_answer_past_the_end_ends_the_list(connection: Connection, past_end: str) -> None:
    """Empty, the last page again, 404 or 500: the list is complete, and what is gone is seen to be."""
    async with drum(connection, records=20, items_cap=5, past_end=past_end) as (sim, watched):
        await watched.events()
        assert all(swept.complete for swept in await watched.sweep())
        sim.orders.archive(101)
        await watched.sweep()
        await watched.sweep()
        assert await watched.told() == [("drum.opportunity.removed", "opportunity/101")]


async def test_trap_5_a_row_that_slips_between_two_pages_is_not_gone(connection: Connection) -> None:
    """One that left an earlier page moves the rest up: the one that slipped is asked for by id."""
    async with drum(connection, records=20, items_cap=5) as (sim, watched):
        await watched.events()

        async def archive(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=2" in asked.query:
                sim.between()
                sim.orders.archive(101)

        sim.between(before=archive)
        told = await watched.sweep()
        assert told[0].suspects > 0
        assert await watched.told() == []
        await watched.sweep()
        await watched.sweep()
        assert await watched.told() == [("drum.opportunity.removed", "opportunity/101")]


async def test_trap_5_counts_in_the_headers_save_the_questions(connection: Connection) -> None:
    """A list whose total moved under its sweep is read again before anybody is asked by id."""
    async with drum(connection, records=20, items_cap=5, headers="pagy8") as (sim, watched):
        await watched.events()

        async def archive(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=2" in asked.query:
                sim.between()
                sim.orders.archive(101)

        sim.between(before=archive)
        before = len(sim.requests)
        await watched.poll.sweep("opportunity")
        asked = {each.path.rpartition("/")[2] for each in list(sim.requests)[before:]}
        assert asked == {"opportunities"}
        assert await watched.told() == []


@pytest.mark.parametrize(
    "fault", ["html200", "truncated", "cut", "reset", "object", "wrong_types", "http502"]
)
async def test_trap_6_a_page_that_fails_makes_nothing_absent(connection: Connection, fault: str) -> None:
    """What the pages before it showed stands; of what came after, nothing is concluded."""
    async with drum(connection, records=20, items_cap=5) as (sim, watched):
        await watched.events()
        sim.orders.update(101, name="Shown on the first page")
        sim.orders.archive(102)

        async def spoil(asked: Any) -> None:
            if "page=2" in asked.query:
                sim.fail_next(fault, path="opportunities")

        sim.between(before=spoil)
        for _ in range(3):
            told = await watched.poll.sweep("opportunity")
            assert (told.complete, told.suspects) == (False, 0)
            assert told.reason
        assert await watched.told() == [("drum.opportunity.updated", "opportunity/101")]


async def test_trap_7_money_is_compared_by_value_and_kept_as_sent(connection: Connection) -> None:
    """250000.00, 250000.0 and "250000.0" are one amount; 1.10 stays 1.10 in the event."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        for numbers in ("short", "string", "places"):
            sim.set(numbers=numbers)
            assert await watched.cycle() == []
        sim.orders.update(101, amount="1.10")
        await watched.sweep()
        (event,) = await watched.events()
        assert event["data"]["changed"] == ["amount"]
        assert b'"amount":1.10' in dumps(event["data"]["object"])
        assert b'"amount":250000.00' in dumps(event["data"]["previous"])
        assert event["data"]["deal"]["amount"] == "1.10"


async def test_trap_8_a_key_that_is_absent_is_unknown_and_not_cleared(connection: Connection) -> None:
    """A gated field that the token loses is no change of any record, and neither is its return."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        sim.orders.set_role("staff")
        assert {kind for kind, _ in await watched.cycle()} == {"poller.source.fields_hidden"}
        sim.orders.set_role("admin")
        assert {kind for kind, _ in await watched.cycle()} == {"poller.source.fields_shown"}


@pytest.mark.parametrize("key", ["deliverables", "tasks"])
async def test_trap_8_what_is_nested_is_unknown_where_its_key_is_absent(
    connection: Connection, key: str
) -> None:
    """None of it is removed, what goes meanwhile is when the key is back, and what else is shown goes on."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        (part, *_) = sim.world.row(101).deliverables
        task = part.tasks[0].id
        sim.set(hidden_keys=(key,))
        assert {kind for kind, _ in await watched.cycle()} <= {"poller.source.fields_hidden"}
        sim.orders.work.remove_task(task)
        sim.orders.work.update_deliverable(part.id, name="Otherwise")
        updated = ("drum.deliverable.updated", f"deliverable/{part.id}")
        meanwhile = [updated] if key == "tasks" else []
        assert await watched.cycle() == meanwhile
        sim.set(hidden_keys=())
        removed = ("drum.task.removed", f"task/{task}")
        told = [each for each in await watched.cycle() if not each[0].startswith("poller.")]
        assert sorted([*meanwhile, *told]) == [updated, removed]


@pytest.mark.parametrize("key", ["deliverables", "tasks"])
@pytest.mark.parametrize("won", [False, True])
async def test_trap_8_what_is_nested_begins_where_its_key_is_first_shown(
    connection: Connection, key: str, won: bool
) -> None:
    """A role that may see the work from now on adds none of it, nor where it became a project meanwhile."""
    async with drum(connection, hidden_keys=(key,)) as (sim, watched):
        await watched.events()
        if won:
            sim.orders.win(101)
        assert {kind for kind, _ in await watched.cycle()} <= {"drum.opportunity.won", "drum.project.created"}
        sim.set(hidden_keys=())
        assert {kind for kind, _ in await watched.cycle()} <= {"poller.source.fields_shown"}
        part = sim.world.row(101).deliverables[0]
        sim.orders.work.update_deliverable(part.id, name="Otherwise")
        assert await watched.cycle() == [("drum.deliverable.updated", f"deliverable/{part.id}")]
        sim.orders.work.add_task(part.id)
        assert [kind for kind, _ in await watched.cycle() if "task" in kind] == ["drum.task.added"]


async def test_trap_9_fields_that_only_the_detail_has_are_not_missing_from_the_list(
    connection: Connection,
) -> None:
    """What a list never shows is compared detail with detail, and told once."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        assert await watched.cycle() == []
        sim.orders.update(101, invoicing_structure=None)
        await watched.sweep()
        assert await watched.told() == []
        await watched.details()
        await watched.sweep()
        (event,) = await watched.events()
        assert event["type"] == "drum.opportunity.updated"
        assert event["data"]["changed"] == ["invoicing_structure"]


async def test_trap_10_the_two_views_may_tell_different_texts(connection: Connection) -> None:
    """Record 101 has another description in the list than by its id, as in the document: no event."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        row = sim.world.rows[101]
        assert row.list_description not in (None, row.values["description"])
        assert await watched.cycle() == []
        assert await watched.cycle() == []


async def test_trap_11_a_mass_disappearance_is_held(connection: Connection) -> None:
    """More than 20 records gone at once are the token's doing until somebody says otherwise."""
    async with drum(connection, records=60) as (sim, watched):
        await watched.events()
        sim.orders.set_role("team")
        for _ in range(4):
            await watched.sweep()
        told = await watched.told()
        assert ("poller.source.held", "source/acme") in told
        assert not [subject for kind, subject in told if kind == "drum.opportunity.removed"]
        sim.orders.set_role("admin")
        await watched.sweep()
        assert ("poller.source.released", "source/acme") in await watched.told()


async def test_trap_12_the_first_sweep_is_a_baseline(connection: Connection) -> None:
    """What was there already is counted, not told."""
    async with drum(connection, records=20, begin=False) as (_, watched):
        assert await watched.cycle() == [("poller.source.baseline_completed", "source/acme")]


async def test_trap_13_only_an_id_above_the_highest_is_created(connection: Connection) -> None:
    """A lower one that shows up has become visible: nobody knows since when it was there."""
    world = World(first_id=500)
    world.populate(opportunities=4)
    async with drum(connection, world=world, begin=False) as (sim, watched):
        sim.orders.archive(502)
        await watched.cycle()
        await watched.events()
        sim.orders.restore(502)
        ((entry),) = sim.orders.create_opportunity(name="New")
        told = await watched.cycle()
        assert told == [("drum.opportunity.appeared", "opportunity/502"), (entry.type, entry.subject)]
        assert entry.type == "drum.opportunity.created"


async def test_trap_13_an_id_below_one_that_was_just_created_is_not(connection: Connection) -> None:
    """One below the newest, hidden while that was told, has become visible later (contract §5)."""
    async with drum(connection, records=20) as (sim, watched):
        (hidden,) = sim.orders.create_opportunity(name="Hidden at first")
        sim.orders.archive(int(hidden.subject.partition("/")[2]))
        (newest,) = sim.orders.create_opportunity(name="New")
        assert await watched.cycle() == [("drum.opportunity.created", newest.subject)]
        sim.orders.restore(int(hidden.subject.partition("/")[2]))
        assert await watched.cycle() == [("drum.opportunity.appeared", hidden.subject)]


async def test_trap_14_lost_is_learned_from_the_dates_of_the_detail_view(connection: Connection) -> None:
    """A status does not tell its type: one record of each is read, and each change is confirmed by id."""
    async with drum(connection, records=20) as (sim, watched):
        await watched.events()
        sim.orders.lose(101, 8)
        await watched.sweep()
        (event,) = await watched.events()
        assert event["type"] == "drum.opportunity.lost"
        assert event["data"]["object"]["deal_lost_date"]
        assert event["data"]["previous"]["deal_lost_date"] is None
        assert watched.session.memory.meanings["8"] == "lost"


async def test_trap_14_an_operator_may_name_the_statuses(connection: Connection) -> None:
    """Where the dates do not tell, names or ids from the settings do."""
    account = {"won_statuses": frozenset({"Negotiation"}), "lost_statuses": frozenset({"4"})}
    async with drum(connection, account=account, hidden_keys=("deal_won_date", "deal_lost_date")) as (
        sim,
        watched,
    ):
        await watched.events()
        sim.orders.set_status(101, 3)
        sim.orders.set_status(102, 4)
        await watched.sweep()
        assert await watched.told() == [
            ("drum.opportunity.won", "opportunity/101"),
            ("drum.opportunity.lost", "opportunity/102"),
        ]


async def test_trap_15_counters_and_computed_money_are_noise(connection: Connection) -> None:
    """They move without anybody doing anything; `noise = true` tells them all the same."""
    async with drum(connection, records=20) as (sim, watched):
        await watched.events()
        sim.orders.update(101, quotes_count=9, work_in_progress="-12.50")
        assert await watched.cycle() == []
    async with drum(connection, records=20, manner={"noise": True}) as (sim, watched):
        await watched.events()
        sim.orders.update(101, quotes_count=10)
        assert await watched.cycle() == [("drum.opportunity.updated", "opportunity/101")]


async def test_trap_16_a_moved_position_renumbers_the_others_in_silence(connection: Connection) -> None:
    """Five tasks change their number because one was moved: nothing is told of places."""
    async with drum(connection) as (sim, watched):
        (made,) = sim.orders.work.add_deliverable(101, name="Phase")
        home = int(made.subject.partition("/")[2])
        tasks = [sim.orders.work.add_task(home, name=f"T{n}")[0].subject for n in range(5)]
        await watched.cycle()
        sim.orders.work.move_task(int(tasks[0].partition("/")[2]), home, 5)
        assert await watched.cycle() == []
        sim.orders.work.move_deliverable(home, 1)
        assert await watched.cycle() == []


async def test_trap_17_people_and_tags_have_no_order(connection: Connection) -> None:
    """The same people and tags in another order are no change; one more is."""
    async with drum(connection, shuffled=True) as (sim, watched):
        sim.orders.update(101, assigned_users=[12, 18, 21], opportunity_tags=["a", "b", "c"])
        await watched.cycle()
        await watched.events()
        for count in range(3):
            sim.orders.update(101, quotes_count=20 + count)
            assert await watched.cycle() == []
        sim.orders.update(101, opportunity_tags=["a", "b", "c", "d"])
        assert await watched.cycle() == [("drum.opportunity.updated", "opportunity/101")]


async def test_trap_18_dates_are_told_as_they_were_sent(connection: Connection) -> None:
    """A plain date has no time and no zone, and none is invented; a moment stays one."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.update(101, target_date="2026-02-28", due_date="2026-02-28T17:00:00Z")
        await watched.sweep()
        await watched.details()
        (by_list, by_detail) = await watched.events()
        assert by_list["data"]["object"]["target_date"] == "2026-02-28"
        assert by_detail["data"]["object"]["due_date"] == "2026-02-28T17:00:00Z"


@pytest.mark.parametrize("errors", ["documented", "string", "object", "html"])
async def test_trap_19_only_the_status_of_an_error_counts(connection: Connection, errors: str) -> None:
    """A 404 is one whatever its body is: two shapes of JSON, or HTML."""
    async with drum(connection, errors=errors) as (sim, watched):
        await watched.events()
        sim.orders.archive(101)
        sim.orders.win(102)
        await watched.sweep()
        await watched.sweep()
        assert sorted(await watched.told()) == [
            ("drum.opportunity.removed", "opportunity/101"),
            ("drum.opportunity.won", "opportunity/102"),
            ("drum.project.created", "project/102"),
        ]


async def test_trap_20_a_large_detail_view_is_taken_in_parts(connection: Connection) -> None:
    """A record with more deliverables and tasks than one commit holds is told whole, and once."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        everything = Population(sim.world, rng=random.Random(1)).deliverable(2, tasks=1_100)
        sim.orders.work.insert(sim.world.row(101), everything)
        await watched.details(["opportunity/101"])
        told = await watched.told()
        assert len(told) == len(set(told)) == 1_101
        await watched.details(["opportunity/101"])
        assert await watched.told() == []


async def test_trap_21_unknown_and_missing_keys_are_tolerated(connection: Connection) -> None:
    """A revision that adds a key or drops one changes no record; a known new key is compared."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        sim.set(hidden_keys=("planned", "description"))
        assert {kind for kind, _ in await watched.cycle()} <= {"poller.source.fields_hidden"}
        sim.set(hidden_keys=(), extra_keys={"vip": False})
        assert {kind for kind, _ in await watched.cycle()} <= {"poller.source.fields_shown"}
        sim.set(extra_keys={"vip": True})
        told = [kind for kind, _ in await watched.cycle()]
        assert told.count("drum.opportunity.updated") == len(sim.world.live("opportunity"))


async def test_trap_22_a_client_of_both_lists_is_renamed_once(connection: Connection) -> None:
    """The same thing stands in many records and in both lists: one rename, and no record changed."""
    async with drum(connection, records=60) as (sim, watched):
        await watched.events()
        rows = sim.world.rows.values()
        clients = [
            {row.values["client"] for row in rows if row.kind == k} for k in ("opportunity", "project")
        ]
        client = min(clients[0] & clients[1])
        sim.orders.rename("client", client, "Called otherwise")
        assert await watched.cycle() == [("poller.source.renamed", "source/acme")]
        assert await watched.cycle() == []


async def test_trap_22_one_id_under_two_names_is_no_rename(connection: Connection) -> None:
    """The documents give team 3 two names, one in each list: that is not a rename, neither way."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        names = {row.values["team"] for row in sim.world.rows.values()}
        assert {"3", "3-projects"} <= names
        for _ in range(2):
            assert await watched.cycle() == []


async def test_trap_23_a_limited_host_ends_the_sweep_and_nothing_else(connection: Connection) -> None:
    """A 429 in the middle of a list: what was seen stands, nothing is absent, and it goes on later."""
    async with drum(connection, records=30, items_cap=5) as (sim, watched):
        await watched.events()
        sim.orders.archive(102)
        sim.orders.update(101, name="On the first page")
        sim.set(limit=2, limit_period_s=100_000.0)
        await watched.sweep()
        assert await watched.told() == [("drum.opportunity.updated", "opportunity/101")]
        sim.set(limit=None)
        await watched.sweep()
        await watched.sweep()
        assert await watched.told() == [("drum.opportunity.removed", "opportunity/102")]


@pytest.mark.parametrize("between", ["before", "after"])
async def test_trap_24_a_flip_between_the_two_lists_is_one_win(connection: Connection, between: str) -> None:
    """A deal that is in both lists of one cycle, or in neither, is won once, in one commit."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        if between == "before":
            sim.orders.win(101)
            await watched.poll.sweep("project")
        else:
            await watched.poll.sweep("opportunity")
            sim.orders.win(101)
            await watched.poll.sweep("project")
        assert await watched.told() == [
            ("drum.opportunity.won", "opportunity/101"),
            ("drum.project.created", "project/101"),
        ]
        assert await watched.cycle() == []


@pytest.mark.parametrize("order", ["expire_token", "archive_user"])
async def test_trap_25_a_refused_token_removes_nothing(connection: Connection, order: str) -> None:
    """401 and 403 are about the token: the source is refused as a whole, and no record is gone."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        getattr(sim.orders, order)()
        for _ in range(3):
            with pytest.raises(Refused):
                await watched.sweep()
        assert await watched.told() == []
        sim.orders.renew_token()
        sim.orders.revive_user()
        assert await watched.cycle() == []


async def test_trap_26_work_goes_on_under_the_project(connection: Connection) -> None:
    """Deliverables and tasks of a won deal keep their ids and go on with their revisions."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        (made,) = sim.orders.work.add_deliverable(101, name="Phase")
        deliverable = int(made.subject.partition("/")[2])
        await watched.details(["opportunity/101"])
        sim.orders.win(101)
        await watched.sweep()
        sim.orders.work.update_deliverable(deliverable, status="completed")
        await watched.details(["project/101"])
        mine = [event for event in await watched.events() if event["subject"] == made.subject]
        assert [event["type"] for event in mine] == ["drum.deliverable.added", "drum.deliverable.completed"]
        assert [event["data"]["revision"] for event in mine] == [1, 2]
        assert [event["data"]["object"]["parent"] for event in mine] == ["opportunity/101", "project/101"]
