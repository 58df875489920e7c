"""Close simulated, over real HTTP: lists in envelopes, its event log, its limits, and each of its modes."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from calling import Caller, calling
from clocks import Clock

from poller.model import loads
from poller.simulators import Options, close
from poller.simulators.wire import Asked

CLOSE_OPPORTUNITY = """
    id organization_id lead_id lead_name contact_id contact_name user_id user_name status_id status_label
    status_type status_display_name pipeline_id pipeline_name note value value_currency value_formatted
    value_period confidence expected_value annualized_value annualized_expected_value date_won date_lost
    date_created date_updated created_by created_by_name updated_by updated_by_name integration_links
    attachments is_stalled stall_status suggested_action"""
ASCENDING = "/opportunity/?_order_by=date_updated"


@asynccontextmanager
async def closing(*, opportunities: int = 0, **how: Any) -> AsyncIterator[Caller]:
    """A caller of a Close with that many opportunities beside the example."""
    world = close.World()
    world.populate(opportunities=opportunities)
    async with calling("close", world=world, **how) as caller:
        yield caller


async def ascending(caller: Caller, *, limit: int = 100, query: str = "") -> list[dict[str, Any]]:
    """The recommended crawl: by date_updated, page after page while there is more."""
    rows: list[dict[str, Any]] = []
    for skip in range(0, 100_000, limit):
        page = await caller.json(f"{ASCENDING}&_limit={limit}&_skip={skip}{query}")
        rows += page["data"]
        if not page["has_more"]:
            return rows
    raise AssertionError("no end")


def basic(name: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


async def test_close_opportunity() -> None:
    """List and single answer print the same keys and values: cents, milliseconds, a hoped-for date_won."""
    async with closing(opportunities=20) as caller:
        listed = {row["id"]: row for row in (await caller.json("/opportunity/"))["data"]}
        for record, row in listed.items():
            custom = [name for name in row if name.startswith("custom.cf_")]
            assert list(row) == [*CLOSE_OPPORTUNITY.split(), *custom]
            assert await caller.json(f"/opportunity/{record}/") == row
        example = listed[close.EXAMPLE]
        assert (example["value"], example["expected_value"], example["value_formatted"]) == (100, 75, "$1")
        assert (example["status_type"], example["date_won"]) == ("active", "2024-02-07")
        assert example["date_updated"] == "2024-02-05T17:00:47.476000+00:00"


async def test_close_keys() -> None:
    """The key is the name of Basic with an empty password, or a Bearer; anything else is 401."""
    async with closing() as caller:
        key = caller.sim.token
        wrong = (basic(key, "secret"), basic("api_other"), "Basic !", "Bearer other", f"Token {key}", "")
        good = (basic(key), f"Bearer {key}")
        for given in (*good, *wrong):
            status, headers, body = await caller.get("/pipeline/", token="", authorization=given)
            assert status == (200 if given in good else 401)
            assert "ratelimit" in headers
            assert ("data" in loads(body)) == (given in good)
        assert "error" in loads((await caller.get("/pipeline/", token=""))[2])


@pytest.mark.parametrize(
    ("order", "status"), [("expire_token", 401), ("lapse_plan", 402), ("deactivate_user", 403)]
)
async def test_close_refusals(order: str, status: int) -> None:
    """A key that is over, unpaid or whose user is inactive is refused with JSON."""
    async with closing() as caller:
        caller.sim.order(order)
        got, _, body = await caller.get("/opportunity/")
        assert got == status
        assert isinstance(loads(body)["error"], str)


async def test_close_crawl() -> None:
    """The recommended crawl reads every opportunity once, oldest change first; totals are of all pages."""
    async with closing(opportunities=230) as caller:
        rows = await ascending(caller, limit=50)
        assert {row["id"] for row in rows} == set(caller.sim.world.rows)
        stamps = [row["date_updated"] for row in rows]
        assert stamps == sorted(stamps)
        first = await caller.json("/opportunity/?_limit=1")
        assert (len(first["data"]), first["has_more"], first["total_results"]) == (1, True, 231)
        assert len((await caller.json("/opportunity/"))["data"]) == 100


async def test_close_caps() -> None:
    """Above the caps of _limit and _skip there is 400, which names max_skip; one goes on by the date."""
    async with closing(opportunities=40, limit_cap=10, skip_cap=20) as caller:
        for query, text in (("_limit=11", "max_limit = 10"), ("_skip=21", "max_skip = 20")):
            status, _, body = await caller.get(f"/opportunity/?{query}")
            assert status == 400
            assert text in loads(body)["error"]
        pages = [await caller.json(f"{ASCENDING}&_limit=10&_skip={skip}") for skip in (0, 10, 20)]
        last = pages[-1]["data"][-1]["date_updated"].replace("+", "%2B")
        more = await caller.json(f"{ASCENDING}&_limit=10&date_updated__gte={last}")
        assert more["data"][0]["id"] == pages[-1]["data"][-1]["id"]
        assert more["total_results"] == 41 - 29


async def test_close_bad_values() -> None:
    """A value that cannot be read is 400 with the field's name; so is the plus of an offset left as it is."""
    async with closing() as caller:
        for name, value in (("_limit", "ten"), ("date_updated__gte", "2024-01-01T00:00:00+00:00")):
            status, _, body = await caller.get(f"/opportunity/?{name}={value}")
            assert status == 400
            assert list(loads(body)["field-errors"]) == [name]
        escaped = "/opportunity/?date_updated__gte=2024-01-01T00%3A00%3A00%2B00%3A00"
        assert (await caller.json(escaped))["total_results"] == 1


