"""Somebody with a token who calls a simulator, over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from poller.model import loads
from poller.simulators import serve


class Caller:
    """Somebody with a token; keeps its connections alive, and unpacks nothing by itself."""

    def __init__(self, sim: Any, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self._session = session

    async def get(
        self, path: str, *, token: str | None = None, base: str = "", **headers: str
    ) -> tuple[int, Any, bytes]:
        secret = self.sim.token if token is None else token
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        url = (base or self.sim.url + "/api/v1") + path
        async with self._session.get(url, headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()

    async def json(self, path: str, **more: Any) -> Any:
        status, _, body = await self.get(path, **more)
        assert status == 200, body
        return loads(body)

    async def admin(self, path: str, **given: Any) -> tuple[int, Any]:
        async with self._session.post(self.sim.admin_url + path, json=given) as answer:
            return answer.status, loads(await answer.read())

    async def crawl(self, path: str, *, items: int = 100) -> list[int]:
        """All ids, page by page, until a page is empty."""
        found: list[int] = []
        for page in range(1, 1000):
            rows = await self.json(f"{path}?items={items}&page={page}")
            if not rows:
                return found
            found += [row["id"] for row in rows]
        raise AssertionError("no end")


@asynccontextmanager
async def calling(kind: str = "drum", **how: Any) -> AsyncIterator[Caller]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        serve(kind, **how) as sim,
        aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
    ):
        yield Caller(sim, session)
