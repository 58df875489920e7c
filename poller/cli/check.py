"""`poller check`: whether all of it will work, before the first run and after each change.

Step by step; each failure names its remedy. Publishes nothing: every request to a CRM is paid from the
budget that `poller run` uses; receivers are resolved and judged, and not called.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import typer
from rich.text import Text

from poller.app.wiring import redis_url
from poller.config import Settings, WebhookSettings
from poller.deliver.outbound import AddressGuard, Blocked, VettedResolver, is_public, plain
from poller.errors import StoreError
from poller.store import embedded
from poller.store.connection import Connection
from poller.store.datadir import home
from poller.store.embedded import Embedded
from poller.store.keys import Keys
from poller.web.words import plural

from .check_source import Step, Tell, look_at_source
from .connect import Store, patience
from .output import Screen, clean, show_json
from .root import EXIT_UNAVAILABLE, EXIT_UNWELL, ConfigOption, JsonOption, app, open_settings

RESOLVE_S = 10.0
REDIS = "redis"
"""The step that decides whether the exit code is 69."""
PORTS = {"http": 80, "https": 443}
_STYLES = {"ok": "green", "warning": "bold yellow", "failed": "bold red"}


@app.command()
def check(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Try everything out: settings, Redis, one call of each source, the name of each webhook.

    Publishes nothing and sends nothing to webhooks; each request to a CRM is paid from its budget.
    """
    settings = open_settings(ctx, config, level="error", quiet=True)
    steps: list[Step] = []
    show = (lambda _step: None) if as_json else _line()

    def tell(step: Step) -> None:
        steps.append(step)
        show(step)

    asyncio.run(checked(settings, tell))
    well = all(step.state != "failed" for step in steps)
    if as_json:
        show_json({"well": well, "steps": [asdict(step) for step in steps]})
    if not well:
        away = any((step.step, step.state) == (REDIS, "failed") for step in steps)
        raise typer.Exit(EXIT_UNAVAILABLE if away else EXIT_UNWELL)


async def checked(settings: Settings, tell: Tell) -> None:
    """Look at everything, in the order in which it would be needed."""
    look_at_settings(settings, tell)
    async with AsyncExitStack() as stack:
        store = await open_store(settings, tell, stack)
        for name in settings.sources:
            if store is None:
                said = "not asked: each request is paid from the budget, which Redis keeps"
                tell(Step(step=f"source {name}", state="failed", said=said, remedy="see redis above"))
                continue
            try:
                await look_at_source(store, name, tell)
            except StoreError as exc:
                tell(Step(step=REDIS, state="failed", said=str(exc)))
                store = None
    for name, given in settings.webhooks.items():
        await look_at_endpoint(name, given, tell)


def _line() -> Callable[[Step], None]:
    screen = Screen()

    def show(step: Step) -> None:
        line = Text.assemble((f"{step.state:<8}", _STYLES[step.state]), f"{step.step}: {clean(step.said)}")
        if step.remedy:
            line.append(f"\n        → {clean(step.remedy)}", "bold")
        screen.print(line)

    return show


# --- settings ---------------------------------------------------------------------------------------


def look_at_settings(settings: Settings, tell: Tell) -> None:
    """What they set up; they could be read, or nobody would be here."""
    server = "a Redis of your own" if redis_url(settings) else f"an embedded server in {settings.data_dir}"
    told = f"{plural(len(settings.sources), 'source')}, {plural(len(settings.webhooks), 'webhook')}, {server}"
    tell(Step(step="settings", state="ok", said=told))
    if not settings.sources:
        remedy = "run `poller init`, or set POLLER_DRUM_TOKEN"
        tell(Step(step="settings", state="failed", said="no source is set up", remedy=remedy))
    for warning in settings.warnings:
        tell(Step(step="settings", state="warning", said=warning))


# --- Redis ----------------------------------------------------------------------------------------


