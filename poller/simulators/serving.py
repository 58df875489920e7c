"""Serving an ASGI application on a port of its own, in a running loop; ends at once and leaves nothing."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

_KEEP_ALIVE_S = 75
_LINGER_NONE = struct.pack("ii", 1, 0)
_TICK_S = 1.0


@asynccontextmanager
async def listening(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `app` while the block runs; gives its URL. Port 0 takes a free one.

    Raises:
        OSError: the port is taken, or not ours to take.
    """
    sock = _bound(host, port)
    server = _Server(app)
    await server.open(sock)
    clock = asyncio.create_task(server.date())
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{sock.getsockname()[1]}"
    finally:
        clock.cancel()
        with suppress(asyncio.CancelledError):
            await clock
        await server.close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio sets TCP_NODELAY only where it is: else 40 ms an answer.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, its log and its slow farewell.

    Its own shutdown waits for running requests; ours hangs up on them, since a request that
    hangs on purpose would never end.
    """

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
            timeout_keep_alive=_KEEP_ALIVE_S,
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
        """Stop listening, hang up, and wait for what was running to see it."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            _reset(connection.transport)
        running = list(self.server_state.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for server in self.servers:
            await server.wait_closed()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["poller.hang_up"] = self._hang_up(scope)
        # Only `close` cancels, after it hung up: there is nobody left to answer.
        with suppress(asyncio.CancelledError):
            await self._app(scope, receive, send)

    def _hang_up(self, scope: Scope) -> Callable[[bool], None]:
        def hang_up(reset: bool) -> None:
            for connection in list(self.server_state.connections):
                if getattr(connection, "client", None) == scope["client"]:
                    _reset(connection.transport) if reset else connection.transport.close()

        return hang_up


def _reset(transport: asyncio.BaseTransport) -> None:
    """Send RST instead of an orderly end, as a crashed host or a cutting proxy does."""
    assert isinstance(transport, asyncio.Transport)
    sock = transport.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    transport.abort()
