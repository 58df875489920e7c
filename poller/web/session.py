"""Who asks: the token, the cookie that is worth the same, and the proof that a form is our own. Pure.

The cookie holds the moment of the log-in and an HMAC over it with the token as the key: it outlives a
restart, is valid on every replica, and ends when the token is changed.
"""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

COOKIE = "poller_session"
LIVES_S = 30 * 24 * 3600
_LABEL = b"poller page session v1\n"


@dataclass(frozen=True, slots=True)
class Visitor:
    """What somebody may do."""

    reads: bool
    acts: bool
    by_cookie: bool = False


def same(given: str, wanted: str) -> bool:
    """Compare in constant time; nothing equals an empty secret."""
    return bool(wanted) and hmac.compare_digest(_digest(given), _digest(wanted))


def _digest(text: str) -> bytes:
    # Hashed first, so that not even the length shows in the time.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def cookie_for(token: str, *, now: float) -> str:
    """Make the cookie's value at a log-in."""
    at = str(int(now))
    return f"{at}.{_mac(token, at)}"


def cookie_holds(value: str, token: str, *, now: float) -> bool:
    """Whether a cookie was made with this token, within the last 30 days."""
    at, _, mac = value.partition(".")
    if not token or not (at.isascii() and at.isdigit() and len(at) <= 12):
        return False
    return hmac.compare_digest(mac.encode(), _mac(token, at).encode()) and 0 <= now - int(at) + 60 < LIVES_S


def _mac(token: str, at: str) -> str:
    return hmac.new(token.encode(), _LABEL + at.encode(), hashlib.sha256).hexdigest()


def bearer(header: str) -> str:
    """The token of an Authorization header; empty where it has none."""
    scheme, _, rest = header.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


def host_name(header: str) -> str:
    """The name in a Host header, without port and brackets, in small letters; empty where it is none."""
    try:
        parts = urlsplit(f"//{header}")
        name = (parts.hostname or "").rstrip(".")
        _ = parts.port
    except ValueError:
        return ""
    return "" if set("/@?#\\ ") & set(header) else name


def is_loopback(name: str) -> bool:
    """Whether a Host name can only mean the machine of whoever asks."""
    if name == "localhost":
        return True
    address = literal(name)
    return address is not None and address.is_loopback


def literal(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a Host name is; None where it is a name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def own_form(*, site: str | None, origin: str | None, host: str) -> bool:
    """Whether a POST with a cookie comes from a page of ours, by what only browsers can say.

    Sec-Fetch-Site where the browser sends it (https and localhost); else Origin against Host.
    """
    if site is not None:
        return site == "same-origin"
    if origin is None or "//" not in origin:
        return False
    return origin.partition("//")[2].lower() == host.lower()
