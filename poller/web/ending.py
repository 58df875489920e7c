"""Ending a task for good."""

import asyncio
from typing import Any

AGAIN_S = 0.1


async def ended(task: "asyncio.Task[Any]") -> None:
    """Cancel until it is gone: on Python 3.11 a client that just takes its reply can swallow it."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_S)
