"""`poller sources`: the group of commands about sources."""

import typer

from .root import app as root

app = typer.Typer(no_args_is_help=True)
root.add_typer(app, name="sources", help="Look at sources, and ask things of them.")


@app.callback()
def _sources() -> None:
    """Look at sources, and ask things of them."""
