"""A warm interpreter that forks `poller` commands: each is a process of its own, started in milliseconds.

Run as a program by `processes.py`. It reads one JSON line for each command to start, and says on stdout
`started PID` and later `ended PID CODE` (below 0: the signal). When its stdin closes it ends them all.
"""

import json
import os
import selectors
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import poller.cli


def main() -> None:
    """Serve until stdin closes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: set[int] = set()
    unread = b""
    with selectors.DefaultSelector() as ready:
        ready.register(reading, selectors.EVENT_READ)
        ready.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                chunk = os.read(key.fd, 65_536)
                if key.fd == reading:
                    bury(living)
                    continue
                if not chunk:
                    end(living)
                    return
                *lines, unread = (unread + chunk).split(b"\n")
                living.update(born(json.loads(line)) for line in lines)


def born(order: dict[str, Any]) -> int:
    """Fork one command; gives its process id."""
    pid = os.fork()
    if pid == 0:
        live(order)
    tell("started", pid)
    return pid


def live(order: dict[str, Any]) -> None:
    """In the child: a session, files and an environment of its own, then the command."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.chdir(Path(order["log"]).parent)
    os.environ |= order["environment"]
    code = 70
    try:
        code = poller.cli.run(order["arguments"])
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def bury(living: set[int]) -> None:
    """Say of each child that ended how it did."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.discard(pid)
        tell("ended", pid, os.waitstatus_to_exitcode(status))


def end(living: set[int]) -> None:
    """Whoever started us is gone: nothing may outlive it."""
    for pid in living:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGCONT)
            os.killpg(pid, signal.SIGTERM)


def tell(*words: object) -> None:
    """One line on stdout."""
    with suppress(BrokenPipeError):
        sys.stdout.write(" ".join(map(str, words)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
