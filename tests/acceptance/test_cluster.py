"""Redis Cluster: keys in their slots, what is sent where, and a master that dies under all of it.

What asks for `ground` runs on the same cluster: the main job, kill -9, replicas, `subscribe`.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import cluster as six
import pytest
import realserver
from cluster import ACME, NODE_TIMEOUT_S, Cluster
from commands import crm
from faultproxy import fault_proxy
from hookside import delivering, event, receiving
from processes import home
from redis import ConnectionError  # noqa: A004 -- as the wire has it
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from shell import TIMEOUT_S, Shell
from tales import show
from waiting import wait_until

from poller import subscribe
from poller.errors import StoreError
from poller.simulators.drum import DEMO_TOKEN
from poller.store.connection import Connection, Script
from poller.store.keys import Keys
from poller.store.leases import Leases
from poller.store.snapshots import Commit, Snapshots

LEASE = Script("lease_acquire")
KEYS = Keys()
RECORD = 101
"""An opportunity of every simulated account."""


@pytest.fixture
async def store(cluster: Cluster):
    """A connection that has seen that there are six."""
    opened = Connection.open(cluster.url)
    await opened.check()
    yield opened
    await opened.close()


def test_all_keys_of_a_source_are_in_one_slot() -> None:
    """Whatever is built for a source lies where its stream lies; an endpoint's own keys lie together too."""
    for first in ("source", "endpoint", "host"):
        slots = {
            key_slot(build(*["x"] * len(inspect.signature(build).parameters)).encode())
            for name, build in inspect.getmembers(KEYS, inspect.ismethod)
            if next(iter(inspect.signature(build).parameters), "") == first
        }
        assert len(slots) == 1, first


async def test_a_script_over_two_slots_is_refused_before_it_is_sent(fakestore: Connection) -> None:
    """On one server it would pass unnoticed until somebody has a cluster."""
    with pytest.raises(ValueError, match=r"share a hash tag.*\{acme\}.*\{beta\}"):
        await fakestore.run(LEASE, [KEYS.source_lease("acme"), KEYS.source_lease("beta")], [])


@pytest.mark.full
async def test_what_is_sent_together_goes_to_its_masters_and_comes_back_in_order(store: Connection) -> None:
    """A pipeline over many slots; named by one replica, the masters are found without a setting."""
    names = [f"s{number}" for number in range(50)]
    async with store.commands.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.set(KEYS.report(name), name, ex=60)
            pipe.get(KEYS.report(name))
        found = await pipe.execute()
    assert found[1::2] == [name.encode() for name in names]
    assert (store.clustered, len({key_slot(KEYS.report(name).encode()) for name in names})) == (True, 50)


@pytest.mark.full
async def test_a_slot_that_moves_is_followed(store: Connection, cluster: Cluster) -> None:
    """ASK while its keys are on their way, MOVED when they are there: every command is done, once."""
    here, slot, key = cluster.master_of(), key_slot(ACME), KEYS.requests("acme")
    there = next(node for node in cluster.masters() if node is not here)
    mine, other = here.ask("MYID").decode(), there.ask("MYID").decode()
    await store.commands.rpush(KEYS.report("acme"), "old")
    there.ask("SETSLOT", slot, "IMPORTING", mine)
    here.ask("SETSLOT", slot, "MIGRATING", other)
    try:
        assert await store.commands.rpush(key, "one") == 1
        async with store.commands.pipeline(transaction=False) as pipe:
            pipe.rpush(key, "two")
            pipe.lrange(KEYS.report("acme"), 0, -1)
            assert await pipe.execute() == [2, [b"old"]]
        with here.client() as client:
            client.execute_command("MIGRATE", "127.0.0.1", there.port, KEYS.report("acme"), 0, 5000)
        for node in (there, here):
            node.ask("SETSLOT", slot, "NODE", other)
        assert await store.commands.rpush(key, "three") == 3
        assert await store.run(LEASE, [KEYS.source_lease("acme")], ["me", 15_000])
    finally:
        cluster.flush()
        for node in cluster.masters():
            node.ask("SETSLOT", slot, "NODE", mine)


@pytest.mark.full
async def test_a_lost_reply_is_told_and_the_command_ran_once() -> None:
    """Nothing is sent again of which nobody knows whether it was done, on a cluster neither."""
    [(port, bus)] = six.free_ports(1)
    async with fault_proxy(port=port) as proxy:
        server = realserver.start(*six.options_of(port, bus), "--cluster-announce-port", str(proxy.port))
        node = six.Node(port, bus, server)
        store = Connection.open(f"redis://127.0.0.1:{proxy.port}")
        try:
            node.ask("ADDSLOTSRANGE", 0, REDIS_CLUSTER_HASH_SLOTS - 1)
            await wait_until(lambda: b"cluster_state:ok" in node.ask("INFO"), "the node to serve its slots")
            await store.check()
            await store.run(LEASE, [KEYS.source_lease("warm")], ["me", 15_000])
            proxy.drop_replies = 1
            with pytest.raises(ConnectionError):
                await store.commands.rpush(KEYS.requests("acme"), "once")
            assert (proxy.dropped, store.clustered) == (1, True)
            assert await store.commands.lrange(KEYS.requests("acme"), 0, -1) == [b"once"]
        finally:
            await store.close()
            node.end()


