"""Pipedrive as a source, over real HTTP: what its rows and ids say, and what its limits cost."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from watching import FreeTicket, Watched, watching

from poller.errors import Limited, Refused, SettingsError
from poller.model import rfc3339
from poller.simulators import Options, serve
from poller.simulators.pipedrive import World
from poller.simulators.pipedrive.orders import Orders
from poller.store.budget import Budget
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.diff import compare
from poller.watch.limiter import RateLimiter
from poller.watch.limits import date_of
from poller.watch.sources import pipedrive, pipedrive_names
from poller.watch.sources.base import Missing, Reading
from poller.watch.sources.pipedrive_records import KINDS
from poller.watch.sources.pipedrive_wire import pause_of
from poller.watch.upstream import Upstream

HOUR_S = 3660.0
MONTH_S = 31 * 86_400.0


class Clock:
    """The time of the simulator and of the watcher."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.stands_at: float | None = None

    def __call__(self) -> float:
        return (time.time() if self.stands_at is None else self.stands_at) + self.ahead_s


@asynccontextmanager
async def company(
    store: Connection, *, records: int = 16, recents: bool = False, baseline: bool = True, **switches: Any
) -> AsyncIterator[tuple[Any, Watched, Clock]]:
    """A simulated company and who watches it."""
    clock = Clock()
    async with (
        serve("pipedrive", options=Options(records=records, seed=8, clock=clock), **switches) as sim,
        watching(
            store,
            Keys(),
            kind="pipedrive",
            url=sim.url,
            token=sim.token,
            timeout_s=2,
            now=clock,
            account={"recents": recents},
        ) as watched,
    ):
        if baseline:
            await watched.sweep()
            assert types(await watched.events()) == ["poller.source.baseline_completed"]
        yield sim, watched, clock


def types(events: Iterable[dict[str, Any]]) -> list[str]:
    """The types of events, in their order."""
    return [event["type"] for event in events]


def open_deal(sim: Any) -> int:
    """The id of a deal that is open."""
    found: int = next(row.id for row in sim.world.live("deal") if row.values["status"] == "open")
    return found


def by_id(sim: Any) -> list[str]:
    """Paths of the deals that were asked for by their own address."""
    return [each.path for each in sim.requests if each.path.rpartition("/")[2].isdigit()]


# --- what is told ---------------------------------------------------------------------------------


async def test_a_won_deal_has_names_and_an_amount(fakestore: Connection) -> None:
    """The view that all sources share has names, though rows hold only ids."""
    async with company(fakestore) as (sim, watched, _):
        deal = open_deal(sim)
        sim.orders.update(deal, value=1200.5, org_id=2, owner_id=3, stage_id=4)
        sim.orders.win(deal)
        await watched.sweep()
        (event,) = await watched.events()
        assert event["type"] == "pipedrive.deal.won"
        assert event["data"]["previous"]["status"] == "open"
        assert event["data"]["deal"] == {
            "name": event["data"]["object"]["title"],
            "client": "Ribeira Foods",
            "amount": "1200.5",
            "currency": event["data"]["object"]["currency"],
            "status": "won",
            "stage": "Proposal Made",
            "owner": "Aoife Byrne",
            "url": f"{sim.url}/deal/{deal}",
        }


async def test_a_deal_without_a_company_has_its_person_as_client(fakestore: Connection) -> None:
    """The client is the organization, or else the person."""
    async with company(fakestore) as (sim, watched, _):
        sim.orders.update(open_deal(sim), org_id=None, person_id=5, title="Otherwise")
        await watched.sweep()
        (event,) = await watched.events()
        assert event["data"]["deal"]["client"] == "Ciara Walsh"


async def test_times_that_the_server_keeps_are_noise(fakestore: Connection) -> None:
    """An activity moves update_time and nothing that anybody did to the deal."""
    async with company(fakestore) as (sim, watched, _):
        sim.orders.log_activity(open_deal(sim))
        assert [len(told.changed) for told in await watched.sweep()] == [1, 0]
        assert await watched.events() == []


