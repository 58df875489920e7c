"""Which key stands in which view of Drum, who may see it, and what counts as noise.

Sources: the two API documents' examples (order and sets of keys), and their tables of permissions.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["opportunity", "project"]

OPPORTUNITY_LIST = (
    "id", "name", "project_number", "description", "currency", "project_type", "enquiry_date", "target_date",
    "estimated_start_date", "estimated_end_date", "project_status", "client", "team", "amount", "lead_score",
    "total_budget", "planned",
)  # fmt: skip
OPPORTUNITY_DETAIL = (
    "id", "name", "project_number", "description", "currency", "project_type", "enquiry_date", "target_date",
    "due_date", "deal_won_date", "deal_lost_date", "estimated_start_date", "estimated_end_date",
    "project_status", "client", "team", "amount", "invoicing_structure", "lead_score", "assigned_users",
    "total_budget", "total_invoiced", "costs_to_date", "unbilled_costs", "estimated_deposit",
    "work_in_progress", "remaining_cost_to_complete", "quotes_count", "invoices_count",
    "progress_claims_count", "costs_count", "opportunity_tags", "planned",
)  # fmt: skip
PROJECT_LIST = (
    "id", "name", "project_number", "description", "currency", "project_type", "contract_type", "start_date",
    "end_date", "project_status", "client", "team", "total_budget", "planned",
)  # fmt: skip
PROJECT_DETAIL = (
    "id", "name", "project_number", "description", "currency", "project_type", "contract_type", "budget_type",
    "progress_claim_mode", "start_date", "end_date", "completed_date", "project_status", "client",
    "company_id", "team", "total_budget", "total_invoiced", "costs_to_date", "unbilled_costs",
    "work_in_progress", "remaining_cost_to_complete", "quotes_count", "invoices_count",
    "progress_claims_count", "costs_count", "project_tags", "planned", "skip_planning",
)  # fmt: skip
RETENTION = (
    "retention_percent", "retention_amount", "retention_withheld", "retention_released",
    "retention_outstanding",
)  # fmt: skip
DELIVERABLE = (
    "id", "name", "description", "position", "status", "billing_type", "allow_time_tracking",
    "percentage_complete", "currency", "start_date", "end_date", "duration", "budget", "invoiced_amount",
    "total_cost", "budget_invoiced_percent", "plan_only", "purchase_number", "claim_items_count",
)  # fmt: skip
TASK = (
    "id", "name", "note", "position", "item_type", "status", "allow_time_tracking", "active", "visible",
    "currency", "due_date", "start_date", "estimated_start_date", "completed_date", "budget_type",
    "original_quantity_unit", "original_rate", "original_duration", "original_total", "variation_duration",
    "variation_total", "actual_duration", "actual_total", "budget", "total", "remaining",
    "budget_used_percentage", "tracked_times_count", "costs_count", "booked_bookings_count", "resource_type",
)  # fmt: skip

LISTED = MappingProxyType({"opportunity": OPPORTUNITY_LIST, "project": PROJECT_LIST})
DETAILED = MappingProxyType({"opportunity": OPPORTUNITY_DETAIL, "project": PROJECT_DETAIL})
TAGS = MappingProxyType({"opportunity": "opportunity_tags", "project": "project_tags"})

METRICS = frozenset(
    {
        # records
        "total_budget", "estimated_deposit", "total_invoiced", "costs_to_date", "unbilled_costs",
        "work_in_progress", "remaining_cost_to_complete", *RETENTION,
    }
)  # fmt: skip
"""Keys of a record that need view_project_metrics; `amount` is not among them."""
GROSS_PROFIT = frozenset({"work_in_progress", "remaining_cost_to_complete"})
"""Keys that need view_gross_profit besides."""
DELIVERABLE_METRICS = frozenset({"budget", "invoiced_amount", "total_cost", "budget_invoiced_percent"})
TASK_METRICS = frozenset(TASK[TASK.index("budget_type") : TASK.index("tracked_times_count")])

RECORD_NOISE = frozenset(
    {
        "total_invoiced", "costs_to_date", "unbilled_costs", "work_in_progress", "remaining_cost_to_complete",
        "quotes_count", "invoices_count", "progress_claims_count", "costs_count", "retention_amount",
        "retention_withheld", "retention_released", "retention_outstanding",
    }
)  # fmt: skip
DELIVERABLE_NOISE = frozenset(
    {"position", "invoiced_amount", "total_cost", "budget_invoiced_percent", "claim_items_count"}
)
TASK_NOISE = frozenset(
    {
        "position", "actual_duration", "actual_total", "remaining", "budget_used_percentage",
        "tracked_times_count", "costs_count", "booked_bookings_count",
    }
)  # fmt: skip
"""Counters, computed money, and places that others' moves renumber."""

REFERENCES = MappingProxyType(
    {
        "project_status": "status",
        "client": "client",
        "team": "team",
        "lead_score": "lead_score",
        "assigned_users": "user",
        "resource_type": "resource_type",
    }
)
"""Fields that hold {id, name}, and the table each refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a token's user may do; an admin may everything."""

    name: str
    scope: Literal["all", "team", "assigned", "none"] = "all"
    metrics: bool = True
    gross_profit: bool = True
    api_read: bool = True
    teams: tuple[str, ...] = ()
    """For scope `team`: keys of the teams whose records are visible."""
    user: str = ""
    """For scope `assigned`: key of the user whose records are visible."""


ROLES = MappingProxyType(
    {
        role.name: role
        for role in (
            Role(name="admin"),
            Role(name="manager", gross_profit=False),
            Role(name="staff", metrics=False, gross_profit=False),
            Role(name="team", scope="team", teams=("2",)),
            Role(name="assigned", scope="assigned", user="12", metrics=False, gross_profit=False),
            Role(name="blind", scope="none"),
            Role(name="no_api", api_read=False),
        )
    }
)
"""Roles by name: everything; no profit; no money; one team's; one user's; nothing; no API."""
