"""How records come, go and come back: each rule of contract §5, against the simulated Drum over real HTTP."""

from dataclasses import replace
from typing import Any

import pytest
from watching import Watched, drum

from poller.simulators.drum import World
from poller.store.connection import Connection


async def two_sweeps(watched: Watched) -> list[tuple[str, str]]:
    """What two sweeps of all lists tell."""
    await watched.sweep()
    await watched.sweep()
    return await watched.told()


# --- coming ---------------------------------------------------------------------------------------


async def test_a_new_record_above_the_highest_known_is_created(connection: Connection) -> None:
    """In either list; nothing of it counts as changed, and nothing was before."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        (deal,) = sim.orders.create_opportunity(name="A deal", amount="10.50")
        (work,) = sim.orders.create_project(name="Internal", client=458)
        await watched.sweep()
        events = await watched.events()
        assert [(e["type"], e["subject"]) for e in events] == [
            ("drum.opportunity.created", deal.subject),
            ("drum.project.created", work.subject),
        ]
        assert all(e["data"]["changed"] == [] and e["data"]["previous"] == {} for e in events)
        assert all(e["data"]["revision"] == 1 for e in events)


async def test_what_was_removed_and_is_listed_again_is_restored(connection: Connection) -> None:
    """Its revisions go on, and what changed meanwhile in its detail is told of it."""
    async with drum(connection) as (sim, watched):
        sim.orders.archive(101)
        assert await two_sweeps(watched)
        sim.world.row(101).values["opportunity_tags"] = ["meanwhile"]
        sim.orders.restore(101)
        await watched.sweep()
        (restored,) = await watched.events()
        assert (restored["type"], restored["data"]["revision"]) == ("drum.opportunity.restored", 2)
        await watched.details()
        assert await watched.told() == [("drum.opportunity.updated", "opportunity/101")]


async def test_what_is_back_after_its_tombstone_was_shrunk_is_restored_too(connection: Connection) -> None:
    """After 30 days only counts are kept: the ids go on where they were, and its nested work is silent."""
    async with drum(connection) as (sim, watched):
        (made,) = sim.orders.work.add_deliverable(101, name="Phase")
        await watched.cycle()
        sim.orders.archive(101)
        await two_sweeps(watched)
        watched.session.now = lambda now=watched.session.now: now() + 31 * 86_400
        for _ in range(8):
            await watched.sweep()
        small, child = await watched.known("opportunity/101"), await watched.known(made.subject)
        assert small is not None
        assert child is not None
        assert (small.row, small.detail, small.revision, small.gone) == (None, None, 1, "removed")
        assert (child.detail, child.revision, child.gone) == (None, 1, "removed")
        assert await watched.told() == []
        sim.orders.restore(101)
        assert await watched.cycle() == [("drum.opportunity.restored", "opportunity/101")]
        back = await watched.known("opportunity/101")
        assert back is not None
        assert (back.revision, back.counts) == (2, {"removed": 1, "restored": 1})


async def test_a_deliverable_that_moved_lives_on_when_its_old_parent_is_shrunk(
    connection: Connection,
) -> None:
    """The old parent was not read since and still names it; the view of the moved one names the new."""
    async with drum(connection) as (sim, watched):
        (made,) = sim.orders.work.add_deliverable(101, name="Phase")
        await watched.cycle()
        part = next(
            each for each in sim.world.row(101).deliverables if f"deliverable/{each.id}" == made.subject
        )
        sim.world.row(101).deliverables.remove(part)
        sim.world.row(102).deliverables.append(part)
        sim.world.homes["deliverable", part.id] = 102
        sim.world.touch(101)
        sim.world.touch(102)
        await watched.details(["opportunity/102"])
        sim.orders.archive(101)
        await two_sweeps(watched)
        watched.session.now = lambda now=watched.session.now: now() + 31 * 86_400
        for _ in range(8):
            await watched.sweep()
        small, child = await watched.known("opportunity/101"), await watched.known(made.subject)
        assert small is not None
        assert child is not None
        assert (small.detail, child.gone) == (None, "")
        await watched.events()
        await watched.details(["opportunity/102"])
        assert await watched.told() == []


async def test_a_deal_that_came_and_was_won_between_two_sweeps_is_told_both(connection: Connection) -> None:
    """It is created, and then won: who waits for wins alone must not miss it."""
    async with drum(connection, conversion_after=None) as (sim, watched):
        await watched.events()
        (made,) = sim.orders.create_opportunity(name="Quick")
        sim.orders.win(int(made.subject.partition("/")[2]))
        await watched.sweep()
        assert await watched.told() == [
            ("drum.opportunity.created", made.subject),
            ("drum.opportunity.won", made.subject),
        ]
        sim.orders.convert(int(made.subject.partition("/")[2]))
        await watched.sweep()
        assert await watched.told() == [
            ("drum.project.created", made.subject.replace("opportunity", "project"))
        ]


async def test_an_old_deal_that_becomes_visible_is_no_new_win(connection: Connection) -> None:
    """What was won long ago and appears because of a permission is no invoice."""
    world = World(first_id=500)
    world.populate(opportunities=3)
    async with drum(connection, world=world, begin=False, conversion_after=None) as (sim, watched):
        sim.orders.win(501)
        sim.orders.archive(501)
        await watched.cycle()
        await watched.events()
        sim.orders.restore(501)
        assert await watched.cycle() == [("drum.opportunity.appeared", "opportunity/501")]


async def test_emit_tells_what_was_already_there(connection: Connection) -> None:
    """With baseline = "emit" every record has appeared, and then the baseline is complete."""
    async with drum(connection, begin=False, records=30, manner={"emit_baseline": True}) as (sim, watched):
        told = await watched.cycle()
        records = [row for row in sim.world.rows.values() if not row.archived]
        assert sorted(subject for kind, subject in told if kind.endswith(".appeared")) == sorted(
            f"{row.kind}/{row.id}" for row in records
        )
        assert told[-1] == ("poller.source.baseline_completed", "source/acme")
        assert len(told) == len(records) + 1


async def test_an_empty_first_answer_is_no_baseline(connection: Connection) -> None:
    """A list that answers nothing at first is read again before nothing is believed."""
    async with drum(connection, begin=False, records=30) as (sim, watched):
        sim.fail_next("empty", path="opportunities")
        await watched.sweep()
        (event,) = await watched.events()
        assert event["data"]["object"]["counts"]["opportunity"] == len(sim.world.live("opportunity"))


@pytest.mark.parametrize("headers", ["off", "pagy8"])
async def test_an_empty_page_amid_the_first_reading_is_no_end(connection: Connection, headers: str) -> None:
    """Neither where counts tell nor where only a second reading does: those behind it are not new later."""
    async with drum(connection, begin=False, records=30, items_cap=5, headers=headers) as (sim, watched):

        async def spoil(request: Any) -> None:
            if request.path.endswith("opportunities") and "page=2" in request.query:
                sim.between()
                sim.fail_next("empty", path="opportunities")

        sim.between(before=spoil)
        await watched.sweep()
        (event,) = await watched.events()
        assert event["data"]["object"]["counts"]["opportunity"] == len(sim.world.live("opportunity"))
        await watched.sweep()
        assert await watched.told() == []


# --- winning --------------------------------------------------------------------------------------


async def test_leaving_the_list_for_the_projects_is_a_win(connection: Connection) -> None:
    """won and project.created in one commit: the object is the project, previous the last list view."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        last = (await watched.known("opportunity/101")).row  # type: ignore[union-attr]
        sim.orders.win(101)
        await watched.sweep()
        won, created = await watched.events()
        assert (won["type"], created["type"]) == ("drum.opportunity.won", "drum.project.created")
        assert won["data"]["object"]["project_type"] == "project"
        assert won["data"]["previous"] == last
        assert won["data"]["deal"]["amount"] == created["data"]["deal"]["amount"] == "250000.00"
        assert won["data"]["deal"]["url"].endswith("/projects/101")
        assert won["time"] == created["time"]


