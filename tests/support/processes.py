"""`poller` in processes of its own: started, watched, told to stop, killed, and what they leave behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hookside import SECRET
from waiting import wait_until

from poller.app import Ears, Service
from poller.config import Settings
from poller.deliver.signing import encode_secret
from poller.store.connection import Connection
from poller.store.datadir import SERVER_LOCK, locked, read_note
from poller.watch.poll import Swept

START_S = 30.0
"""How long a busy machine may take to bring a process up."""


@dataclass(eq=False)
class Running:
    """One process of `poller`."""

    pid: int
    log: Path
    ended: "asyncio.Future[int]" = field(repr=False)
    log_from: int = 0

    @property
    def lives(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ended.done()

    def kill(self) -> None:
        """kill -9, without a word."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, as a container's end sends it."""
        self._signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT to the whole process group, as Ctrl-C does."""
        os.killpg(self.pid, signal.SIGINT)

    def stand(self) -> None:
        """SIGSTOP: it holds what it has and does nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def end(self, *, within_s: float = 30.0) -> int:
        """Wait for its end; gives its exit code, or below 0 the signal that ended it."""
        await wait_until(self.ended.done, f"the end of process {self.pid}; {self.words(5)}", within_s)
        return self.ended.result()

    def lines(self) -> list[dict[str, Any]]:
        """What it logged since it was started."""
        text = self.log.read_bytes()[self.log_from :].decode(errors="replace")
        found = []
        for line in text.splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Its log lines of this event with these fields."""
        wanted = {"event": event, **fields}
        return [line for line in self.lines() if isinstance(line, dict) and wanted.items() <= line.items()]

    def words(self, last: int = 20) -> str:
        """The end of its log, for a failure's message."""
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-last:])

    def memory_mb(self, which: str = "VmHWM") -> float:
        """Its peak resident memory (VmHWM) or what it has now (VmRSS), as Linux tells it."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{which}:"):
                return int(line.split()[1]) / 1024
        msg = f"/proc/{self.pid}/status has no {which}"
        raise LookupError(msg)


class ForkServer:
    """Starts processes of `poller` quickly; see forkserver.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._living: dict[int, Running] = {}
        self._births: asyncio.Queue[int] = asyncio.Queue()
        self._listening = asyncio.ensure_future(self._listen())

    async def start(
        self, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> Running:
        """Start one command; what it prints goes to the end of `log`, beside which it works."""
        log_from = _size(log)
        order = {"arguments": arguments, "log": str(log), "environment": dict(environment or {})}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(START_S):
            pid = await self._births.get()
        assert pid, "the fork server has ended: its stderr says why (does poller.cli import?)"
        running = self._living[pid]
        running.log, running.log_from = log, log_from
        return running

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            what, pid, *code = line.decode().split()
            if what == "started":
                ended = asyncio.get_running_loop().create_future()
                self._living[int(pid)] = Running(int(pid), Path(), ended)
                self._births.put_nowait(int(pid))
            else:
                self._living.pop(int(pid)).ended.set_result(int(code[0]))
        self._births.put_nowait(0)  # it has ended itself

    def kill_all(self) -> None:
        """Kill whatever still lives."""
        for running in self._living.values():
            running.kill()

    async def close(self) -> None:
        """Kill whatever still lives, and end."""
        self.kill_all()
        for running in list(self._living.values()):
            await running.end()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening


def _size(log: Path) -> int:
    log.touch(mode=0o600)  # so that it may be read before the process has opened it
    return log.stat().st_size


@asynccontextmanager
async def fork_server() -> AsyncIterator[ForkServer]:
    """Have a fork server while the block runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("forkserver.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    opened = ForkServer(process)
    try:
        yield opened
    finally:
        await opened.close()


def settings_file(
    folder: Path,
    *,
    sources: Mapping[str, Mapping[str, Any]],
    receiver: str = "",
    redis: Mapping[str, Any] | None = None,
    level: str = "info",
    **webhook: Any,
) -> Path:
    """Write poller.toml: lively sources, one endpoint `hook`, an embedded server in `data`."""
    plain = {"kind": "drum", "every": "200ms", "budget": "100000/5m"}
    hook = {
        "url": receiver,
        "secret": encode_secret(SECRET),
        "events": ["*", "poller.*"],
        "from": "oldest",
        "allow_private": ["127.0.0.0/8"],
        **webhook,
    }
    tables: dict[str, Mapping[str, Any]] = {
        "redis": {"lease": "2s", **(redis or {})},
        "web": {"port": 0},
        "log": {"level": level},
        **{f"sources.{name}": {**plain, **given} for name, given in sources.items()},
    }
    if receiver:
        tables["webhooks.hook"] = hook
    text = f"data_dir = {json.dumps(str(folder / 'data'))}\n"
    for name, table in tables.items():
        text += f"\n[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    path = folder / "poller.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


@dataclass
class Home:
    """A settings file and the embedded server's directory: processes come and go, these stay."""

    forks: ForkServer
    settings: Path
    starts: int = 0

    @property
    def data(self) -> Path:
        """The embedded server's directory."""
        return self.settings.parent / "data"

    async def run(self, *more: str) -> Running:
        """Start `poller run`."""
        self.starts += 1
        return await self.forks.start(
            "run", "--config", str(self.settings), *more, log=self.settings.with_name("run.log")
        )

    def server_url(self) -> str | None:
        """Where the embedded server listens; None where nothing was written of one."""
        note = read_note(self.data)
        return f"unix://{note.socket}" if note else None

    def server_lives(self) -> bool:
        """Whether a server holds the append-only file."""
        if not self.data.is_dir():
            return False
        with locked(self.data / SERVER_LOCK) as free:
            return free is None

    def kill_server(self) -> bool:
        """kill -9 of the embedded server; False where none is known."""
        note = read_note(self.data)
        if note is None or note.pid is None or not self.server_lives():
            return False
        with suppress(ProcessLookupError):
            os.kill(note.pid, signal.SIGKILL)
        return True


@asynccontextmanager
async def home(folder: Path, **settings: Any) -> AsyncIterator[Home]:
    """Have a home while the block runs; at its end nothing of it lives."""
    async with fork_server() as opened:
        made = Home(opened, settings_file(folder, **settings))
        try:
            yield made
        finally:
            opened.kill_all()
            made.kill_server()  # first, and without waiting: nothing may outlive a test that was cut short


@asynccontextmanager
async def inside(
    url: str,
    *,
    swept: Callable[[str, Swept], None] = lambda *_: None,
    redis: Mapping[str, Any] | None = None,
    **tables: Any,
) -> AsyncIterator[tuple[Service, Connection]]:
    """A replica in this process, for what has to be seen from within; `tables` are the settings."""
    given = Settings.model_validate({"redis": {"url": url, "lease": "2s", **(redis or {})}, **tables})
    connection, stop = Connection.open(url), asyncio.Event()
    service = Service(given, connection, ears=Ears(swept=[swept]))
    running = asyncio.create_task(service.run(stop))
    try:
        yield service, connection
    finally:
        stop.set()
        async with asyncio.timeout(25):
            await asyncio.gather(running)
        await connection.close()
