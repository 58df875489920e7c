"""The connection to Redis, and the one way to run a script on it.

redis-py's own retries are off: they repeat an XADD whose reply was lost. Ours repeat a reading, a script
by its commit id, and nothing else. Foreign errors end here, as StoreUnavailable or StoreRefused.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, TypeVar

from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from poller.errors import StoreRefused, StoreUnavailable

COMMAND_TIMEOUT_S = 5.0
FSYNC_TIMEOUT_S = 3.0
"""How long a durable script waits for the disk: an fsync each second, and one that is slow."""
OLDEST_VERSION = (7, 0)
"""XAUTOCLAIM's third reply and script flags; Debian 12 ships 7.0."""

LONGEST_BLOCK_S = 30.0
"""A read that waits longer would notice a dead peer too late."""

_NOT_NOW = (
    faults.ConnectionError,
    faults.TimeoutError,
    faults.ReadOnlyError,
    faults.OutOfMemoryError,
    faults.ClusterDownError,
    faults.TryAgainError,
    OSError,
    TimeoutError,
)
_NOT_NOW_CODES = ("BUSY", "NOREPLICAS", "MISCONF", "UNBLOCKED", "CLUSTERDOWN", "MASTERDOWN")
"""Codes that redis-py has no class for, or leaves in the text of a script's error."""

_READS = frozenset(
    "EXISTS GET HGET HGETALL HKEYS HLEN HMGET HSCAN INFO PING SMEMBERS TIME XLEN XRANGE XREVRANGE "
    "ZCARD ZRANGE ZRANGEBYSCORE ZSCORE".split()
)
"""Commands that change nothing: one whose reply was lost is sent again, once."""

ReplyT = TypeVar("ReplyT")


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server says of itself."""

    name: str
    """`redis` or `valkey`."""
    version: str
    """Its own version, e.g. 7.0.15 or 9.1.2."""
    policy: str
    """maxmemory-policy."""
    append_only: bool
    """Without it a restart of the server forgets every snapshot and place."""
    cluster: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, each with its remedy."""
        if self.append_only:
            return ()
        return ("Redis keeps no append-only file: a restart forgets what was seen. Set `appendonly yes`.",)


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
        StoreUnavailable: no answer, or an answer that says "not now"; it may or may not be done.
        StoreRefused: the server will not do this, and trying again will not help.
    """
    try:
        yield
    except faults.AuthenticationError as exc:
        msg = f"Redis refused the log-in: {exc}. Check user and password in redis.url"
        raise StoreRefused(msg) from exc
    except faults.MovedError as exc:
        msg = "Redis is one node of a cluster, and the key lives on another: name the cluster in redis.url"
        raise StoreRefused(msg) from exc
    except _NOT_NOW as exc:
        msg = f"Redis cannot be reached: {_said(exc)}. Is it running, and is redis.url right?"
        raise StoreUnavailable(msg) from exc
    except faults.RedisError as exc:
        text = _said(exc)
        if text.partition(" ")[0] in _NOT_NOW_CODES:
            msg = f"Redis cannot take this now: {text}"
            raise StoreUnavailable(msg) from exc
        msg = f"Redis refused: {text}"
        raise StoreRefused(msg) from exc


def _said(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


class _Cancellable(AbstractConnection):
    """Sends without asyncio.wait_for, which on Python 3.11 swallows a cancellation (CPython gh-86296).

    redis-py 8.1 sends so wherever there is a socket_timeout: a task that was cancelled in that moment
    went on for ever, 1 of 10 in a loop of short commands. It also costs a task for each command.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        limit, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit):
                await super().send_packed_command(command, check_health)
        except TimeoutError as exc:
            await self.disconnect(nowait=True)
            msg = f"timeout writing to the server after {limit} s"
            raise faults.TimeoutError(msg) from exc
        finally:
            self.socket_timeout = limit


class _Client(Redis):
    """Asks once more where the reply to a reading was lost: that must not end a sweep."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        execute: Any = super().execute_command
        try:
            return await execute(*args, **options)
        except faults.ConnectionError:
            if args[0] not in _READS:
                raise
            return await execute(*args, **options)


def client(url: str, *, timeout_s: float | None, most: int) -> "Redis":
    """A client of at most `most` connections that repeats nothing and can be cancelled at any moment."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=most,
        timeout=COMMAND_TIMEOUT_S,
        socket_timeout=timeout_s,
        socket_connect_timeout=COMMAND_TIMEOUT_S,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
    )
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_Cancellable, kind), {})
    return _Client(connection_pool=pool)


