"""Standard Webhooks 1.0 signatures: pure, the caller brings the clock.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
SHORTEST = 24
LONGEST = 64
"""Bytes of a secret, by the specification."""
MAKE_ONE = "make one with `poller webhooks secret`"


def decode_secret(text: str) -> bytes:
    """Decode a secret written as `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        ValueError: it is something else; the message does not repeat it.
    """
    if not text.startswith(PREFIX):
        msg = f"a webhook secret begins with {PREFIX}; {MAKE_ONE}"
        raise ValueError(msg)
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        msg = f"what follows {PREFIX} is not base64; {MAKE_ONE}"
        raise ValueError(msg) from None
    if not SHORTEST <= len(key) <= LONGEST:
        msg = f"a webhook secret has {SHORTEST} to {LONGEST} bytes, not {len(key)}; {MAKE_ONE}"
        raise ValueError(msg)
    return key


def encode_secret(key: bytes) -> str:
    """Write a secret the way `decode_secret` reads it.

    Raises:
        ValueError: not 24 to 64 bytes.
    """
    if not SHORTEST <= len(key) <= LONGEST:
        msg = f"a webhook secret has {SHORTEST} to {LONGEST} bytes, not {len(key)}"
        raise ValueError(msg)
    return PREFIX + base64.b64encode(key).decode()


def signature(*, secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:  # noqa: A002 - the header's own word
    """Sign `id.timestamp.body` with every live secret, the newest first.

    A verifier that knows any one of them is content: that is how keys are rotated.

    Raises:
        ValueError: the id has a `.` in it, which would make the signed text ambiguous.
    """
    if "." in id:
        msg = f"a webhook id must not contain a dot: {id}"
        raise ValueError(msg)
    text = b"%s.%d.%s" % (id.encode(), timestamp, body)
    return " ".join(_v1(key, text) for key in secrets)


def _v1(key: bytes, text: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()


def headers(*, secrets: Sequence[bytes], id: str, at: float, body: bytes) -> dict[str, str]:  # noqa: A002
    """Make the three headers of one attempt; `at` is its Unix time in seconds."""
    timestamp = int(at)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secrets=secrets, id=id, timestamp=timestamp, body=body),
    }
