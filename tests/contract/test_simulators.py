"""Every simulator over real HTTP: the wire, the two ports, and each API in its modes."""

import asyncio
import base64
import gzip
import os
import signal
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from clocks import Clock

from poller.model import loads
from poller.simulators import PORTS, SIMULATORS, Options, close, serve
from poller.simulators.drum import Orders, World
from poller.simulators.faults import FAULTS, bomb
from poller.simulators.wire import Asked

OPPORTUNITY_LIST = """
    id name project_number description currency project_type enquiry_date target_date
    estimated_start_date estimated_end_date project_status client team amount lead_score total_budget
    planned"""
OPPORTUNITY_DETAIL = """
    id name project_number description currency project_type enquiry_date target_date due_date
    deal_won_date deal_lost_date estimated_start_date estimated_end_date project_status client team amount
    invoicing_structure lead_score assigned_users total_budget total_invoiced costs_to_date unbilled_costs
    estimated_deposit work_in_progress remaining_cost_to_complete quotes_count invoices_count
    progress_claims_count costs_count opportunity_tags planned deliverables"""
PROJECT_LIST = """
    id name project_number description currency project_type contract_type start_date end_date
    project_status client team total_budget planned"""
PROJECT_DETAIL = """
    id name project_number description currency project_type contract_type budget_type
    progress_claim_mode start_date end_date completed_date project_status client company_id team total_budget
    total_invoiced costs_to_date unbilled_costs work_in_progress remaining_cost_to_complete quotes_count
    invoices_count progress_claims_count costs_count project_tags planned skip_planning deliverables"""
DELIVERABLE = """
    id name description position status billing_type allow_time_tracking percentage_complete currency
    start_date end_date duration budget invoiced_amount total_cost budget_invoiced_percent plan_only
    purchase_number claim_items_count tasks"""
TASK = """
    id name note position item_type status allow_time_tracking active visible currency due_date start_date
    estimated_start_date completed_date budget_type original_quantity_unit original_rate original_duration
    original_total variation_duration variation_total actual_duration actual_total budget total remaining
    budget_used_percentage tracked_times_count costs_count booked_bookings_count resource_type"""


class Caller:
    """Somebody with a token; keeps its connections alive, and unpacks nothing by itself."""

    def __init__(self, sim: Any, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self._session = session

    async def get(
        self, path: str, *, token: str | None = None, base: str = "", **headers: str
    ) -> tuple[int, Any, bytes]:
        secret = self.sim.token if token is None else token
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        url = (base or self.sim.url + "/api/v1") + path
        async with self._session.get(url, headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()

    async def json(self, path: str, **more: Any) -> Any:
        status, _, body = await self.get(path, **more)
        assert status == 200, body
        return loads(body)

    async def admin(self, path: str, **given: Any) -> tuple[int, Any]:
        async with self._session.post(self.sim.admin_url + path, json=given) as answer:
            return answer.status, loads(await answer.read())

    async def crawl(self, path: str, *, items: int = 100) -> list[int]:
        """All ids, page by page, until a page is empty."""
        found: list[int] = []
        for page in range(1, 1000):
            rows = await self.json(f"{path}?items={items}&page={page}")
            if not rows:
                return found
            found += [row["id"] for row in rows]
        raise AssertionError("no end")


@asynccontextmanager
async def calling(kind: str = "drum", **how: Any) -> AsyncIterator[Caller]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        serve(kind, **how) as sim,
        aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
    ):
        yield Caller(sim, session)


def world_of(*, opportunities: int = 0, projects: int = 0, **options: Any) -> World:
    world = World(**options)
    world.populate(opportunities=opportunities, projects=projects)
    return world


# --- what the documents say -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "count", "keys"),
    [
        ("/opportunities", 17, OPPORTUNITY_LIST),
        ("/projects", 14, PROJECT_LIST),
        ("/opportunities/101", 34, OPPORTUNITY_DETAIL),
        ("/projects/42", 30, PROJECT_DETAIL),
    ],
)
async def test_key_sets(path: str, count: int, keys: str) -> None:
    """List and detail views have exactly the keys of the documents' examples, in their order."""
    async with calling() as caller:
        shown = await caller.json(path)
    for record in shown if isinstance(shown, list) else [shown]:
        assert list(record) == keys.split()
        assert len(record) == count


