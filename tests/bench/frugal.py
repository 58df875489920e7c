"""Requests and bytes of one sweep and of one round of details: with and without what saves them.

    python tests/bench/frugal.py [--records 800] [--changed 5]

A simulated Drum over real HTTP behind a relay that counts. Each row is one server and one way to read it;
what is measured is a sweep of both lists, and a reading of every detail, after a few rows have changed.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import realserver
from watching import Watched, watching

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys

SERVERS: dict[str, dict[str, Any]] = {
    "no counts": {},
    "counts": {"headers": "pagy8"},
    "counts, gzip": {"headers": "pagy8", "gzip": True},
    "counts, gzip, tags": {"headers": "pagy8", "gzip": True, "etag": True},
    "no counts, gzip, tags": {"gzip": True, "etag": True},
}
WAYS = {"20 rows a page": 20, "the largest page": 500}
SETTLING = 3
"""Sweeps before the one that is measured: sizes are found, tags are known."""


@dataclass
class Relay:
    """Passes everything on, and counts what comes back."""

    target: str
    bytes: int = 0

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        there = urlsplit(self.target)
        back, forth = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(self._copy(reader, forth, counted=False), self._copy(back, writer, counted=True))

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                self.bytes += len(data) if counted else 0
                target.write(data)
                await target.drain()
        target.close()


@asynccontextmanager
async def relaying(target: str) -> AsyncIterator[tuple[Relay, str]]:
    """A relay before a server while the block runs, and its address."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.pass_on, "127.0.0.1", 0)
    try:
        yield relay, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def measure(watched: Watched, sim: Any, relay: Relay, changed: int) -> list[int]:
    """Requests and bytes of a sweep, then of a round of details, after so many records have changed."""
    for _ in range(SETTLING):
        await watched.sweep()
    await watched.details()
    ids = sorted(row.id for row in sim.world.rows.values() if row.kind == "opportunity")
    for at in range(changed):
        sim.orders.update(ids[at * len(ids) // changed], name=f"Another name {at}")
    found = []
    for work in (watched.sweep, watched.details):
        requests, size = len(sim.wire.requests), relay.bytes
        await work()
        found += [len(sim.wire.requests) - requests, relay.bytes - size]
    return found


async def contest(records: int, changed: int) -> None:
    """Every server, read in every way."""
    store = realserver.start()
    print(f"\n{records} records, {changed} changed{'sweep':>29}{'':>12}{'details':>12}")
    print(f"{'server':<24}{'asked for':<18}{'requests':>9}{'KB':>9}{'requests':>14}{'KB':>9}")
    try:
        for server, switches in SERVERS.items():
            for way, size in WAYS.items():
                store.flush()
                connection = Connection.open(store.url)
                async with (
                    serve("drum", options=Options(records=records, seed=9), **switches) as sim,
                    relaying(sim.url) as (relay, url),
                    watching(
                        connection, Keys(), kind="drum", url=url, token=sim.token, page_size=size
                    ) as watched,
                ):
                    told = await measure(watched, sim, relay, changed)
                await connection.close()
                sweep, details = f"{told[0]:>9}{told[1] / 1024:>9.0f}", f"{told[2]:>14}{told[3] / 1024:>9.0f}"
                print(f"{server:<24}{way:<18}{sweep}{details}", flush=True)
    finally:
        store.stop()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=800)
    parser.add_argument("--changed", type=int, default=5)
    given = parser.parse_args()
    asyncio.run(contest(given.records, given.changed))


if __name__ == "__main__":
    main()
