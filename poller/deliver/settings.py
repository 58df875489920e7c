"""What an endpoint is told when it is built: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from . import retry
from .outbound import Network, Outbound

SHORTEST_SECRET = 6
"""Shorter words are no secrets, and would blank half of an answer."""
LONG_SEGMENT = 20
"""A part of a path as long as this is taken for a token."""


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """What `[webhooks.NAME]` says, as values. Its repr holds no secret."""

    name: str
    url: str = field(repr=False)
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    events: tuple[str, ...] = ("*",)
    sources: tuple[str, ...] = ("*",)
    start: Literal["now", "oldest"] = "now"
    format: str = "cloudevents"
    content_type: str = "application/json"
    filter: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    order: Literal["subject", "none"] = "subject"
    concurrency: int = 8
    rate_per_s: float | None = None
    schedule_s: tuple[float, ...] = retry.SCHEDULE_S
    allow_private: tuple[Network, ...] = ()

    @property
    def host(self) -> str:
        """The only part of the URL that may be shown."""
        return urlsplit(self.url).hostname or ""

    @property
    def hidden(self) -> tuple[str, ...]:
        """What is sent to the endpoint and nobody else may see: header values, and what its URL proves by."""
        parts = urlsplit(self.url)
        told = [word for value in self.headers.values() for word in value.split()]
        told += [value for _, value in parse_qsl(parts.query)]
        shortest = SHORTEST_SECRET if self.format == "slack" else LONG_SEGMENT
        told += [each for each in parts.path.split("/") if len(each) >= shortest]
        return tuple(sorted({each for each in told if len(each) >= SHORTEST_SECRET}, key=len, reverse=True))

    @property
    def interval_s(self) -> float:
        """Shortest time between the starts of two attempts."""
        return 1 / self.rate_per_s if self.rate_per_s else 0.0


def outbound_for(settings: EndpointSettings) -> Outbound:
    """Open the connections of an endpoint."""
    return Outbound(
        url=settings.url,
        concurrency=settings.concurrency,
        allow_private=settings.allow_private,
        hidden=settings.hidden,
    )
