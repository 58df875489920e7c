"""Close as a source: what its rows, its event log and its names amount to, over real HTTP."""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from redis.exceptions import ConnectionError as Cut
from watching import Watched, watching

from poller.errors import Limited, Refused, StoreUnavailable
from poller.model import rfc3339
from poller.simulators import Options, serve
from poller.simulators.close import EXAMPLE, World
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.sources import close
from poller.watch.sources.close import Close

ROWS = "/api/v1/opportunity/"
LOG = "/api/v1/event/"


@asynccontextmanager
async def watched_close(
    connection: Connection, *, records: int = 4, begin: bool = True, **switches: Any
) -> AsyncIterator[tuple[Any, Watched]]:
    """A simulated Close without limits, and its baseline."""
    switches = {"rate_limit": None, **switches}
    async with (
        serve("close", options=Options(records=records, seed=3), **switches) as sim,
        watching(connection, Keys(), kind="close", url=sim.url, token=sim.token) as watched,
    ):
        if begin:
            await watched.sweep()
            await watched.events()
        yield sim, watched


async def swept(watched: Watched) -> list[dict[str, Any]]:
    """The events of one more sweep."""
    await watched.sweep()
    return await watched.events()


async def told(watched: Watched) -> list[tuple[str, str]]:
    """Type and subject of the events of one more sweep."""
    return sorted((event["type"], event["subject"]) for event in await swept(watched))


def whole(watched: Watched) -> None:
    """The next reading is whole."""
    watched.session.memory.lists["opportunity"].whole_at = 0.0


def asked(sim: Any, path: str) -> list[dict[str, list[str]]]:
    """The queries of all requests for a path, oldest first."""
    return [parse_qs(one.query) for one in sim.requests if one.path == path]


def others(sim: Any) -> list[str]:
    """Ids of the opportunities, without the example."""
    return [row.id for row in sim.world.live() if row.id != EXAMPLE]


def opportunity(suffix: str, record: str = EXAMPLE) -> tuple[str, str]:
    return f"close.opportunity.{suffix}", f"opportunity/{record}"


# --- who asks -------------------------------------------------------------------------------------


def test_a_key_is_basic_and_all_else_is_bearer() -> None:
    """API keys begin with `api_` and are the user of Basic without a password; OAuth tokens are Bearer."""
    kind, _, given = Close.auth("api_123.abc")["authorization"].partition(" ")
    assert (kind, base64.b64decode(given)) == ("Basic", b"api_123.abc:")
    assert Close.auth("77rjFEbhH1yx")["authorization"] == "Bearer 77rjFEbhH1yx"


@pytest.mark.parametrize("order", ["expire_token", "deactivate_user", "lapse_plan"])
async def test_a_token_that_is_refused_concludes_nothing(connection: Connection, order: str) -> None:
    """401, 403 and 402 suspend the source, whatever was there before."""
    async with watched_close(connection) as (sim, watched):
        sim.order(order)
        with pytest.raises(Refused):
            await watched.sweep()
        assert await watched.events() == []


@pytest.mark.parametrize("refusal", ["header", "retry_after", "body", "silent"])
async def test_a_limit_is_a_limit_in_each_form(connection: Connection, refusal: str) -> None:
    """A 429 ends the reading without any conclusion, however it tells when to come back."""
    async with watched_close(connection, refusal=refusal) as (sim, watched):
        sim.orders.win(EXAMPLE)
        sim.set(rate_limit=0)
        with pytest.raises(Limited):
            await watched.poll.sweep("opportunity")
        sim.set(rate_limit=None)
        assert await told(watched) == [opportunity("won")]


async def test_a_token_of_another_organization_says_nothing(connection: Connection) -> None:
    """With a stranger's token changes over there are none of ours, and nothing of ours is gone."""
    other = World(account="other", token="api_other", with_examples=False)
    other.populate(opportunities=30, seed=9)
    async with serve("close", options=Options(records=30), rate_limit=None) as sim:
        about = {"kind": "close", "url": sim.url}
        async with watching(connection, Keys(), token=sim.token, **about) as watched:
            await watched.sweep()
            await watched.events()
        sim.worlds.append(other)
        other.switches = sim.switches
        async with watching(connection, Keys(), token="api_other", **about) as watched:
            await watched.events()
            row = other.live()[0]
            row.updated_ms = other.stamp()
            other.touch([row.id])
            assert await told(watched) == [("poller.source.held", "source/acme")]
            watched.session.trusted = True
            (swept,) = await watched.sweep()
            assert "is of" in swept.reason
            assert await watched.events() == []
            whole(watched)
            assert await told(watched) == []


