"""The JSON API: what the page and the commands show, and what they do."""

import asyncio
from functools import cache, partial
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from poller.model import dumps
from poller.schemas import asyncapi

from . import hooks, probes
from .actions import SOURCE_DOS, Actions, HookDo, Refused, SourceDo
from .answers import (
    AttemptAnswer,
    AttemptsAnswer,
    CountQuery,
    DeadsAnswer,
    Done,
    EnableRequest,
    EventsAnswer,
    EventsQuery,
    NoRequest,
    PollRequest,
    RecordAnswer,
    RecoverRequest,
    ResendRequest,
    SourcesAnswer,
    TestDone,
    TestRequest,
    WebhooksAnswer,
)
from .openapi import openapi
from .operations import Handler, Operation
from .records import record
from .search import find, placed, wanted_in

ModelT = TypeVar("ModelT", bound=BaseModel)


def told(answer: BaseModel) -> Response:
    """An answer as JSON; numbers keep the places that the CRM sent."""
    return Response(dumps(answer.model_dump()), media_type="application/json")


def query(request: Request, model: type[ModelT]) -> ModelT:
    """The query, judged.

    Raises:
        Refused: it is not understood.
    """
    return _judged(model, dict(request.query_params))


async def body(request: Request, model: type[ModelT]) -> ModelT:
    """The body, judged; an empty one says nothing.

    Raises:
        Refused: it is not understood. TooLarge: it is too large.
    """
    raw = await request.body()
    try:
        given = msgspec.json.decode(raw) if raw.strip() else {}
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        msg = f"the body is not JSON: {exc}"
        raise Refused(msg, status=422, code="invalid") from exc
    return _judged(model, given)


def _judged(model: type[ModelT], given: Any) -> ModelT:
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        faults = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in exc.errors()
        )
        raise Refused(faults[:500], status=422, code="invalid") from exc


# --- reading ------------------------------------------------------------------------------------


async def sources(request: Request) -> Response:
    """GET /api/sources."""
    return told(SourcesAnswer(sources=(await request.app.state.web.context.look()).sources))


async def webhooks(request: Request) -> Response:
    """GET /api/webhooks."""
    return told(WebhooksAnswer(webhooks=(await request.app.state.web.context.look()).webhooks))


async def events(request: Request) -> Response:
    """GET /api/events."""
    web, asked = request.app.state.web, query(request, EventsQuery)
    try:
        found = await find(
            web.page_reads, await web.sources(), wanted_in(asked), limit=asked.limit, before=asked.before
        )
    except ValueError as exc:
        msg = f"before = {asked.before!r} is no cursor; give `next` of the answer before"
        raise Refused(msg, status=422, code="invalid") from exc
    return told(
        EventsAnswer(
            events=[placed(entry) for entry in found.entries], next=found.next, searched_to=found.searched_to
        )
    )


async def one_record(request: Request) -> Response:
    """GET /api/records/SOURCE/KIND/ID."""
    web, given = request.app.state.web, request.path_params
    found = await record(web.context, web.page_reads, given["source"], given["kind"], given["id"])
    if found is None:
        msg = f"nothing is known of {given['kind']}/{given['id']} in {given['source']}"
        raise Refused(msg[:300], status=404, code="not_found")
    return told(found)


async def attempts(request: Request) -> Response:
    """GET /api/webhooks/NAME/attempts."""
    web, name = request.app.state.web, request.path_params["name"]
    await web.actions.endpoint_standing(name)
    found = await web.admin.attempts(name, count=query(request, CountQuery).limit)
    return told(AttemptsAnswer(webhook=name, attempts=[AttemptAnswer.model_validate(each) for each in found]))


async def dead(request: Request) -> Response:
    """GET /api/webhooks/NAME/dead."""
    web, name = request.app.state.web, request.path_params["name"]
    await web.actions.endpoint_standing(name)
    limit = query(request, CountQuery).limit
    return told(DeadsAnswer(webhook=name, dead=await web.actions.dead(name, count=limit)))


async def openapi_document(request: Request) -> Response:  # noqa: ARG001 -- Starlette hands it over
    """GET /openapi.json."""
    return Response(await asyncio.to_thread(_openapi), media_type="application/json")


async def asyncapi_document(request: Request) -> Response:  # noqa: ARG001 -- Starlette hands it over
    """GET /asyncapi.json."""
    return Response(await asyncio.to_thread(_asyncapi), media_type="application/json")


# Made once, and beside the loop: the schemas of all events take some 0.3 s.
@cache
def _openapi() -> bytes:
    return dumps(document())


@cache
def _asyncapi() -> bytes:
    return dumps(asyncapi())


# --- acting ---------------------------------------------------------------------------------------


