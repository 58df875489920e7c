"""The connection to Redis, and the one way to run a script on it.

redis-py's own retries are off: they repeat an XADD whose reply was lost. Ours repeat a reading, a script
by its commit id, and nothing else. Foreign errors end here, as StoreUnavailable or StoreRefused.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, TypeVar

from redis import exceptions as faults
from redis.asyncio import Redis

from poller.errors import StoreRefused, StoreUnavailable

from .cluster import COMMAND_TIMEOUT_S, Client

FSYNC_TIMEOUT_S = 3.0
"""How long a durable script waits for the disk: an fsync each second, and one that is slow."""
AGAIN_S = 0.1
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
    except faults.AskError as exc:
        msg = f"Redis Cluster is moving a key to another node, and goes on by itself: {_said(exc)}"
        raise StoreUnavailable(msg) from exc
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
    return str(exc).rstrip(".") or type(exc).__name__


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
        commands = Client(url, timeout_s=COMMAND_TIMEOUT_S, most=64)
        return cls(commands, Client(url, timeout_s=None, most=1000), fsync=fsync)

    @property
    def clustered(self) -> bool:
        """Whether the server is known to be one node of a cluster: by `check`, or by what it answered."""
        clients = (self.commands, self.blocking)
        return any(isinstance(each, Client) and each.clustered for each in clients)

    async def close(self) -> None:
        """Give both pools back; safe to call twice."""
        for client in (self.commands, self.blocking):
            await client.aclose()
            await (client.disconnect() if isinstance(client, Client) else client.connection_pool.disconnect())

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Any], *, durable: bool = False
    ) -> Any:
        """Run a script once; all its keys share a hash tag. A reply that is lost raises StoreUnavailable.

        `durable` matters where the connection was opened with `fsync`: then what the script wrote is
        on disk when this returns, as far as the server can tell (WAITAOF: Redis 7.2, any Valkey, AOF on),
        and on Redis Cluster a replica has it too, where the master has one.

        Raises:
            StoreUnavailable, StoreRefused: as `translated`: it may have run. Also where disk or replica
                is too slow.
        """
        _share_a_tag(keys)
        with translated():
            if durable and self._fsync:
                return await self._run_to_disk(script, keys, args)
            try:
                return await self.commands.evalsha(script.sha, len(keys), *keys, *args)
            except faults.NoScriptError:
                return await self.commands.eval(script.text, len(keys), *keys, *args)

    async def _run_to_disk(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        reply, *copies = await self._pipelined("EVALSHA", script.sha, keys, args)
        if isinstance(reply, faults.NoScriptError):
            reply, *copies = await self._pipelined("EVAL", script.text, keys, args)
        if isinstance(reply, BaseException):
            raise reply
        for copy, where in zip(copies, ("the server's disk", "a replica"), strict=False):
            if isinstance(copy, faults.ResponseError):
                continue  # this server cannot say; `check` warns where it keeps no AOF
            if isinstance(copy, BaseException):
                raise copy
            if (copy[0] if isinstance(copy, list) else copy) < 1:
                if isinstance(self.commands, Client):
                    self.commands.doubt()
                msg = f"{where} did not take it within {FSYNC_TIMEOUT_S:g} s"
                raise TimeoutError(msg)
        return reply

    async def _pipelined(self, how: str, what: str, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        # WAITAOF and WAIT ask about the writes of their own connection, so all go down the same one.
        within_ms = round(FSYNC_TIMEOUT_S * 1000)
        followed = isinstance(self.commands, Client) and await self.commands.followed(keys[0])
        async with self.commands.pipeline(transaction=False) as pipe:
            pipe.execute_command(how, what, len(keys), *keys, *args)
            pipe.waitaof(1, 0, within_ms)
            if followed:
                pipe.wait(1, within_ms)
            return await pipe.execute(raise_on_error=False)

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
            cluster = await self.commands.info("cluster")
            if cluster.get("cluster_enabled"):
                await self._learn()
            parts = [await self._info(name) for name in ("server", "memory", "persistence")]
        found = [
            _suited(cluster | server | memory | disk) for server, memory, disk in zip(*parts, strict=True)
        ]
        return min(found, key=lambda each: each.append_only)

    async def _learn(self) -> None:
        for client in (self.commands, self.blocking):
            if isinstance(client, Client):
                await client.learn()

    async def ping(self) -> None:
        """See that the server answers, or each master of a cluster.

        Raises:
            StoreUnavailable, StoreRefused: as `translated`.
        """
        with translated():
            if isinstance(self.commands, Client) and self.commands.clustered:
                await self.commands.on_masters("PING")
            else:
                await self.commands.ping()

    async def _info(self, section: str) -> list[dict[str, Any]]:
        """What the server, or each master of a cluster, says of itself."""
        if isinstance(self.commands, Client):
            return await self.commands.on_masters("INFO", section)
        return [await self.commands.info(section)]


async def ended(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel until all are gone: on Python 3.11 whoever is just given its reply can swallow it (gh-86296)."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)


def _share_a_tag(keys: Sequence[str]) -> None:
    if len({key.partition("{")[2].partition("}")[0] for key in keys}) > 1:
        msg = f"a script's keys must share a hash tag, to be in one slot of a cluster: {', '.join(keys)}"
        raise ValueError(msg)


def _suited(said: dict[str, Any]) -> ServerInfo:
    """What a server is, unless it would lose or reject what we keep."""
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
