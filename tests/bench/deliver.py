"""Deliveries per second and delay beside a bare aiohttp loop, a plain httpx worker and Celery, in one run.

    pip install celery requests      # only for that row; it is left out where they are missing
    python tests/bench/deliver.py [--events 4000] [--seconds 5]

Every contender is a process of its own, reads the same 1 KB events from the same server, and posts them to
the same receiver (another process). First a burst; then half of what the contender can do, evenly, for the
delay from XADD to received. Last: ten endpoints of which one hangs and one drips.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import importlib.util
import multiprocessing
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import aiohttp
import httpx
import realserver
import redis.asyncio
import structlog

from poller.deliver.endpoint import Endpoint
from poller.deliver.settings import EndpointSettings
from poller.model import Event, dumps, fields_of, rfc3339
from poller.store.connection import Connection
from poller.store.keys import Keys

STREAM = Keys().events("bench")
SECRET = b"0123456789abcdef0123456789abcdef"
AT_ONCE = 8
PAD = "x" * 700


def event(number: int, subject: str = "") -> Event:
    """A CloudEvent of about 1 KB."""
    now = time.time()
    event_id = f"evt_{number:032x}"
    body = {
        "specversion": "1.0", "id": event_id, "source": "/drum/bench", "type": "drum.opportunity.updated",
        "subject": subject or f"opportunity/{number}", "time": rfc3339(now),
        "datacontenttype": "application/json", "sent": now,
        "data": {"object": {"id": number, "name": PAD}, "previous": {}, "changed": ["name"], "revision": 1},
    }  # fmt: skip
    return Event(event_id, body["type"], body["subject"], body["time"], dumps(body))


# --- the receiver ---------------------------------------------------------------------------------


def receive(ready: Any, out: Any) -> None:
    """Answer 204; /hang never does, /drip sends a byte a second. Tells (path, delay) of each request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                path, length = line.split(b" ")[1].decode(), 0
                while header := (await reader.readline()).strip():
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                body = await reader.readexactly(length)
                if path.startswith("/told"):
                    seen = dumps(told.copy())
                    told.clear()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(seen) + seen)
                elif path.startswith("/hang"):
                    await asyncio.sleep(3600)
                elif path.startswith("/drip"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
                    for _ in range(100):
                        writer.write(b".")
                        await writer.drain()
                        await asyncio.sleep(1)
                else:
                    at = body.find(b'"sent":') + 7
                    sent = float(body[at : body.find(b",", at)])
                    told.append([path, time.time() - sent, time.time()])
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    told: list[list[Any]] = []

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    out.put(None)
    asyncio.run(main())


# --- contenders -------------------------------------------------------------------------------------


def signed(event_id: str, body: bytes) -> dict[str, str]:
    """The headers that every contender has to make."""
    stamp = str(int(time.time()))
    mac = hmac.digest(SECRET, f"{event_id}.{stamp}.".encode() + body, hashlib.sha256)
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


async def _group_worker(store: str, post: Callable[[str, bytes], Awaitable[None]]) -> None:
    """Reads by group, posts with eight at a time, acknowledges."""
    client: Any = redis.asyncio.Redis.from_url(store)
    await client.xgroup_create(STREAM, "w", id="0", mkstream=True)
    queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=64)

    async def work() -> None:
        while True:
            entry, fields = await queue.get()
            await post(fields[b"id"].decode(), fields[b"event"])
            await client.xack(STREAM, "w", entry)

    workers = [asyncio.ensure_future(work()) for _ in range(AT_ONCE)]
    reader: Any = redis.asyncio.Redis.from_url(store)
    while workers:
        reply = await reader.xreadgroup("w", "c", {STREAM: ">"}, count=64, block=1000)
        rows = reply.items() if isinstance(reply, dict) else reply
        for _, entries in rows or ():
            for entry in entries[0] if entries and isinstance(entries[0], list) else entries:
                await queue.put(entry)


async def _bare(store: str, url: str) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def post(event_id: str, body: bytes) -> None:
            async with session.post(url, data=body, headers=signed(event_id, body)) as reply:
                await reply.read()

        await _group_worker(store, post)


