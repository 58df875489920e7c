"""Names whose lookup hangs, as where a name server is silent: nobody else waits for them, nor the end."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from poller.app.lookups import Lookups
from poller.deliver.signing import encode_secret

ROOT = Path(__file__).parents[2]
STOP_S = 25.0
"""Contract §8."""
HANGING = """
import socket, time
found = socket.getaddrinfo
def getaddrinfo(host, *more, **others):
    if str(host).endswith(".test"):
        time.sleep(60)
    return found(host, *more, **others)
socket.getaddrinfo = getaddrinfo
"""


async def test_a_name_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lookups hang, the next one is begun at once."""
    found, let_go = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".test"):
            let_go.wait(30)
            raise socket.gaierror
        return found(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Lookups())
    hanging = [asyncio.ensure_future(loop.getaddrinfo(f"n{n}.test", 80)) for n in range(50)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(loop.getaddrinfo("127.0.0.1", 80), 5)
    finally:
        let_go.set()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_stop_waits_for_no_name(tmp_path: Path, redis_url: str) -> None:
    """SIGTERM while the names of the CRM and of a receiver are being looked up: exit 0 within 25 s."""
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "poller", "run"),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "POLLER_REDIS_URL": redis_url,
            "POLLER_WEB__PORT": "0",
            "POLLER_DRUM_TOKEN": "t",
            "POLLER_DRUM_BASE_URL": "https://crm.test",
            "POLLER_WEBHOOK_URL": "https://receiver.test",
            "POLLER_WEBHOOK_SECRET": encode_secret(b"k" * 32),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert running.stderr is not None
    async for line in running.stderr:
        if b"endpoint.started" in line:
            break
    await asyncio.sleep(1)
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    await asyncio.wait_for(running.stderr.read(), STOP_S)
    assert await running.wait() == 0
    assert time.monotonic() - began < STOP_S