async def test_a_won_status_while_still_listed_is_a_win_and_the_conversion_no_second(
    connection: Connection,
) -> None:
    """One `won` for both ways together; the project that follows is only created."""
    async with drum(connection, conversion_after=None) as (sim, watched):
        await watched.events()
        sim.orders.win(101)
        await watched.sweep()
        (won,) = await watched.events()
        assert (won["type"], won["data"]["deal"]["status"]) == ("drum.opportunity.won", "won")
        assert won["data"]["changed"] == ["deal_won_date", "project_status"]
        assert won["data"]["previous"]["amount"] == won["data"]["object"]["amount"]
        await watched.cycle()
        sim.orders.convert(101)
        assert await watched.cycle() == [("drum.project.created", "project/101")]


@pytest.mark.parametrize("named", ["Negotiation", "3"])
async def test_an_operators_won_status_is_a_win(connection: Connection, named: str) -> None:
    """By name or by id, also where the dates say nothing; leaving it for an open one reopens."""
    account = {"won_statuses": frozenset({named})}
    async with drum(connection, account=account) as (sim, watched):
        await watched.events()
        sim.orders.set_status(101, 3)
        await watched.sweep()
        sim.orders.set_status(101, 1)
        await watched.sweep()
        assert [kind for kind, _ in await watched.told()] == [
            "drum.opportunity.won",
            "drum.opportunity.reopened",
        ]


