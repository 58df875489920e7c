"""Pipedrive simulated, over real HTTP: both prefixes and shapes, cursors, limits, and each of its modes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from clocks import Clock

from poller.model import loads
from poller.simulators import Options, serve
from poller.simulators.pipedrive import Orders, World
from poller.simulators.pipedrive.fields import TEXT_FIELD

NOON = 1_800_014_400.0
"""2027-01-15, noon in UTC."""
DEAL = """
    id title creator_user_id owner_id value currency person_id org_id stage_id pipeline_id add_time
    update_time stage_change_time status is_archived archive_time is_deleted probability lost_reason
    visible_to close_time won_time lost_time local_won_date local_lost_date local_close_date
    expected_close_date label_ids origin origin_id channel channel_id source_lead_id acv arr mrr
    custom_fields"""
PROJECT = """
    id title description status board_id phase_id owner_id start_date end_date deal_ids person_ids org_ids
    label_ids health_status add_time update_time status_change_time archive_time custom_fields"""
OLD_DEAL = """
    id creator_user_id user_id person_id org_id stage_id title value currency add_time update_time
    stage_change_time active deleted status probability next_activity_date next_activity_time next_activity_id
    last_activity_id last_activity_date lost_reason visible_to close_time pipeline_id won_time first_won_time
    lost_time products_count files_count notes_count followers_count email_messages_count activities_count
    done_activities_count undone_activities_count participants_count expected_close_date
    last_incoming_mail_time last_outgoing_mail_time label stage_order_nr person_name org_name
    next_activity_subject next_activity_type next_activity_duration next_activity_note formatted_value
    weighted_value formatted_weighted_value weighted_value_currency rotten_time owner_name cc_email org_hidden
    person_hidden"""
OLD_PROJECT = """
    id title description status status_change_time start_date end_date owner_id add_time update_time labels
    archive_time deal_ids person_id org_id board_id phase_id"""


class Caller:
    """Somebody with a token."""

    def __init__(self, sim: Any, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.sim, self.clock = sim, clock
        self.orders: Orders = sim.orders
        self._session = session

    async def get(self, path: str, *, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
        sent = {"x-api-token": self.sim.token} if headers is None else headers
        async with self._session.get(self.sim.url + path, headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()

    async def json(self, path: str) -> Any:
        status, _, body = await self.get(path)
        assert status == 200, body
        return loads(body)

    async def ids(self, path: str) -> list[int]:
        return [row["id"] for row in (await self.json(path))["data"] or []]

    async def refused(self, path: str, **more: Any) -> tuple[int, Any]:
        status, _, body = await self.get(path, **more)
        told = loads(body)
        assert told["success"] is False
        return status, told["error"]

    async def crawl(self, path: str, seen: Callable[[list[int]], None] = lambda _: None) -> list[int]:
        """All ids, page by page, as the cursors lead."""
        return [row["id"] for row in await self.rows(path, seen)]

    async def rows(self, path: str, seen: Callable[[list[int]], None] = lambda _: None) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        for _ in range(200):
            told = await self.json(f"{path}{'&' if '?' in path else '?'}cursor={cursor}")
            found += told["data"]
            seen([row["id"] for row in told["data"]])
            cursor = (told.get("additional_data") or {}).get("next_cursor")
            if not cursor:
                return found
        raise AssertionError("no end")


@asynccontextmanager
async def calling(
    *, deals: int = 0, projects: int = 0, world: World | None = None, **switches: Any
) -> AsyncIterator[Caller]:
    clock = Clock(NOON)
    world = world or World(clock=clock)
    world.populate(deals=deals, projects=projects)
    options = Options(clock=clock)
    async with (
        serve("pipedrive", world, options=options, **switches) as sim,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
    ):
        yield Caller(sim, session, clock)


# --- shapes ---------------------------------------------------------------------------------------


async def test_shapes_of_v2() -> None:
    """Deals and projects of v2 have the keys of the specification, the same in a list and alone."""
    async with calling(deals=5, projects=5) as caller:
        for name, keys in (("deals", DEAL), ("projects", PROJECT)):
            listed = (await caller.json(f"/api/v2/{name}"))["data"]
            assert len(listed) == 5
            for row in listed:
                assert list(row) == keys.split()
                assert (await caller.json(f"/api/v2/{name}/{row['id']}"))["data"] == row
        row = (await caller.json("/api/v2/deals/1"))["data"]
    assert len(row["update_time"]) == len("2025-01-01T00:00:00Z")
    assert row["update_time"].endswith("Z")
    assert len(listed[0]["update_time"]) == len("2026-04-14T10:45:20.852Z")
    assert type(row["owner_id"]) is int


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_shapes_of_v1(prefix: str) -> None:
    """What v1 still serves has the old keys and times, under both of its prefixes."""
    async with calling(projects=3) as caller:
        caller.orders.create(title="Pilot", value=5000, owner_id=2, org_id=3, label_ids=[11, 12])
        caller.orders.log_activity(1)
        (deal,) = (await caller.json(f"{prefix}/stages/1/deals?everyone=1"))["data"]
        assert set(OLD_DEAL.split()) <= set(deal)
        assert (deal["user_id"], deal["owner_name"], deal["label"]) == (2, "Jonas Feld", "11,12")
        assert (deal["update_time"], deal["formatted_value"]) == ("2027-01-15 12:00:00", "€5,000")
        assert (deal["activities_count"], deal["active"], deal["deleted"]) == (1, True, False)
        project = (await caller.json(f"{prefix}/projects"))["data"][0]
        assert set(OLD_PROJECT.split()) <= set(project)
        assert project["update_time"][10] == " "
        assert len(project["update_time"]) == len("2023-09-14 05:45:40.084")
        assert (await caller.json(f"{prefix}/projects/1"))["additional_data"] is None
        stage = (await caller.json(f"{prefix}/stages"))["data"][0]
        assert {"active_flag", "rotten_flag", "pipeline_name", "order_nr"} <= set(stage)


async def test_v2_has_one_prefix() -> None:
    """v2 answers under /api/v2 alone, and neither version has the other's endpoints."""
    async with calling(deals=1) as caller:
        for path in ("/v2/deals", "/api/v1/deals", "/api/v2/recents", "/api/v2/stages/1/deals", "/deals"):
            assert await caller.refused(path) == (404, "Not found")


