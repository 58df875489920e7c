"""`poller.subscribe` as a service uses it: acknowledged after the body, taken over, buried, followed."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import consumer
import pytest
from cluster import Cluster
from realserver import RealServer
from waiting import wait_until

from poller import Message, subscribe
from poller.model import Event, fields_of
from poller.store.cluster import Client
from poller.store.keys import Keys
from poller.watch.events import Bounds, Known, make
from poller.watch.sources.drum import KINDS

KEYS = Keys()


def won(number: int, type_: str = "drum.opportunity.won", *, name: str = "") -> Event:
    """One event."""
    return make(
        Known(),
        source="/drum/acme",
        subject=f"opportunity/{number}",
        type_=type_,
        bounds=Bounds(1.0, 2.0),
        object_={"id": number, "name": name or f"Deal {number}"},
        deal={"client": "Acme", "amount": "1.10", "currency": "AUD"},
        detected_at=2.0,
    )


class Desk:
    """Puts events into streams as poller does, and looks at a group."""

    def __init__(self, url: str) -> None:
        self.redis = Client(url, timeout_s=5, most=10)

    async def put(self, *events: Event, source: str = "acme") -> None:
        await self.redis.sadd(KEYS.sources(), source)
        for event in events:
            await self.redis.xadd(KEYS.events(source), dict(fields_of(event)))

    async def pending(self, group: str = "g", source: str = "acme") -> int:
        return (await self.redis.xpending(KEYS.events(source), group))["pending"]

    async def drained(self, *sources: str) -> bool:
        return not any([await self.pending(source=source) for source in sources])


@pytest.fixture
def redis_url(ground: Cluster | None, real_server: RealServer) -> str:
    """One server, and a cluster, in whose slots the streams lie scattered."""
    if ground is None:
        real_server.flush()
    return (ground or real_server).url


@pytest.fixture
async def desk(redis_url: str):
    """A server with streams."""
    made = Desk(redis_url)
    yield made
    await made.redis.disconnect()


async def taken(url: str, count: int, **how: object) -> list[Message]:
    """The next messages of a group."""
    found: list[Message] = []
    async with asyncio.timeout(20), aclosing(subscribe(url, group="g", **how)) as messages:
        async for message in messages:
            found.append(message)
            if len(found) == count:
                break
    return found


async def test_events_are_typed_exact_and_acknowledged_after_the_body(desk: Desk, redis_url: str) -> None:
    """The last one is not acknowledged when the loop is left in its body."""
    await desk.put(won(1), won(2), won(3))
    found = await taken(redis_url, 3, start="oldest")
    assert [message.subject for message in found] == ["opportunity/1", "opportunity/2", "opportunity/3"]
    event = found[0].event
    assert isinstance(event.data.object, KINDS["opportunity"].model)
    assert (event.data.object.name, event.data.deal.amount) == ("Deal 1", "1.10")
    assert await desk.pending() == 1


async def test_a_type_that_is_not_asked_for_is_passed_over(desk: Desk, redis_url: str) -> None:
    """Globs over the type; what does not match is acknowledged unseen."""
    await desk.put(won(1, "drum.opportunity.updated"), won(2))
    [message] = await taken(redis_url, 1, start="oldest", types=["*.won"])
    assert message.subject == "opportunity/2"
    assert await desk.pending() == 1


async def test_a_new_group_begins_now_and_goes_on_where_it_was(desk: Desk, redis_url: str) -> None:
    """What was there before is not told; what comes while nobody listens is."""
    await desk.put(won(1))
    listening = asyncio.create_task(taken(redis_url, 1))

    async def joined() -> bool:
        return bool(await desk.redis.xinfo_groups(KEYS.events("acme")))

    await wait_until(joined, "the group is there")
    await desk.put(won(2), won(3))
    assert [message.subject for message in await listening] == ["opportunity/2"]
    again = await taken(redis_url, 2, idle_s=0.2)
    assert {message.subject for message in again} == {"opportunity/2", "opportunity/3"}


async def test_what_a_dead_consumer_left_is_taken_over(desk: Desk, redis_url: str) -> None:
    """Entries of a consumer that never comes back go to who is there, once they are idle."""
    await desk.put(*map(won, range(20)))
    await desk.redis.xgroup_create(KEYS.events("acme"), "g", id="0")
    await desk.redis.xreadgroup("g", "dead", {KEYS.events("acme"): ">"}, count=20)
    found = await taken(redis_url, 20, idle_s=0.2)
    assert sorted(int(message.subject.partition("/")[2]) for message in found) == list(range(20))


async def test_a_poisonous_entry_is_buried_after_its_tries(desk: Desk, redis_url: str) -> None:
    """What fails every time goes to the group's dead letters, and the rest goes on."""
    await desk.put(won(1), won(2))
    handled: list[str] = []

    async def consume() -> None:
        async with aclosing(subscribe(redis_url, group="g", start="oldest", idle_s=0.1, tries=2)) as messages:
            async for message in messages:
                if message.subject == "opportunity/1":
                    msg = "poison"
                    raise RuntimeError(msg)
                handled.append(message.subject)

    async def buried() -> bool:
        task = asyncio.create_task(consume())
        await asyncio.wait({task}, timeout=0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return bool(await desk.redis.xlen(KEYS.group_dead("acme", "g"))) and "opportunity/2" in handled

    await wait_until(buried, "the poison is buried and the other handled", timeout_s=20)
    assert await desk.redis.xlen(KEYS.group_dead("acme", "g")) == 1


async def test_a_source_that_appears_later_is_followed_from_its_first_event(
    desk: Desk, redis_url: str
) -> None:
    """No restart is needed for a new account, and none of its events is missed."""
    await desk.put(won(1))
    listening = asyncio.create_task(taken(redis_url, 2, start="oldest"))

    async def first_is_out() -> bool:
        groups = await desk.redis.xinfo_groups(KEYS.events("acme"))
        return bool(groups) and groups[0]["entries-read"] == 1

    await wait_until(first_is_out, "the first event was read")
    await desk.put(won(7), source="later")
    assert {message.source for message in await listening} == {"acme", "later"}


async def test_a_source_that_appears_while_nobody_listens_is_followed_from_its_first_event(
    desk: Desk, redis_url: str
) -> None:
    """A consumer that is restarted with a new account misses nothing of it; of one that was there, and that
    it leaves out no longer, it begins now as everywhere."""
    await desk.put(won(1))
    await desk.put(won(2), source="left-out")
    listening = asyncio.create_task(taken(redis_url, 1, sources=["a*", "new"]))

    async def looked() -> bool:
        found = await desk.redis.smembers(KEYS.group_sources("g"))
        return {b"acme", b"left-out"} <= found and bool(await desk.redis.xinfo_groups(KEYS.events("acme")))

    await wait_until(looked, "the group knows what is there")
    await desk.put(won(3))
    await listening
    await desk.put(won(7), won(8), source="new")
    again = asyncio.create_task(taken(redis_url, 4, idle_s=0.2))

    async def follows() -> bool:
        return bool(await desk.redis.xinfo_groups(KEYS.events("left-out")))

    await wait_until(follows, "it follows what it left out before")
    await desk.put(won(9), source="left-out")
    assert {message.subject.partition("/")[2] for message in await again} == {"3", "7", "8", "9"}


@asynccontextmanager
async def service(url: str, notes: Path, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A consumer of the group in a process of its own, killed at the end."""
    arguments = [str(Path(consumer.__file__)), url, "g", str(notes), *more]
    started = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


def noted(*notes: Path) -> list[str]:
    """The events that services began with, as `NAME ID`."""
    return [line for path in notes if path.exists() for line in path.read_text().splitlines()]


@pytest.mark.fault(16)
@pytest.mark.full
async def test_a_killed_consumer_leaves_a_thousand_and_none_is_lost(
    desk: Desk, redis_url: str, tmp_path: Path, figures: Callable[..., None]
) -> None:
    """Three processes, one killed with 1,000 pending: all are taken over; poison is buried after 5 tries."""
    sources, (first, second, third) = ["s0", "s1", "s2", "s3"], [tmp_path / name for name in "123"]
    told = [[won(number, name=f"{source}-{number}") for number in range(300)] for source in sources]
    for source, events in zip(sources, told, strict=True):
        await desk.put(*events, source=source)

    async def pending() -> int:
        return sum([await desk.pending(source=source) for source in sources])

    async with service(redis_url, first, "hang") as victim:

        async def enough() -> bool:
            return bool(noted(first)) and await pending() >= 1000

        await wait_until(enough, "1,000 are pending for one consumer", 30)
        async with service(redis_url, second), service(redis_url, third):
            await wait_until(lambda: noted(second, third), "the others are at work", 30)
            left = await pending()
            victim.kill()
            killed = time.monotonic()
            everything = {
                f"{source}-{number} {event.id}"
                for source, events in zip(sources, told, strict=True)
                for number, event in enumerate(events)
            }
            await wait_until(lambda: set(noted(second, third)) == everything, "none is lost", 30)
            took = time.monotonic() - killed
            told = f"{left:,} pending at a killed consumer: all handled {took:.1f} s later"
            figures(f"{told}; poison set aside after 5 tries, its neighbour handled", rounds=left)
            await desk.put(won(900, name="poison"), won(901, name="neighbour"), source="s0")

            async def buried() -> bool:
                return bool(await desk.redis.xlen(KEYS.group_dead("s0", "g")))

            await wait_until(buried, "the poison is a dead letter", 30)
            await wait_until(lambda: desk.drained(*sources), "nothing is pending", 30)
    names = Counter(line.partition(" ")[0] for line in noted(second, third))
    assert names["poison"] == 5
    assert names["neighbour"]
    assert await desk.redis.xlen(KEYS.group_dead("s0", "g")) == 1
    assert not await desk.redis.exists(KEYS.group_tries("s0", "g"))


def test_the_package_offers_what_it_says() -> None:
    """The public names are sorted and there."""
    import poller  # noqa: PLC0415 -- it is the subject

    assert poller.__all__ == sorted(poller.__all__)
    assert all(hasattr(poller, name) for name in poller.__all__)
    assert (Path(poller.__file__).parent / "py.typed").exists()
