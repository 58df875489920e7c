"""Paying for requests: charges for a whole sweep, late ones anew, pace, blocks, and an end to waiting."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import time_machine
from clocks import Clock

from poller.errors import Limited
from poller.store.budget import Budget
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.limiter import OVERDRAFT, PAGE_S, RateLimiter
from poller.watch.limits import Pause
from poller.watch.token_bucket import FREE_SHARE
from poller.watch.upstream import Upstream

WINDOW_S, TIMEOUT_S = 60.0, 5.0
SEVEN_OCLOCK = 1_795_374_000.0
"""Sun, 22 Nov 2026 19:00:00 GMT."""


@pytest.fixture
def clock() -> Clock:
    """A clock of the limiter's own."""
    return Clock(1000.0)


def limiter(connection: Connection, keys: Keys, clock: Clock, *, limit: int = 40) -> RateLimiter:
    """A limiter on a budget of `limit` a minute."""
    budget = Budget(
        connection, keys, host="h", egress="default", limit=limit, window_s=WINDOW_S, source="acme"
    )
    return RateLimiter(budget, host="h", limit=limit, window_s=WINDOW_S, timeout_s=TIMEOUT_S, clock=clock)


@asynccontextmanager
async def saying(head: Sequence[str]) -> AsyncIterator[str]:
    """A host that says this to everything, and does not tell its clock."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, *headers = head
        lines = [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers]
        writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def used(mine: RateLimiter) -> dict[str, int]:
    """What counts against the budget now."""
    return (await mine.budget.usage()).used


async def test_a_sweep_is_paid_as_a_whole(connection: Connection, keys: Keys, clock: Clock) -> None:
    """All pages are charged before the first is asked for; one more than planned is paid by itself."""
    mine = limiter(connection, keys, clock)
    ticket = await mine.ticket("sweep", 3)
    assert await used(mine) == {"sweep": 3}
    for sent in range(1, 5):
        await ticket.use()
        await ticket.answered()
        assert (await used(mine))["sweep"] == max(3, sent)
    assert ticket.spent == 4


async def test_charges_that_are_too_old_are_paid_anew(
    connection: Connection, keys: Keys, clock: Clock
) -> None:
    """A request may not be on its way after its charge's deadline: a slow sweep pays again."""
    mine = limiter(connection, keys, clock)
    ticket = await mine.ticket("sweep", 3)
    await ticket.use()
    clock.now += 3 * PAGE_S + 0.1
    await ticket.use()
    assert await used(mine) == {"sweep": 4}


async def test_what_is_left_is_not_refunded(fakestore: Connection, keys: Keys, clock: Clock) -> None:
    """Charges that a sweep did not need count for one window from its end, and nothing is sent on them."""
    with time_machine.travel(1_795_000_000, tick=False) as redis:
        mine = limiter(fakestore, keys, clock, limit=5)
        ticket = await mine.ticket("confirm", 4)
        await ticket.use()
        await ticket.answered()
        await ticket.close()
        assert await used(mine) == {"confirm": 4}
        redis.shift(WINDOW_S - 0.1)
        assert await used(mine) == {"confirm": 4}
        await ticket.use()
        assert await used(mine) == {"confirm": 5}
        redis.shift(0.2)
        assert await used(mine) == {"confirm": 1}


async def test_a_dear_request_is_paid_in_full(connection: Connection, keys: Keys, clock: Clock) -> None:
    """What the API counts as twenty is charged as twenty."""
    mine = limiter(connection, keys, clock)
    ticket = await mine.ticket("detail", 1)
    await ticket.use(20)
    assert (await used(mine))["detail"] == 21
    assert mine.paid == 21


async def test_a_cautious_source_pays_for_one_at_a_time(
    connection: Connection, keys: Keys, clock: Clock
) -> None:
    """A sweep of a host that fails is not charged for pages that are never asked for."""
    mine = limiter(connection, keys, clock)
    mine.cautious = True
    await mine.ticket("sweep", 10)
    assert await used(mine) == {"sweep": 1}


async def test_a_block_ends_all_waiting(connection: Connection, keys: Keys, clock: Clock) -> None:
    """Once the host refused, nobody waits for it here: the time is named instead."""
    mine = limiter(connection, keys, clock)
    ticket = await mine.ticket("detail", 1)
    await ticket.use()
    assert await ticket.refused(Pause(30.0, None), 429) == pytest.approx(30, abs=1)
    with pytest.raises(Limited) as first:
        await mine.ticket("sweep", 2)
    with pytest.raises(Limited) as second:
        await mine.offer("detail")
    assert first.value.retry_after == pytest.approx(30, abs=1)
    assert second.value.retry_after == pytest.approx(30, abs=1)


