"""`poller sources`: look at sources, and leave requests for whoever polls them."""

from typing import Annotated, Any

import typer

from poller.app.standing import Inspector, SourceStanding
from poller.errors import SettingsError
from poller.model import dumps
from poller.store import snapshots
from poller.watch.ledger import Memory
from poller.watch.sources import SOURCES

from .output import complain, say, show_json, warn
from .reach import UNWELL, Store, demand_known, with_store
from .root import ConfigOption, JsonOption
from .root import app as root
from .status import show_sources

app = typer.Typer(no_args_is_help=True)
root.add_typer(app, name="sources", help="Look at sources, and ask things of them.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The source's name in the settings.")]


@app.callback()
def _sources() -> None:
    """Look at sources, and ask things of them."""


@app.command("list")
def list_(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the sources and how each stands."""

    async def look(store: Store) -> list[SourceStanding]:
        return await Inspector(store.settings, store.connection, store.keys).sources()

    show_sources(with_store(ctx, config, look), as_json=as_json)


@app.command()
def poll(
    ctx: typer.Context,
    name: NameArgument,
    record: Annotated[
        str | None, typer.Option(help="Read this record only, e.g. opportunity/101; else all lists.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a source now, within its budget, instead of at its next turn."""
    _ask(ctx, name, {"do": "poll", **({"record": record} if record else {})}, config=config, as_json=as_json)


@app.command()
def pause(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Stop reading a source until it is resumed; what changes meanwhile is found then."""
    _ask(ctx, name, {"do": "pause"}, config=config, as_json=as_json)


@app.command()
def resume(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Go on with a source that was paused, and ask one at once that is suspended."""
    _ask(ctx, name, {"do": "resume"}, config=config, as_json=as_json)


@app.command()
def resync(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Read everything again, lists and details, and publish the differences."""
    _ask(ctx, name, {"do": "resync"}, config=config, as_json=as_json)


@app.command()
def release(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Say that records which are missing all at once are really gone: their removals go on."""
    _ask(ctx, name, {"do": "release"}, config=config, as_json=as_json)


def _ask(ctx: typer.Context, name: str, request: dict[str, Any], *, config: Any, as_json: bool) -> None:
    async def work(store: Store) -> dict[str, Any]:
        return await ask(store, name, request)

    told = with_store(ctx, config, work)
    if as_json:
        show_json(told)
    elif told["refused"]:
        complain(told["means"])
    else:
        say(told["means"])
    if told["asked"] and told["polled_by"] is None:
        warn(f"nobody polls {name} now: it is done when `poller run` starts")
    if told["refused"]:
        raise typer.Exit(UNWELL)


async def ask(store: Store, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Leave a request for whoever polls the source; tell what it will do, and for whom it waits.

    Raises:
        SettingsError: there is no such source, or its records cannot be read by such a name.
    """
    demand_known("source", name, store.settings.sources)
    demand_readable(store.settings.sources[name].kind, request.get("record"))
    inspector = Inspector(store.settings, store.connection, store.keys)
    memory, holder = await inspector.memory(name), await inspector.source_holder(name)
    records = await _held(store, name, memory) if request["do"] == "release" else None
    refused = memory.paused and request["do"] in ("poll", "resync")
    asked = not refused and records != 0
    if asked:
        await snapshots.ask(store.connection, store.keys, name, dumps(request))
    return {
        "source": name,
        **request,
        "asked": asked,
        "refused": refused,
        "means": _means(name, request, memory, records, details=store.settings.sources[name].details),
        "polled_by": holder.name if holder else None,
        **({} if records is None else {"records": records}),
    }


def demand_readable(kind: str, record: str | None) -> None:
    """Accept KIND/ID of a record that has a detail view of its own.

    Raises:
        SettingsError: it has none, or is no such name.
    """
    if record is None:
        return
    made = SOURCES.get(kind)
    lists = made.lists if made else ()
    what, _, record_id = record.partition("/")
    if what not in lists or not record_id:
        known = " or ".join(f"{each}/ID" for each in lists)
        raise SettingsError([f'--record "{record}": name a record that can be read by itself, as {known}'])


async def _held(store: Store, name: str, memory: Memory) -> int:
    """How many records a release concerns."""
    known = snapshots.Snapshots(store.connection, store.keys, name, fence=0)
    return sum(
        [await known.listed(kind) if mine.strange else mine.held for kind, mine in memory.lists.items()]
    )


def _means(name: str, request: dict[str, Any], memory: Memory, records: int | None, *, details: bool) -> str:
    what, record = request["do"], request.get("record")
    if memory.paused and what in ("poll", "resync"):
        return f"{name} is paused, and nothing of it is read: `poller sources resume {name}` first"
    if what == "poll" and record:
        return f"{name}: {record} is read next, as soon as the budget allows one request"
    again = " and details" if details else ""
    return {
        "poll": f"{name}: all lists are read now, as the budget allows",
        "pause": f"{name}: nothing more is read until `poller sources resume {name}`",
        "resume": f"{name}: reading goes on now; what changed meanwhile is published",
        "resync": f"{name}: lists{again} are read again now, and the differences published",
        "release": f"{name}: {records} records are released; those that are gone are removed as found"
        if records
        else f"{name}: nothing is held, so there is nothing to release",
    }[what]