async def test_won_reopened_and_won_again_are_three_events_with_three_ids(connection: Connection) -> None:
    """Every real transition is told, and none has the id of another."""
    async with drum(connection, conversion_after=None) as (sim, watched):
        await watched.events()
        for order in (sim.orders.win, sim.orders.reopen, sim.orders.win):
            order(101)
            await watched.cycle_quietly()
        events = await watched.events()
        assert [e["type"].rpartition(".")[2] for e in events] == ["won", "reopened", "won"]
        assert len({e["id"] for e in events}) == 3


async def test_a_win_is_found_by_the_project_list_alone(connection: Connection) -> None:
    """A project that is listed under a deal's id proves the win before the other list was read."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.win(102)
        await watched.poll.sweep("project")
        assert [kind for kind, _ in await watched.told()] == ["drum.opportunity.won", "drum.project.created"]


async def test_a_win_that_could_not_be_read_at_once_is_told_later(connection: Connection) -> None:
    """Where the detail view fails at the change of status, the next reading says that it was won."""
    async with drum(connection, conversion_after=None) as (sim, watched):
        await watched.events()
        sim.orders.win(101)
        for _ in range(3):
            sim.fail_next("http502", path="opportunities/101")
        await watched.poll.sweep("opportunity")
        first = await watched.told()
        await watched.details(["opportunity/101"])
        told = [kind.rpartition(".")[2] for kind, _ in first + await watched.told()]
        assert told in (["status_changed", "won"], ["won"])


async def test_a_win_is_found_by_the_reading_of_its_detail(connection: Connection) -> None:
    """A listed deal that is gone by its id is asked for among the projects at once, before any sweep."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.win(101)
        sim.orders.archive(102)
        await watched.details(["opportunity/101", "opportunity/102"])
        assert [kind for kind, _ in await watched.told()] == ["drum.opportunity.won", "drum.project.created"]
        assert await watched.cycle() == [("drum.opportunity.removed", "opportunity/102")]


