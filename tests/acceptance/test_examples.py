"""Each example of deploy/examples runs, word for word, beside a real service that tells it of a win."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hookside import SECRET
from processes import Home, home
from redis.asyncio import Redis
from waiting import wait_until

from poller.deliver.signing import encode_secret
from poller.simulators import Options, serve
from poller.store.keys import Keys

pytestmark = pytest.mark.full

EXAMPLES = Path(__file__).parent.parent.parent / "deploy" / "examples"
START_S = 30.0


@dataclass
class Example:
    """One example, running."""

    process: asyncio.subprocess.Process
    log: Path

    def lines(self, beginning: str) -> list[str]:
        """What it printed so far that begins so."""
        return [line for line in self.log.read_text().splitlines() if line.startswith(beginning)]

    async def says(self, beginning: str) -> str:
        """Wait for a line that begins so."""
        await wait_until(
            lambda: self.lines(beginning) or self.process.returncode is not None, beginning, START_S
        )
        assert self.lines(beginning), self.log.read_text()
        return self.lines(beginning)[0]


@asynccontextmanager
async def example(*command: str, folder: Path, **environment: str) -> AsyncIterator[Example]:
    """Run it while the block runs."""
    log = folder / "example.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Example(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def selling(folder: Path, **settings: Any) -> AsyncIterator[tuple[Any, Home]]:
    """A simulated account under watch, its first reading done."""
    async with serve("drum", options=Options(records=30, seed=5)) as sim:
        sources = {"acme": {"base_url": sim.url, "token": sim.token}}
        async with home(folder, sources=sources, **settings) as place:
            running = await place.run()
            await wait_until(
                lambda: len({line["list"] for line in running.logged("source.swept", complete=True)}) == 2,
                "the baseline",
                START_S,
            )
            yield sim, place
            running.terminate()
            assert await running.end() == 0


def win(sim: Any) -> Mapping[str, Any]:
    """Somebody signs; gives the deal as Drum lists it."""
    record = next(row.id for row in sim.world.rows.values() if row.kind == "opportunity" and not row.archived)
    deal: Mapping[str, Any] = sim.world.state(record).known
    assert sim.orders.win(record)
    return deal


async def forged(url: str) -> int:
    """Send what nobody signed; gives the status."""
    headers = {
        "webhook-id": "evt_0",
        "webhook-timestamp": "1",
        "webhook-signature": "v1,AAAA",
        "content-type": "application/json",
    }
    async with aiohttp.ClientSession() as client, client.post(url, data=b"{}", headers=headers) as answer:
        return answer.status


async def sells_once(receiver: Example, url: str, folder: Path) -> None:
    """A win is one invoice, though it is sent twice; what nobody signed is refused."""
    async with selling(folder, receiver=url, events=["*.won"]) as (sim, place):
        deal = win(sim)
        line = await receiver.says("invoice")
        assert deal["client"]["name"] in line
        event = line.rpartition("(")[2].rstrip(")")
        again = await place.forks.start(
            "webhooks", "resend", "hook", event, "--config", str(place.settings), log=folder / "resend.log"
        )
        assert await again.end() == 0, again.words()
        assert event in await receiver.says("already done")
        assert await forged(url) == 400
    assert len(receiver.lines("invoice")) == 1


async def test_the_fastapi_receiver_does_each_thing_once(tmp_path: Path) -> None:
    """It verifies with poller.verify, writes one invoice for an event that comes twice, refuses a forgery."""
    command = (sys.executable, "-m", "uvicorn", "fastapi_receiver:app", "--app-dir", str(EXAMPLES))
    secret = encode_secret(SECRET)
    async with example(*command, "--port", "0", folder=tmp_path, WEBHOOK_SECRET=secret) as receiver:
        await receiver.says("INFO:     Uvicorn running on")
        address = receiver.lines("INFO:     Uvicorn running on")[0].split()[4]
        await sells_once(receiver, f"{address}/hooks/poller", tmp_path)


@pytest.mark.skipif(not shutil.which("npm"), reason="Node is not installed; the example needs npm and node")
async def test_the_express_receiver_does_each_thing_once(tmp_path: Path) -> None:
    """It verifies with npm's standardwebhooks and does the same."""
    for name in ("package.json", "express_receiver.mjs"):
        shutil.copy(EXAMPLES / name, tmp_path)
    install = await asyncio.create_subprocess_exec(
        "npm", "install", "--no-audit", "--no-fund", cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    assert await install.wait() == 0
    secret = encode_secret(SECRET)
    environment = {"WEBHOOK_SECRET": secret, "PORT": "0", "DEBUG": ""}
    async with example("node", "express_receiver.mjs", folder=tmp_path, **environment) as receiver:
        port = (await receiver.says("listening on")).split()[-1]
        await sells_once(receiver, f"http://127.0.0.1:{port}/hooks/poller", tmp_path)


async def test_the_slack_notifier_posts_what_it_reads_from_the_stream(tmp_path: Path) -> None:
    """A win is one message and acknowledged; what Slack refuses is not, and the notifier says why it ends."""
    command = (sys.executable, str(EXAMPLES / "slack_notifier.py"))
    async with slack() as (url, posts), selling(tmp_path) as (sim, place):
        given = {"REDIS_URL": place.server_url() or "", "SLACK_WEBHOOK_URL": url, "START": "oldest"}
        async with example(*command, folder=tmp_path, **given) as notifier:
            deal = win(sim)
            await notifier.says("sent drum.opportunity.won")

            async def none_pending() -> bool:
                return not await pending(given["REDIS_URL"])

            await wait_until(none_pending, "the acknowledgement")
            assert posts[0]["text"].startswith(f":tada: *won* {deal['name']} · {deal['client']['name']} · ")
            win(sim)
            await notifier.says("Slack answered 404: no_service")
            await notifier.process.wait()
            assert "drum.opportunity.won" in await pending(given["REDIS_URL"])
    assert len(posts) == 2


async def test_the_stand_ins_of_the_readme(tmp_path: Path) -> None:
    """Its commands, word for word but for the ports, bring an example and then real deals to a Slack."""
    readme = (EXAMPLES.parents[1] / "README.md").read_text()
    commands = readme.partition("<!-- test: stand-ins -->\n```sh\n")[2].partition("```")[0]
    crm, receiver = free_ports(2)
    for told, ours in {
        "deploy/examples/": f"{EXAMPLES}/",
        "--pace 5": f"--pace 5 --port {crm} --admin-port 0",
        "8310": str(crm),
        "9000": str(receiver),
        "\npoller run": "\nexec poller run",  # so that its end is the shell's
    }.items():
        assert told in commands
        commands = commands.replace(told, ours)
    for name, module in (("poller", "-m poller"), ("python", "")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (tmp_path / name).chmod(0o700)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(EXAMPLES.parents[1]),
        "POLLER_WEB__PORT": "0",
    }
    async with example("sh", "-c", commands, folder=tmp_path, **environment) as shell:
        try:
            assert "Opportunity won: Enterprise CRM Implementation" in await shell.says('{"text"')
            await wait_until(lambda: len(shell.lines('{"text"')) > 1, "a deal of the stand-in", 60)
        finally:
            os.killpg(shell.process.pid, signal.SIGTERM)
            await shell.process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in taken]


async def pending(redis_url: str) -> list[str]:
    """The types of the events that the notifier's group has not acknowledged."""
    stream, group = Keys().events("acme"), "slack-notifier"
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        entries = await client.xpending_range(stream, group, "-", "+", 100)
        ids = [entry["message_id"] for entry in entries]
        return [(await client.xrange(stream, id_, id_))[0][1]["type"] for id_ in ids]


@asynccontextmanager
async def slack() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An incoming webhook that takes one message and is gone; its URL, and what it was sent."""
    posts: list[dict[str, Any]] = []

    async def post(request: web.Request) -> web.Response:
        posts.append(await request.json())
        return web.Response(text="ok") if len(posts) == 1 else web.Response(status=404, text="no_service")

    app = web.Application()
    app.router.add_post("/services/T/B/x", post)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/services/T/B/x", posts
    finally:
        await runner.cleanup()