async def test_reopened_is_judged_by_status_alone(fakestore: Connection) -> None:
    """A won_time that stays on an open deal means nothing."""
    async with company(fakestore, stale_times=True) as (sim, watched, _):
        deal = open_deal(sim)
        sim.orders.win(deal)
        await watched.sweep()
        sim.orders.reopen(deal)
        await watched.sweep()
        sim.orders.update(deal, title="Otherwise")
        await watched.sweep()
        suffixes = [each.rpartition(".")[2] for each in types(await watched.events())]
        assert suffixes == ["won", "reopened", "updated"]


async def test_won_while_it_was_deleted_is_told_after_its_return(fakestore: Connection) -> None:
    """A deal that comes back as won says so: a missed win is a lost invoice."""
    async with company(fakestore) as (sim, watched, _):
        deal = open_deal(sim)
        sim.orders.delete(deal)
        await watched.sweep()
        sim.orders.restore(deal)
        sim.orders.win(deal)
        await watched.sweep()
        suffixes = [each.rpartition(".")[2] for each in types(await watched.events())]
        assert suffixes == ["removed", "restored", "won"]


async def test_won_while_it_was_deleted_is_told_also_where_the_reading_broke_off(
    fakestore: Connection,
) -> None:
    """Its row was taken before the limit was met: it says no more than it did, so it is looked at again."""
    async with company(fakestore) as (sim, watched, _):
        deal = open_deal(sim)
        sim.orders.delete(deal)
        await watched.sweep()
        sim.orders.restore(deal)
        sim.orders.win(deal)
        sim.fail_next("http503", path="/deals/archived")
        for _ in range(2):
            await watched.sweep()
        removed, restored, won = await watched.events()
        assert types([removed, restored, won]) == [
            f"pipedrive.deal.{suffix}" for suffix in ("removed", "restored", "won")
        ]
        assert won["data"]["observed"]["not_before"] == removed["data"]["observed"]["not_before"]


async def test_many_that_were_won_before_they_came_are_no_news_also_where_the_reading_broke_off(
    fakestore: Connection,
) -> None:
    """An import of deals of old: what the first half of it has taken is judged as one with the second."""
    async with company(fakestore) as (sim, watched, _):
        for _ in range(30):
            (made,) = sim.orders.create(title="Of old")
            row = sim.world.row("deal", int(made.subject.partition("/")[2]))
            row.values.update(status="won", won_time=sim.world.now() - MONTH_S)
        sim.world.forget_views()
        sim.fail_next("http503", path="/deals/archived")
        for _ in range(2):
            await watched.sweep()
        assert types(await watched.events()) == ["pipedrive.deal.created"] * 30


async def test_won_before_it_was_deleted_is_dated_by_its_last_sight_alive(fakestore: Connection) -> None:
    """Nobody saw the win, and the row of a deleted deal does not tell: it may lie before the removal."""
    async with company(fakestore) as (sim, watched, _):
        deal = open_deal(sim)
        await watched.sweep()
        (win,) = sim.orders.win(deal)
        sim.orders.delete(deal)
        for _ in range(2):
            await watched.sweep()
        sim.orders.restore(deal)
        await watched.sweep()
        removed, restored, won = await watched.events()
        assert types([removed, restored, won]) == [
            f"pipedrive.deal.{suffix}" for suffix in ("removed", "restored", "won")
        ]
        assert won["data"]["observed"]["not_before"] <= rfc3339(win.at)
        assert restored["data"]["observed"]["not_before"] > removed["data"]["observed"]["not_after"]
        sim.orders.reopen(deal)
        await watched.sweep()
        (reopened,) = await watched.events()
        assert reopened["data"]["observed"]["not_before"] > removed["data"]["observed"]["not_after"]


async def test_a_win_of_old_is_no_news_when_the_deal_is_restored(fakestore: Connection) -> None:
    """It was won before the baseline, or deleted then as well: its return from the bin is no second win."""
    async with company(fakestore, records=60, baseline=False) as (sim, watched, _):
        won = [row.id for row in sim.world.live("deal") if row.values["status"] == "won"][:2]
        sim.orders.delete(won[0])
        await watched.sweep()
        await watched.events()
        sim.orders.delete(won[1])
        await watched.sweep()
        assert types(await watched.events()) == ["pipedrive.deal.removed"]
        for deal in won:
            sim.orders.restore(deal)
        await watched.sweep()
        assert types(await watched.events()) == ["pipedrive.deal.restored"] * 2


