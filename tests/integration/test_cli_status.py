"""`poller status`, `health` and `sources` beside the service, on a real server and a simulated CRM."""

import re
from pathlib import Path

from commands import Commands, crm, service
from hookside import Receiver, receiving
from waiting import wait_until

from poller.simulators import Options, serve
from poller.simulators.drum import DEMO_TOKEN
from poller.store.connection import Connection
from poller.store.keys import Keys


async def test_status_of_what_is_well(call: Commands, redis_url: str) -> None:
    """While everything is well status says so in words and in JSON, and exits 0."""
    async with crm() as world, receiving() as hook:
        call.settings(redis=redis_url, crm=world.url, receiver=hook.url)
        async with service(call.config) as running:
            await wait_until(lambda: hook.got, "the baseline event")
            said = await call("status", "--json")
            assert (said.code, said.err) == (0, "")
            told = said.json
            assert told["well"] is True
            assert list(told["replicas"]) == [running.me]
            source, webhook = told["sources"][0], told["webhooks"][0]
            assert (source["source"], source["state"], source["held_by"]) == ("acme", "polling", running.me)
            assert {each["list"]: each["records"] for each in source["lists"]} == {
                "opportunity": 20,
                "project": 10,
            }
            assert all(each["complete"] and each["age_s"] < 10 for each in source["lists"])
            assert source["budget"]["limit"] == 6000
            assert source["budget"]["used"]["sweep"] > 0

            async def read() -> bool:
                told = (await call("status", "--json")).json["sources"][0]
                return bool(told["details"]["read"] == 30 and told["expected_delay_s"] is not None)

            await wait_until(read, "every detail to be read", 20)
            assert (webhook["webhook"], webhook["state"], webhook["well"]) == ("billing", "ok", True)
            words = await call("status")
            assert words.code == 0
            assert "source acme   polling every 1." in words.out
            assert "webhook billing   ok" in words.out
            assert (await call("health")).code == 0
            listed = await call("sources", "list")
            assert listed.lines[1].split()[:4] == ["acme", "drum", "polling", "30"]


async def test_status_where_nothing_runs(call: Commands, redis_url: str) -> None:
    """Where nobody polls, status says so and what to do, and exits 1; health exits 1 too."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    said = await call("status")
    assert said.code == 1
    assert "none is alive: start one with `poller run`" in said.out
    assert "source acme   unattended: nobody polls it" in said.out
    assert "webhook billing   unattended: nobody serves it" in said.out
    health = await call("health", "--json")
    assert (health.code, health.json["well"], health.json["replicas"]) == (1, False, [])


async def test_redis_that_is_away(call: Commands, tmp_path: Path) -> None:
    """Without Redis every command exits 69 and names the remedy."""
    call.settings(redis=f"unix://{tmp_path}/none", crm="http://127.0.0.1:9")
    for command in (("status",), ("health",), ("sources", "list"), ("sources", "poll", "acme")):
        said = await call(*command)
        assert (said.code, said.out) == (69, ""), command
        assert "Redis cannot be reached" in said.err


async def test_no_embedded_server(call: Commands, tmp_path: Path) -> None:
    """Without redis.url and without `poller run` a command says that nothing runs here, and exits 69."""
    call.settings(redis="redis://127.0.0.1:1", crm="http://127.0.0.1:9")
    text = call.config.read_text()
    call.config.write_text(text.replace('url = "redis://127.0.0.1:1"', ""))
    call.config.write_text(f'data_dir = "{tmp_path}/none"\n' + call.config.read_text())
    said = await call("status")
    assert said.code == 69
    assert "`poller run` starts it" in said.err


async def test_pause_and_resume(call: Commands, redis_url: str) -> None:
    """A source that is paused stands still and is not well until it is resumed."""
    async with crm() as world:
        call.settings(redis=redis_url, crm=world.url)
        async with service(call.config):
            said = await call("sources", "pause", "acme")
            assert said.code == 0
            assert "acme: Nothing more is read until it is resumed." in said.out

            async def state() -> str:
                return str((await call("sources", "list", "--json")).json[0]["state"])

            async def paused() -> bool:
                return await state() == "paused"

            await wait_until(paused, "the pause", 10)
            assert (await call("status")).code == 1
            refused = await call("sources", "poll", "acme")
            assert refused.code == 1
            assert "`poller sources resume acme` first" in refused.err
            await call("sources", "resume", "acme")

            async def polling() -> bool:
                return await state() == "polling"

            await wait_until(polling, "polling again", 10)


async def test_suspended_source(call: Commands, redis_url: str) -> None:
    """A token that is refused suspends the source; status says why and exits 1."""
    async with crm() as world:
        call.settings(redis=redis_url, crm=world.url)
        async with service(call.config):
            world.order("expire_token")

            async def suspended() -> bool:
                said = await call("status")
                return said.code == 1 and "suspended: " in said.out and "401" in said.out

            await wait_until(suspended, "the suspension", 10)


async def test_poll_of_one_record(call: Commands, redis_url: str) -> None:
    """`--record` puts a record in front; one that has no view of its own is a usage error."""
    async with crm() as world:
        call.settings(redis=redis_url, crm=world.url)
        async with service(call.config):
            said = await call("sources", "poll", "acme", "--record", "opportunity/101", "--json")
            assert said.code == 0
            assert said.json["record"] == "opportunity/101"
            assert said.json["asked"] is True
            assert said.json["polled_by"]
        wrong = await call("sources", "poll", "acme", "--record", "task/5")
        assert wrong.code == 2
        assert "opportunity/ID or project/ID" in wrong.err


async def test_request_for_nobody(call: Commands, redis_url: str, keys: Keys) -> None:
    """Where nobody polls, a request is left for whoever comes, and that is said."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("sources", "resync", "acme")
    assert said.code == 0
    assert "Nobody polls it now: it is done when `poller run` does." in said.out
    connection = Connection.open(redis_url)
    assert await connection.commands.lrange(keys.requests("acme"), 0, -1) == [b'{"do":"resync"}']
    await connection.close()


