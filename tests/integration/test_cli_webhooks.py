"""`poller webhooks`: looking at endpoints, trying them out, and orders that the service obeys."""

import json

import pytest
from aiohttp import web
from commands import SECRET, Commands, crm, service
from hookside import Got, Receiver, receiving
from standardwebhooks import Webhook
from waiting import wait_until

from poller import schemas
from poller.store.connection import Connection
from poller.store.keys import Keys


async def test_trial(call: Commands) -> None:
    """`test` sends one signed example without Redis, and shows request, answer, timing and verdict."""
    async with receiving() as hook:
        call.settings(redis="redis://127.0.0.1:1", crm="http://127.0.0.1:9", receiver=hook.url)
        said = await call("webhooks", "test", "billing")
        assert said.code == 0
        got = hook.got[0]
        Webhook(SECRET).verify(got.body, got.headers)
        assert f"webhook-signature: {got.headers['webhook-signature']}" in said.out
        assert "delivered: 200 in " in said.out
        assert "said 200" in said.out
        won = await call("webhooks", "test", "billing", "--type", "drum.opportunity.won", "--json")
        assert (won.code, won.json["ok"], won.json["wanted"]) == (0, True, True)
        assert won.json["request"]["body"].encode() == hook.got[1].body
        assert hook.got[1].id not in (got.id, schemas.example(schemas.TYPES["drum.opportunity.won"]).id)


async def test_trial_that_fails(call: Commands) -> None:
    """A trial that is not taken exits 1 and says what to do; a refused address names allow_private."""
    async with receiving(Receiver(always=500)) as hook:
        call.settings(redis="redis://127.0.0.1:1", crm="http://127.0.0.1:9", receiver=hook.url)
        said = await call("webhooks", "test", "billing")
        assert said.code == 1
        assert "500: a failure" in said.err
        text = call.config.read_text().replace('allow_private = ["127.0.0.0/8"]', "")
        call.config.write_text(text)
        blocked = await call("webhooks", "test", "billing")
        assert blocked.code == 1
        assert "allow_private" in blocked.err
        assert len(hook.got) == 1


async def test_what_a_receiver_says_commands_no_terminal(call: Commands) -> None:
    """Escape sequences in an answer are shown, not obeyed."""

    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        return web.Response(text="\x1b]0;owned\x07 fine \x9b2J")

    async with receiving(Receiver(always=answer)) as hook:
        call.settings(redis="redis://127.0.0.1:1", crm="http://127.0.0.1:9", receiver=hook.url)
        said = await call("webhooks", "test", "billing")
        assert said.code == 0
        assert "\\x1b]0;owned\\x07 fine \\x9b2J" in said.out
        assert not {"\x1b", "\x07", "\x9b"} & set(said.out)


