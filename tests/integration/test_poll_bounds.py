"""What an event says of itself: its two moments, its place, its id; and that nothing is lost by time."""

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from cluster import every_key
from watching import Watched, drum

from poller.simulators.drum import World
from poller.store.connection import Connection
from poller.watch.poll import Swept

MS = 0.001


def moments(event: dict[str, Any]) -> tuple[float, float]:
    """Both bounds in Unix seconds."""
    observed = event["data"]["observed"]
    before, after = (
        datetime.fromisoformat(observed[name]).timestamp() for name in ("not_before", "not_after")
    )
    return before, after


def is_start_of(sim: Any, at: float, request: Any) -> bool:
    """Whether a moment lies between the end of the request before and the start of this one."""
    earlier = [each.end for each in sim.requests if each.number == request.number - 1]
    return max(earlier, default=0.0) - MS <= at <= request.start


def is_end_of(sim: Any, at: float, request: Any) -> bool:
    """Whether a moment lies between the end of this request and the start of the next."""
    later = [each.start for each in sim.requests if each.number == request.number + 1]
    return request.end <= at <= min(later, default=at) + MS


def last(sim: Any, path: str, **said: Any) -> Any:
    """The last request for a path."""
    found = [
        each
        for each in sim.requests
        if each.path.endswith(path) and all(getattr(each, name) == value for name, value in said.items())
    ]
    return found[-1]


async def only(watched: Watched) -> dict[str, Any]:
    """The one event that came."""
    (event,) = await watched.events()
    return event


# --- observed -------------------------------------------------------------------------------------


async def test_a_row_was_last_seen_old_by_the_page_before_and_new_by_this_one(connection: Connection) -> None:
    """The requests are those of its own page, not of the sweep as a whole."""
    async with drum(connection, records=30, items_cap=5) as (sim, watched):
        await watched.sweep()
        await watched.events()
        record = [row.id for row in sim.world.live("opportunity")][7]

        def page_of() -> Any:
            pages = [a for a in sim.requests if a.path.endswith("opportunities") and "page=2" in a.query]
            return pages[-1]

        old = page_of()
        sim.orders.update(record, name="Moved")
        await watched.sweep()
        before, after = moments(await only(watched))
        assert is_start_of(sim, before, old)
        assert is_end_of(sim, after, page_of())


async def test_a_detail_was_last_seen_old_by_its_reading_before(connection: Connection) -> None:
    """Also where lists were read in between: they do not show it."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        old = last(sim, "/101")
        await watched.sweep()
        sim.orders.update(101, due_date="2026-05-01T00:00:00Z")
        await watched.details(["opportunity/101"])
        before, after = moments(await only(watched))
        assert is_start_of(sim, before, old)
        assert is_end_of(sim, after, last(sim, "/101"))


async def test_a_win_lies_between_the_last_sight_of_the_deal_and_the_first_of_the_project(
    connection: Connection,
) -> None:
    """By the answer of the project by its id; or by the projects' page that showed it."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        seen = last(sim, "/101", status=200)
        sim.orders.win(101)
        await watched.poll.sweep("opportunity")
        won, created = await watched.events()
        assert moments(won) == moments(created)
        assert is_start_of(sim, moments(won)[0], seen)
        assert is_end_of(sim, moments(won)[1], last(sim, "/projects/101"))
        sim.orders.win(102)
        await watched.poll.sweep("project")
        won, _ = await watched.events()
        page = [a for a in sim.requests if a.path.endswith("/projects") and "page=1" in a.query][-1]
        assert is_end_of(sim, moments(won)[1], page)


async def test_a_removal_lies_between_the_last_sight_and_the_first_404(connection: Connection) -> None:
    """Not the second 404, which only makes it certain."""
    async with drum(connection, records=12) as (sim, watched):
        await watched.events()
        seen = last(sim, "/opportunities/101", status=200)
        sim.orders.archive(101)
        await watched.sweep()
        first = last(sim, "/opportunities/101", status=404)
        await watched.sweep()
        before, after = moments(await only(watched))
        assert is_start_of(sim, before, seen)
        assert is_end_of(sim, after, first)