async def _httpx(store: str, url: str) -> None:
    async with httpx.AsyncClient() as client:

        async def post(event_id: str, body: bytes) -> None:
            await client.post(url, content=body, headers=signed(event_id, body))

        await _group_worker(store, post)


async def _poller(store: str, *urls: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    connection = Connection.open(store)

    async def announce(*_: Any) -> None:
        return None

    endpoints = [
        Endpoint(
            settings=EndpointSettings(
                name=f"bench{at}",
                url=url,
                secrets=(SECRET,),
                start="oldest",
                concurrency=AT_ONCE,
                allow_private=(ip_network("127.0.0.0/8"),),
            ),
            connection=connection,
            keys=Keys(),
            sources=["bench"],
            fence=1,
            now=time.time,
            chance=random.random,
            announce=announce,
        )
        for at, url in enumerate(urls)
    ]
    await asyncio.gather(*(endpoint.run(asyncio.Event()) for endpoint in endpoints))


def _run(work: Callable[..., Awaitable[None]], store: str, *urls: str) -> None:
    asyncio.run(work(store, *urls))  # type: ignore[arg-type]


CELERY = """
import base64, hashlib, hmac, os, time
import celery, requests
app = celery.Celery("bench", broker=os.environ["STORE"])
session = requests.Session()
@app.task(acks_late=True)
def send(event_id, body):
    stamp = str(int(time.time()))
    text = f"{event_id}.{stamp}.".encode() + body.encode()
    mac = hmac.digest(os.environ["SECRET"].encode(), text, hashlib.sha256)
    session.post(os.environ["URL"], data=body.encode(), headers={"content-type": "application/json",
        "webhook-id": event_id, "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode()})
"""


# --- measuring ----------------------------------------------------------------------------------------


class Bench:
    """One receiver, and one contender after the other, each on a server of its own."""

    def __init__(self, url: str, context: Any) -> None:
        self.url = url
        self._context = context

    async def told(self) -> list[list[Any]]:
        """What was received since the last call."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/told") as reply:
            found: list[list[Any]] = await reply.json(content_type=None)
        return found

    async def until(self, count: int, timeout_s: float, path: str = "/ok") -> list[list[Any]]:
        """Wait until so many were received."""
        seen: list[list[Any]] = []
        end = time.monotonic() + timeout_s
        while len([each for each in seen if each[0].startswith(path)]) < count and time.monotonic() < end:
            await asyncio.sleep(0.05)
            seen += await self.told()
        return seen

    def start(self, work: Callable[..., Awaitable[None]], store: str, *urls: str) -> Any:
        """Start a contender's process."""
        process = self._context.Process(target=_run, args=(work, store, *urls), daemon=True)
        process.start()
        return process


async def _add(client: Any, first: int, count: int, rate: float = 0.0) -> None:
    """Put events into the stream: all at once, or evenly at `rate` per second."""
    begin = time.perf_counter()
    for at in range(0, count, 1 if rate else 100):
        if rate:
            await asyncio.sleep(max(0.0, begin + at / rate - time.perf_counter()))
            await client.xadd(STREAM, dict(fields_of(event(first + at))))
            continue
        pipe = client.pipeline(transaction=False)
        for number in range(first + at, first + min(at + 100, count)):
            pipe.xadd(STREAM, dict(fields_of(event(number))))
        await pipe.execute()


async def contend(
    bench: Bench, work: Callable[..., Awaitable[None]], events: int, seconds: float
) -> dict[str, float]:
    """One contender: burst, then half load."""
    server = realserver.start()
    client: Any = redis.asyncio.Redis.from_url(server.url)
    await bench.told()
    await _add(client, 0, events)
    process = bench.start(work, server.url, f"{bench.url}/ok")
    try:
        seen = await bench.until(events, 120)
        moments = sorted(each[2] for each in seen)
        rate = (len(moments) - 1) / (moments[-1] - moments[0])
        load = rate / 2
        await _add(client, events, int(load * seconds), load)
        later = await bench.until(int(load * seconds), 30)
        delays = sorted(each[1] * 1000 for each in later)
        return {"rate": rate, "p50": statistics.median(delays), "p99": delays[int(len(delays) * 0.99) - 1]}
    finally:
        process.terminate()
        process.join()
        await client.aclose()
        server.stop()


async def contend_celery(bench: Bench, events: int) -> dict[str, float]:
    """Celery with its Redis broker and requests, prefork 2: the burst only."""
    import celery  # noqa: PLC0415 -- only where it is installed

    server = realserver.start()
    store = server.url.replace("unix://", "redis+socket://")
    folder = Path(tempfile.mkdtemp(prefix="poller-bench-"))
    (folder / "bench_celery.py").write_text(CELERY)
    env = {"STORE": store, "URL": f"{bench.url}/ok", "SECRET": SECRET.decode(), "PYTHONPATH": str(folder)}
    app = celery.Celery("bench", broker=store)
    await bench.told()
    for number in range(events):
        each = event(number)
        app.send_task("bench_celery.send", args=[each.id, each.body.decode()])
    command = [sys.executable, "-m", "celery", "-A", "bench_celery", "worker", "-c", "2", "-l", "ERROR"]
    process = subprocess.Popen(  # noqa: ASYNC220 -- started once, before anything is measured
        command, env={"PATH": "/usr/bin:/bin", **env}, cwd=folder
    )
    try:
        moments = sorted(each[2] for each in await bench.until(events, 180))
        return {"rate": (len(moments) - 1) / (moments[-1] - moments[0])}
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
        server.stop()


async def isolate(bench: Bench, seconds: float, rate: float = 50.0) -> dict[str, float]:
    """Ten endpoints at 50 events a second: all well, and then one that hangs and one that drips."""
    found: dict[str, float] = {}
    for name, bad in (("well", ["/ok8", "/ok9"]), ("ill", ["/hang", "/drip"])):
        server = realserver.start()
        client: Any = redis.asyncio.Redis.from_url(server.url)
        await bench.told()
        urls = [f"{bench.url}{path}" for path in [f"/ok{at}" for at in range(8)] + bad]
        process = bench.start(_poller, server.url, *urls)
        try:
            await _add(client, 0, 10, 10)
            await bench.until(80, 20)
            count = int(rate * seconds)
            await _add(client, 10, count, rate)
            seen = await bench.until(8 * count, 30)
            mine = sorted(e[1] * 1000 for e in seen if e[0][1:] in {f"ok{at}" for at in range(8)})
            found[f"{name} share"] = len(mine) / (8 * count)
            found[f"{name} p99"] = mine[int(len(mine) * 0.99) - 1]
        finally:
            process.terminate()
            process.join()
            await client.aclose()
            server.stop()
    return found


def show(rows: dict[str, dict[str, float]], apart: dict[str, float]) -> None:
    """The tables."""
    base = rows["bare aiohttp"]["rate"]
    print(f"\n{'':<14}{'per second':>12}{'of bare':>10}{'p50 at half load':>18}{'p99':>10}")
    for name, row in rows.items():
        delays = f"{row['p50']:>15.1f} ms{row['p99']:>8.1f} ms" if "p50" in row else ""
        print(f"{name:<14}{row['rate']:>12.0f}{row['rate'] / base:>9.0%} {delays}")
    print("\nten endpoints, one hangs and one drips:")
    print(f"the other eight got {apart['ill share']:.1%} of theirs, p99 {apart['ill p99']:.1f} ms,")
    print(f"{apart['ill p99'] / apart['well p99']:.2f} × of what it is when all are well")


async def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready, out = context.Queue(), context.Queue()
    receiver = context.Process(target=receive, args=(ready, out), daemon=True)
    receiver.start()
    bench = Bench(f"http://127.0.0.1:{ready.get(timeout=30)}", context)
    try:
        run = partial(contend, bench, events=given.events, seconds=given.seconds)
        rows = {"bare aiohttp": await run(_bare), "poller": await run(_poller), "httpx": await run(_httpx)}
        if importlib.util.find_spec("celery") and importlib.util.find_spec("requests"):
            rows["Celery"] = await contend_celery(bench, min(given.events, 2000))
        show(rows, await isolate(bench, given.seconds))
    finally:
        receiver.terminate()


if __name__ == "__main__":
    asyncio.run(main())
