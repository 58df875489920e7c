"""The small values that settings are made of, read from the words people write; no I/O."""

import ipaddress
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import idna
from pydantic import SecretStr

from poller.deliver.settings import LONG_SEGMENT
from poller.deliver.signing import MAKE_ONE, decode_secret

LONGEST = timedelta(days=3650)
MASK = "***"

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_ALLOWANCE = re.compile(r"([0-9]{1,9})/([0-9]*)(ms|s|m|h|d)")
_NAME = re.compile(r"[a-z0-9-]{1,32}")
_BEHIND_BRACKET = re.compile(r"\][^:@]")
_USERINFO = re.compile(r"//[^/?#\s]*@")

DURATION_HELP = 'a duration is a whole number and a unit (ms, s, m, h, d), such as "30s", "5m" or "24h"'


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many of something in each window of time: `240/5m`, `10/s`."""

    count: int
    window: timedelta

    @property
    def per_second(self) -> float:
        """The mean rate, in 1/s."""
        return self.count / self.window.total_seconds()

    def __str__(self) -> str:
        window = format_duration(self.window)
        return f"{self.count}/{window.removeprefix('1') if window[1:] in _UNITS else window}"


def parse_duration(value: Any) -> timedelta:
    """Read `"30s"`, `"500ms"`, `"7d"`; a timedelta passes as it is.

    Raises:
        ValueError: not of that form, or longer than ten years.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(DURATION_HELP)
    return _bounded(int(match[1]), match[2])


def _bounded(number: int, unit: str) -> timedelta:
    if number > LONGEST // _UNITS[unit]:
        msg = f"too long; at most {LONGEST.days}d"
        raise ValueError(msg)
    return number * _UNITS[unit]


def parse_positive(value: Any) -> timedelta:
    """Read a duration that is longer than nothing.

    Raises:
        ValueError: as `parse_duration`, or zero.
    """
    duration = parse_duration(value)
    if duration <= timedelta():
        msg = "must be longer than 0s"
        raise ValueError(msg)
    return duration


def format_duration(value: timedelta) -> str:
    """Write a duration so that `parse_duration` reads the same: `24h` and not `1d`, `90s` and not `1.5m`."""
    if value and value % _UNITS["d"] == timedelta() and value > _UNITS["d"]:
        return f"{value // _UNITS['d']}d"
    for unit in ("h", "m", "s"):
        if value and value % _UNITS[unit] == timedelta():
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value // _UNITS['ms']}ms" if value else "0s"


def parse_allowance(value: Any) -> Allowance:
    """Read `"240/5m"` or `"10/s"`; an Allowance passes as it is.

    Raises:
        ValueError: not of that form, or a count or window of nothing.
    """
    if isinstance(value, Allowance):
        return value
    match = _ALLOWANCE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        msg = 'write a count, a slash and a time, such as "240/5m" or "10/s"'
        raise ValueError(msg)
    count, window = int(match[1]), parse_positive(f"{match[2] or 1}{match[3]}")
    if count < 1:
        msg = "the count must be at least 1"
        raise ValueError(msg)
    return Allowance(count, window)


def parse_name(value: str) -> str:
    """Judge the name of a source, an endpoint or an egress: `[a-z0-9-]{1,32}`.

    Raises:
        ValueError: with a name that would do, if there is one.
    """
    if _NAME.fullmatch(value):
        return value
    near = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")[:32]
    hint = f'; write "{near}"' if near else ""
    msg = f"a name is 1 to 32 of a-z, 0-9 and -{hint}"
    raise ValueError(msg)


