"""An example of every event type, made by the very code that makes the events; the same at each call."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from pydantic import TypeAdapter

from poller.model import Event, loads
from poller.watch.events import Bounds, Known, make

from .types import TYPES, EventType

AT = 1_795_350_000.0
"""When the examples happen (Unix seconds)."""
SOURCE, ENDPOINT = "acme", "billing"
_MEANINGS = {"won": "won", "lost": "lost"}


def example(type_: EventType) -> Event:
    """An example of a type; its record comes from the API's own documents where those have one."""
    written = _written(type_.source_kind).get(type_.subject, {})
    own = written.get("object") or sample(type_.object)
    change = written.get("changes", {}).get(type_.suffix) or _change(type_, own)
    object_ = change.get("object", own)
    previous = change.get("previous", {})
    return make(
        Known(),
        source=f"/{type_.source_kind or next(iter(_kinds()))}/{SOURCE}",
        subject=_subject(type_, own),
        type_=type_.name,
        bounds=Bounds(AT - 30, AT - 1),
        object_=object_,
        previous=previous,
        changed=tuple(change.get("changed", previous)),
        deal=_deal(type_, written, object_, previous),
        detected_at=AT,
    )


def _kinds() -> Sequence[str]:
    return [each.source_kind for each in TYPES.values() if each.source_kind]


@cache
def _written(source_kind: str) -> Mapping[str, Any]:
    file = resources.files("poller.schemas").joinpath("examples", f"{source_kind}.json")
    return dict(loads(file.read_bytes())) if source_kind and file.is_file() else {}


def _subject(type_: EventType, own: Mapping[str, Any]) -> str:
    names = {"source": SOURCE, "webhook": ENDPOINT}
    return f"{type_.subject}/{own['id'] if type_.kind else names[type_.subject]}"


def _change(type_: EventType, own: Mapping[str, Any]) -> dict[str, Any]:
    """Where nobody wrote one: some text field that was otherwise before."""
    if type_.name == "poller.source.renamed":
        return {"previous": {"name": "Proposal Submitted"}}
    if type_.bare or type_.kind is None or type_.suffix in ("added", "restored"):
        return {}
    field = next((name for name, value in own.items() if isinstance(value, str) and name != "id"), "id")
    return {"previous": {field: "as it was before" if field != "id" else own[field]}}


def _deal(
    type_: EventType, written: Mapping[str, Any], object_: Mapping[str, Any], previous: Mapping[str, Any]
) -> Mapping[str, str | None] | None:
    if type_.kind is None or type_.kind.deal is None:
        return None
    known, url = Known(row=dict(object_)), str(written.get("url", ""))
    deal = type_.kind.deal(known, _MEANINGS.get(type_.suffix, "open"), url, written.get("names", {}))
    if deal["amount"] is None and previous.get("amount") is not None:
        deal = {**deal, "amount": str(previous["amount"])}
    return deal


# --- the smallest value that a model accepts -----------------------------------------------------


def sample(model: Any) -> dict[str, Any]:
    """A value for a model: its examples where it has them, else the smallest that it accepts."""
    schema = TypeAdapter(model).json_schema(mode="validation")
    made = _sample(schema, schema.get("$defs", {}))
    result: dict[str, Any] = loads(TypeAdapter(Any).dump_json(made))
    return result


def _sample(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _sample(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return _sample(choices[0], defs)
    if "default" in schema:
        return schema["default"]
    return _plain(schema, defs)


def _plain(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            named = schema.get("properties", {})
            wanted = [
                name for name in named if name in schema.get("required", ()) or "examples" in named[name]
            ]
            return {name: _sample(named[name], defs) for name in wanted}
        case "array":
            return []
        case "integer":
            return 7
        case "number":
            return Decimal("7.00")
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return "2026-11-20T09:00:00Z" if schema.get("format") == "date-time" else "text"