async def open_store(settings: Settings, tell: Tell, stack: AsyncExitStack) -> Store | None:
    """Reach Redis until the stack ends; None where it cannot be used."""
    try:
        async with patience("reaching Redis"):
            url, where = await stack.enter_async_context(_server(settings, tell))
            connection = Connection.open(url)
            stack.push_async_callback(connection.close)
            info = await connection.check()
    except StoreError as exc:
        tell(Step(step=REDIS, state="failed", said=str(exc)))
        return None
    kept = ", append-only file" if info.append_only else ""
    facts = {
        "server": info.name,
        "version": info.version,
        "policy": info.policy,
        "append_only": info.append_only,
    }
    told = f"{where}: {info.name} {info.version}, {info.policy}{kept}"
    tell(Step(step=REDIS, state="ok", said=told, facts=facts))
    for warning in info.warnings:
        tell(Step(step=REDIS, state="warning", said=warning))
    return Store(settings, connection, Keys(settings.redis.prefix))


@asynccontextmanager
async def _server(settings: Settings, tell: Tell) -> AsyncIterator[tuple[str, str]]:
    """(url, what it is) of the server of the settings; the embedded one is started where none runs.

    In data_dir itself, where that is ours: so what is paid here counts for the `poller run` that follows,
    and it is shown that the directory can be used.
    """
    url = redis_url(settings)
    if url is not None:
        yield url, "the server of redis.url"
        return
    url = await embedded.attach(settings.data_dir)
    if url is not None:
        yield url, "the embedded server, which runs"
        return
    with TemporaryDirectory(prefix="poller-check-") as spare:
        ours = _is_ours(home(settings.data_dir))
        if not ours:
            remedy = "run `poller check` as the user that runs `poller run`"
            told = f"data_dir {settings.data_dir} is another user's, so it was not tried"
            tell(Step(step=REDIS, state="warning", said=told, remedy=remedy))
        server = Embedded(fsync=settings.redis.durability == "fsync")
        url = await server.start(settings.data_dir if ours else Path(spare))
        try:
            yield url, "the embedded server, started for this check"
        finally:
            await server.stop()


def _is_ours(directory: Path) -> bool:
    """Files of ours in another user's data_dir would keep that user's server out."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    return nearest.stat().st_uid == os.getuid()


# --- endpoints --------------------------------------------------------------------------------------


async def look_at_endpoint(name: str, given: WebhookSettings, tell: Tell) -> None:
    """Resolve its host and judge the addresses, as each delivery does; nothing is sent."""
    step = f"webhook {name}"
    url = urlsplit(given.url.get_secret_value())
    host, port = url.hostname or "", url.port or PORTS.get(url.scheme, 443)
    resolver = VettedResolver(AddressGuard(given.allow_private))
    try:
        async with asyncio.timeout(RESOLVE_S), patience(f"resolving {host}"):
            found = [each["host"] for each in await resolver.resolve(host, port)]
    except Blocked as exc:
        remedy = f"add it to allow_private of [webhooks.{name}] if this receiver is meant"
        tell(Step(step=step, state="failed", said=str(exc), remedy=remedy))
        return
    except (OSError, TimeoutError) as exc:
        remedy = "check the host in its url, and this machine's DNS"
        tell(Step(step=step, state="failed", said=f"{host} does not resolve: {_why(exc)}", remedy=remedy))
        return
    finally:
        await resolver.close()
    private = [address for address in found if not is_public(plain(address))]
    let_in = " (let in by allow_private)" if private else ""
    told = f"{host} resolves to {', '.join(found)}{let_in}; `poller webhooks test {name}` sends an example"
    tell(Step(step=step, state="ok", said=told, facts={"host": host, "addresses": found}))
    if url.scheme == "http" and not private:
        remedy = "use https: events carry amounts and names"
        tell(
            Step(
                step=step,
                state="warning",
                said="its url is http, which anybody on the way reads",
                remedy=remedy,
            )
        )


def _why(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {RESOLVE_S:g} s"
    return getattr(exc, "strerror", None) or type(exc).__name__
