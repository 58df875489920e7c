"""Drum: opportunities and projects, two lists of one table, with no timestamps and no order.

From the two documents of the API and what public material adds to them (facts.md §1): pages until one is
empty, repeats, or brings no new id; an id answers on one of the two resources; only the detail view has
`deal_won_date` and `deal_lost_date`, which Drum sets when a status of that type is reached.
"""

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from poller.errors import BadAnswer, Unreachable
from poller.watch.diff import Diff, Shape
from poller.watch.events import Known
from poller.watch.upstream import Answer, Ticket, Upstream

from .base import Account, Child, Judgement, Kind, Missing, Page, Reading, decoded, split

API = "/api/v1"
MOST_PAGES = 10_000
"""Longer than any account's list: a server that never ends its list is not believed."""

Money = Decimal | str | None


class _Thing(BaseModel):
    """Unknown keys are kept, documented ones may be missing (facts.md §1.11, traps 8 and 21)."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, arbitrary_types_allowed=True)


class Ref(_Thing):
    """What a record points at."""

    id: int | None = None
    name: str | None = None


class Status(Ref):
    """A project or sales status; whether it means won or lost is not shown."""

    complete_status: bool | None = None


class Client(Ref):
    """Company, or BusinessOverhead for internal work."""

    type: str | None = None


class Task(_Thing):
    """One work item of a deliverable."""

    id: int
    name: str | None = None
    note: str | None = None
    position: int | None = None
    item_type: str | None = None
    status: str | None = None
    active: bool | None = None
    visible: bool | None = None
    due_date: str | None = None
    start_date: str | None = None
    estimated_start_date: str | None = None
    completed_date: str | None = None
    budget: Money = None
    total: Money = None
    remaining: Money = None
    resource_type: Ref | None = None


class Deliverable(_Thing):
    """One phase or work package."""

    id: int
    name: str | None = None
    description: str | None = None
    position: int | None = None
    status: str | None = None
    billing_type: str | None = None
    percentage_complete: int | None = None
    start_date: str | None = None
    end_date: str | None = None
    duration: Money = None
    budget: Money = None
    tasks: list[Task] | None = None


class _Work(_Thing):
    id: int
    name: str | None = None
    description: str | None = None
    project_number: str | None = None
    currency: str | None = None
    project_status: Status | None = None
    client: Client | None = None
    team: Ref | None = None
    total_budget: Money = None
    planned: bool | None = None
    deliverables: list[Deliverable] | None = None


class Opportunity(_Work):
    """A deal in the pipeline."""

    project_type: str | None = "opportunity"
    enquiry_date: str | None = None
    target_date: str | None = None
    due_date: str | None = None
    deal_won_date: str | None = None
    deal_lost_date: str | None = None
    estimated_start_date: str | None = None
    estimated_end_date: str | None = None
    amount: Money = None
    lead_score: Ref | None = None
    invoicing_structure: str | None = None
    assigned_users: list[Ref] | None = None
    opportunity_tags: list[str] | None = None


class Project(_Work):
    """A won deal, or internal work."""

    project_type: str | None = "project"
    contract_type: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    completed_date: str | None = None
    project_tags: list[str] | None = None


_WORK_NUMBERS = frozenset(
    "total_budget total_invoiced costs_to_date unbilled_costs work_in_progress "
    "remaining_cost_to_complete".split()
)
_COUNTERS = frozenset("quotes_count invoices_count progress_claims_count costs_count".split())
_COMPUTED = _WORK_NUMBERS - {"total_budget"}
_REFS = {"project_status": "status", "client": "client", "team": "team"}
_RETENTION = frozenset(f"retention_{x}" for x in ("percent", "amount", "withheld", "released", "outstanding"))
_TASK_COMPUTED = frozenset(
    "actual_duration actual_total remaining budget_used_percentage tracked_times_count costs_count "
    "booked_bookings_count".split()
)
_DELIVERABLE_COMPUTED = frozenset(
    "invoiced_amount total_cost budget_invoiced_percent claim_items_count".split()
)


def _opportunity_verdict(diff: Diff) -> str:
    return "status_changed" if "project_status" in diff.changed else "updated"


def _project_verdict(diff: Diff) -> str:
    if "project_status" not in diff.changed:
        return "updated"
    before = (diff.previous["project_status"] or {}).get("complete_status")
    after = (diff.seen["project_status"] or {}).get("complete_status")
    if bool(before) != bool(after):
        return "completed" if after else "reopened"
    return "status_changed"


def _work_item_verdict(diff: Diff) -> str:
    if "status" not in diff.changed:
        return "updated"
    if diff.seen["status"] == "completed":
        return "completed"
    return "reopened" if diff.previous["status"] == "completed" else "status_changed"


def _name(thing: object) -> str | None:
    return thing.get("name") if isinstance(thing, dict) else None


def _text(amount: object) -> str | None:
    return None if amount is None else str(amount)


def _people(users: object) -> str | None:
    names = [_name(user) for user in users] if isinstance(users, list) else []
    return ", ".join(sorted(name for name in names if name)) or None


def _opportunity_deal(known: Known, meaning: str, url: str) -> dict[str, str | None]:
    seen = known.object
    amount = _text(seen.get("amount")) or known.amount
    return {**_common_deal(seen), "amount": amount, "status": meaning, "url": url}


def _project_deal(known: Known, _meaning: str, url: str) -> dict[str, str | None]:
    seen = known.object
    done = bool((seen.get("project_status") or {}).get("complete_status"))
    return {
        **_common_deal(seen),
        "amount": known.amount or _text(seen.get("total_budget")),
        "status": "completed" if done else "won",
        "url": url,
    }


def _common_deal(seen: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        "name": seen.get("name"),
        "client": _name(seen.get("client")),
        "amount": None,
        "currency": seen.get("currency"),
        "status": None,
        "stage": _name(seen.get("project_status")),
        "owner": _people(seen.get("assigned_users")),
        "url": None,
    }


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="opportunity",
            type_prefix="drum.opportunity",
            suffixes=(
                "created",
                "appeared",
                "updated",
                "status_changed",
                "won",
                "lost",
                "reopened",
                "removed",
                "restored",
            ),
            model=Opportunity,
            shape=Shape(
                numbers=_WORK_NUMBERS | {"amount", "estimated_deposit"},
                sets=frozenset({"opportunity_tags"}),
                refs={**_REFS, "lead_score": "lead_score", "assigned_users": "user"},
                noise=_COMPUTED | _COUNTERS,
            ),
            sibling="project",
            judged=True,
            echoes=frozenset({"deal_won_date", "deal_lost_date"}),
            verdict=_opportunity_verdict,
            deal=_opportunity_deal,
        ),
        Kind(
            name="project",
            type_prefix="drum.project",
            suffixes=(
                "created",
                "appeared",
                "updated",
                "status_changed",
                "completed",
                "reopened",
                "removed",
                "restored",
            ),
            model=Project,
            shape=Shape(
                numbers=_WORK_NUMBERS | _RETENTION,
                sets=frozenset({"project_tags"}),
                refs=_REFS,
                noise=_COMPUTED | _COUNTERS | _RETENTION - {"retention_percent"},
            ),
            sibling="opportunity",
            echoes=frozenset({"completed_date"}),
            verdict=_project_verdict,
            deal=_project_deal,
        ),
        Kind(
            name="deliverable",
            type_prefix="drum.deliverable",
            suffixes=("added", "updated", "status_changed", "completed", "reopened", "removed"),
            model=Deliverable,
            shape=Shape(
                numbers=_DELIVERABLE_COMPUTED | {"duration", "budget"},
                noise=_DELIVERABLE_COMPUTED,
                silent=frozenset({"position", "parent"}),
            ),
            listed=False,
            verdict=_work_item_verdict,
        ),
        Kind(
            name="task",
            type_prefix="drum.task",
            suffixes=("added", "updated", "status_changed", "completed", "reopened", "removed"),
            model=Task,
            shape=Shape(
                numbers=_TASK_COMPUTED
                | frozenset(
                    "original_rate original_duration original_total variation_duration variation_total "
                    "budget total".split()
                ),
                refs={"resource_type": "resource_type"},
                noise=_TASK_COMPUTED,
                silent=frozenset({"position", "parent"}),
            ),
            listed=False,
            verdict=_work_item_verdict,
        ),
    )
}

_PATHS = {"opportunity": f"{API}/opportunities", "project": f"{API}/projects"}


class _Id(msgspec.Struct):
    id: int


_ids = msgspec.json.Decoder(list[_Id])


class Drum:
    """One Drum account."""

    kinds: Mapping[str, Kind] = KINDS
    lists: tuple[str, ...] = ("opportunity", "project")

    def __init__(self, account: Account, upstream: Upstream) -> None:
        self.name = account.name
        self.base_url = account.base_url
        self._account = account
        self._upstream = upstream

    @staticmethod
    def auth(token: str) -> Mapping[str, str]:
        """The headers that say who asks."""
        return {"authorization": f"Bearer {token}", "accept": "application/json"}

    async def close(self) -> None:
        """Give the connections back."""
        await self._upstream.close()

    def url(self, kind: str, record_id: str) -> str:
        """Where a person finds the record."""
        return f"{self.base_url}/{_PATHS[kind].rpartition('/')[2]}/{record_id}"

    async def pages(self, kind: str, *, size: int, ticket: Ticket) -> AsyncIterator[Page]:
        """Read a list until a page is empty, repeats, brings no new id, or the headers prove the end.

        A page past the end may be empty, the last page again, a 404 or a 500 (facts.md §1.3); a page
        shorter than asked says nothing, since the server may cap what was asked.
        """
        seen: set[str] = set()
        for number in range(1, MOST_PAGES + 1):
            answer = await self._page(kind, number, size, ticket)
            if answer is None:
                return
            ids, raws = split(answer.body, _ids, f"page {number} of {_PATHS[kind]}")
            fresh = set(ids) - seen
            total = _count(answer, "total-count")
            if fresh or number == 1:
                yield Page(ids, raws, answer.started, answer.ended, total)
            seen |= fresh
            if not fresh or (total == len(seen) and _count(answer, "total-pages") == number):
                return
        msg = f"{_PATHS[kind]} has no end after {MOST_PAGES} pages"
        raise BadAnswer(msg)

    async def _page(self, kind: str, number: int, size: int, ticket: Ticket) -> Answer | None:
        """One page, or None where the list has ended before it."""
        try:
            answer = await self._ask(kind, number, size, ticket)
        except Unreachable:
            if number == 1 or not await self._breaks_past_end(kind, number, size, ticket):
                raise
            return None
        if answer.status == 200:
            return answer
        if number == 1:
            msg = f"{_PATHS[kind]} answered {answer.status}: is base_url right?"
            raise BadAnswer(msg)
        return None

    async def _breaks_past_end(self, kind: str, number: int, size: int, ticket: Ticket) -> bool:
        """Whether this server fails past the end: twice here, beyond as well, and not on the page before."""
        for page in (number, number + 1):
            try:
                await self._ask(kind, page, size, ticket)
            except Unreachable:
                continue
            return False
        return (await self._ask(kind, number - 1, size, ticket)).status == 200

    async def _ask(self, kind: str, number: int, size: int, ticket: Ticket) -> Answer:
        params = {"page": number, "items": size}
        return await self._upstream.get(_PATHS[kind], params=params, ticket=ticket)

    async def read(self, kind: str, record_id: str, *, ticket: Ticket) -> Reading | Missing:
        """Read one opportunity or project with its deliverables and tasks."""
        answer = await self._upstream.get(f"{_PATHS[kind]}/{record_id}", ticket=ticket)
        if answer.status in (404, 410):
            return Missing(answer.started, answer.ended)
        view = decoded(self.kinds[kind], answer.body)
        if str(view["id"]) != record_id or view.get("project_type", kind) != kind:
            msg = f"{kind} {record_id}: the answer is {view.get('project_type')} {view['id']}"
            raise BadAnswer(msg)
        return Reading(view, answer.started, answer.ended)

    def judge(self, view: Mapping[str, Any]) -> Judgement:
        """By the operator's lists first, then by the dates, which only the detail view has."""
        status = view.get("project_status") or {}
        names = {str(status.get("id")), str(status.get("name"))}
        key = str(status.get("id") or "")
        if names & self._account.won_statuses or view.get("deal_won_date"):
            return Judgement(meaning="won", status=key)
        if names & self._account.lost_statuses or view.get("deal_lost_date"):
            return Judgement(meaning="lost", status=key)
        told = "deal_won_date" in view and "deal_lost_date" in view
        return Judgement(meaning="open" if told else None, status=key)

    def nested(self, view: dict[str, Any]) -> tuple[dict[str, Any], list[Child]]:
        """Deliverables and tasks are records of their own, with their parent named."""
        own = {name: value for name, value in view.items() if name != "deliverables"}
        parent = {"parent": f"{view.get('project_type')}/{view['id']}", "parent_id": view["id"]}
        children = []
        for deliverable in view.get("deliverables") or []:
            fields = {k: v for k, v in deliverable.items() if k != "tasks"}
            children.append(Child("deliverable", str(deliverable["id"]), {**fields, **parent}))
            children += [
                Child(
                    "task", str(task["id"]), {**task, "deliverable_id": deliverable["id"], "parent": parent}
                )
                for task in deliverable.get("tasks") or []
            ]
        return own, children


_COUNT_NAMES = {
    "total-count": ("total-count", "x-total-count", "x-total", "total"),
    "total-pages": ("total-pages", "x-total-pages", "page-count", "x-page-count"),
}
"""Every version of pagy, and what accounts commonly rename its headers to (anchors/polling.md §4)."""


def _count(answer: Answer, what: str) -> int | None:
    for name in _COUNT_NAMES[what]:
        text = answer.headers.get(name, "")
        if text.isascii() and text.isdigit():
            return int(text)
    return None
