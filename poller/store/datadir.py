"""What lies in `data_dir` beside the server's own files: two locks, and a note on where it listens.

`lock` is held by the `poller run` that owns the directory. `server.lock` is opened by us and inherited
by the server: it stays locked for as long as the server lives, whoever its parent was.
"""

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from poller.errors import StoreRefused

if sys.platform != "win32":
    import fcntl

LONGEST_SOCKET_PATH = 103
"""Bytes of a unix socket's path: 108 with its end on Linux, 104 on macOS."""
RUN_LOCK, SERVER_LOCK, LOG = "lock", "server.lock", "valkey.log"
REMEDY = "set POLLER_REDIS_URL (or redis.url) to a Redis 7.0 or newer, or any Valkey"

_SOCKET, _NOTE = "valkey.sock", "server.json"


def home(data_dir: Path) -> Path:
    """The directory that `data_dir` names, whatever the working directory becomes."""
    return data_dir.expanduser().absolute()


def open_private(path: Path) -> IO[str]:
    """Open for reading and writing, made if need be, readable by nobody else."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return os.fdopen(descriptor, "r+", encoding="utf-8")


def try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed; False where somebody else has it.

    Raises:
        StoreRefused: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        msg = f"{file.name} cannot be locked ({exc.strerror}): put data_dir on a local disk, or {REMEDY}"
        raise StoreRefused(msg) from exc
    return True


@contextmanager
def locked(path: Path) -> Iterator[IO[str] | None]:
    """The open, locked file while inside; None where somebody else holds the lock.

    Closing gives up our own hold only: a server that inherited the file keeps it locked.
    """
    with open_private(path) as file:
        yield file if try_lock(file) else None


def socket_path(directory: Path) -> Path:
    """Where the server of `directory` listens: in it, or, where that is too long, in a private one of ours.

    Raises:
        StoreRefused: that private directory is somebody else's, or open to others.
    """
    path = directory / _SOCKET
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    private = Path(tempfile.gettempdir()) / f"poller-{os.getuid()}-{name}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        msg = f"{private} is not a private directory of ours: remove it, or choose a shorter data_dir"
        raise StoreRefused(msg)
    return private / "s"


@dataclass(frozen=True, slots=True)
class Note:
    """What is written of the running server, before and after it is started."""

    pid: int | None
    socket: Path


def write_note(directory: Path, pid: int | None, socket: Path) -> None:
    """Write the note whole or not at all."""
    fresh = directory / f"{_NOTE}.new"
    with open_private(fresh) as file:
        file.truncate()
        file.write(json.dumps({"pid": pid, "socket": str(socket)}))
    fresh.replace(directory / _NOTE)


def read_note(directory: Path) -> Note | None:
    """The note, or None where there is none that can be read."""
    try:
        known = json.loads((directory / _NOTE).read_text("utf-8"))
        return Note(known["pid"], Path(known["socket"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sweep_up(directory: Path, socket: Path) -> None:
    """Remove what told of the server, once it is gone."""
    (directory / _NOTE).unlink(missing_ok=True)
    socket.unlink(missing_ok=True)
    if socket.parent != directory:
        with suppress(OSError):
            socket.parent.rmdir()