async def test_people_of_v1_can_be_objects() -> None:
    """Owner, person and organization of a deal of v1 can be objects, as captured ones are."""
    async with calling(people_v1="objects") as caller:
        caller.sim.world.populate(deals=1)
        caller.orders.create(title="Pilot", owner_id=1, org_id=3)
        (deal,) = [
            item["data"]
            for item in (await caller.json("/v1/recents?since_timestamp=2027-01-15%2000:00:00&items=deal"))[
                "data"
            ]
        ]
        assert deal["user_id"]["name"] == "Maret Kask"
        assert deal["org_id"]["value"] == 3
        assert deal["person_id"] is None


async def test_things_with_a_name() -> None:
    """Stages, pipelines, boards, phases, users, people and companies are there in both shapes."""
    async with calling(deals=3) as caller:
        assert len((await caller.json("/api/v2/stages"))["data"]) == 7
        assert await caller.ids("/api/v2/stages?pipeline_id=2") == [6, 7]
        assert await caller.ids("/v1/stages?pipeline_id=2") == [6, 7]
        assert await caller.ids("/api/v2/phases?board_id=2") == [6, 7]
        assert await caller.ids("/api/v2/organizations?ids=2,4") == [2, 4]
        assert (await caller.json("/v1/users"))["data"][0]["name"] == "Maret Kask"
        caller.orders.rename("stage", 3, "Trial")
        for path in ("/api/v2/stages", "/v1/stages"):
            assert "Trial" in [stage["name"] for stage in (await caller.json(path))["data"]]


