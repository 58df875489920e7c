"""uvicorn as a guest in a running loop: no signal handlers, no log; whoever serves says how it hangs up."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

KEEP_ALIVE_S = 75
REQUEST_S = 30.0
"""How long a request may take to arrive, and an answer may wait until its reader takes anything of it. Who
never ends either would keep a file handle for ever, and without handles nothing is polled nor delivered."""
_TICK_S = 1.0


class Guest(uvicorn.Server):
    """The server of one application; `server_state` has its connections and its running answers."""

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

    @asynccontextmanager
    async def answering(
        self, sock: socket.socket, *, farewell: Callable[[Any], object], farewell_s: float
    ) -> AsyncIterator[None]:
        """Answer on a bound socket while the block runs.

        Then `farewell` is said to each connection; what still runs after `farewell_s` is cancelled.
        """
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[sock])
        await self.on_tick(0)
        clock = asyncio.create_task(self._date())
        try:
            yield
        finally:
            clock.cancel()
            with suppress(asyncio.CancelledError):
                await clock
            await self._close(farewell, farewell_s)

    async def _date(self) -> None:
        """Keep the Date header true, and hang up on who does not ask or read to the end, until cancelled."""
        loop, since = asyncio.get_running_loop(), dict[Any, float]()
        while True:
            await asyncio.sleep(_TICK_S)
            await self.on_tick(0)
            now = loop.time()
            since = {slow: since.get(slow, now) for slow in (*self._asking(), *self._unread())}
            for (connection, _), began in since.items():
                if now - began >= REQUEST_S:
                    connection.transport.abort()

    def _asking(self) -> Iterator[tuple[Any, Any]]:
        """The connections whose request has not arrived in full, each with the request before or begun."""
        for connection in self.server_state.connections:
            at: Any = connection
            cycle = at.cycle
            answering = cycle is not None and not (cycle.more_body or cycle.response_complete)
            if not answering and at.timeout_keep_alive_task is None:
                yield at, cycle

    def _unread(self) -> Iterator[tuple[Any, Any]]:
        """The connections that take no more of their answer, each with how much of it waits here."""
        for connection in self.server_state.connections:
            at: Any = connection
            if at.flow.write_paused:
                yield at, at.transport.get_write_buffer_size()

    async def _close(self, farewell: Callable[[Any], object], farewell_s: float) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            farewell(connection)
        running = list(self.server_state.tasks)
        if running and farewell_s:
            await asyncio.wait(running, timeout=farewell_s)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.close()
        for server in self.servers:
            await server.wait_closed()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Only the end cancels: there is nobody left to answer.
        with suppress(asyncio.CancelledError):
            await self._app(scope, receive, send)
