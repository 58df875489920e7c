"""One sweep beside the practical floor and the plain script, in one run: wall, CPU and peak memory as ratios.

    python tests/bench/sweep.py [--records 10000] [--rounds 5] [--long]

Every contender runs in a process of its own against the same static server (another process) and the
embedded Valkey: it reads all records once, 1 % of them change, and the second sweep is measured.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import aiohttp
import httpx
import msgspec
import realserver
import redis.asyncio
import xxhash

from poller.store.budget import Budget
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases
from poller.store.snapshots import Snapshots
from poller.watch.limiter import RateLimiter
from poller.watch.poll import Poll
from poller.watch.session import Manner, SourceSession
from poller.watch.sources import SOURCES, Account
from poller.watch.upstream import Upstream

PAGE = 100
Sweep = Callable[[], Awaitable[int]]


def record(number: int, version: int) -> dict[str, Any]:
    """One opportunity as the document's list shows it, about 700 bytes."""
    moved = version and number % 100 == 0
    return {
        "id": number,
        "name": f"Enterprise CRM Implementation {number}",
        "project_number": f"OPP-{number:06}",
        "description": "Implementation of Salesforce CRM for an enterprise client, with full data migration.",
        "currency": "AUD",
        "project_type": "opportunity",
        "enquiry_date": "2025-10-01",
        "target_date": "2025-12-15",
        "estimated_start_date": "2026-01-15",
        "estimated_end_date": "2026-06-30",
        "project_status": {"id": 2, "name": "Proposal Submitted", "complete_status": False},
        "client": {"id": 456, "name": "Enterprise Solutions Ltd", "type": "Company"},
        "team": {"id": 3, "name": "Sales Team"},
        "amount": 250000.50 + moved,
        "lead_score": {"id": 4, "name": "Hot Lead"},
        "total_budget": 250000.50,
        "planned": False,
    }


def serve(records: int, ready: Any) -> None:
    """The static server: every page of both versions made beforehand."""
    pages = {
        version: [
            json.dumps([record(n, version) for n in range(at, min(at + PAGE, records + 1))]).encode()
            for at in range(1, records + 1, PAGE)
        ]
        for version in (0, 1)
    }
    state = {"version": 0}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            path = line.split(b" ")[1].decode()
            while (await reader.readline()).strip():
                pass
            if path.startswith("/version/"):
                state["version"] = int(path.rpartition("/")[2])
            body = b"[]"
            if "page=" in path:
                number = int(path.partition("page=")[2].partition("&")[0])
                found = pages[state["version"]][number - 1 : number]
                body = found[0] if found else b"[]"
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class _Id(msgspec.Struct):
    id: int


async def floor(url: str, store: str) -> tuple[Sweep, Callable[[], Awaitable[None]]]:
    """The practical floor: aiohttp, raw fingerprints, one HMGET a page, one MULTI per changed page."""
    session = aiohttp.ClientSession()
    client: Any = redis.asyncio.Redis.from_url(store)
    raws = msgspec.json.Decoder(list[msgspec.Raw])
    ids = msgspec.json.Decoder(list[_Id])

    async def sweep() -> int:
        changed, page = 0, 0
        while True:
            page += 1
            async with session.get(f"{url}/x?page={page}&items=500") as reply:
                body = await reply.read()
            rows = raws.decode(body)
            if not rows:
                return changed
            keys = [each.id for each in ids.decode(body)]
            prints = [xxhash.xxh3_128_digest(row) for row in rows]
            known = await client.hmget("prints", keys)
            moved = [at for at, old in enumerate(known) if old != prints[at]]
            if not moved:
                continue
            changed += len(moved)
            pipe = client.pipeline(transaction=True)
            for at in moved:
                pipe.hset("prints", keys[at], prints[at])
                pipe.hset("rows", keys[at], bytes(rows[at]))
                pipe.xadd("events", {"event": bytes(rows[at])})
            await pipe.execute()

    async def close() -> None:
        await session.close()
        await client.aclose()

    return sweep, close