# --- lists of v2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("deals?limit=501", "limit must be from 1 to 500"),
        ("deals?limit=0", "limit must be from 1 to 500"),
        ("deals?limit=ten", "limit must be an integer"),
        ("deals?updated_since=2027-01-15T12:00:00.000Z", "updated_since must be of the form"),
        ("deals?updated_since=2027-01-15%2012:00:00", "updated_since must be of the form"),
        ("deals?updated_since=2027-02-30T12:00:00Z", "updated_since must be of the form"),
        ("deals?updated_until=yesterday", "updated_until must be of the form"),
        ("deals?status=open,gone", "status must be of open, won, lost, deleted, not gone"),
        ("deals?sort_by=title", "sort_by must be of id, update_time, add_time"),
        ("deals?sort_direction=up", "sort_direction must be of asc, desc"),
        ("deals?owner_id=me", "owner_id must be an integer"),
        ("deals?ids=" + ",".join(map(str, range(101))), "ids must name at most 100"),
        ("deals?cursor=nonsense", "Invalid cursor"),
        ("deals?cursor=bnVsbA", "Invalid cursor"),
        ("stages?updated_since=2027-01-15T12:00:00Z", "updated_since is not allowed"),
        ("pipelines?updated_since=2027-01-15T12:00:00Z", "updated_since is not allowed"),
        ("deals/abc", "id must be an integer"),
    ],
)
async def test_bad_parameters(path: str, told: str) -> None:
    """A parameter that the API would not take is a 400 that names it."""
    async with calling(deals=1) as caller:
        status, message = await caller.refused(f"/api/v2/{path}")
        assert status == 400
        assert told in message


async def test_filters_and_orders() -> None:
    """The documented filters narrow the list, and it is sorted by what is asked, id breaking ties."""
    async with calling() as caller:
        for stage, owner in ((1, 1), (6, 2), (1, 2)):
            caller.orders.create(title="Pilot", stage_id=stage, owner_id=owner, org_id=None)
        caller.clock.now += 60
        caller.orders.win(1)
        for query, ids in (
            ("", [1, 2, 3]), ("stage_id=1", [1, 3]), ("pipeline_id=2", [2]), ("owner_id=2&stage_id=1", [3]),
            ("status=open", [2, 3]), ("status=won,lost", [1]), ("ids=3,9", [3]), ("limit=2", [1, 2]),
            ("sort_by=update_time", [2, 3, 1]), ("sort_by=update_time&sort_direction=desc", [1, 3, 2]),
            ("updated_since=2027-01-15T12:01:00Z", [1]), ("updated_since=2027-01-15T12:00:00Z", [1, 2, 3]),
            ("updated_until=2027-01-15T12:01:00Z", [2, 3]), ("updated_since=2027-01-15T12:01:01Z", []),
        ):  # fmt: skip
            assert await caller.ids(f"/api/v2/deals?{query}") == ids, query


async def test_empty_custom_fields() -> None:
    """custom_fields names those without a value too, or leaves them out."""
    async with calling(deals=1, null_custom_fields=False) as caller:
        key = TEXT_FIELD
        caller.orders.update(1, custom_fields={key: None})
        assert key not in (await caller.json("/api/v2/deals/1"))["data"]["custom_fields"]


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("by", ["id", "update_time"])
async def test_cursors_across_ties(by: str, direction: str) -> None:
    """Pages led by cursors show every deal once, also where many share one second."""
    async with calling(deals=30) as caller:
        caller.orders.move_all(range(3, 25), 2)
        query = f"limit=4&sort_by={by}&sort_direction={direction}"
        found = await caller.crawl(f"/api/v2/deals?{query}")
    assert sorted(found) == list(range(1, 31))
    if by == "id":
        assert found == sorted(found, reverse=direction == "desc")


async def test_cursors_hold_while_the_list_moves() -> None:
    """A cursor is a place and no offset: who leaves before it moves nobody, who is touched comes again."""
    async with calling(deals=12) as caller:

        def leave(page: list[int]) -> None:
            for deal in page[:2]:
                caller.orders.archive(deal)

        assert await caller.crawl("/api/v2/deals?limit=3", leave) == list(range(1, 13))
        assert await caller.ids("/api/v2/deals") == [3, 6, 9, 12]
        touched: list[int] = []

        def touch(page: list[int]) -> None:
            if not touched:
                touched.append(page[0])
                caller.orders.update(page[0], title="Touched")

        found = await caller.crawl("/api/v2/deals?limit=2&sort_by=update_time", touch)
        assert sorted(found) == sorted([3, 6, 9, 12, *touched])
        assert found[0] == found[-1] == touched[0]


