"""The settings file: TOML, with `${NAME}` inside its strings."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .environment import Variables
from .layers import Layer, Leaf, build, flatten, interpolate
from .origins import Origin, Path_, dotted, is_secret, key_of
from .values import is_slack

_TWICE = re.compile(r"Cannot (?:declare|overwrite|redefine|mutate)")
_REFERENCES = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read(text: str, *, path: Path, variables: Variables) -> Layer:
    """Turn the file's text into a layer; every problem in it is in the layer."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        return Layer(problems=[f"{path}: {_syntax(exc)}"], lost=True)
    leaves = [_leaf(place, value, path, variables) for place, value in flatten(table)]
    return build(leaves, directory=path.parent)


def references(text: str) -> frozenset[str]:
    """The names of the variables that the settings in the text ask for; a comment asks for nothing."""
    return frozenset(name for _, value in _written(text) for name in _asked(value))


def literal_secrets(text: str) -> list[str]:
    """Which secrets stand in the text themselves, rather than as `${NAME}` or in a file of their own."""
    return [dotted(path) for path, value in _written(text) if is_secret(path) and _is_literal(path, value)]


def _written(text: str) -> list[tuple[Path_, Any]]:
    """The settings of a text, as they stand there; none where it is no TOML, which `read` tells."""
    try:
        return list(flatten(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, RecursionError):
        return []


def _asked(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _asked(item)]
    return _REFERENCES.findall(value) if isinstance(value, str) else []


def _is_literal(path: Path_, value: Any) -> bool:
    """Judge by the text: a URL proves something only by its user information, or as Slack's own path."""
    if isinstance(value, list):
        return any(_is_literal(path, item) for item in value)
    if not isinstance(value, str) or not value or _REFERENCES.search(value):
        return False
    if key_of(path)[1] in ("url", "proxy"):
        return "@" in value or "?" in value or is_slack(value)
    return True


def _syntax(exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        return "is nested too deeply; no setting is"
    if _TWICE.match(str(exc)):
        return f"something is written twice: {exc}; keep one of them"
    return f"is not TOML: {exc}; mend it there"


def _leaf(place: Path_, value: Any, path: Path, variables: Variables) -> Leaf:
    written = dotted(place)
    expanded, problems = _expand(value, variables.all)
    template = _template(value) if expanded != value else None
    said = tuple(f"{written}: {problem}" for problem in dict.fromkeys(problems))
    asked = [str(variables.origin(name)) for name in dict.fromkeys(_asked(value)) if name in variables.all]
    return Leaf(place, expanded, Origin("file", ", ".join([str(path), *asked]), written, template), said)


def _expand(value: Any, variables: Mapping[str, str]) -> tuple[Any, list[str]]:
    if isinstance(value, str):
        return interpolate(value, variables)
    if isinstance(value, list):
        parts = [_expand(item, variables) for item in value]
        return [part for part, _ in parts], [problem for _, found in parts for problem in found]
    return value, []


def _template(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(str(item) for item in value)
