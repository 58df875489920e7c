"""What is wrong with a setting, in one line: its name as written, its value or a mask, and the remedy."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import SecretStr
from pydantic_core import ErrorDetails

from poller.watch.sources import SOURCES

from .environment import SHORT
from .models import either, known_keys
from .origins import DEFAULT, PREFIX, Origin, Path_, dotted, holds_secrets, is_secret, variable
from .values import MASK, mask_url, mask_userinfo

LONGEST_VALUE = 80  # characters shown of a value

_SHORT = {path: name for name, path in SHORT.items()}
_EXAMPLES = {
    "kind": either(SOURCES),
    "token": '"${DRUM_API_TOKEN}"',
    "url": '"https://example.com/hooks/poller"',
    "secrets": '"${WEBHOOK_SECRET}"',
}
_PLAIN = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a string, in quotes",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "tuple_type": "must be a list, in square brackets",
    "list_type": "must be a list, in square brackets",
    "path_type": "must be a path, in quotes",
}


def problem(error: ErrorDetails, origins: Mapping[Path_, Origin]) -> tuple[Path_, str]:
    """Word one of pydantic's errors; gives the setting's path and the line."""
    path = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        return path, _unknown(path, origins)
    if error["type"] == "missing":
        return path, _missing(path, origins, error["input"])
    name = _name(path, origins)
    said = _said(error, path)
    if said.startswith(("is missing", "must be set")):
        return path, f"{_spelled(path)} {said}; {_how(path)}"
    value = "" if "[key]" in error["loc"] else _value(error["input"], path, origins)
    return path, f"{name}{value}: {said}"


def origin_of(path: Path_, origins: Mapping[Path_, Origin]) -> Origin:
    """Where the value at `path` came from: said of itself, of what it is part of, or of a part of it."""
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]]
    below = (origin for known, origin in origins.items() if known[: len(path)] == path)
    return next(below, DEFAULT)


def _path(loc: tuple[int | str, ...]) -> Path_:
    return tuple(part for part in loc if isinstance(part, str) and part != "[key]")


def _name(path: Path_, origins: Mapping[Path_, Origin]) -> str:
    origin = origin_of(path, origins)
    if origin.kind == "env":
        return origin.written
    return origin.written if origin.written and path in origins else _spelled(path)


def _spelled(path: Path_) -> str:
    """The name that most people write: one `secret`, rather than the `secrets` it becomes."""
    return dotted((*path[:-1], "secret") if path[-1] == "secrets" else path)


def _said(error: ErrorDetails, path: Path_) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", '"')
        return f"must be {expected}{_near(error['input'], expected)}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return _no_table(error["input"], path)
    return _PLAIN.get(kind, error["msg"][:1].lower() + error["msg"][1:])


def _no_table(given: Any, path: Path_) -> str:
    """What to write where something else than a table stands."""
    if len(path) == 2 and path[1] in known_keys(path[:1]):
        return f"belongs to one of the {path[0]}; write it under its name, [{path[0]}.NAME]"
    if not isinstance(given, list):
        return f"must be a table, [{dotted(path)}]"
    name = ".NAME" if path in (("sources",), ("webhooks",)) else ""
    return f"must be a table, [{dotted(path)}{name}] with single brackets"


def _near(given: Any, expected: str) -> str:
    if not isinstance(given, str):
        return ""
    near = get_close_matches(
        given, [word.strip('" ') for word in expected.replace(" or ", ",").split(",")], n=1
    )
    return f'; the nearest is "{near[0]}"' if near else ""


def _unknown(path: Path_, origins: Mapping[Path_, Origin]) -> str:
    origin = origin_of(path, origins)
    known = known_keys(path[:-1])
    meant = path[-1].removesuffix("_file")  # only secrets have a `_file` form
    near = [meant] if meant in known else get_close_matches(path[-1], known, n=1, cutoff=0.5)
    if origin.kind == "env" and origin.written.startswith(PREFIX):
        whole = next((place for place in origins if origins[place] is origin), path)
        hint = variable((*path[:-1], near[0], *whole[len(path) :])) if near else ""
        name = origin.written
    else:
        hint, name = (dotted((*path[:-1], near[0])) if near else ""), dotted(path)
    others = ", ".join(known)
    return f"{name}: no such setting; {f'the nearest is {hint}' if hint else f'known here: {others}'}"


def _missing(path: Path_, origins: Mapping[Path_, Origin], given: Any) -> str:
    origin = origin_of(path[:-1], origins)
    short = _SHORT.get(path, "")
    taker = _taker(short, origins) if short else ""
    taken = f", and {short} is taken for {taker}" if taker else ""
    because = f" ({origin.written} asks for it{taken})" if origin.kind == "env" else ""
    name = variable(path) if taker else short
    return f"{_spelled(path)} is missing{because}; {_how(path, _example(path, given), name)}"


def _taker(short: str, origins: Mapping[Path_, Origin]) -> str:
    """The setting of the file that asks for this variable, which then means that setting alone."""
    asked = (origin.written for origin in origins.values() if f"${{{short}}}" in (origin.template or ""))
    return next(asked, "")


def _example(path: Path_, given: Any) -> str:
    """A value as it could be written; of a source, as its kind has it."""
    made = SOURCES.get(str(given.get("kind"))) if isinstance(given, Mapping) else None
    if made and path[-1] == "token":
        return f'"${{{made.api.variable}}}"'
    if made and path[-1] == "base_url":
        return f'"{made.api.base_url_like}"'
    return _EXAMPLES.get(path[-1], '"…"')


def _how(path: Path_, example: str = "", name: str = "") -> str:
    """How to give a value: in the file, by a file of its own where it is secret, or by a variable."""
    shown = _spelled(path).split(".")[-1]
    example = example or _EXAMPLES.get(path[-1], '"…"')
    if path[-1] == "token" and path[0] == "web":
        example = '"${POLLER_WEB_TOKEN}"'
    also = f" (or {shown}_file)" if is_secret(path) else ""
    name = name or _SHORT.get((*path[:-1], shown)) or variable((*path[:-1], shown))
    return f"write {shown} = {example}{also} under [{dotted(path[:-1])}], or set {name}"


def _value(given: Any, path: Path_, origins: Mapping[Path_, Origin]) -> str:
    """` = "…"`, or a mask where the setting is secret; what came by `${…}` is shown as it was written."""
    if holds_secrets(path) or isinstance(given, SecretStr):
        return f" = {MASK}"
    if path[-1] == "base_url":  # of no known form, so what stands in it may prove something
        given = mask_url(str(given), path=False)
        return f" = {json.dumps(given)}"
    template = origin_of(path, origins).template
    text = json.dumps(template if template is not None else given, ensure_ascii=False, default=str)
    if isinstance(given, Mapping):
        return ""
    text = mask_userinfo(text)
    return f" = {text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '…'}"
