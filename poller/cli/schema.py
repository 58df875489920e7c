"""`poller schema`: what consumers may rely on, for their code generators and validators."""

from pathlib import Path
from typing import Annotated, Any

import typer

from poller import schemas
from poller.errors import SettingsError
from poller.web import api
from poller.web.words import unknown_type

from .completing import event_types
from .output import say, tell
from .root import ConfigOption, app


@app.command()
def schema(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="AsyncAPI 3 of stream and webhooks.")] = False,
    openapi: Annotated[
        bool, typer.Option("--openapi", help="OpenAPI 3.1 of the service's HTTP API.")
    ] = False,
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only this event type, e.g. drum.opportunity.won.",
            autocompletion=event_types,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write schemas, AsyncAPI and OpenAPI into files of this directory."),
    ] = None,
    config: ConfigOption = None,  # noqa: ARG001 -- every command takes --config
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = True,  # noqa: ARG001 -- it always is
) -> None:
    """Print the JSON Schema of all event types, of one, or the AsyncAPI or OpenAPI document."""
    if sum((asyncapi, openapi, bool(type_), out is not None)) > 1:
        raise SettingsError(["--asyncapi, --openapi, --type and --out: name one of them"])
    if out is not None:
        _write(out)
    elif asyncapi:
        _print(schemas.asyncapi())
    elif openapi:
        _print(api.document())
    elif type_:
        _print(schemas.event_schema(_known(type_)))
    else:
        _print(schemas.bundle())


def _known(name: str) -> schemas.EventType:
    found = schemas.TYPES.get(name)
    if found is None:
        raise SettingsError([unknown_type(name, schemas.TYPES)])
    return found


def _write(folder: Path) -> None:
    try:
        changed = schemas.write(folder, api.document())
    except OSError as exc:
        msg = f"--out {folder}: cannot be written ({exc.strerror}); name another directory"
        raise SettingsError([msg]) from exc
    for name in changed:
        say(str(folder / name))
    tell("nothing has changed" if not changed else f"{len(changed)} files are new or have changed")


def _print(value: Any) -> None:
    say(schemas.text(value).decode().rstrip("\n"))
