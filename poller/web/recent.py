"""How everything stands, looked at once for everybody who asks within a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from .answers import Overview

FRESH_S = 1.0


class Recent:
    """Looks, and remembers for a second; who asks while somebody looks waits for the same answer."""

    def __init__(
        self, look: Callable[[], Awaitable[Overview]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen: Overview | None = None
        self._at = 0.0

    async def __call__(self) -> Overview:
        """How everything stands.

        Raises:
            StoreUnavailable, StoreRefused: Redis cannot tell.
        """
        async with self._lock:
            # Judged by when the look began: what was asked for before that may not show yet.
            began = self._clock()
            if self._seen is None or began - self._at >= FRESH_S:
                self._seen = None
                self._seen = await self._look()
                self._at = began
            return self._seen
