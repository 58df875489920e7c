"""How a record is printed: list and detail view, by the role of who asks and the switches. Pure."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from poller.model import Json

from .fields import (
    DELIVERABLE,
    DELIVERABLE_METRICS,
    DETAILED,
    GROSS_PROFIT,
    LISTED,
    METRICS,
    REFERENCES,
    RETENTION,
    TASK,
    TASK_METRICS,
    Role,
)
from .switches import Switches
from .tables import Named, Part, Row

Tables = Mapping[str, Mapping[str, Named]]


def readable(row: Row, role: Role) -> bool:
    """Whether a token of that role gets the record at all."""
    if row.archived or role.scope == "none":
        return False
    if role.scope == "team":
        return row.values["team"] in role.teams
    if role.scope == "assigned":
        return role.user in row.values["assigned_users"]
    return True


def listed(row: Row, tables: Tables, role: Role, switches: Switches) -> dict[str, Json]:
    """The record as the list prints it."""
    shown = _record(row, LISTED[row.kind], tables, role, switches)
    if row.list_description is not None and "description" in shown:
        shown["description"] = row.list_description
    return shown


def detailed(row: Row, tables: Tables, role: Role, switches: Switches) -> dict[str, Json]:
    """The record as it is printed when it is asked for by its id."""
    shown = outer(row, tables, role, switches)
    if "deliverables" not in switches.hidden_keys:
        shown["deliverables"] = [_deliverable(part, tables, role, switches) for part in row.deliverables]
    return shown


def outer(row: Row, tables: Tables, role: Role, switches: Switches) -> dict[str, Json]:
    """The detail view without what is nested in it."""
    names = DETAILED[row.kind]
    if switches.retention and row.kind == "project":
        names = (*names, *RETENTION)
    return _record(row, names, tables, role, switches)


def unnested(part: Part, tables: Tables, role: Role, switches: Switches) -> dict[str, Json]:
    """A deliverable without its tasks, or a task."""
    if "item_type" in part.values:
        return _part(part, TASK, TASK_METRICS, tables, role, switches)
    names = (*DELIVERABLE, "project_phase_id") if switches.phases else DELIVERABLE
    return _part(part, names, DELIVERABLE_METRICS, tables, role, switches)


def _record(
    row: Row, names: Iterable[str], tables: Tables, role: Role, switches: Switches
) -> dict[str, Json]:
    hidden = gated(role)
    shown: dict[str, Json] = {}
    for name in names:
        if name in hidden or name in switches.hidden_keys:
            continue
        value = _value(row, name)
        if switches.shuffled and isinstance(value, list):
            # Each change of the row turns its lists: as unordered as a database's, yet repeatable.
            turn = row.touched % max(1, len(value))
            value = value[turn:] + value[:turn]
        shown[name] = _printed(name, value, tables, switches)
    shown.update(switches.extra_keys)
    return shown


def _value(row: Row, name: str) -> Any:
    if name == "id":
        return row.id
    if name == "project_type":
        return row.kind
    return row.values[name]


def gated(role: Role) -> frozenset[str]:
    """The keys of a record that a token of that role is not shown."""
    if not role.metrics:
        return METRICS
    return frozenset() if role.gross_profit else GROSS_PROFIT


def _deliverable(part: Part, tables: Tables, role: Role, switches: Switches) -> dict[str, Json]:
    shown = unnested(part, tables, role, switches)
    if "tasks" not in switches.hidden_keys:
        shown["tasks"] = [unnested(task, tables, role, switches) for task in part.tasks]
    return shown


def _part(
    part: Part, names: Iterable[str], gated: frozenset[str], tables: Tables, role: Role, switches: Switches
) -> dict[str, Json]:
    hidden = frozenset[str]() if role.metrics else gated
    return {name: _printed(name, part.values[name], tables, switches) for name in names if name not in hidden}


def _printed(name: str, value: Any, tables: Tables, switches: Switches) -> Json:
    if value is None:
        return None
    table = REFERENCES.get(name)
    if table:
        rows = tables[table]
        return [_named(rows[key]) for key in value] if isinstance(value, list) else _named(rows[value])
    if isinstance(value, Decimal):
        return _number(value, switches.numbers)
    return value


def _named(row: Named) -> dict[str, Json]:
    return {"id": row.id, "name": row.name, **row.more}


def _number(value: Decimal, mode: str) -> Decimal | str:
    if mode == "places":
        return value
    # As the framework's own decimals print: no more places than needed, but one.
    short = value.normalize()
    short = short.quantize(Decimal("0.1")) if short.as_tuple().exponent > -1 else short  # type: ignore[operator]
    return short if mode == "short" else str(short)