async def test_an_operator_who_names_statuses_later_makes_no_wins_of_old_deals(
    connection: Connection,
) -> None:
    """What was in such a status before is no news; what reaches it is, and a conversion still is."""
    async with drum(connection, hidden_keys=("deal_won_date", "deal_lost_date")) as (sim, watched):
        sim.orders.set_status(101, 3)
        await watched.cycle()
        await watched.events()
        source: Any = watched.session.source
        source._account = replace(source._account, won_statuses=frozenset({"Negotiation"}))
        await watched.restart()
        assert await watched.cycle() == []
        sim.orders.set_status(102, 3)
        assert await watched.cycle() == [("drum.opportunity.won", "opportunity/102")]
        sim.orders.convert(101)
        assert await watched.cycle() == [
            ("drum.opportunity.won", "opportunity/101"),
            ("drum.project.created", "project/101"),
        ]


async def test_a_project_that_becomes_a_deal_again_is_reopened(connection: Connection) -> None:
    """opportunity.reopened and project.removed in one commit; the revisions of the deal go on."""
    async with drum(connection) as (sim, watched):
        sim.orders.win(101)
        await watched.cycle()
        sim.orders.revert(101)
        await watched.sweep()
        reopened, removed = await watched.events()
        assert [(e["type"], e["subject"]) for e in (reopened, removed)] == [
            ("drum.opportunity.reopened", "opportunity/101"),
            ("drum.project.removed", "project/101"),
        ]
        assert reopened["data"]["revision"] == 2
        assert reopened["data"]["deal"]["status"] == "open"
        assert await watched.cycle() == []


async def test_a_win_right_after_a_return_carries_the_last_list_view_there_was(
    connection: Connection,
) -> None:
    """Its list has not shown it since it came back: what it showed before the first win is the last view."""
    async with drum(connection, records=12) as (sim, watched):
        last = (await watched.known("opportunity/101")).row  # type: ignore[union-attr]
        for _ in range(2):
            sim.orders.win(101)
            await watched.sweep()
            await watched.events()
            sim.orders.revert(101)
            await watched.poll.sweep("project")
            await watched.events()
        sim.orders.win(101)
        await watched.poll.sweep("opportunity")
        won, _ = await watched.events()
        assert (won["type"], won["data"]["previous"]) == ("drum.opportunity.won", last)


