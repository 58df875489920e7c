"""Drum simulated, over real HTTP: the documents' views, pages, roles, errors, and each of its modes."""

from decimal import Decimal
from typing import Any

import pytest
from calling import Caller, calling

from poller.model import loads
from poller.simulators.drum import Orders, World
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


async def test_delayed_conversion_by_orders() -> None:
    """A delay counts the transitions of the orders too."""
    async with calling(conversion_after=1) as caller:
        caller.sim.order("win", record=101)
        entries = caller.sim.order("update", record=102, name="Next")
        assert [entry.type for entry in entries] == ["drum.opportunity.updated", "drum.project.created"]
