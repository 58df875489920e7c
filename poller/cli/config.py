"""`poller config`: what holds, and who said so."""

import typer

from poller.config import rows

from .output import show_json, show_table
from .root import ConfigOption, JsonOption, app, open_settings

config_app = typer.Typer(no_args_is_help=True)
app.add_typer(config_app, name="config", help="Look at the settings.")


@config_app.callback()
def _config() -> None:
    """Look at the settings."""


@config_app.command()
def show(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print every effective setting and where its value came from; secrets are masked."""
    settings = open_settings(ctx, config)
    table = [
        {"setting": row.setting, "value": row.value, "origin": str(row.origin)} for row in rows(settings)
    ]
    if as_json:
        show_json({"settings": table, "warnings": settings.warnings})
        return
    show_table(("setting", "value", "origin"), table, empty="nothing is set")