async def test_cursors_are_tied_to_their_parameters() -> None:
    """A cursor that comes with other parameters, or to another list, is refused."""
    async with calling(deals=6) as caller:
        told = await caller.json("/api/v2/deals?limit=2&status=open,won,lost")
        cursor = told["additional_data"]["next_cursor"]
        assert await caller.ids(f"/api/v2/deals?limit=3&status=open,won,lost&cursor={cursor}") == [3, 4, 5]
        for other in ("deals?limit=2", "deals?status=open,won,lost&sort_by=add_time", "projects?limit=2"):
            assert (await caller.refused(f"/api/v2/{other}&cursor={cursor}"))[0] == 400


@pytest.mark.parametrize(
    ("mode", "end"), [("null", {"next_cursor": None}), ("absent", {}), ("bare", "nothing")]
)
async def test_ends_of_a_list(mode: str, end: Any) -> None:
    """The last page has a null cursor, none, or no additional_data at all; the others always have theirs."""
    async with calling(deals=3, last_page=mode) as caller:
        told = await caller.json("/api/v2/deals?limit=2")
        assert told["additional_data"]["next_cursor"]
        assert (await caller.json("/api/v2/deals")).get("additional_data", "nothing") == end


async def test_short_pages() -> None:
    """A page can be shorter than asked for without being the last."""
    async with calling(deals=9, page_most=2) as caller:
        assert len(await caller.ids("/api/v2/deals?limit=500")) == 2
        assert await caller.crawl("/api/v2/deals?limit=500") == list(range(1, 10))


async def test_drift_between_pages() -> None:
    """With drift the company lives on between two pages, and the log tells how."""
    async with calling(deals=40, page_most=15, drift=2) as caller:
        told = await caller.json("/api/v2/deals")
        assert caller.sim.log.transition == 0
        await caller.json(f"/api/v2/deals?cursor={told['additional_data']['next_cursor']}")
        assert caller.sim.log.transition == 2


async def test_lists_show_what_the_log_says() -> None:
    """The four lists together show what somebody knows who knows the beginning and the log."""
    async with calling(deals=60, projects=30, page_most=7, last_page="bare") as caller:
        start = {subject: state.view for subject, state in caller.sim.world.states().items()}
        for _ in range(200):
            caller.clock.now += 1
            caller.sim.life.steps(2)
        known = dict(start)
        for entry in caller.sim.log:
            if entry.subject.split("/")[0] in {"deal", "project"}:
                known[entry.subject] = entry.object
        listed: dict[str, Any] = {}
        for kind in ("deal", "project"):
            for path in (f"/api/v2/{kind}s", f"/api/v2/{kind}s/archived"):
                rows = await caller.rows(path)
                listed |= {f"{kind}/{row['id']}": row for row in rows}
    assert listed == {subject: view for subject, view in known.items() if view is not None}


# --- archived, deleted, merged ----------------------------------------------------------------------------


async def test_archived_split() -> None:
    """An archived record leaves its list for the archived ones', and answers by id as before."""
    async with calling(deals=3, projects=3) as caller:
        caller.orders.archive(2)
        caller.orders.projects.archive_project(2)
        for name in ("deals", "projects"):
            assert await caller.ids(f"/api/v2/{name}") == [1, 3]
            assert await caller.ids(f"/api/v2/{name}/archived") == [2]
            assert (await caller.json(f"/api/v2/{name}/2"))["data"]["archive_time"] is not None
        assert await caller.ids("/v1/projects") == [1, 3]
        assert await caller.ids("/v1/projects?include_archived=true") == [1, 2, 3]
        caller.orders.unarchive(2)
        assert await caller.ids("/api/v2/deals") == [1, 2, 3]
        assert await caller.ids("/api/v2/deals/archived") == []


