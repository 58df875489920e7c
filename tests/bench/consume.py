"""Events per second that one process reads with `poller.subscribe`, beside bare XREADGROUP, from ten sources.

python tests/bench/consume.py [--events 100000] [--rounds 3]

The best of some rounds counts, and CPU beside the clock: both loops need one core, which others may use too.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import realserver
import redis.asyncio

from poller import subscribe
from poller.model import fields_of
from poller.store.keys import Keys
from poller.watch.events import Bounds, Known, make

SOURCES = [f"s{number}" for number in range(10)]
KEYS = Keys()


async def fill(client: Any, events: int) -> None:
    """Events of about 1 KB, spread over the sources."""
    event = make(
        Known(),
        source="/drum/s0",
        subject="opportunity/101",
        type_="drum.opportunity.won",
        bounds=Bounds(1.0, 2.0),
        object_={"id": 101, "name": "x" * 500},
        detected_at=2.0,
    )
    fields = dict(fields_of(event))
    await client.sadd(KEYS.sources(), *SOURCES)
    for _ in range(0, events, 1000):
        pipe = client.pipeline(transaction=False)
        for number in range(1000):
            pipe.xadd(KEYS.events(SOURCES[number % 10]), fields)
        await pipe.execute()


async def bare(url: str, group: str, events: int, *, decoded: bool) -> None:
    """XREADGROUP over all streams and one XACK for each batch: no types, no take-over, no new sources."""
    client: Any = redis.asyncio.Redis.from_url(url)
    streams = {KEYS.events(source): ">" for source in SOURCES}
    for stream in streams:
        await client.xgroup_create(stream, group, id="0")
    seen = 0
    while seen < events:
        reply = await client.xreadgroup(group, "c", streams, count=256)
        for stream, rows in reply.items() if isinstance(reply, dict) else reply:
            entries = rows[0] if rows and isinstance(rows[0], list) else rows
            for _, fields in entries if decoded else ():
                assert json.loads(fields[b"event"])["data"]["revision"]
            seen += len(entries)
            await client.xack(stream, group, *(entry for entry, _ in entries))
    await client.aclose()


async def ours(url: str, group: str, events: int, *, typed: bool) -> None:
    """The client, acknowledging after each body; `typed` validates every event as well."""
    seen = 0
    async with aclosing(subscribe(url, group=group, start="oldest")) as messages:
        async for message in messages:
            if typed:
                assert message.event.data.revision
            seen += 1
            if seen == events:
                break


LOOPS: dict[str, Callable[[str, str, int], Awaitable[None]]] = {
    "bare XREADGROUP": partial(bare, decoded=False),
    "bare, with json.loads": partial(bare, decoded=True),
    "subscribe": partial(ours, typed=False),
    "subscribe, event typed": partial(ours, typed=True),
}


async def main() -> None:
    """Run the loops in turn, and print the best round of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    server = realserver.start()
    client: Any = redis.asyncio.Redis.from_url(server.url)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in LOOPS}
    try:
        await fill(client, given.events)
        for number, (name, loop) in product(range(given.rounds), LOOPS.items()):
            wall, cpu = time.perf_counter(), time.process_time()
            await loop(server.url, f"{name}-{number}", given.events)
            took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    finally:
        await client.aclose()
        server.stop()
    best = {name: tuple(map(min, zip(*rounds, strict=True))) for name, rounds in took.items()}
    floor = best["bare XREADGROUP"][0]
    for name, (wall, cpu) in best.items():
        each = cpu / given.events * 1e6
        print(
            f"{name:<24}{given.events / wall:>10,.0f} events/s{floor / wall:>7.0%}{each:>8.1f} µs of CPU each"
        )


if __name__ == "__main__":
    asyncio.run(main())
