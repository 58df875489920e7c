"""`enable --from now` beside readers, senders, crashes and other replicas: what is passed over stays so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import structlog.testing
from badwire import BadWire
from hookside import Receiver, Side, counts_of, delivering, event, gauges, receiving
from waiting import wait_until

from poller.errors import Fenced
from poller.store.connection import Connection, Script
from poller.store.keys import Keys
from poller.store.operators import EndpointAdmin

READS_ON = ("XRANGE",)
"""Carrying the order out begins with it, and nothing else here does it."""
SETTLES = (Script("queue_settle").sha, Keys().place("acme", "hook"))
SAVES = (Script("endpoint_save").sha, Keys().endpoint("hook"))


@dataclass
class Scene:
    """An endpoint whose evt_1 failed and waits, and which was disabled; a witness that reads all the same."""

    side: Side
    witness: Side
    receiver: Receiver
    admin: EndpointAdmin
    wire: BadWire

    async def missed(self) -> None:
        """Let two events come that are to be passed over."""
        await self.side.publish(event(2), event(3))
        await self.admin.enable("hook", from_now=True)

    async def others_have_read(self) -> None:
        """Wait until whoever may read and send from now on has had the time to do so."""
        seen = len(self.witness.told.attempts)
        await self.side.publish(event(100 + seen), source="other")
        await wait_until(lambda: len(self.witness.told.attempts) > seen, "the witness to get it")

    async def obeyed(self) -> None:
        async def done() -> bool:
            return not await self.side.connection.commands.hexists(self.side.keys.endpoint("hook"), "skip")

        await wait_until(done, "the order to be obeyed")

    async def ends(self) -> None:
        """Only what came after the order is delivered, over a restart as well, and nothing is left behind."""
        await self.side.publish(event(4))
        await wait_until(lambda: "evt_4" in self.receiver.ids, "the event after the order")
        await self.side.stop()
        self.side.start()
        await self.side.publish(event(5))
        await wait_until(lambda: "evt_5" in self.receiver.ids, "the event after the restart")
        await self.side.stop()
        assert self.receiver.ids == ["evt_1", "evt_4", "evt_5"]
        counts = await counts_of(self.side.connection, self.side.keys)
        assert (counts.waiting, counts.dead, counts.lag, counts.lost) == (0, 1, 0, 0)


@asynccontextmanager
async def disabled(connection: Connection, keys: Keys) -> AsyncIterator[Scene]:
    """Set the scene. The witness has a name of its own and the same connection."""
    wire = BadWire(connection)
    async with (
        receiving(Receiver(answers={"evt_1": 500})) as receiver,
        receiving() as other,
        delivering(connection, keys, receiver.url) as side,
        delivering(connection, keys, other.url, name="witness") as witness,
    ):
        scene = Scene(side, witness, receiver, EndpointAdmin(connection, keys), wire)
        endpoint = side.start()
        witness.sources = ("acme", "other")
        witness.start()
        await side.publish(event(1))
        await wait_until(lambda: len(side.told.attempts) == 1, "the first attempt")
        await scene.others_have_read()
        await scene.admin.disable("hook")
        await wait_until(lambda: gauges(endpoint).state == "disabled", "the endpoint to be disabled")
        seen = endpoint._ticks
        await wait_until(lambda: endpoint._ticks > seen + 1, "everything of it to be in Redis")
        try:
            yield scene
        finally:
            wire.go_on()
            wire.down = False
            await witness.stop()


async def test_nothing_is_read_or_sent_before_it_was_passed_over(connection: Connection, keys: Keys) -> None:
    """However long it takes to carry the order out, readers and senders wait for its end."""
    async with disabled(connection, keys) as scene:
        stop = scene.wire.stop(*READS_ON)
        await scene.missed()
        await stop.held.wait()
        await scene.others_have_read()
        assert scene.receiver.ids == ["evt_1"]
        stop.go_on()
        await scene.obeyed()
        await scene.ends()


async def test_a_quiet_stream_is_not_read_again_from_its_beginning(
    connection: Connection, keys: Keys
) -> None:
    """A place at the end of what was passed over is no sign of a lost tail, after a restart neither."""
    with structlog.testing.capture_logs() as logs:
        async with disabled(connection, keys) as scene:
            await scene.side.stop()
            await scene.missed()
            endpoint = scene.side.start()
            await scene.obeyed()
            await wait_until(lambda: endpoint._ticks > 10, "two looks at the stream")
            await scene.side.stop()
            endpoint = scene.side.start()
            await wait_until(lambda: endpoint._ticks > 10, "two looks after a restart")
            await scene.ends()
    assert not [each for each in logs if each["event"] == "stream.went_back"]


async def test_a_crash_before_the_order_is_kept_as_obeyed(connection: Connection, keys: Keys) -> None:
    """Whoever comes next carries it out again, and nothing comes of the half that was done."""
    async with disabled(connection, keys) as scene:
        stop = scene.wire.stop(*READS_ON)
        await scene.missed()
        for following in (SETTLES, SAVES, ()):
            await stop.held.wait()
            await scene.side.kill()
            stop.go_on()
            stop = scene.wire.stop(*(following or ["nothing"]))
            scene.side.fence += 1
            scene.side.start()
        await scene.obeyed()
        await scene.ends()


async def test_a_crash_right_after_the_order_is_kept_as_obeyed(connection: Connection, keys: Keys) -> None:
    """By then Redis has the place: the next holder does not begin where the old one stood."""
    async with disabled(connection, keys) as scene:
        order = scene.wire.stop(*READS_ON)
        await scene.missed()
        await order.held.wait()
        saves = scene.wire.stop(*SAVES)
        order.go_on()
        await saves.held.wait()
        settles = scene.wire.stop(*SETTLES)
        saves.go_on()
        await scene.obeyed()
        await scene.side.kill()
        settles.go_on()
        scene.side.fence += 1
        scene.side.start()
        await scene.ends()


async def test_of_two_replicas_the_newer_one_carries_it_out(connection: Connection, keys: Keys) -> None:
    """The older one, stopped in the middle, writes nothing and sends nothing when it goes on."""
    async with disabled(connection, keys) as scene:
        stop = scene.wire.stop(*READS_ON)
        await scene.missed()
        await stop.held.wait()
        old, scene.side.task = scene.side.task, None
        scene.side.fence += 1
        scene.side.start()
        stop.go_on()
        assert old is not None
        (ended,) = await asyncio.gather(old, return_exceptions=True)
        assert isinstance(ended, Fenced)
        await scene.obeyed()
        await scene.ends()


async def test_what_is_on_its_way_to_wait_is_passed_over_too(connection: Connection, keys: Keys) -> None:
    """An event that was read just before, and is being put behind an earlier one, leaves nothing behind."""
    async with disabled(connection, keys) as scene:
        await scene.witness.stop()
        await scene.admin.enable("hook")
        await wait_until(lambda: len(scene.receiver.got) == 2, "the second attempt")
        await wait_until(lambda: gauges(scene.side.endpoint).in_flight == 0, "its settlement")
        scene.receiver.got.pop()
        read = scene.wire.stop("XREAD")
        await read.held.wait()
        order, settles = scene.wire.stop(*READS_ON), scene.wire.stop(*SETTLES)
        await scene.side.publish(msgspec.structs.replace(event(2), subject="opportunity/1"))
        await scene.admin.enable("hook", from_now=True)
        await order.held.wait()
        read.go_on()
        await settles.held.wait()
        order.go_on()
        await wait_until(lambda: gauges(scene.side.endpoint).at_hand == 0, "all to be passed over")
        settles.go_on()
        await scene.obeyed()
        await scene.ends()
