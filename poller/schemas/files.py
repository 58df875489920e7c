"""The schemas as they are checked in under deploy/schemas."""

from pathlib import Path
from typing import Any

import msgspec

from poller.errors import SettingsError
from poller.model import dumps, loads

from .additive import breaks
from .asyncapi import asyncapi
from .events import bundle

EVENTS, ASYNCAPI = "events.schema.json", "asyncapi.json"


def files() -> dict[str, bytes]:
    """Name -> what the file holds."""
    return {EVENTS: text(bundle()), ASYNCAPI: text(asyncapi())}


def text(value: Any) -> bytes:
    """JSON as it is written into files: indented, numbers with their places."""
    return msgspec.json.format(dumps(value), indent=2) + b"\n"


def write(folder: Path) -> list[str]:
    """Write the files; the names of those that are new or have changed.

    Raises:
        SettingsError: what is there already promises more than what would be written: v1 only adds.
    """
    made, there = files(), _read(folder / EVENTS)
    if there is not None:
        problems = breaks(loads(there), loads(made[EVENTS]))
        if problems:
            raise SettingsError([f"{problem}; within v1 a schema only adds" for problem in problems])
    folder.mkdir(parents=True, exist_ok=True)
    changed = [name for name, data in made.items() if _read(folder / name) != data]
    for name in changed:
        (folder / name).write_bytes(made[name])
    return changed


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
