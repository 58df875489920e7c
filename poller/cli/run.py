"""`poller run`: the service."""

import asyncio

import typer

from poller.app import serve

from .output import warn
from .root import ConfigOption, app, open_settings


@app.command()
def run(ctx: typer.Context, config: ConfigOption = None) -> None:
    """Poll every source and serve every webhook until SIGTERM or Ctrl-C; logs go to stderr."""
    settings = open_settings(ctx, config, level=None)
    if not settings.sources:
        warn("no source is set up, so nothing is polled: run `poller init`, or set POLLER_DRUM_TOKEN")
    asyncio.run(serve(settings))
