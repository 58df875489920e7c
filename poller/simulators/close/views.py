"""How things are printed: opportunities, statuses, pipelines, and who may see what. Pure."""

from poller.model import Json

from .dates import written, written_naive
from .fields import CUSTOM, PERIODS, PRINTED
from .tables import Named, Row, Status, Tables
from .tokens import Token

_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}


def readable(row: Row, token: Token) -> bool:
    """Whether a token gets the opportunity at all."""
    return token.scope == "all" or (token.scope == "own" and row.values["user_id"] == token.user)


def opportunity(row: Row, tables: Tables) -> dict[str, Json]:
    """The opportunity as list and single answer print it."""
    computed = {**row.values, **_people(row, tables), **_stage(row, tables), **_money(row), **_stall(row)}
    computed["id"] = row.id
    computed["organization_id"] = tables.organization.id
    computed["date_created"], computed["date_updated"] = written(row.created_ms), written(row.updated_ms)
    custom = {name: value for name, value in row.values.items() if name.startswith(CUSTOM)}
    return {name: computed[name] for name in PRINTED} | custom


def _people(row: Row, tables: Tables) -> dict[str, Json]:
    lead, contact = tables.leads.get(row.values["lead_id"]), tables.contacts.get(row.values["contact_id"])
    return {
        "lead_name": lead.name if lead else None,
        "contact_name": contact.name if contact else None,
        "user_name": tables.users[row.values["user_id"]].name,
        "created_by": row.created_by,
        "created_by_name": tables.users[row.created_by].name,
        "updated_by": row.updated_by,
        "updated_by_name": tables.users[row.updated_by].name,
    }


def _stage(row: Row, tables: Tables) -> dict[str, Json]:
    status = tables.statuses[row.values["status_id"]]
    return {
        "status_label": status.name,
        "status_type": status.type,
        "status_display_name": status.name,
        "pipeline_id": status.pipeline,
        "pipeline_name": tables.pipelines[status.pipeline].name,
    }


def _money(row: Row) -> dict[str, Json]:
    """What follows from value, period and confidence; all in whole cents."""
    value, period = row.values["value"], row.values["value_period"]
    if value is None:
        names = ("value_formatted", "expected_value", "annualized_value", "annualized_expected_value")
        return dict.fromkeys(names)
    expected, times = expected_cents(value, row.values["confidence"]), PERIODS[period]
    return {
        "value_formatted": formatted(value, row.values["value_currency"], period),
        "expected_value": expected,
        "annualized_value": value * times,
        "annualized_expected_value": expected * times,
    }


def expected_cents(value: int, confidence: int) -> int:
    """A value times its confidence in percent, rounded half up."""
    return (value * confidence + 50) // 100


def formatted(value: int, currency: str, period: str) -> str:
    """`$1`, `$3,000.50`, `€99 monthly`."""
    whole, cents = divmod(abs(value), 100)
    number = f"{whole:,}.{cents:02d}" if cents else f"{whole:,}"
    sign = "-" if value < 0 else ""
    unit = _SYMBOLS.get(currency, f"{currency} ")
    return f"{sign}{unit}{number}" + ("" if period == "one_time" else f" {period}")


def _stall(row: Row) -> dict[str, Json]:
    stalled = row.values["is_stalled"]
    return {
        "stall_status": "stalled" if stalled else None,
        "suggested_action": {"type": "follow_up"} if stalled else None,
    }


def status(one: Status, tables: Tables) -> dict[str, Json]:
    """A status as `/status/opportunity/` prints it."""
    return {
        "id": one.id,
        "label": one.name,
        "type": one.type,
        "pipeline_id": one.pipeline,
        "organization_id": tables.organization.id,
    }


def pipeline(one: Named, tables: Tables, *, at_ms: int) -> dict[str, Json]:
    """A pipeline as `/pipeline/` prints it, with its statuses; its moments have no offset."""
    inside = [each for each in tables.statuses.values() if each.pipeline == one.id]
    return {
        "id": one.id,
        "name": one.name,
        "organization_id": tables.organization.id,
        "date_created": written_naive(at_ms),
        "date_updated": written_naive(at_ms),
        "statuses": [{"id": each.id, "label": each.name, "type": each.type} for each in inside],
    }
