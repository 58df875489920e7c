"""One endpoint end to end: streams in a store, a real receiver, and what is kept when things go wrong."""

import asyncio
import time

import pytest
import structlog.testing
from clocks import Clock
from hookside import SECRET, Receiver, delivering, event, gauges, hang, receiving
from standardwebhooks.webhooks import Webhook
from waiting import wait_until

from poller.deliver.signing import encode_secret
from poller.errors import Fenced
from poller.store.connection import Connection
from poller.store.keys import Keys


async def test_an_event_of_the_stream_arrives_signed_and_is_settled(
    connection: Connection, keys: Keys
) -> None:
    """Every byte of the event is what was signed, and once delivered nothing is left of it."""
    async with receiving() as receiver, delivering(connection, keys, receiver.url, clock=time.time) as side:
        side.start()
        await side.publish(event(1), event(2))
        await wait_until(lambda: len(receiver.got) == 2, "both events at the receiver")
        await side.stop()
        for each in receiver.got:
            Webhook(encode_secret(SECRET)).verify(each.body, each.headers)
            assert each.body in {event(1).body, event(2).body}
        assert receiver.ids == ["evt_1", "evt_2"]
        place = await connection.commands.hgetall(keys.place("acme", "hook"))
        assert place[b"delivered"] == b"2"
        assert place[b"holes"] == b""
        assert not await connection.commands.exists(keys.waiting("acme", "hook"), keys.tries("acme", "hook"))


async def test_a_failed_attempt_is_repeated_by_the_schedule(connection: Connection, keys: Keys) -> None:
    """After a failure the event waits in Redis, and goes again when its time has come, under the same id."""
    clock = Clock()
    async with (
        receiving(Receiver(script=[500, 500])) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(event(1))
        await wait_until(lambda: len(side.told.attempts) == 1, "the first attempt")
        clock.forward(4.9)
        await side.stop()
        assert receiver.ids == ["evt_1"]
        clock.forward(0.2)
        side.start()
        await wait_until(lambda: len(side.told.attempts) == 2, "the second attempt after a restart")
        clock.forward(30.1)
        await wait_until(lambda: len(side.told.attempts) == 3, "the third attempt")
        await side.stop()
        assert receiver.ids == ["evt_1"] * 3
        assert [each.outcome for each in side.told.attempts] == ["later", "later", "delivered"]


async def test_an_event_that_fails_to_the_end_is_a_dead_letter(connection: Connection, keys: Keys) -> None:
    """After the last attempt the event is dead, with its body, and nothing waits for it."""
    clock = Clock()
    async with (
        receiving(Receiver(always=500)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, schedule_s=(0.0, 5.0)) as side,
    ):
        side.start()
        await side.publish(event(1))
        await wait_until(lambda: len(side.told.attempts) == 1, "the first attempt")
        clock.forward(6)
        await wait_until(lambda: len(side.told.attempts) == 2, "the last attempt")
        await side.stop()
        assert await connection.commands.zcard(keys.dead("acme", "hook")) == 1
        assert await connection.commands.zcard(keys.waiting("acme", "hook")) == 0
        packed = (await connection.commands.hvals(keys.tries("acme", "hook")))[0]
        assert packed.endswith(event(1).body)


async def test_a_stale_holder_is_fenced_off(connection: Connection, keys: Keys) -> None:
    """Once a newer holder has been there, the older one settles nothing any more and says so."""
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        side.start()
        await side.publish(event(1))
        await wait_until(lambda: len(side.told.attempts) == 1, "the first attempt")
        await connection.commands.hset(keys.place("acme", "hook"), "fence", 2)
        await side.publish(event(2))
        assert side.task is not None
        with pytest.raises(Fenced):
            await side.task


async def test_connections_are_the_endpoints_over_all_its_sources(connection: Connection, keys: Keys) -> None:
    """Three sources and a receiver that hangs take two connections where two are set, and nobody else's."""
    released = asyncio.Event()
    async with (
        receiving(Receiver(always=hang(released))) as slow,
        receiving() as quick,
        delivering(connection, keys, slow.url, name="slow", concurrency=2) as one,
        delivering(connection, keys, quick.url, name="quick") as other,
    ):
        one.sources = other.sources = ("a", "b", "c")
        for source in one.sources:
            await one.publish(*(event(ord(source) * 16 + n) for n in range(10)), source=source)
        endpoint = one.start()
        await wait_until(lambda: len(slow.got) == 2, "two requests at the receiver that hangs")
        other.start()
        await wait_until(lambda: len(quick.got) == 30, "everything at the other one")
        assert gauges(endpoint).in_flight == len(slow.got) == 2
        released.set()
        await wait_until(lambda: len(slow.got) == 30, "everything once it answers")
        await one.stop()
        await other.stop()


async def test_without_order_a_later_event_passes_at_once(connection: Connection, keys: Keys) -> None:
    """With order = "none" a record's next event does not wait for the one that failed."""
    async with (
        receiving(Receiver(answers={"evt_1": 500})) as receiver,
        delivering(connection, keys, receiver.url, order="none") as side,
    ):
        side.start()
        await side.publish(event(1, subject="deal/7"))
        await wait_until(lambda: len(side.told.attempts) == 1, "the first attempt")
        await side.publish(event(2, subject="deal/7"))
        await wait_until(lambda: len(side.told.attempts) == 2, "the later event")
        await side.stop()
        assert receiver.ids == ["evt_1", "evt_2"]


async def test_the_span_of_the_schedule_is_logged_at_the_start(connection: Connection, keys: Keys) -> None:
    """Whoever sets a schedule reads how long an event is tried for."""
    with structlog.testing.capture_logs() as logs:
        async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
            side.start()
            await wait_until(
                lambda: any(each["event"] == "endpoint.started" for each in logs), "the first line"
            )
            await side.stop()
    line = next(each for each in logs if each["event"] == "endpoint.started")
    assert (line["attempts"], line["span_h"]) == (12, 75.7)
