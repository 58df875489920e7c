"""`/healthz`, `/readyz` and `/metrics`."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .answers import Probe
from .operations import Operation


async def healthz(request: Request) -> Response:
    """Whether this process should live on. Touches no dependency."""
    health = request.app.state.web.health
    return _told(request, health.alive(), health.notes())


async def readyz(request: Request) -> Response:
    """Whether it can work now."""
    return _told(request, await request.app.state.web.health.ready())


def _told(request: Request, reasons: list[str], notes: list[str] | None = None) -> Response:
    told: dict[str, object] = {"status": "unavailable" if reasons else "ok"}
    if request.state.visitor.acts:  # on loopback too: who may read is not always who has the token
        told |= {"reasons": reasons} if reasons else {}
        told |= {"notes": notes} if notes else {}
    return JSONResponse(told, status_code=503 if reasons else 200)


async def metrics(request: Request) -> Response:
    """Everything for Prometheus."""
    body, content_type = await request.app.state.web.meters.scrape(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        name="isAlive",
        summary="Whether this process should live on; touches no dependency.",
        handler=healthz,
        answer=Probe,
        security="none",
        faults=(503,),
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="isReady",
        summary="Whether Redis is reachable and the scheduler ticks.",
        handler=readyz,
        answer=Probe,
        security="none",
        faults=(503,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="getMetrics",
        summary="Metrics in the text format of Prometheus, or as OpenMetrics.",
        handler=metrics,
        answer="text/plain",
        security="metrics",
    ),
)