async def plain(url: str, store: str) -> tuple[Sweep, Callable[[], Awaitable[None]]]:
    """The plain script: httpx, json, one Redis call per record."""
    http = httpx.AsyncClient()
    client: Any = redis.asyncio.Redis.from_url(store)

    async def sweep() -> int:
        changed, page = 0, 0
        while True:
            page += 1
            rows = (await http.get(f"{url}/x?page={page}&items=500")).json()
            if not rows:
                return changed
            for row in rows:
                new = {name: json.dumps(value) for name, value in row.items()}
                old = await client.hgetall(f"row:{row['id']}")
                if {k.decode(): v.decode() for k, v in old.items()} != new:
                    changed += 1
                    await client.hset(f"row:{row['id']}", mapping=new)
                    await client.xadd("events", {"event": json.dumps(row)})

    async def close() -> None:
        await http.aclose()
        await client.aclose()

    return sweep, close


async def ours(url: str, store: str) -> tuple[Sweep, Callable[[], Awaitable[None]]]:
    """poller's own wing: every request charged, fenced commits, typed events."""
    connection, keys = Connection.open(store), Keys()
    fence = await Leases(connection, holder="bench", ttl_s=600).acquire(keys.source_lease("acme"))
    assert fence is not None
    upstream = Upstream(base_url=url, auth=SOURCES["drum"].auth("t"))
    source = SOURCES["drum"](Account(name="acme", base_url=url), upstream)
    snapshots = Snapshots(connection, keys, "acme", fence=fence)
    budget = Budget(connection, keys, host="bench", egress="default", limit=10**6, window_s=300)
    limiter = RateLimiter(budget, host="bench", limit=10**6, window_s=300, timeout_s=30)
    session = SourceSession(
        source=source,
        source_kind="drum",
        snapshots=snapshots,
        memory=await snapshots.open(),
        limiter=limiter,
        manner=Manner(),
    )
    poll = Poll(session)

    async def sweep() -> int:
        told = await poll.sweep("opportunity")
        assert told.complete, told.reason
        return told.changed

    async def close() -> None:
        await source.close()
        await connection.close()

    return sweep, close


CONTENDERS = {"floor": floor, "poller": ours, "plain script": plain}


def measure(name: str, url: str, records: int, out: Any) -> None:
    """One contender: the first sweep, the change, the second sweep measured."""

    async def main() -> dict[str, float]:
        server = realserver.start()
        try:
            async with aiohttp.ClientSession() as control:
                await (await control.get(f"{url}/version/0")).read()
                sweep, close = await CONTENDERS[name](url, server.url)
                first = await sweep()
                assert first == records, (name, first)
                await (await control.get(f"{url}/version/1")).read()
                wall, cpu = time.perf_counter(), time.process_time()
                changed = await sweep()
                told = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                assert changed == records // 100, (name, changed)
                await close()
            peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return {**told, "peak": peak_kb / 1024}
        finally:
            server.stop()

    out.put(asyncio.run(main()))


def contest(records: int, rounds: int, names: list[str]) -> dict[str, dict[str, float]]:
    """The medians of each contender, rounds interleaved."""
    context = multiprocessing.get_context("spawn")
    ready, out = context.Queue(), context.Queue()
    server = context.Process(target=serve, args=(records, ready), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ready.get(timeout=120)}"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        for _ in range(rounds):
            for name in names:
                runner = context.Process(target=measure, args=(name, url, records, out))
                runner.start()
                found[name].append(out.get(timeout=600))
                runner.join()
    finally:
        server.terminate()
    return {
        name: {key: statistics.median(each[key] for each in told) for key in told[0]}
        for name, told in found.items()
    }


def show(records: int, told: dict[str, dict[str, float]]) -> None:
    """The table, with ratios against the floor."""
    print(
        f"\none sweep of {records:,} records, {records // 100:,} changed (medians; ratios against the floor)"
    )
    print(f"{'':<14}{'wall':>12}{'':>8}{'CPU':>12}{'':>8}{'peak RSS':>12}{'':>8}")
    base = told["floor"]
    for name, row in told.items():
        cells = "".join(
            f"{row[key] * scale:>9.0f} {unit:<2}{row[key] / base[key]:>6.2f} ×"
            for key, scale, unit in (("wall", 1000, "ms"), ("cpu", 1000, "ms"), ("peak", 1, "MB"))
        )
        print(f"{name:<14}{cells}")


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="also 100,000 records, without the plain script")
    given = parser.parse_args()
    small = contest(given.records, given.rounds, list(CONTENDERS))
    show(given.records, small)
    if given.long:
        large = contest(10 * given.records, 3, ["floor", "poller"])
        show(10 * given.records, large)
        growth = large["poller"]["wall"] / small["poller"]["wall"]
        print(f"\nten times the records: {growth:.1f} × the time (at most 11)")


if __name__ == "__main__":
    main()
