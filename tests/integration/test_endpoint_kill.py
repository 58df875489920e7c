"""kill -9 in the middle of a request, and between the answer and its settlement."""

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from clocks import Clock
from hookside import Got, Receiver, Side, counts_of, delivering, event, receiving
from waiting import wait_until

from poller.store.connection import Connection
from poller.store.keys import Keys

pytestmark = pytest.mark.full

WORKER = Path(__file__).parent.parent / "support" / "hookworker.py"
CONNECTIONS = 8
BETWEEN_KILLS = 40


class Killer:
    """Answers requests, and kills the worker at a chosen one: before its answer, or right after it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.worker: asyncio.subprocess.Process | None = None
        self.left = -1
        self.killed = 0
        self.bodies: dict[str, set[bytes]] = {}

    async def reply(self, request: web.Request, got: Got) -> web.StreamResponse:
        self.bodies.setdefault(got.id, set()).add(got.body)
        self.left -= 1
        strike, after = self.left == 0, self.random.random() < 0.5
        if strike and not after:
            self.strike()
        response = web.Response(text="ok")
        await response.prepare(request)
        await response.write_eof()
        if strike and after:
            self.strike()
        return response

    def strike(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        self.killed += 1


async def kill_again_and_again(side: Side, receiver: Receiver, redis_url: str, *, kills: int) -> Killer:
    killer = Killer(seed=kills)
    receiver.always = killer.reply
    total = kills * BETWEEN_KILLS
    await side.publish(*(event(n, subject=f"deal/{n % 97}") for n in range(total)))
    for fence in range(1, kills + 2):
        last = fence == kills + 1
        killer.left = -1 if last else killer.random.randint(1, BETWEEN_KILLS - CONNECTIONS)
        killer.worker = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), redis_url, receiver.url, str(fence),
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if last:
            await wait_until(lambda: len(killer.bodies) == total, "every event at the receiver", timeout_s=60)
            await wait_until(lambda: _settled(side, total), "everything settled", timeout_s=60)
            killer.worker.kill()
        await killer.worker.wait()
    return killer


async def _settled(side: Side, total: int) -> bool:
    counts = await counts_of(side.connection, side.keys)
    return counts.delivered == total and counts.lag == counts.waiting == 0


async def after_kills(redis_url: str, kills: int) -> None:
    connection, keys = Connection.open(redis_url), Keys()
    try:
        async with receiving() as receiver, delivering(connection, keys, receiver.url, clock=Clock()) as side:
            killer = await kill_again_and_again(side, receiver, redis_url, kills=kills)
            total = kills * BETWEEN_KILLS
            assert killer.killed == kills
            assert set(receiver.ids) == {f"evt_{n:x}" for n in range(total)}
            assert all(
                killer.bodies[f"evt_{n:x}"] == {event(n, subject=f"deal/{n % 97}").body} for n in range(total)
            )
            repeats = sum(count - 1 for count in Counter(receiver.ids).values())
            assert repeats <= kills * CONNECTIONS
            seen = list(dict.fromkeys(receiver.ids))
            for deal in range(97):
                of_it = [each for each in seen if int(each[4:], 16) % 97 == deal]
                assert of_it == sorted(of_it, key=lambda each: int(each[4:], 16))
    finally:
        await connection.close()


async def test_nothing_is_lost_and_little_repeated_when_killed(redis_url: str) -> None:
    """Every event arrives with its own id and body; repeats are at most one for each connection and kill."""
    await after_kills(redis_url, kills=8)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_nothing_is_lost_in_two_hundred_kills(redis_url: str) -> None:
    """The same, 200 times."""
    await after_kills(redis_url, kills=200)
