"""The pages: overview, events, one event, a record, sources, endpoints. They only read."""

import shlex
import time
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from poller.deliver.filters import wants_source, wants_type
from poller.model import Entry, pretty

from .actions import Refused
from .answers import EventsQuery
from .api import query
from .faults import fault
from .needs import needs
from .plots import attempts_record, day_bars, share_curve
from .records import pretty_body, record
from .render import asset, page
from .search import Wanted, find, opened, valid_place, wanted_in

LATEST = 8
ROWS = 50
MOST_DELIVERIES = 30
CARDS = 6
"""Endpoints that the overview shows in full; of more, those that need somebody come first."""
TYPES = {"poller.css": "text/css", "poller.js": "text/javascript", "icon.svg": "image/svg+xml"}


async def overview(request: Request) -> Response:
    """GET /."""
    web = request.app.state.web
    now = time.time()
    seen = await web.context.look()
    if not seen.sources:
        return page(request, "first.html", title="Welcome")
    names = [each.source for each in seen.sources]
    day = await web.trends.day(names)
    found = await find(web.page_reads, names, Wanted(), limit=LATEST)
    webhooks = sorted(seen.webhooks, key=lambda each: (each.well, -each.dead, -each.waiting))
    return page(
        request,
        "overview.html",
        title="Overview",
        seen=seen,
        needs=needs(seen),
        day=day,
        bars=day_bars(day),
        budgets={name: share_curve(await web.trends.budget(name), now=now) for name in names},
        webhooks=webhooks[:CARDS],
        more_webhooks=len(webhooks) - CARDS,
        entries=found.entries,
    )


# --- events -------------------------------------------------------------------------------------


async def events(request: Request) -> Response:
    """GET /events."""
    web, asked = request.app.state.web, query(request, EventsQuery)
    names = await web.sources()
    try:
        found = await find(web.page_reads, names, wanted_in(asked), limit=ROWS, before=asked.before)
    except ValueError as exc:
        msg = "this page's address is damaged: go back to the newest events"
        raise Refused(msg, status=422, code="invalid") from exc
    return page(
        request, "events.html", title="Events", asked=asked, found=found, sources=names, live=_live(asked)
    )


def _live(asked: EventsQuery) -> str:
    """The query of the live feed; empty on an older page, which nothing is added to."""
    told = asked.model_dump(exclude={"limit", "before"}, exclude_defaults=True)
    return "" if asked.before else f"/events/live?{QueryParams(told)}"


async def live(request: Request) -> Response:
    """GET /events/live: server-sent events."""
    web, asked = request.app.state.web, query(request, EventsQuery)
    if web.feed.full:
        return fault(503, "busy", "too many listen already", headers={"retry-after": "10"})
    after = request.headers.get("last-event-id", "") or asked.before
    if after and not valid_place(after.partition(".")[0]):
        after = ""
    return StreamingResponse(web.feed.listen(wanted_in(asked), after=after), media_type="text/event-stream")


async def event(request: Request) -> Response:
    """GET /events/SOURCE/PLACE."""
    web, source, place = request.app.state.web, request.path_params["source"], request.path_params["place"]
    entry: Entry | None = await web.page_reads.entry(source, place) if valid_place(place) else None
    if entry is None:
        msg = "there is no such event; it may be older than the retention (redis.retention)"
        raise Refused(msg, status=404, code="not_found")
    concerned = [
        name
        for name, given in web.context.endpoints.items()
        if wants_source(given.sources, source) and wants_type(given.events, entry.event.type)
    ]
    told = opened(entry)
    return page(
        request,
        "event.html",
        title=entry.event.type,
        entry=entry,
        event=told,
        **_told(told),
        json=pretty_body(entry.event.body),
        curl=_curl(entry),
        deliveries=await web.page_reads.deliveries(source, entry, concerned[:MOST_DELIVERIES]),
        more=len(concerned) - MOST_DELIVERIES,
        bounds=_bounds(told),
    )


