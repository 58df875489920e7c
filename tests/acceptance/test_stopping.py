"""SIGTERM and Ctrl-C at random moments: exit 0 in time, no server left, nothing lost, leases free."""

import asyncio
import random
import time
from pathlib import Path

import pytest
from processes import home
from receiver import receiving
from redis.asyncio import Redis
from tales import Tale, show
from waiting import wait_until

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases

pytestmark = pytest.mark.full

QUICK, LONG = 6, 200
AT_ONCE = 15
STOP_S = 25.0
"""Contract §8."""


@pytest.mark.timeout(3600)
async def test_stopped_at_random_moments(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Each time: exit 0 within 25 s, its server gone with it; over all restarts nothing is lost or twice."""
    most = LONG if pytestconfig.getoption("--long") else QUICK
    chance, took = random.Random(11), []
    async with serve("drum", options=Options(records=60, seed=9)) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token}
        async with home(tmp_path, sources={"acme": acme}, receiver=receiver.url) as place:
            running = await place.run()
            tale = Tale(sim, place)
            await tale.baseline()
            for turn in range(most):
                window = tale.live(AT_ONCE)
                goal = tale.asked() + chance.randint(1, 60)
                await wait_until(lambda goal=goal: tale.asked() >= goal, "some more requests", 10)
                began = time.monotonic()
                running.interrupt() if turn % 2 else running.terminate()
                assert await running.end(within_s=STOP_S) == 0
                took.append(time.monotonic() - began)
                assert not place.server_lives()
                running = await place.run()
                await tale.settle(window)
            verdict = await tale.verdict()
            ids = {event["id"] for event in verdict.events}
            await wait_until(lambda: receiver.counts.keys() >= ids, "every event at the receiver", 20)
            running.terminate()
            assert await running.end(within_s=STOP_S) == 0
    show(
        ("stops", "longest s", "transitions", "told", "delivered", "repeats"),
        (most, f"{max(took):.2f}", tale.transitions, len(verdict.told), len(ids), receiver.repeats),
    )
    verdict.check(receiver)
    assert receiver.repeats == 0


async def test_leases_are_free_at_once(tmp_path: Path, redis_url: str) -> None:
    """At SIGTERM the other replica takes everything over within a second, whatever the lease."""
    async with serve("drum", options=Options(records=30, seed=9)) as sim, receiving() as receiver:
        given = {"base_url": sim.url, "token": sim.token}
        sources = {"acme": given, "beta": given}
        redis = {"url": redis_url, "lease": "15s"}
        connection = Connection.open(redis_url)
        leases = Leases(connection, holder="the test", ttl_s=1)
        keys = [Keys().source_lease("acme"), Keys().source_lease("beta"), Keys().endpoint_lease("hook")]

        async def holders() -> list[str]:
            found = [await leases.holder(key) for key in keys]
            return [each.name for each in found if each]

        async with home(tmp_path, sources=sources, receiver=receiver.url, redis=redis) as place:
            first, second = await place.run(), await place.run()

            async def is_shared() -> bool:
                names = await holders()
                return len(names) == 3 and len(set(names)) == 2

            await wait_until(is_shared, "both replicas to hold something", 30)
            first.terminate()
            released = asyncio.create_task(first.end(within_s=STOP_S))

            async def is_taken() -> bool:
                return [name.split("-")[-2] for name in await holders()] == [str(second.pid)] * 3

            assert await released == 0
            began = time.monotonic()
            await wait_until(is_taken, "the second replica to hold everything", 10)
            took_s = time.monotonic() - began
            second.terminate()
            assert await second.end(within_s=STOP_S) == 0
            client = Redis.from_url(redis_url)
            assert await client.hlen(Keys().replicas()) == 0
            await client.aclose()
        await connection.close()
    show(("taken over after",), (f"{took_s:.2f} s",))
    assert took_s <= 1.0
