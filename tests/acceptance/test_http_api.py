"""Schemathesis over the HTTP API: whatever it makes of the document is answered as the document says."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from website import TOKEN, event, settings_of, site

from poller.store.connection import Connection

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

EXAMPLES, LONG_EXAMPLES = 10, 1_000
KNOWN = """
[[operations]]
include-path-regex = "^/(api/sources|hooks)/"
parameters = { "path.name" = "acme" }
[[operations]]
include-path-regex = "^/api/webhooks/"
parameters = { "path.name" = "billing" }
[[operations]]
include-path-regex = "^/api/records/"
parameters = { "path.source" = "acme", "path.kind" = "opportunity" }
"""
"""Names of things that are there: made-up ones would be answered 404 by everything."""
HELD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


async def schemathesis(url: str, folder: Path, *more: str, checks: tuple[str, ...], examples: int) -> str:
    """Run it on a service, as its users do; fails with what it says where it found a fault."""
    (folder / "schemathesis.toml").write_text(KNOWN)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", ",".join(checks), "--max-examples", str(examples), "--seed", "6", *more),
        *("--phases", "examples,coverage,fuzzing", "--no-color", "--generation-database", "none"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said[-6_000:]
    return said


async def everything(connection: Connection) -> dict[bytes, Any]:
    """All of Redis, but for the chart of the budget, which is written when somebody looks."""
    redis: Any = connection.commands
    keys = [key async for key in redis.scan_iter(count=1000) if b":spent:" not in key]
    return {key: await redis.dump(key) for key in keys}


def examples_of(config: pytest.Config) -> int:
    """For each operation."""
    return LONG_EXAMPLES if config.getoption("--long") else EXAMPLES


async def test_who_may_act_meets_no_fault_of_ours(
    redis_url: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """With the token: no 500; status, type and body as the document says; and without it nothing."""
    connection = Connection.open(redis_url)
    async with site(connection, settings_of()) as here:
        await here.publish(*map(event, range(5)))
        proof = ("--header", f"Authorization: Bearer {TOKEN}")
        await schemathesis(here.url, tmp_path, *proof, checks=HELD, examples=examples_of(pytestconfig))
    await connection.close()


async def test_nothing_acts_without_the_token(
    redis_url: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Whatever is sent by somebody without it, nothing in Redis has moved."""
    connection = Connection.open(redis_url)
    async with site(connection, settings_of()) as here:
        await here.publish(*map(event, range(5)))
        before = await everything(connection)
        checks = ("not_a_server_error",)
        await schemathesis(here.url, tmp_path, checks=checks, examples=examples_of(pytestconfig))
        assert await everything(connection) == before
    await connection.close()