def plain(value: Any) -> Any:
    """Give the text inside a SecretStr, and anything else as it is."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def as_list(value: Any) -> Any:
    """Read a list from one string: JSON if it begins with `[`, else parted by commas. Lists pass.

    Raises:
        ValueError: it begins with `[` and is no JSON.
    """
    text = plain(value)
    if not isinstance(text, str):
        return value
    if text.lstrip().startswith("["):
        return _json(text, kind=list)
    return [part.strip() for part in text.split(",") if part.strip()]


def as_table(value: Any) -> Any:
    """Read a table from one string of JSON, as an environment variable has it. Tables pass.

    Raises:
        ValueError: a string that is no JSON object.
    """
    text = plain(value)
    return _json(text, kind=dict) if isinstance(text, str) else value


def _json(text: str, *, kind: type) -> Any:
    msg = f"not a JSON {'list' if kind is list else 'object'}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(msg) from None  # the cause would quote a secret
    if not isinstance(value, kind):
        raise ValueError(msg)  # and no TypeError: pydantic collects ValueErrors
    return value


def parse_signing_secret(value: Any) -> SecretStr:
    """Judge a webhook secret: `whsec_` and the base64 of 24 to 64 bytes (Standard Webhooks 1.0).

    Raises:
        ValueError: it is not; the message says how to make one.
    """
    text = plain(value)
    if not isinstance(text, str):
        msg = f"must be a string; {MAKE_ONE}"
        raise ValueError(msg)  # and no TypeError: pydantic collects ValueErrors
    decode_secret(text.strip())
    return SecretStr(text.strip())


def parse_network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read a CIDR such as `10.0.0.0/8` or one address.

    Raises:
        ValueError: not a network, or with bits set beyond its mask.
    """
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        network = ipaddress.ip_network(str(value).strip(), strict=False)
    except ValueError:
        msg = 'write networks as CIDRs, such as "10.0.0.0/8" or "fd00::/8"'
        raise ValueError(msg) from None
    if str(network.network_address) != str(ipaddress.ip_interface(str(value).strip()).ip):
        msg = f'has bits set beyond its mask; write "{network}"'
        raise ValueError(msg)
    return network


def parse_origin(value: Any) -> str:
    """Judge a base URL: http or https, a host, perhaps a port, and nothing else; normalised.

    Raises:
        ValueError: anything else stands in it.
    """
    parts = split_url(value)
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        msg = "only scheme and host belong here, such as https://app.getdrum.com"
        raise ValueError(msg)
    port = parts.port
    shown = "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{_host(parts.hostname or '')}{shown}"


_PORTS = {"http": 80, "https": 443}


def _host(name: str) -> str:
    """One spelling of a host: it has one budget, however it is written."""
    try:
        found = (name if name.isascii() else idna.encode(name).decode()).removesuffix(".")
    except idna.IDNAError as exc:
        msg = f"{name} is no name of a host: {exc}"
        raise ValueError(msg) from exc
    if "" in found.split("."):
        msg = f"{name} is no name of a host: nothing stands before or between its dots"
        raise ValueError(msg)
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return found
    return f"[{address}]" if address.version == 6 else str(address)


def parse_endpoint_url(value: Any) -> SecretStr:
    """Judge the URL of a receiver: http or https, no user information, no fragment.

    Raises:
        ValueError: it is none; the message does not repeat it.
    """
    parts = split_url(plain(value))
    if parts.username is not None:
        msg = "no user information belongs in the URL; use headers for credentials"
        raise ValueError(msg)
    if parts.fragment:
        msg = "a # and what follows is never sent; leave it out"
        raise ValueError(msg)
    _host(parts.hostname or "")
    return SecretStr(plain(value))


def split_url(value: Any, *, schemes: tuple[str, ...] = ("http", "https")) -> SplitResult:
    """Split a URL that has one of `schemes` and a host, and no space or control character.

    Raises:
        ValueError: it is no such URL; the message does not repeat it.
    """
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    msg = f"not a URL that begins with {wanted} and a host"
    if not isinstance(value, str) or not value.isprintable() or " " in value or "\\" in value:
        raise ValueError(msg)
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ValueError(msg) from None
    # What stands behind a bracket is dropped by Python: a port without its colon would be another port.
    if not good or _BEHIND_BRACKET.search(parts.netloc):
        raise ValueError(msg)
    return parts


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`: 127.0.0.0/8, ::1 and localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def is_slack(url: str) -> bool:
    """Tell whether a URL is one of Slack's incoming webhooks, whose path is the secret."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host == "slack.com" or host.endswith((".slack.com", ".slack-gov.com"))


def mask_url(url: str, *, path: bool) -> str:
    """Show where a URL leads and nothing that proves anything: no password, no query, no token in the path.

    With `path` the whole path is a secret, as it is in Slack's.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return MASK
    if not parts.scheme or (not host and parts.scheme != "unix"):
        return MASK
    user = f"{MASK}@" if "@" in parts.netloc else ""
    if (path or is_slack(url)) and parts.path not in ("", "/"):
        kept = f"/{MASK}"
    else:
        kept = "/".join(MASK if len(part) >= LONG_SEGMENT else part for part in parts.path.split("/"))
    return f"{parts.scheme}://{user}{host}{kept}" + (f"?{MASK}" if parts.query else "")


def mask_userinfo(text: str) -> str:
    """Blank `user:password@` wherever a URL in the text has it."""
    return _USERINFO.sub(f"//{MASK}@", text)
