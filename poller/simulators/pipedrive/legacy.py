"""How rows are printed by API v1: other names, other times, names of others copied in. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from poller.model import Json

from .fields import CUSTOM
from .switches import Switches
from .tables import Named, Row, Tables
from .views import status_of

_SIGNS = {"EUR": "€", "USD": "$", "GBP": "£"}
_TIMES = (
    "add_time", "update_time", "stage_change_time", "close_time", "won_time", "first_won_time", "lost_time",
    "last_incoming_mail_time", "last_outgoing_mail_time",
)  # fmt: skip
_COUNTS = (
    "products_count", "files_count", "notes_count", "followers_count", "email_messages_count",
    "activities_count", "done_activities_count", "undone_activities_count", "participants_count",
)  # fmt: skip
_EMPTY = (
    "next_activity_date", "next_activity_time", "last_activity_date", "next_activity_subject",
    "next_activity_type", "next_activity_duration", "next_activity_note", "rotten_time",
)  # fmt: skip


def moment(at: float | None) -> str | None:
    """A moment as v1 prints it, in UTC: `2019-11-28 16:19:50`."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def fine_moment(at: float | None) -> str | None:
    """A moment as projects of v1 print it: `2023-09-14 05:45:40.084`."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds")[:23]


def deal(row: Row, tables: Tables, switches: Switches) -> dict[str, Json]:
    """A deal of v1, as /recents and /stages/{id}/deals print it."""
    values = row.values
    return {
        "id": row.id,
        **_people(row, tables, switches),
        "stage_id": values["stage_id"],
        "title": values["title"],
        "value": values["value"],
        "currency": values["currency"],
        "active": values["status"] == "open" and not row.deleted,
        "deleted": row.deleted,
        "is_archived": row.archived,
        "archive_time": moment(values["archive_time"]),
        "status": status_of(row, switches),
        "probability": values["probability"],
        "lost_reason": values["lost_reason"],
        "visible_to": str(values["visible_to"]),
        "pipeline_id": values["pipeline_id"],
        "expected_close_date": values["expected_close_date"],
        "label": ",".join(map(str, values["label_ids"])) or None,
        "stage_order_nr": tables["stage"][values["stage_id"]].order,
        "next_activity_id": values["next_activity_id"],
        "last_activity_id": values["last_activity_id"],
        **{name: moment(values[name]) for name in _TIMES},
        **{name: values[name] for name in _COUNTS},
        **dict.fromkeys(_EMPTY),
        **_copied(row, tables),
        **{key: values["custom_fields"].get(key) for key in CUSTOM["deal"]},
    }


def project(row: Row, switches: Switches) -> dict[str, Json]:
    """A project of v1: one person and one organization, custom fields among the others."""
    values = row.values
    return {
        "id": row.id,
        "title": values["title"],
        "description": values["description"],
        "status": status_of(row, switches),
        "status_change_time": fine_moment(values["status_change_time"]),
        "start_date": values["start_date"],
        "end_date": values["end_date"],
        "owner_id": values["owner_id"],
        "add_time": fine_moment(values["add_time"]),
        "update_time": fine_moment(values["update_time"]),
        "labels": list(values["label_ids"]),
        "archive_time": fine_moment(values["archive_time"]),
        "deal_ids": list(values["deal_ids"]),
        "person_id": next(iter(values["person_ids"]), None),
        "org_id": next(iter(values["org_ids"]), None),
        "board_id": values["board_id"],
        "phase_id": values["phase_id"],
        "health_status": values["health_status"],
        **{key: values["custom_fields"].get(key) for key in CUSTOM["project"]},
    }


def thing(named: Named, tables: Tables) -> dict[str, Json]:
    """A stage, pipeline, user, person or organization of v1."""
    times = {"add_time": moment(named.add_time), "update_time": moment(named.update_time)}
    return {"id": named.id, "name": named.name, **_PRINTED[named.table](named, tables), **times}


def _people(row: Row, tables: Tables, switches: Switches) -> dict[str, Json]:
    refs = {
        "creator_user_id": ("user", row.values["creator_user_id"]),
        "user_id": ("user", row.values["owner_id"]),
        "person_id": ("person", row.values["person_id"]),
        "org_id": ("organization", row.values["org_id"]),
    }
    if switches.people_v1 == "ids":
        return {name: number for name, (_, number) in refs.items()}
    return {
        name: None if number is None else _object(tables[table][number])
        for name, (table, number) in refs.items()
    }


def _object(named: Named) -> dict[str, Json]:
    more: dict[str, Json] = {"active_flag": True, "name": named.name, "value": named.id}
    if named.table == "user":
        return {
            "id": named.id,
            **more,
            "email": f"user{named.id}@example.com",
            "has_pic": 0,
            "pic_hash": None,
        }
    return more


def _copied(row: Row, tables: Tables) -> dict[str, Json]:
    values = row.values
    weighted = values["value"] * tables["stage"][values["stage_id"]].probability / 100
    return {
        "person_name": _name(tables["person"], values["person_id"]),
        "org_name": _name(tables["organization"], values["org_id"]),
        "owner_name": _name(tables["user"], values["owner_id"]),
        "formatted_value": _formatted(values["value"], values["currency"]),
        "weighted_value": weighted,
        "formatted_weighted_value": _formatted(weighted, values["currency"]),
        "weighted_value_currency": values["currency"],
        "cc_email": f"company+deal{row.id}@pipedrivemail.com",
        "org_hidden": False,
        "person_hidden": False,
    }


def _name(table: Mapping[int, Named], number: int | None) -> str | None:
    return None if number is None else table[number].name


def _formatted(value: Any, currency: str) -> str:
    return f"{_SIGNS.get(currency, currency + ' ')}{value:,}"


def _stage(named: Named, tables: Tables) -> dict[str, Json]:
    assert named.home is not None
    return {
        "order_nr": named.order,
        "active_flag": True,
        "deal_probability": named.probability,
        "pipeline_id": named.home,
        "rotten_flag": False,
        "rotten_days": None,
        "pipeline_name": tables["pipeline"][named.home].name,
        "pipeline_deal_probability": True,
    }


def _pipeline(named: Named, _tables: Tables) -> dict[str, Json]:
    return {
        "url_title": named.name,
        "order_nr": named.order,
        "active": True,
        "deal_probability": True,
        "selected": named.id == 1,
    }


def _user(named: Named, _tables: Tables) -> dict[str, Json]:
    return {
        "default_currency": "EUR",
        "locale": "et_EE",
        "email": f"user{named.id}@example.com",
        "activated": True,
        "active_flag": True,
        "timezone_name": "Etc/UTC",
        "timezone_offset": "+00:00",
        "role_id": 1,
        "is_deleted": False,
    }


def _contact(named: Named, _tables: Tables) -> dict[str, Json]:
    return {"org_id": named.home} if named.table == "person" else {}


_PRINTED: Mapping[str, Any] = {
    "stage": _stage,
    "pipeline": _pipeline,
    "user": _user,
    "person": _contact,
    "organization": _contact,
}
