"""A real Valkey Cluster for tests: three masters and three replicas on loopback, which can be killed."""

import random
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import realserver
import redis
from realserver import RealServer
from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from waiting import wait_until

from poller.store.cluster import Client

MASTERS = 3
ACME = b"{acme}"
"""What all keys of the source acme are placed by."""
NODE_TIMEOUT_S = 2.0
READY_S = 30.0
"""How long a cluster may take to agree on a busy machine."""


@dataclass(eq=False)
class Node:
    """One server of the cluster."""

    port: int
    bus: int
    server: RealServer
    lives: bool = True

    @property
    def url(self) -> str:
        """As redis.url."""
        return f"redis://127.0.0.1:{self.port}"

    @contextmanager
    def client(self) -> Iterator["redis.Redis"]:
        """Speak to this node alone."""
        with redis.Redis(unix_socket_path=str(self.server.socket), socket_timeout=10) as client:
            yield client

    def ask(self, *words: str | int) -> Any:
        """One CLUSTER command, its answer as it came (redis-py reads those that it knows by one word)."""
        with self.client() as client:
            return client.execute_command("CLUSTER", *words)

    def settle(self) -> None:
        """Give up moves of slots that were begun: what was not moved would be sent to and fro for ever."""
        for slot in re.findall(r"\[(\d+)-[<>]-", self.ask("NODES").decode()):
            self.ask("SETSLOT", slot, "STABLE")

    def replication(self) -> dict[str, Any]:
        """Its role, and who follows it how."""
        with self.client() as client:
            return dict(client.info("replication"))

    @property
    def leads(self) -> bool:
        """Whether it is a master that lives."""
        return self.lives and self.replication()["role"] == "master"

    def kill(self) -> None:
        """kill -9."""
        self.server.kill()
        self.lives = False

    def start(self) -> None:
        """Start it again where it was killed."""
        if not self.lives:
            self.server = realserver.start(*options_of(self.port, self.bus), directory=self.server.directory)
            self.lives = True

    def end(self) -> None:
        """Leave nothing of it."""
        if self.lives:
            self.server.stop()
        shutil.rmtree(self.server.directory, ignore_errors=True)


class Cluster:
    """Three masters, each with a replica."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """As redis.url: a replica of another master than acme's, so that it outlives that one's death."""
        acme = key_slot(ACME)
        others = (nodes for first, last, *nodes in self.slots() if not first <= acme <= last)
        _, replica, *_ = next(others)
        return self._at(replica).url

    def masters(self) -> list[Node]:
        """Those that lead and live."""
        return [node for node in self.nodes if node.leads]

    def slots(self) -> list[Any]:
        """First and last slot, master, replicas, as a living master says."""
        return list(self.masters()[0].ask("SLOTS"))

    def master_of(self, key: bytes = ACME) -> Node:
        """Who has a key now."""
        slot = key_slot(key)
        return self._at(next(master for first, last, master, *_ in self.slots() if first <= slot <= last))

    def _at(self, told: list[Any]) -> Node:
        return next(node for node in self.nodes if node.port == int(told[1]))

    def kill_master(self) -> None:
        """kill -9 of the master that has all of acme's keys."""
        self.master_of().kill()

    def flush(self) -> None:
        """Forget every key and every script."""
        for node in self.masters():
            with node.client() as client:
                client.flushall()
                client.script_flush()

    def is_whole(self) -> bool:
        """Whether all slots are served, and every master has a replica that keeps up."""
        masters = self.masters()
        return (
            len(masters) == MASTERS
            and all(
                node.replication().get("slave0", {}).get("state") == "online"
                and b"cluster_state:ok" in node.ask("INFO")
                and all(replicas for _, _, _, *replicas in node.ask("SLOTS"))
                for node in masters
            )
            and self.is_followed()
        )

    def is_followed(self) -> bool:
        """Whether every replica says itself that it follows, and has all that its master had when asked.

        A master calls one online that has yet to load what it was sent. Promoted then, it would lack more
        than the last moments: of two changes of a record in two windows only the sum would be left.
        """
        return all(
            self._has_all(self._at(master).replication(), self._at(replica).replication())
            for _, _, master, *replicas in self.slots()
            for replica in replicas
        )

    @staticmethod
    def _has_all(master: dict[str, Any], replica: dict[str, Any]) -> bool:
        up = replica.get("master_link_status") == "up"
        return up and int(replica["slave_repl_offset"]) >= int(master["master_repl_offset"])

    async def caught_up(self) -> None:
        """Wait until all that was written is on the replicas."""
        await wait_until(self.is_followed, "the replicas to have what their masters had", READY_S)

    async def heal(self) -> None:
        """Wait until replicas have taken over, start what was killed again, wait until all is as it was."""
        await wait_until(lambda: len(self.masters()) == MASTERS, "a replica to take over", READY_S)
        for node in self.nodes:
            node.start()  # not before: a master that comes back empty would have its replica forget all
        for node in self.masters():
            node.settle()
        await wait_until(self.is_whole, "the cluster to be whole", READY_S)

    def stop(self) -> None:
        """Leave nothing of it."""
        for node in self.nodes:
            with suppress(OSError):
                node.end()


def start() -> Cluster:
    """Start six servers, make them a cluster, and wait until it is whole: about three seconds."""
    cluster = Cluster([])
    try:
        for port, bus in free_ports(2 * MASTERS):
            cluster.nodes.append(Node(port, bus, realserver.start(*options_of(port, bus))))
        _join(cluster.nodes)
        _wait(cluster.is_whole, "to be whole")
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _join(nodes: list[Node]) -> None:
    first, *others = nodes
    for node in others:
        first.ask("MEET", "127.0.0.1", node.port, node.bus)
    known = b"cluster_known_nodes:%d\r" % len(nodes)
    _wait(lambda: all(known in each.ask("INFO") for each in nodes), "to know its nodes")
    share = -(-REDIS_CLUSTER_HASH_SLOTS // MASTERS)
    for at, master in enumerate(nodes[:MASTERS]):
        last = min((at + 1) * share, REDIS_CLUSTER_HASH_SLOTS) - 1
        master.ask("ADDSLOTSRANGE", at * share, last)
        nodes[MASTERS + at].ask("REPLICATE", master.ask("MYID").decode())


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            msg = f"the cluster did not come {what} within {READY_S:g} s"
            raise RuntimeError(msg)
        time.sleep(0.02)


async def every_key(client: Redis) -> list[bytes]:
    """All keys, wherever they are."""
    if not isinstance(client, Client):
        return list(await client.keys("*"))
    return [key for part in await client.on_masters("KEYS", "*") for key in part]


def options_of(port: int, bus: int) -> list[str]:
    """Of a node, on the command line."""
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "cluster-enabled": "yes",
        "cluster-port": bus,
        "cluster-node-timeout": round(NODE_TIMEOUT_S * 1000),
        "cluster-replica-validity-factor": 0,
        "cluster-allow-replica-migration": "no",
        "repl-diskless-sync-delay": 0,
        "repl-ping-replica-period": 1,
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def free_ports(count: int) -> list[tuple[int, int]]:
    """Pairs of ports that are free, below those that the kernel lends to connections: a node keeps its."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as each, suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
    return list(zip(found[: 2 * count : 2], found[1 : 2 * count : 2], strict=True))
