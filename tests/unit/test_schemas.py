"""The schemas: of every type, with examples that fit, checked in as they are, and only ever added to."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as Oracle

from poller import schemas
from poller.errors import SettingsError
from poller.model import CloudEvent, loads
from poller.schemas.files import ASYNCAPI, EVENTS, OPENAPI
from poller.watch.sources import SOURCES
from poller.web import api

BUNDLE = schemas.bundle()
CHECKED_IN = Path(__file__).parents[2] / "deploy" / "schemas"
OPERATIONAL = {
    *(f"poller.source.{each}" for each in "baseline_completed suspended resumed held released".split()),
    *(f"poller.source.{each}" for each in "renamed fields_hidden fields_shown".split()),
    *(f"poller.webhook.{each}" for each in "failing disabled recovered test".split()),
}


def test_every_type_has_a_schema() -> None:
    """Each type of each source's kinds and each operational type of the contract is there, and no other."""
    kinds = [kind for made in SOURCES.values() for kind in made.kinds.values()]
    of_records = {kind.type(suffix) for kind in kinds for suffix in kind.suffixes}
    assert set(schemas.TYPES) == of_records | OPERATIONAL


def test_checked_in_schemas_are_current() -> None:
    """deploy/schemas is what the models say; `poller schema --out deploy/schemas` writes it anew."""
    for name, data in schemas.files(api.document()).items():
        assert (CHECKED_IN / name).read_bytes() == data, f"{name}: poller schema --out deploy/schemas"


def test_within_v1_schemas_only_add() -> None:
    """What the checked-in schemas promise the models still keep."""
    assert schemas.breaks(loads((CHECKED_IN / EVENTS).read_bytes()), BUNDLE) == []


@pytest.mark.parametrize("name", sorted(schemas.TYPES))
def test_examples_are_events(name: str) -> None:
    """The example of a type is read by its own model and by the cloudevents library."""
    type_ = schemas.TYPES[name]
    event = schemas.example(type_)
    read = CloudEvent[type_.object].model_validate(loads(event.body))
    assert (read.type, read.subject, read.id) == (name, event.subject, event.id)
    assert JSONFormat().read(Oracle, event.body).get_type() == name
    assert schemas.example(type_) == event
    assert ("deal" in loads(event.body)["data"]) == type_.has_deal
    if type_.suffix not in ("created", "appeared", "removed", "restored", "added") and type_.kind:
        assert read.data.changed == sorted(read.data.previous) or type_.suffix == "won"


def test_examples_validate() -> None:
    """Every example fits its own schema; some are held against the bundle, where they fit one type alone."""
    jsonschema.Draft202012Validator.check_schema(BUNDLE)
    of_all = jsonschema.Draft202012Validator(BUNDLE)
    for number, type_ in enumerate(schemas.TYPES.values()):
        own = schemas.event_schema(type_)
        event = _floats(own["examples"][0])
        jsonschema.Draft202012Validator(own).validate(event)
        if number % 20 == 0:
            of_all.validate(event)
            assert not of_all.is_valid({**event, "type": "drum.opportunity.vanished"})


def _floats(value: Any) -> Any:
    """Decimals as a validator reads them."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return value if isinstance(value, str | bool | int | None) else float(value)


def test_decimals_are_numbers() -> None:
    """Amounts are JSON numbers with the places that the API sent, in the schema and in the example."""
    type_ = schemas.TYPES["drum.opportunity.updated"]
    schema = schemas.event_schema(type_)
    amount = schema["$defs"]["Opportunity"]["properties"]["amount"]
    assert {each["type"] for each in amount["anyOf"]} == {"number", "string", "null"}
    assert b'"amount":250000.00' in schemas.example(type_).body


def test_asyncapi_names_every_message_and_leaves_no_reference_open() -> None:
    """AsyncAPI 3 with both channels; each reference in it leads somewhere."""
    document = schemas.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    for channel in ("stream", "webhook"):
        assert set(document["channels"][channel]["messages"]) == set(schemas.TYPES)
    for reference in _references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for item in value.values() for each in _references(item)]
    return [each for item in value for each in _references(item)] if isinstance(value, list) else []


def _edited(path: str, change: Any) -> dict[str, Any]:
    """The bundle with one place changed; None drops it."""
    made = copy.deepcopy(BUNDLE)
    place: Any = made
    *steps, last = path.split("/")
    for step in steps:
        place = place[step]
    if change is None:
        del place[last]
    else:
        place[last] = change
    return made


EVENT = "$defs/drum.opportunity.won"
DEAL = "$defs/drum.DealView/properties"


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        (f"{DEAL}/client", None, "client: is gone"),
        (f"{DEAL}/amount", {"anyOf": [{"type": "number"}, {"type": "null"}]}, "was null or string, is null"),
        (f"{EVENT}/required", ["specversion", "id"], "was always there, is optional"),
        (f"{EVENT}/properties/id/pattern", "^.*$", "pattern was"),
        (EVENT, None, "drum.opportunity.won: is gone"),
        (
            f"{EVENT}/properties/time",
            {"type": ["string", "null"], "format": "date-time"},
            "is null or string",
        ),
        ("$defs/poller.Held/properties/list", None, "list: is gone"),
    ],
)
def test_a_promise_that_is_broken_is_found(path: str, change: Any, said: str) -> None:
    """Whatever a consumer could no longer rely on is named, with its place."""
    problems = schemas.breaks(BUNDLE, _edited(path, change))
    assert any(said in problem for problem in problems), problems


def test_additions_break_nothing() -> None:
    """A new field, a new type, a promise more: all of that is within v1."""
    more = _edited(f"{DEAL}/pipeline", {"type": "string"})
    more["$defs"]["drum.DealView"]["required"] = ["name"]
    more["$defs"]["drum.opportunity.merged"] = {"type": "object"}
    assert schemas.breaks(BUNDLE, more) == []


def test_what_breaks_a_promise_is_not_written(tmp_path: Path) -> None:
    """Writing over schemas that promise more is refused, and nothing is touched."""
    document = api.document()
    assert schemas.write(tmp_path, document) == [EVENTS, ASYNCAPI, OPENAPI]
    assert schemas.write(tmp_path, document) == []
    promised = schemas.text(_edited(f"{DEAL}/colour", {"type": "string"}))
    (tmp_path / EVENTS).write_bytes(promised)
    fewer = {**document, "paths": {path: of for path, of in document["paths"].items() if path != "/healthz"}}
    with pytest.raises(SettingsError) as refused:
        schemas.write(tmp_path, fewer)
    assert "colour: is gone; within v1 a schema only adds" in str(refused.value)
    assert "GET /healthz: is gone" in str(refused.value)
    assert (tmp_path / EVENTS).read_bytes() == promised