async def test_close_paths_and_fields() -> None:
    """Paths end in a slash, only GET is served, `_fields` picks keys in lists and single answers."""
    async with closing() as caller:
        for path in ("/opportunity", f"/opportunity/{close.EXAMPLE}", "/lead/", "/opportunity/oppo_x/"):
            status, _, body = await caller.get(path)
            assert (status, list(loads(body))) == (404, ["error"])
        fields = "?_fields=id,date_updated,nonsense"
        assert list((await caller.json(f"/opportunity/{fields}"))["data"][0]) == ["id", "date_updated"]
        assert list(await caller.json(f"/opportunity/{close.EXAMPLE}/{fields}")) == ["id", "date_updated"]
        async with aiohttp.ClientSession() as session:
            answer = await session.post(caller.sim.url + "/api/v1/opportunity/")
            assert answer.status == 405


async def test_close_deleted() -> None:
    """A deleted opportunity is in no list, 404 by its id, and in the event log, whose moments are naive."""
    async with closing(opportunities=3) as caller:
        caller.sim.orders.delete(close.EXAMPLE)
        assert close.EXAMPLE not in {row["id"] for row in await ascending(caller)}
        assert (await caller.get(f"/opportunity/{close.EXAMPLE}/"))[0] == 404
        log = await caller.json("/event/?object_type=opportunity&action=deleted")
        (event,) = log["data"]
        assert (event["object_id"], event["previous_data"]["value"]) == (close.EXAMPLE, 100)
        assert event["date_updated"].endswith("000")
        assert log["cursor_next"] is None
        caller.sim.set(event_dates="offset")
        (event,) = (await caller.json("/event/"))["data"]
        assert event["date_updated"].endswith("000+00:00")


