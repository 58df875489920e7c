"""The fields of an opportunity: which are stored, how they are ordered, which are computed."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

CUSTOM = "custom.cf_"
"""How the name of every custom field begins."""

PERIODS: Mapping[str, int] = MappingProxyType({"one_time": 1, "monthly": 12, "annual": 1})
"""value_period -> how many of it make the annualized value; a one-time value counts once."""

COLUMNS: Mapping[str, Any] = MappingProxyType(
    {
        "lead_id": "",
        "contact_id": None,
        "user_id": "",
        "status_id": "",
        "note": "",
        "value": 0,
        "value_period": "one_time",
        "value_currency": "USD",
        "confidence": 50,
        "date_won": None,
        "date_lost": None,
        "integration_links": [],
        "attachments": [],
        "is_stalled": False,
    }
)
"""What people set, with its default; an amount is in whole cents, `date_won` a plain date."""

NULLABLE = frozenset({"contact_id", "note", "value", "date_won", "date_lost"})

PRINTED = (
    "id", "organization_id", "lead_id", "lead_name", "contact_id", "contact_name", "user_id", "user_name",
    "status_id", "status_label", "status_type", "status_display_name", "pipeline_id", "pipeline_name",
    "note", "value", "value_currency", "value_formatted", "value_period", "confidence",
    "expected_value", "annualized_value", "annualized_expected_value",
    "date_won", "date_lost", "date_created", "date_updated",
    "created_by", "created_by_name", "updated_by", "updated_by_name",
    "integration_links", "attachments", "is_stalled", "stall_status", "suggested_action",
)  # fmt: skip
"""The keys of an opportunity, in the order in which they are sent; custom fields follow."""

NOISE = frozenset(
    {
        "date_updated", "updated_by", "updated_by_name", "lead_name", "contact_name", "user_name",
        "created_by_name", "status_label", "status_display_name", "pipeline_name", "value_formatted",
        "expected_value", "annualized_value", "annualized_expected_value",
        "is_stalled", "stall_status", "suggested_action",
    }
)  # fmt: skip
"""What moves without anybody doing anything to the opportunity, and what follows from other fields."""

LOGGED_NOT = frozenset({"value_currency", "updated_by", "updated_by_name", "date_updated", "value_formatted"})
"""A change of these alone leaves no `updated` in the event log, as the documents say of the currency."""


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields, if an opportunity can hold them.

    Raises:
        ValueError: a name is no field, or a value not of its type.
    """
    return {name: _value(name, value) for name, value in given.items()}


def _value(name: str, value: Any) -> Any:
    if name.startswith(CUSTOM):
        return value
    if name not in COLUMNS:
        near = get_close_matches(name, COLUMNS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        msg = f"there is no field {name}.{hint}"
        raise ValueError(msg)
    default = COLUMNS[name]
    if value is None and name in NULLABLE:
        return None
    if type(value) is not type("" if default is None else default):
        msg = f"{name} is {value!r}: it must be of type {type('' if default is None else default).__name__}."
        raise ValueError(msg)
    _limits(name, value)
    return list(value) if isinstance(value, list) else value


def _limits(name: str, value: Any) -> None:
    if name == "value_period" and value not in PERIODS:
        msg = f"value_period is {value}: it must be one of {', '.join(PERIODS)}."
        raise ValueError(msg)
    if name == "confidence" and not 0 <= value <= 100:
        msg = f"confidence is {value}: it must be from 0 to 100."
        raise ValueError(msg)