async def test_unknown_source(call: Commands, redis_url: str) -> None:
    """A name that is not there is a usage error that names the nearest."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("sources", "pause", "acmee")
    assert said.code == 2
    assert 'there is no source "acmee"; the nearest is "acme"' in said.err


async def test_release_of_nothing(call: Commands, redis_url: str) -> None:
    """Releasing where nothing is held is refused, and leaves no request."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("sources", "release", "acme", "--json")
    assert (said.code, said.json["asked"]) == (1, False)
    assert "nothing is held" in said.json["means"]


async def test_hold_and_release(call: Commands, redis_url: str) -> None:
    """Many records that vanish at once are held; release says how many it concerns and ends it."""
    async with crm(records=120) as world:
        call.settings(redis=redis_url, crm=world.url)
        async with service(call.config):
            for record in sorted(world.world.rows)[:60]:
                world.order("archive", record=record)

            async def held() -> bool:
                return "held: " in (await call("status")).out

            await wait_until(held, "the hold", 15)
            said = await call("sources", "release", "acme", "--json")
            assert said.code == 0
            assert said.json["touches"] > 20

            async def well() -> bool:
                return (await call("status")).code == 0

            await wait_until(well, "the end of the hold", 20)


async def test_dead_endpoint(call: Commands, redis_url: str) -> None:
    """An endpoint that answered 410 is disabled: status says why, what to type, and exits 1."""
    async with crm() as world, receiving(Receiver(always=410)) as hook:
        call.settings(redis=redis_url, crm=world.url, receiver=hook.url)
        async with service(call.config):

            async def disabled() -> bool:
                said = await call("status")
                return said.code == 1 and "disabled: it answered 410" in said.out

            await wait_until(disabled, "the endpoint to be disabled", 10)


async def test_a_day_whose_tokens_are_used_up(call: Commands, redis_url: str) -> None:
    """The daily kind of 429 pauses the source to the day's end; status says why, and counts tokens."""
    async with serve("pipedrive", options=Options(records=40, seed=3), daily_tokens=10**6) as world:
        call.settings(redis=redis_url, crm=world.url)
        text = call.config.read_text().replace('kind = "drum"', 'kind = "pipedrive"')
        text = text.replace("6000/5m", "60000/5m")
        call.config.write_text(text.replace(f'token = "{DEMO_TOKEN}"', f'token = "{world.token}"'))
        async with service(call.config):
            world.set(daily_tokens=0)

            async def limited() -> bool:
                return bool((await call("status", "--json")).json["sources"][0]["state"] == "limited")

            await wait_until(limited, "the pause", 20)

            async def told() -> str:
                words = (await call("status")).out
                return words if "tokens of this day are used up" in words else ""

            words = await wait_until(told, "why", 20)
            assert re.search(r"used up \(429 for [^)]+\), for [\d.]+ (s|min|h) more", words)
            assert re.search(r"of 60,000 tokens in 5 min", words)
            refused = [asked for asked in world.requests if asked.status == 429]
            assert len(refused) == 1
