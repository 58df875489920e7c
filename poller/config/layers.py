"""One layer of settings: leaves as somebody wrote them become nested values, each with its origin."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from poller.deliver.signing import MAKE_ONE

from .origins import SECRETS, Origin, Path_, dotted, is_secret, key_of

LARGEST_SECRET_FILE = 65_536  # bytes
_HEADERS = 3
"""Length of the path of `webhooks.NAME.headers`; one header is one longer."""

_REFERENCE = re.compile(r"\$?\$\{([^}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value as written; `path` is not yet canonical."""

    path: Path_
    value: Any
    origin: Origin
    problems: tuple[str, ...] = ()
    """Why the value cannot be had, if it cannot."""


@dataclass
class Layer:
    """What one place says: values as nested tables, where each came from, and what is wrong with them."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path_, Origin] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    failed: set[Path_] = field(default_factory=set)
    """Paths whose value could not be had: a problem stands for each, so nothing more is said of them."""
    lost: bool = False
    """Nothing of it could be read: what is missing may stand in it, so nothing is called missing."""

    def fail(self, path: Path_, problem: str) -> None:
        """Note why the value at `path` cannot be had."""
        self.problems.append(problem)
        self.failed.add(path)


def build(leaves: Iterable[Leaf], *, directory: Path) -> Layer:
    """Put leaves together, reading `_file` forms relative to `directory` and hiding secrets at once."""
    layer = Layer()
    for leaf in leaves:
        layer.problems += leaf.problems
        for canonical in _canonical(leaf, layer, directory):
            _place(canonical, layer)
            if leaf.problems:
                layer.failed.add(canonical.path)
    return layer


def merge_into(layer: Layer, other: Layer) -> None:
    """Take over what another layer of the same rank says."""
    layer.problems += other.problems
    layer.failed |= other.failed
    for path, origin in other.origins.items():
        value: Any = other.values
        for part in path:
            value = value[part]
        _place(Leaf(path, value, origin), layer)


def flatten(table: Mapping[str, Any], path: Path_ = ()) -> Iterable[tuple[Path_, Any]]:
    """Walk a nested table to its leaves; an empty table is a leaf, so that it is not forgotten."""
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, (*path, key))
        else:
            yield (*path, key), value


def interpolate(text: str, variables: Mapping[str, str]) -> tuple[str, list[str]]:
    """Replace each `${NAME}`; `$${` is a literal `${`. Gives the text and what is wrong with it."""
    problems: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        whole, name, closed = match[0], match[1], match[2]
        if whole.startswith("$${"):
            return whole[1:]
        if not closed or not _VARIABLE_NAME.fullmatch(name):
            problems.append("${ begins a variable's name, as in ${NAME}; write $${ for a literal ${")
        elif name not in variables:
            problems.append(f"the environment variable {name} is not set; export it, or put it into .env")
        return variables.get(name, whole)

    return _REFERENCE.sub(replaced, text), problems


def _canonical(leaf: Leaf, layer: Layer, directory: Path) -> Iterable[Leaf]:
    """Bring `token_file`, `secret` and `headers_file` to the one setting that each of them means."""
    section, key = key_of(leaf.path)
    direct = leaf.path[-1] == key
    if section == "webhooks" and len(leaf.path) == _HEADERS + 1 and leaf.path[2] == "headers":
        return [replace(leaf, path=(*leaf.path[:3], leaf.path[3].lower()))]
    if direct and key.removesuffix("_file") in SECRETS.get(section, ()) and key.endswith("_file"):
        return _from_file(leaf, layer, directory)
    if section == "webhooks" and key == "secret":
        if direct:
            return [_as_secrets(leaf)]
        problem = f"{leaf.origin.written}: {dotted(leaf.path[:3])} must be a string; {MAKE_ONE}"
        layer.fail((*leaf.path[:2], "secrets"), problem)
        return []
    return [leaf]


def _as_secrets(leaf: Leaf) -> Leaf:
    return replace(leaf, path=(*leaf.path[:2], "secrets"), value=[leaf.value])


def _from_file(leaf: Leaf, layer: Layer, directory: Path) -> list[Leaf]:
    key = leaf.path[-1].removesuffix("_file")
    target = replace(leaf, path=(*leaf.path[:-1], key))
    text = None if leaf.problems else _read_secret(leaf, layer, directory)
    if text is None:
        failed = _as_secrets(target) if key == "secret" else target
        layer.failed.add(failed.path)
        return [replace(failed, value="")]
    if key == "headers":
        return _headers(target, text, layer)
    if key == "secrets":
        return [replace(target, value=text.split())]
    target = replace(target, value=text)
    return [_as_secrets(target)] if key == "secret" else [target]


def _headers(leaf: Leaf, text: str, layer: Layer) -> list[Leaf]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if colon and name.strip():
            found.append(replace(leaf, path=(*leaf.path, name.strip().lower()), value=value.strip()))
        elif line.strip():
            layer.fail(leaf.path, f'{leaf.origin.written}: line {number} of the file is not "Name: value"')
    return found


def _read_secret(leaf: Leaf, layer: Layer, directory: Path) -> str | None:
    """Read the file that a `_file` form names. Its name is never shown: people paste the secret there."""
    name, value = leaf.origin.written, leaf.value
    if not isinstance(value, str) or not value:
        layer.problems.append(f"{name}: must be the path of a file that holds the secret")
        return None
    try:
        with (directory / Path(value).expanduser()).open("rb") as file:
            data = file.read(LARGEST_SECRET_FILE + 1)
        text = data.decode().rstrip("\r\n")
    except (OSError, RuntimeError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        layer.problems.append(f"{name}: the file cannot be read ({reason}); mend the path or its rights")
        return None
    if not text or len(data) > LARGEST_SECRET_FILE:
        what = "is too large for a secret" if text else "is empty"
        layer.problems.append(f"{name}: the file {what}; put the secret into it and nothing else")
        return None
    return text


def _place(leaf: Leaf, layer: Layer) -> None:
    """Set the value at its path, unless the layer says it already."""
    taken = layer.origins.get(leaf.path)
    if taken is not None:
        problem = f"{leaf.origin.written} and {taken.written} say the same setting; keep one of them"
        layer.fail(leaf.path, problem)
        return
    table = layer.values
    for depth, part in enumerate(leaf.path[:-1], 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            above = layer.origins[leaf.path[:depth]]
            layer.fail(
                leaf.path[:depth],
                f"{leaf.origin.written} and {above.written} contradict each other; keep one",
            )
            return
    if leaf.path[-1] in table and table[leaf.path[-1]]:
        problem = f"{leaf.origin.written} stands beside settings below it; keep one form"
        layer.fail(leaf.path, problem)
        return
    table[leaf.path[-1]] = _hidden(leaf.value) if is_secret(leaf.path) else leaf.value
    layer.origins[leaf.path] = leaf.origin


def _hidden(value: Any) -> Any:
    """Wrap texts, so that no message, repr or debug log of a library can show them."""
    if isinstance(value, str):
        return SecretStr(value)
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return value
