"""Order by subject, pace, and an endpoint's place in a stream, whatever others write into it."""

import asyncio
from collections.abc import Callable

import pytest
import structlog.testing
from badwire import BadWire
from clocks import Clock
from hookside import Receiver, attempts, counts_of, delivering, event, gauges, hang, receiving
from waiting import wait_until

from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.operators import EndpointAdmin

HOUR = 3600.0


async def test_a_later_event_of_a_record_waits_and_others_pass(connection: Connection, keys: Keys) -> None:
    """Within the hour the order by subject holds, over a restart as well; after it the later one goes."""
    clock = Clock()
    async with (
        receiving(Receiver(answers={"evt_1": 500})) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(event(1, subject="deal/7"), event(2, subject="deal/7"), event(3))
        await attempts(side, 2)
        await side.stop()
        side.start()
        await side.publish(event(4), event(5, subject="deal/7"))
        await attempts(side, 3)
        assert receiver.ids == ["evt_1", "evt_3", "evt_4"] or sorted(receiver.ids) == [
            "evt_1",
            "evt_3",
            "evt_4",
        ]
        clock.forward(HOUR + 1)
        await wait_until(lambda: {"evt_2", "evt_5"} <= set(receiver.ids), "the later ones to pass")
        assert receiver.ids.index("evt_2") < receiver.ids.index("evt_5")
        await side.stop()


async def test_after_an_outage_the_earlier_one_is_first(connection: Connection, keys: Keys) -> None:
    """Too few attempts to be probed: an hour without any success is no reason to pass an event over."""
    clock = Clock()
    async with (
        receiving(Receiver(always=503)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(event(1, subject="deal/7"), event(2, subject="deal/7"))
        for made, pause_s in enumerate((6, 36, 144, 720, 2160, 600), start=1):
            await attempts(side, made)
            clock.forward(pause_s)
        await side.publish(event(3))
        for made in (7, 8, 9):
            await attempts(side, made)
            clock.forward(144)
        receiver.always = 200
        clock.forward(2.4 * HOUR)
        await wait_until(lambda: "evt_2" in receiver.ids, "what has waited to be taken")
        assert receiver.ids[:9] == ["evt_1"] * 6 + ["evt_3"] * 3
        assert receiver.ids.index("evt_2") > max(n for n, each in enumerate(receiver.ids) if each == "evt_1")
        await side.stop()


async def test_a_hanging_subject_takes_one_connection(connection: Connection, keys: Keys) -> None:
    """Many events of a hanging record hold one of the eight connections; all other records go on."""
    released = asyncio.Event()
    async with (
        receiving(Receiver(answers={"evt_0": hang(released)})) as receiver,
        delivering(connection, keys, receiver.url) as side,
    ):
        side.start()
        await side.publish(*(event(n, subject="deal/0") for n in range(50)))
        await side.publish(*(event(n) for n in range(100, 200)))
        await attempts(side, 100)
        await wait_until(lambda: gauges(side.endpoint).in_flight == 1, "all but one to be settled")
        released.set()
        await attempts(side, 150)
        await side.stop()
        ours = [each for each in receiver.ids if int(each[4:], 16) < 50]
        assert ours == [f"evt_{n:x}" for n in range(50)]


async def test_the_pace_is_the_endpoints_over_all_its_sources(connection: Connection, keys: Keys) -> None:
    """Three sources into one hook stay at one message a second."""
    clock = Clock()
    async with (
        receiving() as receiver,
        delivering(connection, keys, receiver.url, clock=clock, rate_per_s=1) as side,
    ):
        side.sources = ("a", "b", "c")
        for source in side.sources:
            await side.publish(event(ord(source)), event(ord(source) + 16), source=source)
        side.start()
        await wait_until(lambda: gauges(side.endpoint).at_hand == 6, "all events at hand")
        for sent in range(6):
            await attempts(side, sent)
            assert len(receiver.got) == sent
            clock.forward(1.0001)
        await attempts(side, 6)
        await side.stop()


async def test_a_new_endpoint_begins_now_and_an_old_one_where_it_was(
    connection: Connection, keys: Keys
) -> None:
    """from = now skips what is there; taken out of the settings and back, the place is kept."""
    async with receiving() as receiver, delivering(connection, keys, receiver.url, start="now") as side:
        await side.publish(event(1))
        side.start()
        await wait_until(lambda: connection.commands.exists(keys.place("acme", "hook")), "the place")
        await side.publish(event(2))
        await attempts(side, 1)
        await side.stop()
        await side.publish(event(3))
        side.start(start="oldest")
        await attempts(side, 2)
        await side.stop()
        assert receiver.ids == ["evt_2", "evt_3"]


async def test_a_source_that_is_born_later_is_read_from_its_beginning(
    connection: Connection, keys: Keys
) -> None:
    """Nothing of a source is missed because its stream did not exist yet, nor if it is followed later."""
    async with receiving() as receiver, delivering(connection, keys, receiver.url, start="now") as side:
        side.start()
        side.endpoint.follow("late")
        await wait_until(lambda: connection.commands.exists(keys.place("late", "hook")), "the place")
        await side.publish(event(1), source="late")
        await attempts(side, 1)
        await side.stop()
        assert receiver.ids == ["evt_1"]


async def test_a_source_that_another_replica_knew_first_is_read_from_its_beginning(
    connection: Connection, keys: Keys
) -> None:
    """Replicas are given a new source one after the other: one polls it, the other still serves the endpoint.

    Nothing it has told by then is missed. Where the endpoint itself is new, or left the source out until
    now, it begins now.
    """
    async with receiving() as receiver, delivering(connection, keys, receiver.url, start="now") as side:
        side.sources = ("acme", "left-out")
        await connection.commands.sadd(keys.sources(), "acme", "left-out", "of-old")
        await side.publish(event(1), source="of-old")
        side.start(sources=("acme", "of-old", "new"))

        async def known() -> bool:
            return bool(await connection.commands.sismember(keys.endpoint_sources("hook"), "left-out"))

        await wait_until(known, "the endpoint knows its sources")
        await side.publish(event(2))
        await attempts(side, 1)
        await side.stop()
        for number, source in ((3, "new"), (4, "left-out"), (5, "acme")):
            await side.publish(event(number), source=source)
        side.sources = ("acme", "left-out", "of-old", "new")
        side.start(sources=("*",))
        await wait_until(lambda: connection.commands.exists(keys.place("left-out", "hook")), "its place")
        await attempts(side, 3)
        await side.publish(event(6), source="left-out")
        await side.publish(event(7), source="of-old")
        await attempts(side, 5)
        await side.stop()
        assert sorted(receiver.ids) == ["evt_2", "evt_3", "evt_5", "evt_6", "evt_7"]


async def test_nothing_is_sent_of_a_source_that_is_not_open_yet(connection: Connection, keys: Keys) -> None:
    """What waits goes when the look at its stream is over, however long that takes, and is settled then."""
    wire = BadWire(connection)
    async with (
        receiving(Receiver(script=[500])) as receiver,
        receiving() as other,
        delivering(connection, keys, receiver.url) as side,
        delivering(connection, keys, other.url, name="witness") as witness,
    ):
        side.start()
        witness.start()
        await side.publish(event(1))
        await attempts(side, 1)
        await attempts(witness, 1)
        await side.stop()
        side.clock.forward(6)
        stop = wire.stop("XINFO STREAM")
        side.start()
        await stop.held.wait()
        await side.publish(event(2))
        await attempts(witness, 2)
        assert receiver.ids == ["evt_1"]
        stop.go_on()
        await attempts(side, 3)
        await side.stop()
        await witness.stop()
    assert sorted(receiver.ids) == ["evt_1", "evt_1", "evt_2"]


@pytest.mark.fault(15)
async def test_what_retention_takes_is_counted_and_said(
    connection: Connection, keys: Keys, figures: Callable[..., None]
) -> None:
    """Unread entries that are trimmed are a loss with a number, in the counts and in the log."""
    with structlog.testing.capture_logs() as logs:
        async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
            side.start()
            await side.publish(event(1))
            await attempts(side, 1)
            await side.stop()
            await side.publish(*(event(n) for n in range(2, 12)))
            assert (await counts_of(connection, keys)).lag == 10
            await connection.commands.xtrim(keys.events("acme"), maxlen=3, approximate=False)
            side.start()
            await wait_until(lambda: len(receiver.got) == 4, "what was left")
            await side.stop()
    counts = await counts_of(connection, keys)
    figures(f"7 unread entries taken: {counts.lost} counted")
    assert (counts.lost, counts.lag, counts.delivered) == (7, 0, 4)
    assert any(each["event"] == "stream.unread_trimmed" and each["lost"] == 7 for each in logs)


async def test_globs_and_filter_decide_and_are_counted(connection: Connection, keys: Keys) -> None:
    """What is not wanted moves the place and leaves a number."""
    async with (
        receiving() as receiver,
        delivering(connection, keys, receiver.url, events=("*.won",), filter="deal.amount > 100") as side,
    ):
        side.start()
        await side.publish(
            event(1, amount="500"),
            event(2, type="drum.opportunity.won", amount="50"),
            event(3, type="drum.opportunity.won", amount="500"),
            event(4, type="drum.opportunity.won"),
        )
        await attempts(side, 2)
        await side.stop()
        counts = await counts_of(connection, keys)
        assert sorted(receiver.ids) == ["evt_3", "evt_4"]
        assert (counts.filtered, counts.unsure, counts.lag) == (2, 1, 0)


async def test_the_stream_is_read_as_others_write_it(connection: Connection, keys: Keys) -> None:
    """An entry that is no event of ours is stepped over: nobody reads it again and again, or stops at it."""
    stream = keys.events("acme")
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:

        async def behind() -> int:
            return (await counts_of(connection, keys)).lag

        async def nothing_behind() -> bool:
            return await behind() == 0

        side.start()
        alike = dict.fromkeys(("id", "type", "subject", "time", "event"), b"\xff")
        for foreign in ({"foreign": "entry"}, {"event": "of somebody else"}, alike):
            await connection.commands.xadd(stream, foreign)
            await wait_until(nothing_behind, "the foreign entry to be passed")
        await side.publish(event(1))
        await attempts(side, 1)
        await wait_until(nothing_behind, "the event to be passed")
        await side.stop()
        assert receiver.ids == ["evt_1"]


async def test_a_recovery_passes_what_is_none_of_ours(connection: Connection, keys: Keys) -> None:
    """Foreign entries in a page of the stream do not end a recovery early."""
    admin = EndpointAdmin(connection, keys)
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        await connection.commands.xadd(keys.events("acme"), {"foreign": "entry"})
        await side.publish(*(event(n) for n in range(130)))
        side.start()
        await attempts(side, 130)
        await admin.recover_since("hook", ["acme"], since=0)
        await attempts(side, 260)
        await side.stop()
        assert len(receiver.ids) == 2 * len(set(receiver.ids)) == 260
