"""Commands beside a real `poller run` on the embedded server, each in a process of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import crm
from hookside import receiving
from processes import home
from shell import TIMEOUT_S, Shell
from waiting import wait_until

from poller.simulators.drum import DEMO_TOKEN

pytestmark = pytest.mark.full


def source(url: str) -> dict[str, Any]:
    """A source that is read every second."""
    return {"acme": {"token": DEMO_TOKEN, "base_url": url, "every": "1s"}}


def first_opportunity(world: Any) -> int:
    """The lowest id among what is still an opportunity."""
    rows = world.world.rows
    return min(record for record, row in rows.items() if row.kind == "opportunity" and not row.archived)


async def test_commands_beside_the_service(tmp_path: Path) -> None:
    """status, health, events, sources poll and webhooks speak to the running service's own server."""
    async with (
        crm() as world,
        receiving() as hook,
        home(tmp_path, sources=source(world.url), receiver=hook.url) as at,
    ):
        shell = Shell(at)
        before = await shell("status")
        assert before.code == 69
        assert "`poller run` starts it" in before.text
        service = await at.run()
        await wait_until(lambda: hook.got, "the baseline event", TIMEOUT_S)
        await shell.until(0, "status")
        status = (await shell("status", "--json")).json
        assert status["sources"][0]["state"] == "polling"
        assert len(status["replicas"]) == 1
        assert (await shell("health")).code == 0
        check = await shell("check")
        assert check.code == 0, check.text
        assert "the embedded server, which runs" in check.text

        follower = await shell.start("events", "--follow", "--json", "--type", "drum.opportunity.*")
        record = first_opportunity(world)
        polled = await shell("sources", "poll", "acme", "--record", f"opportunity/{record}")
        assert (polled.code, f"opportunity/{record} is read next" in polled.text) == (0, True)
        world.order("update", record=record, name="Called otherwise")
        await wait_until(follower.log.read_text, "an event that is followed", TIMEOUT_S)
        follower.interrupt()
        assert await follower.end() == 0
        event = json.loads(follower.log.read_text())
        assert event["subject"] == f"opportunity/{record}"
        assert event["data"]["object"]["name"] == "Called otherwise"

        assert "Called otherwise" in (await shell("events", "--since", "10m")).text
        assert (await shell("webhooks", "list", "--json")).json[0]["state"] == "ok"
        assert (await shell("webhooks", "resend", "hook", event["id"])).code == 0
        await wait_until(lambda: hook.ids.count(event["id"]) == 2, "the event once more", TIMEOUT_S)
        service.terminate()
        assert await service.end() == 0
        assert (await shell("health")).code == 69


async def test_a_service_that_was_killed(tmp_path: Path) -> None:
    """After kill -9 the server still answers: status and health say that nobody works, until one does."""
    async with (
        crm() as world,
        receiving() as hook,
        home(tmp_path, sources=source(world.url), receiver=hook.url) as at,
    ):
        shell = Shell(at)
        service = await at.run()
        await shell.until(0, "status")
        service.kill()
        await service.end()
        await shell.until(1, "health")
        await shell.until(1, "status", saying="unattended: nobody polls it")  # when both leases are over
        await at.run()
        await shell.until(0, "status")
