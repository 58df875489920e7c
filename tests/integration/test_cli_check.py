"""`poller check`: each step is told, each failure names its remedy, and each request is paid."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from aiohttp import web
from commands import Commands, Said, crm, service
from hookside import receiving

from poller.simulators import Options, serve
from poller.simulators.drum import DEMO_TOKEN
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.sources import SOURCES


def step(said: Said, name: str, word: str = "") -> dict[str, Any]:
    """The step of a name whose words hold `word`."""
    found = [each for each in said.json["steps"] if each["step"] == name and word in each["said"]]
    assert found, f"no step {name!r} says {word!r}: {json.dumps(said.json, indent=1)}"
    result: dict[str, Any] = found[0]
    return result


async def test_all_is_well(call: Commands, redis_url: str) -> None:
    """What works is said with its figures, and the exit code is 0; the receiver hears nothing."""
    async with crm(records=240) as world, receiving() as hook:
        call.settings(redis=redis_url, crm=world.url, receiver=hook.url)
        asked = len(list(world.requests))
        said = await call("check", "--json")
        assert (said.code, said.json["well"]) == (0, True)
        assert step(said, "redis")["facts"]["policy"] == "noeviction"
        deals = step(said, "source acme", "opportunity: 160 records")["facts"]
        assert (deals["page"], deals["asked"], deals["exact"]) == (100, 500, True)
        pace = step(said, "source acme", "a sweep takes 5 requests")["facts"]
        assert (pace["requests"], pace["records"]) == (5, 240)
        assert step(said, "webhook billing", "127.0.0.1")["state"] == "ok"
        assert hook.got == []
        sent = len(list(world.requests)) - asked
        connection = Connection.open(redis_url)
        paid = await connection.commands.zcard(Keys().budget(world.url.removeprefix("http://"), "default"))
        await connection.close()
        assert sent == 6
        assert paid >= sent
        words = await call("check")
        assert words.code == 0
        assert words.lines[0].startswith("ok      settings: 1 source, 1 webhook, a Redis of your own")


async def test_a_list_that_fills_its_first_page_goes_on(call: Commands, redis_url: str) -> None:
    """A page as long as was asked for, and no count: there are more records than it shows."""
    async with crm(records=1200) as world:
        world.set(items_cap=500)
        call.settings(redis=redis_url, crm=world.url)
        said = await call("check", "--json")
        assert step(said, "source acme", "opportunity: 800 records")["facts"]["exact"] is True
        assert step(said, "source acme", "project: 400 records")["facts"]["exact"] is True
        assert step(said, "source acme", "a sweep takes 5 requests")["facts"]["records"] == 1200


@asynccontextmanager
async def fussy(world: Any, answer: Callable[[dict[str, str]], web.Response | None]) -> AsyncIterator[str]:
    """The simulator behind a server of its own opinion on pages of more than 100 rows, and its address."""
    async with aiohttp.ClientSession() as session:

        async def pass_on(request: web.Request) -> web.Response:
            asked = dict(request.query)
            said = answer(asked) if int(asked.get("items", 0)) > 100 else None
            if said is not None:
                return said
            headers = {"authorization": request.headers["authorization"]}
            async with session.get(world.url + request.path, params=asked, headers=headers) as reply:
                body = await reply.read()
            return web.Response(body=body, status=reply.status, content_type="application/json")

        app = web.Application()
        app.router.add_get("/{path:.*}", pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def refused(_asked: dict[str, str]) -> web.Response | None:
    """So many are a bad request."""
    return web.json_response({"error": "items: 100 at most"}, status=400)


def ignored(asked: dict[str, str]) -> web.Response | None:
    """So many are not heard."""
    asked["items"] = "20"
    return None


@pytest.mark.parametrize("answer", [refused, ignored])
async def test_a_server_that_does_not_take_so_many_rows(
    call: Commands, redis_url: str, answer: Callable[[dict[str, str]], web.Response | None]
) -> None:
    """The largest page is found before the first run as a sweep finds it, and reckoned with."""
    async with crm(records=240) as world, fussy(world, answer) as url:
        call.settings(redis=redis_url, crm=url)
        said = await call("check", "--json")
        assert said.code == 0, said.out
        deals = step(said, "source acme", "opportunity: 160 records")["facts"]
        assert (deals["page"], deals["asked"], deals["exact"]) == (100, 100, True)
        assert step(said, "source acme", "a sweep takes 5 requests")


@pytest.mark.parametrize("kind", sorted(SOURCES))
async def test_every_kind_of_source(call: Commands, redis_url: str, kind: str) -> None:
    """Each kind in the registry is called, and what a sweep takes is said in what its budget counts."""
    async with serve(kind, options=Options(records=40, seed=3)) as world:
        call.settings(redis=redis_url, crm=world.url)
        text = call.config.read_text().replace('kind = "drum"', f'kind = "{kind}"')
        call.config.write_text(text.replace(f'token = "{DEMO_TOKEN}"', f'token = "{world.token}"'))
        said = await call("check", "--json")
        assert said.code == 0, said.out
        for name in SOURCES[kind].lists:
            assert step(said, "source acme", f"{name}: ")["facts"]["records"] > 0
        takes = step(said, "source acme", "a sweep takes ")["facts"]["requests"]
        assert takes > len(SOURCES[kind].lists)


async def test_beside_the_service(call: Commands, redis_url: str) -> None:
    """While the service runs, the counts are those of its last complete reading."""
    async with crm() as world:
        call.settings(redis=redis_url, crm=world.url)
        async with service(call.config):
            said = await call("check", "--json")
            assert said.code == 0
            assert step(said, "source acme", "opportunity: 20 records")["facts"]["exact"] is True


async def test_a_refused_token(call: Commands, redis_url: str) -> None:
    """A token that is refused fails the source, with the place where another is to be put."""
    async with crm() as world:
        call.settings(redis=redis_url, crm=world.url)
        world.order("expire_token")
        said = await call("check", "--json")
        assert said.code == 1
        failed = step(said, "source acme", "401")
        assert (failed["state"], failed["remedy"]) == ("failed", "put a valid token into [sources.acme]")


async def test_fields_that_the_token_does_not_show(call: Commands, redis_url: str) -> None:
    """Where a token may not see the money, the missing fields are named."""
    async with crm() as world:
        world.set(hidden_keys=("amount", "total_budget"))
        call.settings(redis=redis_url, crm=world.url)
        said = await call("check", "--json")
        assert said.code == 0
        warned = step(said, "source acme", "opportunity: the token does not show amount, ")
        assert warned["state"] == "warning"


async def test_what_is_not_there(call: Commands, redis_url: str) -> None:
    """A CRM that does not answer and a receiver that does not resolve fail with their remedies."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9", receiver="https://nope.invalid/hook")
    said = await call("check", "--json")
    assert said.code == 1
    assert "check base_url and proxy of [sources.acme]" in step(said, "source acme")["remedy"]
    assert "nope.invalid does not resolve" in step(said, "webhook billing")["said"]


