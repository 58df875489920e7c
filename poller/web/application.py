"""The application: its parts, its routes, and what runs beside them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from poller.errors import StoreError
from poller.store.connection import ended
from poller.store.operators import EndpointAdmin
from poller.store.page_reads import PageReads
from poller.store.streams import Streams

from . import api, forms, pages
from .actions import Actions, Refused
from .context import Recent, WebContext
from .faults import TooLarge, fault
from .guard import Guard
from .health import Health, LoopWatch
from .hooks import Hints
from .live import Feed
from .metrics import Meters
from .render import warm
from .serving import Listener, serving
from .trends import Trends


class Web:
    """Everything that answers over HTTP, for one service."""

    def __init__(self, context: WebContext, *, stopping: Callable[[], bool]) -> None:
        context = replace(context, look=Recent(context.look))
        self.context = context
        self.warm = False
        """Whether no page pays for compiling its template any more."""
        self.watch = LoopWatch()
        self.health = Health(context, self.watch, stopping=stopping)
        self.meters = Meters(context, self.watch)
        self.page_reads = PageReads(context.connection, context.keys)
        self.streams = Streams(context.connection, context.keys)
        self.admin = EndpointAdmin(context.connection, context.keys)
        self.actions = Actions(context)
        self.feed = Feed(self.streams)
        self.trends = Trends(context, self.page_reads)
        self.hints = Hints()
        self.app: ASGIApp = Guard(self._application(), door=context.door)

    def _application(self) -> Starlette:
        made = Starlette(
            routes=[
                *(Route(each.path, each.handler, methods=[each.method]) for each in api.OPERATIONS),
                *pages.ROUTES,
                *forms.ROUTES,
            ],
            exception_handlers={
                Refused: _refused,
                StoreError: _store_away,
                TooLarge: _too_large,
                HTTPException: _http,
                Exception: _failed,
            },
        )
        made.state.web = self
        return made

    def start(self) -> "list[asyncio.Task[None]]":
        """What goes on beside the answers, until it is ended."""
        work = (self._warm(), self.watch.run(), self.trends.run())
        return [asyncio.create_task(each) for each in work]

    async def _warm(self) -> None:
        await asyncio.to_thread(warm)
        self.warm = True

    async def sources(self) -> list[str]:
        """The sources that have a stream: those of the settings, and what was polled before."""
        return sorted({*self.context.sources, *await self.streams.sources()})

    def end(self) -> None:
        """End what would never end by itself."""
        self.feed.end()


@asynccontextmanager
async def opened(web: Web, listener: Listener) -> AsyncIterator[None]:
    """Answer on the port while the block runs."""
    beside = web.start()
    try:
        async with serving(web.app, listener, ending=web.end):
            yield
    finally:
        await ended(beside)
        await web.feed.close()


async def _store_away(request: Request, exc: Exception) -> Response:
    return fault(503, "store_unavailable", str(exc), headers={"retry-after": "5"}, request=request)


async def _refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refused)
    return fault(exc.status, exc.code, str(exc), request=request)


async def _too_large(request: Request, exc: Exception) -> Response:
    return fault(413, "too_large", str(exc), request=request)


async def _http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    code = (
        "not_found" if exc.status_code == 404 else "method_not_allowed" if exc.status_code == 405 else "error"
    )
    text = f"there is nothing at {request.url.path[:200]}" if exc.status_code == 404 else str(exc.detail)
    return fault(exc.status_code, code, text, headers=exc.headers, request=request)


async def _failed(request: Request, exc: Exception) -> Response:  # noqa: ARG001 -- Starlette hands it over
    text = "this is a fault of poller itself; its log says more"
    return fault(500, "internal", text, request=request)
