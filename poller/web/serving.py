"""The service's own port: one that is taken is told at once, and running answers may end."""

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import methodcaller

from starlette.types import ASGIApp

from poller.errors import SettingsError
from poller.serving import Guest

BACKLOG = 256
FAREWELL_S = 1.0
"""How long running answers may take once the service ends."""


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

    `host` may be written as in a URL, `[::1]`.

    Raises:
        SettingsError: it is taken, or not ours to take.
    """
    host = host.strip("[]")
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
    if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
        return (
            f'web.host = "{host}" is no address of this machine ({exc.strerror or exc}): '
            "set another web.host (POLLER_WEB__HOST), such as 127.0.0.1 or 0.0.0.0"
        )
    return (
        f"web.port {port} on {host} cannot be taken ({exc.strerror or exc}): "
        "set another web.port (POLLER_WEB__PORT), or end the program that has it"
    )


@asynccontextmanager
async def serving(app: ASGIApp, listener: Listener, *, ending: Callable[[], None]) -> AsyncIterator[None]:
    """Answer on the port while the block runs; `ending` is called when it is left, to end what is endless."""
    farewell = methodcaller("shutdown")
    async with Guest(app).answering(listener.sock, farewell=farewell, farewell_s=FAREWELL_S):
        try:
            yield
        finally:
            ending()