async def test_every_record_has_the_documented_types() -> None:
    """Made-up and lived records have the documents' keys and types, also in what is nested."""
    async with calling(world=world_of(opportunities=30, projects=30)) as caller:
        caller.sim.life.steps(300)
        for plural, detail in (("opportunities", OPPORTUNITY_DETAIL), ("projects", PROJECT_DETAIL)):
            for number in await caller.crawl(f"/{plural}"):
                record = await caller.json(f"/{plural}/{number}")
                assert list(record) == detail.split()
                check_types(record)
                for deliverable in record["deliverables"]:
                    assert list(deliverable) == DELIVERABLE.split()
                    check_types(deliverable)
                    for task in deliverable["tasks"]:
                        assert list(task) == TASK.split()
                        check_types(task)
                places = [deliverable["position"] for deliverable in record["deliverables"]]
                assert places == list(range(1, len(places) + 1))


def check_types(record: dict[str, Any]) -> None:
    for name, value in record.items():
        if name.endswith("_count") or name in {"id", "position", "percentage_complete"}:
            assert type(value) is int, name
        elif name in {"amount", "total_budget", "budget", "remaining", "costs_to_date", "duration"}:
            assert isinstance(value, Decimal), name
        elif name in {"project_status", "client", "team", "lead_score", "resource_type"}:
            assert value is None or {"id", "name"} <= set(value), name
        elif name.endswith("_date") and value is not None:
            assert len(value) in {10, 20}, name


async def test_the_documents_examples() -> None:
    """Records 101, 102, 42 and 43 carry the documents' values, each view its own."""
    async with calling() as caller:
        listed = {row["id"]: row for row in await caller.json("/opportunities")}
        assert sorted(listed) == [101, 102]
        assert listed[101]["description"] == "Implementation of Salesforce CRM for enterprise client"
        assert listed[101]["project_status"] == {
            "id": 2,
            "name": "Proposal Submitted",
            "complete_status": False,
        }
        assert listed[102]["client"] == {"id": 457, "name": "Tech Startup Co", "type": "Company"}
        shown = await caller.json("/opportunities/101")
        assert shown["description"].endswith("with full data migration and training")
        assert shown["assigned_users"] == [
            {"id": 12, "name": "Sarah Johnson"},
            {"id": 18, "name": "Michael Chen"},
        ]
        assert shown["work_in_progress"] == Decimal("-5000.00")
        assert [part["id"] for part in shown["deliverables"]] == [50, 51]
        assert shown["deliverables"][0]["tasks"][1]["resource_type"] == {"id": 9, "name": "Business Analyst"}
        projects = {row["id"]: row for row in await caller.json("/projects")}
        assert projects[43]["team"] == {"id": 3, "name": "Development Team"}
        project = await caller.json("/projects/42")
        assert project["deliverables"][1]["tasks"][1]["budget_used_percentage"] == Decimal("62.5")
        assert project["project_tags"] == ["web-design", "urgent"]


async def test_money_is_written_with_two_places() -> None:
    """Money is a JSON number with two places, hours have one: the bytes say so."""
    async with calling() as caller:
        body = (await caller.get("/opportunities/101"))[2]
    assert b'"amount":250000.00,' in body
    assert b'"duration":40.0,' in body


@pytest.mark.parametrize(
    ("numbers", "written"), [("short", b'"amount":250000.0,'), ("string", b'"amount":"250000.0",')]
)
async def test_other_spellings_of_numbers(numbers: str, written: bytes) -> None:
    """Numbers can also come with no more places than needed, or as strings."""
    async with calling(numbers=numbers) as caller:
        assert written in (await caller.get("/opportunities"))[2]
        assert b"E+" not in (await caller.get("/opportunities/101"))[2]


async def test_one_resource_per_id() -> None:
    """An id answers on exactly one resource: after the win on the other, with its deliverables and tasks."""
    async with calling() as caller:
        before = await caller.json("/opportunities/101")
        assert (await caller.get("/projects/101"))[0] == 404
        caller.sim.orders.win(101)
        assert (await caller.get("/opportunities/101"))[0] == 404
        after = await caller.json("/projects/101")
        assert after["deliverables"] == before["deliverables"]
        assert not {"amount", "lead_score", "deal_won_date"} & set(after)
        assert 101 not in await caller.crawl("/opportunities")
        assert 101 in await caller.crawl("/projects")