async def test_a_private_receiver(call: Commands, redis_url: str) -> None:
    """A receiver on a private address fails, and the remedy names allow_private."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    text = call.config.read_text().replace('allow_private = ["127.0.0.0/8"]', "")
    call.config.write_text(text)
    said = await call("check", "--json")
    refused = step(said, "webhook billing")
    assert refused["state"] == "failed"
    assert "allow_private of [webhooks.billing]" in refused["remedy"]


async def test_redis_that_is_away(call: Commands, tmp_path: Path) -> None:
    """Without Redis no CRM is asked, since nothing can be paid; the rest is looked at, and the end is 69."""
    async with crm() as world:
        call.settings(redis=f"unix://{tmp_path}/none", crm=world.url, receiver="https://nope.invalid/hook")
        said = await call("check", "--json")
        assert (said.code, said.json["well"]) == (69, False)
        assert step(said, "redis")["state"] == "failed"
        assert step(said, "source acme")["said"].startswith("not asked")
        assert step(said, "webhook billing")["state"] == "failed"
        assert list(world.requests) == []


async def test_redis_that_is_lost_on_the_way(
    call: Commands, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Redis answers first and then no more, that is told of Redis, and the end is 69 with all steps."""

    async def lost(*_: object, **__: object) -> None:
        raise redis.exceptions.ConnectionError

    async with crm() as world:
        call.settings(redis=redis_url, crm=world.url)
        monkeypatch.setattr(redis.asyncio.Redis, "evalsha", lost)
        monkeypatch.setattr(redis.asyncio.Redis, "eval", lost)
        said = await call("check", "--json")
        assert said.code == 69
        told = [each["state"] for each in said.json["steps"] if each["step"] == "redis"]
        assert (told[0], told[-1]) == ("ok", "failed")


async def test_a_budget_that_is_too_small(call: Commands, redis_url: str) -> None:
    """Where the budget does not suffice, the check says what to set."""
    async with crm(records=240) as world:
        call.settings(redis=redis_url, crm=world.url)
        call.config.write_text(call.config.read_text().replace("6000/5m", "60/5m"))
        said = await call("check", "--json")
        assert said.code == 0
        assert step(said, "source acme", "a sweep takes")["remedy"].startswith('set every = "')


