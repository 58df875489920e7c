"""The admin port of a simulator: orders in, the truth out. Never for the poller's eyes."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from poller.model import Json, dumps, loads
from poller.simulators.simulator import Simulator

MOST_STEPS = 10_000


def admin_app(simulator: Simulator[Any, Any, Any]) -> Starlette:
    """GET / /log /requests /switches; POST /orders/NAME /switches /step /faults, all in JSON."""
    desk = _Desk(simulator)
    return Starlette(
        routes=[
            Route("/", desk.summary),
            Route("/log", desk.log),
            Route("/requests", desk.requests),
            Route("/switches", desk.switches),
            Route("/switches", _told(desk.set_switches), methods=["POST"]),
            Route("/orders/{name}", _told(desk.order), methods=["POST"]),
            Route("/step", _told(desk.step), methods=["POST"]),
            Route("/faults", _told(desk.fault), methods=["POST"]),
        ]
    )


class _Desk:
    def __init__(self, simulator: Simulator[Any, Any, Any]) -> None:
        self._simulator = simulator

    async def summary(self, _request: Request) -> Response:
        simulator = self._simulator
        return _json(
            {
                "kind": simulator.kind,
                "url": simulator.url,
                "seq": simulator.log.seq,
                "orders": sorted(simulator.orders.named()),
                "switches": simulator.switches.model_dump(),
            }
        )

    async def log(self, request: Request) -> Response:
        after, limit = (int(request.query_params.get(name, "0")) for name in ("after", "limit"))
        return _json(self._simulator.log.since(after, limit=limit or None))

    async def requests(self, request: Request) -> Response:
        after = int(request.query_params.get("after", "0"))
        return _json([asdict(asked) for asked in self._simulator.requests if asked.number > after])

    async def switches(self, _request: Request) -> Response:
        return _json(self._simulator.switches.model_dump())

    async def set_switches(self, _request: Request, given: dict[str, Any]) -> Json:
        return self._simulator.set(**given).model_dump()

    async def order(self, request: Request, given: dict[str, Any]) -> Json:
        return self._simulator.order(request.path_params["name"], **given)

    async def step(self, _request: Request, given: dict[str, Any]) -> Json:
        count = int(given.get("n", 1))
        if not 0 < count <= MOST_STEPS:
            msg = f"n is {count}: it must be from 1 to {MOST_STEPS}."
            raise ValueError(msg)
        return self._simulator.life.steps(count)

    async def fault(self, _request: Request, given: dict[str, Any]) -> Json:
        self._simulator.fail_next(**given)
        return given


def _told(order: Callable[[Request, dict[str, Any]], Awaitable[Json]]) -> Callable[[Request], Any]:
    """Read a JSON object, carry the order out, and say what was wrong with it if it was."""

    async def answer(request: Request) -> Response:
        try:
            given = loads(await request.body() or b"{}")
            if not isinstance(given, dict):
                return _json({"error": "the body must be a JSON object."}, status=400)
            return _json(await order(request, given))
        except (ValueError, TypeError) as exc:
            return _json({"error": str(exc)}, status=400)

    return answer


def _json(value: Json, *, status: int = 200) -> Response:
    return Response(dumps(value), status, media_type="application/json")