# --- what a status says ---------------------------------------------------------------------------


async def test_a_date_of_winning_is_no_win(connection: Connection) -> None:
    """`date_won` of an active deal is a hope; the type of the status alone says won, lost or reopened."""
    async with watched_close(connection) as (sim, watched):
        sim.orders.update(EXAMPLE, date_won="2026-01-31")
        assert await told(watched) == [opportunity("updated")]
        for order, suffix in (("win", "won"), ("lose", "lost"), ("reopen", "reopened"), ("win", "won")):
            sim.order(order, record=EXAMPLE)
            assert await told(watched) == [opportunity(suffix)]
        assert await told(watched) == []


async def test_a_win_carries_cents_and_the_small_view(connection: Connection) -> None:
    """The object holds whole cents and their period as sent, `data.deal` the decimal amount and the names."""
    async with watched_close(connection) as (sim, watched):
        sim.orders.update(EXAMPLE, value=300_050, value_currency="EUR", value_period="monthly")
        await swept(watched)
        sim.orders.win(EXAMPLE)
        (event,) = await swept(watched)
        data, row = event["data"], sim.world.shown(sim.world.row(EXAMPLE))
        assert (data["object"]["value"], data["object"]["value_period"]) == (300_050, "monthly")
        assert data["previous"]["status_type"] == "active"
        assert data["deal"] == {
            "name": "Bluth Company",
            "client": "Bluth Company",
            "amount": "3000.50",
            "currency": "EUR",
            "status": "won",
            "stage": "Won",
            "owner": row["user_name"],
            "url": f"{sim.url}/lead/{row['lead_id']}/",
        }


async def test_an_operators_status_is_heeded(connection: Connection) -> None:
    """Statuses that the settings name as won or lost are that, by label or id."""
    async with (
        serve("close", options=Options(records=4), rate_limit=None) as sim,
        watching(
            connection, Keys(), kind="close", url=sim.url, token=sim.token,
            account={"won_statuses": frozenset({"Negotiation"})},
        ) as watched,
    ):  # fmt: skip
        await watched.sweep()
        await watched.events()
        status = next(one.id for one in sim.world.tables.statuses.values() if one.name == "Negotiation")
        sim.orders.set_status(EXAMPLE, status)
        assert await told(watched) == [opportunity("won")]


async def test_an_operators_new_list_of_statuses_is_no_news(connection: Connection) -> None:
    """What was in a status when the settings began to name it did not reach it; what moves there does."""
    async with serve("close", options=Options(records=4), rate_limit=None) as sim:
        status, other = [one.id for one in sim.world.tables.of_type("active")][:2]
        given = {"kind": "close", "url": sim.url, "token": sim.token}
        async with watching(connection, Keys(), **given) as watched:
            await watched.sweep()
            (made,) = sim.orders.create(status_id=status)
            await watched.sweep()
            await watched.events()
        record = made.subject.partition("/")[2]
        named = {"won_statuses": frozenset({status})}
        async with watching(connection, Keys(), account=named, **given) as watched:
            await watched.events()
            sim.orders.update(record, note="Otherwise")
            assert await told(watched) == [opportunity("updated", record)]
            for moved, suffix in ((other, "status_changed"), (status, "won"), (other, "reopened")):
                sim.orders.set_status(record, moved)
                assert await told(watched) == [opportunity(suffix, record)]


# --- coming and going -----------------------------------------------------------------------------


async def test_what_is_made_is_created_and_what_comes_into_view_appears(connection: Connection) -> None:
    """By the date of creation: a deal that is older than what was known had only been out of reach."""
    async with watched_close(connection, records=12, begin=False) as (sim, watched):
        sim.orders.account.set_scope("own")
        await watched.sweep()
        await watched.events()
        hidden = [row.id for row in sim.world.live() if row.values["user_id"] != sim.world.main.user]
        sim.orders.account.set_scope("all")
        whole(watched)
        assert await told(watched) == sorted(opportunity("appeared", record) for record in hidden)
        (entry,) = sim.orders.create(value=100)
        assert await told(watched) == [("close.opportunity.created", entry.subject)]


