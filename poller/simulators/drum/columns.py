"""The columns of Drum's records, deliverables and tasks: their defaults, and how a value becomes one."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

_MONEY = Decimal("0.00")
_PLAIN = Decimal("0.0")

RECORD: Mapping[str, Any] = MappingProxyType(
    {
        "name": "",
        "project_number": "",
        "description": None,
        "currency": "AUD",
        "project_status": None,
        "client": None,
        "team": None,
        "total_budget": _MONEY,
        "planned": False,
        "total_invoiced": _MONEY,
        "costs_to_date": _MONEY,
        "unbilled_costs": _MONEY,
        "work_in_progress": _MONEY,
        "remaining_cost_to_complete": _MONEY,
        "quotes_count": 0,
        "invoices_count": 0,
        "progress_claims_count": 0,
        "costs_count": 0,
        # sales
        "enquiry_date": None,
        "target_date": None,
        "due_date": None,
        "deal_won_date": None,
        "deal_lost_date": None,
        "estimated_start_date": None,
        "estimated_end_date": None,
        "amount": _MONEY,
        "invoicing_structure": None,
        "lead_score": None,
        "assigned_users": [],
        "estimated_deposit": _MONEY,
        "opportunity_tags": [],
        # work
        "contract_type": "fixed_price",
        "budget_type": "project_level",
        "progress_claim_mode": "deliverable",
        "start_date": None,
        "end_date": None,
        "completed_date": None,
        "company_id": None,
        "project_tags": [],
        "skip_planning": False,
        "retention_percent": Decimal("5.0"),
        "retention_amount": _MONEY,
        "retention_withheld": _MONEY,
        "retention_released": _MONEY,
        "retention_outstanding": _MONEY,
    }
)

DELIVERABLE: Mapping[str, Any] = MappingProxyType(
    {
        "name": "",
        "description": None,
        "position": 1,
        "status": "not_started",
        "billing_type": "fixed_fee",
        "allow_time_tracking": "allowed",
        "percentage_complete": 0,
        "currency": "AUD",
        "start_date": None,
        "end_date": None,
        "duration": _PLAIN,
        "budget": _MONEY,
        "invoiced_amount": _MONEY,
        "total_cost": _MONEY,
        "budget_invoiced_percent": _PLAIN,
        "plan_only": False,
        "purchase_number": None,
        "claim_items_count": 0,
        "project_phase_id": None,
    }
)

TASK: Mapping[str, Any] = MappingProxyType(
    {
        "name": "",
        "note": None,
        "position": 1,
        "item_type": "task",
        "status": "not_started",
        "allow_time_tracking": "allowed",
        "active": True,
        "visible": True,
        "currency": "AUD",
        "due_date": None,
        "start_date": None,
        "estimated_start_date": None,
        "completed_date": None,
        "budget_type": "hourly",
        "original_quantity_unit": "hour",
        "original_rate": _MONEY,
        "original_duration": _PLAIN,
        "original_total": _MONEY,
        "variation_duration": _PLAIN,
        "variation_total": _MONEY,
        "actual_duration": _PLAIN,
        "actual_total": _MONEY,
        "budget": _MONEY,
        "total": _MONEY,
        "remaining": _MONEY,
        "budget_used_percentage": _PLAIN,
        "tracked_times_count": 0,
        "costs_count": 0,
        "booked_bookings_count": 0,
        "resource_type": None,
    }
)

WORK_STATUSES = ("not_started", "in_progress", "completed", "not_applicable", "blocked")
"""The statuses of deliverables and tasks."""


def filled(columns: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every column, by default or as given.

    Raises:
        ValueError: a name is no column, or a value not of its type.
    """
    empty = {name: list(value) if isinstance(value, list) else value for name, value in columns.items()}
    return empty | checked(columns, given)


def checked(columns: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values as their columns hold them; money gets two places.

    Raises:
        ValueError: a name is no column, or a value not of its type.
    """
    return {name: _value(columns, name, value) for name, value in given.items()}


def money(value: Any) -> Decimal:
    """An amount with two places."""
    return Decimal(str(value)).quantize(_MONEY)


def plain(value: Any) -> Decimal:
    """Hours or a percentage: two places at most, one at least."""
    number = Decimal(str(value)).quantize(_MONEY)
    return number.quantize(_PLAIN) if number == number.quantize(_PLAIN) else number


def _value(columns: Mapping[str, Any], name: str, value: Any) -> Any:
    if name not in columns:
        near = get_close_matches(name, columns, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        msg = f"there is no field {name}.{hint}"
        raise ValueError(msg)
    default = columns[name]
    if isinstance(default, Decimal):
        return _decimal(name, value, default)
    if default is not None and type(value) is not type(default):
        msg = f"{name} is {value!r}: it must be of type {type(default).__name__}."
        raise ValueError(msg)
    return list(value) if isinstance(value, list) else value


def _decimal(name: str, value: Any, default: Decimal) -> Decimal:
    try:
        return money(value) if default.as_tuple().exponent == -2 else plain(value)
    except InvalidOperation as exc:
        msg = f"{name} is {value!r}: it must be a decimal number, e.g. 1200.00."
        raise ValueError(msg) from exc
