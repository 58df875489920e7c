"""Which key stands in which object of Pipedrive, and what of it says nothing by itself.

Sources: the vendor's specifications of API v1 and v2 (keys and their order).
"""

from types import MappingProxyType
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["deal", "project"]

DEAL = (
    "id", "title", "creator_user_id", "owner_id", "value", "currency", "person_id", "org_id", "stage_id",
    "pipeline_id", "add_time", "update_time", "stage_change_time", "status", "is_archived", "archive_time",
    "is_deleted", "probability", "lost_reason", "visible_to", "close_time", "won_time", "lost_time",
    "local_won_date", "local_lost_date", "local_close_date", "expected_close_date", "label_ids", "origin",
    "origin_id", "channel", "channel_id", "source_lead_id", "acv", "arr", "mrr", "custom_fields",
)  # fmt: skip
"""A deal of v2, list and single alike."""

PROJECT = (
    "id", "title", "description", "status", "board_id", "phase_id", "owner_id", "start_date", "end_date",
    "deal_ids", "person_ids", "org_ids", "label_ids", "health_status", "add_time", "update_time",
    "status_change_time", "archive_time", "custom_fields",
)  # fmt: skip
"""A project of v2."""

DEAL_NOISE = frozenset(
    {
        "update_time", "stage_change_time", "archive_time", "close_time", "won_time", "lost_time",
        "local_won_date", "local_lost_date", "local_close_date",
    }
)  # fmt: skip
PROJECT_NOISE = frozenset({"update_time", "status_change_time", "archive_time"})
"""Times that the server keeps by itself: alone they say nothing."""

DEAL_TIMES = frozenset(
    {
        "add_time", "update_time", "stage_change_time", "archive_time", "close_time", "won_time", "lost_time",
        "first_won_time", "last_incoming_mail_time", "last_outgoing_mail_time",
    }
)  # fmt: skip
PROJECT_TIMES = frozenset({"add_time", "update_time", "status_change_time", "archive_time"})
"""Columns that hold Unix seconds, whole ones for deals, with milliseconds for projects."""

TEXT_FIELD = "9d0f41c2a76b4e0f8c51b7a4f7be20cd5a61e3f8"
OPTION_FIELD = "3b7a9e51d24c4f6fa0a3cc18bd7095e64f21d9a7"
"""Keys of the account's two custom fields of deals: a purchase number, and an option."""
PROJECT_FIELD = "c41e8b72f0d94a35b6d27e9a81f35c60e7d4a2b9"
"""Key of the account's custom field of projects."""
CUSTOM = MappingProxyType({"deal": (TEXT_FIELD, OPTION_FIELD), "project": (PROJECT_FIELD,)})

DEAL_COLUMNS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "title": "", "creator_user_id": 1, "owner_id": 1, "value": 0, "currency": "EUR", "person_id": None,
        "org_id": None, "stage_id": 1, "pipeline_id": 1, "add_time": 0, "update_time": 0,
        "stage_change_time": None, "status": "open", "is_archived": False, "archive_time": None,
        "is_deleted": False, "probability": None, "lost_reason": None, "visible_to": 3, "close_time": None,
        "won_time": None, "lost_time": None, "expected_close_date": None, "label_ids": (),
        "origin": "ManuallyCreated", "origin_id": None, "channel": None, "channel_id": None,
        "source_lead_id": None, "acv": None, "arr": None, "mrr": None, "custom_fields": {},
        "next_activity_id": None, "last_activity_id": None, "first_won_time": None, "products_count": 0,
        "files_count": 0, "notes_count": 0, "followers_count": 1, "email_messages_count": 0,
        "activities_count": 0, "done_activities_count": 0, "undone_activities_count": 0,
        "participants_count": 0, "last_incoming_mail_time": None, "last_outgoing_mail_time": None,
        "delete_time": None,
    }
)  # fmt: skip
PROJECT_COLUMNS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "title": "", "description": None, "status": "open", "board_id": 1, "phase_id": 1, "owner_id": 1,
        "start_date": None, "end_date": None, "deal_ids": (), "person_ids": (), "org_ids": (),
        "label_ids": (), "health_status": None, "add_time": 0, "update_time": 0, "status_change_time": None,
        "archive_time": None, "custom_fields": {}, "delete_time": None,
    }
)  # fmt: skip
"""Every column and what it holds when nothing is said; `delete_time` is never printed."""
COLUMNS = MappingProxyType({"deal": DEAL_COLUMNS, "project": PROJECT_COLUMNS})

GIVEN_DEAL = frozenset(
    {
        "title", "owner_id", "value", "currency", "person_id", "org_id", "stage_id", "probability",
        "lost_reason", "visible_to", "expected_close_date", "label_ids", "channel", "channel_id", "acv",
        "arr", "mrr", "custom_fields",
    }
)  # fmt: skip
GIVEN_PROJECT = frozenset(
    {
        "title", "description", "phase_id", "owner_id", "start_date", "end_date", "deal_ids", "person_ids",
        "org_ids", "label_ids", "health_status", "custom_fields",
    }
)  # fmt: skip
GIVEN = MappingProxyType({"deal": GIVEN_DEAL, "project": GIVEN_PROJECT})
"""What a person can write; the rest follows from it."""

REFERENCES = MappingProxyType(
    {
        "owner_id": "user", "person_id": "person", "org_id": "organization", "stage_id": "stage",
        "phase_id": "phase", "person_ids": "person", "org_ids": "organization",
    }
)  # fmt: skip
"""Columns that hold ids, and the table each refers to."""
