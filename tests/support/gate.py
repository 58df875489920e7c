"""A way to Redis that can hold one commit back: sent by a replica, executed when the test lets it through."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from poller.store.connection import Script

CHUNK = 65_536


@dataclass
class Gate:
    """Forwards everything; after `shut` the next commit waits until `open`, and its reply is remembered."""

    server: Path
    url: str = ""
    replies: list[bytes] = field(default_factory=list)
    """What Redis answered to the commits that were held back."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """A commit stands before the gate."""
    _shut: bool = False
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    _sha: bytes = field(default_factory=Script("commit").sha.encode)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def shut(self) -> None:
        """Hold the next commit back."""
        self.held.clear()
        self._opened.clear()
        self._shut = True

    def open(self) -> None:
        """Let through what stands before the gate."""
        self._shut = False
        self._opened.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Couple one connection with the server."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        theirs, to_them = await asyncio.open_unix_connection(str(self.server))
        waits = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._there(reader, to_them, waits)),
            asyncio.ensure_future(self._back(theirs, writer, waits)),
        ]
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for each in (writer, to_them):
            each.close()

    async def _there(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waits: asyncio.Event
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self._shut and self._sha in chunk:
                self._shut = False
                self.held.set()
                await self._opened.wait()
                waits.set()
            writer.write(chunk)
            await writer.drain()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waits: asyncio.Event
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if waits.is_set():
                self.replies.append(chunk)
                waits.clear()
            writer.write(chunk)
            await writer.drain()

    async def close(self) -> None:
        """Hang up."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def gated(server: Path) -> AsyncIterator[Gate]:
    """Have a gate before the server on this unix socket while the block runs."""
    gate = Gate(server)
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        gate.url = f"unix://{folder}/s"
        listening = await asyncio.start_unix_server(gate.serve, f"{folder}/s")
        try:
            yield gate
        finally:
            listening.close()
            await gate.close()