async def test_what_changes_right_after_a_win_is_not_lost(connection: Connection) -> None:
    """A project edited between its first reading by id and its first row is updated, once."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.win(101)
        await watched.poll.sweep("opportunity")
        sim.orders.update(101, name="Edited at once", end_date="2027-01-01")
        await watched.poll.sweep("project")
        events = await watched.events()
        assert [e["type"].rpartition(".")[2] for e in events] == ["won", "created", "updated"]
        assert events[-1]["data"]["changed"] == ["end_date", "name"]
        assert await watched.cycle() == []


# --- losing, completing, going --------------------------------------------------------------------


async def test_lost_and_reopened_by_the_dates_of_the_detail_view(connection: Connection) -> None:
    """Both carry the date that was set or cleared, whatever `details` says."""
    for details in (True, False):
        async with drum(connection, manner={"details": details}) as (sim, watched):
            await watched.events()
            sim.orders.lose(101)
            await watched.sweep()
            sim.orders.reopen(101)
            await watched.sweep()
            lost, reopened = await watched.events()
            assert (lost["type"], reopened["type"]) == ("drum.opportunity.lost", "drum.opportunity.reopened")
            assert (lost["data"]["deal"]["status"], reopened["data"]["deal"]["status"]) == ("lost", "open")
            assert lost["data"]["object"]["deal_lost_date"]
            assert reopened["data"]["object"]["deal_lost_date"] is None
        await connection.commands.flushall()


async def test_a_date_that_stayed_from_before_does_not_judge(connection: Connection) -> None:
    """Where an account keeps the date of an old win, a loss is told by the date that moved, and so on."""
    async with drum(connection, records=12, conversion_after=None) as (sim, watched):
        await watched.events()
        values, stale = sim.world.row(101).values, "2025-11-03"
        steps: tuple[tuple[Any, str, str], ...] = (
            (sim.orders.win, "won", "won"),
            (sim.orders.lose, "lost", "lost"),
            (sim.orders.reopen, "reopened", "open"),
            (lambda record: sim.orders.set_status(record, 3), "status_changed", "open"),
            (sim.orders.win, "won", "won"),
        )
        for order, suffix, status in steps:
            values["deal_won_date"] = None
            order(101)
            values["deal_won_date"] = values["deal_won_date"] or stale
            sim.world.touch(101)
            await watched.cycle_quietly()
            (event,) = await watched.events()
            assert (event["type"], event["data"]["deal"]["status"]) == (f"drum.opportunity.{suffix}", status)


@pytest.mark.parametrize("details", [True, False])
async def test_a_deal_that_came_back_with_the_date_of_its_win_is_open(
    connection: Connection, *, details: bool
) -> None:
    """Also at its next change of status, to one that nobody knows; its next conversion is a win again."""
    manner = {"details": details}
    async with drum(connection, records=12, manner=manner) as (sim, watched):
        await watched.events()
        sim.orders.win(101)
        await watched.sweep()
        sim.orders.revert(101)
        sim.world.row(101).values["deal_won_date"] = "2025-11-03"
        sim.world.touch(101)
        await watched.sweep()
        await watched.sweep()
        await watched.events()
        watched.session.memory.meanings.pop("3", None)
        sim.orders.set_status(101, 3)
        sim.world.row(101).values["deal_won_date"] = "2025-11-03"
        sim.world.touch(101)
        await watched.cycle_quietly()
        assert await watched.told() == [("drum.opportunity.status_changed", "opportunity/101")]
        assert watched.session.memory.meanings.get("3") != "won"
        sim.orders.convert(101)
        await watched.sweep()
        assert [type_.rpartition(".")[2] for type_, _ in await watched.told()] == ["won", "created"]


async def test_a_win_before_a_baseline_that_is_told_is_told_too(connection: Connection) -> None:
    """Who was told that a deal appeared is told that it was won, also where the first reading broke off."""
    manner = {"emit_baseline": True}
    async with drum(connection, begin=False, manner=manner, items_cap=2, conversion_after=None) as (
        sim,
        watched,
    ):

        async def spoil(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=2" in asked.query:
                sim.fail_next("http502")

        sim.between(before=spoil)
        await watched.sweep()
        sim.between()
        sim.orders.win(101)
        await watched.cycle_quietly()
        mine = [kind for kind, subject in await watched.told() if subject == "opportunity/101"]
        assert mine == ["drum.opportunity.appeared", "drum.opportunity.won"]


async def test_another_lost_status_is_only_a_change_of_status(connection: Connection) -> None:
    """Lost to lost and open to open are status_changed; the deal stays what it was."""
    async with drum(connection) as (sim, watched):
        sim.orders.lose(101, 7)
        await watched.cycle()
        sim.orders.set_status(101, 8)
        sim.orders.set_status(102, 3)
        await watched.sweep()
        events = await watched.events()
        assert {e["type"] for e in events} == {"drum.opportunity.status_changed"}
        assert [e["data"]["deal"]["status"] for e in events] == ["lost", "open"]


async def test_without_details_nothing_else_is_said_of_the_detail_view(connection: Connection) -> None:
    """details = false: statuses are judged, deliverables and tags are nobody's business."""
    async with drum(connection, manner={"details": False}) as (sim, watched):
        await watched.events()
        sim.orders.work.add_deliverable(101, name="Phase")
        sim.orders.update(101, opportunity_tags=["new"], due_date="2026-01-01T00:00:00Z")
        sim.orders.lose(101)
        assert await watched.cycle() == [("drum.opportunity.lost", "opportunity/101")]


