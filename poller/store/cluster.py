"""A client for one server or for a Redis Cluster: where a node says MOVED, each key goes to its master.

redis-py's own cluster client (8.1) is not used: it sends transactions again whose reply was lost, closes
every connection, waiting readers included, at each fifth MOVED and at CLUSTERDOWN, and refuses a node's
101st reader. Here a command is sent again only where a node said that it did not do it (MOVED, ASK).
"""

import asyncio
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from redis import exceptions as faults
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS, AbstractConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

COMMAND_TIMEOUT_S = 5.0
MOST_REDIRECTS = 5
LOOK_AGAIN_S = 0.1
"""How soon the nodes are asked again who has which slot, while some of them are away."""
LOOK_TIMEOUT_S = 1.0
REPLICAS_KNOWN_S = 1.0
"""How long it is believed which master has a replica."""
KEYLESS = frozenset(
    "ASKING CLIENT CLUSTER COMMAND CONFIG ECHO FLUSHALL INFO PING SCAN SCRIPT SHUTDOWN TIME "
    "WAIT WAITAOF".split()
)
"""Commands without a key: in a pipeline they go with the one before, alone to any master."""

_READS = frozenset(
    "EXISTS GET HGET HGETALL HKEYS HLEN HMGET HSCAN INFO LINDEX PING SMEMBERS TIME XLEN XRANGE "
    "XREVRANGE ZCARD ZRANGE ZRANGEBYSCORE ZSCORE".split()
)
"""Commands that change nothing: one whose reply was lost is sent again, once, so as not to end a sweep."""

_OPTIONS = (
    *URL_QUERY_ARGUMENT_PARSERS,
    *"client_name username password ssl_keyfile ssl_certfile ssl_cert_reqs ssl_ca_certs ssl_ca_path "
    "ssl_ca_data ssl_password ssl_ciphers".split(),
)
"""What may follow the ? of a URL. Elsewhere redis-py hands an unknown one on, and fails when it connects."""

Address: TypeAlias = tuple[str, int]
Command: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_AWAY = (faults.ClusterDownError, faults.TryAgainError, faults.ReadOnlyError, faults.MasterDownError)
_ASKING: Command = (("ASKING",), {})


class Cancellable(AbstractConnection):
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


def pool(
    url: str, *, timeout_s: float | None, most: int, node: Address | None = None
) -> BlockingConnectionPool:
    """Connections that repeat nothing and can be cancelled at any moment, to `url` or a `node` beside it."""
    # What the URL says of these is meant for other clients: a socket_timeout would end each read that waits.
    ours: dict[str, Any] = {
        "max_connections": most,
        "timeout": COMMAND_TIMEOUT_S,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": COMMAND_TIMEOUT_S,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
    }
    made = BlockingConnectionPool(**{**parse_url(url), **ours})
    kind = made.connection_class
    if node:
        kind = TcpConnection if made.connection_kwargs.pop("path", None) else kind
        made.connection_kwargs |= {"host": node[0], "port": node[1]}
    made.connection_class = type(kind.__name__, (Cancellable, kind), {})
    return made


def judge_url(url: str) -> None:
    """See that a connection could be made from `url`; none is.

    Raises:
        ValueError: none could, or another than meant; the message repeats nothing that may be secret.
    """
    parts = urlsplit(url)
    if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]*)?", parts.path):
        msg = "the path is the number of a database, as in redis://127.0.0.1:6379/0"
        raise ValueError(msg)
    if parse_qs(parts.query, keep_blank_values=True).keys() - set(_OPTIONS):
        msg = f"what follows the ? holds no option but {', '.join(sorted(_OPTIONS))}"
        raise ValueError(msg)
    try:
        made = pool(url, timeout_s=None, most=1)
        made.connection_class(**made.connection_kwargs)
    except (TypeError, ValueError, faults.RedisError):
        msg = f"an option after the ? has a value that it cannot have, or is no option of {parts.scheme}://"
        raise ValueError(msg) from None  # the cause may quote a secret


@dataclass(slots=True)
class _Errand:
    """A command and those without a key that follow it: they go to one node, down one connection."""

    commands: list[Command]
    node: Address | None
    """None: the one that was named."""
    asking: bool = False
    replies: list[Any] = field(default_factory=list)


