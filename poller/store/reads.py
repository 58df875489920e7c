"""Reading on in streams of several slots at once: a blocking read for each, kept from one call to the next.

A cluster refuses one XREAD over several slots, and a read that is cancelled costs its connection.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from .connection import Connection

BLOCK_S = 1.0
"""A read that nobody takes up again ends by itself after this."""


class Reads:
    """The reads of one reader."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._under_way: dict[str, tuple[tuple[str, int], asyncio.Task[Any]]] = {}

    async def read(self, after: Mapping[str, str], *, count: int, wait_s: float) -> list[tuple[str, Any]]:
        """What came in some of these streams, `after` an entry of each, once there is something in one.

        Raises:
            StoreUnavailable, StoreRefused: one of them cannot be read; what came in others is not lost.
        """
        tasks = {key: self._task(key, place, count) for key, place in after.items()}
        done, _ = await asyncio.wait(tasks.values(), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        found: list[tuple[bytes, Any]] = []
        for key, task in tasks.items():
            if task in done:
                del self._under_way[key]
                reply = task.result()
                found += reply.items() if isinstance(reply, dict) else reply or ()
        return [(key.decode(), rows) for key, rows in found]

    def _task(self, key: str, place: str, count: int) -> "asyncio.Task[Any]":
        wanted, task = self._under_way.get(key, (None, None))
        if task and wanted == (place, count):
            return task
        if task:
            task.cancel()
        task = asyncio.create_task(self._read(key, place, count))
        task.add_done_callback(_noticed)
        self._under_way[key] = (place, count), task
        return task

    async def _read(self, key: str, place: str, count: int) -> Any:
        read = self._connection.blocking.xread({key: place}, count=count, block=round(BLOCK_S * 1000))
        return await self._connection.wait(read, block_s=BLOCK_S)


def _noticed(task: "asyncio.Task[Any]") -> None:
    """Whoever reads on hears of the fault; where nobody does, it needs no telling."""
    if not task.cancelled():
        task.exception()
