"""How a value that somebody gives becomes a column's, or is refused by name."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from .fields import COLUMNS, CUSTOM, GIVEN, REFERENCES, Kind
from .tables import Tables

_NUMBERS = frozenset({"value", "acv", "arr", "mrr"})
_TITLED = "title"


def number(value: Any) -> Decimal | int:
    """A number as JSON of JavaScript writes it: 200, 199.5, never 200.0.

    Raises:
        ValueError: it is none.
    """
    try:
        exact = Decimal(str(value))
    except InvalidOperation as exc:
        msg = f"{value!r} is no number: write e.g. 1200 or 99.5."
        raise ValueError(msg) from exc
    return int(exact) if exact == exact.to_integral_value() else exact.normalize()


def checked(
    kind: Kind, given: Mapping[str, Any], tables: Tables, *, old: Mapping[str, Any]
) -> dict[str, Any]:
    """The given values as their columns hold them; custom fields are laid over the `old` ones.

    Raises:
        ValueError: a name is no field, a value not of its type, or an id of nothing.
    """
    return {name: _value(kind, name, value, tables, old) for name, value in given.items()}


def _value(kind: Kind, name: str, value: Any, tables: Tables, old: Mapping[str, Any]) -> Any:
    if name not in GIVEN[kind]:
        near = get_close_matches(name, GIVEN[kind], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        msg = f"there is no field {name} that could be given.{hint}"
        raise ValueError(msg)
    if name in _NUMBERS:
        return None if value is None and name != "value" else number(value)
    if name == "custom_fields":
        return _custom(kind, value, old)
    if isinstance(COLUMNS[kind][name], tuple):
        value = tuple(_listed(name, value))
    if name in REFERENCES:
        _found(REFERENCES[name], value, tables)
    if name == _TITLED and not (isinstance(value, str) and value):
        msg = f"title is {value!r}: it must be a text, and not empty."
        raise ValueError(msg)
    return value


def _listed(name: str, value: Any) -> Any:
    if not isinstance(value, list | tuple) or not all(type(one) is int for one in value):
        msg = f"{name} is {value!r}: it must be a list of ids."
        raise ValueError(msg)
    return value


def _custom(kind: Kind, value: Any, old: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(value) - set(CUSTOM[kind])) if isinstance(value, Mapping) else [value]
    if unknown:
        msg = f"there is no custom field {unknown[0]}. There are: {', '.join(CUSTOM[kind])}."
        raise ValueError(msg)
    return {**old.get("custom_fields", {}), **value}


def _found(table: str, value: Any, tables: Tables) -> None:
    optional = table in {"person", "organization"}
    for one in value if isinstance(value, tuple) else (value,):
        if one not in tables[table] and not (one is None and optional):
            msg = f"there is no {table} {one}. There are: {', '.join(map(str, tables[table]))}."
            raise ValueError(msg)