async def test_no_changed_since() -> None:
    """There is no updated_since, and no timestamp in any view."""
    async with calling() as caller:
        rows = await caller.json("/opportunities?updated_since=2099-01-01")
        assert len(rows) == 2
        assert not [name for name in await caller.json("/projects/42") if name.endswith("_at")]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("status=2", [101]),
        ("project_status=1", [102]),
        ("lead_score=3&team=2", [102]),
        ("assigned_to=18", [101]),
        ("opportunity_tag_list[]=crm", [101]),
        ("status=99", []),
    ],
)
async def test_filters(query: str, ids: list[int]) -> None:
    """The documented filters narrow the list."""
    async with calling() as caller:
        assert [row["id"] for row in await caller.json(f"/opportunities?{query}")] == ids


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "items", "length"), [(100, "", 20), (100, "&items=250", 100), (20, "&items=100", 20)]
)
async def test_page_sizes(cap: int, items: str, length: int) -> None:
    """A page has 20 rows by default, and never more than the cap, whatever is asked for."""
    async with calling(world=world_of(opportunities=130), items_cap=cap) as caller:
        assert len(await caller.json(f"/opportunities?page=1{items}")) == length
        assert (
            len(await caller.crawl("/opportunities")) == len(set(await caller.crawl("/opportunities"))) == 132
        )


@pytest.mark.parametrize("mode", ["empty", "last", "404", "500"])
async def test_past_the_end(mode: str) -> None:
    """A page after the last is empty, the last page again, a 404 or a 500."""
    async with calling(past_end=mode) as caller:
        status, _, body = await caller.get("/projects?page=3")
        last = (await caller.get("/projects?page=1"))[2]
    expected = {"empty": (200, b"[]"), "last": (200, last)}
    if mode in expected:
        assert (status, body) == expected[mode]
    else:
        assert status == int(mode)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("off", None),
        ("pagy8", ("current-page", "page-items", "total-pages", "total-count")),
        ("pagy9", ("current-page", "page-limit", "total-pages", "total-count")),
        ("renamed", ("x-page", "x-per-page", "x-total-pages", "x-total")),
    ],
)
async def test_pagination_headers(mode: str, names: tuple[str, ...] | None) -> None:
    """The headers count what the list holds, under the names of their version, or are not there."""
    async with calling(world=world_of(opportunities=43), headers=mode) as caller:
        headers = (await caller.get("/opportunities?items=10&page=2"))[1]
    if names is None:
        assert not [name for name in headers if "page" in name.lower() or name.lower() == "link"]
        return
    assert [headers[name] for name in names] == ["2", "10", "5", "45"]
    if mode != "renamed":
        assert 'rel="next"' in headers["link"]
        assert "items=10&page=3" in headers["link"]


async def test_orders_of_the_list() -> None:
    """A list comes by id, by last change, by name, or in another order at each request."""
    async with calling(world=world_of(opportunities=40)) as caller:

        async def ids() -> list[int]:
            return [row["id"] for row in await caller.json("/opportunities?items=100")]

        by_id = await ids()
        assert by_id == sorted(by_id)
        caller.sim.set(sort="updated")
        caller.sim.orders.update(120, name="Touched")
        assert (await ids())[0] == 120
        caller.sim.set(sort="name")
        names = [row["name"] for row in await caller.json("/opportunities?items=100")]
        assert names == sorted(names)
        caller.sim.set(sort="random")
        first, second = await ids(), await ids()
        assert first != second
        assert sorted(first) == sorted(second) == by_id


async def test_drift_between_pages() -> None:
    """With drift the world moves between two pages of a crawl, and the log tells what moved."""
    async with calling(world=world_of(opportunities=200, projects=50), drift=3) as caller:
        await caller.json("/opportunities?page=1")
        assert caller.sim.log.transition == 0
        await caller.json("/opportunities?page=2")
        assert caller.sim.log.transition == 3


async def test_hooks_between_requests() -> None:
    """A test can change the world before an answer is made and after it was sent."""
    async with calling() as caller:

        async def before(asked: Asked) -> None:
            if asked.path.endswith("/opportunities"):
                caller.sim.orders.lose(102)

        async def after(asked: Asked) -> None:
            if asked.path.endswith("/opportunities"):
                caller.sim.orders.archive(101)

        caller.sim.between(before=before, after=after)
        rows = {row["id"]: row for row in await caller.json("/opportunities")}
        assert rows[102]["project_status"]["name"] == "Lost"
        assert 101 in rows
        assert (await caller.get("/opportunities/101"))[0] == 404


# --- tokens, roles and errors ---------------------------------------------------------------------


