"""Any life of an endpoint: answers of all kinds, crashes, lost replies and writes, outages, clock jumps."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog.testing
from aiohttp import web
from badwire import BadWire
from clocks import Clock
from fakeredis import FakeAsyncRedis, FakeServer
from hookside import LOOPBACK, SECRET, Got, Receiver, Side, counts_of, event, receiving
from hypothesis import given, settings
from hypothesis import strategies as st
from realserver import RealServer
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from waiting import wait_until

from poller.deliver.endpoint import LOOK_EVERY
from poller.deliver.settings import EndpointSettings
from poller.errors import Conflict
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.operators import EndpointAdmin
from poller.store.queue import keys_of

CONCURRENCY = 4

PUBLISH = st.tuples(st.just("publish"), st.lists(st.integers(0, 3), min_size=1, max_size=6))
ANSWER = st.tuples(st.just("answer"), st.sampled_from([200, 200, 500, 302, 429, 410]))
JUMP = st.tuples(st.just("jump"), st.sampled_from([-300, -7, 6, 40, 300]))
LOSE = st.tuples(st.just("lose"), st.integers(1, 3))
FORGET = st.tuples(st.just("forget"), st.lists(st.integers(0, 3), max_size=4))
PLAIN = st.tuples(
    st.sampled_from(["crash", "restart", "breathe", "outage", "enable", "disable", "pass over"]), st.just(0)
)
LIFE: list[tuple[str, Any]] = [
    ("publish", [0, 1, 1, 2]), ("answer", 500), ("breathe", 0), ("publish", [1, 2]), ("jump", 6),
    ("answer", 429), ("publish", [0]), ("breathe", 0), ("answer", 200),
]  # fmt: skip
FAULTS: list[tuple[str, Any]] = [
    ("lose", 1), ("lose", 3), ("crash", 0), ("jump", -300), ("jump", 4000), ("outage", 0), ("pass over", 0),
    ("forget", []), ("forget", [0, 1, 1]),
]  # fmt: skip
LIVES = st.lists(PUBLISH | ANSWER | JUMP | LOSE | FORGET | PLAIN, min_size=3, max_size=14)


@dataclass
class World:
    """One life: the endpoint, its receiver, its store, and what truly happened."""

    side: Side
    receiver: Receiver
    wire: BadWire
    admin: EndpointAdmin
    clock: Clock
    sound: Side
    """Publishes over a sound wire."""
    answers: list[tuple[str, int]] = field(default_factory=list)
    published: list[tuple[str, str]] = field(default_factory=list)
    passable: set[str] = field(default_factory=set)
    """Ids that an operator has let the endpoint pass over, if they were not delivered by then."""
    forgotten: set[str] = field(default_factory=set)
    """Ids of which Redis may have forgotten how they ended: they may end once more, and otherwise."""
    crashes: int = 0
    status: int = 200

    async def reply(self, request: web.Request, got: Got) -> web.StreamResponse:
        self.answers.append((got.id, self.status))
        headers = {"Retry-After": "5"} if self.status == 429 else {}
        return web.Response(status=self.status, headers=headers)

    async def breathe(self) -> None:
        """Wait until the endpoint has looked around twice."""
        endpoint = self.side.endpoint
        assert endpoint is not None
        seen = endpoint._ticks
        await wait_until(lambda: endpoint._ticks > seen + 1, "the endpoint to look around", timeout_s=20)

    async def forget(self, subjects: list[int]) -> None:
        """Let Redis lose what is settled while events are published and the endpoint looks around."""
        commands = self.sound.connection.commands
        four = keys_of(self.sound.keys, "acme", "hook")
        kept = [await commands.dump(key) for key in four]
        await self.live("publish", subjects)
        await self.breathe()
        async with commands.pipeline(transaction=True) as pipe:
            pipe.delete(*four)
            for key, value in zip(four, kept, strict=True):
                if value is not None:
                    pipe.restore(key, 0, value)
            await pipe.execute()
        self.forgotten |= {each for each, _ in self.published}
        await self.settle_down()

    async def settle_down(self) -> None:
        """Wait until the endpoint has looked at its place; where it finds it lost, it begins anew."""
        endpoint, task = self.side.endpoint, self.side.task
        assert endpoint is not None
        assert task is not None
        seen = endpoint._ticks + 2 * LOOK_EVERY
        await wait_until(lambda: task.done() or endpoint._ticks > seen, "two looks", timeout_s=20)
        if task.done():
            assert isinstance(task.exception(), Conflict)
            self.side.fence += 1
            self.side.start()

    async def next_millisecond(self) -> None:
        """Wait until what is published has a place after this moment."""
        began = await self.millisecond()

        async def is_over() -> bool:
            return await self.millisecond() > began

        await wait_until(is_over, "the next millisecond")

    async def millisecond(self) -> int:
        seconds, micros = await self.sound.connection.commands.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def live(self, what: str, how: Any) -> None:
        match what:
            case "publish":
                made = [event(len(self.published) + n, subject=f"deal/{s}") for n, s in enumerate(how)]
                self.published += [(each.id, each.subject) for each in made]
                await self.sound.publish(*made)
            case "answer":
                self.status = how
            case "jump":
                self.clock.forward(how)
            case "lose":
                self.wire.lose = how
            case "forget":
                await self.forget(how)
            case "crash":
                await self.side.kill()
                self.crashes += 1
                self.side.fence += 1
                self.side.start()
            case "restart":
                await self.side.stop()
                self.side.start()
            case "outage":
                self.wire.down = True
                seen = self.wire.refused
                await wait_until(lambda: self.wire.refused > seen, "somebody to notice the outage")
                self.wire.down = False
            case "enable":
                await self.admin.enable("hook")
            case "pass over":
                self.passable |= {each for each, _ in self.published}
                await self.admin.enable("hook", from_now=True)
                await self.next_millisecond()
            case "disable":
                await self.admin.disable("hook")
        if what in {"breathe", "jump"}:
            await self.breathe()

    async def end_well(self) -> None:
        """Let everything get through from here on."""
        self.status, self.wire.lose = 200, 0
        await self.admin.enable("hook")
        for _ in range(40):
            await self.breathe()
            counts = await counts_of(self.sound.connection, self.sound.keys)
            if counts.waiting == 0 and counts.lag == 0 and await self.nowhere() <= self.passable:
                break
            self.clock.forward(61)
        await self.side.stop()

    async def nowhere(self) -> set[str]:
        """Ids that were neither delivered nor given up."""
        dead = {each.meta.id for each in await self.admin.dead("hook", "acme")}
        return {each for each, _ in self.published} - set(self.taken) - dead

    @property
    def taken(self) -> Counter[str]:
        """How often each id was answered with 200."""
        return Counter(each for each, status in self.answers if status == 200)


def wired(server: FakeServer | RealServer) -> Connection:
    """A connection of its own to the server: operators do not suffer from the endpoint's bad wire."""
    if isinstance(server, RealServer):
        return Connection.open(server.url)
    one, two = (FakeAsyncRedis(server=server, retry=Retry(NoBackoff(), 0)) for _ in range(2))
    return Connection(one, two)


