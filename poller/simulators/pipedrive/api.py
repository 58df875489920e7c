"""Pipedrive's API in front of one or more companies: who calls, what it costs, which endpoint answers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import answers, recents, v1, v2
from .answers import Reply
from .asking import Call, Rejected
from .tokens import Token
from .world import World

Gate: TypeAlias = Literal["", "projects", "deprecated"]
_DEALS, _PROJECTS = frozenset({"deals:read"}), frozenset({"projects:read"})
_RECENTS, _USERS = frozenset({"recents:read"}), frozenset({"users:read"})
_CONTACTS = frozenset({"contacts:read"})
_NO_ADDON = "Projects is not part of the plan"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One GET: its path, what it costs in tokens, what an OAuth token needs for it, and who answers."""

    path: str
    cost: int
    scopes: frozenset[str]
    answer: Callable[[Call], Reply]
    gate: Gate = ""


_V2 = (
    Endpoint("/deals", 10, _DEALS, partial(v2.deals, archived=False)),
    Endpoint("/deals/archived", 20, _DEALS, partial(v2.deals, archived=True)),
    Endpoint("/deals/{id}", 1, _DEALS, v2.deal),
    Endpoint("/stages", 5, _DEALS, partial(v2.things, table="stage")),
    Endpoint("/pipelines", 5, _DEALS, partial(v2.things, table="pipeline")),
    Endpoint("/persons", 10, _CONTACTS, partial(v2.things, table="person")),
    Endpoint("/organizations", 10, _CONTACTS, partial(v2.things, table="organization")),
    Endpoint("/projects", 10, _PROJECTS, partial(v2.projects, archived=False), "projects"),
    Endpoint("/projects/archived", 10, _PROJECTS, partial(v2.projects, archived=True), "projects"),
    Endpoint("/projects/{id}", 1, _PROJECTS, v2.project, "projects"),
    Endpoint("/boards", 10, _PROJECTS, partial(v2.things, table="board"), "projects"),
    Endpoint("/phases", 10, _PROJECTS, partial(v2.things, table="phase"), "projects"),
)
_V1 = (
    Endpoint("/stages", 10, _DEALS, v1.stages, "deprecated"),
    Endpoint("/stages/{id}/deals", 20, _DEALS, v1.stage_deals, "deprecated"),
    Endpoint("/recents", 20, _RECENTS, recents.recents),
    Endpoint("/projects", 20, _PROJECTS, v1.projects, "projects"),
    Endpoint("/projects/{id}", 2, _PROJECTS, v1.project, "projects"),
    Endpoint("/users", 20, _USERS, v1.users),
)
PREFIXES: Mapping[str, tuple[Endpoint, ...]] = {"/api/v2": _V2, "/api/v1": _V1, "/v1": _V1}
"""What is served under which prefix: v2 has but one, v1 the old one too."""


class Api:
    """The API over one or more companies; a token says which."""

    def __init__(self, *, worlds: Callable[[], list[World]], drift: Callable[[int], object]) -> None:
        """`drift` is called before each later page, with how many transitions are to happen."""
        self._worlds = worlds
        self._drift = drift

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route(prefix + endpoint.path, self._bound(endpoint), methods=["GET"])
            for prefix, endpoints in PREFIXES.items()
            for endpoint in endpoints
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._unknown})

    def _bound(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            world, token = self._caller(request)
            if world is None or token is None:
                return _sent(answers.error(401, "", self._worlds()[0].switches.errors), {})
            world.catch_up()
            verdict = world.meter.take(token.secret, endpoint.cost, now=world.now(), switches=world.switches)
            if verdict.status == 403:
                return _sent(answers.banned(), {})
            if verdict.status == 429:
                return _sent(answers.too_many(world.switches.limit_body), verdict.headers)
            try:
                reply = self._reply(request, endpoint, world, token)
            except Rejected as exc:
                reply = answers.error(exc.status, str(exc), world.switches.errors)
            return _sent(reply, verdict.headers)

        return answer

    def _caller(self, request: Request) -> tuple[World | None, Token | None]:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-token", "")
        bearer = bearer.strip() if scheme.lower() == "bearer" else ""
        for world in self._worlds():
            asked = key or (request.query_params.get("api_token", "") if world.switches.query_token else "")
            token = world.tokens.get(asked or bearer)
            fits = token is not None and (token.kind == "api") == bool(asked)
            if token is not None and fits and token.holds(now=world.now()):
                return world, token
        return None, None

    def _reply(self, request: Request, endpoint: Endpoint, world: World, token: Token) -> Reply:
        switches = world.switches
        if world.closed:
            raise Rejected(402, "Company account is not open (possible reason: trial expired)")
        if endpoint.gate == "deprecated" and switches.deprecated != "on":
            raise Rejected(int(switches.deprecated), "")
        if not token.reads(endpoint.scopes):
            raise Rejected(403, "Scope and URL mismatch")
        if endpoint.gate == "projects" and switches.projects != "on":
            raise Rejected(int(switches.projects), _NO_ADDON)
        query = dict(request.query_params)
        if switches.drift and (query.get("cursor") or query.get("start", "0") not in {"", "0"}):
            self._drift(switches.drift)
        return endpoint.answer(Call(world, token, request.url.path, request.path_params, query))

    async def _unknown(self, _request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        return _sent(answers.error(exc.status_code, "", self._worlds()[0].switches.errors), {})


def _sent(reply: Reply, headers: Mapping[str, str]) -> Response:
    return Response(reply.body, reply.status, media_type=reply.media, headers={**reply.headers, **headers})
