"""Commands for tests: a settings file, the service in this loop, and the command line beside it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from poller import log
from poller.app.service import Service
from poller.cli import run
from poller.config import load
from poller.simulators import Options, serve
from poller.simulators.drum import DEMO_TOKEN
from poller.store.connection import Connection

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Its output line by line."""
        return self.out.splitlines()


class Commands:
    """The command line in this process, in a thread of its own as it makes its own loop."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self._capsys = capsys

    def settings(self, **parts: str) -> None:
        """Write the settings file, as `settings_text` says."""
        self.config.touch(mode=0o600)
        self.config.write_text(settings_text(**parts))

    async def __call__(self, *arguments: str) -> Said:
        """Run one command to its end."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, [*arguments, "--config", str(self.config)])
        log.configure(level="error", secrets=())
        captured = self._capsys.readouterr()
        return Said(code, captured.out, captured.err)


def settings_text(*, redis: str, crm: str, receiver: str = "", more: str = "") -> str:
    """A settings file with a source `acme` and, where there is a receiver, a webhook `billing`."""
    hook = f"""
[webhooks.billing]
url = "{receiver}"
secret = "{SECRET}"
events = ["*", "poller.*"]
from = "oldest"
allow_private = ["127.0.0.0/8"]
"""
    return f"""
[redis]
url = "{redis}"
lease = "2s"

[sources.acme]
kind = "drum"
token = "{DEMO_TOKEN}"
base_url = "{crm}"
every = "1s"
budget = "6000/5m"
{more}
{hook if receiver else ""}
"""


@asynccontextmanager
async def crm(records: int = 30) -> AsyncIterator[Any]:
    """A simulated Drum that stands still until it is told otherwise."""
    async with serve("drum", options=Options(records=records, seed=3, token=DEMO_TOKEN)) as simulator:
        yield simulator


@asynccontextmanager
async def service(config: Path) -> AsyncIterator[Service]:
    """The service of a settings file, in this loop, its first reading done."""
    log.configure(level="error", secrets=())
    settings = load(config)
    assert settings.redis.url is not None
    connection = Connection.open(settings.redis.url.get_secret_value())
    running, stop = Service(settings, connection), asyncio.Event()
    swept: list[str] = []
    running.ears.swept.append(lambda name, told: swept.append(told.kind) if told.complete else None)
    task = asyncio.create_task(running.run(stop))
    try:
        if settings.sources:
            await wait_until(lambda: len(set(swept)) >= 2 or task.done(), "the first sweeps", 20)
        yield running
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await task
        await connection.close()