async def test_deleted_for_thirty_days() -> None:
    """A deleted deal is listed only to who asks for deleted ones, for 30 days; then it is 404."""
    async with calling(deals=3) as caller:
        caller.orders.delete(2)
        assert await caller.ids("/api/v2/deals") == [1, 3]
        assert await caller.ids("/api/v2/deals?status=deleted") == [2]
        assert await caller.ids("/api/v2/deals?status=open,won,lost,deleted") == [1, 2, 3]
        assert await caller.ids("/api/v2/deals?status=open,deleted&updated_since=2027-01-15T12:00:00Z") == [2]
        deal = (await caller.json("/api/v2/deals/2"))["data"]
        assert (deal["is_deleted"], deal["status"]) == (True, "deleted")
        caller.sim.set(deleted_status="kept")
        assert (await caller.json("/api/v2/deals/2"))["data"]["status"] in {"open", "won", "lost"}
        for mode in ("404", "410"):
            caller.sim.set(deleted_by_id=mode)
            assert (await caller.refused("/api/v2/deals/2"))[0] == int(mode)
        caller.sim.set(deleted_by_id="200")
        caller.clock.now += 30 * 86_400
        assert await caller.ids("/api/v2/deals?status=deleted") == []
        assert (await caller.refused("/api/v2/deals/2"))[0] == 404


async def test_deleted_projects() -> None:
    """A deleted project has the status that says so, in its own list."""
    async with calling(projects=2) as caller:
        caller.orders.projects.delete_project(1)
        assert await caller.ids("/api/v2/projects") == [2]
        (row,) = (await caller.json("/api/v2/projects?status=deleted"))["data"]
        assert (row["id"], row["status"]) == (1, "deleted")


async def test_merged_deals() -> None:
    """The deal that was merged away is deleted, the other has its value."""
    async with calling() as caller:
        caller.orders.create(title="One", value=100)
        caller.orders.create(title="Two", value=20)
        caller.orders.merge(2, into=1)
        assert (await caller.json("/api/v2/deals?status=open,deleted"))["data"][1]["is_deleted"] is True
        assert (await caller.json("/api/v2/deals/1"))["data"]["value"] == 120


async def test_no_access() -> None:
    """What the token's user may not see is in no list, and 403 or 404 by its id."""
    async with calling() as caller:
        for owner in (1, 2):
            caller.orders.create(title="Pilot", owner_id=owner)
        caller.orders.set_reach("own")
        assert await caller.ids("/api/v2/deals") == [1]
        for mode in ("403", "404"):
            caller.sim.set(forbidden_by_id=mode)
            assert (await caller.refused("/api/v2/deals/2"))[0] == int(mode)


async def test_late_writes() -> None:
    """A write that lags is not there yet, and comes later with an update_time from before."""
    async with calling(deals=2, replica_lag_s=5) as caller:
        caller.orders.win(1)
        caller.clock.now += 3
        query = "/api/v2/deals?updated_since=2027-01-15T12:00:00Z"
        assert await caller.ids(query) == []
        assert len(caller.sim.log) == 0
        caller.clock.now += 3
        (deal,) = (await caller.json(query))["data"]
        assert (deal["status"], deal["update_time"]) == ("won", "2027-01-15T12:00:00Z")
        (entry,) = caller.sim.log
        assert (entry.type, entry.at) == ("pipedrive.deal.won", NOON + 6)


# --- v1 -----------------------------------------------------------------------------------------------------


async def test_deals_of_a_stage() -> None:
    """By default the token's own open deals, all with everyone=1; none is null; archived ones are gone."""
    async with calling() as caller:
        for owner in (1, 2, 1, 2):
            caller.orders.create(title="Pilot", stage_id=1, owner_id=owner)
        assert await caller.ids("/v1/stages/1/deals") == [1, 3]
        assert await caller.ids("/v1/stages/1/deals?user_id=2") == [2, 4]
        assert await caller.ids("/v1/stages/1/deals?everyone=1") == [1, 2, 3, 4]
        caller.orders.win(1)
        caller.orders.archive(3)
        assert (await caller.json("/v1/stages/1/deals"))["data"] is None
        told = await caller.json("/v1/stages/1/deals?everyone=1&limit=1")
        assert told["additional_data"]["pagination"] == {
            "start": 0,
            "limit": 1,
            "more_items_in_collection": True,
            "next_start": 1,
        }
        assert await caller.ids("/v1/stages/1/deals?everyone=1&start=1") == [4]
        assert (await caller.refused("/v1/stages/99/deals"))[0] == 404


