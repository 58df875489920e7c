"""README's "Adding a source", followed word for word: a fourth, made-up API is polled over real HTTP."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from waiting import wait_until

from poller.model import loads
from poller.simulators.serving import listening
from poller.store.connection import Connection
from poller.store.keys import Keys

ROOT = Path(__file__).parent.parent.parent
SECTION = (ROOT / "README.md").read_text("utf-8").partition("## Adding a source\n")[2].partition("\n## ")[0]
MOST_LINES = 60
TOKEN, PAGE = "n1mbus", 2
STARTS_S, CHANGE_S = 60, 30
"""What a busy machine may take."""


class Nimbus:
    """The made-up API: GET /deals?page=N and /deals/ID, bare JSON, no times, no order to rely on."""

    def __init__(self) -> None:
        self.deals = {
            number: {"id": number, "title": f"Deal {number}", "status": "open"} for number in (1, 2, 3)
        }

    def app(self) -> Starlette:
        """The API itself."""
        return Starlette(routes=[Route("/deals", self._list), Route("/deals/{id:int}", self._show)])

    async def _list(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "who are you?"}, 401)
        first = (int(request.query_params["page"]) - 1) * PAGE
        return JSONResponse(list(self.deals.values())[first : first + PAGE])

    async def _show(self, request: Request) -> Response:
        deal = self.deals.get(request.path_params["id"])
        return JSONResponse(deal or {"error": "no such deal"}, 200 if deal else 404)


def follow(folder: Path) -> dict[str, str]:
    """Do what the section says, in a copy of the package; gives the environment that uses it."""
    shutil.copytree(ROOT / "poller", folder / "poller", ignore=shutil.ignore_patterns("__pycache__"))
    place = re.search(r"here `(poller/watch/sources/\w+\.py)`", SECTION)
    code = re.search(r"<!-- test: nimbus -->\n```python\n(.*?)```", SECTION, re.DOTALL)
    lines = re.search(r"Then `(from [^`]+)` and `([^`]+,)` in `([^`]+)`", SECTION)
    assert place
    assert code
    assert lines
    (folder / place[1]).write_text(code[1], "utf-8")
    registry = folder / lines[3]
    text = registry.read_text("utf-8")
    text = text.replace("from .pipedrive", f"{lines[1]}\nfrom .pipedrive").replace(
        "= {\n", f"= {{\n    {lines[2]}\n"
    )
    registry.write_text(text, "utf-8")
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def settings(folder: Path, *, redis: str, crm: str) -> Path:
    """As a user would write them: nothing but the kind is new."""
    path = folder / "poller.toml"
    path.write_text(
        f'[redis]\nurl = "{redis}"\n[web]\nport = 0\n'
        f'[sources.acme]\nkind = "nimbus"\ntoken = "{TOKEN}"\nbase_url = "{crm}"\nevery = "200ms"\n'
        'budget = "6000/1m"\n'
    )
    path.chmod(0o600)
    return path


@asynccontextmanager
async def running(environment: dict[str, str], config: Path) -> AsyncIterator[None]:
    """`poller run` with the fourth source; it ends well when it is told to."""
    with config.with_name("run.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "poller", "run", "--config", str(config),
            env=environment, cwd=config.parent, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STARTS_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def told(connection: Connection) -> list[dict[str, Any]]:
    """Every event of the source."""
    redis: Any = connection.commands
    return [loads(fields[b"event"]) for _, fields in await redis.xrange(Keys().events("acme"))]


async def comes(
    connection: Connection, kind: str, subject: str, within_s: float = CHANGE_S
) -> dict[str, Any]:
    """The next event, which is this one; there are no others."""

    async def last() -> dict[str, Any] | None:
        found = await told(connection)
        return found[-1] if found and (found[-1]["type"], found[-1]["subject"]) == (kind, subject) else None

    event: dict[str, Any] = await wait_until(last, f"{kind} of {subject}", within_s)
    return event


def test_the_section_is_short() -> None:
    """A source is added in under 60 lines, words and code together."""
    assert 0 < len(SECTION.splitlines()) + 1 < MOST_LINES


@pytest.mark.full
async def test_a_fourth_api_by_the_book(tmp_path: Path, redis_url: str) -> None:
    """One file and one line: it is polled, and its deals are created, updated, won, lost and removed."""
    nimbus, environment = Nimbus(), follow(tmp_path)
    connection = Connection.open(redis_url)
    async with listening(nimbus.app()) as url:
        config = settings(tmp_path, redis=redis_url, crm=url)
        async with running(environment, config):
            await comes(connection, "poller.source.baseline_completed", "source/acme", STARTS_S)
            nimbus.deals[4] = {"id": 4, "title": "Roof", "status": "open"}
            await comes(connection, "nimbus.deal.created", "deal/4")
            nimbus.deals[4]["title"] = "Roof and walls"
            updated = await comes(connection, "nimbus.deal.updated", "deal/4")
            assert updated["data"]["previous"] == {"title": "Roof"}
            nimbus.deals[4]["status"] = "won"
            won = await comes(connection, "nimbus.deal.won", "deal/4")
            assert won["source"] == "/nimbus/acme"
            assert won["data"]["deal"]["name"] == "Roof and walls"
            assert won["data"]["deal"]["url"] == f"{url}/deals/4"
            nimbus.deals[2]["status"] = "lost"
            await comes(connection, "nimbus.deal.lost", "deal/2")
            del nimbus.deals[1]
            await comes(connection, "nimbus.deal.removed", "deal/1")
        assert len(await told(connection)) == 6
    await connection.close()


@pytest.mark.full
def test_the_rest_of_the_house_follows(tmp_path: Path) -> None:
    """Schemas, settings and the wizard know the fourth kind without a word more."""
    environment = follow(tmp_path)

    def poller(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "poller", *arguments],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    schema = json.loads(poller("schema", "--type", "nimbus.deal.won").stdout)
    assert schema["properties"]["type"]["const"] == "nimbus.deal.won"
    written = poller("init", "--kind", "nimbus", "--token", TOKEN)
    assert written.returncode == 0, written.stderr
    assert 'token = "${NIMBUS_TOKEN}"' in (tmp_path / "poller.toml").read_text()
    shown = poller("config", "show").stdout
    assert re.search(
        r"^sources\.nimbus\.base_url +https://api\.nimbus\.example +default$", shown, re.MULTILINE
    )
    assert re.search(r"^sources\.nimbus\.budget +60/1?m +default$", shown, re.MULTILINE)
