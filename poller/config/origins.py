"""Where a value came from, under what name it was written there, and which settings are secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Path_: TypeAlias = tuple[str, ...]
"""A setting's canonical place: `("sources", "acme", "every")`."""

PREFIX = "POLLER_"

SECRETS: dict[str, frozenset[str]] = {
    "redis": frozenset({"url"}),
    "web": frozenset({"token", "metrics_token"}),
    "sources": frozenset({"token", "hook_secret", "proxy"}),
    "webhooks": frozenset({"url", "secret", "secrets", "headers"}),
}
"""The keys of each section that are never shown, and that have a `_file` form."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said it; `written` is the setting's name there, `template` its text if `${…}` stood in it."""

    kind: Literal["default", "file", "env", "command line"]
    place: str = ""
    written: str = ""
    template: str | None = None

    def __str__(self) -> str:
        if self.kind in ("default", "command line"):
            return self.kind
        return f"{self.kind} {self.place}"


DEFAULT = Origin("default")


def key_of(path: Path_) -> tuple[str, str]:
    """Give section and key of a path: `("sources", "token")`; no key where the path is too short."""
    depth = 2 if path[0] in ("sources", "webhooks") else 1
    return path[0], path[depth] if len(path) > depth else ""


def is_secret(path: Path_) -> bool:
    """Tell whether the value at `path` must never be shown."""
    section, key = key_of(path)
    return key in SECRETS.get(section, ())


def holds_secrets(path: Path_) -> bool:
    """Tell whether `path` is a secret or a table with one: whatever was written there may be one."""
    return is_secret(path) or (path[0] in SECRETS and not key_of(path)[1])


def dotted(path: Sequence[str]) -> str:
    """Write a path as the file has it: `sources.acme.every`."""
    return ".".join(path)


def variable(path: Sequence[str]) -> str:
    """Write a path as a variable: `POLLER_SOURCES__ACME__EVERY`."""
    return PREFIX + "__".join(part.upper().replace("-", "_") for part in path)
