"""The connection: a script runs once, faults are translated, unfit servers are refused."""

import asyncio
from typing import Any

import pytest
import realserver
from faultproxy import FaultProxy, fault_proxy
from realserver import RealServer
from redis import exceptions as faults

from poller.errors import StoreRefused, StoreUnavailable
from poller.store import connection as module
from poller.store.connection import Connection, Script, translated
from poller.store.keys import Keys

LEASE = Script("lease_acquire")


async def test_a_key_can_be_written_and_read(connection: Connection, keys: Keys) -> None:
    """What is written through the commands client is seen by the blocking one."""
    await connection.commands.hset(keys.head("acme"), "version", "1")
    assert await connection.blocking.hget(keys.head("acme"), "version") == b"1"


async def test_a_forgotten_script_is_sent_again(connection: Connection, keys: Keys) -> None:
    """A server that lost its scripts (restart, SCRIPT FLUSH) gets them again without a fault."""
    fences = []
    for _ in range(2):
        fences.append(await connection.run(LEASE, [keys.source_lease("acme")], ["me", 15_000]))
        await connection.commands.script_flush()
    assert fences[0] == fences[1]


async def test_a_lost_reply_is_told_and_the_script_ran_once(
    real_server: RealServer, redis_url: str, keys: Keys
) -> None:
    """A reply lost after execution raises StoreUnavailable, and nothing is run a second time."""
    async with fault_proxy(path=real_server.socket) as proxy:
        store = Connection.open(proxy.url)
        # Twice over the proxy: the script must be known, or EVALSHA's NOSCRIPT would be the lost reply.
        await store.run(LEASE, [keys.source_lease("warm")], ["me", 15_000])
        calls = await _calls(store)
        proxy.drop_replies = 1
        with pytest.raises(StoreUnavailable):
            await store.run(LEASE, [keys.source_lease("acme")], ["me", 15_000])
        assert await store.commands.hget(keys.source_lease("acme"), "holder") == b"me"
        assert (await _calls(store), proxy.dropped) == (calls + 1, 1)
        await store.close()


async def _calls(store: Connection) -> int:
    stats = await store.commands.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def test_a_reading_whose_reply_is_lost_is_asked_again(redis_url: str, real_server: RealServer) -> None:
    """What changes nothing is read once more; what changes something is never sent twice."""
    async with fault_proxy(path=real_server.socket) as proxy:
        connection = Connection.open(proxy.url)
        redis: Any = connection.commands
        await redis.rpush("list", "one", "two")
        await redis.hset("hash", "a", "1")
        proxy.drop_replies = 1
        assert await redis.hmget("hash", ["a", "b"]) == [b"1", None]
        proxy.drop_replies = 2
        with pytest.raises(StoreUnavailable), translated():
            await redis.hgetall("hash")
        await redis.ping()  # connected again: the next reply is that of the command
        proxy.drop_replies = 1
        with pytest.raises(StoreUnavailable), translated():
            await redis.lpop("list")
        assert await redis.lrange("list", 0, -1) == [b"two"]
        await connection.close()


async def test_a_reset_is_told_as_unavailable(real_server: RealServer, redis_url: str) -> None:
    """A connection that is reset raises StoreUnavailable, and the next call after it works."""
    async with fault_proxy(path=real_server.socket) as proxy:
        store = Connection.open(proxy.url)
        proxy.reset = True
        with pytest.raises(StoreUnavailable):
            await store.run(LEASE, ["poller:{acme}:lease"], ["me", 15_000])
        proxy.reset = False
        assert await store.run(LEASE, ["poller:{acme}:lease"], ["me", 15_000])
        await store.close()


