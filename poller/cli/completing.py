"""What the shell offers at <Tab>: names of sources and webhooks from the settings, and event types."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from poller import schemas
from poller.config import Settings, load
from poller.errors import SettingsError
from poller.simulators import SIMULATORS


def source_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sources of the settings."""
    settings = _settings(ctx)
    return _begin(settings.sources if settings else (), incomplete)


def webhook_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The webhooks of the settings."""
    settings = _settings(ctx)
    return _begin(settings.webhooks if settings else (), incomplete)


def event_types(incomplete: str) -> list[str]:
    """The types of the contract."""
    return _begin(schemas.TYPES, incomplete)


def simulators(incomplete: str) -> list[str]:
    """The CRMs that have a stand-in."""
    return _begin(SIMULATORS, incomplete)


def _settings(ctx: typer.Context) -> Settings | None:
    """The settings that the command would open; none where they are wrong: that is said when it runs."""
    here: Any = ctx
    while here.parent and not here.params.get("config"):
        here = here.parent
    named = here.params.get("config")
    try:
        return load(Path(named) if named else None)
    except SettingsError:
        return None


def _begin(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
