"""Close's API as far as a poller reads it: lists in envelopes, the event log, errors, limits."""

import base64
import binascii
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from poller.model import Json, dumps

from . import views
from .dates import read
from .journal import FILTERS, BadCursor
from .limits import GroupLimits, Headers, refusal, told
from .query import BadQuery, Found, found, whole
from .tables import Row
from .tokens import Token
from .world import World

Handler = Callable[[World, Token, Request], Response]
_EVENT_CAP = 50
_REMEMBERED = 8
_PAGING = {"_limit", "_skip", "_fields"}
_WORDS = {
    401: "The server could not verify that you are authorized to access the URL requested.",
    402: "The plan of this organization does not include this.",
    403: "You do not have permission to access this.",
    404: "Not found.",
    405: "The method is not allowed for the requested URL.",
}


class Api:
    """The API over one or more organizations; the key says which."""

    def __init__(
        self, *, worlds: Callable[[], list[World]], drift: Callable[[int], object], clock: Callable[[], float]
    ) -> None:
        """`drift` is called before each later page, with how many transitions are to happen."""
        self._worlds, self._drift, self._clock = worlds, drift, clock
        self._limits = GroupLimits()
        self._ties = random.Random(1)
        self._lists: OrderedDict[Any, Found] = OrderedDict()

    def app(self) -> Starlette:
        """The ASGI application; a path without its last slash is none."""
        paths: tuple[tuple[str, str, Handler], ...] = (
            ("/opportunity/", "opportunity", self._opportunities),
            ("/opportunity/{id}/", "opportunity_id", self._opportunity),
            ("/status/opportunity/", "status", self._statuses),
            ("/pipeline/", "pipeline", self._pipelines),
            ("/event/", "event", self._events),
            ("/activity/status_change/opportunity/", "activity", self._activities),
        )
        routes = [
            Route(f"/api/v1{path}", self._guarded(group, handler), methods=["GET"])
            for path, group, handler in paths
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _unknown})
        app.router.redirect_slashes = False
        return app

    # --- who asks ---------------------------------------------------------------------------
    def _guarded(self, group: str, handler: Handler) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            secret = _secret(request.headers.get("authorization", ""))
            world, token = self._holder(secret)
            standing = self._limits.take(
                group=group,
                key=secret,
                organization=world.tables.organization.id,
                now=self._clock(),
                switches=world.switches,
            )
            if standing and standing.refused:
                answer = refusal(standing, world.switches)
                return _with(Response(answer.body, answer.status), answer.headers)
            return _with(self._said(world, token, request, handler), told(standing, world.switches))

        return answer

    def _holder(self, secret: str) -> tuple[World, Token | None]:
        for world in self._worlds():
            if secret in world.tokens:
                return world, world.tokens[secret]
        return self._worlds()[0], None

    def _said(self, world: World, token: Token | None, request: Request, handler: Handler) -> Response:
        status = token.verdict(now=world.clock()) if token else 401
        if token is None or status != 200:
            return _error(status)
        try:
            return handler(world, token, request)
        except BadQuery as exc:
            told: Json = {"errors": [], "field-errors": {exc.field: str(exc)}}
            return _json(told if exc.field else {"error": str(exc)}, status=400)

    # --- opportunities ------------------------------------------------------------------------
    def _opportunities(self, world: World, token: Token, request: Request) -> Response:
        asked, switches = request.query_params, world.switches
        limit, skip = whole(asked, "_limit", min(100, switches.limit_cap)), whole(asked, "_skip", 0)
        if limit > switches.limit_cap:
            msg = f"The _limit {limit} is larger than allowed: max_limit = {switches.limit_cap}"
            raise BadQuery(msg)
        if skip > switches.skip_cap:
            msg = f"The _skip {skip} is larger than allowed: max_skip = {switches.skip_cap}"
            raise BadQuery(msg)
        if skip and switches.drift:
            self._drift(switches.drift)
        every = self._found(world, token, request)
        rows = every.rows[skip : skip + limit]
        items = b",".join(self._items(world, rows, asked.get("_fields", "")))
        more = b"true" if skip + limit < len(every.rows) else b"false"
        body = b'{"data":[' + items + b'],"has_more":' + more + b"," + dumps(every.totals)[1:]
        return Response(body, media_type="application/json")

    def _items(self, world: World, rows: list[Row], fields: str) -> list[bytes]:
        if not fields:
            return [world.encoded(row) for row in rows]
        return [dumps(_only(world.shown(row), fields)) for row in rows]

    def _found(self, world: World, token: Token, request: Request) -> Found:
        """What fits, found once for all pages as long as nothing changes."""
        switches = world.switches
        asked = {name: value for name, value in request.query_params.items() if name not in _PAGING}
        offset_h = _offset(request)
        random_ties = switches.tie_order == "random"
        asked_by = (id(world), world.version, token.secret, token.scope, offset_h)
        key = repr((asked_by, switches, sorted(asked.items())))
        known = None if random_ties or switches.replica_lag else self._lists.get(key)
        if known:
            return known
        fresh = found(
            [row for row in world.behind() if views.readable(row, token)],
            asked,
            shown=world.shown,
            offset_h=offset_h,
            precision_ms=switches.filter_precision_ms,
            ties=self._ties if random_ties else None,
        )
        self._lists[key] = fresh
        if len(self._lists) > _REMEMBERED:
            self._lists.popitem(last=False)
        return fresh

    def _opportunity(self, world: World, token: Token, request: Request) -> Response:
        row = world.rows.get(request.path_params["id"])
        if row is None or not views.readable(row, token):
            return _error(404)
        fields = request.query_params.get("_fields", "")
        return _json(_only(world.shown(row), fields))

    # --- names --------------------------------------------------------------------------------
    def _statuses(self, world: World, _token: Token, request: Request) -> Response:
        return _listed([views.status(one, world.tables) for one in world.tables.statuses.values()], request)

    def _pipelines(self, world: World, _token: Token, request: Request) -> Response:
        tables = world.tables
        at_ms = 1_641_391_898_195
        shown = [views.pipeline(one, tables, at_ms=at_ms) for one in tables.pipelines.values()]
        return _listed(shown, request)

    # --- history --------------------------------------------------------------------------------
    def _events(self, world: World, token: Token, request: Request) -> Response:
        asked, switches = request.query_params, world.switches
        since_ms, until_ms = _window(asked, _offset(request))
        try:
            page = world.journal.page(
                {name: asked[name] for name in FILTERS if asked.get(name)},
                limit=min(_EVENT_CAP, max(1, whole(asked, "_limit", _EVENT_CAP))),
                cursor=asked.get("_cursor", ""),
                now_ms=world.now_ms(),
                switches=switches,
                since_ms=since_ms,
                until_ms=until_ms,
                replica_lag=switches.replica_lag,
            )
        except BadCursor as exc:
            raise BadQuery(str(exc), field="_cursor") from exc
        except ValueError as exc:
            raise BadQuery(str(exc)) from exc
        shown = [
            world.journal.printed(event, admin=token.admin, now_ms=world.now_ms(), switches=switches)
            for event in page.events
        ]
        return _json({"data": shown, "cursor_next": page.next, "cursor_previous": page.previous})

    def _activities(self, world: World, _token: Token, request: Request) -> Response:
        asked = request.query_params
        since_ms, until_ms = _window(asked, _offset(request), name="date_created")
        kept = [
            one
            for one in world.activities
            if all(one[name] == asked[name] for name in ("opportunity_id", "lead_id") if asked.get(name))
            and (since_ms or 0) <= read(one["date_created"], offset_h=0) <= (until_ms or 1 << 62)
        ]
        return _listed(sorted(kept, key=lambda one: str(one["date_created"]), reverse=True), request)