@pytest.mark.parametrize("mode", ["404", "410"])
async def test_out_of_support(mode: str) -> None:
    """The endpoints of v1 that are out of support can be gone; the others of v1 go on."""
    async with calling(deals=1, deprecated=mode) as caller:
        assert (await caller.refused("/v1/stages"))[0] == int(mode)
        assert (await caller.refused("/api/v1/stages/1/deals"))[0] == int(mode)
        assert (await caller.json("/v1/recents?since_timestamp=2027-01-15%2000:00:00"))["success"] is True


async def recents(caller: Caller, since: str, more: str = "") -> Any:
    return await caller.json(f"/v1/recents?since_timestamp={since.replace(' ', '%20')}{more}")


async def test_recents() -> None:
    """All kinds in one list, by time, each with its latest state; a user is a list, what was purged null."""
    async with calling() as caller:
        caller.orders.create(title="One")
        caller.orders.create(title="Two")
        caller.clock.now += 10
        caller.orders.delete(1)
        caller.orders.rename("user", 2, "Jonas Field")
        told = await recents(caller, "2027-01-15 12:00:00")
        assert [(item["item"], item["id"]) for item in told["data"]] == [
            ("deal", 2),
            ("deal", 1),
            ("user", 2),
        ]
        assert told["data"][1]["data"]["deleted"] is True
        assert [user["name"] for user in told["data"][2]["data"]] == ["Jonas Field"]
        assert told["additional_data"]["since_timestamp"] == "2027-01-15 12:00:00"
        assert told["additional_data"]["last_timestamp_on_page"] == "2027-01-15 12:00:10"
        assert (await recents(caller, "2027-01-15 12:00:10", "&items=stage"))["data"] is None
        page = await recents(caller, "2027-01-15 12:00:00", "&limit=1&start=1&items=deal,user")
        assert page["additional_data"]["pagination"]["next_start"] == 2
        caller.orders.pass_time(days=31)
        (item,) = (await recents(caller, "2027-02-14 00:00:00"))["data"]
        assert item == {"item": "deal", "id": 1, "data": None}
        caller.sim.set(tombstones=False)
        assert (await recents(caller, "2027-02-14 00:00:00"))["data"] is None


async def test_recents_reach_back_a_month() -> None:
    """A moment further back than a month is cut silently, and the answer repeats what was asked."""
    async with calling() as caller:
        caller.orders.create(title="Old")
        caller.orders.pass_time(days=40)
        caller.orders.create(title="New")
        told = await recents(caller, "2027-01-01 00:00:00")
        assert [item["id"] for item in told["data"]] == [2]
        assert told["additional_data"]["since_timestamp"] == "2027-01-01 00:00:00"


@pytest.mark.parametrize(("inclusive", "order", "ids"), [(True, "desc", [2, 1]), (False, "asc", [2])])
async def test_recents_in_other_ways(inclusive: bool, order: str, ids: list[int]) -> None:
    """Whether the moment itself is within, and the order, are not documented: both can be had."""
    async with calling(recents_inclusive=inclusive, recents_order=order) as caller:
        caller.orders.create(title="One")
        caller.clock.now += 1
        caller.orders.create(title="Two")
        assert [item["id"] for item in (await recents(caller, "2027-01-15 12:00:00"))["data"]] == ids


@pytest.mark.parametrize(
    "query",
    ["", "since_timestamp=2027-01-15T12:00:00Z", "since_timestamp=2027-01-15%2012:00:00&items=project"],
)
async def test_bad_recents(query: str) -> None:
    """Without a moment in the old form, or with an item that it does not know, it is a 400."""
    async with calling() as caller:
        assert (await caller.refused(f"/v1/recents?{query}"))[0] == 400