async def source_action(do: SourceDo, request: Request) -> Response:
    """POST /api/sources/NAME/(poll|pause|resume|resync|release)."""
    asked = await body(request, PollRequest if do == "poll" else NoRequest)
    record = asked.record or "" if isinstance(asked, PollRequest) else ""
    actions: Actions = request.app.state.web.actions
    return told(await (await actions.source(request.path_params["name"], do, record=record)).perform())


async def webhook_action(do: HookDo, model: type[BaseModel], request: Request) -> Response:
    """POST /api/webhooks/NAME/(test|resend|recover|enable|disable)."""
    asked = await body(request, model)
    if isinstance(asked, RecoverRequest) and asked.dead == bool(asked.since):
        msg = 'say what to send again: {"since": "2h"} or {"dead": true}'
        raise Refused(msg, status=422, code="invalid")
    actions: Actions = request.app.state.web.actions
    given = asked.model_dump(by_alias=True, exclude_none=True)
    return told(await (await actions.endpoint(request.path_params["name"], do, given)).perform())


# --- the table --------------------------------------------------------------------------------------


def _get(path: str, name: str, summary: str, handler: Any, answer: Any, **more: Any) -> Operation:
    return Operation(
        method="GET", path=path, name=name, summary=summary, handler=handler, answer=answer, **more
    )


def _post(path: str, name: str, summary: str, handler: Handler, request: Any, answer: Any) -> Operation:
    return Operation(
        method="POST",
        path=path,
        name=name,
        summary=summary,
        handler=handler,
        answer=answer,
        request=request,
        security="act",
        faults=(404, 409, 422),
    )


_SOURCE_WORDS = {
    "poll": "Read a source, or one record of it, now, within its budget.",
    "pause": "Stop reading a source until it is resumed.",
    "resume": "Go on with a source that was paused, or ask one at once that is suspended.",
    "resync": "Read everything again, and publish the differences.",
    "release": "Say that records which are missing all at once may really be gone.",
}


def _source_action(do: SourceDo) -> Operation:
    handler, model = partial(source_action, do), PollRequest if do == "poll" else NoRequest
    return _post(f"/api/sources/{{name}}/{do}", f"{do}Source", _SOURCE_WORDS[do], handler, model, Done)


def _webhook_action(
    do: HookDo, name: str, summary: str, model: type[BaseModel], answer: type[Done] = Done
) -> Operation:
    handler = partial(webhook_action, do, model)
    return _post(f"/api/webhooks/{{name}}/{do}", name, summary, handler, model, answer)


OPERATIONS: tuple[Operation, ...] = (
    *probes.OPERATIONS,
    *hooks.OPERATIONS,
    _get("/api/sources", "listSources", "All sources, and how each stands.", sources, SourcesAnswer),
    _get("/api/webhooks", "listWebhooks", "All endpoints, and how each stands.", webhooks, WebhooksAnswer),
    _get(
        "/api/events",
        "listEvents",
        "Events, newest first.",
        events,
        EventsAnswer,
        query=EventsQuery,
        faults=(422,),
    ),
    _get(
        "/api/records/{source}/{kind}/{id:path}",
        "getRecord",
        "A record as known, and its history.",
        one_record,
        RecordAnswer,
        faults=(404,),
    ),
    _get(
        "/api/webhooks/{name}/attempts",
        "listAttempts",
        "An endpoint's newest attempts.",
        attempts,
        AttemptsAnswer,
        query=CountQuery,
        faults=(404, 422),
    ),
    _get(
        "/api/webhooks/{name}/dead",
        "listDead",
        "An endpoint's dead letters.",
        dead,
        DeadsAnswer,
        query=CountQuery,
        faults=(404, 422),
    ),
    *map(_source_action, SOURCE_DOS),
    _webhook_action("test", "testWebhook", "Send one example now; see the answer.", TestRequest, TestDone),
    _webhook_action("resend", "resendEvent", "Send one event again.", ResendRequest),
    _webhook_action(
        "recover",
        "recoverWebhook",
        "Send again what was detected since a while ago, or all dead letters.",
        RecoverRequest,
    ),
    _webhook_action(
        "enable", "enableWebhook", "Let an endpoint go on, from its place or from now.", EnableRequest
    ),
    _webhook_action(
        "disable", "disableWebhook", "Send nothing more to an endpoint; it keeps its place.", NoRequest
    ),
    _get(
        "/openapi.json", "getOpenapi", "This document.", openapi_document, "application/json", security="read"
    ),
    _get(
        "/asyncapi.json",
        "getAsyncapi",
        "The events, as AsyncAPI 3.",
        asyncapi_document,
        "application/json",
        security="read",
    ),
)


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return openapi(OPERATIONS)
