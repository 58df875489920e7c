"""The OpenAPI 3.1 document of the HTTP API, made from the operations and their models."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from .answers import FaultAnswer
from .operations import Operation

API_VERSION = "1.0.0"
"""Of what is promised, not of the program: v1 only adds."""

SECURITY: Mapping[str, list[dict[str, list[str]]]] = {
    "none": [],
    "read": [{"token": []}, {"page": []}, {}],
    "act": [{"token": []}, {"page": []}],
    "metrics": [{"metricsToken": []}, {}],
    "hmac": [{"drum": []}],
}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "web.token"},
    "page": {
        "type": "apiKey",
        "in": "cookie",
        "name": "poller_session",
        "description": "The page's cookie; a POST with it must come from the page itself.",
    },
    "metricsToken": {"type": "http", "scheme": "bearer", "description": "web.metrics_token, if it is set."},
    "drum": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Webhook-Signature",
        "description": "Hex HMAC-SHA256 with hook_secret, as Drum signs.",
    },
}
_FAULTS = {
    400: "Not understood.",
    401: "A token is needed.",
    403: "Not allowed, or no token is set.",
    404: "There is no such thing.",
    409: "It makes no sense as things stand.",
    413: "The body is too large.",
    421: "The Host name is not one of this service.",
    422: "Not understood.",
    503: "Redis cannot be reached, or the service is not well.",
}
Refs: TypeAlias = Mapping[Any, Any]
"""Model -> how its schema is referred to."""

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def openapi(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document."""
    operations = list(operations)
    answers: list[type[BaseModel]] = [each.answer for each in operations if not isinstance(each.answer, str)]
    asked = [each.request for each in operations if each.request is not None]
    told: list[type[BaseModel]] = [*answers, FaultAnswer]
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    wanted += [(model, "serialization") for model in dict.fromkeys(told)]
    wanted += [(model, "validation") for model in dict.fromkeys(asked)]
    names, shared = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    refs: Refs = {model: schema for (model, _), schema in names.items()}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = _PARAMETER.sub(r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "poller",
            "version": API_VERSION,
            "description": (
                "What `poller run` answers over HTTP. On loopback reading needs no token; everything that "
                "acts, and everything on another host, does."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": shared.get("$defs", {}), "securitySchemes": _SCHEMES},
    }


def _operation(of: Operation, refs: Refs) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": of.name,
        "summary": of.summary,
        "security": SECURITY[of.security],
        "parameters": [*_path_parameters(of.path), *_query_parameters(of.query)],
        "responses": {
            "200": {
                "description": "Done." if of.method == "POST" else "What was asked for.",
                **_content(of, refs),
            },
            **{str(status): _fault(status, refs) for status in _faults(of)},
        },
    }
    if of.request is not None:
        told["requestBody"] = {
            "required": bool(refs[of.request].get("required")) if "$ref" not in refs[of.request] else False,
            "content": {"application/json": {"schema": refs[of.request]}},
        }
    return told


def _content(of: Operation, refs: Refs) -> dict[str, Any]:
    if isinstance(of.answer, str):
        kind = "object" if of.answer == "application/json" else "string"
        return {"content": {of.answer: {"schema": {"type": kind}}}}
    return {"content": {"application/json": {"schema": refs[of.answer]}}}


def _faults(of: Operation) -> list[int]:
    found = {*of.faults}
    if of.security in ("read", "act"):
        found |= {401, 403, 421, 503}
    if of.security == "metrics":
        found |= {401, 421}
    if of.method == "POST":
        found |= {413}
    return sorted(found)


def _fault(status: int, refs: Refs) -> dict[str, Any]:
    content = {"application/json": {"schema": refs[FaultAnswer]}}
    return {"description": _FAULTS[status], "content": content}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            **({"description": given["description"]} if "description" in given else {}),
            "schema": {key: value for key, value in given.items() if key not in ("description", "title")},
        }
        for name, given in schema["properties"].items()
    ]
