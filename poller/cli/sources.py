"""`poller sources`: look at sources, and leave requests for whoever polls them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from poller.errors import SettingsError
from poller.web.actions import Actions, Refused, SourceDo

from .completing import source_names
from .connect import Store, with_store
from .output import complain, say, show_json
from .root import EXIT_UNWELL, ConfigOption, JsonOption
from .root import app as root
from .status import look, show_sources

app = typer.Typer(no_args_is_help=True)
root.add_typer(app, name="sources", help="Look at sources, and ask things of them.")

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The source's name in the settings.", autocompletion=source_names),
]


@app.callback()
def _sources() -> None:
    """Look at sources, and ask things of them."""


@app.command("list")
def list_(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the sources and how each stands."""

    show_sources(with_store(ctx, config, look).sources, as_json=as_json)


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
    _ask(ctx, name, "poll", record=record or "", config=config, as_json=as_json)


@app.command()
def pause(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Stop reading a source until it is resumed; what changes meanwhile is found then."""
    _ask(ctx, name, "pause", config=config, as_json=as_json)


@app.command()
def resume(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Go on with a source that was paused, and ask one at once that is suspended."""
    _ask(ctx, name, "resume", config=config, as_json=as_json)


@app.command()
def resync(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Read everything again, lists and details, and publish the differences."""
    _ask(ctx, name, "resync", config=config, as_json=as_json)


@app.command()
def release(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Say that records which are missing all at once are really gone: their removals go on."""
    _ask(ctx, name, "release", config=config, as_json=as_json)


def _ask(
    ctx: typer.Context, name: str, do: SourceDo, *, record: str = "", config: Path | None, as_json: bool
) -> None:
    async def work(store: Store) -> dict[str, Any]:
        return await ask(store, name, do, record=record)

    told = with_store(ctx, config, work)
    if as_json:
        show_json(told)
    elif told["asked"]:
        say(f"{name}: {told['means']}")
    else:
        complain(told["means"])
    if not told["asked"]:
        raise typer.Exit(EXIT_UNWELL)


async def ask(store: Store, name: str, do: SourceDo, *, record: str = "") -> dict[str, Any]:
    """Leave a request for whoever polls the source; tell what it will do, and for whom it waits.

    Raises:
        SettingsError: there is no such source, or its records cannot be read by such a name.
    """
    actions = Actions(store.context)
    told: dict[str, Any] = {"source": name, "do": do, **({"record": record} if record else {})}
    try:
        plan = await actions.source(name, do, record=record)
        holder = (await actions.source_standing(name)).held_by
        done = await plan.perform()
    except Refused as exc:
        if exc.code != "conflict":
            raise SettingsError([str(exc)]) from exc
        return {**told, "asked": False, "means": str(exc)}
    return {**told, "asked": done.done, "means": done.means, "touches": done.touches, "polled_by": holder}
