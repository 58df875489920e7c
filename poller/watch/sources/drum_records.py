"""What Drum's records are: their documented types, how their fields compare, what their changes mean.

Field by field from facts.md §1.4–1.7; the source itself is in `drum.py`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from poller.watch.diff import Diff, Shape
from poller.watch.events import Known

from .base import Kind, by_name, decimal_text

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
    before = _is_complete(diff.previous["project_status"])
    after = _is_complete(diff.seen["project_status"])
    if None in (before, after) or before == after:
        return "status_changed"
    return "completed" if after else "reopened"


def _is_complete(status: Mapping[str, Any] | None) -> bool | None:
    """None where the status does not say: an absent key is unknown (facts.md §1.11, trap 8)."""
    return False if status is None else status.get("complete_status")


def _work_item_verdict(diff: Diff) -> str:
    if "status" not in diff.changed:
        return "updated"
    if diff.seen["status"] == "completed":
        return "completed"
    return "reopened" if diff.previous["status"] == "completed" else "status_changed"


def _name(thing: object) -> str | None:
    return thing.get("name") if isinstance(thing, dict) else None


def _people(users: object) -> str | None:
    names = [_name(user) for user in users] if isinstance(users, list) else []
    return ", ".join(sorted(name for name in names if name)) or None


def _opportunity_deal(
    known: Known, meaning: str, url: str, _names: Mapping[str, str]
) -> dict[str, str | None]:
    """Drum's records carry the names of what they refer to."""
    seen = known.object
    amount = decimal_text(seen.get("amount")) or known.amount
    return {**_common_deal(seen), "amount": amount, "status": meaning, "url": url}


def _project_deal(known: Known, _meaning: str, url: str, _names: Mapping[str, str]) -> dict[str, str | None]:
    seen = known.object
    done = bool((seen.get("project_status") or {}).get("complete_status"))
    return {
        **_common_deal(seen),
        "amount": known.amount or decimal_text(seen.get("total_budget")),
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


KINDS = by_name(
    Kind(
        name="opportunity",
        type_prefix="drum.opportunity",
        suffixes=tuple("created appeared updated status_changed won lost reopened removed restored".split()),
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
        suffixes=tuple("created appeared updated status_changed completed reopened removed restored".split()),
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
        suffixes=tuple("added updated status_changed completed reopened removed".split()),
        model=Deliverable,
        shape=Shape(
            numbers=_DELIVERABLE_COMPUTED | {"duration", "budget"},
            noise=_DELIVERABLE_COMPUTED,
            silent=frozenset({"position", "parent"}),
        ),
        verdict=_work_item_verdict,
    ),
    Kind(
        name="task",
        type_prefix="drum.task",
        suffixes=tuple("added updated status_changed completed reopened removed".split()),
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
        verdict=_work_item_verdict,
    ),
)