async def test_a_creation_lies_between_the_sweep_without_it_and_its_first_page(
    connection: Connection,
) -> None:
    """The start of the last complete sweep of its list; one that failed proves nothing."""
    async with drum(connection, records=30, items_cap=5) as (sim, watched):
        await watched.poll.sweep("opportunity")
        await watched.events()
        complete = [a for a in sim.requests if a.path.endswith("opportunities") and "page=1" in a.query][-1]
        sim.fail_next("http502", path="opportunities", times=1)
        await watched.poll.sweep("opportunity")
        sim.orders.create_opportunity(name="New")
        await watched.poll.sweep("opportunity")
        before, after = moments(await only(watched))
        assert is_start_of(sim, before, complete)
        assert after >= sim.log.since(sim.log.seq - 1)[0].at


async def test_one_that_answers_403_makes_no_bound_older(connection: Connection) -> None:
    """It is missing from every sweep for a reason that was said: each of these would have shown a new one."""
    async with drum(connection, records=10) as (sim, watched):
        sim.orders.archive(101)

        async def forbid(asked: Any) -> None:
            sim.world.main.archived = asked.path.endswith("/101")

        async def allow(_asked: Any) -> None:
            sim.world.main.archived = False

        sim.between(before=forbid, after=allow)
        for _ in range(3):
            await watched.sweep()
        await watched.events()
        complete = [a for a in sim.requests if a.path.endswith("opportunities") and "page=1" in a.query][-1]
        sim.orders.create_opportunity(name="New")
        await watched.poll.sweep("opportunity")
        before, _ = moments(await only(watched))
        assert is_start_of(sim, before, complete)


