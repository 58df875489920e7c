"""Which sources a reader of streams has known so far: a consumer group of the client, or an endpoint.

Where it begins in one that it does not know yet depends on it: a reader that is new itself begins where it
was told to, one that is not has missed nothing of that source so far, and shall not.
"""

from collections.abc import Iterable
from typing import Any

from .connection import Connection, translated


class KnownSources:
    """Those of one reader, those it leaves out too. Every method raises StoreUnavailable or StoreRefused."""

    def __init__(self, connection: Connection, key: str) -> None:
        self._redis: Any = connection.commands
        self._key = key

    async def read(self) -> frozenset[str]:
        """Their names; empty where the reader is new."""
        with translated():
            names = await self._redis.smembers(self._key)
        return frozenset(name.decode() for name in names)

    async def add(self, names: Iterable[str]) -> None:
        """Remember these."""
        with translated():
            # The empty name tells a reader that knows none yet from one that is new.
            await self._redis.sadd(self._key, "", *names)