async def test_a_neighbour_with_a_smaller_budget(call: Commands, redis_url: str) -> None:
    """Of several budgets for one host the smallest holds, and is reckoned with."""
    async with crm(records=240) as world:
        call.settings(redis=redis_url, crm=world.url)
        text = call.config.read_text()
        start = text.index("[sources.acme]")
        mine = text[start:].partition("\n[")[0]
        other = mine.replace("acme", "beta").replace("6000/5m", "30/1m")
        call.config.write_text(f"{text}\n{other}\n")
        said = await call("check", "--json")
        assert said.code == 0, said.out
        for name in ("acme", "beta"):
            pace = step(said, f"source {name}", "a sweep takes")
            assert "of the budget 30/m, with 1 more on this host" in pace["said"]
            assert pace["facts"]["period_s"] > 20


async def test_the_embedded_server_is_tried(call: Commands, tmp_path: Path) -> None:
    """Without redis.url the embedded server is started in data_dir, used, and stopped again."""
    async with crm() as world:
        call.settings(redis="redis://127.0.0.1:1", crm=world.url)
        text = call.config.read_text().replace('url = "redis://127.0.0.1:1"', "")
        call.config.write_text(f'data_dir = "{tmp_path}/data"\n' + text)
        for _ in range(2):
            said = await call("check", "--json")
            assert said.code == 0, said.out
            assert "started for this check" in step(said, "redis")["said"]
        assert (await call("status")).code == 69


async def test_no_source(call: Commands, redis_url: str) -> None:
    """Settings without a source fail, and the remedy is `poller init`."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    call.config.write_text(f'[redis]\nurl = "{redis_url}"\n')
    said = await call("check", "--json")
    assert said.code == 1
    assert "`poller init`" in step(said, "settings", "no source")["remedy"]


async def pipedrive(call: Commands, redis_url: str, *, more: str = "", **switches: Any) -> tuple[Said, Any]:
    """`poller check --json` of one Pipedrive company, its budget the kind's own or as `more` says."""
    async with serve("pipedrive", options=Options(records=40, seed=3), **switches) as world:
        call.settings(redis=redis_url, crm=world.url)
        text = call.config.read_text().replace('kind = "drum"', 'kind = "pipedrive"')
        text = text.replace(f'token = "{DEMO_TOKEN}"', f'token = "{world.token}"')
        call.config.write_text(text.replace('budget = "6000/5m"', more))
        return await call("check", "--json"), world


async def test_a_budget_in_tokens(call: Commands, redis_url: str) -> None:
    """Where the host counts tokens, so does the check: what a sweep costs, what a day comes to and has."""
    said, world = await pipedrive(call, redis_url, daily_tokens=30_000, burst=20)
    assert said.code == 0, said.out
    pace = step(said, "source acme", "a sweep takes 50 tokens, ")
    assert "of the budget 900/h, in tokens" in pace["said"]
    assert pace["remedy"] == 'set every = "5m"', "more than the day has is not recommended"
    day = step(said, "source acme", "the budget comes to 21,600 tokens a day; the account's day has 30,000")
    assert (day["state"], day["facts"]["limit"]) == ("ok", 30_000)
    assert world.world.meter.spent == 202


async def test_a_budget_that_the_day_does_not_have(call: Commands, redis_url: str) -> None:
    """A budget above what the company's day has is a warning, with the one to set."""
    said, _ = await pipedrive(call, redis_url, more='budget = "6000/1h"', daily_tokens=30_000)
    day = step(said, "source acme", "the budget comes to 144,000 tokens a day")
    assert day["state"] == "warning"
    assert day["remedy"].startswith('set budget = "937/1h"')


async def test_a_day_of_which_nothing_is_said(call: Commands, redis_url: str) -> None:
    """Without the headers, which are not documented, the plans are named; larger ones may use more."""
    said, _ = await pipedrive(call, redis_url, daily_tokens=30_000, limit_headers="off")
    assert "30,000 a day and seat on Lite" in step(said, "source acme", "21,600 tokens a day")["said"]
    said, _ = await pipedrive(call, redis_url, daily_tokens=210_000)
    assert 'budget = "6562/1h" would use' in step(said, "source acme", "21,600 tokens a day")["said"]


async def test_a_company_without_projects(call: Commands, redis_url: str) -> None:
    """A list that the account does not have is no failure: it is said, and the others are looked at."""
    said, _ = await pipedrive(call, redis_url, projects="402")
    assert said.code == 0, said.out
    assert step(said, "source acme", "project: the account has no projects")["state"] == "ok"
    assert step(said, "source acme", "deal: 30 records")["state"] == "ok"
    assert step(said, "source acme", "a sweep takes 30 tokens")
