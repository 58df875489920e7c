"""Whether a schema of v1 only adds to an older one: what a consumer relied on still holds. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_FIXED = ("const", "enum", "pattern", "format", "minimum", "maxItems", "maxProperties")
_ANY = frozenset({"any"})


def breaks(old: Schema, new: Schema) -> list[str]:
    """What a consumer of the old schema could no longer rely on, each with its place; empty if nothing.

    A consumer reads: a property may be added, a type narrowed, a promise made. A property may not go or
    become optional, a type may not widen, a constant or pattern may not change. Of a bundle each type is
    looked at.
    """
    if "oneOf" not in old:
        return list(_breaks(old, new, old, new, "$"))
    found: list[str] = []
    for name in (each["$ref"].rpartition("/")[2] for each in old["oneOf"]):
        if name in new["$defs"]:
            found += _breaks(old["$defs"][name], new["$defs"][name], old, new, name)
        else:
            found.append(f"{name}: is gone")
    return found


def lost_operations(old: Schema, new: Schema) -> list[str]:
    """Operations of an OpenAPI document that are no longer there."""
    return [
        f"{method.upper()} {path}: is gone"
        for path, methods in old["paths"].items()
        for method in methods
        if method not in new["paths"].get(path, {})
    ]


def _breaks(old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    before, after = _types(old, old_root), _types(new, new_root)
    if before != _ANY and not after <= before:
        yield f"{at}: was {_named(before)}, is {_named(after)}"
        return
    for word in _FIXED:
        if word in old and old[word] != new.get(word):
            yield f"{at}: {word} was {old[word]!r}, is {new.get(word)!r}"
    for name in sorted(set(old.get("required", ())) - set(new.get("required", ()))):
        yield f"{at}.{name}: was always there, is optional"
    yield from _inner(old, new, old_root, new_root, at)


def _inner(old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str) -> Iterator[str]:
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{at}.{name}: is gone"
        else:
            yield from _breaks(schema, new["properties"][name], old_root, new_root, f"{at}.{name}")
    if "items" in old:
        yield from _breaks(old["items"], new.get("items", {}), old_root, new_root, f"{at}[]")
    objects = [_only_object(each, root) for each, root in ((old, old_root), (new, new_root))]
    if objects[0] is not None and objects[1] is not None:
        yield from _breaks(objects[0], objects[1], old_root, new_root, at)


def _only_object(schema: Schema, root: Schema) -> Schema | None:
    """The object among alternatives, where there is just one: `Status or null`."""
    found = [
        resolved
        for each in schema.get("anyOf", ())
        if (resolved := _resolved(each, root)).get("type") == "object"
    ]
    return found[0] if len(found) == 1 else None


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    return schema


def _types(schema: Schema, root: Schema) -> frozenset[str]:
    """The JSON types that a value may have; integers are numbers."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        return frozenset().union(*(_types(each, root) for each in schema["anyOf"]))
    found = schema.get("type")
    if found is None:
        return _ANY
    return frozenset([found] if isinstance(found, str) else found)


def _named(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))
