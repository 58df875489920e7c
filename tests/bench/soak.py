"""The whole service in accelerated time: memory per 10,000 sweeps, tasks and descriptors, after warm-up.

    python tests/bench/soak.py [--sweeps 10000] [--events 100000]                  about ten minutes
    python tests/bench/soak.py --sweeps 100000 --events 1000000 --rate 380         the full form, 45 minutes

The service (sources, delivery, HTTP side, metrics) is alone in this process; the account that changes, the
receiver and Valkey are others. The account keeps its size: what grows is ours.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import aiohttp
import realserver
from aiohttp import web

from poller import log
from poller.app import Ears, serve
from poller.config import Settings
from poller.deliver.signing import encode_secret
from poller.simulators import Options
from poller.simulators import serve as simulated

RECORDS, SECRET = 60, bytes(range(32))
WARM_S = 45.0
"""Not measured: what was paid is remembered for a request's deadline and a window, pools and caches fill. A
run that is too short for that is measured over its last quarter."""
SAMPLES = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment."""

    sweeps: int
    at: float
    """Monotonic seconds."""
    rss_mb: float
    tasks: int
    descriptors: int


@dataclass
class Told:
    """What a soak came to."""

    sweeps: int = 0
    events: int = 0
    delivered: int = 0
    took_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def warm(self) -> Sequence[Sample]:
        """The samples after warm-up."""
        late = [each for each in self.samples if each.at > self.samples[0].at + WARM_S]
        least = self.samples[-len(self.samples) // 4 :]
        return late if len(late) > len(least) else least

    @property
    def slope_mb(self) -> float:
        """Growth of resident memory per 10,000 sweeps."""
        line = statistics.linear_regression([s.sweeps for s in self.warm], [s.rss_mb for s in self.warm])
        return float(line.slope) * 10_000

    def spread(self, name: str) -> tuple[int, int]:
        """Least and most of a number over the samples."""
        values = [getattr(each, name) for each in self.warm]
        return min(values), max(values)


def world(ready: Any, rate: float) -> None:
    """Another process: an account of which so many records change each second, and the receiver."""

    async def main() -> None:
        app, runner = web.Application(), None

        async def take(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(status=204)

        app.router.add_post("/hook", take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with simulated("drum", options=Options(records=RECORDS, seed=5, keep=1000)) as sim:
            ready.put((sim.url, sim.token, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"))
            rows = sim.world.rows.items()
            records = cycle(key for key, row in rows if row.kind == "opportunity" and not row.archived)
            began, done = time.monotonic(), 0
            while True:
                await asyncio.sleep(0.05)
                for _ in range(int((time.monotonic() - began) * rate) - done):
                    done += 1
                    sim.orders.update(next(records), name=f"Called {done}")

    asyncio.run(main())


def settings(store: str, url: str, token: str, hook: str) -> Settings:
    """One source that is read again and again, one endpoint that gets everything."""
    # What was paid is remembered for one window: a short one is full before the measuring begins.
    acme = {"kind": "drum", "token": token, "base_url": url, "every": "10ms", "budget": "100000/5s"}
    return Settings.model_validate(
        {
            "redis": {"url": store, "retention": "1m"},
            "web": {"port": 0},
            "sources": {"acme": {**acme, "details": False}},
            "webhooks": {
                "hook": {
                    "url": hook,
                    "secrets": [encode_secret(SECRET)],
                    "from": "oldest",
                    "concurrency": 32,
                    "allow_private": ["127.0.0.0/8"],
                }
            },
        }
    )


def look(sweeps: int) -> Sample:
    """At this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return Sample(sweeps, time.monotonic(), pages * 4096 / 1e6, len(asyncio.all_tasks()), descriptors)


async def soak(
    given: Settings, *, sweeps: int, events: int, progress: Callable[[Told], None] | None = None
) -> Told:
    """Run the service until it has swept and told so often; `progress` hears of each sample."""
    told, stop, page = Told(), asyncio.Event(), list[str]()
    step = max(1, sweeps // SAMPLES)

    def swept(*_: Any) -> None:
        told.sweeps += 1
        if told.sweeps % step == 0:
            told.samples.append(look(told.sweeps))
            if progress:
                progress(told)
        if told.sweeps >= sweeps and told.events >= events:
            stop.set()

    def said(_: str, these: Sequence[Any]) -> None:
        told.events += len(these)

    def attempted(_: str, attempt: Any) -> None:
        told.delivered += attempt.outcome == "delivered"

    async def scraping() -> None:
        async with aiohttp.ClientSession() as http:
            while not stop.is_set():
                await asyncio.sleep(1)
                with suppress(aiohttp.ClientError):  # the last may come after the end
                    async with http.get(f"{page[0]}/metrics") as answer:
                        await answer.read()

    ears = Ears(swept=[swept], said=[said], attempted=[attempted], serving=[page.append])
    began = time.monotonic()
    scrapes = asyncio.create_task(scraping())
    try:
        await serve(given, ears=ears, stop=stop)
    finally:
        stop.set()
        await scrapes
    told.took_s = time.monotonic() - began
    return told


def run(*, sweeps: int, events: int, rate: float, progress: Callable[[Told], None] | None = None) -> Told:
    """The processes around it, and the soak."""
    log.configure(level="error", secrets=())
    context = multiprocessing.get_context("spawn")
    ready, server = context.Queue(), realserver.start()
    around = context.Process(target=world, args=(ready, rate), daemon=True)
    around.start()
    try:
        given = settings(server.url, *ready.get(timeout=60))
        return asyncio.run(soak(given, sweeps=sweeps, events=events, progress=progress))
    finally:
        around.terminate()
        around.join()
        server.stop()


def words(told: Told) -> str:
    """The figures in one line."""
    low, high = told.spread("tasks")
    least, most = told.spread("descriptors")
    return (
        f"{told.sweeps:,} sweeps, {told.events:,} events, {told.delivered:,} delivered in "
        f"{told.took_s:.0f} s: {told.slope_mb:+.2f} MB per 10,000 sweeps "
        f"({told.warm[0].rss_mb:.0f} → {told.warm[-1].rss_mb:.0f} MB), "
        f"tasks {low}–{high}, descriptors {least}–{most}"
    )


def show(told: Told) -> None:
    """How far it is, on stderr."""
    now = told.samples[-1]
    print(
        f"{now.at - told.samples[0].at:,.0f} s: {told.sweeps:,} sweeps, {told.events:,} events, "
        f"{told.delivered:,} delivered, {now.rss_mb:.1f} MB, {now.tasks} tasks, "
        f"{now.descriptors} descriptors",
        file=sys.stderr,
    )


def main() -> None:
    """Soak, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweeps", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200.0, help="changes of the account a second")
    given = parser.parse_args()
    print(words(run(sweeps=given.sweeps, events=given.events, rate=given.rate, progress=show)))


if __name__ == "__main__":
    main()