@pytest.mark.parametrize("ahead_s", [-4000.0, 4000.0])
async def test_a_clock_that_is_off_makes_no_new_deal_an_old_one(
    connection: Connection, ahead_s: float
) -> None:
    """What was made is dated by the server, and so is what was read: our own clock has no say in it."""
    async with (
        serve("close", options=Options(records=12, seed=3), rate_limit=None) as sim,
        watching(
            connection, Keys(), kind="close", url=sim.url, token=sim.token,
            now=lambda: time.time() + ahead_s,
        ) as watched,
    ):  # fmt: skip
        sim.orders.account.set_scope("own")
        await watched.sweep()
        await watched.events()
        for _ in range(2):
            (entry,) = sim.orders.create(value=100, user_id=sim.world.main.user)
            assert await told(watched) == [("close.opportunity.created", entry.subject)]
        sim.orders.account.set_scope("all")
        whole(watched)
        assert {suffix for suffix, _ in await told(watched)} == {"close.opportunity.appeared"}


async def test_one_that_is_entered_when_won_is_told_as_both(connection: Connection) -> None:
    """Created and won, in this order; also where the reading broke off in between."""
    async with watched_close(connection) as (sim, watched):
        status = sim.world.tables.of_type("won")[0].id
        for limits in ({}, {"event": 0}):
            sim.set(group_limits=limits)
            (entry,) = sim.orders.create(status_id=status, value=500)
            await watched.sweep()
            sim.set(group_limits={}, rate_limit=None)
            await watched.sweep()
            events = await watched.events()
            assert [event["type"].rpartition(".")[2] for event in events] == ["created", "won"]
            assert {event["subject"] for event in events} == {entry.subject}


async def test_one_that_was_told_as_both_moves_on_like_any_other(connection: Connection) -> None:
    """Its row is looked at once more, and by then it was reopened: that is one event, with what changed."""
    async with watched_close(connection) as (sim, watched):
        (entry,) = sim.orders.create(status_id=sim.world.tables.of_type("won")[0].id)
        assert len(await swept(watched)) == 2
        sim.orders.set_status(entry.subject.partition("/")[2], sim.world.tables.of_type("active")[0].id)
        (event,) = await swept(watched)
        assert event["type"] == "close.opportunity.reopened"
        assert "status_id" in event["data"]["changed"]


