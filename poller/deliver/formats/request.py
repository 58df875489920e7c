"""What a format makes of an event: the bytes of a body and the headers that go with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from poller.model import Event


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be sent; `body` is the very bytes that were signed."""

    body: bytes
    headers: Mapping[str, str]


class Format(Protocol):
    """Makes the request of one attempt; `at` is its Unix time in seconds."""

    def __call__(
        self, event: Event, *, secrets: Sequence[bytes], at: float, content_type: str
    ) -> Request: ...