async def test_trial_of_what_is_not_there(call: Commands) -> None:
    """A webhook or a type that is not there is a usage error that names the nearest."""
    call.settings(redis="redis://127.0.0.1:1", crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    said = await call("webhooks", "test", "biling")
    assert said.code == 2
    assert 'there is no webhook "biling"; the nearest is "billing"' in said.err
    wrong = await call("webhooks", "test", "billing", "--type", "drum.oportunity.won")
    assert wrong.code == 2
    assert 'the nearest is "drum.opportunity.won"' in wrong.err


async def test_attempts_and_resend(call: Commands, redis_url: str) -> None:
    """Attempts tell what was answered; resend sends one event again with its own id."""
    async with crm() as world, receiving() as hook:
        call.settings(redis=redis_url, crm=world.url, receiver=hook.url)
        async with service(call.config):
            await wait_until(lambda: hook.got, "the baseline event")
            first = hook.got[0].id

            async def logged() -> bool:
                said = await call("webhooks", "attempts", "billing", "--json")
                return any(each["event"] == first and each["status"] == 200 for each in said.json)

            await wait_until(logged, "the attempt in the log", 10)
            assert "delivered" in (await call("webhooks", "attempts", "billing")).out
            said = await call("webhooks", "resend", "billing", first, "--json")
            assert said.code == 0
            assert (said.json["done"], said.json["touches"]) == (True, 1)
            await wait_until(lambda: hook.ids.count(first) == 2, "the event again", 10)
            missing = await call("webhooks", "resend", "billing", "evt_00")
            assert missing.code == 1
            assert "'evt_00' is no event that billing can be sent" in missing.err


async def test_a_remedy_is_not_cut_off(call: Commands, redis_url: str) -> None:
    """An answer is shown by its beginning, and what we say of a request that was not sent to its end."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    attempt = {"at": 1.0, "source": "acme", "place": "1-0", "event": "evt_1", "type": "drum.task.added",
               "subject": "task/1", "attempt": 1, "outcome": "later"}  # fmt: skip
    remedy = f"hooks.internal {'is not a public address; ' * 5}put 10.0.0.7/32 into allow_private"
    connection = Connection.open(redis_url)
    try:
        for more in ({"fault": "blocked", "detail": remedy}, {"status": 500, "excerpt": "x" * 200}):
            packed = json.dumps({**attempt, **more})
            await connection.commands.xadd(Keys().attempts("billing"), {"a": packed})
    finally:
        await connection.close()
    said = await call("webhooks", "attempts", "billing")
    assert remedy in said.out
    assert "x" * 80 in said.out
    assert "x" * 81 not in said.out


@pytest.mark.parametrize("columns", [40, 100, 400])
async def test_what_is_to_be_resent_can_be_copied(
    call: Commands, redis_url: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """However narrow a terminal is, an event's id stands on one line, beside an answer of any length."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    event = f"evt_{7:040x}"
    meta = {"id": event, "type": "drum.opportunity.status_changed", "subject": "opportunity/1", "time": "",
            "attempts": 12, "why": "said: " + "no " * 30}  # fmt: skip
    attempt = {"at": 1.0, "source": "acme", "place": "1-0", "event": event, "type": meta["type"],
               "subject": "opportunity/1", "attempt": 1, "outcome": "later", "status": 500,
               "next": 9.0, "excerpt": "x" * 80}  # fmt: skip
    connection = Connection.open(redis_url)
    try:
        redis, keys = connection.commands, Keys()
        await redis.xadd(keys.attempts("billing"), {"a": json.dumps(attempt)})
        await redis.hset(keys.tries("acme", "billing"), "1-0", json.dumps(meta).encode() + b"\n{}")
        await redis.zadd(keys.dead("acme", "billing"), {"1-0": 1.0})
    finally:
        await connection.close()
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes of any file a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    for what in ("attempts", "dead"):
        said = await call("webhooks", what, "billing")
        (line,) = [line for line in said.lines if event in line]
        assert ("opportunity/1" in line) == (columns == 400)
        assert "opportunity/1" in said.out


async def test_disable_and_enable(call: Commands, redis_url: str) -> None:
    """A disabled webhook gets nothing, keeps its place, and gets what it missed when it is enabled."""
    async with crm() as world, receiving() as hook:
        call.settings(redis=redis_url, crm=world.url, receiver=hook.url)
        async with service(call.config):
            await wait_until(lambda: hook.got, "the baseline event")
            said = await call("webhooks", "disable", "billing")
            assert said.code == 0
            assert "It keeps its place, and what comes is kept within the retention" in said.out

            listed = (await call("webhooks", "list", "--json")).json[0]
            assert (listed["state"], listed["well"]) == ("disabled", False)

            async def obeyed() -> bool:
                return bool((await call("events", "--json", "--type", "poller.webhook.disabled")).lines)

            await wait_until(obeyed, "the order to be obeyed", 10)
            before = len(hook.got)
            world.order("create_opportunity", name="Missed")

            async def waits() -> bool:
                listed = (await call("webhooks", "list", "--json")).json[0]
                return bool(listed["waiting"] >= 1)

            await wait_until(waits, "an event that waits", 10)
            assert len(hook.got) == before
            enabled = await call("webhooks", "enable", "billing")
            assert "billing: It goes on from its place, oldest first" in enabled.out
            await wait_until(
                lambda: any(b'"Missed"' in each.body for each in hook.got), "what was missed", 10
            )


async def test_dead_letters_and_recover(call: Commands, redis_url: str) -> None:
    """What was given up is listed with its reason, and `recover --dead` sends it again."""
    receiver = Receiver(always=500)
    async with crm() as world, receiving(receiver) as hook:
        call.settings(redis=redis_url, crm=world.url, receiver=hook.url)
        call.config.write_text(call.config.read_text() + 'schedule = ["0s"]\n')
        async with service(call.config):

            async def died() -> bool:
                return bool((await call("webhooks", "dead", "billing", "--json")).json)

            await wait_until(died, "a dead letter", 10)
            letter = (await call("webhooks", "dead", "billing", "--json")).json[0]
            assert letter["type"] == "poller.source.baseline_completed"
            assert "500" in letter["why"]
            listed = await call("webhooks", "dead", "billing")
            assert "recover billing --dead" in listed.err
            assert "recover" not in listed.out
            receiver.always = 200
            said = await call("webhooks", "recover", "billing", "--dead", "--json")
            assert (said.code, said.json["touches"]) == (0, 1)
            await wait_until(lambda: hook.ids.count(letter["event"]) >= 2, "the dead letter again", 15)
            since = await call("webhooks", "recover", "billing", "--since", "2h")
            assert "that it wants, detected in the last 2 h (since " in since.out


async def test_recover_needs_one_of_two(call: Commands) -> None:
    """`recover` wants --since or --dead, and not both."""
    call.settings(redis="redis://127.0.0.1:1", crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    assert (await call("webhooks", "recover", "billing")).code == 2
    assert (await call("webhooks", "recover", "billing", "--since", "1h", "--dead")).code == 2


async def test_orders_for_nobody(call: Commands, redis_url: str) -> None:
    """Where nobody serves a webhook an order is left, and that is said."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9", receiver="http://127.0.0.1:9/hook")
    said = await call("webhooks", "disable", "billing")
    assert said.code == 0
    assert "nobody serves billing now: it is done when `poller run` starts" in said.err
    listed = await call("webhooks", "list", "--json")
    assert listed.json[0]["state"] == "disabled"
