"""What changed between what was known and what is seen, within one view. Pure.

An absent key is unknown, not changed; a name that moved under the same id is a rename, not a change of
the record; numbers are compared by value, lists of people and tags as sets (facts.md §1.11).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from poller.model import canonical, number


@dataclass(frozen=True, slots=True)
class Shape:
    """How the fields of one kind of record are compared."""

    numbers: frozenset[str] = frozenset()
    """Documented decimals: equal by value also where both are sent as strings."""
    sets: frozenset[str] = frozenset()
    """Lists without an order of their own."""
    refs: Mapping[str, str] = field(default_factory=dict)
    """Field of {id, name} objects -> what they name: compared by id, a new name is a rename."""
    noise: frozenset[str] = frozenset()
    """Counters and computed money: they move without anybody doing anything."""
    silent: frozenset[str] = frozenset()
    """Never worth an event on their own (positions; text that the server computes)."""
    optional: str = ""
    """Keys that begin so are left out where they have no value: for them alone absent is null."""
    sparse: frozenset[str] = frozenset()
    """Fields whose objects leave out what has no value: in them an absent key is null."""


@dataclass(frozen=True, slots=True)
class Rename:
    """The thing `what`/`id` is called otherwise now."""

    what: str
    id: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Diff:
    """What moved between two readings of one view of one record."""

    seen: Mapping[str, Any]
    changed: tuple[str, ...]
    previous: dict[str, Any]
    renames: tuple[Rename, ...] = ()
    hidden: tuple[str, ...] = ()
    """Keys that were there and are not: unknown now, whatever their value became."""
    shown: tuple[str, ...] = ()
    """Keys that were not there: their first value is no change."""


def compare(shape: Shape, known: Mapping[str, Any], seen: Mapping[str, Any]) -> Diff:
    """Compare two readings of the same view."""
    known, seen = _filled(shape, known, seen), _filled(shape, seen, known)
    changed = sorted(
        name for name, new in seen.items() if name in known and not same(shape, name, known[name], new)
    )
    renames = tuple(
        rename
        for name, what in shape.refs.items()
        if name in known and name in seen and name not in changed
        for rename in _renames(what, known[name], seen[name])
    )
    return Diff(
        seen=seen,
        changed=tuple(changed),
        previous={name: known[name] for name in changed},
        renames=renames,
        hidden=tuple(sorted(known.keys() - seen.keys())),
        shown=tuple(sorted(seen.keys() - known.keys())),
    )


def _filled(shape: Shape, view: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """The view with null for each optional key that only the other reading has; one of nothing stays so."""
    if not (shape.optional and view):
        return view
    missing = [name for name in other if name.startswith(shape.optional) and name not in view]
    return {**view, **dict.fromkeys(missing)} if missing else view


def worth_saying(shape: Shape, changed: Iterable[str], *, noise: bool) -> bool:
    """Whether these fields make an `updated`: not counters alone, unless the operator wants noise."""
    kept = set(changed) - shape.silent
    return bool(kept if noise else kept - shape.noise)


def same(shape: Shape, name: str, old: object, new: object) -> bool:
    """Whether a top-level field has not moved."""
    old, new = meant(shape, name, old), meant(shape, name, new)
    if name in shape.sparse and isinstance(old, dict) and isinstance(new, dict):
        return all(equal(old.get(key), new.get(key)) for key in old.keys() | new.keys())
    if name in shape.sets | shape.refs.keys() and isinstance(old, list) and isinstance(new, list):
        return sort_key(old) == sort_key(new)
    return equal(old, new)


def equal(old: object, new: object) -> bool:
    """Deep equality of JSON: numbers by value, a number and a string of it alike, absent keys unknown."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, dict) and isinstance(new, dict):
        return all(equal(old[k], new[k]) for k in old.keys() & new.keys())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(equal, old, new))
    if _is_number(old) or _is_number(new):
        return _equal_numbers(old, new)
    return old == new


def meant(shape: Shape, name: str, value: object) -> object:
    """A top-level value as it is compared: what is `same` gives the same bytes by `sort_key`."""
    if isinstance(value, list) and name in shape.refs:
        return sorted(map(_nameless, value), key=sort_key)
    if isinstance(value, list) and name in shape.sets:
        return sorted(value, key=sort_key)
    if isinstance(value, str) and name in shape.numbers:
        return _number(value)
    return _nameless(value) if name in shape.refs else value


def _renames(what: str, old: object, new: object) -> Iterable[Rename]:
    before, after = ({sort_key(ref.get("id")): ref for ref in _refs(each)} for each in (old, new))
    for key, ref in after.items():
        known = before.get(key)
        if known and "name" in known and "name" in ref and known["name"] != ref["name"]:
            yield Rename(what, str(ref.get("id")), str(known["name"]), str(ref["name"]))


def _refs(value: object) -> Iterable[dict[str, Any]]:
    return [ref for ref in (value if isinstance(value, list) else [value]) if isinstance(ref, dict)]


def _nameless(ref: object) -> object:
    return {**ref, "name": None} if isinstance(ref, dict) else ref


def _number(text: str) -> object:
    try:
        return number(text.strip())
    except ValueError:  # no number, not a finite one, or an absurd one: what it is then is its text
        return text


def sort_key(value: object) -> bytes:
    """Equal values give equal bytes, whatever the order of their keys or the places of their numbers."""
    return canonical(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, Decimal):
        return value.normalize() + 0
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _equal_numbers(old: object, new: object) -> bool:
    try:
        return Decimal(str(old).strip()) == Decimal(str(new).strip())
    except InvalidOperation:
        return False