def _told(event: dict[str, Any]) -> dict[str, Any]:
    """`changes`: (field, before, after); `others`: (field, value)."""
    data = event.get("data") or {}
    now, before = data.get("object") or {}, data.get("previous") or {}
    changed = [name for name in (data.get("changed") or ()) if name in before]
    return {
        "changes": [(name, before[name], now.get(name)) for name in changed],
        "others": [(name, value) for name, value in now.items() if name not in changed],
    }


def _bounds(event: dict[str, Any]) -> tuple[str, str]:
    observed = (event.get("data") or {}).get("observed") or {}
    return str(observed.get("not_before") or ""), str(observed.get("not_after") or "")


def _curl(entry: Entry) -> str:
    """A command that posts the event to a receiver under development."""
    parts = [
        "curl http://localhost:3000/hooks",
        "-H 'content-type: application/json'",
        f"-H {shlex.quote(f'webhook-id: {entry.event.id}')}",
        f"--data-raw {shlex.quote(entry.event.body.decode('utf-8', 'replace'))}",
    ]
    return " \\\n  ".join(parts)


async def one_record(request: Request) -> Response:
    """GET /records/SOURCE/KIND/ID."""
    web, given = request.app.state.web, request.path_params
    found = await record(web.context, web.page_reads, given["source"], given["kind"], given["id"])
    if found is None:
        msg = "nothing is known of this record; it may never have been listed"
        raise Refused(msg, status=404, code="not_found")
    facts = web.context.sources.get(found.source)
    return page(
        request,
        "record.html",
        title=found.record,
        record=found,
        json=pretty(found.object),
        readable=facts is not None and given["kind"] in facts.lists,
    )


# --- sources and endpoints ------------------------------------------------------------------------


async def one_source(request: Request) -> Response:
    """GET /sources/NAME."""
    web, name = request.app.state.web, request.path_params["name"]
    standing = await web.actions.source_standing(name)
    now = time.time()
    day = await web.trends.day([name])
    return page(
        request,
        "source.html",
        title=name,
        source=standing,
        day=day,
        bars=day_bars(day),
        curve=share_curve(await web.trends.budget(name), now=now),
        entries=(await find(web.page_reads, [name], Wanted(), limit=LATEST)).entries,
        hook=bool(web.context.sources[name].hook_secret),
    )


async def webhooks(request: Request) -> Response:
    """GET /webhooks."""
    seen = await request.app.state.web.context.look()
    found = sorted(seen.webhooks, key=lambda each: (each.well, -each.dead, -each.waiting, each.webhook))
    return page(request, "webhooks.html", title="Webhooks", seen=seen, webhooks=found)


async def one_webhook(request: Request) -> Response:
    """GET /webhooks/NAME."""
    web, name = request.app.state.web, request.path_params["name"]
    standing = await web.actions.endpoint_standing(name)
    tried = await web.admin.attempts(name, count=1000)
    return page(
        request,
        "webhook.html",
        title=name,
        webhook=standing,
        settings=web.context.endpoints[name],
        url=web.context.shown_urls.get(name, ""),
        record=attempts_record(tried, now=time.time()),
        attempts=tried[:ROWS],
        dead=await web.actions.dead(name, count=ROWS),
    )


async def static(request: Request) -> Response:
    """GET /static/NAME: our own files, kept for good where the address names the version."""
    name = request.path_params["name"]
    if name not in TYPES:
        raise Refused("there is no such file", status=404, code="not_found")
    versioned = "v" in request.query_params
    kept = "public, max-age=31536000, immutable" if versioned else "no-cache"
    return Response(asset(name), media_type=TYPES[name], headers={"cache-control": kept})


ROUTES = [
    Route("/", overview),
    Route("/events", events),
    Route("/events/live", live),
    Route("/events/{source}/{place}", event),
    Route("/records/{source}/{kind}/{id:path}", one_record),
    Route("/sources/{name}", one_source),
    Route("/webhooks", webhooks),
    Route("/webhooks/{name}", one_webhook),
    Route("/static/{name}", static),
]