@pytest.mark.parametrize(
    ("said", "least_s", "most_s"),
    [
        (["503 Service Unavailable"], 0, WINDOW_S),
        (["503 Service Unavailable", "Retry-After: 7"], 6, 7),
        (["429 Too Many Requests", "Retry-After: Sun, 22 Nov 2026 20:00:00 GMT"], 3590, 3600),
    ],
    ids=["503", "503-seconds", "429-date-without-a-clock"],
)
async def test_an_answer_that_refuses_stops_the_host(
    connection: Connection, keys: Keys, clock: Clock, said: list[str], least_s: float, most_s: float
) -> None:
    """Over the wire: 429 and 503 stop all requests to the host, for Retry-After or to the period's end."""
    mine = limiter(connection, keys, clock)
    async with saying(said) as url:
        upstream = Upstream(base_url=url, auth={}, timeout_s=TIMEOUT_S, now=lambda: SEVEN_OCLOCK)
        with pytest.raises(Limited):
            await upstream.get("/api", ticket=await mine.ticket("sweep", 3))
        await upstream.close()
    with pytest.raises(Limited) as stopped:
        await mine.ticket("sweep", 1)
    assert stopped.value.retry_after is not None
    assert least_s < stopped.value.retry_after <= most_s


async def test_to_stop_ends_a_wait_for_the_budget(connection: Connection, keys: Keys, clock: Clock) -> None:
    """A source that is told to stop does not wait for a full budget to become free."""
    mine = limiter(connection, keys, clock, limit=4)
    mine.stopping = asyncio.Event()
    await mine.ticket("sweep", 3)
    waiting: asyncio.Task[Any] = asyncio.create_task(mine.ticket("sweep", 3))
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done()
    mine.stopping.set()
    async with asyncio.timeout(2):
        with pytest.raises(Limited, match="told to stop"):
            await waiting


async def test_no_room_is_said_and_not_waited_for(connection: Connection, keys: Keys, clock: Clock) -> None:
    """A detail that may not be sent now costs nothing and waits for nothing."""
    mine = limiter(connection, keys, clock, limit=4)
    await mine.ticket("sweep", 3)
    wait_s = await mine.offer("detail")
    assert isinstance(wait_s, float)
    assert 0 < wait_s <= 5.0


async def test_the_pace_is_the_budgets_and_hurry_has_an_end(
    connection: Connection, keys: Keys, clock: Clock
) -> None:
    """Requests are spread over the window; urgent ones may run ahead of it by a tenth of the budget."""
    mine, per_s = limiter(connection, keys, clock), 40 * FREE_SHARE / WINDOW_S
    assert mine.wait_s(1, dearest=1) == pytest.approx(1 / per_s)
    ahead = 0
    while mine.wait_s(1, dearest=1, hurried=True) == 0.0:
        await mine.offer("detail")
        ahead += 1
    assert ahead == 40 * OVERDRAFT
    clock.now += 5 / per_s
    assert mine.wait_s(1, dearest=1) == 0.0


async def test_how_fast_the_host_answers_is_learned(connection: Connection, keys: Keys, clock: Clock) -> None:
    """A source asks for no more than it can send one after the other; a slow one leaves the rest."""
    mine = limiter(connection, keys, clock)
    assert mine.fastest_per_s == math.inf
    ticket = await mine.ticket("sweep", 20)
    for _ in range(20):
        await ticket.use()
        clock.now += 0.5
        await ticket.answered()
    assert mine.fastest_per_s == pytest.approx(1 / 0.5, rel=0.05)


async def test_what_was_spent_is_told_by_class_for_one_window(
    connection: Connection, keys: Keys, clock: Clock
) -> None:
    """The operator sees what this source paid for lately, and for what."""
    mine = limiter(connection, keys, clock)
    await mine.ticket("sweep", 3)
    clock.now += WINDOW_S / 2
    await mine.ticket("confirm", 1)
    await mine.offer("detail")
    assert mine.spent() == {"sweep": 3, "confirm": 1, "detail": 1}
    clock.now += WINDOW_S / 2 + 1
    assert mine.spent() == {"confirm": 1, "detail": 1}
