"""The 13 defects and edges of other webhook servers (anchors, §1b), each as something that holds here."""

import asyncio
import time

import pytest
import structlog.testing
from aiohttp import web
from badwire import BadWire
from clocks import Clock
from hookside import (
    Got,
    Receiver,
    attempts,
    counts_of,
    delivering,
    event,
    gauges,
    hang,
    quick_outbound,
    receiving,
)
from standardwebhooks.webhooks import Webhook
from waiting import wait_until

from poller.deliver.settling import LONGEST_PAUSE_S, Patience
from poller.deliver.signing import encode_secret
from poller.errors import Conflict, StoreUnavailable
from poller.model import Event, fields_of
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.operators import EndpointAdmin
from poller.store.queue import keys_of

HOUR = 3600.0


async def test_edge_1_a_429_pauses_the_endpoint_for_as_long_as_it_says(
    connection: Connection, keys: Keys
) -> None:
    """Svix computes a penalty for 429 that never fires: here the whole endpoint waits, and costs nothing."""
    clock = Clock()
    async with (
        receiving(Receiver(script=[(429, {"Retry-After": "60"})])) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, concurrency=1) as side,
    ):
        endpoint = side.start()
        await side.publish(event(1), event(2))
        await attempts(side, 1)
        clock.forward(59)
        await wait_until(lambda: gauges(endpoint).state == "paused", "the pause")
        assert receiver.ids == ["evt_1"]
        clock.forward(1.1)
        await attempts(side, 3)
        assert sorted(receiver.ids[1:]) == ["evt_1", "evt_2"]
        await side.stop()


async def test_edge_1_a_success_that_was_under_way_does_not_end_the_pause(
    connection: Connection, keys: Keys
) -> None:
    """It was sent before the receiver asked to be left alone, and says nothing about that."""
    clock, released = Clock(), asyncio.Event()
    script = [hang(released), (429, {"Retry-After": "60"})]
    async with (
        receiving(Receiver(script=script)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, concurrency=2) as side,
    ):
        endpoint = side.start()
        await side.publish(event(1), event(2))
        await attempts(side, 1)
        released.set()
        await attempts(side, 2)
        await side.publish(event(3))
        clock.forward(59)
        await wait_until(lambda: gauges(endpoint).at_hand >= 2, "the third event at hand")
        assert gauges(endpoint).state == "paused"
        assert len(receiver.got) == 2
        clock.forward(1.1)
        await attempts(side, 4)
        await side.stop()


async def test_edge_2_a_dripping_receiver_holds_nobody_beyond_the_deadline(
    connection: Connection, keys: Keys
) -> None:
    """Svix's deadline ends at the headers: here it covers the body, and other subjects go on meanwhile."""
    released = asyncio.Event()

    async def drip(request: web.Request, got: Got) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"drip")
        await released.wait()
        return response

    async with (
        receiving(Receiver(answers={"evt_1": drip})) as receiver,
        delivering(connection, keys, receiver.url, options={"outbound": quick_outbound(2.0)}) as side,
    ):
        side.start()
        await side.publish(event(1), *(event(n) for n in range(2, 40)))
        await attempts(side, 39)
        released.set()
        by_id = {each.outcome for each in side.told.attempts}
        assert by_id == {"delivered", "later"}
        assert sum(each.fault == "timeout" for each in side.told.attempts) == 1
        await side.stop()


async def test_edge_3_one_attempt_is_one_request(connection: Connection, keys: Keys) -> None:
    """Svix silently re-sends a POST whose answer was reset: here the receiver sees each attempt once."""
    seen = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await reader.readuntil(b"\r\n\r\n")
        seen += 1
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, delivering(connection, keys, url) as side:
        side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        await side.stop()
        assert side.told.attempts[0].fault == "reset"
    assert seen == 1


async def test_edge_4_trouble_of_one_endpoint_repeats_nothing_at_another(
    connection: Connection, keys: Keys
) -> None:
    """Svix restarts a batch for all endpoints when one fails inside: here each settles for itself."""
    async with (
        receiving(Receiver(always=500)) as bad,
        receiving() as good,
        delivering(connection, keys, bad.url, name="bad") as one,
        delivering(connection, keys, good.url, name="good") as other,
    ):
        await other.publish(*(event(n) for n in range(5)))
        one.start()
        other.start()
        await attempts(one, 5)
        await attempts(other, 5)
        await one.kill()
        one.start()
        await wait_until(lambda: gauges(one.endpoint).waiting == 5, "the bad one's events to wait again")
        await other.stop()
        assert sorted(good.ids) == [f"evt_{n:x}" for n in range(5)]


