"""uvicorn in the service's own loop: no signal handlers, no log, a port that is taken is told at once."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from poller.errors import SettingsError

BACKLOG = 256
KEEP_ALIVE_S = 75
FAREWELL_S = 1.0
"""How long running answers may take once the service ends."""
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is ours."""

    sock: socket.socket
    url: str

    def close(self) -> None:
        """Give the port back."""
        self.sock.close()


def listen(host: str, port: int) -> Listener:
    """Take the port now, before anything else is started; requests wait in its queue. 0 takes a free one.

    Raises:
        SettingsError: it is taken, or not ours to take.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # The protocol is named, since asyncio sets TCP_NODELAY only where it is: else 40 ms an answer.
        sock = socket.socket(family, kind, proto)
    except OSError as exc:
        raise SettingsError([_refused(host, port, exc)]) from exc
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise SettingsError([_refused(host, port, exc)]) from exc
    shown = f"[{host}]" if ":" in host else host
    return Listener(sock, f"http://{shown}:{sock.getsockname()[1]}")


def _refused(host: str, port: int, exc: OSError) -> str:
    return (
        f"web.port {port} on {host} cannot be taken ({exc.strerror or exc}): "
        "set another web.port (POLLER_WEB__PORT), or end the program that has it"
    )


@asynccontextmanager
async def serving(app: ASGIApp, listener: Listener, *, ending: Callable[[], None]) -> AsyncIterator[None]:
    """Answer on the port while the block runs; `ending` is called when it is left, to end what is endless."""
    server = _Server(app)
    await server.open(listener.sock)
    clock = asyncio.create_task(server.date())
    try:
        yield
    finally:
        ending()
        clock.cancel()
        with suppress(asyncio.CancelledError):
            await clock
        await server.close()


class _Server(uvicorn.Server):
    """uvicorn as a guest: the host of the loop starts it, keeps its clock, and ends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        super().__init__(config)

    async def open(self, sock: socket.socket) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[sock])
        await self.on_tick(0)

    async def date(self) -> None:
        """Keep the Date header true, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            await self.on_tick(0)

    async def close(self) -> None:
        """Stop listening, let running answers end for a moment, then hang up."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        running = list(self.server_state.tasks)
        if running:
            await asyncio.wait(running, timeout=FAREWELL_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.close()
        for server in self.servers:
            await server.wait_closed()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Only `close` cancels: there is nobody left to answer.
        with suppress(asyncio.CancelledError):
            await self._app(scope, receive, send)
