"""`verify`: whether a webhook request is from a poller that knows the secret, and its event."""

import hmac
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from poller.deliver.signing import decode_secret, signature
from poller.model import loads

TOLERANCE_S = 300
"""How far a request's timestamp may be from now, either way (Standard Webhooks' own libraries)."""
LONGEST_STAMP = 12


class VerificationFailed(ValueError):
    """The request is not from a poller that knows the secret, or is too old, or was changed."""


def verify(
    headers: Mapping[str, str], body: bytes, secret: str, *, now: float | None = None
) -> dict[str, Any]:
    """Check the signature of a webhook request and give its CloudEvent, decimals exact.

    `headers` may be any mapping; their case does not matter. `body` are the very bytes received.

    Raises:
        VerificationFailed: a header is missing, the time is more than five minutes off, the signature
            does not match, or the body is no JSON object.
        ValueError: the secret is not `whsec_` and base64.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, stamp = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"].split()
    except KeyError as exc:
        msg = f"the header {exc} is missing"
        raise VerificationFailed(msg) from None
    at = int(stamp) if stamp.isdecimal() and len(stamp) <= LONGEST_STAMP else 0
    if abs((time.time() if now is None else now) - at) > TOLERANCE_S:
        said = stamp[:LONGEST_STAMP]
        msg = f"webhook-timestamp {said!r} is more than {TOLERANCE_S} s from now: replayed, or a wrong clock"
        raise VerificationFailed(msg)
    key = decode_secret(secret)
    try:
        expected = signature(secrets=[key], id=event_id, timestamp=at, body=body).encode()
    except ValueError:
        msg = f"webhook-id {event_id[:80]!r} is none that a poller sends"
        raise VerificationFailed(msg) from None
    if not any(hmac.compare_digest(expected, each.encode(errors="replace")) for each in signatures):
        msg = "the signature does not match: another secret, or the body was changed on its way"
        raise VerificationFailed(msg)
    with suppress(ValueError):
        event = loads(body)
        if isinstance(event, dict):
            return event
    msg = "the body is no JSON object"
    raise VerificationFailed(msg)
