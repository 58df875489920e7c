"""Sources beside each other: one whose answers take ten seconds holds nobody up, on its host or elsewhere."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest
from processes import inside
from starlette.types import Receive, Scope, Send
from waiting import wait_until

from poller.model import dumps
from poller.simulators import Options, serve
from poller.simulators.serving import listening
from poller.store import snapshots
from poller.store.budget import Budget
from poller.watch.poll import Swept

EVERY_S, ANSWER_S = 2.0, 10.0
LIMIT, WINDOW_S = 40, 10.0
"""For the host of both: half of it would not do for the one that is well."""
SEEN_S = 20.0


@asynccontextmanager
async def one_host(*simulators: Any) -> AsyncIterator[str]:
    """Several accounts behind one address; the token says whose answer it is."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        shown = b" ".join(value for _, value in scope["headers"])
        whose = next(each for each in simulators if each.token.encode() in shown)
        await whose.wire(scope, receive, send)

    async with listening(answer) as url:
        yield url


def gaps(swept: list[tuple[str, Swept]], source: str, *, after: float) -> list[float]:
    """Seconds between the beginnings of a list's sweeps."""
    lists: dict[str, list[float]] = {}
    for name, told in swept:
        if name == source and told.started >= after:
            lists.setdefault(told.kind, []).append(told.started)
    return [later - sooner for starts in lists.values() for sooner, later in pairwise(starts)]


def took(swept: list[tuple[str, Swept]], source: str) -> float:
    """Seconds of its last sweep."""
    return next((told.ended - told.started for name, told in reversed(swept) if name == source), 0.0)


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_a_slow_source_holds_nobody_up(redis_url: str) -> None:
    """A healthy source keeps its period and has the budget that the slow one of its host cannot use."""
    swept: list[tuple[str, Swept]] = []
    async with (
        serve("drum", options=Options(records=30, seed=3, token="drum_well")) as well,
        serve("drum", options=Options(records=30, seed=4, token="drum_slow")) as slow,
        serve("drum", options=Options(records=30, seed=5, token="drum_else")) as elsewhere,
        one_host(well, slow) as url,
    ):
        plain = {"kind": "drum", "every": f"{EVERY_S * 1000:.0f}ms", "budget": f"{LIMIT}/{WINDOW_S:g}s"}
        sources = {
            "well": {**plain, "base_url": url, "token": well.token},
            "slow": {**plain, "base_url": url, "token": slow.token},
            "elsewhere": {**plain, "base_url": elsewhere.url, "token": elsewhere.token},
        }
        lists = {(name, kind) for name in sources for kind in ("opportunity", "project")}
        async with inside(redis_url, swept=lambda *told: swept.append(told), sources=sources):
            await wait_until(lambda: {(name, told.kind) for name, told in swept} >= lists, "the baseline", 60)
            slow.set(latency_s=ANSWER_S)
            await wait_until(lambda: took(swept, "slow") >= ANSWER_S, "a slow sweep", 60)
            first = time.time()
            await wait_until(lambda: time.time() > first + SEEN_S, "a while", SEEN_S + 5)
    sent = [each for each in well.requests if each.start >= first]
    tried = [each for each in slow.requests if each.start >= first]
    assert 1 <= len(tried) <= 4
    assert {each.status for each in (*well.requests, *elsewhere.requests)} == {200}
    assert len(sent) >= 0.8 * 0.95 * LIMIT * (SEEN_S - 1) / WINDOW_S
    for name in ("well", "elsewhere"):
        found = gaps(swept, name, after=first)
        assert len(found) >= 0.4 * 2 * SEEN_S / EVERY_S
        assert max(found) < ANSWER_S


async def test_what_a_failover_forgot_of_the_budget_outlives_the_work_that_spent_it(redis_url: str) -> None:
    """The source's work begins anew and so does its neighbour's: what this replica sent stays counted."""
    async with serve("drum", options=Options(records=30, seed=3)) as sim:
        plain = {"kind": "drum", "base_url": sim.url, "token": sim.token, "every": "1h", "details": False}
        sources = {name: {**plain, "budget": f"{LIMIT}/5m"} for name in ("acme", "bravo")}
        swept: list[str] = []
        async with inside(redis_url, swept=lambda name, _: swept.append(name), sources=sources) as (
            service,
            connection,
        ):
            await wait_until(lambda: all(swept.count(name) >= 2 for name in sources), "the baselines", 20)
            asked, keys = len(sim.requests), service.keys
            host = urlsplit(sim.url).netloc
            await connection.commands.delete(keys.budget(host, "default"), keys.blocked(host, "default"))
            for worker in service.workers:
                worker.begin_anew()
            await snapshots.ask(connection, keys, "bravo", dumps({"do": "poll"}))
            budget = Budget(connection, keys, host=host, egress="default", limit=LIMIT, window_s=300)

            async def charged() -> int:
                return sum((await budget.usage()).used.values())

            await wait_until(charged, "the next charge", 20)
            assert await charged() >= asked
