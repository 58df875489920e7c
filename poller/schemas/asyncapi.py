"""AsyncAPI 3.0 of what poller sends: the stream of each source, and the requests to each endpoint."""

from typing import Any

from poller.deliver.retry import SCHEDULE_S

from .events import spread
from .types import TYPES

API_VERSION = "1.0.0"
"""Of what is promised, not of the program: v1 only adds."""
CONTENT_TYPES = ("application/json", "application/cloudevents+json")


def asyncapi() -> dict[str, Any]:
    """The document; its payloads are the schemas of the event types."""
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in TYPES}
    shared, types = spread("#/components/schemas")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "poller",
            "version": API_VERSION,
            "description": (
                "Every change of a CRM as a CloudEvent, in a Redis stream for each source and as a signed "
                "HTTP request to each endpoint. At least once; the id tells repeats."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": CONTENT_TYPES[0],
        "channels": {"stream": _stream(messages), "webhook": _webhook(messages)},
        "operations": {
            "publishEvents": {"action": "send", "channel": {"$ref": "#/channels/stream"}},
            "deliverEvents": {"action": "send", "channel": {"$ref": "#/channels/webhook"}},
        },
        "components": {
            "messages": {name: _message(name, schema) for name, schema in types.items()},
            "messageTraits": {"signed": {"headers": _headers()}},
            "schemas": shared,
        },
    }


def _stream(messages: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": "poller:{source}:events",
        "description": (
            "A Redis stream for each source; `poller` is redis.prefix. Each entry has the fields id, type, "
            "subject, time and event, which is the whole CloudEvent as JSON. Make a consumer group of your "
            "own: what it has not acknowledged is kept for redis.retention at least."
        ),
        "parameters": {
            "source": {
                "description": "The source's name in braces, which are part of the key.",
                "examples": ["{acme}"],
            }
        },
        "messages": messages,
    }


def _webhook(messages: dict[str, Any]) -> dict[str, Any]:
    hours = sum(SCHEDULE_S) / 3600
    return {
        "address": "{url}",
        "description": (
            "A POST to each endpoint, signed by Standard Webhooks 1.0. Success is any 2xx within 15 s; "
            f"else it is tried again, {len(SCHEDULE_S)} times over {hours:.1f} h."
        ),
        "parameters": {"url": {"description": "webhooks.NAME.url of the settings."}},
        "messages": messages,
    }


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    example = schema.pop("examples")[0]
    return {
        "name": name,
        "title": name,
        "summary": schema["description"],
        "contentType": CONTENT_TYPES[0],
        "traits": [{"$ref": "#/components/messageTraits/signed"}],
        "payload": schema,
        "examples": [{"name": "example", "payload": example}],
    }


def _headers() -> dict[str, Any]:
    """Of the request; an entry of a stream has none."""
    named = {
        "webhook-id": "The event's id, the same on every attempt.",
        "webhook-timestamp": "Unix seconds of the attempt.",
        "webhook-signature": "`v1,` and base64 of the HMAC-SHA256; several are parted by spaces.",
        "user-agent": "poller/<version>",
    }
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in named.items()},
    }
