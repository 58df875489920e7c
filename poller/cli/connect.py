"""How commands reach Redis: the one of the settings, else the embedded server while `poller run` holds it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import typer

from poller.app.front import context_of
from poller.app.wiring import redis_url
from poller.config import Settings, rows
from poller.errors import SettingsError
from poller.store import embedded
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.web import Pulse, WebContext
from poller.web.words import unknown

from .output import tell
from .root import open_settings

SILENT_S: Final = 1.0
"""What takes longer says so."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Store:
    """What a command works with."""

    settings: Settings
    connection: Connection
    keys: Keys
    server: str = ""
    """Where Redis is, as it may be shown; the embedded server's is what `subscribe` takes."""

    @property
    def context(self) -> WebContext:
        """What the page stands on: commands tell and do the same."""
        return context_of(self.settings, self.connection, self.keys, pulse=_no_service)


def _no_service() -> Pulse:
    return Pulse(ticking=False, silent_s=0.0, restarts=0, reasons=(), held={})


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[Store]:
    """Connect for as long as the block runs.

    Raises:
        StoreUnavailable: no redis.url is set, and nothing runs in data_dir.
    """
    named = redis_url(settings)
    url = named or await embedded.attached(settings.data_dir)
    shown = next(str(row.value) for row in rows(settings) if row.setting == "redis.url") if named else url
    connection = Connection.open(url)
    try:
        yield Store(settings, connection, Keys(settings.redis.prefix), shown)
    finally:
        await connection.close()


def with_store(
    ctx: typer.Context,
    config: Path | None,
    work: Callable[[Store], Awaitable[ResultT]],
    *,
    quiet: bool = False,
) -> ResultT:
    """Open settings and store, do the work of a command, and give what came of it."""
    settings = open_settings(ctx, config, quiet=quiet)

    async def main() -> ResultT:
        async with reached(settings) as store:
            return await work(store)

    return asyncio.run(main())


@asynccontextmanager
async def patience(text: str) -> AsyncIterator[None]:
    """Say on stderr what is being done, if it takes more than a second."""
    handle = asyncio.get_running_loop().call_later(SILENT_S, tell, text)
    try:
        yield
    finally:
        handle.cancel()


def demand_known(what: str, name: str, known: Iterable[str]) -> None:
    """Accept the name of a source or webhook.

    Raises:
        SettingsError: there is none of that name; the message has the nearest one.
    """
    names = tuple(known)
    if name not in names:
        raise SettingsError([unknown(what, name, names)])
