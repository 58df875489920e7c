"""How rows are printed by API v2. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from poller.model import Json, rfc3339

from .fields import CUSTOM, DEAL, DEAL_TIMES, PROJECT, PROJECT_TIMES
from .switches import Switches
from .tables import Named, Row

_LOCAL = {"local_won_date": "won_time", "local_lost_date": "lost_time", "local_close_date": "close_time"}


def shown(row: Row, switches: Switches) -> dict[str, Json]:
    """A deal or project as API v2 prints it, in lists and by its id alike."""
    names, printed = (DEAL, _deal) if row.kind == "deal" else (PROJECT, _project)
    return {name: printed(row, name, switches) for name in names}


def whole(at: float) -> str:
    """A moment as deals of v2 print it: `2025-01-01T10:20:00Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status_of(row: Row, switches: Switches) -> str:
    """The status that is printed; of a deleted deal the documents do not say which."""
    replaced = row.deleted and (row.kind == "project" or switches.deleted_status == "deleted")
    status: str = "deleted" if replaced else row.values["status"]
    return status


def custom(row: Row, *, nulls: bool) -> dict[str, Json]:
    """The custom fields of a row, with or without those that are empty."""
    held = row.values["custom_fields"]
    return {key: held.get(key) for key in CUSTOM[row.kind] if nulls or held.get(key) is not None}


def thing(named: Named) -> dict[str, Json]:
    """A stage, pipeline, board, phase, person or organization of v2."""
    moment = rfc3339 if named.table in {"board", "phase"} else whole
    times = {"add_time": moment(named.add_time), "update_time": moment(named.update_time)}
    return {"id": named.id, **_PRINTED[named.table](named), **times}


def _deal(row: Row, name: str, switches: Switches) -> Json:
    values = row.values
    if name == "id":
        return row.id
    if name == "status":
        return status_of(row, switches)
    if name == "is_deleted":
        return row.deleted
    if name == "is_archived":
        return row.archived
    if name == "custom_fields":
        return custom(row, nulls=switches.null_custom_fields)
    if name in _LOCAL:
        at = values[_LOCAL[name]]
        return None if at is None else whole(at)[:10]
    return _plain(values[name], whole if name in DEAL_TIMES else None)


def _project(row: Row, name: str, switches: Switches) -> Json:
    if name == "id":
        return row.id
    if name == "status":
        return status_of(row, switches)
    if name == "custom_fields":
        return custom(row, nulls=switches.null_custom_fields)
    return _plain(row.values[name], rfc3339 if name in PROJECT_TIMES else None)


def _plain(value: Any, moment: Any) -> Json:
    if value is None:
        return None
    if moment:
        return moment(value)
    return list(value) if isinstance(value, tuple) else value


def _stage(named: Named) -> dict[str, Json]:
    return {
        "order_nr": named.order,
        "name": named.name,
        "is_deleted": False,
        "deal_probability": named.probability,
        "pipeline_id": named.home,
        "is_deal_rot_enabled": False,
        "days_to_rotten": None,
    }


def _pipeline(named: Named) -> dict[str, Json]:
    return {
        "name": named.name,
        "order_nr": named.order,
        "is_deleted": False,
        "is_deal_probability_enabled": True,
    }


def _board(named: Named) -> dict[str, Json]:
    return {"name": named.name, "order_nr": named.order}


def _phase(named: Named) -> dict[str, Json]:
    return {"name": named.name, "board_id": named.home, "order_nr": named.order}


def _person(named: Named) -> dict[str, Json]:
    first, _, last = named.name.partition(" ")
    return {
        "name": named.name,
        "first_name": first,
        "last_name": last,
        "owner_id": 1,
        "org_id": named.home,
        "emails": [],
        "phones": [],
        "is_deleted": False,
        "visible_to": 3,
        "label_ids": [],
        "custom_fields": {},
    }


def _organization(named: Named) -> dict[str, Json]:
    return {
        "name": named.name,
        "owner_id": 1,
        "address": None,
        "is_deleted": False,
        "visible_to": 3,
        "label_ids": [],
        "custom_fields": {},
    }


_PRINTED: Mapping[str, Any] = {
    "stage": _stage,
    "pipeline": _pipeline,
    "board": _board,
    "phase": _phase,
    "person": _person,
    "organization": _organization,
}
