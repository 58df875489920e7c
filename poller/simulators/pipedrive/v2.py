"""API v2: deals, archived deals, projects, and the things with a name, by keyset cursors."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from poller.model import dumps

from . import answers, views
from .answers import Reply
from .asking import Call, Rejected, paged
from .fields import Kind
from .shelves import ORDERS, place
from .tables import Named, Row

_STATUSES: dict[Kind, tuple[str, ...]] = {
    "deal": ("open", "won", "lost", "deleted"),
    "project": ("open", "completed", "canceled", "deleted"),
}
_DIRECTIONS = ("asc", "desc")


# --- deals and projects -------------------------------------------------------------------------
def deals(call: Call, *, archived: bool) -> Reply:
    """A page of the deals that are archived, or that are not."""
    by = call.one_of("sort_by", ORDERS)
    call.one_of("sort_direction", _DIRECTIONS)
    wanted, of_status = _wanted(call), _of_status(call, "deal")
    found, cursor = paged(
        call,
        call.world.shown.ordered("deal", by),
        by=by,
        place=partial(place, by=by),
        limit=_limit(call),
        keep=lambda row: row.archived == archived and of_status(row) and wanted(row),
    )
    return answers.page((_encoded(call, row) for row in found), cursor, call.world.switches)


def deal(call: Call) -> Reply:
    """One deal by its id, archived or not."""
    return answers.single(_encoded(call, row_of(call, "deal")))


def projects(call: Call, *, archived: bool) -> Reply:
    """A page of the projects that are archived, or that are not: always by id, without any since."""
    keep = project_filter(call)
    found, cursor = paged(
        call,
        call.world.shown.ordered("project", "id"),
        by="id",
        place=partial(place, by="id"),
        limit=_limit(call),
        keep=lambda row: row.archived == archived and keep(row),
    )
    return answers.page((_encoded(call, row) for row in found), cursor, call.world.switches)


def project(call: Call) -> Reply:
    """One project by its id, archived or not."""
    return answers.single(_encoded(call, row_of(call, "project")))


# --- what has a name ------------------------------------------------------------------------------
def things(call: Call, *, table: str) -> Reply:
    """A page of stages, pipelines, boards, phases, persons or organizations."""
    refused = {"stage", "pipeline", "board", "phase"}
    if table in refused and {"updated_since", "updated_until"} & set(call.query):
        raise Rejected(400, "updated_since is not allowed")
    found: Iterable[Named] = call.world.tables[table].values()
    for name, of in (("pipeline_id", "stage"), ("board_id", "phase")):
        home = call.number(name)
        if table == of and home is not None:
            found = [named for named in found if named.home == home]
    ids = {int(one) for one in call.names("ids") if one.isdigit()}
    since = call.moment("updated_since")
    rows = sorted(
        (
            named
            for named in found
            if (not ids or named.id in ids) and (since is None or named.update_time >= since)
        ),
        key=_named_place,
    )
    page, cursor = paged(call, rows, by="id", place=_named_place, limit=_limit(call))
    return answers.page((dumps(views.thing(named)) for named in page), cursor, call.world.switches)


# --- how ------------------------------------------------------------------------------------------
def _limit(call: Call) -> int:
    return min(call.limit(), call.world.switches.page_most)


def project_filter(call: Call) -> Callable[[Row], bool]:
    """What the documented filters let through of the projects, archived or not."""
    _no_filter(call)
    phase, of_status = call.number("phase_id"), _of_status(call, "project")
    return lambda row: phase in {None, row.values["phase_id"]} and _sees(call, row) and of_status(row)


def _no_filter(call: Call) -> None:
    if call.number("filter_id") is not None:
        raise Rejected(400, "there is no such filter")


def _sees(call: Call, row: Row) -> bool:
    return call.token.sees(row.values["owner_id"])


def _wanted(call: Call) -> Callable[[Row], bool]:
    """The documented filters of deals but that of status."""
    _no_filter(call)
    ids = {int(one) for one in call.names("ids") if one.isdigit()}
    equal = [
        (name, value)
        for name in ("owner_id", "person_id", "org_id", "pipeline_id", "stage_id")
        if (value := call.number(name)) is not None
    ]
    since, until = call.moment("updated_since"), call.moment("updated_until")
    return lambda row: (
        (since is None or row.values["update_time"] >= since)
        and (until is None or row.values["update_time"] < until)
        and (not ids or row.id in ids)
        and all(row.values[name] == value for name, value in equal)
        and _sees(call, row)
    )


def _of_status(call: Call, kind: Kind) -> Callable[[Row], bool]:
    """Whether a row is of the statuses asked for; where none is, of any but deleted."""
    wanted = call.names("status", _STATUSES[kind])
    if not wanted:
        return lambda row: not row.deleted
    return lambda row: ("deleted" if row.deleted else row.values["status"]) in wanted


def row_of(call: Call, kind: Kind) -> Row:
    """The row that the path names, if the caller may have it.

    Raises:
        Rejected: there is none, it is another's, or deleted, as the switches say.
    """
    number, switches = call.place(), call.world.switches
    row = call.world.shown.get(f"{kind}/{number}")
    if row is None:
        raise Rejected(404, f"{kind.capitalize()} not found")
    if not _sees(call, row):
        raise Rejected(int(switches.forbidden_by_id), f"You have no access to this {kind}")
    if row.deleted and switches.deleted_by_id != "200":
        raise Rejected(int(switches.deleted_by_id), f"{kind.capitalize()} is deleted")
    return row


def _encoded(call: Call, row: Row) -> bytes:
    return call.world.encoded(row, "v2", lambda: dumps(views.shown(row, call.world.switches)))


def _named_place(named: Named) -> tuple[Any, int]:
    return named.id, named.id
