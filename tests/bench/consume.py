"""Events per second that one process reads with `poller.subscribe`, beside bare XREADGROUP, from ten sources.

python tests/bench/consume.py [--events 100000]
"""

import argparse
import asyncio
import sys
import time
from contextlib import aclosing
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


async def bare(url: str, events: int) -> float:
    """XREADGROUP over all streams and one XACK for each batch: no types, no take-over, no new sources."""
    client: Any = redis.asyncio.Redis.from_url(url)
    streams = {KEYS.events(source): ">" for source in SOURCES}
    for stream in streams:
        await client.xgroup_create(stream, "bare", id="0")
    start, seen = time.perf_counter(), 0
    while seen < events:
        reply = await client.xreadgroup("bare", "c", streams, count=256)
        for stream, rows in reply.items() if isinstance(reply, dict) else reply:
            entries = rows[0] if rows and isinstance(rows[0], list) else rows
            seen += len(entries)
            await client.xack(stream, "bare", *(entry for entry, _ in entries))
    await client.aclose()
    return events / (time.perf_counter() - start)


async def ours(url: str, events: int, *, typed: bool) -> float:
    """The client, acknowledging after each body; `typed` validates every event as well."""
    start, seen = time.perf_counter(), 0
    group = f"ours-{typed}"
    async with aclosing(subscribe(url, group=group, start="oldest")) as messages:
        async for message in messages:
            if typed:
                assert message.event.data.revision
            seen += 1
            if seen == events:
                break
    return events / (time.perf_counter() - start)


async def main() -> None:
    """Run the three."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    events = parser.parse_args().events
    server = realserver.start()
    client: Any = redis.asyncio.Redis.from_url(server.url)
    try:
        await fill(client, events)
        rows = {
            "bare XREADGROUP": await bare(server.url, events),
            "subscribe": await ours(server.url, events, typed=False),
            "subscribe, event typed": await ours(server.url, events, typed=True),
        }
        for name, rate in rows.items():
            print(f"{name:<24}{rate:>10,.0f} events/s{rate / rows['bare XREADGROUP']:>8.0%}")
    finally:
        await client.aclose()
        server.stop()


if __name__ == "__main__":
    asyncio.run(main())
