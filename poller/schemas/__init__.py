"""JSON Schema of every event type and AsyncAPI of stream and webhooks, made from the models."""

from .additive import breaks
from .asyncapi import asyncapi
from .events import bundle, event_schema
from .files import files, text, write
from .samples import example
from .types import TYPES, EventType

__all__ = [
    "TYPES",
    "EventType",
    "asyncapi",
    "breaks",
    "bundle",
    "event_schema",
    "example",
    "files",
    "text",
    "write",
]