async def test_edge_5_recovery_goes_on_after_a_crash(connection: Connection, keys: Keys) -> None:
    """Svix recovers in memory and loses it at a restart: here it is a place in Redis, and ids stay."""
    released = asyncio.Event()
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        side.start()
        await side.publish(*(event(n) for n in range(150)))
        await attempts(side, 150)
        await side.stop()
        receiver.got.clear()
        receiver.always = hang(released)
        assert await EndpointAdmin(connection, keys).recover_since("hook", ["acme"], since=0) == 1
        side.start()
        await wait_until(lambda: len(receiver.got) == 8, "the first of the recovered events")
        await side.kill()
        released.set()
        receiver.always = 200
        side.start()
        await wait_until(lambda: len(set(receiver.ids)) == 150, "all events again")
        await wait_until(lambda: len(receiver.got) == 158, "the last answers")
        await side.stop()
        counts = await counts_of(connection, keys)
        assert (counts.recovering, counts.waiting, counts.lag) == (False, 0, 0)


async def test_edge_6_lost_state_repairs_itself(connection: Connection, keys: Keys) -> None:
    """Svix loops on NOGROUP after Redis lost its data: here the next event is delivered as if nothing was."""
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        await connection.commands.flushall()
        await side.publish(event(2))
        await attempts(side, 2)
        await side.publish(event(3))
        await attempts(side, 3)
        assert receiver.ids == ["evt_1", "evt_2", "evt_3"]
        kept = await connection.commands.hget(keys.place("acme", "hook"), "cursor")
        assert kept
        await side.stop()


@pytest.mark.parametrize("schedule_s", [(0.0, 60.0), (0.0,)], ids=["waiting", "dead"])
@pytest.mark.parametrize("idle", [False, True], ids=["busy", "idle"])
@pytest.mark.parametrize("young", [False, True], ids=["kept", "new"])
async def test_edge_6_a_settlement_that_redis_lost_is_missed(
    connection: Connection, keys: Keys, schedule_s: tuple[float, ...], idle: bool, young: bool
) -> None:
    """What Redis forgot of an event after it had its turn is not passed over: the endpoint begins anew.

    The place of an endpoint that is new may be forgotten too: then it does not begin at the stream's end.
    """
    place = keys.place("acme", "hook")
    async with (
        receiving(Receiver(script=[200, 500])) as receiver,
        delivering(connection, keys, receiver.url, schedule_s=schedule_s, start="now") as side,
    ):
        side.start()
        await wait_until(lambda: connection.commands.exists(place), "the endpoint's place")
        await side.publish(event(1))
        await attempts(side, 1)
        kept = await connection.commands.hgetall(place)
        await side.publish(event(2))
        await attempts(side, 2)
        async with connection.commands.pipeline(transaction=True) as pipe:
            pipe.delete(*keys_of(keys, "acme", "hook"))
            if not young:
                pipe.hset(place, mapping=kept)
            await pipe.execute()
        if not idle:
            await side.publish(event(3))
        assert side.task is not None
        with pytest.raises(Conflict, match="Redis lost what was last settled of acme"):
            await side.task
        side.task = None
        side.fence += 1
        side.start()
        due = {"evt_2"} if idle else {"evt_2", "evt_3"}
        await wait_until(lambda: set(receiver.ids[2:]) >= due, "what was forgotten, and what came since")
        await side.stop()
        counts = await counts_of(connection, keys)
        assert (counts.waiting, counts.dead, counts.lost) == (0, 0, 0)


async def test_edge_6_a_stream_born_again_with_lower_ids_is_read(connection: Connection, keys: Keys) -> None:
    """Even when the server's clock went back meanwhile, nobody waits for ids that never come."""
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        stream = keys.events("acme")
        side.start()
        await connection.commands.xadd(stream, dict(fields_of(event(1))), id="5000000000000-0")
        await attempts(side, 1)
        await connection.commands.delete(stream)
        await connection.commands.xadd(stream, dict(fields_of(event(2))), id="1000-0")
        await attempts(side, 2)
        assert receiver.ids == ["evt_1", "evt_2"]
        await side.stop()