class Connection:
    """Two clients on one Redis: `commands` for everything short, `blocking` for reads that wait."""

    def __init__(self, commands: "Redis", blocking: "Redis", *, fsync: bool = False) -> None:
        self.commands = commands
        self.blocking = blocking
        self._fsync = fsync

    @classmethod
    def open(cls, url: str, *, fsync: bool = False) -> "Connection":
        """Connect lazily to `url` (redis://, rediss:// or unix://).

        With `fsync`, scripts that are run as durable wait until the server's disk has them.
        """

        # One connection per blocking read: a source's readers must never wait for each other's.
        commands = client(url, timeout_s=COMMAND_TIMEOUT_S, most=64)
        return cls(commands, client(url, timeout_s=None, most=1000), fsync=fsync)

    async def close(self) -> None:
        """Give both pools back; safe to call twice."""
        for client in (self.commands, self.blocking):
            await client.aclose()
            await client.connection_pool.disconnect()

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Any], *, durable: bool = False
    ) -> Any:
        """Run a script once. A reply that is lost raises StoreUnavailable: it may have run.

        `durable` matters where the connection was opened with `fsync`: then what the script wrote is
        on disk when this returns, as far as the server can tell (WAITAOF: Redis 7.2, any Valkey, AOF on).

        Raises:
            StoreUnavailable, StoreRefused: as `translated`; also where the disk is too slow.
        """
        with translated():
            if durable and self._fsync:
                return await self._run_to_disk(script, keys, args)
            try:
                return await self.commands.evalsha(script.sha, len(keys), *keys, *args)
            except faults.NoScriptError:
                return await self.commands.eval(script.text, len(keys), *keys, *args)

    async def _run_to_disk(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        reply, on_disk = await self._pipelined(script.sha, keys, args)
        if isinstance(reply, faults.NoScriptError):
            await self.commands.script_load(script.text)
            reply, on_disk = await self._pipelined(script.sha, keys, args)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(on_disk, faults.ResponseError):
            return reply  # this server cannot say; `check` warns where it keeps no AOF
        if isinstance(on_disk, BaseException):
            raise on_disk
        if on_disk[0] < 1:
            msg = f"the server's disk did not take it within {FSYNC_TIMEOUT_S:g} s"
            raise TimeoutError(msg)
        return reply

    async def _pipelined(self, sha: str, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, Any]:
        # WAITAOF asks about the writes of its own connection, so both go down the same one.
        async with self.commands.pipeline(transaction=False) as pipe:
            pipe.evalsha(sha, len(keys), *keys, *args)
            pipe.waitaof(1, 0, round(FSYNC_TIMEOUT_S * 1000))
            reply, on_disk = await pipe.execute(raise_on_error=False)
        return reply, on_disk

    async def wait(self, reply: Awaitable[ReplyT], *, block_s: float) -> ReplyT:
        """Await a read of `blocking` that was told to BLOCK for `block_s` seconds at most.

        The client has no time-out of its own, which would end a longer BLOCK; here the read gets
        its BLOCK and COMMAND_TIMEOUT_S more, so a peer that died in silence is noticed all the same.

        Raises:
            StoreUnavailable, StoreRefused: as `translated`.
        """
        if not 0 < block_s <= LONGEST_BLOCK_S:
            msg = f"block_s is {block_s:g}: above 0 (which blocks for ever) and at most {LONGEST_BLOCK_S:g}"
            raise ValueError(msg)
        with translated():
            async with asyncio.timeout(block_s + COMMAND_TIMEOUT_S):
                return await reply

    async def check(self) -> ServerInfo:
        """Ask the server what it is, and refuse one that would lose or reject what we keep.

        INFO alone is asked: managed services deny CONFIG.

        Raises:
            StoreRefused: older than OLDEST_VERSION, or a maxmemory-policy that evicts keys.
            StoreUnavailable: as `translated`.
        """
        with translated():
            parts = [
                await self.commands.info(name) for name in ("server", "memory", "persistence", "cluster")
            ]
        said = {name: value for part in parts for name, value in part.items()}
        found = _server_info(said)
        _refuse_older(str(said.get("redis_version", "0")), found)
        if found.policy != "noeviction":
            msg = (
                f"Redis has maxmemory-policy {found.policy}, which throws keys away when memory is short. "
                "Set `maxmemory-policy noeviction`"
            )
            raise StoreRefused(msg)
        return found


def _server_info(said: dict[str, Any]) -> ServerInfo:
    name = str(said.get("server_name", "redis"))
    return ServerInfo(
        name=name,
        version=str(said.get(f"{name}_version", said.get("redis_version", "unknown"))),
        policy=str(said.get("maxmemory_policy", "noeviction")),
        append_only=bool(said.get("aof_enabled")),
        cluster=bool(said.get("cluster_enabled")),
    )


def _refuse_older(compatible: str, found: ServerInfo) -> None:
    numbers = tuple(int(part) for part in compatible.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_VERSION:
        needed = ".".join(map(str, OLDEST_VERSION))
        msg = f"{found.name} {found.version} is too old: poller needs Redis {needed} or newer, or any Valkey"
        raise StoreRefused(msg)