async def live(steps: list[tuple[str, Any]], server: FakeServer | RealServer) -> None:
    keys, clock, receiver = Keys(), Clock(), Receiver()
    connection, sound = (wired(server) for _ in range(2))
    async with receiving(receiver):
        given_ = EndpointSettings(
            name="hook",
            url=receiver.url,
            secrets=(SECRET,),
            start="oldest",
            concurrency=CONCURRENCY,
            schedule_s=(0.0, 5.0, 30.0, 60.0, 60.0),
            allow_private=LOOPBACK,
        )
        side = Side(connection, keys, given_, clock, tick_s=0.005)
        world = World(
            side,
            receiver,
            BadWire(connection),
            EndpointAdmin(sound, keys),
            clock,
            Side(sound, keys, given_, clock),
        )
        receiver.always = world.reply
        try:
            side.start()
            for what, how in steps:
                await world.live(what, how)
            await world.end_well()
            await check(world, keys, sound)
        finally:
            world.wire.down = False
            await side.kill()
            await connection.close()
            await sound.close()


async def check(world: World, keys: Keys, connection: Connection) -> None:
    counts = await counts_of(connection, keys)
    ids, taken, passable = [each for each, _ in world.published], world.taken, world.passable
    letters = await world.admin.dead("hook", "acme")
    unsure = passable | world.forgotten
    dead = {each.meta.id for each in letters}
    assert {each for each, _ in world.answers} <= set(ids), "an id that was never published"
    assert await world.nowhere() <= passable, "an event that is nowhere"
    assert set(taken) & dead <= unsure, "an event that is delivered and dead"
    assert (counts.waiting, counts.lag, counts.lost) == (0, 0, 0)
    # What was answered when the process died, and then passed over, counts as neither.
    assert len(set(taken) - unsure) <= counts.delivered <= len(taken)
    assert len(dead - passable) <= counts.died <= len(dead)
    repeats = sum(times - 1 for each, times in taken.items() if each not in world.forgotten)
    assert repeats <= world.crashes * CONCURRENCY, "more repeats than crashes allow"
    kept = {each.decode() for each in await connection.commands.hkeys(keys.tries("acme", "hook"))}
    assert kept == {each.place for each in letters}, "a record that nobody points at"
    first_time = list(dict.fromkeys(each for each, status in world.answers if status == 200))
    for subject in {each for _, each in world.published}:
        of_it = [
            each for each, of in world.published if of == subject and each in taken.keys() - world.forgotten
        ]
        assert [each for each in first_time if each in of_it] == of_it, "out of order"


def lived(steps: list[tuple[str, Any]], server: FakeServer | RealServer) -> None:
    """Live one life from an empty store to its end."""
    if isinstance(server, RealServer):
        server.flush()
    with structlog.testing.capture_logs():
        asyncio.run(live(steps, server))


@settings(max_examples=12)
@given(LIVES)
def test_every_event_ends_exactly_once_delivered_or_dead(steps: list[tuple[str, Any]]) -> None:
    """Ids are stable, subjects keep their order, repeats need a crash, and nothing is lost or left behind."""
    lived(steps, FakeServer())


@pytest.mark.full
@settings(max_examples=12)
@given(LIVES)
def test_the_same_on_a_real_server(real_server: RealServer, steps: list[tuple[str, Any]]) -> None:
    """The very same, on the server that is embedded."""
    lived(steps, real_server)


@pytest.mark.full
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]} {fault[1]}")
def test_a_fault_at_every_step_of_a_life(real_server: RealServer, fault: tuple[str, Any]) -> None:
    """A lost reply, a crash, an outage, an order or a jump of the clock, before each step in turn."""
    for at in range(len(LIFE) + 1):
        lived([*LIFE[:at], fault, *LIFE[at:]], real_server)


@pytest.mark.long
@settings(max_examples=300)
@given(LIVES)
def test_every_event_ends_exactly_once_in_many_lives(
    real_server: RealServer, steps: list[tuple[str, Any]]
) -> None:
    """The same, for long, on both."""
    lived(steps, FakeServer())
    lived(steps, real_server)
