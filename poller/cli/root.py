"""The root of the command line: the app, the options that all commands share, and how settings are opened."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from poller import log
from poller._version import __version__
from poller.config import Settings, load, secret_values

from .output import say, warn

ORDER: Final = (
    "demo", "init", "config", "run", "check", "status", "events", "sources", "webhooks", "simulate", "schema",
    "health",
)  # fmt: skip
"""As the contract (§3) lists them, which is the order in which they are needed."""
EXIT_UNWELL: Final = 1
"""The thing asked about is not well (contract §3)."""
EXIT_UNAVAILABLE: Final = 69
"""Redis cannot be reached."""


class _InOrder(TyperGroup):
    """Lists commands in the contract's order; what it does not name comes last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in that order."""
        rank = {name: number for number, name in enumerate(ORDER)}
        return sorted(super().list_commands(ctx), key=lambda name: rank.get(name, len(ORDER)))


@dataclass
class Session:
    """What one run knows: the file that was named before the command, and what to hide."""

    config: Path | None = None
    mask: log.Mask = field(default_factory=log.Mask)


app = typer.Typer(
    name="poller",
    cls=_InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks would be shown before `main` has masked them
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Webhooks for APIs that have none: polls a CRM and publishes every change as a typed, signed event.",
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The settings file; else POLLER_CONFIG, else ./poller.toml."
    ),
]
"""Every command takes `config: ConfigOption = None` and gives it to `open_settings`."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""Every command that prints data takes `as_json: JsonOption = False`."""


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"poller {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    config: ConfigOption = None,
    version: Annotated[  # noqa: ARG001 -- the callback acts on it
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    session(ctx).config = config


def session(ctx: typer.Context) -> Session:
    """The session of this run."""
    return ctx.ensure_object(Session)


def config_path(ctx: typer.Context, config: Path | None) -> Path | None:
    """The settings file that was named after the command, else before it."""
    return config or session(ctx).config


def open_settings(
    ctx: typer.Context,
    config: Path | None,
    *,
    level: str | None = "warning",
    quiet: bool = False,
    overrides: dict[str, Any] | None = None,
) -> Settings:
    """Read the settings, set up logs that hide their secrets, and say what deserves a warning.

    `level` is the log's; None takes the one of the settings, as `poller run` does. `overrides` is
    what options of the command set, as a nested table.

    Raises:
        SettingsError: with every problem there is.
    """
    settings = load(config_path(ctx, config), overrides=overrides)
    secrets = secret_values(settings)
    session(ctx).mask.add(secrets)
    log.configure(level=level or settings.log.level, secrets=secrets)
    for line in () if quiet else settings.warnings:
        warn(line)
    return settings