async def test_edge_7_an_endpoint_with_little_to_do_is_disabled_all_the_same(
    connection: Connection, keys: Keys
) -> None:
    """Svix misses failures that lie far apart, and forgets them at a restart: here they are kept."""
    clock = Clock()
    async with (
        receiving(Receiver(always=500)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        await side.publish(event(1))
        pauses = [0, 5, 30, 120, 600, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR]
        for made, pause in enumerate(pauses, start=1):
            clock.forward(pause + 0.01)
            endpoint = side.start()
            await attempts(side, made)
            await side.stop()
        clock.forward(72 * HOUR - sum(pauses))
        endpoint = side.start()
        await wait_until(lambda: gauges(endpoint).state == "disabled", "the endpoint to be disabled")
        await wait_until(lambda: "poller.webhook.disabled" in side.told.types, "it to be said")
        await side.stop()
        assert side.told.types == ["poller.webhook.failing", "poller.webhook.disabled"]
        counts = await counts_of(connection, keys)
        assert (counts.waiting, counts.dead) == (1, 0)


async def test_edge_8_it_never_dies_of_errors(connection: Connection, keys: Keys) -> None:
    """Outpost's consumer dies for good after 10 errors in a row: here it goes on for ever, ever slower."""
    wire = BadWire(connection)
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        wire.down = True
        await wait_until(lambda: wire.refused >= 12, "a dozen refusals", timeout_s=15)
        wire.down = False
        await side.publish(event(2))
        await wait_until(lambda: len(side.told.attempts) == 2, "the event after the outage", timeout_s=15)
        await side.stop()
        assert receiver.ids == ["evt_1", "evt_2"]


async def test_edge_8_the_pauses_double_from_a_tenth_to_fifteen_seconds() -> None:
    """Redis errors back off from 0.1 s to 15 s, for ever, and one answer ends it."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    patience = Patience(endpoint="hook", chance=lambda: 0.0, sleep=sleep)
    with structlog.testing.capture_logs():
        for _ in range(12):
            await patience.rest(StoreUnavailable("gone"))
        assert slept[:4] == [0.1, 0.2, 0.4, 0.8]
        assert slept[-1] == LONGEST_PAUSE_S
        patience.rested()
        await patience.rest(StoreUnavailable("gone"))
    assert slept[-1] == 0.1


async def test_edge_9_a_retry_needs_nothing_but_its_own_record(connection: Connection, keys: Keys) -> None:
    """Outpost's retry looks for a log row that may not be written yet: here the body waits with the retry."""
    clock = Clock()
    async with (
        receiving(Receiver(script=[500])) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        await connection.commands.delete(keys.attempts("hook"))
        await connection.commands.xtrim(keys.events("acme"), maxlen=0, approximate=False)
        await side.kill()
        clock.forward(6)
        side.start()
        await attempts(side, 2)
        await side.stop()
        assert [each.body for each in receiver.got] == [event(1).body] * 2


async def test_edge_10_what_comes_while_disabled_is_kept(connection: Connection, keys: Keys) -> None:
    """Outpost drops events to disabled destinations: here they wait in the stream, in their order."""
    async with (
        receiving(Receiver(script=[410])) as receiver,
        delivering(connection, keys, receiver.url, concurrency=1) as side,
    ):
        endpoint = side.start()
        await side.publish(event(1))
        await wait_until(lambda: gauges(endpoint).state == "disabled", "the endpoint to be disabled")
        await side.publish(event(2), event(3))
        await wait_until(lambda: "poller.webhook.disabled" in side.told.types, "it to be said")
        assert receiver.ids == ["evt_1"]
        await EndpointAdmin(connection, keys).enable("hook")
        await attempts(side, 4)
        await side.stop()
        assert receiver.ids == ["evt_1", "evt_1", "evt_2", "evt_3"]
        assert side.told.types == ["poller.webhook.disabled", "poller.webhook.recovered"]


async def test_edge_9_an_attempt_that_was_logged_twice_is_told_once(
    connection: Connection, keys: Keys
) -> None:
    """The reply to a write of the log may be lost: it is written again, and shown once."""
    async with (
        receiving(Receiver(script=[500])) as receiver,
        delivering(connection, keys, receiver.url) as side,
    ):
        side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        await side.stop()
        _, fields = (await connection.commands.xrange(keys.attempts("hook")))[0]
        await connection.commands.xadd(keys.attempts("hook"), fields)
    assert [each.attempt for each in await EndpointAdmin(connection, keys).attempts("hook")] == [1]


async def test_edge_11_success_on_the_last_try_is_success(connection: Connection, keys: Keys) -> None:
    """Convoy disables an endpoint that succeeds on the last allowed try: here that is a delivery."""
    clock = Clock()
    async with (
        receiving(Receiver(script=[500])) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, schedule_s=(0.0, 5.0)) as side,
    ):
        endpoint = side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        clock.forward(6.1)
        await attempts(side, 2)
        assert [each.outcome for each in side.told.attempts] == ["later", "delivered"]
        assert gauges(endpoint).state == "ok"
        await side.stop()
        assert (await counts_of(connection, keys)).dead == 0


async def test_edge_12_the_bytes_that_are_signed_are_the_bytes_that_are_sent(
    connection: Connection, keys: Keys
) -> None:
    """Convoy signs a re-encoded body: here spaces, escapes and key order arrive as they stand."""
    body = b'{ "b" : 1.50,\n  "a": "\\u00e9 \xc3\xa9" }\n'
    odd = Event(id="evt_1", type="drum.task.added", subject="task/1", time="", body=body)
    async with receiving() as receiver, delivering(connection, keys, receiver.url, clock=time.time) as side:
        side.start()
        await side.publish(odd)
        await attempts(side, 1)
        await side.stop()
        assert receiver.got[0].body == body
        Webhook(encode_secret(side.settings.secrets[0])).verify(receiver.got[0].body, receiver.got[0].headers)


async def test_edge_13_a_slow_receiver_is_not_sent_the_same_twice(connection: Connection, keys: Keys) -> None:
    """Convoy re-sends when its 90 s lease ends before the answer: here only an answer ends an attempt."""
    released, clock = asyncio.Event(), Clock()
    async with (
        receiving(Receiver(always=hang(released))) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(event(1))
        await wait_until(lambda: receiver.got, "the request")
        clock.forward(600)
        await side.publish(event(2))
        await wait_until(lambda: len(receiver.got) == 2, "the next event")
        released.set()
        await attempts(side, 2)
        await side.stop()
        assert receiver.ids == ["evt_1", "evt_2"]
