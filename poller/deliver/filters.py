"""Which events an endpoint wants: globs over the type, globs over the source, and a CEL expression.

CEL (https://cel.dev) sees the attributes of the event by their names (`type`, `subject`, `source`, `id`,
`time`, `data`) and `deal`, which is `data.deal` with `amount` as a number.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import cel
import msgspec

from poller.errors import SettingsError
from poller.model import Event

OURS = "poller."
"""Operational events reach only those who ask for them by name."""

NAMES = ("id", "source", "type", "subject", "time", "specversion", "datacontenttype", "data", "deal")


def wants_type(globs: Sequence[str], type: str) -> bool:  # noqa: A002 - the event's own word
    """Tell whether a type matches one of the globs; `poller.*` ones only match a glob that begins so."""
    if type.startswith(OURS):
        globs = [glob for glob in globs if glob.startswith(OURS)]
    return any(fnmatchcase(type, glob) for glob in globs)


def wants_source(globs: Sequence[str], source: str) -> bool:
    """Tell whether a source's name matches one of the globs."""
    return any(fnmatchcase(source, glob) for glob in globs)


def compile_filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """Compile a CEL expression into a test of a decoded event.

    The test raises FilterFailed on an event that the expression cannot judge; the endpoint lets such
    an event pass and counts it.

    Raises:
        SettingsError: it does not compile, or names what an event does not have; the message points there.
    """
    try:
        program = cel.compile(text)
    except ValueError as exc:
        raise SettingsError([f"filter: {_where(text, str(exc))}"]) from exc
    own = set(_OWN.findall(text))
    if strange := sorted(set(program.variables()) - {*NAMES, *_TYPES, *own}):
        raise SettingsError(
            [
                f"filter: an event has no {strange[0]}, it has {', '.join(NAMES)}\n"
                + _pointed(text, strange[0])
            ]
        )
    if strange := sorted(
        name for name in program.functions() if name.isidentifier() and name not in _FUNCTIONS
    ):
        raise SettingsError([f"filter: CEL has no function {strange[0]}\n{_pointed(text, strange[0])}"])

    def passes(event: dict[str, Any]) -> bool:
        try:
            verdict = program.execute(_bound(event))
        except Exception as exc:
            raise FilterFailed(str(exc).partition("\n")[0][:200]) from exc
        if verdict is not True and verdict is not False:
            msg = f"it gives {type(verdict).__name__}, not true or false"
            raise FilterFailed(msg)
        return bool(verdict)

    return passes


class FilterFailed(Exception):
    """The expression could not judge this event."""


def wants_event(passes: Callable[[dict[str, Any]], bool], body: bytes) -> bool:
    """Judge an event by its body, as it stands in the stream.

    Raises:
        FilterFailed: it cannot be judged.
    """
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise FilterFailed(str(exc)) from exc
    return passes(event)


_TYPES = frozenset({"bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "string"})
_FUNCTIONS = frozenset(
    """size contains startsWith endsWith matches type int uint double string bytes bool dyn duration timestamp
    getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds
    getMilliseconds min max""".split()
)
"""https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions"""
_OWN = re.compile(r"\.(?:all|exists|exists_one|map|filter)\(\s*(\w+)\s*,")
"""Names that the expression binds itself."""


def _bound(event: dict[str, Any]) -> dict[str, Any]:
    data = event.get("data")
    deal = data.get("deal") if isinstance(data, dict) else None
    known = dict(deal) if isinstance(deal, dict) else {}
    if isinstance(known.get("amount"), str):
        known["amount"] = float(known["amount"])
    return {**{name: event.get(name) for name in NAMES}, "deal": known}


def _where(text: str, complaint: str) -> str:
    # The library says `ERROR: <input>:1:14: Syntax error: …`, then draws the place.
    _, _, rest = complaint.partition("<input>:")
    line, _, rest = rest.partition(":")
    column, _, rest = rest.partition(":")
    if not (line.isdigit() and column.isdigit()):
        return f"does not compile: {text}"
    why = rest.strip().partition("\n")[0].partition(" expecting ")[0].partition(": ")[2]
    rows = text.splitlines() or [""]
    row = rows[min(int(line), len(rows)) - 1]
    return f"line {line}, column {column}: {why or 'syntax error'}\n  {row}\n  {' ' * (int(column) - 1)}^"


def _pointed(text: str, name: str) -> str:
    found = re.search(rf"\b{re.escape(name)}\b", text)
    at = found.start() if found else 0
    start = text.rfind("\n", 0, at) + 1
    row = text[start:].partition("\n")[0]
    return f"  {row}\n  {' ' * (at - start)}^"


def wanted_by(globs: Sequence[str], filter: str) -> Callable[[Event], tuple[bool, bool]]:  # noqa: A002 - the setting's name
    """Make the test of one endpoint: (wanted, and the filter could judge it).

    Raises:
        SettingsError: the filter does not compile.
    """
    passes = compile_filter(filter) if filter else None
    types: dict[str, bool] = {}

    def wanted(event: Event) -> tuple[bool, bool]:
        if event.type not in types:
            types[event.type] = wants_type(globs, event.type)
        if not types[event.type] or passes is None:
            return types[event.type], True
        try:
            return wants_event(passes, event.body), True
        except FilterFailed:
            return True, False

    return wanted
