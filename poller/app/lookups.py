"""Threads for looking up names: one lookup that hangs holds up neither another nor the end of the program.

The C library's resolver can be silent for half a minute and cannot be interrupted. In asyncio's own pool of a
few threads, a few such names leave no thread for the others, and the program waits for them when it ends.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Lookups(ThreadPoolExecutor):
    """A daemon thread for each call; they are few, since nobody looks a host up twice at a time."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `work` in a thread of its own."""
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as exc:  # noqa: BLE001 -- raised again by who waits
                future.set_exception(exc)

        future.set_running_or_notify_cancel()
        Thread(target=call, name="lookup", daemon=True).start()
        return future