# --- who may, and how often -------------------------------------------------------------------------


async def test_tokens() -> None:
    """The header, the query and nothing else proves who one is; a wrong token is 401 by the gateway."""
    async with calling(deals=1) as caller:
        token = caller.sim.token
        for headers, query, status in (
            ({"x-api-token": token}, "", 200),
            ({}, f"?api_token={token}", 200),
            ({}, "", 401),
            ({"x-api-token": "wrong"}, "", 401),
            ({"authorization": f"Bearer {token}"}, "", 401),
        ):
            assert (await caller.get(f"/api/v2/deals{query}", headers=headers))[0] == status
        status, headers, body = await caller.get("/api/v2/deals", headers={})
        assert headers["x-401-by-gw"]
        assert loads(body)["errorCode"] == 401
        caller.sim.set(query_token=False)
        assert (await caller.get(f"/api/v2/deals?api_token={token}", headers={}))[0] == 401
        caller.orders.expire_token()
        assert (await caller.get("/api/v2/deals"))[0] == 401
        caller.orders.renew_token()
        assert (await caller.get("/api/v2/deals"))[0] == 200


async def test_oauth() -> None:
    """An access token is taken as Bearer alone, for its hour, and only for what it was granted."""
    async with calling(deals=1, projects=1) as caller:
        caller.orders.use_oauth()
        bearer = {"authorization": f"Bearer {caller.sim.token}"}
        assert (await caller.get("/api/v2/deals", headers=bearer))[0] == 200
        assert (await caller.get("/api/v2/deals"))[0] == 401
        caller.orders.grant(["deals:read"])
        assert await caller.refused("/api/v2/projects", headers=bearer) == (403, "Scope and URL mismatch")
        assert (await caller.get("/api/v2/deals", headers=bearer))[0] == 200
        caller.clock.now += 3600
        assert (await caller.get("/api/v2/deals", headers=bearer))[0] == 401
        assert [entry.type for entry in caller.sim.log] == []
        caller.orders.due()
        assert [entry.type for entry in caller.sim.log] == ["poller.source.suspended"]


async def test_closed_account_and_missing_addon() -> None:
    """A closed account is 402 everywhere; without the add-on only projects are refused, as switched."""
    async with calling(deals=1, projects=1) as caller:
        caller.orders.close_account()
        assert (await caller.refused("/api/v2/deals"))[0] == 402
        caller.orders.reopen_account()
        for mode in ("402", "403", "404"):
            caller.sim.set(projects=mode)
            for path in ("/api/v2/projects", "/api/v2/projects/1", "/v1/projects", "/api/v2/boards"):
                assert (await caller.refused(path))[0] == int(mode)
            assert await caller.ids("/api/v2/deals") == [1]


@pytest.mark.parametrize("mode", ["documented", "html"])
async def test_other_errors(mode: str) -> None:
    """An error can come in the documented envelope, or as HTML."""
    async with calling(errors=mode) as caller:
        status, headers, body = await caller.get("/api/v2/deals/1")
        assert status == 404
        if mode == "html":
            assert headers["content-type"].startswith("text/html")
        else:
            assert loads(body)["data"] is loads(body)["additional_data"] is None


@pytest.mark.parametrize(
    ("path", "cost"),
    [
        ("/api/v2/deals", 10), ("/api/v2/deals/archived", 20), ("/api/v2/deals/1", 1), ("/api/v2/stages", 5),
        ("/api/v2/projects", 10), ("/api/v2/projects/archived", 10), ("/v1/projects", 20),
        ("/v1/users", 20), ("/v1/recents?since_timestamp=2027-01-15%2000:00:00", 20),
        ("/v1/stages/1/deals", 20),
        ("/api/v2/deals?limit=900", 10),
    ],
)  # fmt: skip
async def test_costs(path: str, cost: int) -> None:
    """Each endpoint takes its tokens from the day, and the headers tell what is left."""
    async with calling(deals=1, daily_tokens=1000) as caller:
        headers = (await caller.get(path))[1]
        assert headers["x-daily-ratelimit-token-remaining"] == str(1000 - cost)