async def test_refusals_in_their_shapes() -> None:
    """401, 403 and 404 come in the shape of their resource, or in the one that is switched on."""
    async with calling() as caller:
        assert await refusal(caller, "/opportunities", token="") == (401, {"error": "Unauthorized"})
        status, told = await refusal(caller, "/projects", token="wrong")
        assert (status, told["error"]["code"], told["error"]["type"]) == (401, 401, "unauthorized")
        caller.sim.orders.archive_user()
        assert await refusal(caller, "/opportunities") == (403, {"error": "Forbidden"})
        caller.sim.orders.revive_user()
        message = {"message": "Project not found or not accessible", "type": "not_found", "code": 404}
        assert await refusal(caller, "/projects/101") == (404, {"error": message})
        assert await refusal(caller, "/opportunities/42") == (404, {"error": "Not Found"})
        assert await refusal(caller, "/opportunities/nonsense") == (404, {"error": "Not Found"})
        assert (await caller.get("/statuses"))[0] == 404
        caller.sim.set(errors="object")
        assert (await refusal(caller, "/opportunities/42"))[1]["error"]["code"] == 404
        caller.sim.set(errors="string")
        assert (await refusal(caller, "/projects/101"))[1] == {"error": "Not Found"}
        caller.sim.set(errors="html")
        assert (await caller.get("/projects/101"))[2].startswith(b"<html>")


async def refusal(caller: Caller, path: str, **more: Any) -> tuple[int, Any]:
    status, _, body = await caller.get(path, **more)
    return status, loads(body)


async def test_tokens_expire() -> None:
    """An expired token is refused from that moment, and taken again when it is renewed."""
    async with calling() as caller:
        caller.sim.orders.expire_token()
        assert (await caller.get("/projects"))[0] == 401
        caller.sim.orders.renew_token()
        assert (await caller.get("/projects"))[0] == 200
        caller.sim.orders.set_role("no_api")
        assert (await caller.get("/projects"))[0] == 403


@pytest.mark.parametrize("role", ["admin", "manager", "staff"])
async def test_gated_keys_are_absent(role: str) -> None:
    """What a role may not see is absent, not null, in the lists, the details and what is nested."""
    profit = {"work_in_progress", "remaining_cost_to_complete"}
    money = profit | {
        "total_budget",
        "total_invoiced",
        "costs_to_date",
        "unbilled_costs",
        "estimated_deposit",
    }
    hidden = {"admin": set[str](), "manager": profit, "staff": money}[role]
    async with calling() as caller:
        full = await caller.json("/opportunities/101")
        caller.sim.orders.set_role(role)
        shown = await caller.json("/opportunities/101")
        listed = (await caller.json("/opportunities"))[0]
    assert set(full) - set(shown) == hidden & set(full)
    assert ("total_budget" in listed) == (role != "staff")
    assert "amount" in listed
    deliverable, task = shown["deliverables"][0], shown["deliverables"][0]["tasks"][0]
    assert ("budget" in deliverable) == ("original_rate" in task) == (role != "staff")
    assert "tracked_times_count" in task


async def test_roles_gate_visibility() -> None:
    """A role that sees a team's or a user's records only gets 404 for the others, and no rows of them."""
    async with calling() as caller:
        for role, opportunities, projects in (
            ("team", [102], [42]),
            ("assigned", [101], []),
            ("blind", [], []),
        ):
            caller.sim.orders.set_role(role)
            assert [row["id"] for row in await caller.json("/opportunities")] == opportunities
            assert [row["id"] for row in await caller.json("/projects")] == projects
            assert ((await caller.get("/opportunities/101"))[0] == 200) == (101 in opportunities)


async def test_two_tokens_of_one_account() -> None:
    """Each token has its own role at the same time."""
    async with calling() as caller:
        caller.sim.orders.add_token("second", "staff")
        assert "total_budget" not in (await caller.json("/projects", token="second"))[0]
        assert "total_budget" in (await caller.json("/projects"))[0]


async def test_another_account() -> None:
    """A token of another account shows ids that share none with the first, logged under its own name."""
    async with calling() as caller:
        other = world_of(
            opportunities=5,
            account="other",
            token="elsewhere",
            log=caller.sim.log,
            first_id=9000,
            with_examples=False,
        )
        caller.sim.worlds.append(other)
        ids = [row["id"] for row in await caller.json("/opportunities", token="elsewhere")]
        assert ids == [9000, 9001, 9002, 9003, 9004]
        assert (await caller.get("/opportunities/9000"))[0] == 404
        (entry,) = Orders(other).archive(9000)
        assert entry.account == "other"


# --- what people do in it ----------------------------------------------------------------------------


