"""`poller run`: the service."""

import asyncio

import typer

from poller.app import serve
from poller.errors import SettingsError

from .root import ConfigOption, app, open_settings


@app.command()
def run(ctx: typer.Context, config: ConfigOption = None) -> None:
    """Poll every source and serve every webhook until SIGTERM or Ctrl-C; logs go to stderr."""
    settings = open_settings(ctx, config, level=None)
    if not settings.sources:
        raise SettingsError(
            ["no source is set up: run `poller init`, set POLLER_DRUM_TOKEN, or try `poller demo` first"]
        )
    asyncio.run(serve(settings))