@pytest.mark.full
async def test_a_silent_source_holds_up_no_other(store: Connection) -> None:
    """An endpoint reads its sources in their slots at once: what comes in one waits for no other."""
    async with receiving() as receiver, delivering(store, KEYS, receiver.url) as side:
        side.sources = ("acme", "gamma", "delta")
        side.start()
        began = time.monotonic()
        for number in range(1, 21):
            await side.publish(event(number), source=side.sources[number % 3])
            await wait_until(lambda number=number: len(receiver.got) == number, f"event {number}")
        assert time.monotonic() - began < 10  # each would have to wait for a BLOCK of a second
        await side.stop()


@pytest.mark.full
async def test_with_fsync_nothing_acknowledged_is_lost_with_a_master(cluster: Cluster) -> None:
    """A commit that was acknowledged is on the replica: when the master is killed, it is still there."""
    store = Connection.open(cluster.url, fsync=True)
    await store.check()
    acknowledged = 0
    for round_ in range(2):
        leases = Leases(store, holder=f"me-{round_}", ttl_s=0.001)
        fence = await _patiently(partial(leases.acquire, KEYS.source_lease("acme")))
        snapshots = Snapshots(store, KEYS, "acme", fence=fence)
        await snapshots.open()
        asyncio.get_running_loop().call_later(0.2 + 0.1 * round_, cluster.kill_master)
        try:
            async with asyncio.timeout(30):
                while cluster.nodes and all(node.lives for node in cluster.nodes):
                    await snapshots.commit(Commit(events=[event(acknowledged + 1)]))
                    acknowledged += 1
        except StoreError:
            pass  # the one that was under way when it died
        await cluster.heal()
    entries = await _patiently(lambda: store.commands.xrange(KEYS.events("acme")))
    await store.close()
    assert acknowledged > 10
    ids = {fields[b"id"] for _, fields in entries}
    assert ids >= {b"evt_%x" % number for number in range(1, acknowledged + 1)}


async def _patiently(read: Callable[[], Awaitable[Any]]) -> Any:
    async def answered() -> Any:
        try:
            return await read()
        except Exception:  # noqa: BLE001 -- whatever it is, it is asked again
            return None

    return await wait_until(answered, "the cluster to answer", 10)


@pytest.mark.full
async def test_a_master_dies_and_service_commands_and_subscribers_go_on(
    tmp_path: Path, cluster: Cluster
) -> None:
    """kill -9 of a master under two replicas: within its time-out and 10 s all goes on, no event is missed.

    Then one of the replicas is killed, and the other goes on.
    """
    seen: set[str] = set()

    async def consume() -> None:
        async with aclosing(subscribe(cluster.url, group="g", start="oldest")) as messages:
            async for message in messages:
                seen.add(message.id)

    async with crm() as acme, crm() as gamma, receiving() as hook:
        sources = {
            name: {"token": DEMO_TOKEN, "base_url": each.url, "every": "500ms"}
            for name, each in (("acme", acme), ("gamma", gamma))
        }
        redis = {"url": cluster.url}
        async with home(tmp_path, sources=sources, receiver=hook.url, redis=redis) as place:
            one, two, shell = await place.run(), await place.run(), Shell(place)
            consuming = asyncio.create_task(consume())
            await wait_until(lambda: len(hook.got) >= 2, "both baselines at the receiver", TIMEOUT_S)

            async def rename(name: str, *, within_s: float) -> None:
                for each in (acme, gamma):
                    each.order("update", record=RECORD, name=name)
                arrived = f'"name":"{name}"'.encode()
                await wait_until(
                    lambda: len({each.id for each in hook.got if arrived in each.body}) >= 2,
                    f"{name} of both at the receiver",
                    within_s,
                )

            await rename("Before", within_s=TIMEOUT_S)
            cluster.kill_master()
            killed = time.monotonic()
            await rename("Meanwhile", within_s=NODE_TIMEOUT_S + 10)
            show(("node timeout", "told after s"), (NODE_TIMEOUT_S, f"{time.monotonic() - killed:.1f}"))
            status = await shell.until(0, "status", "--json")
            assert [each["state"] for each in status.json["sources"]] == ["polling", "polling"]
            assert (await shell("events", "--since", "10m")).text.count("→ Meanwhile") == 2
            assert (await shell("sources", "list")).code == 0
            assert (await shell("sources", "poll", "acme", "--record", "opportunity/101")).code == 0
            assert (await shell("webhooks", "list", "--json")).json[0]["state"] == "ok"
            again = hook.ids[-1]
            came = hook.ids.count(again)
            assert (await shell("webhooks", "resend", "hook", again)).code == 0
            await wait_until(lambda: hook.ids.count(again) > came, "the event once more", TIMEOUT_S)
            one.kill()
            await cluster.heal()
            await rename("After", within_s=NODE_TIMEOUT_S + 10)
            await wait_until(lambda: set(hook.ids) <= seen, "the subscriber to have them all", TIMEOUT_S)
            two.terminate()
            assert await two.end() == 0
            assert not two.logged("unit.failed")
            consuming.cancel()
            await asyncio.gather(consuming, return_exceptions=True)
