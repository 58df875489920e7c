"""`poller webhooks`: the group of commands about endpoints, their list, and fresh secrets."""

import secrets as chance
from typing import Annotated

import typer

from poller.deliver.signing import encode_secret
from poller.web.words import span

from .completing import webhook_names
from .output import say, show_json, show_table
from .reach import with_store
from .root import ConfigOption, JsonOption
from .root import app as root
from .status import look

SECRET_BYTES = 32
"""Standard Webhooks allows 24 to 64."""

app = typer.Typer(no_args_is_help=True)
root.add_typer(app, name="webhooks", help="Look at endpoints, and ask things of them.")

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The webhook's name in the settings.", autocompletion=webhook_names),
]


@app.callback()
def _webhooks() -> None:
    """Look at endpoints, and ask things of them."""


def fresh_secret() -> str:
    """Make a new signing secret: `whsec_` and the base64 of 32 random bytes."""
    return encode_secret(chance.token_bytes(SECRET_BYTES))


@app.command("list")
def list_(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the webhooks and how each stands."""
    found = with_store(ctx, config, look).webhooks
    if as_json:
        show_json([each.model_dump(mode="json") for each in found])
        return
    columns = ("webhook", "host", "state", "waiting", "oldest", "dead", "delivered", "served by", "why")
    rows = [
        {
            **each.model_dump(),
            "oldest": span(each.oldest_waiting_s) if each.waiting else None,
            "served by": each.held_by,
        }
        for each in found
    ]
    show_table(columns, rows, empty="no webhook is set up: events go to Redis Streams alone")


@app.command()
def secret(
    config: ConfigOption = None,  # noqa: ARG001 -- every command takes --config
    as_json: JsonOption = False,
) -> None:
    """Print a fresh signing secret. To rotate: secrets = ["NEW", "OLD"], and drop the old one after a day."""
    fresh = fresh_secret()
    if as_json:
        show_json({"secret": fresh})
        return
    say(fresh)
