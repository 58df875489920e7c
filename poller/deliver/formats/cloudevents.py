"""The event itself, as a CloudEvent in structured JSON, signed by Standard Webhooks (contract §7)."""

from collections.abc import Sequence

from poller.deliver import signing
from poller.model import Event

from .request import Request


def render(event: Event, *, secrets: Sequence[bytes], at: float, content_type: str) -> Request:
    """Send the bytes of the stream as they are: what is signed is what is sent."""
    headers = signing.headers(secrets=secrets, id=event.id, at=at, body=event.body)
    return Request(body=event.body, headers={"content-type": content_type, **headers})
