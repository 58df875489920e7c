"""`poller demo`: the whole service on this machine, against a simulated CRM, in one command."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from poller import VerificationFailed, log, verify
from poller.app import Ears
from poller.app import serve as run_service
from poller.config import Settings
from poller.simulators import Options, serve
from poller.simulators.serving import listening

from .output import Screen, event_line, say
from .root import ConfigOption, app
from .webhooks import fresh_secret

EVERY = "1s"
BUDGET = "60000/5m"
"""A simulator on loopback has no limit worth keeping; a real account is polled at 240/5m."""


@app.command()
def demo(
    pace: Annotated[float, typer.Option(min=0.01, max=50, help="Changes a second in the CRM.")] = 1.5,
    events: Annotated[int, typer.Option(min=0, help="End after so many events; 0: only by Ctrl-C.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same life.")] = 7,
    config: ConfigOption = None,  # noqa: ARG001 -- every command takes --config; the demo needs none
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each CloudEvent as a line of JSON; the rest on stderr.")
    ] = False,
) -> None:
    """See it work: a simulated CRM, an embedded server, the service and a receiver that verifies."""
    log.configure(level="error", secrets=())
    asyncio.run(_demo(pace=pace, most=events, seed=seed, as_json=as_json))


async def _demo(*, pace: float, most: int, seed: int, as_json: bool) -> None:
    secret, stop = fresh_secret(), asyncio.Event()
    screen = Screen(stderr=as_json)
    audience = Audience(secret, screen, stop, most, as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="poller-demo-") as folder:
        async with (
            serve("drum", options=Options(records=200, seed=seed), pace=pace) as crm,
            listening(audience.app) as url,
        ):
            screen.print(
                f"A simulated Drum account with {len(crm.world.rows)} records lives at {crm.url}\n"
                f"poller asks it every second; a receiver at {url} verifies every signature.\n"
            )
            ears = Ears(serving=[lambda page: screen.print(f"The page: {page}\n")])
            await run_service(_settings(folder, crm.url, crm.token, url, secret), ears=ears, stop=stop)
    if audience.left_by:
        raise audience.left_by
    audience.bow(screen)


def _settings(folder: str, crm: str, token: str, receiver: str, secret: str) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": Path(folder),
            "web": {"port": 0},
            "sources": {
                "demo": {
                    "kind": "drum",
                    "token": token,
                    "base_url": crm,
                    "every": EVERY,
                    "budget": BUDGET,
                }
            },
            "webhooks": {
                "demo": {
                    "url": f"{receiver}/hooks",
                    "secrets": [secret],
                    "events": ["*", "poller.source.*"],
                    "allow_private": ["127.0.0.0/8"],
                }
            },
        }
    )


class Audience:
    """The receiver: verifies, prints, and counts what came twice."""

    def __init__(self, secret: str, screen: Screen, stop: asyncio.Event, most: int, *, as_json: bool) -> None:
        self._secret = secret
        self._screen = screen
        self._stop = stop
        self._most = most
        self._as_json = as_json
        self._ids: set[str] = set()
        self._twice = 0
        self._refused = 0
        self.left_by: BrokenPipeError | None = None
        """Whoever read what is printed is gone, as `head` after ten lines."""
        self.app = Starlette(routes=[Route("/hooks", self._hear, methods=["POST"])])

    async def _hear(self, request: Request) -> Response:
        body = await request.body()
        try:
            event = verify(request.headers, body, self._secret)
        except VerificationFailed as exc:
            self._refused += 1
            self._screen.print(f"refused: {exc}", style="bold red")
            return Response(status_code=400)
        self._note(event, body)
        return Response(status_code=204)

    def _note(self, event: dict[str, Any], body: bytes) -> None:
        self._twice += event["id"] in self._ids
        self._ids.add(event["id"])
        try:
            self._show(event, body)
        except BrokenPipeError as exc:
            self.left_by = exc
            self._stop.set()
        if self._most and len(self._ids) >= self._most:
            self._stop.set()

    def _show(self, event: dict[str, Any], body: bytes) -> None:
        if self._as_json:
            say(body.decode())
        else:
            self._screen.print(event_line(event, ("✓ verified", "green")))

    def bow(self, screen: Screen) -> None:
        """Say what was seen, and what to do next."""
        seen = len(self._ids)
        screen.print(
            f"\n{seen} events delivered and verified, {self._twice} twice, {self._refused} refused.\n"
            "Next:  poller init     set up your own account (poller.toml and .env)\n"
            "       poller check    see what the token may read, and how long a round takes\n"
            "       poller run      start the service"
        )