async def test_what_goes_and_returns_before_the_baseline_is_complete_is_no_news(
    fakestore: Connection,
) -> None:
    """A first reading that broke off has told of nobody: what was deleted or restored since is part of it."""
    async with company(fakestore, baseline=False) as (sim, watched, _):
        gone, back, won = [row.id for row in sim.world.live("deal") if row.values["status"] == "open"][:3]
        sim.orders.delete(back)
        sim.fail_next("http502", path="/deals/archived")
        await watched.sweep()
        sim.orders.delete(gone)
        sim.orders.restore(back)
        sim.orders.win(won)
        await watched.sweep()
        assert types(await watched.events()) == ["poller.source.baseline_completed"]
        sim.orders.restore(gone)
        sim.orders.delete(back)
        await watched.sweep()
        told = {event["subject"]: event["type"] for event in await watched.events()}
        assert told == {
            f"deal/{gone}": "pipedrive.deal.restored",
            f"deal/{back}": "pipedrive.deal.removed",
        }


async def test_a_merge_is_one_removal_and_one_update(fakestore: Connection) -> None:
    """The deal that lost is removed, the other took over its value."""
    async with company(fakestore) as (sim, watched, _):
        first, second = [row.id for row in sim.world.live("deal") if row.values["status"] == "open"][:2]
        sim.orders.update(first, currency="EUR", value=10)
        sim.orders.update(second, currency="EUR", value=20)
        await watched.sweep()
        await watched.events()
        sim.orders.merge(first, second)
        await watched.sweep()
        told = {event["subject"]: event for event in await watched.events()}
        assert told[f"deal/{first}"]["type"] == "pipedrive.deal.removed"
        assert told[f"deal/{second}"]["type"] == "pipedrive.deal.updated"
        assert told[f"deal/{second}"]["data"]["deal"]["amount"] == "30"


async def test_a_custom_field_that_vanishes_is_cleared(fakestore: Connection) -> None:
    """Where empty custom fields are left out, a key that is gone or new is a change."""
    key = "9d0f41c2a76b4e0f8c51b7a4f7be20cd5a61e3f8"
    async with company(fakestore, null_custom_fields=False) as (sim, watched, _):
        deal = open_deal(sim)
        for value in ("PO-1", None, "PO-2"):
            sim.orders.update(deal, custom_fields={key: value})
            await watched.sweep()
        told = [event["data"]["object"]["custom_fields"].get(key) for event in await watched.events()]
        assert told[-2:] == [None, "PO-2"]


# --- cursors and whole readings ---------------------------------------------------------------------


async def test_only_what_changed_is_asked_for_and_all_of_it_once_an_hour(fakestore: Connection) -> None:
    """updated_since has whole seconds and lies some minutes back; after an hour it is left out."""
    async with company(fakestore) as (sim, watched, clock):
        sim.requests.clear()
        await watched.sweep()
        clock.ahead_s += HOUR_S
        await watched.sweep()
        asked = [each.query for each in sim.requests if each.path.startswith("/api/v2/deals")]
        assert ["updated_since=" in query for query in asked] == [True, True, False, False]
        since = asked[0].partition("updated_since=")[2]
        assert since.endswith("Z")
        assert "." not in since


async def test_a_whole_reading_that_takes_long_is_made_less_often(fakestore: Connection) -> None:
    """A large account on a small budget: changes are asked for in three quarters of the time at least."""
    async with company(fakestore, records=60, page_most=10) as (sim, watched, clock):
        clock.ahead_s += HOUR_S

        async def slowly(_asked: Any) -> None:
            clock.ahead_s += 300.0

        sim.between(before=slowly)
        await watched.poll.sweep("deal")
        sim.between()
        took_s = watched.session.memory.lists["deal"].whole_s
        assert took_s > 1500
        for ahead_s, whole in ((HOUR_S - took_s, False), (took_s, False), (4 * took_s, True)):
            clock.ahead_s += ahead_s
            sim.requests.clear()
            await watched.poll.sweep("deal")
            first = next(each.query for each in sim.requests if each.path == "/api/v2/deals")
            assert ("updated_since=" not in first) == whole


