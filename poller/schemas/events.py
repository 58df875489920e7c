"""JSON Schema 2020-12 of each event type, from pydantic's models."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from poller.model import CloudEvent, loads

from .samples import example
from .types import TYPES, EventType

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = "v1"
OURS = "poller"
VIEW = "DealView"
"""What data.deal is called here, since a source may have a Deal of its own."""


class _Generator(GenerateJsonSchema):
    """Decimals are JSON numbers, with the places that the API sent (contract §4); no words but ours."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:  # noqa: ARG002 -- its name
        """A number, and not also a string that looks like one."""
        return {"type": "number"}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- its name
        """A title that only repeats the field's name says nothing."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        """What is absent from an event is unknown, and no default stands for it."""
        return self.generate_inner(schema["schema"])


def event_schema(type_: EventType) -> dict[str, Any]:
    """The schema of one type's CloudEvent, complete in itself, with an example."""
    return {"$schema": DIALECT, "$id": f"urn:poller:{VERSION}:{type_.name}", **_drawn(type_)}


def bundle() -> dict[str, Any]:
    """All types in one schema, what they share said once: an event fits exactly one of them."""
    shared, types = spread("#/$defs")
    return {
        "$schema": DIALECT,
        "$id": f"urn:poller:{VERSION}:events",
        "title": "Events of poller",
        "description": "Each event is one of these; which one, says its `type`.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in types],
        "$defs": {**types, **shared},
    }


def spread(place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(definitions, event types) of all types, with references to definitions at `place`.

    A definition is named after its kind of source, since another's Opportunity is another thing.
    """
    shared: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for name, type_ in TYPES.items():
        schema = _drawn(type_)
        to = f"{place}/{type_.source_kind or OURS}."
        for local, definition in schema.pop("$defs").items():
            shared[f"{type_.source_kind or OURS}.{local}"] = _moved(definition, to)
        examples = schema.pop("examples")
        types[name] = {**_moved(schema, to), "examples": examples}
    return dict(sorted(shared.items())), types


def _moved(value: Any, to: str) -> Any:
    if isinstance(value, dict):
        return {
            key: to + item.rpartition("/")[2] if key == "$ref" else _moved(item, to)
            for key, item in value.items()
        }
    return [_moved(item, to) for item in value] if isinstance(value, list) else value


def _drawn(type_: EventType) -> dict[str, Any]:
    return copy.deepcopy(_drawn_once(type_.name))


@cache
def _drawn_once(name: str) -> dict[str, Any]:
    type_ = TYPES[name]
    model: type[BaseModel] = CloudEvent[type_.object]  # type: ignore[name-defined]
    schema = _shortened(model.model_json_schema(mode="validation", schema_generator=_Generator))
    definitions = schema.pop("$defs")
    # pydantic names the data of an envelope after its type arguments; here it stands in its place.
    data = definitions.pop(next(name for name in definitions if name.startswith("EventData_")))
    _narrow(schema["properties"], type_)
    schema["properties"]["data"] = _data(data, type_)
    if not type_.has_deal:
        definitions.pop(VIEW)
    return {
        **schema,
        "title": type_.name,
        "description": type_.description,
        "$defs": dict(sorted(definitions.items())),
        "examples": [loads(example(type_).body)],
    }


def _shortened(schema: dict[str, Any]) -> dict[str, Any]:
    """Names as a reader would choose them; pydantic gives long ones where two models are called the same."""
    names = {
        name: name.rpartition("__")[2] if name.startswith("poller__") else name for name in schema["$defs"]
    }
    names["poller__model__Deal" if "poller__model__Deal" in names else "Deal"] = VIEW
    shortened: dict[str, Any] = _named(schema, names)
    shortened["$defs"] = {names[name]: value for name, value in shortened["$defs"].items()}
    return shortened


def _named(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: f"#/$defs/{names[item.rpartition('/')[2]]}" if key == "$ref" else _named(item, names)
            for key, item in value.items()
        }
    return [_named(item, names) for item in value] if isinstance(value, list) else value


def _narrow(properties: dict[str, Any], type_: EventType) -> None:
    kind = type_.source_kind or "[a-z]+"
    properties["type"] = {"const": type_.name, "type": "string"}
    properties["source"]["pattern"] = f"^/{kind}/[a-z0-9-]{{1,32}}$"
    properties["source"]["description"] = "Kind and name of the source."
    properties["subject"]["pattern"] = f"^{type_.subject}/.+$"
    properties["time"]["description"] = "When it was detected."
    properties["id"]["description"] = "The same whenever the same transition is told: to deduplicate by."


def _data(data: dict[str, Any], type_: EventType) -> dict[str, Any]:
    properties: dict[str, Any] = {key: dict(value) for key, value in data["properties"].items()}
    required = list(data["required"])
    properties["object"]["description"] = "The record as now known; for `removed` as last known."
    properties["previous"]["description"] = "The whole old value of each changed top-level field."
    properties["changed"]["description"] = "Sorted names of the changed top-level fields."
    properties["revision"]["description"] = "Counts the events of this record from 1, without gaps."
    if type_.bare:
        properties["previous"]["maxProperties"] = 0
        properties["changed"]["maxItems"] = 0
    if type_.has_deal:
        properties["deal"] = {"$ref": f"#/$defs/{VIEW}"}
        required.append("deal")
    else:
        del properties["deal"]
    data.pop("title", None)
    return {**data, "properties": properties, "required": sorted(required)}
