"""What a host says of its limit, and how long it wishes to be left alone. Pure: headers in, numbers out."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """A host's wish to be left alone."""

    retry_after_s: float | None
    """As it named it; None where it named no time."""
    server_date: float | None
    """Its own clock (Unix seconds), which tells where its windows begin."""
    why: str = "asks to be left alone"
    """What the host says, for people."""


EPOCH_FROM = 1e9
"""A reset above this is a moment (Unix seconds), below it a number of seconds from now."""
EPOCH_MS_FROM = 1e11
"""… and above this a moment in milliseconds."""

_PAIR = re.compile(r"\b(limit|remaining|reset|q|r|t)\s*=\s*(\d{1,15}(?:\.\d{1,9})?)")
_ITEM = re.compile(r',\s*(?=")')
"""Between two policies of a list, which the IETF's form names in quotes."""
_NAMES = {"q": "limit", "r": "remaining", "t": "reset"}
_FAMILIES = ("ratelimit", "x-ratelimit", "x-rate-limit")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a host says of its own limit; None for each part that it does not name."""

    limit: int | None
    remaining: int | None
    reset_s: float | None
    """Seconds from the answer until there is room again."""


def pause_of(status: int, headers: Mapping[str, str], now: float | None = None) -> Pause | None:
    """Whether an answer asks for a pause: any 429 and any 503 (contract §8). `now` as `retry_after`."""
    if status not in {429, 503}:
        return None
    wait_s = retry_after(headers, now)
    if status == 429 and wait_s is None:
        said = rate_limit(headers)
        wait_s = said.reset_s if said else None
    return Pause(wait_s, date_of(headers.get("date", "")))


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds named by Retry-After, as a number or as a date.

    A date is held against the server's own clock, or, where it does not tell it, against ours (`now`, Unix
    seconds). Of several numbers, each of a header of its own, the longest holds.
    """
    text = headers.get("retry-after", "").strip()
    numbers = [each.strip() for each in text.split(",")]
    if all(each.replace(".", "", 1).isdecimal() for each in numbers):
        return max(map(float, numbers))
    until, told = date_of(text), date_of(headers.get("date", ""))
    now = now if told is None else told
    if until is None or now is None:
        return None
    return max(0.0, until - now)


def date_of(text: str) -> float | None:
    """Unix seconds of an HTTP date; None where it is none (RFC 9110 §5.6.7)."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Read `RateLimit` in both its forms, `ratelimit-*` and `x-ratelimit-*`; None where there is none.

    `RateLimit: limit=100, remaining=50, reset=5` (Close), `RateLimit: "default";r=50;t=30` (IETF draft
    09 on; a list where several limits hold), and one header for each part, whose reset is seconds from now or
    a moment: hosts use both.
    """
    now, combined = headers.get("date", ""), headers.get("ratelimit", "")
    policies = [_pairs(each) for each in _ITEM.split(combined)]
    found = _pairs(headers.get("ratelimit-policy", "")) if len(policies) == 1 else {}
    # Of several policies the one with the least left, and of these the one that takes longest, holds.
    policies.sort(key=lambda each: (each.get("remaining", math.inf), -each.get("reset", 0.0)))
    found |= policies[0]
    for family in _FAMILIES:
        for part in ("limit", "remaining", "reset"):
            number = _number(headers.get(f"{family}-{part}", ""))
            if number is not None:
                found.setdefault(part, number)
    if not found.keys() & {"limit", "remaining", "reset"}:
        return None
    limit, remaining = found.get("limit"), found.get("remaining")
    return RateLimit(
        limit=None if limit is None else int(limit),
        remaining=None if remaining is None else int(remaining),
        reset_s=_from_now(found.get("reset"), date_of(now)),
    )


def _pairs(text: str) -> dict[str, float]:
    return {_NAMES.get(name, name): float(value) for name, value in _PAIR.findall(text)}


def _number(text: str) -> float | None:
    """The leading number of a header's value: `100, 100;w=60` names its policy behind it. A date has none."""
    match = re.match(r"\s*(\d{1,15}(?:\.\d{1,9})?)\d*s?\s*(?:[,;]|$)", text)
    return float(match.group(1)) if match else None


def _from_now(reset: float | None, now: float | None) -> float | None:
    if reset is None or reset < EPOCH_FROM:
        return reset
    moment = reset / 1000 if reset >= EPOCH_MS_FROM else reset
    return None if now is None else max(0.0, moment - now)