async def test_a_project_is_completed_and_reopened(connection: Connection) -> None:
    """By complete_status, with the date that goes with it."""
    async with drum(connection) as (sim, watched):
        project = sim.world.live("project")[0].id
        sim.orders.reopen(project)
        await watched.cycle()
        sim.orders.complete(project)
        await watched.cycle_quietly()
        sim.orders.reopen(project)
        await watched.cycle_quietly()
        done, open_again = await watched.events()
        assert [e["type"] for e in (done, open_again)] == ["drum.project.completed", "drum.project.reopened"]
        assert done["data"]["object"]["completed_date"]
        assert done["data"]["deal"]["status"] == "completed"
        assert open_again["data"]["object"]["completed_date"] is None


async def test_a_completed_date_that_moves_by_itself_is_an_update(connection: Connection) -> None:
    """Set, moved or cleared while the status stays: what only the detail view has is told like any other."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        (project,) = [row.id for row in sim.world.live("project") if not row.values["completed_date"]][:1]
        days: list[str | None] = [None]
        for day in ("2025-10-01", "2025-10-05", None):
            sim.orders.update(project, completed_date=day)
            await watched.cycle_quietly()
            (event,) = await watched.events()
            assert (event["type"], event["data"]["changed"]) == ("drum.project.updated", ["completed_date"])
            assert event["data"]["previous"] == {"completed_date": days[-1]}
            days.append(day)


@pytest.mark.parametrize("unread", ["at once", "and after a restart"])
async def test_a_date_that_its_status_set_is_no_update_however_late_it_is_read(
    connection: Connection, unread: str
) -> None:
    """Completed and reopened are said by the list where nobody can be asked; the date then only echoes."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        (project,) = [row.id for row in sim.world.live("project") if not row.values["completed_date"]][:1]
        for order in (sim.orders.complete, sim.orders.reopen):
            order(project)
            sim.set(faults=("http502",), fault_rate=1.0, fault_path=f"/{project}")
            await watched.cycle_quietly()
            if unread != "at once":
                await watched.restart()
            sim.set(fault_rate=0.0)
            await watched.cycle_quietly()
        told = [type_.rpartition(".")[2] for type_, _ in await watched.told()]
        assert told == ["completed", "reopened"]


async def test_a_removal_waits_for_404_on_both_twice_with_a_sweep_between(connection: Connection) -> None:
    """After one sweep nothing is said; after the next both resources were asked again."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.archive(101)
        await watched.sweep()
        assert await watched.told() == []
        await watched.sweep()
        (removed,) = await watched.events()
        assert (removed["type"], removed["data"]["previous"]) == ("drum.opportunity.removed", {})
        assert removed["data"]["object"]["name"] == "Enterprise CRM Implementation"
        asked = [a.path for a in sim.requests if a.status == 404]
        assert asked == ["/api/v1/opportunities/101", "/api/v1/projects/101"] * 2
        assert await watched.cycle() == []


async def test_a_record_that_is_back_at_the_second_sweep_was_never_removed(connection: Connection) -> None:
    """One sweep's absence is a suspicion and leaves no trace."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        for _ in range(2):
            sim.orders.archive(101)
            await watched.sweep()
            sim.orders.restore(101)
            await watched.sweep()
        assert await watched.told() == []


@pytest.mark.parametrize("fault", ["http500", "http502", "reset", "html200", "wrong_types"])
async def test_an_answer_that_is_no_404_removes_nothing(connection: Connection, fault: str) -> None:
    """5xx, no answer and nonsense mean unknown: asked again later."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.archive(101)
        sim.set(faults=(fault,), fault_rate=1.0, fault_path="/101")
        for _ in range(4):
            await watched.sweep()
        assert await watched.told() == []
        sim.set(fault_rate=0.0)
        assert await two_sweeps(watched) == [("drum.opportunity.removed", "opportunity/101")]


async def test_a_removal_goes_on_after_a_restart(connection: Connection) -> None:
    """What the first sweep suspected is remembered, and asked again by whoever polls next."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.archive(101)
        await watched.sweep()
        await watched.restart()
        await watched.sweep()
        assert await watched.told() == [("drum.opportunity.removed", "opportunity/101")]
