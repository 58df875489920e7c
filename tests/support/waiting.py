"""The one way for a test to wait: for a named condition, with a bound. Tests never sleep."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

PAUSE_S = 0.01


async def wait_until(predicate: Callable[[], Any | Awaitable[Any]], what: str, timeout_s: float = 5.0) -> Any:
    """Ask `predicate` (plain or async) until it gives something true, and return that.

    Fails the test with `what`, the name of the condition, after `timeout_s` seconds.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                answer = predicate()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return answer
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        pytest.fail(f"waited {timeout_s:g} s in vain for: {what}")