async def test_a_blocking_read_outlasts_the_command_timeout(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BLOCK may be longer than the time-out of commands: it ends by itself, with nothing."""
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.5)
    read = connection.blocking.xread({"poller:{acme}:events": "$"}, block=600)
    assert not await connection.wait(read, block_s=0.6)


async def test_options_of_the_url_that_are_ours_to_set_change_nothing(redis_url: str, keys: Keys) -> None:
    """A URL made for another client may have a socket_timeout: no read that waits is ended by it, nor kept
    from a connection by that client's max_connections."""
    store = Connection.open(f"{redis_url}?socket_timeout=0.2&max_connections=1")

    async def read() -> Any:
        waiting = store.blocking.xread({keys.events("acme"): "$"}, block=600)
        return await store.wait(waiting, block_s=0.6)

    assert not any(await asyncio.gather(*(read() for _ in range(3))))
    await store.close()


async def test_a_blocking_read_notices_a_dead_peer(
    real_server: RealServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that died in silence during BLOCK is StoreUnavailable after the BLOCK and the margin."""
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.1)
    async with fault_proxy(path=real_server.socket) as proxy:
        store = Connection.open(proxy.url)
        await store.blocking.ping()
        proxy.half_open = True
        with pytest.raises(StoreUnavailable):
            await store.wait(store.blocking.xread({"s": "$"}, block=50), block_s=0.05)
        proxy.half_open = False
        assert await store.blocking.ping()
        await store.close()


async def test_a_cancelled_read_leaves_no_reply_for_the_next(real_server: RealServer, redis_url: str) -> None:
    """After a cancelled call the next one gets its own reply, never the other's."""
    async with fault_proxy(path=real_server.socket) as proxy:
        store = Connection.open(proxy.url)
        await store.commands.set("poller:a", "of a", ex=60)
        await _cancelled_while_waiting(store, proxy)
        assert await store.commands.echo("mine") == b"mine"
        await store.close()


async def test_a_cancellation_is_never_swallowed(redis_url: str) -> None:
    """A task that does nothing but short commands ends when it is cancelled, whatever the moment."""
    store = Connection.open(redis_url)
    for round_ in range(200):
        worker = asyncio.create_task(_for_ever(store))
        for _ in range(round_ % 20):
            await store.commands.ping()
        worker.cancel()
        done, _ = await asyncio.wait([worker], timeout=2)
        assert done, f"round {round_}: cancelled, and still running"
    await store.close()


async def _for_ever(store: Connection) -> None:
    while True:
        await store.commands.ping()


async def _cancelled_while_waiting(store: Connection, proxy: FaultProxy) -> None:
    proxy.delay_s = 0.05
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await store.commands.get("poller:a")
    proxy.delay_s = 0.0


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        (faults.ConnectionError("gone"), StoreUnavailable),
        (faults.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable),
        (faults.ReadOnlyError("You can't write against a read only replica."), StoreUnavailable),
        (faults.OutOfMemoryError("command not allowed"), StoreUnavailable),
        (faults.MasterDownError("Link with MASTER is down"), StoreUnavailable),
        (faults.ClusterDownError("The cluster is down"), StoreUnavailable),
        (faults.TryAgainError("Multiple keys request during rehashing of slot"), StoreUnavailable),
        (faults.ResponseError("BUSY Redis is busy running a script"), StoreUnavailable),
        (faults.ResponseError("MISCONF Redis is configured to save RDB snapshots"), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
        (ConnectionResetError("reset"), StoreUnavailable),
        (faults.AuthenticationError("invalid username-password pair"), StoreRefused),
        (faults.NoPermissionError("this user has no permissions"), StoreRefused),
        (faults.MovedError("3999 127.0.0.1:6381"), StoreUnavailable),
        (faults.InvalidResponse("Protocol Error: b'H'"), StoreRefused),
        (faults.ResponseError("WRONGTYPE Operation against a key"), StoreRefused),
    ],
)
def test_foreign_faults_become_ours(foreign: Exception, ours: type[Exception]) -> None:
    """What passes by itself is StoreUnavailable; what needs an operator is StoreRefused."""
    with pytest.raises(ours, match=r"\w"), translated():
        raise foreign


async def test_check_says_what_the_server_is(redis_url: str) -> None:
    """Name, version, policy and AOF are read; a missing AOF is a warning with its remedy."""
    store = Connection.open(redis_url)
    info = await store.check()
    await store.close()
    assert (info.name, info.policy, info.append_only, info.cluster) == ("valkey", "noeviction", False, False)
    assert int(info.version.split(".")[0]) >= 8
    assert "appendonly yes" in info.warnings[0]


async def test_check_refuses_a_policy_that_evicts() -> None:
    """A server that may throw keys away is refused, with the setting to change."""
    server = realserver.start("--maxmemory-policy", "allkeys-lru")
    store = Connection.open(server.url)
    with pytest.raises(StoreRefused, match=r"allkeys-lru.*noeviction"):
        await store.check()
    await store.close()
    server.stop()


def test_an_old_server_is_refused_with_the_version_needed() -> None:
    """Redis 6.2 lacks what we use: the message names both versions."""
    info = module.ServerInfo(
        name="redis", version="6.2.14", policy="noeviction", append_only=True, cluster=False
    )
    with pytest.raises(StoreRefused, match=r"6\.2\.14.*7\.0"):
        module._refuse_older("6.2.14", info)


async def test_no_server_is_unavailable() -> None:
    """Nothing listening is StoreUnavailable, and the message says what to look at."""
    store = Connection.open("unix:///nonexistent/poller-test.sock")
    with pytest.raises(StoreUnavailable, match=r"redis\.url"):
        await store.check()
    await store.close()


@pytest.mark.parametrize("appendonly", ["yes", "no"])
async def test_a_durable_script_waits_for_the_disk_where_it_can(appendonly: str, keys: Keys) -> None:
    """With an AOF the write is on disk on return; without one, or an old server, it is as without."""
    server = realserver.start("--appendonly", appendonly)
    store = Connection.open(server.url, fsync=True)
    assert await store.run(LEASE, [keys.source_lease("acme")], ["me", 15_000], durable=True)
    if appendonly == "yes":
        (tail,) = (server.directory / "appendonlydir").glob("*.incr.aof")
        assert keys.source_lease("acme").encode() in tail.read_bytes()
    await store.close()
    server.stop()


async def test_a_disk_that_is_too_slow_is_told(monkeypatch: pytest.MonkeyPatch, keys: Keys) -> None:
    """What is not on disk in time is StoreUnavailable: the caller sends the same commit again."""
    monkeypatch.setattr(module, "FSYNC_TIMEOUT_S", 0.001)
    server = realserver.start("--appendonly", "yes", "--appendfsync", "everysec")
    store = Connection.open(server.url, fsync=True)

    async def write_often() -> None:  # one of them falls between two fsyncs
        for round_ in range(50):
            await store.run(LEASE, [keys.source_lease("acme")], ["me", 15_000 + round_], durable=True)

    with pytest.raises(StoreUnavailable, match="disk"):
        await write_often()
    await store.close()
    server.stop()