class Client(Redis):
    """A client of `url` with at most `most` connections to each node; whether there are more it finds out."""

    def __init__(self, url: str, *, timeout_s: float | None, most: int) -> None:
        self._url, self._timeout_s, self._most = url, timeout_s, most
        self._nodes: dict[Address, BlockingConnectionPool] = {}
        self._owners: list[Address | None] = []
        self._replicas: dict[Address, int] = {}
        self._stale = False
        self._looked_at = 0.0
        self._looking = asyncio.Lock()
        super().__init__(connection_pool=pool(url, timeout_s=timeout_s, most=most))

    @property
    def clustered(self) -> bool:
        """Whether it knows of other nodes."""
        return bool(self._owners)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command where its key lives."""
        try:
            return await self._once(args, options)
        except faults.ConnectionError:
            if args[0] not in _READS:
                raise
            return await self._once(args, options)

    async def _once(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if not self._owners:
            try:
                execute: Any = super().execute_command
                return await execute(*args, **options)
            except faults.MovedError:
                await self.learn()
            except faults.ClusterCrossSlotError:
                await self.learn()
                raise
        [reply] = await self.send([(args, options)])
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Pipeline":  # noqa: ARG002 -- as Redis has it
        """Commands that are sent together; of several slots only without a transaction."""
        return _Pipeline(self, transaction=transaction)

    async def on_masters(self, *args: Any) -> list[Any]:
        """What all masters answer to a command without a key; where there is no cluster, the server."""
        if not self._owners:
            return [await self.execute_command(*args)]
        await self._refresh()
        errands = [_Errand([(args, {})], each) for each in sorted({each for each in self._owners if each})]
        await self._carry_out(errands, transaction=False)
        for each in errands:
            if isinstance(each.replies[0], BaseException):
                raise each.replies[0]
        return [each.replies[0] for each in errands]

    async def followed(self, key: str) -> bool:
        """Whether the master of a key has a replica, as the nodes said within the last second or two."""
        if self._owners and asyncio.get_running_loop().time() > self._looked_at + REPLICAS_KNOWN_S:
            self._stale = True
            await self._refresh()
        owner = self._owner(key)
        return owner is not None and self._replicas.get(owner, 0) > 0

    def doubt(self) -> None:
        """Have the nodes asked before the next command who has which slot."""
        self._stale = True

    async def disconnect(self) -> None:
        """Give every connection back."""
        for each in (self.connection_pool, *self._nodes.values()):
            await each.disconnect()

    # --- who has which slot -----------------------------------------------------------------------

    async def learn(self) -> None:
        """Ask one node after the other, in any order, who has which slot.

        Raises:
            faults.ConnectionError: none of them answers, and nothing is known.
        """
        for node in (*random.sample(list(self._nodes), len(self._nodes)), None):
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    [told] = await self._ask(node, [(("CLUSTER", "SLOTS"), {})])
            except (faults.RedisError, OSError, TimeoutError):
                continue
            if not isinstance(told, BaseException):
                self._note(told, asked=node)
                return
        if not self._owners:
            msg = "no node of the cluster says where its keys are"
            raise faults.ConnectionError(msg)

    def _note(self, told: Iterable[Sequence[Any]], *, asked: Address | None) -> None:
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, *nodes in told:
            master, *replicas = [self._address(host, port, asked=asked) for host, port, *_ in nodes]
            owners[first : last + 1] = [master] * (last + 1 - first)
            self._replicas[master] = len(replicas)
        self._owners, self._stale = owners, False

    async def _refresh(self) -> None:
        if self._stale:
            async with self._looking:
                await self._look_again()

    async def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        if self._stale and loop.time() >= self._looked_at + LOOK_AGAIN_S:
            await self.learn()
            self._looked_at = loop.time()

    def _owner(self, key: Any) -> Address | None:
        """Whoever has a key, or, without one, any slot."""
        if not self._owners:
            return None
        slot = 0 if key is None else key_slot(key if isinstance(key, bytes) else str(key).encode())
        owner = self._owners[slot]
        if owner is None:
            self._stale = True
            msg = f"no node of the cluster has slot {slot}"
            raise faults.ClusterDownError(msg)
        return owner

    def _address(self, host: Any, port: Any, *, asked: Address | None) -> Address:
        """As a node told it; without a host it is the one that was asked (Redis 7.0, CLUSTER SLOTS)."""
        host = host.decode() if isinstance(host, bytes) else host
        address = (host or str(self._pool(asked).connection_kwargs.get("host", "127.0.0.1")), int(port))
        self._pool(address)
        return address

    def _pool(self, node: Address | None) -> Any:
        if node is None:
            return self.connection_pool
        if node not in self._nodes:
            self._nodes[node] = pool(self._url, timeout_s=self._timeout_s, most=self._most, node=node)
        return self._nodes[node]

    # --- sending ----------------------------------------------------------------------------------

    async def send(self, commands: Sequence[Command], *, transaction: bool = False) -> list[Any]:
        """The replies to commands that go where their keys live; a node's error stands in its place.

        Raises:
            faults.RedisError, OSError: a node gave no answer; its part may be done or not, others too.
        """
        known = self.clustered
        told = [] if known or transaction else await self._ask(None, commands)
        if told and not any(isinstance(each, faults.AskError) for each in told):
            return told
        await self._refresh()
        errands, at = [], 0
        for lot in [list(commands)] if transaction else _together(commands):
            node = self._owner(key_of(lot[0][0])) if known else None
            errands.append(_Errand(lot, node, replies=told[at : (at := at + len(lot))]))
        todo = [each for each in errands if not each.replies or self._is_sent_on(each)]
        for _ in range(MOST_REDIRECTS):
            if not todo:
                break
            await self._carry_out(todo, transaction=transaction)
            todo = [each for each in todo if self._is_sent_on(each)]
            await self._refresh()
        return [reply for each in errands for reply in each.replies]

    async def _carry_out(self, errands: Iterable[_Errand], *, transaction: bool) -> None:
        parts: dict[tuple[Address | None, bool], list[_Errand]] = {}
        for each in errands:
            parts.setdefault((each.node, each.asking), []).append(each)
        work = [self._part(node, part, transaction=transaction) for (node, _), part in parts.items()]
        try:
            if len(work) == 1:
                await work[0]
            else:
                for fault in await asyncio.gather(*work, return_exceptions=True):
                    if fault is not None:
                        raise fault
        except BaseException:
            self._stale = bool(self._owners)  # a node is away, or so slow that its reader gave up
            raise

    async def _part(self, node: Address | None, errands: Sequence[_Errand], *, transaction: bool) -> None:
        lots = [[_ASKING, *each.commands] if each.asking else each.commands for each in errands]
        replies = iter(await self._ask(node, [one for lot in lots for one in lot], transaction=transaction))
        for each, lot in zip(errands, lots, strict=True):
            each.replies = list(islice(replies, len(lot)))[len(lot) - len(each.commands) :]

    async def _ask(
        self, node: Address | None, commands: Sequence[Command], *, transaction: bool = False
    ) -> list[Any]:
        sent = Pipeline(self._pool(node), self.response_callbacks, transaction, None)
        sent.command_stack = list(commands)
        try:
            return list(await sent.execute(raise_on_error=False))
        except faults.AskError as exc:  # of a transaction: nothing of it was done
            return [exc] * len(commands)

    def _is_sent_on(self, errand: _Errand) -> bool:
        """Whether the node did not do it, and named another (MovedError is an AskError)."""
        fault = errand.replies[0]
        if not isinstance(fault, faults.AskError):
            self._stale |= isinstance(fault, _AWAY) and self.clustered
            return False
        errand.node = self._address(fault.host, fault.port, asked=errand.node)
        errand.asking = not isinstance(fault, faults.MovedError)
        if not errand.asking:
            self._stale = True
            if self._owners:
                self._owners[fault.slot_id] = errand.node
        return True


class _Pipeline(Pipeline):
    """Collects commands; the client sends them, each where its key lives."""

    def __init__(self, client: Client, *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands: Any = self.command_stack
        self.command_stack = []
        if not commands:
            return []
        replies = await self._client.send(commands, transaction=self.is_transaction)
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return replies


def key_of(args: Sequence[Any]) -> Any:
    """The first key of a command as redis-py writes it; None where it has none."""
    match args[0]:
        case "EVAL" | "EVALSHA":
            return args[3] if int(args[2]) else None
        case "XREAD" | "XREADGROUP":
            return args[args.index(b"STREAMS") + 1]
        case name:
            keyless = len(args) < 2 or name.partition(" ")[0] in KEYLESS
            return None if keyless else args[1]


def _together(commands: Iterable[Command]) -> list[list[Command]]:
    """Commands, each with those without a key that follow it."""
    lots: list[list[Command]] = []
    for command in commands:
        if lots and key_of(command[0]) is None:
            lots[-1].append(command)
        else:
            lots.append([command])
    return lots
