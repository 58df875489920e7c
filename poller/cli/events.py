"""`poller events`: what the streams hold, as readable lines or as JSON lines, and what comes."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import Annotated, TypeAlias

import typer

from poller import schemas
from poller.config import parse_duration
from poller.errors import SettingsError, StoreUnavailable
from poller.model import Entry, loads
from poller.store.letters import Position, position
from poller.store.streams import Streams
from poller.web.words import unknown_type

from .completing import event_types, source_names
from .connect import Store, demand_known, patience, with_store
from .output import Screen, event_line, say, tell, warn
from .root import ConfigOption, app

NEWEST = 50
"""Shown where neither --since nor --follow says what is wanted."""

Wanted: TypeAlias = Callable[[Entry], bool]
Show: TypeAlias = Callable[[Entry], None]


@app.command()
def events(
    ctx: typer.Context,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this source; may be given again.", autocompletion=source_names
        ),
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="GLOB",
            help='Only these types, e.g. "*.won"; may be given again.',
            autocompletion=event_types,
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Everything detected since then, e.g. 1h.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each CloudEvent as a line of JSON.")] = False,
) -> None:
    """Print events, oldest first: the last 50, all --since a while ago, or those that come (--follow)."""
    span_s = _seconds(since)
    wanted = _wanted(type_ or ())
    show = _json_line if as_json else _lines()
    for glob in type_ or ():
        if not any(fnmatchcase(known, glob) for known in schemas.TYPES):
            warn(unknown_type(glob, schemas.TYPES))

    async def work(store: Store) -> None:
        await _print(store, source or (), wanted, show, span_s=span_s, follow=follow)

    try:
        with_store(ctx, config, work, quiet=True)
    except KeyboardInterrupt:
        if not follow:  # which is told to end in no other way
            raise


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text).total_seconds()
    except ValueError as exc:
        raise SettingsError([f'--since "{text}": {exc}']) from exc


def _wanted(globs: Sequence[str]) -> Wanted:
    return lambda entry: not globs or any(fnmatchcase(entry.event.type, glob) for glob in globs)


def _json_line(entry: Entry) -> None:
    say(entry.event.body.decode())


def _lines() -> Show:
    screen = Screen()
    return lambda entry: screen.print(event_line(loads(entry.event.body)))


async def _print(
    store: Store, named: Sequence[str], wanted: Wanted, show: Show, *, span_s: float | None, follow: bool
) -> None:
    streams = Streams(store.connection, store.keys)
    known = sorted({*store.settings.sources, *await streams.sources()})
    for name in named:
        demand_known("source", name, known)
    names = list(dict.fromkeys(named)) or known
    start = await streams.start(ago_s=span_s or 0.0)
    places: dict[str, str] = {}
    if span_s is not None:
        places = await _print_since(streams, names, wanted, show, after=start)
    elif not follow:
        await _print_newest(streams, names, wanted, show)
    if follow:
        await _follow(streams, named, wanted, show, places=places, start=start)


async def _print_since(
    streams: Streams, names: Sequence[str], wanted: Wanted, show: Show, *, after: str
) -> dict[str, str]:
    """Print what there is since a place; the last place of each source."""
    places = {}
    async with aclosing(streams.merged(names, after=after)) as entries:
        async for entry in entries:
            places[entry.source] = entry.place
            if wanted(entry):
                show(entry)
    return places


async def _print_newest(streams: Streams, names: Sequence[str], wanted: Wanted, show: Show) -> None:
    found: list[Entry] = []
    async with patience("looking for the last events that match"):
        for name in names:
            found += [entry async for entry in _newest(streams, name, wanted)]
    found.sort(key=lambda entry: (position(entry.place), entry.source))
    for entry in found[-NEWEST:]:
        show(entry)
    if not found:
        tell("no such event yet; --follow waits for one")
    elif len(found) > NEWEST:
        tell(f"these are the last {NEWEST}; --since 24h shows more")


async def _newest(streams: Streams, name: str, wanted: Wanted) -> AsyncIterator[Entry]:
    """One more than is shown, so that it is known whether something was left out."""
    count = 0
    upto: Position | None = None
    while page := await streams.newest(name, upto=upto):
        for entry in filter(wanted, page):
            yield entry
            count += 1
            if count > NEWEST:
                return
        upto = position(page[-1].place)


async def _follow(
    streams: Streams,
    named: Sequence[str],
    wanted: Wanted,
    show: Show,
    *,
    places: dict[str, str],
    start: str,
) -> None:
    if sys.stderr.isatty():
        tell("waiting for events; Ctrl-C ends")
    async with streams.following(named, places=places, start=start) as news:
        while True:
            match await news.get():
                case StoreUnavailable() as fault:
                    warn(f"{fault} Going on when it is back")
                case Exception() as fault:
                    raise fault
                case entry if wanted(entry):
                    show(entry)
                case _:
                    continue