async def test_many_changes_of_one_second(fakestore: Connection) -> None:
    """Some are read, and more follow in the very second with which that reading ended: each is told once."""
    async with company(fakestore, records=60, page_most=5) as (sim, watched, clock):
        clock.stands_at = float(int(time.time()) + 1)
        deals = [row.id for row in sim.world.live("deal") if row.values["status"] == "open"]
        early, late = deals[: len(deals) // 2], deals[len(deals) // 2 :]
        assert min(len(early), len(late)) > 5
        for some in (early, late):
            for deal in some:
                sim.orders.win(deal)
            await watched.sweep()
            told = [(event["type"], event["subject"]) for event in await watched.events()]
            assert sorted(told) == sorted(("pipedrive.deal.won", f"deal/{deal}") for deal in some)
        clock.stands_at += 3600.0
        for _ in range(2):
            await watched.sweep()
        assert await watched.events() == []


async def test_archiving_without_a_trace_is_never_a_removal(fakestore: Connection) -> None:
    """A deal that only moved to the archived ones is archived, told at the next whole reading."""
    async with company(fakestore, untouched=["archive", "unarchive"]) as (sim, watched, clock):
        deal = open_deal(sim)
        for order in (sim.orders.archive, sim.orders.unarchive):
            order(deal)
            await watched.sweep()
            assert await watched.events() == []
            clock.ahead_s += HOUR_S
            await watched.sweep()
            assert types(await watched.events()) == [f"pipedrive.deal.{order.__name__}d"]


@pytest.mark.parametrize("untouched", ["unarchive", "restore"])
async def test_what_left_no_trace_is_dated_by_the_last_whole_reading(
    untouched: str, fakestore: Connection
) -> None:
    """Another change shows it to a reading of changes: the readings before that had not."""
    async with company(fakestore, untouched=[untouched], baseline=False) as (sim, watched, clock):
        clock.ahead_s, deal = -HOUR_S, open_deal(sim)
        await watched.sweep()
        (sim.orders.archive if untouched == "unarchive" else sim.orders.delete)(deal)
        clock.ahead_s = 0.0
        await watched.sweep()
        await watched.events()
        (quiet,) = getattr(sim.orders, untouched)(deal)
        await watched.restart()
        for _ in range(2):
            await watched.sweep()
        assert await watched.events() == []
        sim.orders.update(deal, title="Otherwise")
        await watched.sweep()
        (event,) = await watched.events()
        assert event["type"] == f"pipedrive.deal.{untouched}d"
        assert event["data"]["observed"]["not_before"] <= rfc3339(quiet.at)


async def test_what_changed_out_of_reach_is_dated_by_its_last_sight(fakestore: Connection) -> None:
    """Its id answers 403, and no list showed what became of it, however many were read since."""
    async with company(fakestore) as (sim, watched, clock):
        deal = next(
            row.id
            for row in sim.world.live("deal")
            if row.values["status"] == "open" and row.values["owner_id"] != 1
        )
        sim.orders.set_reach("own")
        clock.ahead_s += HOUR_S
        await watched.sweep()
        won_at = clock()
        sim.orders.win(deal)
        for _ in range(2):
            await watched.sweep()
        await watched.restart()
        sim.orders.set_reach("all")
        await watched.sweep()
        (won,) = [each for each in await watched.events() if each["type"] == "pipedrive.deal.won"]
        assert won["data"]["observed"]["not_before"] <= rfc3339(won_at)


def test_a_deal_is_archived_by_its_flag_and_a_project_by_its_time() -> None:
    """A deal that comes back is told so although its time stays; a project has no flag, only the time."""
    time_, deal, project = "2026-01-01T00:00:00Z", KINDS["deal"], KINDS["project"]
    here, away, back, again = (
        {"id": 1, "status": "open", "is_archived": flag, "archive_time": at}
        for flag, at in ((False, None), (True, time_), (False, time_), (True, time_))
    )
    steps = [deal.verdict(compare(deal.shape, *pair)) for pair in pairwise((here, away, back, again, here))]
    assert steps == ["archived", "unarchived", "archived", "unarchived"]
    listed, shelved = ({"id": 1, "status": "open", "archive_time": at} for at in (None, time_))
    steps = [project.verdict(compare(project.shape, *pair)) for pair in pairwise((listed, shelved, listed))]
    assert steps == ["archived", "unarchived"]


async def test_many_deals_purged_at_once_hold_nothing_up(fakestore: Connection) -> None:
    """What was told as removed leaves its list for good 30 days later, and nothing is said or asked."""
    async with company(fakestore, records=80) as (sim, watched, clock):
        deals = [row.id for row in sim.world.live("deal")][:40]
        for deal in deals:
            sim.orders.delete(deal)
        await watched.sweep()
        assert types(await watched.events()) == ["pipedrive.deal.removed"] * 40
        clock.ahead_s += MONTH_S
        sim.requests.clear()
        await watched.sweep()
        assert await watched.events() == []
        assert len(await watched.session.snapshots.listed_ids("deal")) == 20
        assert not [each for each in sim.requests if each.path.rpartition("/")[2].isdigit()]


@pytest.mark.parametrize("deleted", ["200", "404", "410"])
async def test_a_deleted_record_is_missing_by_its_id(deleted: str, fakestore: Connection) -> None:
    """Whatever the id of a deleted deal answers, it says the same."""
    async with company(fakestore, deleted_by_id=deleted) as (sim, watched, _):
        source, deal = watched.session.source, open_deal(sim)
        assert isinstance(await source.read("deal", str(deal), ticket=FreeTicket()), Reading)
        sim.orders.delete(deal)
        assert isinstance(await source.read("deal", str(deal), ticket=FreeTicket()), Missing)


@pytest.mark.parametrize("reach", ["own", "none"])
async def test_a_smaller_reach_removes_nothing(reach: str, fakestore: Connection) -> None:
    """Deals that the token's user may no longer see answer 403 by id: that is no removal."""
    async with company(fakestore, records=60) as (sim, watched, clock):
        sim.orders.set_reach(reach)
        for _ in range(3):
            clock.ahead_s += HOUR_S
            await watched.sweep()
        told = types(await watched.events())
        assert told
        assert set(told) == {"poller.source.held"}


async def test_another_companys_token_holds_everything_before_its_first_commit(fakestore: Connection) -> None:
    """What changed over there is asked for by nobody: until a known deal answers, all is read, and held."""
    other = World(account="other", token="other_token", first_id=5000)
    other.populate(deals=30, projects=30, seed=9)
    async with serve("pipedrive", options=Options(records=80, seed=8)) as sim:
        about = {"kind": "pipedrive", "url": sim.url}
        async with watching(fakestore, Keys(), token=sim.token, **about) as watched:
            await watched.sweep()
            await watched.events()
        sim.worlds.append(other)
        other.switches = sim.switches
        async with watching(fakestore, Keys(), token=other.main_token, **about) as watched:
            await watched.events()
            Orders(other).create(title="Theirs")
            Orders(other).win(other.live("deal")[0].id)
            for _ in range(2):
                assert [each.complete for each in await watched.sweep()] == [False, False]
            assert types(await watched.events()) == ["poller.source.held"] * 2
            assert not watched.session.trusted
        async with watching(fakestore, Keys(), token=sim.token, **about) as watched:
            await watched.events()
            sim.orders.win(open_deal(sim))
            await watched.sweep()
            assert sorted(types(await watched.events())) == [
                "pipedrive.deal.won", "poller.source.released", "poller.source.released",
            ]  # fmt: skip


async def test_a_known_token_goes_on_with_what_changed_after_a_restart(fakestore: Connection) -> None:
    """One known deal that answers is proof enough, and not every restart reads all there is."""
    async with company(fakestore, records=80) as (sim, watched, _):
        await watched.restart()
        sim.requests.clear()
        await watched.poll.sweep("deal")
        paths = [each.path for each in sim.requests]
        assert paths[0].removeprefix("/api/v2/deals/").isdigit()
        assert paths[1:] == ["/api/v2/deals", "/api/v2/deals/archived"]
        assert all("updated_since=" in each.query for each in list(sim.requests)[1:])


# --- names ------------------------------------------------------------------------------------------


async def test_a_rename_is_told_once(fakestore: Connection) -> None:
    """A stage that is called otherwise is one event of the source, and none of its deals."""
    async with company(fakestore) as (sim, watched, clock):
        stage = next(row.values["stage_id"] for row in sim.world.live("deal"))
        sim.orders.rename("stage", stage, "Qualified indeed")
        for _ in range(3):
            clock.ahead_s += HOUR_S
            await watched.sweep()
        (event,) = await watched.events()
        assert event["type"] == "poller.source.renamed"
        assert event["data"]["object"] == {"what": "stage", "id": str(stage), "name": "Qualified indeed"}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("table", ["stage", "organization"])
async def test_a_rename_lies_between_two_readings_of_names(
    table: str, restarted: bool, fakestore: Connection
) -> None:
    """Not of rows, which are read far more often; also where another process had read the names before."""
    clock = Clock()
    async with serve("pipedrive", options=Options(records=40, seed=8, clock=clock)) as sim:
        about: dict[str, Any] = {"kind": "pipedrive", "url": sim.url, "token": sim.token, "now": clock}
        column = {"stage": "stage_id", "organization": "org_id"}[table]
        key = next(row.values[column] for row in sim.world.live("deal") if row.values[column])

        async def watch(watched: Watched) -> list[dict[str, Any]]:
            for _ in range(14):
                clock.ahead_s += 600
                await watched.sweep()
            return await watched.events()

        async with watching(fakestore, Keys(), **about) as watched:
            await watched.sweep()
            await watch(watched)
            clock.ahead_s += 60
            (entry,) = sim.orders.rename(table, key, "Shown")
            told = [] if restarted else await watch(watched)
        if restarted:
            async with watching(fakestore, Keys(), **about) as watched:
                await watched.events()
                told = await watch(watched)
        (event,) = told
        assert event["data"]["object"]["name"] == "Shown"
        observed = event["data"]["observed"]
        assert observed["not_before"] <= rfc3339(entry.at) <= observed["not_after"]
        assert observed["not_before"] >= rfc3339(entry.at - 2 * HOUR_S)


async def test_names_that_may_not_be_read_hold_nothing_up(fakestore: Connection) -> None:
    """Without the scope for people and companies a deal has no client, and is told all the same."""
    async with company(fakestore, baseline=False) as (sim, watched, _):
        sim.orders.use_oauth()
        sim.orders.grant(["deals:read", "projects:read"])
        upstream = Upstream(base_url=sim.url, auth={"authorization": f"Bearer {sim.token}"})
        watched.session.source._upstream = upstream
        watched.session.source._names = pipedrive_names.Names(upstream)
        await watched.sweep()
        await watched.events()
        sim.orders.win(open_deal(sim))
        await watched.sweep()
        await upstream.close()
        (event,) = await watched.events()
        assert event["type"] == "pipedrive.deal.won"
        assert event["data"]["deal"]["client"] is None
        assert event["data"]["deal"]["stage"]


async def test_many_unknown_names_wait_until_the_rows_were_read(
    fakestore: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page with more new names than one request holds is not kept waiting for them."""
    monkeypatch.setattr(pipedrive_names, "AT_ONCE", 3)
    async with company(fakestore, records=40) as (sim, watched, _):
        asked = [each.path for each in sim.requests]
        assert asked.index("/api/v2/organizations") > asked.index("/api/v2/deals/archived")
        used = {row.values["org_id"] for row in sim.world.live("deal")}
        assert {f"organization/{each}" for each in used} <= watched.session.memory.names.keys()


# --- projects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["402", "403", "404"])
async def test_without_projects_deals_go_on(
    answer: str, fakestore: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan without projects is no fault, and projects that come later are a silent baseline."""
    async with company(fakestore, projects=answer) as (sim, watched, _):
        sim.orders.win(open_deal(sim))
        told = await watched.sweep()
        assert types(await watched.events()) == ["pipedrive.deal.won"]
        assert [each.complete for each in told] == [True, False]
        assert sum(each.path == "/api/v2/projects" for each in sim.requests) == 1
        monkeypatch.setattr(pipedrive, "ASK_AGAIN_S", 0.0)
        sim.set(projects="on")
        await watched.sweep()
        assert await watched.events() == []
        sim.orders.projects.complete_project(next(row.id for row in sim.world.live("project")))
        await watched.sweep()
        assert len(await watched.events()) == 1


@pytest.mark.parametrize("answer", ["402", "403", "404"])
async def test_projects_that_go_away_are_not_removed(answer: str, fakestore: Connection) -> None:
    """An add-on that ends takes no project with it, and its return says nothing."""
    async with company(fakestore) as (sim, watched, _):
        sim.set(projects=answer)
        await watched.sweep()
        sim.set(projects="on")
        await watched.sweep()
        assert await watched.events() == []


async def test_a_closed_account_is_refused(fakestore: Connection) -> None:
    """402 on the deals themselves is the source's suspension."""
    async with company(fakestore) as (sim, watched, _):
        sim.orders.close_account()
        with pytest.raises(Refused):
            await watched.sweep()


# --- /v1/recents ----------------------------------------------------------------------------------------


async def test_recents_names_what_the_lists_did_not_show(fakestore: Connection) -> None:
    """What a list leaves out is asked of it by name, in the same reading: a row is compared with a row."""
    async with company(fakestore, recents=True) as (sim, watched, _):
        won, archived = [row.id for row in sim.world.live("deal") if row.values["status"] == "open"][:2]
        sim.orders.win(won)
        sim.orders.archive(archived)
        sim.requests.clear()
        sim.fail_next("empty", path="/api/v2/deals", times=2)
        await watched.sweep()
        told = sorted((event["type"], event["subject"]) for event in await watched.events())
        assert told == [
            ("pipedrive.deal.archived", f"deal/{archived}"),
            ("pipedrive.deal.won", f"deal/{won}"),
        ]
        await watched.sweep()
        assert await watched.events() == []
        assert sum("ids=" in each.query and "/deals" in each.path for each in sim.requests) == 2
        assert not by_id(sim)


async def test_recents_names_deals_that_are_out_of_reach_and_nothing_is_said(fakestore: Connection) -> None:
    """It says that something changed, never that anything is gone: only the deals' own lists show that."""
    async with company(fakestore, records=100, recents=True) as (sim, watched, _):
        for row in sim.world.live("deal")[:30]:
            sim.orders.update(row.id, title="Otherwise")

        async def after(asked: Any) -> None:
            if "recents" in asked.path:
                sim.orders.set_reach("own")

        sim.between(after=after)
        sim.fail_next("empty", path="/api/v2/deals", times=2)
        await watched.poll.sweep("deal")
        assert set(types(await watched.events())) <= {"pipedrive.deal.updated"}
        assert sum("recents" in each.path for each in sim.requests) == 1
        assert not by_id(sim)


async def test_recents_that_fails_hides_nothing(fakestore: Connection) -> None:
    """It is a further signal, never a condition."""
    async with company(fakestore, recents=True) as (sim, watched, _):
        sim.set(fault_rate=1.0, faults=["http500"], fault_path="recents")
        sim.orders.win(open_deal(sim))
        assert [each.complete for each in await watched.sweep()] == [True, True]
        assert types(await watched.events()) == ["pipedrive.deal.won"]


async def test_recents_of_what_is_gone_says_nothing(fakestore: Connection) -> None:
    """A purged deal is named there with null for data; no list shows it, and it was removed long ago."""
    async with company(fakestore, recents=True) as (sim, watched, clock):
        deal = open_deal(sim)
        sim.orders.delete(deal)
        await watched.sweep()
        assert types(await watched.events()) == ["pipedrive.deal.removed"]
        clock.ahead_s += MONTH_S
        for _ in range(3):
            await watched.sweep()
        assert await watched.events() == []
        assert [each.status for each in sim.requests if "recents" in each.path].count(200) >= 2
        assert not by_id(sim)


async def test_recents_is_not_asked_unless_it_is_wanted(fakestore: Connection) -> None:
    """It costs 20 tokens a time."""
    async with company(fakestore) as (sim, watched, _):
        await watched.sweep()
        assert not [each for each in sim.requests if "recents" in each.path]


# --- limits ---------------------------------------------------------------------------------------------


async def test_a_burst_limit_is_waited_for_where_it_is_told(fakestore: Connection) -> None:
    """Five requests in 2 seconds: the sweep takes its time, and is never refused."""
    async with company(fakestore, burst=8) as (sim, watched, _):
        await watched.sweep()
        assert {each.status for each in sim.requests} == {200}


async def test_the_daily_limit_stops_the_source(fakestore: Connection) -> None:
    """The day's tokens are used up: no request until they are there again."""
    async with company(fakestore) as (sim, watched, _):
        sim.set(daily_tokens=0)
        with pytest.raises(Limited):
            await watched.poll.sweep("deal")


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 22 Nov 2026 22:00:00 GMT", 7201.0),
        ("Sun, 22 Nov 2026 12:00:00 GMT", 43_201.0),
        ("Sun, 22 Nov 2026 01:00:00 GMT", 3600.0),
    ],
)
def test_the_day_ends_at_midnight_utc_or_within_the_hour(date: str, seconds: float) -> None:
    """x-ratelimit-reset says 2 there too; a midnight of another zone is met by asking once an hour."""
    headers = {"date": date, "x-daily-ratelimit-token-remaining": "0", "x-ratelimit-reset": "2"}
    pause = pause_of(429, headers)
    assert pause is not None
    assert pause.retry_after_s == seconds
    assert pause.server_date == date_of(date)


