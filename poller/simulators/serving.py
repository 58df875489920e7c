"""Serving an ASGI application on a port of its own, in a running loop; ends at once and leaves nothing."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from poller.serving import Guest

_LINGER_NONE = struct.pack("ii", 1, 0)


@asynccontextmanager
async def listening(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `app` while the block runs; gives its URL. Port 0 takes a free one.

    Raises:
        OSError: the port is taken, or not ours to take.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        scope["poller.hang_up"] = _hang_up(guest, scope)
        await app(scope, receive, send)

    guest, sock = Guest(answered), _bound(host, port)
    # Running requests are not waited for: one that hangs on purpose would never end.
    async with guest.answering(sock, farewell=_reset, farewell_s=0):
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{sock.getsockname()[1]}"


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


def _hang_up(guest: Guest, scope: Scope) -> Callable[[bool], None]:
    def hang_up(reset: bool) -> None:
        for connection in list(guest.server_state.connections):
            if getattr(connection, "client", None) == scope["client"]:
                _reset(connection) if reset else connection.transport.close()

    return hang_up


def _reset(connection: Any) -> None:
    """Send RST instead of an orderly end, as a crashed host or a cutting proxy does."""
    transport = connection.transport
    assert isinstance(transport, asyncio.Transport)
    sock = transport.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    transport.abort()
