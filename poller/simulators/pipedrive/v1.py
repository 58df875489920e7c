"""API v1: what the old document names and still answers, in the old shapes, by start and limit."""

from collections.abc import Iterable

from poller.model import dumps

from . import answers, legacy
from .answers import Reply
from .asking import Call, Rejected, paged
from .tables import Named, Row
from .v2 import project_filter, row_of
from .views import status_of

_MOST = 500


def stages(call: Call) -> Reply:
    """All stages, or those of a pipeline."""
    pipeline = call.number("pipeline_id")
    rows = [named for named in _rows(call, "stage") if pipeline in {None, named.home}]
    start, limit = window(call)
    shown = rows[start : start + limit]
    more = len(rows) > start + limit
    return answers.page_v1((_thing(call, one) for one in shown), start=start, limit=limit, more=more)


def stage_deals(call: Call) -> Reply:
    """The open deals of a stage: the caller's own, those of `user_id`, or with `everyone=1` all."""
    stage = call.place()
    if stage not in call.world.tables["stage"]:
        raise Rejected(404, "Stage not found")
    user = None if call.query.get("everyone") == "1" else call.number("user_id") or call.token.user
    rows = [
        row
        for row in call.world.shown.ordered("deal", "id")
        if not row.archived
        and status_of(row, call.world.switches) == "open"
        and not row.deleted
        and row.values["stage_id"] == stage
        and user in {None, row.values["owner_id"]}
        and call.token.sees(row.values["owner_id"])
    ]
    start, limit = window(call)
    shown = rows[start : start + limit]
    more = len(rows) > start + limit
    return answers.page_v1((deal(call, row) for row in shown), start=start, limit=limit, more=more)


def projects(call: Call) -> Reply:
    """Projects by cursor; archived ones only with include_archived."""
    archived = call.query.get("include_archived", "").lower() in {"1", "true"}
    keep = project_filter(call)
    found, cursor = paged(
        call,
        call.world.shown.ordered("project", "id"),
        by="id",
        place=lambda row: (row.id, row.id),
        limit=min(call.limit(), call.world.switches.page_most),
        keep=lambda row: (archived or not row.archived) and keep(row),
    )
    return answers.page((_project(call, row) for row in found), cursor, call.world.switches)


def project(call: Call) -> Reply:
    """One project."""
    return answers.single_v1(legacy.project(row_of(call, "project"), call.world.switches))


def users(call: Call) -> Reply:
    """All users, in one piece."""
    return answers.single_v1([legacy.thing(named, call.world.tables) for named in _rows(call, "user")])


def window(call: Call) -> tuple[int, int]:
    """`start` and `limit`; v1 takes as many as it gives, and says nothing of it."""
    return call.number("start") or 0, min(call.number("limit") or 100, _MOST)


def deal(call: Call, row: Row) -> bytes:
    """A deal in the old shape."""
    world = call.world
    return world.encoded(row, "v1", lambda: dumps(legacy.deal(row, world.tables, world.switches)))


def _project(call: Call, row: Row) -> bytes:
    return call.world.encoded(row, "v1", lambda: dumps(legacy.project(row, call.world.switches)))


def _rows(call: Call, table: str) -> Iterable[Named]:
    return sorted(call.world.tables[table].values(), key=lambda named: named.id)


def _thing(call: Call, named: Named) -> bytes:
    return dumps(legacy.thing(named, call.world.tables))
