"""The connection to Redis, and the one way to run a script on it.

redis-py's own retries are off: they repeat an XADD whose reply was lost. Ours repeat a script by
its commit id, or not at all. Foreign errors end here, as StoreUnavailable or StoreRefused.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from poller.errors import StoreRefused, StoreUnavailable

COMMAND_TIMEOUT_S = 5.0
OLDEST_VERSION = (7, 0)
"""XAUTOCLAIM's third reply and script flags; Debian 12 ships 7.0."""

_TRY_AGAIN = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "BUSY",
    "NOREPLICAS",
    "OOM",
    "MISCONF",
)


@dataclass(frozen=True)
class Script:
    """A Lua file beside its typed wrapper, sent by its hash and loaded again where the server forgot it."""

    name: str

    @cached_property
    def text(self) -> str:
        return resources.files("poller.store").joinpath(f"{self.name}.lua").read_text("utf-8")

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's exceptions into ours.

    Raises:
        StoreUnavailable: no answer, or an answer that says "not now".
        StoreRefused: the server will not do this, and trying again will not help.
    """
    try:
        yield
    except (faults.ConnectionError, faults.TimeoutError, OSError, TimeoutError) as exc:
        msg = f"Redis cannot be reached: {exc}. Is it running, and is redis.url right?"
        raise StoreUnavailable(msg) from exc
    except faults.ResponseError as exc:
        text = str(exc)
        if isinstance(exc, (faults.ReadOnlyError, faults.OutOfMemoryError)) or text.startswith(_TRY_AGAIN):
            msg = f"Redis cannot take this now: {text}"
            raise StoreUnavailable(msg) from exc
        msg = f"Redis refused: {text}"
        raise StoreRefused(msg) from exc


class Connection:
    """Two clients on one Redis: `commands` for everything short, `blocking` for reads that wait."""

    def __init__(self, commands: "Redis", blocking: "Redis") -> None:
        self.commands = commands
        self.blocking = blocking

    @classmethod
    def open(cls, url: str) -> "Connection":
        """Connect lazily to `url` (redis://, rediss:// or unix://)."""

        def client(timeout: float | None) -> Redis:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=64,
                timeout=COMMAND_TIMEOUT_S,
                socket_timeout=timeout,
                socket_connect_timeout=COMMAND_TIMEOUT_S,
                health_check_interval=0,
                retry=Retry(NoBackoff(), 0),
            )
            return Redis(connection_pool=pool)

        return cls(client(COMMAND_TIMEOUT_S), client(None))

    async def close(self) -> None:
        """Give both pools back; safe to call twice."""
        for client in (self.commands, self.blocking):
            await client.aclose()
            await client.connection_pool.disconnect()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script once. A reply that is lost raises StoreUnavailable: it may have run.

        Raises:
            StoreUnavailable, StoreRefused: as `translated`.
        """
        with translated():
            try:
                return await self.commands.evalsha(script.sha, len(keys), *keys, *args)
            except faults.NoScriptError:
                return await self.commands.eval(script.text, len(keys), *keys, *args)