async def test_close_event_pages() -> None:
    """Never more than 50 events at once, whatever _limit says; the cursor goes on, _skip does not."""
    async with closing(opportunities=120) as caller:
        for record in list(caller.sim.world.rows):
            caller.sim.orders.delete(record)
        path = "/event/?object_type=opportunity&action=deleted&_limit=100"
        first = await caller.json(path)
        assert len(first["data"]) == 50
        assert (await caller.json(path + "&_skip=50"))["data"] == first["data"]
        seen, cursor = [event["object_id"] for event in first["data"]], first["cursor_next"]
        while cursor:
            page = await caller.json(f"{path}&_cursor={cursor}")
            seen += [event["object_id"] for event in page["data"]]
            cursor = page["cursor_next"]
        assert len(seen) == len(set(seen)) == 121
        for query in ("_cursor=nonsense", "request_id=a&user_id=b", "date_updated__gte=soon"):
            assert (await caller.get(f"/event/?{query}"))[0] == 400
        assert (await caller.json("/event/?date_updated__lt=2020-01-01"))["data"] == []


async def test_close_limits() -> None:
    """Every reply tells how one stands in its endpoint group; over the limit there is 429 with the header."""
    clock = Clock(1_800_000_001.0)
    options = Options(clock=clock)
    async with calling("close", options=options, rate_limit=3, rate_window_s=10) as caller:
        for path, status in (("/opportunity/", 200), ("/opportunity/?_skip=x", 400)):
            got, headers, _ = await caller.get(path)
            assert got == status
        assert headers["ratelimit"] == "limit=3, remaining=1, reset=9"
        await caller.get("/opportunity/")
        status, headers, body = await caller.get("/opportunity/")
        assert (status, headers["ratelimit"]) == (429, "limit=3, remaining=0, reset=9")
        assert "error" in loads(body)
        assert (await caller.get("/event/"))[0] == 200
        assert (await caller.get("/opportunity/oppo_x/"))[0] == 404
        assert [asked.status for asked in caller.sim.requests] == [200, 400, 200, 429, 200, 404]
        clock.now = 1_800_000_010.0
        assert (await caller.get("/opportunity/"))[0] == 200


async def test_close_drift() -> None:
    """A change between pages moves a read row to the end: by `_skip` another is missed, by date none is."""
    async with closing(opportunities=100) as caller:

        async def touch(asked: Asked) -> None:
            if asked.number > 1:
                caller.sim.orders.update(read[asked.number], note="again")

        read = [row["id"] for row in await ascending(caller)]
        caller.sim.between(before=touch)
        by_skip = [row["id"] for row in await ascending(caller, limit=10)]
        assert set(by_skip) < set(read)
        by_date, last, ended = set[str](), "1970-01-01", False
        while not ended:
            page = await caller.json(f"{ASCENDING}&_limit=10&date_updated__gte={last.replace('+', '%2B')}")
            by_date |= {row["id"] for row in page["data"]}
            last, ended = page["data"][-1]["date_updated"], not page["has_more"]
        assert by_date == set(read)
    async with closing(opportunities=100, drift=2) as caller:
        await ascending(caller, limit=20)
        assert caller.sim.log.transition >= 8


async def test_close_replica_lag() -> None:
    """With a replica lag the list shows the old while the id answers with the new."""
    async with closing(opportunities=2, replica_lag=1) as caller:
        caller.sim.orders.update(close.EXAMPLE, value=777)
        listed = {row["id"]: row["value"] for row in await ascending(caller)}
        assert (listed[close.EXAMPLE], (await caller.json(f"/opportunity/{close.EXAMPLE}/"))["value"]) == (
            100,
            777,
        )
        caller.sim.order("catch_up")
        assert 777 in {row["value"] for row in await ascending(caller)}


async def test_close_names() -> None:
    """Statuses tell their type, pipelines hold them and print naive moments; a rename shows in all."""
    async with closing() as caller:
        statuses = {one["id"]: one for one in (await caller.json("/status/opportunity/"))["data"]}
        assert {one["type"] for one in statuses.values()} == {"active", "won", "lost"}
        pipelines = (await caller.json("/pipeline/"))["data"]
        assert {one["id"] for each in pipelines for one in each["statuses"]} == set(statuses)
        assert pipelines[0]["date_created"].endswith("000")
        status = (await caller.json(f"/opportunity/{close.EXAMPLE}/"))["status_id"]
        caller.sim.order("rename", table="status", key=status, name="Shown")
        assert (await caller.json(f"/opportunity/{close.EXAMPLE}/"))["status_label"] == "Shown"
        assert "Shown" in str(await caller.json("/pipeline/"))
        assert "Shown" in str(await caller.json("/status/opportunity/"))


