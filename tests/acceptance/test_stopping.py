"""SIGTERM and Ctrl-C at random moments: exit 0 in time, no server left, nothing lost, leases free."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faultproxy import fault_proxy
from hookside import Receiver, hang
from hookside import receiving as hooked
from processes import home
from realserver import RealServer
from receiver import receiving
from redis.asyncio import Redis
from tales import Tale
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
SOON_S = 5.0
"""Two seconds for what a source has begun, and a busy machine."""
Figures = Callable[..., None]


@pytest.mark.fault(14)
@pytest.mark.timeout(3600)
async def test_stopped_at_random_moments(
    tmp_path: Path, rounds: Callable[[int, int], int], figures: Figures
) -> None:
    """Each time: exit 0 within 25 s, its server gone with it; over all restarts nothing is lost or twice."""
    most = rounds(QUICK, LONG)
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
    told = f"{tale.transitions:,} transitions, {len(verdict.told):,} told, 0 lost, 0 twice, 0 sent again"
    figures(f"exit 0 each time, after {max(took):.1f} s at most; {told}", rounds=most)
    verdict.check(receiver)
    assert receiver.repeats == 0


@pytest.mark.fault(14)
async def test_leases_are_free_at_once(tmp_path: Path, redis_url: str, figures: Figures) -> None:
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
            return [each for each in found if each]

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
    figures(f"the other replica leads {took_s:.2f} s after the end")
    assert took_s <= 1.0


@pytest.mark.fault(14)
async def test_a_crm_that_hangs_holds_up_no_stop(tmp_path: Path, figures: Figures) -> None:
    """A request that waits for its answer is given up after two seconds, not after its deadline of thirty."""
    async with serve("drum", options=Options(records=30, seed=9)) as sim:
        acme = {"base_url": sim.url, "token": sim.token}
        async with home(tmp_path, sources={"acme": acme}) as place:
            running = await place.run()
            await Tale(sim, place).baseline()
            sim.set(fault_rate=1.0, faults=("hang",))
            await wait_until(lambda: sim.requests[-1].end == 0, "a request without an answer", 20)
            began = time.monotonic()
            running.terminate()
            assert await running.end(within_s=STOP_S) == 0
            took_s = time.monotonic() - began
    figures(f"CRM hangs: exit 0 after {took_s:.1f} s")
    assert took_s < SOON_S


@pytest.mark.fault(14)
async def test_a_spent_budget_holds_up_no_stop(tmp_path: Path, figures: Figures) -> None:
    """Whoever waits for an hour until more may be sent ends at once."""
    async with serve("drum", options=Options(records=30, seed=9)) as sim:
        acme = {"base_url": sim.url, "token": sim.token, "budget": "4/1h"}
        async with home(tmp_path, sources={"acme": acme}) as place:
            running = await place.run()
            await wait_until(lambda: len(sim.requests) >= 3, "the budget is spent", 20)
            began = time.monotonic()
            running.terminate()
            assert await running.end(within_s=STOP_S) == 0
            took_s = time.monotonic() - began
            assert len(sim.requests) <= 4
    figures(f"budget spent: exit 0 after {took_s:.1f} s")
    assert took_s < SOON_S


@pytest.mark.fault(14)
async def test_a_redis_that_is_silent_holds_up_no_stop(
    tmp_path: Path, redis_url: str, real_server: RealServer, figures: Figures
) -> None:
    """Redis and a receiver that both took everything and say nothing: the end is in time, with exit 0."""
    released = asyncio.Event()
    slow = Receiver(always=hang(released))
    async with (
        serve("drum", options=Options(records=30, seed=9)) as sim,
        hooked(slow),
        fault_proxy(path=real_server.socket) as proxy,
    ):
        acme = {"base_url": sim.url, "token": sim.token}
        redis = {"url": proxy.url}
        async with home(tmp_path, sources={"acme": acme}, receiver=slow.url, redis=redis) as place:
            running = await place.run()
            await wait_until(lambda: slow.got, "a delivery under way", 30)
            proxy.half_open = True
            began = time.monotonic()
            running.terminate()
            assert await running.end(within_s=2 * STOP_S) == 0
            took_s = time.monotonic() - began
            released.set()
    figures(f"Redis and a receiver silent: exit 0 after {took_s:.1f} s")
    assert took_s < STOP_S
