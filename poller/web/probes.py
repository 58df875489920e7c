"""`/healthz`, `/readyz` and `/metrics`."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def healthz(request: Request) -> Response:
    """Whether this process should live on. Touches no dependency."""
    return _told(request, request.app.state.web.health.alive())


async def readyz(request: Request) -> Response:
    """Whether it can work now."""
    return _told(request, await request.app.state.web.health.ready())


def _told(request: Request, reasons: list[str]) -> Response:
    told: dict[str, object] = {"status": "unavailable" if reasons else "ok"}
    if reasons and request.state.visitor.reads:
        told["reasons"] = reasons
    return JSONResponse(told, status_code=503 if reasons else 200)


async def metrics(request: Request) -> Response:
    """Everything for Prometheus."""
    body, content_type = await request.app.state.web.meters.scrape(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


ROUTES = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
]
