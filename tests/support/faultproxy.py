"""A proxy between us and a peer (Redis, a CRM, a receiver) that can be told to misbehave."""

import asyncio
import contextlib
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hiredis

CHUNK = 65_536
OPENING = {b"HELLO", b"AUTH", b"CLIENT", b"SELECT"}
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for zero seconds: close() sends RST instead of FIN."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where the real thing listens: a unix socket, or host and port."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 0

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.port)


@dataclass
class FaultProxy:
    """Forwards bytes both ways; set a field to make it misbehave from the next chunk on.

    `url` (unix) or `port` (TCP, always there) is where to connect instead of at the peer.
    """

    peer: Peer
    delay_s: float = 0.0
    """Each chunk of a reply comes this much later."""
    drop_replies: int = 0
    """So many replies are swallowed after the peer did the work; the connection is then closed."""
    reset: bool = False
    """New connections, and what is sent on old ones, are answered with RST."""
    half_open: bool = False
    """Everything is accepted and nothing forwarded: a peer that died in silence."""
    error: str = ""
    """What every command is answered with instead of reaching the peer, as `OOM command not allowed`; what
    opens a connection goes through."""
    errors: int = 0
    """Commands answered so, so far."""
    bytes_per_s: float = 0.0
    """Replies drip at this pace; 0 is no limit."""
    dropped: int = 0
    """Replies swallowed so far."""
    connections: int = 0
    """Connections accepted so far."""
    port: int = 0
    path: str = ""
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        """As redis.url."""
        return f"unix://{self.path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._couple(reader, writer)
        await _close(writer)

    async def _couple(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.reset:
            return _abort(writer)
        their_reader, their_writer = await self.peer.dial()
        ways = [
            asyncio.ensure_future(self._requests(reader, their_writer, writer)),
            asyncio.ensure_future(self._replies(their_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _close(their_writer)
        return None

    async def _requests(
        self, reader: asyncio.StreamReader, theirs: asyncio.StreamWriter, ours: asyncio.StreamWriter
    ) -> None:
        commands, cut = hiredis.Reader(), ""
        while chunk := await reader.read(CHUNK):
            if self.reset:
                return _abort(ours)
            asked = _commands(commands, chunk) if self.peer.path else []
            # A command that came in parts is refused whole, or the peer would get its tail.
            error = self.error or cut
            if error and not any(each in OPENING for each in asked):
                ours.write(f"-{error}\r\n".encode() * len(asked))
                self.errors += len(asked)
                cut = "" if asked else error
            elif not self.half_open:
                theirs.write(chunk)
                await theirs.drain()
        return None

    async def _replies(self, theirs: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        while chunk := await theirs.read(CHUNK):
            if self.drop_replies:
                self.drop_replies -= 1
                self.dropped += 1
                return
            if self.half_open:
                continue
            await asyncio.sleep(self.delay_s)
            await self._drip(chunk, ours)

    async def _drip(self, chunk: bytes, ours: asyncio.StreamWriter) -> None:
        step = max(1, int(self.bytes_per_s / 10)) if self.bytes_per_s else len(chunk)
        for start in range(0, len(chunk), step):
            ours.write(chunk[start : start + step])
            await ours.drain()
            if self.bytes_per_s:
                await asyncio.sleep(step / self.bytes_per_s)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def fault_proxy(
    *, path: str | Path | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[FaultProxy]:
    """Run a proxy before the peer at `path` (unix) or `host:port`, on a unix socket and a TCP port."""
    proxy = FaultProxy(Peer(path=None if path is None else str(path), host=host, port=port))
    with tempfile.TemporaryDirectory(prefix="fp-") as directory:
        proxy.path = f"{directory}/s"
        on_unix = await asyncio.start_unix_server(proxy._serve, proxy.path)
        on_tcp = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = on_tcp.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            on_unix.close()
            on_tcp.close()
            await proxy._stop()


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


def _commands(reader: Any, chunk: bytes) -> list[bytes]:
    """The names of the Redis commands that are whole now."""
    reader.feed(chunk)
    found = []
    while (command := reader.gets()) is not False:
        found.append(bytes(command[0]).upper())
    return found


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