async def test_one_that_is_entered_when_won_is_dated_by_its_coming_also_after_a_crash(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that whoever polls next looks at again has shown the win all along: it proves no bound."""
    monkeypatch.setattr(snapshots, "_RESENDS_S", ())
    async with watched_close(connection) as (sim, watched):
        (made,) = sim.orders.create()
        sim.orders.win(made.subject.partition("/")[2])
        redis: Any = connection.commands
        execute = redis.execute_command

        async def cut(*args: Any, **options: Any) -> Any:
            if any(b"opportunity.won" in bytes(each) for each in args if isinstance(each, bytes)):
                raise Cut
            return await execute(*args, **options)

        monkeypatch.setattr(redis, "execute_command", cut)
        with pytest.raises(StoreUnavailable):
            await watched.sweep()
        monkeypatch.undo()
        await watched.restart()
        created, won = await swept(watched)
        assert [each["type"].rpartition(".")[2] for each in (created, won)] == ["created", "won"]
        assert won["data"]["observed"]["not_before"] == created["data"]["observed"]["not_before"]


async def test_a_deletion_is_told_by_the_log(connection: Connection) -> None:
    """In the next sweep, once: the log names the id, and the id answers 404. A lead takes its deals along."""
    async with watched_close(connection, records=12) as (sim, watched):
        record = others(sim)[0]
        sim.orders.delete(record)
        assert await told(watched) == [opportunity("removed", record)]
        lead = sim.world.row(EXAMPLE).values["lead_id"]
        inside = [row.id for row in sim.world.live() if row.values["lead_id"] == lead]
        sim.orders.leads.delete_lead(lead)
        assert await told(watched) == sorted(opportunity("removed", each) for each in inside)
        sim.orders.leads.restore_lead(lead)
        assert await told(watched) == sorted(opportunity("appeared", each) for each in inside)
        assert await told(watched) == []


@pytest.mark.parametrize("dates", ["naive", "offset"])
async def test_a_long_log_is_read_by_its_cursors(connection: Connection, dates: str) -> None:
    """More deletions than a page of the log holds are all told, whatever its dates look like."""
    async with watched_close(connection, records=130, event_dates=dates) as (sim, watched):
        gone = others(sim)[:120]
        for record in gone:
            sim.orders.delete(record)
        assert await told(watched) == sorted(opportunity("removed", record) for record in gone)
        assert len([one for one in asked(sim, LOG) if "_cursor" in one]) == 2


async def test_deletions_of_a_long_outage_are_told_by_the_log(connection: Connection) -> None:
    """All that it keeps is asked for once, so that they are no absences: at once, and without a hold."""
    ahead_s = -20 * 86_400.0

    def now() -> float:
        return time.time() + ahead_s

    async with serve("close", options=Options(records=120, seed=3, clock=now), rate_limit=None) as sim:
        about: dict[str, Any] = {"kind": "close", "url": sim.url, "token": sim.token, "now": now}
        async with watching(connection, Keys(), **about) as watched:
            await watched.sweep()
        ahead_s += 3600
        gone = others(sim)[:25]
        for record in gone:
            sim.orders.delete(record)
        ahead_s = 0.0
        async with watching(connection, Keys(), **about) as watched:
            await watched.events()
            assert await told(watched) == sorted(opportunity("removed", record) for record in gone)
            whole(watched)
            assert await told(watched) == []
        (all_of_it, a_day) = (close.unix_us(one["date_updated__gte"][0]) for one in asked(sim, LOG)[-2:])
        assert (a_day - all_of_it) / 86_400e6 == pytest.approx(29, abs=0.1)


async def test_out_of_reach_is_removed_after_two_askings(connection: Connection) -> None:
    """A change of role leaves no event: an id is removed when it is 404 again after the next sweep."""
    async with watched_close(connection, records=12) as (sim, watched):
        sim.orders.account.set_scope("own")
        hidden = [row.id for row in sim.world.live() if row.values["user_id"] != sim.world.main.user]
        assert await told(watched) == []
        whole(watched)
        assert await told(watched) == []
        assert await told(watched) == sorted(opportunity("removed", record) for record in hidden)


async def test_what_comes_into_view_came_after_the_last_whole_reading(connection: Connection) -> None:
    """Readings of changes do not show what only became visible, however many there were in between."""
    async with watched_close(connection, records=12, begin=False) as (sim, watched):
        sim.orders.account.set_scope("own")
        await watched.sweep()
        await watched.events()
        shown_at = time.time()
        sim.orders.account.set_scope("all")
        for _ in range(2):
            assert await told(watched) == []
        whole(watched)
        appeared = await swept(watched)
        assert appeared
        assert all(event["data"]["observed"]["not_before"] <= rfc3339(shown_at) for event in appeared)


async def test_a_win_before_a_baseline_that_is_told_is_told_too(connection: Connection) -> None:
    """Who was told that a deal appeared is told that it was won, also where the first reading broke off."""
    async with serve("close", options=Options(records=4), rate_limit=None) as sim:
        given = {"kind": "close", "url": sim.url, "token": sim.token, "emit_baseline": True}
        async with watching(connection, Keys(), **given) as watched:
            sim.fail_next("http502", path=LOG)
            assert opportunity("appeared") in await told(watched)
            sim.orders.win(EXAMPLE)
            assert opportunity("won") in await told(watched)


async def test_what_was_missed_before_the_log_named_it_went_before_that(connection: Connection) -> None:
    """Out of reach first, and deleted then: readings of changes in between had not shown it either."""
    async with watched_close(connection, records=12) as (sim, watched):
        record = next(row.id for row in sim.world.live() if row.values["user_id"] != sim.world.main.user)
        hidden_at = time.time()
        sim.orders.account.set_scope("own")
        for _ in range(2):
            assert await told(watched) == []
        whole(watched)
        assert await told(watched) == []
        sim.orders.delete(record)
        (event,) = [each for each in await swept(watched) if each["subject"].endswith(record)]
        assert event["type"] == "close.opportunity.removed"
        assert event["data"]["observed"]["not_before"] <= rfc3339(hidden_at)


async def test_a_deletion_before_the_baseline_is_complete_is_part_of_it(connection: Connection) -> None:
    """A first reading that broke off has told of nobody: what the log names since was never spoken of."""
    async with watched_close(connection, records=12, begin=False) as (sim, watched):
        sim.fail_next("http502", path=LOG)
        assert await told(watched) == []
        sim.orders.delete(others(sim)[0])
        assert await told(watched) == [("poller.source.baseline_completed", "source/acme")]


async def test_a_win_after_a_return_lies_after_it(connection: Connection) -> None:
    """Also where the deal came back in another status: what it was before it went bounds nothing any more."""
    async with watched_close(connection, records=12) as (sim, watched):
        status, other = [one.id for one in sim.world.tables.of_type("active")][:2]
        record = next(row.id for row in sim.world.live() if row.values["user_id"] != sim.world.main.user)
        sim.orders.set_status(record, status)
        await swept(watched)
        for scope in ("own", "own", "all"):
            sim.orders.account.set_scope(scope)
            whole(watched)
            await watched.sweep()
            sim.orders.set_status(record, other)
        back = next(each for each in await watched.events() if each["type"].endswith(".appeared"))
        await watched.sweep()
        sim.orders.win(record)
        (won,) = await swept(watched)
        assert (won["type"], won["subject"]) == opportunity("won", record)
        assert won["data"]["observed"]["not_before"] > back["data"]["observed"]["not_after"]


async def test_a_key_that_may_not_read_the_log_still_learns_of_deletions(connection: Connection) -> None:
    """403 for the log alone suspends nothing: whole readings show what is gone, and ids that are 404."""
    async with watched_close(connection, records=12) as (sim, watched):

        async def no_log(request: Any) -> None:
            sim.world.main.allowed = request.path != LOG

        sim.between(before=no_log)
        record = others(sim)[0]
        sim.orders.delete(record)
        sim.orders.win(EXAMPLE)
        assert await told(watched) == [opportunity("won")]
        whole(watched)
        assert await told(watched) == []
        assert await told(watched) == [opportunity("removed", record)]


# --- what is a change -----------------------------------------------------------------------------


async def test_a_custom_field_that_is_emptied_is_a_change(connection: Connection) -> None:
    """Its key vanishes: for custom fields alone that is null, with the old value told."""
    async with watched_close(connection) as (sim, watched):
        for value, before in (("fair", None), (None, "fair")):
            sim.orders.update(EXAMPLE, **{"custom.cf_source": value})
            (event,) = await swept(watched)
            assert event["type"] == "close.opportunity.updated"
            assert event["data"]["previous"]["custom.cf_source"] == before
            assert event["data"]["object"].get("custom.cf_source") == value


async def test_the_bounds_hold_what_only_a_whole_reading_shows(connection: Connection) -> None:
    """A change that moves no date lies between two whole readings, whatever was read in between."""
    async with watched_close(connection, quiet=frozenset({"custom"})) as (sim, watched):
        (entry,) = sim.orders.update(EXAMPLE, **{"custom.cf_source": "fair"})
        watched.session.last_seen["opportunity"].clear()
        assert await told(watched) == []
        whole(watched)
        (event,) = await swept(watched)
        assert event["data"]["observed"]["not_before"] <= rfc3339(entry.at)
        assert event["data"]["observed"]["not_after"] >= rfc3339(entry.at)


async def test_computed_fields_alone_are_no_event(connection: Connection) -> None:
    """Stalling and a lead's new name move many fields, and nobody did anything to the deal."""
    async with watched_close(connection, quiet=frozenset()) as (sim, watched):
        sim.orders.stall(EXAMPLE)
        sim.orders.account.rename("lead", sim.world.row(EXAMPLE).values["lead_id"], "Sitwell")
        assert await told(watched) == []


@pytest.mark.parametrize("quiet", [frozenset({"rename"}), frozenset()])
async def test_a_rename_is_told_once(
    connection: Connection, quiet: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status or pipeline that is called otherwise is one event of the source, dated or not."""
    monkeypatch.setattr(close, "NAMES_EVERY_S", 0.0)
    async with watched_close(connection, records=12, quiet=quiet) as (sim, watched):
        status = sim.world.row(EXAMPLE).values["status_id"]
        pipeline = sim.world.tables.statuses[status].pipeline
        for table, key in (("status", status), ("pipeline", pipeline)):
            sim.orders.account.rename(table, key, "Shown")
            (event,) = await swept(watched)
            assert event["type"] == "poller.source.renamed"
            assert event["data"]["object"] == {"what": table, "id": key, "name": "Shown"}
        sim.orders.update(EXAMPLE, note="new")
        (event,) = await swept(watched)
        assert event["data"]["deal"]["stage"] == "Shown"


async def test_a_rename_lies_between_two_readings_of_names(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of rows, which are read far more often than names."""
    async with watched_close(connection, records=12) as (sim, watched):
        (entry,) = sim.orders.account.rename("status", sim.world.row(EXAMPLE).values["status_id"], "Shown")
        for _ in range(3):
            assert await told(watched) == []
        monkeypatch.setattr(close, "NAMES_EVERY_S", 0.0)
        (event,) = await swept(watched)
        observed = event["data"]["observed"]
        assert observed["not_before"] <= rfc3339(entry.at) <= observed["not_after"]


# --- the way through the list ---------------------------------------------------------------------


async def test_only_what_changed_is_asked_for(connection: Connection) -> None:
    """Two requests a sweep; moments in UTC without a `+`, no `_limit` above any cap, no `_skip`."""
    async with watched_close(connection, records=250) as (sim, watched):
        assert len(asked(sim, ROWS)) == 3
        before = len(list(sim.requests))
        assert await told(watched) == []
        (rows, log) = list(sim.requests)[before:]
        assert (rows.path, log.path) == (ROWS, LOG)
        assert "+" not in rows.query + log.query
        (since,) = parse_qs(rows.query)["date_updated__gte"]
        assert since.endswith("Z")
        assert all(not one.keys() & {"_limit", "_skip"} for one in asked(sim, ROWS))


@pytest.mark.parametrize("begin", [False, True], ids=["the first reading", "a later one"])
async def test_a_list_that_ends_where_it_said_there_was_more_is_not_believed(
    begin: bool, connection: Connection
) -> None:
    """An empty page in its midst passes nobody by, and makes nobody new who was there all the time."""
    async with watched_close(connection, records=12, begin=begin, limit_cap=4) as (sim, watched):
        if begin:
            for record in others(sim):
                sim.orders.update(record, note="Otherwise")
                sim.orders.account.pass_time(seconds=60)

        async def spoil(asked: Any) -> None:
            if asked.path == ROWS and len([one for one in sim.requests if one.path == ROWS]) == first + 2:
                sim.fail_next("empty", times=1 if begin else 2)  # at first it is asked again

        first = len([one for one in sim.requests if one.path == ROWS])
        sim.between(before=spoil)
        (broken,) = await watched.sweep()
        assert not broken.complete
        sim.between()
        seen = {event["type"] for event in await watched.events()}
        seen |= {event["type"] for event in await swept(watched)}
        assert seen == {"close.opportunity.updated" if begin else "poller.source.baseline_completed"}


async def test_many_changes_of_one_moment(connection: Connection) -> None:
    """A bulk change dates 40 deals alike, over many pages: each is told once, without any `_skip`."""
    async with watched_close(connection, records=60, limit_cap=7, skip_cap=0) as (sim, watched):
        records = [row.id for row in sim.world.live()][:40]
        sim.orders.bulk_update(records, note="as agreed")
        assert await told(watched) == sorted(opportunity("updated", record) for record in records)
        assert await told(watched) == []


@pytest.mark.parametrize("ties", ["id", "random"])
async def test_many_made_in_one_moment(connection: Connection, ties: str) -> None:
    """Deals made and dated in one moment are read by `_skip`, until as many were seen as there are."""
    async with watched_close(connection, limit_cap=7, resolution_ms=60_000, tie_order=ties) as (
        sim,
        watched,
    ):
        made = [sim.orders.create(value=number)[0].subject for number in range(15)]
        await told(watched)
        await told(watched)
        listed = await watched.session.snapshots.listed_ids("opportunity")
        assert {f"opportunity/{record}" for record in listed} >= set(made)


async def test_the_cursor_follows_the_servers_clock(connection: Connection) -> None:
    """Where nothing happens for long, what happened last is not read again for ever."""
    async with watched_close(connection, records=30) as (_, watched):
        cursor = watched.session.memory.lists["opportunity"].cursor.partition(" ")[0]
        latest = max(watched.session.last_seen["opportunity"].values())
        assert abs(close.unix_us(cursor) / 1e6 - latest) < 5


async def test_a_row_from_the_far_future_does_not_move_the_cursor(connection: Connection) -> None:
    """Somebody's clock dated one deal far ahead: what changes before that day is still asked for."""
    async with watched_close(connection) as (sim, watched):
        ahead = sim.world.row(others(sim)[0])
        ahead.updated_ms = sim.world.now_ms() + 2 * 86_400_000
        ahead.forget()
        assert await told(watched) == []
        sim.orders.win(EXAMPLE)
        assert await told(watched) == [opportunity("won")]
