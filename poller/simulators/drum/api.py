"""Drum's four GETs: bare arrays, pages, roles, both shapes of errors. Nothing else is offered, as in Drum."""

import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from poller.model import dumps

from .fields import TAGS, Kind
from .switches import Switches
from .tables import Row
from .tokens import Token
from .views import readable
from .world import World

_JSON = "application/json; charset=utf-8"
_NAMES: Mapping[str, tuple[str, str, str, str]] = {
    "pagy8": ("current-page", "page-items", "total-pages", "total-count"),
    "pagy9": ("current-page", "page-limit", "total-pages", "total-count"),
    "renamed": ("x-page", "x-per-page", "x-total-pages", "x-total"),
}
_WORDS = {
    401: ("Unauthorized", "Invalid or missing API token", "unauthorized"),
    403: ("Forbidden", "You do not have permission to perform this action", "forbidden"),
    404: ("Not Found", "{Kind} not found or not accessible", "not_found"),
    500: ("Internal Server Error", "Something went wrong", "internal_error"),
}


class Api:
    """The API over one or more accounts; a token says which."""

    def __init__(self, *, worlds: Callable[[], list[World]], drift: Callable[[int], object]) -> None:
        """`drift` is called before each later page, with how many transitions are to happen."""
        self._worlds = worlds
        self._drift = drift

    def app(self) -> Starlette:
        """The ASGI application."""
        kinds: tuple[tuple[str, Kind], ...] = (("opportunities", "opportunity"), ("projects", "project"))
        routes = []
        for plural, kind in kinds:
            routes.append(Route(f"/api/v1/{plural}", _bound(self._list, kind), methods=["GET"]))
            routes.append(Route(f"/api/v1/{plural}/{{id}}", _bound(self._show, kind), methods=["GET"]))
        return Starlette(routes=routes, exception_handlers={HTTPException: self._unknown})

    async def _list(self, request: Request, kind: Kind) -> Response:
        world, token, status = self._caller(request)
        if world is None or token is None:
            return self._error(status, kind)
        switches = world.switches
        page = max(1, _whole(request, "page", 1))
        if page > 1 and switches.drift:
            self._drift(switches.drift)
        rows = _filtered(world.ordered(kind, token.role, switches.sort), request, kind)
        return self._page(request, kind, world, token, rows, page)

    def _page(
        self, request: Request, kind: Kind, world: World, token: Token, rows: list[Row], page: int
    ) -> Response:
        switches = world.switches
        items = min(switches.items_cap, max(1, _whole(request, "items", switches.items_default)))
        pages = max(1, math.ceil(len(rows) / items))
        if page > pages and switches.past_end in {"404", "500"}:
            return self._error(int(switches.past_end), kind)
        if page > pages and switches.past_end == "last":
            page = pages
        shown = rows[(page - 1) * items : page * items]
        body = b"[" + b",".join(world.encoded(row, token.role, detail=False) for row in shown) + b"]"
        headers = _headers(request, switches, page=page, items=items, pages=pages, count=len(rows))
        return Response(body, media_type=_JSON, headers=headers)

    async def _show(self, request: Request, kind: Kind) -> Response:
        world, token, status = self._caller(request)
        if world is None or token is None:
            return self._error(status, kind)
        given = request.path_params["id"]
        row = world.rows.get(int(given)) if given.isascii() and given.isdigit() else None
        if row is None or row.kind != kind or not readable(row, token.role):
            return self._error(404, kind)
        return Response(world.encoded(row, token.role, detail=True), media_type=_JSON)

    def _caller(self, request: Request) -> tuple[World | None, Token | None, int]:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        for world in self._worlds():
            token = world.tokens.get(secret.strip())
            if scheme.lower() == "bearer" and token:
                status = token.verdict(now=world.clock())
                return (world, token, status) if status == 200 else (None, None, status)
        return None, None, 401

    async def _unknown(self, _request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        return self._error(404 if exc.status_code == 405 else exc.status_code, "opportunity")

    def _error(self, status: int, kind: Kind) -> Response:
        shape = self._worlds()[0].switches.errors
        word, message, type_ = _WORDS[status]
        if shape == "documented":
            shape = "string" if kind == "opportunity" else "object"
        if shape == "html":
            return HTMLResponse(f"<html><body><h1>{status} {word}</h1></body></html>", status)
        told: Any = word
        if shape == "object":
            told = {"message": message.format(Kind=kind.capitalize()), "type": type_, "code": status}
        return Response(dumps({"error": told}), status, media_type=_JSON)


def _bound(handler: Callable[..., Any], kind: Kind) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        response: Response = await handler(request, kind)
        return response

    return answer


def _whole(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else default


def _filtered(rows: list[Row], request: Request, kind: Kind) -> list[Row]:
    """The documented filters; those that a kind does not have are ignored, as unknown ones are."""
    asked = request.query_params
    status = asked.get("status") or asked.get("project_status")
    pairs = [("project_status", status)]
    if kind == "opportunity":
        pairs += [("lead_score", asked.get("lead_score")), ("team", asked.get("team"))]
    for name, value in pairs:
        if value:
            rows = [row for row in rows if row.values[name] == value]
    if asked.get("assigned_to"):
        rows = [row for row in rows if asked["assigned_to"] in row.values["assigned_users"]]
    tags = set(asked.getlist(f"{kind}_tag_list[]"))
    return [row for row in rows if tags & set(row.values[TAGS[kind]])] if tags else rows


def _headers(
    request: Request, switches: Switches, *, page: int, items: int, pages: int, count: int
) -> dict[str, str]:
    if switches.headers == "off":
        return {}
    values = (str(page), str(items), str(pages), str(count))
    found = dict(zip(_NAMES[switches.headers], values, strict=True))
    if switches.headers != "renamed":
        found["link"] = _links(request, page, pages)
    return found


def _links(request: Request, page: int, pages: int) -> str:
    goals = {"first": 1, "prev": page - 1, "next": page + 1, "last": pages}
    base = str(request.url.replace(query=""))
    query = [pair for pair in request.query_params.multi_items() if pair[0] != "page"]
    return ", ".join(
        f'<{base}?{urlencode([*query, ("page", str(goal))])}>; rel="{rel}"'
        for rel, goal in goals.items()
        if 1 <= goal <= pages
    )
