"""The first run on an account of 100,000 records: silent, quick, small, and Redis is never held up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import realserver
from processes import home
from redis.asyncio import Redis
from waiting import wait_until

from poller.model import dumps, loads
from poller.store.keys import Keys

pytestmark = pytest.mark.full

RECORDS, PAGE = 100_000, 500
WITHIN_S, MEMORY_MB = 60.0, 300.0
COMMAND_MS, COMMAND_BUSY_MS = 50.0, 200.0
"""No command may take longer; on a machine that others use too it may be held up itself."""
Figures = Callable[..., None]


def record(number: int) -> dict[str, Any]:
    """One opportunity as the document's list shows it, about 700 bytes."""
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
        "amount": 250000.50,
        "lead_score": {"id": 4, "name": "Hot Lead"},
        "total_budget": 250000.50,
        "planned": False,
    }


def answer_to(target: str, pages: list[bytes]) -> bytes:
    """What a Drum of so many opportunities, and no project, answers."""
    path, _, query = target.partition("?")
    if path == "/api/v1/opportunities":
        at = int(query.partition("page=")[2].partition("&")[0] or 1) - 1
        return pages[at] if at < len(pages) else b"[]"
    if path.startswith("/api/v1/opportunities/"):
        return dumps(record(int(path.rpartition("/")[2])) | {"deliverables": []})
    return b"[]"


@asynccontextmanager
async def large_account() -> AsyncIterator[str]:
    """Serve it from pages made beforehand while the block runs."""
    numbers = range(1, RECORDS + 1)
    pages = [dumps([record(n) for n in numbers[at : at + PAGE]]) for at in range(0, RECORDS, PAGE)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            body = answer_to(line.split(b" ")[1].decode(), pages)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.fault(22)
@pytest.mark.timeout(300)
async def test_the_first_run_on_a_large_account(tmp_path: Path, figures: Figures) -> None:
    """No event of any record, within a minute, in 300 MB, and no command blocks Redis for long."""
    server = realserver.start("--slowlog-log-slower-than", "5000", "--slowlog-max-len", "1000")
    client: Any = Redis.from_url(server.url)
    try:
        async with large_account() as url:
            acme = {"base_url": url, "token": "t", "every": "1s"}
            async with home(tmp_path, sources={"acme": acme}, redis={"url": server.url}) as place:
                began = time.monotonic()
                running = await place.run()
                await wait_until(lambda: client.xlen(Keys().events("acme")), "the baseline", 3 * WITHIN_S)
                took_s = time.monotonic() - began
                swept = len(running.logged("source.swept"))
                await wait_until(
                    lambda: len(running.logged("source.swept")) >= swept + 2,
                    "the next sweep of each list",
                    60,
                )
                peak_mb = running.memory_mb()
                running.terminate()
                assert await running.end() == 0
        events = [loads(fields[b"event"]) for _, fields in await client.xrange(Keys().events("acme"))]
        known = await client.hlen(Keys().prints("acme", "opportunity"))
        slow = [each["duration"] / 1000 for each in await client.slowlog_get(1000)]
    finally:
        await client.aclose()
        server.stop()
    longest_ms = max(slow, default=0.0)
    figures(
        f"{len(events) - 1} change events, {took_s:.0f} s, {peak_mb:.0f} MB, "
        f"longest command {longest_ms:.0f} ms, {sum(each > COMMAND_MS for each in slow)} over 50 ms",
        rounds=known,
    )
    assert [event["type"] for event in events] == ["poller.source.baseline_completed"]
    assert known == RECORDS
    assert took_s < WITHIN_S
    assert peak_mb < MEMORY_MB
    assert longest_ms < COMMAND_BUSY_MS