async def test_won_while_still_listed() -> None:
    """With a delay a won opportunity is still listed, with its date; then it becomes a project."""
    async with calling(conversion_after=None) as caller:
        caller.sim.orders.win(101)
        shown = await caller.json("/opportunities/101")
        assert shown["deal_won_date"] == "2025-11-03"
        assert shown["project_status"]["complete_status"] is False
        caller.sim.orders.convert(101)
        assert (await caller.get("/opportunities/101"))[0] == 404


async def test_lost_stays_listed() -> None:
    """A lost opportunity stays in the list; only its detail has the date."""
    async with calling() as caller:
        caller.sim.orders.lose(101)
        row = (await caller.json("/opportunities"))[0]
        assert row["project_status"] == {"id": 7, "name": "Lost", "complete_status": False}
        assert (await caller.json("/opportunities/101"))["deal_lost_date"] == "2025-11-03"


async def test_archived_is_nowhere() -> None:
    """An archived record answers on neither resource until it is restored."""
    async with calling() as caller:
        caller.sim.orders.archive(42)
        assert [(await caller.get(f"/{name}/42"))[0] for name in ("opportunities", "projects")] == [404, 404]
        caller.sim.orders.restore(42)
        assert (await caller.get("/projects/42"))[0] == 200


async def test_rename_shows_everywhere() -> None:
    """A renamed client has its new name wherever it is printed."""
    async with calling() as caller:
        caller.sim.orders.rename("team", 2, "Studio")
        assert (await caller.json("/opportunities"))[1]["team"]["name"] == "Studio"
        assert (await caller.json("/projects/42"))["team"]["name"] == "Studio"


async def test_revisions_of_the_document() -> None:
    """Keys that one revision has and another lacks can be hidden, added or enabled."""
    async with calling(
        hidden_keys=["contract_type"], extra_keys={"colour": "red"}, retention=True, phases=True
    ) as caller:
        project = await caller.json("/projects/42")
        assert "contract_type" not in project
        assert project["colour"] == "red"
        assert "contract_type" not in (await caller.json("/projects"))[0]
        assert {name for name in project if name.startswith("retention_")} == {
            "retention_percent",
            "retention_amount",
            "retention_withheld",
            "retention_released",
            "retention_outstanding",
        }
        assert project["deliverables"][0]["project_phase_id"] is None


async def test_lists_within_a_record_can_be_shuffled() -> None:
    """People come in another order after a change, and the log does not count that as one."""
    async with calling(shuffled=True) as caller:
        orders = set()
        for name in ("One", "Two"):
            (entry,) = caller.sim.orders.update(101, name=name)
            assert entry.changed == ("name",)
            shown = await caller.json("/opportunities/101")
            orders.add(tuple(user["id"] for user in shown["assigned_users"]))
        assert orders == {(12, 18), (18, 12)}


# --- the wire -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "seconds", "date"])
async def test_limiter(mode: str) -> None:
    """The request above the limit gets 429 as plain text until the window ends, as Retry-After may say."""
    clock = Clock(1_800_000_100.0)
    how = {"options": Options(clock=clock), "limit": 2, "limit_period_s": 300, "retry_after": mode}
    async with calling(**how) as caller:
        assert [(await caller.get("/projects"))[0] for _ in range(2)] == [200, 200]
        status, headers, body = await caller.get("/projects")
        assert (status, body, headers["content-type"]) == (429, b"Retry later\n", "text/plain")
        if mode == "none":
            assert "retry-after" not in headers
        elif mode == "seconds":
            assert headers["retry-after"] == "200"
        else:
            assert parsedate_to_datetime(headers["retry-after"]).timestamp() == 1_800_000_300
        clock.now = 1_800_000_300.0
        assert (await caller.get("/projects"))[0] == 200


async def test_etags() -> None:
    """With ETags an unchanged answer is 304 without a body; a changed one is sent."""
    async with calling(etag=True) as caller:
        tag = (await caller.get("/projects"))[1]["etag"]
        assert tag.startswith('W/"')
        status, _, body = await caller.get("/projects", **{"if-none-match": tag})
        assert (status, body) == (304, b"")
        caller.sim.orders.update(42, name="Other")
        assert (await caller.get("/projects", **{"if-none-match": tag}))[0] == 200
        caller.sim.set(etag=False)
        assert "etag" not in (await caller.get("/projects"))[1]


async def test_compression() -> None:
    """Callers who accept gzip get it, if it is switched on."""
    async with calling(gzip=True) as caller:
        plain = (await caller.get("/projects", **{"accept-encoding": "identity"}))[2]
        _, headers, packed = await caller.get("/projects", **{"accept-encoding": "gzip"})
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed) == plain