def _secret(header: str) -> str:
    """The key of Basic (its password is empty), or the token of Bearer; empty where there is none."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        name, colon, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return name if colon and not password else ""


def _offset(request: Request) -> float:
    """Hours of `x-tz-offset`: moments without an offset are read in that zone."""
    try:
        return float(request.headers.get("x-tz-offset", "0"))
    except ValueError:
        return 0.0


def _window(
    asked: Mapping[str, str], offset_h: float, *, name: str = "date_updated"
) -> tuple[int | None, int | None]:
    """The first and last millisecond of a range of dates."""
    first = last = None
    for operator, shift in (("__gte", 0), ("__gt", 1), ("__lte", 0), ("__lt", -1)):
        if asked.get(name + operator):
            try:
                bound = read(asked[name + operator], offset_h=offset_h) + shift
            except (ValueError, OverflowError) as exc:
                msg = "Not a valid date or datetime."
                raise BadQuery(msg, field=name + operator) from exc
            first, last = (bound, last) if operator.startswith("__g") else (first, bound)
    return first, last


def _only(shown: Mapping[str, Json], fields: str) -> Mapping[str, Json]:
    return {name: shown[name] for name in fields.split(",") if name in shown} if fields else shown


def _listed(rows: list[Any], request: Request) -> Response:
    asked = request.query_params
    limit, skip = whole(asked, "_limit", 100), whole(asked, "_skip", 0)
    return _json({"data": rows[skip : skip + limit], "has_more": skip + limit < len(rows)})


async def _unknown(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return _error(exc.status_code)


def _error(status: int) -> Response:
    return _json({"error": _WORDS.get(status, "Error.")}, status=status)


def _json(value: Json, *, status: int = 200) -> Response:
    return Response(dumps(value), status, media_type="application/json")


def _with(response: Response, headers: Headers) -> Response:
    response.raw_headers = [pair for pair in response.raw_headers if pair[0] not in dict(headers)]
    response.raw_headers += headers
    return response
