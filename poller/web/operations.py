"""The HTTP API as a table: every operation once, for the router and for its OpenAPI document."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]
Security = Literal["none", "read", "act", "metrics", "hmac"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST"]
    path: str
    name: str
    summary: str
    handler: Handler
    answer: type[BaseModel] | str
    """A model, or the content type of what is not JSON."""
    request: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    security: Security = "read"
    faults: tuple[int, ...] = ()