async def test_latency_surrounds_the_answer() -> None:
    """With latency the answer is made between the start and the end of the request, and both are logged."""
    async with calling(latency_s=0.02) as caller:
        await caller.json("/projects")
        (asked,) = caller.sim.requests
        assert asked.end - asked.start >= 0.015
        assert (asked.method, asked.path, asked.status, asked.seq) == ("GET", "/api/v1/projects", 200, 0)


async def test_requests_are_logged_with_the_truth() -> None:
    """Each request says at which point of the truth log it was answered."""
    async with calling() as caller:
        await caller.json("/projects?page=1")
        caller.sim.orders.win(101)
        await caller.get("/projects/9")
        first, second = caller.sim.requests
        assert (first.query, first.seq, first.status) == ("page=1", 0, 200)
        assert (second.seq, second.status, second.number) == (2, 404, 2)
        assert 0 < first.start <= first.end <= second.start


def _json_fails(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(body)


ANSWERS: dict[str, Callable[[int, Any, bytes], None]] = {}


def answers(fault: str) -> Callable[[Callable[[int, Any, bytes], None]], Callable[[int, Any, bytes], None]]:
    def keep(check: Callable[[int, Any, bytes], None]) -> Callable[[int, Any, bytes], None]:
        ANSWERS[fault] = check
        return check

    return keep


@answers("http502")
@answers("http500")
@answers("html200")
def _is_html(status: int, headers: Any, body: bytes) -> None:
    assert status in {502, 500, 200}
    assert headers["content-type"].startswith("text/html")
    _json_fails(body)


@answers("http503")
def _is_503(status: int, headers: Any, body: bytes) -> None:
    assert (status, headers["retry-after"]) == (503, "1")


@answers("truncated")
def _is_truncated(status: int, headers: Any, body: bytes) -> None:
    assert (status, body[:1]) == (200, b"[")
    _json_fails(body)


@answers("empty")
def _is_empty(status: int, headers: Any, body: bytes) -> None:
    assert (status, body) == (200, b"[]")


@answers("object")
def _is_object(status: int, headers: Any, body: bytes) -> None:
    assert isinstance(loads(body), dict)


@answers("wrong_types")
def _is_mistyped(status: int, headers: Any, body: bytes) -> None:
    assert [row["id"] for row in loads(body)] == ["one hundred"] * 2


@answers("huge")
def _is_huge(status: int, headers: Any, body: bytes) -> None:
    assert len(body) >= 1 << 20
    assert "content-length" not in headers


@answers("gzip_bomb")
def _is_bomb(status: int, headers: Any, body: bytes) -> None:
    assert headers["content-encoding"] == "gzip"
    assert loads(gzip.decompress(body)) == []
    assert len(gzip.decompress(body)) >= 1 << 20 > 100 * len(body)


@answers("gzip_twice")
def _is_bomb_twice(status: int, headers: Any, body: bytes) -> None:
    assert headers["content-encoding"] == "gzip, gzip"
    assert gzip.decompress(body) == bomb(1 << 20)


@pytest.mark.parametrize("fault", sorted(ANSWERS))
async def test_faults_that_answer(fault: str) -> None:
    """Each fault is sent as what it claims to be, once, and the next answer is right again."""
    async with calling(fault_size=1 << 20) as caller:
        caller.sim.fail_next(fault)
        ANSWERS[fault](*await caller.get("/projects"))
        assert [asked.fault for asked in caller.sim.requests] == [fault]
        assert (await caller.get("/projects"))[0] == 200


@asynccontextmanager
async def bare(caller: Caller) -> AsyncIterator[asyncio.StreamReader]:
    """A bare socket that asks once: clients ask again by themselves when a connection breaks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(caller.sim.url.rsplit(":", 1)[1]))
    head = f"GET /api/v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {caller.sim.token}"
    writer.write(head.encode() + b"\r\n\r\n")
    async with asyncio.timeout(5):
        yield reader
    writer.close()


async def test_connection_reset() -> None:
    """A reset comes instead of an answer, and only that connection is lost."""
    async with calling() as caller:
        caller.sim.fail_next("reset")
        async with bare(caller) as reader:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert [asked.status for asked in caller.sim.requests] == [0]
        assert (await caller.get("/projects"))[0] == 200


async def test_connection_cut() -> None:
    """A cut connection ends in good order with less than was announced."""
    async with calling() as caller:
        caller.sim.fail_next("cut")
        async with bare(caller) as reader:
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        announced = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        assert 0 < len(body) < int(announced.split(b":")[1])
        assert (await caller.get("/projects"))[0] == 200


async def test_hanging_request_delays_nothing() -> None:
    """A request that hangs neither holds the others up nor the end of the simulator."""
    arrived = asyncio.Event()

    async def note(asked: Asked) -> None:
        arrived.set()

    async with calling() as caller:
        caller.sim.fail_next("hang", path="/projects")
        caller.sim.between(before=note)
        hanging = asyncio.create_task(caller.get("/projects"))
        async with asyncio.timeout(5):
            await arrived.wait()
        assert (await caller.get("/opportunities"))[0] == 200
        assert not hanging.done()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_every_fault_is_covered() -> None:
    """No fault is without a test here."""
    assert set(ANSWERS) | {"reset", "cut", "hang"} == set(FAULTS)


async def test_faults_by_chance_are_seeded() -> None:
    """At a rate, the same seed spoils the same requests; only those whose path is named."""

    async def spoilt() -> list[str]:
        async with calling(faults=["http500", "empty"], fault_rate=0.4, fault_path="/projects") as caller:
            for _ in range(20):
                await caller.get("/projects")
                assert (await caller.get("/opportunities"))[0] == 200
            return [asked.fault for asked in caller.sim.requests]

    first = await spoilt()
    assert first == await spoilt()
    assert 4 <= len([fault for fault in first if fault]) <= 14


def test_bomb_is_valid_gzip() -> None:
    """The bomb unpacks without an error to a JSON array, a thousand times its size."""
    packed = bomb(8 << 20)
    plain = zlib.decompress(packed, zlib.MAX_WBITS | 16)
    assert loads(plain) == []
    assert len(plain) == (8 << 20) + 2
    assert len(packed) < 16 << 10


# --- the admin port --------------------------------------------------------------------------------------


async def test_orders_over_the_admin_port() -> None:
    """Orders are given by name, and answered with what they left in the log."""
    async with calling() as caller:
        status, entries = await caller.admin("/orders/update", record=101, amount="300000.00")
        assert status == 200
        assert entries[0]["type"] == "drum.opportunity.updated"
        assert entries[0]["after"] == {"amount": Decimal("300000.00")}
        assert (await caller.json("/opportunities"))[0]["amount"] == Decimal("300000.00")
        assert [entry["type"] for entry in (await caller.admin("/orders/win", record=101))[1]] == [
            "drum.opportunity.won",
            "drum.project.created",
        ]
        log = await caller.json("/log?after=1", base=caller.sim.admin_url)
        assert [entry["seq"] for entry in log] == [2, 3]


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("/orders/sell", {}, "there is no order sell"),
        ("/orders/win", {"record": 5}, "there is no record 5"),
        ("/orders/win", {"deal": 5}, "the order win does not take that"),
        ("/switches", {"sort": "size"}, "sort"),
        ("/switches", {"colour": "red"}, "colour"),
        ("/faults", {"fault": "flood"}, "no such fault: flood. There are: http502"),
        ("/step", {"n": 0}, "n is 0"),
    ],
)
async def test_bad_orders_are_explained(path: str, given: dict[str, Any], message: str) -> None:
    """What cannot be done is answered with 400 and the reason, and changes nothing."""
    async with calling() as caller:
        status, told = await caller.admin(path, **given)
        assert status == 400
        assert message in told["error"]
        assert len(caller.sim.log) == 0


async def test_the_rest_of_the_admin_port() -> None:
    """Switches, steps, faults and the log of requests are there too; nothing of it on the API's port."""
    async with calling() as caller:
        assert (await caller.admin("/switches", items_cap=1))[1]["items_cap"] == 1
        assert len(await caller.json("/projects")) == 1
        assert len((await caller.admin("/step", n=5))[1]) == 5
        assert caller.sim.log.transition == 5
        await caller.admin("/faults", fault="http502", times=2)
        assert [(await caller.get("/projects"))[0] for _ in range(3)] == [502, 502, 200]
        requests = await caller.json("/requests?after=2", base=caller.sim.admin_url)
        assert [asked["fault"] for asked in requests] == ["http502", ""]
        assert "win" in (await caller.json("/", base=caller.sim.admin_url))["orders"]
        assert (await caller.json("/switches", base=caller.sim.admin_url))["items_cap"] == 1
        assert (await caller.get("/log", base=caller.sim.url))[0] == 404


async def test_delayed_conversion_by_orders() -> None:
    """A delay counts the transitions of the orders too."""
    async with calling(conversion_after=1) as caller:
        caller.sim.order("win", record=101)
        entries = caller.sim.order("update", record=102, name="Next")
        assert [entry.type for entry in entries] == ["drum.opportunity.updated", "drum.project.created"]


# --- Close -------------------------------------------------------------------------------------------------

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


# --- every simulator ----------------------------------------------------------------------------------------

ENTRANCES = {
    "drum": ("/api/v1/opportunities", "authorization", "Bearer {}"),
    "close": ("/api/v1/opportunity/", "authorization", "Bearer {}"),
    "pipedrive": ("/api/v2/deals", "x-api-token", "{}"),
}
"""The first list of each kind, and how one shows one's token there."""


async def entered(caller: Caller, kind: str, token: str | None = None) -> tuple[int, Any, bytes]:
    path, header, form = ENTRANCES[kind]
    shown = form.format(caller.sim.token if token is None else token)
    return await caller.get(path, token="", base=caller.sim.url, **{header: shown})


def test_every_simulator_has_an_entrance() -> None:
    """No simulator is left out of what follows."""
    assert set(ENTRANCES) == set(SIMULATORS) == set(PORTS)


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_strangers_are_refused(kind: str) -> None:
    """The token that the simulator names is taken, any other is 401, and so is the main one once expired."""
    async with calling(kind, options=Options(records=8)) as caller:
        assert (await entered(caller, kind))[0] == 200
        assert (await entered(caller, kind, "wrong"))[0] == 401
        caller.sim.order("expire_token")
        assert (await entered(caller, kind))[0] == 401
        caller.sim.order("renew_token")
        assert (await entered(caller, kind))[0] == 200
        types = [entry.type for entry in caller.sim.log]
        assert types == ["poller.source.suspended", "poller.source.resumed"]


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_requests_stand_beside_the_truth(kind: str) -> None:
    """Each request says which entries of the log its answer shows."""
    async with calling(kind, options=Options(records=40)) as caller:
        for _ in range(5):
            before = (await entered(caller, kind))[2]
            caller.sim.life.steps(40)
            assert (await entered(caller, kind))[2] != before
            assert caller.sim.requests[-1].seq == caller.sim.log.seq > caller.sim.requests[-2].seq


@pytest.mark.parametrize(
    "fault", sorted(set(FAULTS) - {"reset", "cut", "hang", "huge", "gzip_bomb", "gzip_twice"})
)
@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_faults_spoil_every_api(kind: str, fault: str) -> None:
    """A fault spoils the one answer that it was meant for, in any API; a list that is emptied has an end."""
    async with calling(kind, options=Options(records=8)) as caller:
        right = (await entered(caller, kind))[2]
        caller.sim.fail_next(fault)
        status, _, body = await entered(caller, kind)
        assert body != right
        if fault == "empty":
            told = loads(body)
            assert (status, told if isinstance(told, list) else told["data"]) == (200, [])
        assert (await entered(caller, kind))[2] == right


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_the_same_seed_is_the_same_world(kind: str) -> None:
    """Two simulators of one seed and clock print the same bytes after the same steps."""

    async def printed() -> tuple[bytes, list[str]]:
        options = Options(records=30, seed=4, clock=Clock(1_800_000_000.0))
        async with calling(kind, options=options) as caller:
            caller.sim.life.steps(60)
            return (await entered(caller, kind))[2], [entry.subject for entry in caller.sim.log]

    assert await printed() == await printed()


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_lives_at_a_pace(kind: str) -> None:
    """At a pace the world moves by itself while it is served, and stops with it."""
    async with serve(kind, options=Options(records=40), pace=2_000) as sim:
        async with asyncio.timeout(10):
            while sim.log.transition < 50:
                await aiohttp_get(sim.admin_url + "/")
        assert sim.log.seq >= 50
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def aiohttp_get(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


async def test_unknown_kind() -> None:
    """A kind that is not there is refused by name."""
    with pytest.raises(ValueError, match="there is no simulator salesforce"):
        async with serve("salesforce"):
            pass


async def test_taken_port() -> None:
    """A port that is taken is an error at once."""
    async with serve("drum") as sim:
        port = int(sim.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="in use"):
            async with serve("drum", port=port):
                pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_runs_until_it_is_told(kind: str, number: signal.Signals) -> None:
    """`simulate` says first where it is and with which token, and ends cleanly when it is told."""
    how = f"{kind!r}, port=0, admin_port=0, pace=20, records=20"
    code = f"from poller.simulators import simulate; simulate({how})"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
        assert line.startswith(f"{kind} at http://127.0.0.1:")
        assert "token " in line
        process.send_signal(number)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