async def test_close_zone_of_the_caller() -> None:
    """A moment without an offset is read in the zone of x-tz-offset; with one it is not."""
    async with closing() as caller:
        path = "/opportunity/?date_updated__gte=2024-02-05T18:00:00"
        assert (await caller.json(path))["total_results"] == 0
        assert (await caller.json(path, **{"x-tz-offset": "2"}))["total_results"] == 1
        assert (await caller.json(path + "Z", **{"x-tz-offset": "2"}))["total_results"] == 0


async def test_close_history() -> None:
    """The history of status changes holds what people imported beside what happened."""
    async with closing() as caller:
        caller.sim.orders.win(close.EXAMPLE)
        path = "/activity/status_change/opportunity/"
        (true,) = (await caller.json(path))["data"]
        assert (true["new_status_type"], true["opportunity_id"]) == ("won", close.EXAMPLE)
        caller.sim.order(
            "import_status_change",
            record=close.EXAMPLE,
            old=true["new_status_id"],
            new=true["old_status_id"],
            days_ago=2,
        )
        assert (await caller.json(path))["data"][0]["id"] == true["id"]
        since = true["date_created"].replace("+", "%2B")
        assert len((await caller.json(f"{path}?date_created__gte={since}"))["data"]) == 1
        assert (await caller.json(f"{path}?opportunity_id=oppo_x"))["data"] == []
        assert (await caller.json(f"/opportunity/{close.EXAMPLE}/"))["status_type"] == "won"


async def test_close_other_account() -> None:
    """A key of another organization shows that organization alone."""
    async with closing(opportunities=5) as caller:
        other = close.World(account="other", token="api_other", log=caller.sim.log, with_examples=False)
        other.populate(opportunities=3)
        caller.sim.worlds.append(other)
        rows = (await caller.json("/opportunity/", token="api_other"))["data"]
        assert {row["id"] for row in rows} == set(other.rows)
        assert not {row["id"] for row in rows} & set(caller.sim.world.rows)


async def test_close_faults_keep_the_envelope() -> None:
    """Faults that spoil a list spoil it in Close's own shape."""
    async with closing(opportunities=2, fault_size=1 << 16) as caller:
        caller.sim.fail_next("empty")
        emptied = await caller.json("/opportunity/")
        assert (emptied["data"], emptied["has_more"], emptied["total_results"]) == ([], False, 3)
        caller.sim.fail_next("wrong_types")
        for row in (await caller.json("/opportunity/"))["data"]:
            assert (row["id"], row["confidence"]) == (7, "one hundred")
        caller.sim.fail_next("huge")
        body = (await caller.get("/opportunity/"))[2]
        assert len(body) >= 1 << 16
        assert len(loads(body)["data"]) > 10


async def test_close_orders_over_the_admin_port() -> None:
    """Orders for Close are given by name, switches with their types, and what is wrong is explained."""
    async with closing() as caller:
        status, entries = await caller.admin("/orders/win", record=close.EXAMPLE)
        assert (status, [entry["type"] for entry in entries]) == (200, ["close.opportunity.won"])
        assert (await caller.admin("/switches", quiet=["merge"]))[1]["quiet"] == ["merge"]
        status, told = await caller.admin("/switches", quiet=["noise"])
        assert (status, "quiet" in told["error"]) == (400, True)
        assert "merge_leads" in (await caller.json("/", base=caller.sim.admin_url))["orders"]
        assert (await caller.admin("/orders/pass_time", days=40))[1] == []
