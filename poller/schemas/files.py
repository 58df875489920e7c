"""The schemas as they are checked in under deploy/schemas."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poller.errors import SettingsError
from poller.model import loads, pretty

from .additive import breaks, lost_operations
from .asyncapi import asyncapi
from .events import bundle

EVENTS, ASYNCAPI, OPENAPI = "events.schema.json", "asyncapi.json", "openapi.json"


def files(openapi: Mapping[str, Any]) -> dict[str, bytes]:
    """Name -> what the file holds; the OpenAPI document is the web's, and is given."""
    return {EVENTS: text(bundle()), ASYNCAPI: text(asyncapi()), OPENAPI: text(openapi)}


def text(value: Any) -> bytes:
    """JSON as it is written into files: indented, numbers with their places."""
    return f"{pretty(value)}\n".encode()


def write(folder: Path, openapi: Mapping[str, Any]) -> list[str]:
    """Write the files; the names of those that are new or have changed.

    Raises:
        SettingsError: what is there already promises more than what would be written: v1 only adds.
    """
    made = files(openapi)
    there = {name: data for name in made if (data := _read(folder / name)) is not None}
    problems = [
        problem
        for name, find in ((EVENTS, breaks), (OPENAPI, lost_operations))
        if name in there
        for problem in find(loads(there[name]), loads(made[name]))
    ]
    if problems:
        raise SettingsError([f"{problem}; within v1 a schema only adds" for problem in problems])
    folder.mkdir(parents=True, exist_ok=True)
    changed = [name for name, data in made.items() if there.get(name) != data]
    for name in changed:
        (folder / name).write_bytes(made[name])
    return changed


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