def test_limits_are_told_apart_from_refusals() -> None:
    """A 429 of the burst waits for its reset; HTML with a 403 is the guard's, JSON with a 403 a refusal."""
    burst = pause_of(429, {"x-ratelimit-reset": "2", "x-daily-ratelimit-token-remaining": "500"})
    assert burst is not None
    assert burst.retry_after_s == 2
    assert pause_of(403, {"content-type": "text/html; charset=UTF-8"}) is not None
    assert pause_of(403, {"content-type": "application/json"}) is None
    assert pause_of(200, {"x-daily-ratelimit-token-remaining": "0"}) is None


async def test_a_guard_that_answers_in_html_is_a_limit(fakestore: Connection) -> None:
    """Somebody with this token ignored the limits: a 403 in HTML is a pause, and suspends nothing."""
    async with company(fakestore) as (sim, watched, _):
        switches = sim.set(burst=1, ban_after=1)
        for _ in range(3):
            sim.world.meter.take(sim.token, 1, now=sim.world.now(), switches=switches)
        sim.orders.win(open_deal(sim))
        with pytest.raises(Limited, match="asks to be left alone"):
            await watched.poll.sweep("deal")
        assert [each.status for each in sim.requests][-1] == 403
        assert await watched.events() == []


async def test_requests_are_charged_by_what_they_cost(fakestore: Connection) -> None:
    """20 tokens for the archived deals, 10 for the others, 1 by id: all of it from the host's budget."""
    async with company(fakestore) as (sim, watched, _):
        budget = Budget(fakestore, Keys(), host="h", egress="e", limit=1000, window_s=300)
        watched.session.limiter = RateLimiter(budget, host="h", limit=1000, window_s=300, timeout_s=2)
        charges = len(sim.world.meter.charges)
        told = await watched.poll.sweep("deal")
        assert isinstance(await watched.session.read("deal", str(open_deal(sim))), Reading)
        spent = sum(charge.cost for charge in list(sim.world.meter.charges)[charges:])
        assert told.cost == 30
        assert spent == 31
        assert (await budget.usage()).used == {"sweep": 32, "confirm": 1}
        await watched.poll.sweep("deal")
        assert (await budget.usage()).used == {"sweep": 62, "confirm": 1}


async def test_a_budget_below_one_request_is_a_settings_error(fakestore: Connection) -> None:
    """It could never be sent, and says what to raise."""
    async with company(fakestore) as (_, watched, _clock):
        budget = Budget(fakestore, Keys(), host="h", egress="e", limit=15, window_s=300)
        watched.session.limiter = RateLimiter(budget, host="h", limit=15, window_s=300, timeout_s=2)
        with pytest.raises(SettingsError, match="raise `budget` to 20"):
            await watched.poll.sweep("deal")