async def test_one_that_went_during_the_baseline_makes_no_bound_of_1970(connection: Connection) -> None:
    """The first reading broke off and had shown it; the next is the baseline: what comes came after it."""
    async with drum(connection, records=10, items_cap=2, begin=False) as (sim, watched):

        async def spoil(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=3" in asked.query:
                sim.fail_next("http502")
                sim.orders.archive(101)

        sim.between(before=spoil)
        await watched.sweep()
        sim.between()
        started = time.time()
        await watched.sweep()
        sim.orders.create_opportunity(name="New")
        await watched.events()
        await watched.sweep()
        created = next(event for event in await watched.events() if event["type"].endswith(".created"))
        assert moments(created)[0] >= started - MS


@pytest.mark.parametrize("came", ["created", "restored"])
async def test_a_sweep_that_an_empty_page_cut_short_proves_no_coming(
    connection: Connection, came: str
) -> None:
    """It looks complete, and known records are missing from it: so may the new one have been."""
    async with drum(connection, records=30, items_cap=5) as (sim, watched):
        victim = [row.id for row in sim.world.live("opportunity")][-1]
        if came == "restored":
            sim.orders.archive(victim)
            await watched.sweep()
            await watched.sweep()
        await watched.sweep()
        await watched.events()
        (entry,) = sim.orders.restore(victim) if came == "restored" else sim.orders.create_opportunity()

        async def spoil(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=2" in asked.query:
                sim.fail_next("empty")

        sim.between(before=spoil)
        for _ in range(2):
            told = await watched.poll.sweep("opportunity")
            assert told.complete
            assert told.suspects
        sim.between()
        await watched.sweep()
        (event,) = await watched.events()
        assert (event["type"], event["subject"]) == (entry.type, entry.subject)
        before, after = moments(event)
        assert before < entry.at < after


async def test_a_sweep_that_showed_an_id_twice_proves_no_coming(connection: Connection) -> None:
    """Nothing known is missing from it, and yet a new record had no place in it."""
    world = World()
    world.populate(opportunities=7)
    async with drum(connection, world=world, items_cap=5) as (sim, watched):
        known = sorted(row.id for row in sim.world.live("opportunity"))
        assert len(known) == 9
        await watched.sweep()
        await watched.events()
        (entry,) = sim.orders.create_opportunity(name="New")
        for record in known[:4]:
            sim.world.touch(record)

        async def turn(asked: Any) -> None:
            sim.set(sort="updated" if "page=2" in asked.query else "id")

        sim.between(before=turn)
        for _ in range(2):
            told = await watched.poll.sweep("opportunity")
            assert (told.complete, told.suspects, told.records) == (True, 0, 9)
        assert await watched.told() == []
        sim.between()
        sim.set(sort="id")
        await watched.poll.sweep("opportunity")
        event = await only(watched)
        assert (event["type"], event["subject"]) == (entry.type, entry.subject)
        before, after = moments(event)
        assert before < entry.at < after


@pytest.mark.parametrize("held", ["many", "strange", "forbidden"])
async def test_a_hold_lies_between_the_last_sweep_without_it_and_the_first_with_it(
    held: str, connection: Connection
) -> None:
    """And so does its end: not the moment at which we noticed, which lies after both."""
    async with drum(connection, records=90) as (sim, watched):
        await watched.sweep()
        await watched.events()
        gone = [row.id for row in sim.world.live("opportunity")][: 1 if held == "forbidden" else 30]

        async def forbid(asked: Any) -> None:
            sim.world.main.archived = asked.path.endswith(f"/{gone[0]}")

        def begin() -> None:
            if held == "strange":
                sim.orders.set_role("blind")
            else:
                sim.between(before=forbid if held == "forbidden" else None)
                for record in gone:
                    sim.orders.archive(record)

        def end() -> None:
            sim.between()
            sim.world.main.archived = False
            sim.orders.set_role("admin")
            for record in [] if held == "strange" else gone:
                sim.orders.restore(record)

        for suffix, happens in (("held", begin), ("released", end)):
            happens()
            at = time.time()
            await watched.poll.sweep("opportunity")
            event = await only(watched)
            assert event["type"] == f"poller.source.{suffix}"
            assert moments(event)[0] < at < moments(event)[1]
            await watched.poll.sweep("opportunity")
            assert await watched.events() == []


async def test_after_a_restart_the_bound_is_the_last_complete_sweep(connection: Connection) -> None:
    """Wider than it could be, and never wrong."""
    async with drum(connection, records=30, items_cap=5) as (sim, watched):
        await watched.sweep()
        await watched.events()
        first = [a for a in sim.requests if a.path.endswith("opportunities") and "page=1" in a.query][-1]
        await watched.restart()
        (entry,) = sim.orders.update(101, name="Moved")
        await watched.sweep()
        before, after = moments(await only(watched))
        assert is_start_of(sim, before, first)
        assert before < entry.at < after


async def test_a_record_that_a_sweep_missed_keeps_its_older_bound(connection: Connection) -> None:
    """A row that slipped past a complete sweep was not seen by it."""
    async with drum(connection, records=20, items_cap=5) as (sim, watched):
        await watched.events()
        victim = [row.id for row in sim.world.live("opportunity")][5]
        seen = [a for a in sim.requests if a.path.endswith("opportunities") and "page=2" in a.query][-1]

        async def slip(asked: Any) -> None:
            if asked.path.endswith("opportunities") and "page=2" in asked.query:
                sim.between()
                sim.orders.archive(101)

        sim.between(before=slip)
        told = await watched.poll.sweep("opportunity")
        assert told.suspects
        await watched.restart()
        sim.orders.update(victim, name="Moved")
        await watched.poll.sweep("opportunity")
        event = next(e for e in await watched.events() if e["subject"] == f"opportunity/{victim}")
        assert moments(event)[0] <= seen.start


# --- several transitions, and gaps -----------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["", "after a restart"])
async def test_a_loss_that_could_not_be_read_at_once_has_the_bounds_of_its_status(
    connection: Connection, *, restart: bool
) -> None:
    """It lies where the status moved, though the detail was never read before: not between 1970 and now."""
    async with drum(connection, world=World(), manner={"details": False}, begin=False) as (sim, watched):
        for name in ("By this one the status is learned", "Of this one only the row is known"):
            (made,) = sim.orders.create_opportunity(name=name)
        record = int(made.subject.partition("/")[2])
        await watched.sweep()
        known = await watched.known(made.subject)
        assert known is not None
        assert known.detail is None
        await watched.events()
        sim.orders.lose(record)
        sim.set(faults=("http502",), fault_rate=1.0, fault_path=f"/{record}")
        await watched.poll.sweep("opportunity")
        changed = await only(watched)
        await watched.poll.sweep("opportunity")
        sim.set(fault_rate=0.0)
        if restart:
            await watched.restart()
        await watched.poll.sweep("opportunity")
        lost = await only(watched)
        assert [each["type"].rpartition(".")[2] for each in (changed, lost)] == ["status_changed", "lost"]
        assert moments(lost)[0] == moments(changed)[0]
        assert moments(changed)[1] < moments(lost)[1]


async def test_a_loss_while_it_was_removed_lies_after_its_last_sight(connection: Connection) -> None:
    """It is told by the reading after its return; before, it was last seen in the list it vanished from."""
    async with drum(connection, records=12, manner={"details": False}, begin=False) as (sim, watched):
        await watched.sweep()
        deals = [row.id for row in sim.world.live("opportunity") if not row.values["deal_lost_date"]]
        seen = {record: await watched.known(f"opportunity/{record}") for record in deals}
        record = next(each for each, known in seen.items() if known is not None and not known.detail)
        await watched.poll.sweep("opportunity")
        sight = last(sim, "/opportunities", query="page=1&items=500")
        sim.orders.archive(record)
        await watched.sweep()
        await watched.sweep()
        await watched.events()
        sim.orders.restore(record)
        sim.orders.lose(record)
        await watched.poll.sweep("opportunity")
        restored, lost = await watched.events()
        assert [each["type"].rpartition(".")[2] for each in (restored, lost)] == ["restored", "lost"]
        assert is_start_of(sim, moments(lost)[0], sight)


async def test_a_win_that_its_view_alone_had_shown_before_it_went_lies_before_that(
    connection: Connection,
) -> None:
    """The view told nothing, for the row had the status of before: the win is told when the deal is back."""
    async with drum(connection, conversion_after=None) as (sim, watched):
        await watched.sweep()
        await watched.events()
        (entry, *_) = sim.orders.win(101)
        for _ in range(3):
            await watched.details(["opportunity/101"])
        sim.orders.archive(101)
        for _ in range(2):
            await watched.sweep()
        sim.orders.restore(101)
        await watched.cycle_quietly()
        won = next(event for event in await watched.events() if event["type"].endswith(".won"))
        before, after = moments(won)
        assert before <= entry.at <= after


async def test_a_win_while_it_was_removed_lies_after_its_last_sight_as_a_deal(connection: Connection) -> None:
    """It is back as a project: the sweeps of deals since it was gone did not see it, won or not."""
    async with drum(connection, records=12) as (sim, watched):
        sight = last(sim, "/101", status=200)
        sim.orders.archive(101)
        await watched.sweep()
        await watched.sweep()
        await watched.events()
        sim.orders.restore(101)
        sim.orders.win(101)
        await watched.sweep()
        won, created = await watched.events()
        assert won["type"] == "drum.opportunity.won"
        assert moments(won) == moments(created)
        assert is_start_of(sim, moments(won)[0], sight)


@pytest.mark.parametrize("seen", ["by its id", "in its row"])
async def test_a_win_that_was_seen_and_not_told_is_dated_by_what_was_seen_before(
    connection: Connection, seen: str
) -> None:
    """It left its list before both views agreed: told by the project, it still lies where it was reached."""
    async with drum(connection, records=12, conversion_after=None) as (sim, watched):
        sight = last(sim, "/opportunities", query="page=1&items=500")
        sim.orders.win(101)
        if seen == "by its id":
            await watched.details(["opportunity/101"])
        else:
            sim.fail_next("http502", times=6, path="/opportunities/101")
            await watched.poll.sweep("opportunity")
            assert [kind.rpartition(".")[2] for kind, _ in await watched.told()] == ["status_changed"]
        sim.orders.convert(101)
        await watched.poll.sweep("opportunity")
        won, _ = await watched.events()
        assert won["type"] == "drum.opportunity.won"
        assert is_start_of(sim, moments(won)[0], sight)


async def test_several_changes_between_two_readings_are_one_event_with_the_end(
    connection: Connection,
) -> None:
    """Nobody saw what was in between; the bounds span all of it."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        entries = [
            *sim.orders.update(101, name="First"),
            *sim.orders.update(101, amount="1.00"),
            *sim.orders.update(101, name="Second"),
        ]
        await watched.sweep()
        event = await only(watched)
        assert event["data"]["changed"] == ["amount", "name"]
        assert event["data"]["object"]["name"] == "Second"
        before, after = moments(event)
        assert all(before < entry.at < after for entry in entries)


async def test_a_change_and_its_undoing_between_two_readings_is_nothing(connection: Connection) -> None:
    """A to B to A, unseen, leaves the record as it was."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        sim.orders.update(101, name="Otherwise")
        sim.orders.update(101, name="Enterprise CRM Implementation")
        assert await watched.cycle() == []


async def test_a_gap_of_days_is_diffed_and_never_re_based(connection: Connection) -> None:
    """What changed while nobody watched is told when watching goes on, with a bound as wide as the gap."""
    async with drum(connection, records=20) as (sim, watched):
        await watched.events()
        sim.orders.update(101, name="While away", due_date="2026-05-01T00:00:00Z")
        sim.orders.win(102)
        (made,) = sim.orders.create_opportunity(name="New")
        await watched.restart()
        later = watched.session.now
        watched.session.now = lambda: later() + 3 * 86_400
        assert sorted(await watched.cycle()) == [
            ("drum.opportunity.created", made.subject),
            ("drum.opportunity.updated", "opportunity/101"),
            ("drum.opportunity.updated", "opportunity/101"),
            ("drum.opportunity.won", "opportunity/102"),
            ("drum.project.created", "project/102"),
        ]


async def test_resync_compares_every_row_whatever_its_fingerprint(connection: Connection) -> None:
    """An operator's second look: nothing where nothing differs, and what a fingerprint hid is found."""
    async with drum(connection, records=20) as (_, watched):
        await watched.events()

        async def resync() -> list[tuple[str, str]]:
            for mine in watched.session.memory.lists.values():
                mine.recheck = True
            return await watched.cycle()

        assert await resync() == []
        known = await watched.known("opportunity/101")
        assert known is not None
        known.row = {**(known.row or {}), "name": "As it never was"}
        batch = watched.session.batch()
        batch.keep("opportunity", "101", known)
        await watched.session.commit(batch)
        assert await watched.cycle() == []
        assert await resync() == [("drum.opportunity.updated", "opportunity/101")]
        assert not any(mine.recheck for mine in watched.session.memory.lists.values())


# --- ids and revisions ----------------------------------------------------------------------------


async def test_revisions_count_without_gaps_and_ids_are_unique(connection: Connection) -> None:
    """A to B to A to B: four transitions, four ids, revisions 1 to 4."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        for name in ("B", "A", "B", "A"):
            sim.orders.update(101, name=name)
            await watched.sweep()
        events = await watched.events()
        assert [e["data"]["revision"] for e in events] == [1, 2, 3, 4]
        assert len({e["id"] for e in events}) == 4
        chain = [(e["data"]["previous"]["name"], e["data"]["object"]["name"]) for e in events]
        assert all(one[1] == two[0] for one, two in pairwise(chain))


@pytest.mark.parametrize(
    "order",
    [
        lambda orders: orders.update(101, name="Moved"),
        lambda orders: orders.lose(101),
        lambda orders: orders.win(101),
        lambda orders: orders.set_status(101, 3),
    ],
    ids=["updated", "lost", "won", "status_changed"],
)
async def test_the_same_transition_found_again_has_the_same_id(
    connection: Connection, order: Callable[[Any], Any]
) -> None:
    """After Redis lost its tail: the stream is empty again, the change is found again, the id is the same."""
    async with drum(connection) as (sim, watched):
        await watched.events()
        keys = [key for key in await every_key(connection.commands) if b":events" not in key]
        saved = {key: await connection.commands.hgetall(key) for key in keys if b"lease" not in key}
        order(sim.orders)
        await watched.sweep()
        first = [event["id"] for event in await watched.events()]
        for key, fields in saved.items():
            await connection.commands.delete(key)
            if fields:
                await connection.commands.hset(key, mapping=fields)
        for key in await every_key(connection.commands):
            if b"lease" not in key and b":events" not in key and key not in saved:
                await connection.commands.delete(key)
        await watched.restart()
        if len(first) == 1:
            sim.orders.update(102, name="Beside it")
        await watched.sweep()
        again = [event["id"] for event in await watched.events() if event["subject"].endswith("/101")]
        assert again == first


async def test_a_sweep_says_what_it_did(connection: Connection) -> None:
    """For the log line and the metrics: pages, records, changes, events, suspects, and why it ended."""
    async with drum(connection, records=30, items_cap=10) as (sim, watched):
        sim.orders.update(101, name="Moved")
        told: Swept = await watched.poll.sweep("opportunity")
        deals = len(sim.world.live("opportunity"))
        assert (told.complete, told.records, told.changed, told.events) == (True, deals, {"101"}, 1)
        assert told.pages == -(-deals // 10)
        sim.fail_next("http502", path="opportunities")
        failed = await watched.poll.sweep("opportunity")
        assert (failed.complete, failed.pages) == (False, 0)
        assert "502" in failed.reason
