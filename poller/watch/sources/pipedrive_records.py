"""What Pipedrive's records are: their documented types, how their fields compare, what their changes mean.

Field by field from facts.md §3.3, §3.5 and §3.7; the source itself is in `pipedrive.py`. A deal is won, lost
or open by its status alone: times such as `won_time` may be set on open deals, too.
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from poller.watch.diff import Diff, Shape
from poller.watch.events import Known

from .base import Kind, by_name, decimal_text

WHOLE_EVERY_S = timedelta(hours=1).total_seconds()
"""Archiving, deleting and merging may leave update_time alone: only a whole reading is sure to show them."""
Number = Decimal | int | None


class _Thing(BaseModel):
    """Unknown keys are kept, documented ones may be missing or null."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, arbitrary_types_allowed=True)

    id: int
    title: str | None = None
    status: str
    owner_id: int | None = None
    add_time: str | None = None
    update_time: str | None = None
    archive_time: str | None = None
    label_ids: list[int] | None = None
    custom_fields: dict[str, Any] | None = None


class Deal(_Thing):
    """A deal of API v2."""

    creator_user_id: int | None = None
    value: Number = None
    currency: str | None = None
    person_id: int | None = None
    org_id: int | None = None
    stage_id: int | None = None
    pipeline_id: int | None = None
    stage_change_time: str | None = None
    is_archived: bool | None = None
    is_deleted: bool | None = None
    probability: Number = None
    lost_reason: str | None = None
    visible_to: int | None = None
    close_time: str | None = None
    won_time: str | None = None
    lost_time: str | None = None
    local_won_date: str | None = None
    local_lost_date: str | None = None
    local_close_date: str | None = None
    expected_close_date: str | None = None
    acv: Number = None
    arr: Number = None
    mrr: Number = None


class Project(_Thing):
    """A project of API v2, often linked to the deals that were won for it."""

    description: str | None = None
    board_id: int | None = None
    phase_id: int | None = None
    start_date: str | None = None
    end_date: str | None = None
    status_change_time: str | None = None
    health_status: str | None = None
    deal_ids: list[int] | None = None
    person_ids: list[int] | None = None
    org_ids: list[int] | None = None


_KEPT_TIMES = frozenset("add_time update_time stage_change_time status_change_time archive_time".split())
_CLOSE_TIMES = frozenset(
    "close_time won_time first_won_time lost_time local_won_date local_lost_date local_close_date".split()
)
_LINKS = frozenset("label_ids deal_ids person_ids org_ids".split())
_OWN_FIELDS = frozenset({"custom_fields"})


def is_dead(view: Mapping[str, Any]) -> bool:
    """Deleted: listed for 30 days more, as is_deleted, or as a status (of a project there is no other)."""
    return view.get("is_deleted") is True or view.get("status") == "deleted"


def _is_archived(view: Mapping[str, Any]) -> bool:
    """By the flag, which deals have: the time may stay when they come back. Projects have the time alone."""
    said = view.get("is_archived")
    return bool(view.get("archive_time") if said is None else said)


def _archiving(diff: Diff) -> str:
    """archived, unarchived, or empty where it is among the same as before."""
    before, now = _is_archived({**diff.seen, **diff.previous}), _is_archived(diff.seen)
    return "" if before == now else "archived" if now else "unarchived"


def _deal_verdict(diff: Diff) -> str:
    return _archiving(diff) or ("stage_changed" if "stage_id" in diff.changed else "updated")


def _project_verdict(diff: Diff) -> str:
    if verb := _archiving(diff):
        return verb
    if "status" in diff.changed and diff.seen["status"] == "completed":
        return "completed"
    return "phase_changed" if "phase_id" in diff.changed else "updated"


def _name(names: Mapping[str, str], table: str, ids: object) -> str | None:
    """What the first of these things that has a name is called."""
    wanted = ids if isinstance(ids, list) else [ids]
    return next((name for each in wanted if (name := names.get(f"{table}/{each}"))), None)


def _client(names: Mapping[str, str], organizations: object, people: object) -> str | None:
    return _name(names, "organization", organizations) or _name(names, "person", people)


def _deal_deal(known: Known, meaning: str, url: str, names: Mapping[str, str]) -> dict[str, str | None]:
    seen = known.object
    return {
        "name": seen.get("title"),
        "client": _client(names, seen.get("org_id"), seen.get("person_id")),
        "amount": decimal_text(seen.get("value")),
        "currency": seen.get("currency"),
        "status": meaning,
        "stage": _name(names, "stage", seen.get("stage_id")),
        "owner": _name(names, "user", seen.get("owner_id")),
        "url": url,
    }


def _project_deal(known: Known, _meaning: str, url: str, names: Mapping[str, str]) -> dict[str, str | None]:
    seen = known.object
    return {
        "name": seen.get("title"),
        "client": _client(names, seen.get("org_ids"), seen.get("person_ids")),
        "amount": None,
        "currency": None,
        "status": seen.get("status"),
        "stage": _name(names, "phase", seen.get("phase_id")),
        "owner": _name(names, "user", seen.get("owner_id")),
        "url": url,
    }


DEAL = Kind(
    name="deal",
    type_prefix="pipedrive.deal",
    suffixes=tuple(
        "created appeared updated stage_changed won lost reopened "
        "archived unarchived removed restored".split()
    ),
    model=Deal,
    shape=Shape(
        numbers=frozenset({"value", "probability", "acv", "arr", "mrr"}),
        sets=_LINKS,
        noise=_KEPT_TIMES | _CLOSE_TIMES,
        sparse=_OWN_FIELDS,
    ),
    judged=True,
    detailed=False,
    verdict=_deal_verdict,
    deal=_deal_deal,
    dead=is_dead,
    whole_every_s=WHOLE_EVERY_S,
)
PROJECT = Kind(
    name="project",
    type_prefix="pipedrive.project",
    suffixes=tuple(
        "created appeared updated phase_changed completed archived unarchived removed restored".split()
    ),
    model=Project,
    shape=Shape(sets=_LINKS, noise=_KEPT_TIMES, sparse=_OWN_FIELDS),
    detailed=False,
    verdict=_project_verdict,
    deal=_project_deal,
    dead=is_dead,
)
KINDS = by_name(DEAL, PROJECT)
