"""`poller webhooks`: the group of commands about endpoints; here the one that needs no Redis."""

import base64
import secrets as chance

import typer

from .output import say, show_json
from .root import ConfigOption, JsonOption
from .root import app as root

SECRET_BYTES = 32
"""Standard Webhooks allows 24 to 64."""

app = typer.Typer(no_args_is_help=True)
root.add_typer(app, name="webhooks", help="Look at endpoints, and ask things of them.")


@app.callback()
def _webhooks() -> None:
    """Look at endpoints, and ask things of them."""


def fresh_secret() -> str:
    """Make a new signing secret: `whsec_` and the base64 of 32 random bytes."""
    return f"whsec_{base64.b64encode(chance.token_bytes(SECRET_BYTES)).decode()}"


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