async def test_burst_and_what_follows() -> None:
    """Over the burst is 429 until the window has passed; who goes on gets HTML 403 with no word of limits."""
    async with calling(deals=1, burst=2, ban_after=2) as caller:
        answers = [await caller.get("/api/v2/deals/1") for _ in range(5)]
        assert [status for status, _, _ in answers] == [200, 200, 429, 429, 403]
        assert loads(answers[2][2])["errorCode"] == 429
        assert (answers[2][1]["x-ratelimit-remaining"], answers[2][1]["x-ratelimit-reset"]) == ("0", "2")
        assert "retry-after" not in answers[2][1]
        assert answers[4][1]["content-type"].startswith("text/html")
        assert not [name for name in answers[4][1] if "ratelimit" in name.lower()]
        caller.clock.now += 60
        assert (await caller.get("/api/v2/deals/1"))[0] == 200
        caller.sim.set(limit_body="text", retry_after="seconds")
        await caller.get("/api/v2/deals/1")
        _, headers, body = await caller.get("/api/v2/deals/1")
        assert (headers["retry-after"], body) == ("2", b"Too Many Requests\n")


async def test_daily_budget() -> None:
    """When the day's tokens are used up everything is 429 with 0 remaining, until midnight."""
    async with calling(deals=1, daily_tokens=15, burst=40) as caller:
        assert [(await caller.get("/api/v2/deals"))[0] for _ in range(3)] == [200, 200, 429]
        caller.clock.now += 60
        status, headers, _ = await caller.get("/v1/users")
        assert (status, headers["x-daily-ratelimit-token-remaining"]) == (429, "0")
        assert (headers["x-ratelimit-reset"], headers["x-ratelimit-remaining"]) == ("2", "40")
        caller.clock.now = NOON + 43_200
        assert (await caller.get("/api/v2/deals"))[0] == 200


async def test_two_companies() -> None:
    """A token of another company shows its records and spends its tokens."""
    async with calling(deals=2, daily_tokens=10) as caller:
        other = World(
            account="other", token="elsewhere", log=caller.sim.log, first_id=9000, clock=caller.clock
        )
        other.populate(deals=1)
        caller.sim.worlds.append(other)
        assert (await caller.get("/api/v2/deals"))[0] == 200
        assert (await caller.get("/api/v2/deals"))[0] == 429
        _, _, body = await caller.get("/api/v2/deals", headers={"x-api-token": "elsewhere"})
        assert [row["id"] for row in loads(body)["data"]] == [9000]
        (entry,) = Orders(other).win(9000) or Orders(other).lose(9000)
        assert entry.account == "other"


async def admin(caller: Caller, path: str, **given: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        url = caller.sim.admin_url + path
        async with session.post(url, json=given) if given else session.get(url) as answer:
            return answer.status, loads(await answer.read())


async def test_the_admin_port() -> None:
    """Orders with lists, switches with sets, steps, the log and the summary all go through JSON."""
    async with calling(deals=5, projects=5) as caller:
        status, (entry,) = await admin(caller, "/orders/update", deal=1, label_ids=[13], title="By order")
        assert (status, entry["type"], entry["after"]["title"]) == (200, "pipedrive.deal.updated", "By order")
        assert (await admin(caller, "/orders/move_all", deals=[1, 9], stage=2))[1][
            "error"
        ] == "there is no deal 9."
        assert (await admin(caller, "/orders/grant", scopes=["deals:read"])) == (200, [])
        assert (await admin(caller, "/orders/pass_time", days=31)) == (200, [])
        status, switches = await admin(caller, "/switches", untouched=["archive", "merge"], burst=20)
        assert (sorted(switches["untouched"]), switches["burst"]) == (["archive", "merge"], 20)
        assert (await admin(caller, "/switches", untouched=["wins"]))[0] == 400
        assert len((await admin(caller, "/step", n=20))[1]) == 20
        assert len((await admin(caller, "/log"))[1]) == caller.sim.log.seq >= 21
        assert {"merge", "complete_project", "close_account"} <= set((await admin(caller, "/"))[1]["orders"])
