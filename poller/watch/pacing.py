"""How long to leave a host alone, and which request to spend next. Pure: the caller brings the clock."""

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


def pause_of(status: int, headers: Mapping[str, str]) -> Pause | None:
    """Whether an answer asks for a pause: any 429, and a 503 that names a time (contract §8)."""
    wait_s = retry_after(headers)
    if status == 429 or (status == 503 and wait_s is not None):
        return Pause(wait_s, date_of(headers.get("date", "")))
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds named by Retry-After, as a number or as a date against the server's own clock."""
    text = headers.get("retry-after", "").strip()
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    until, now = date_of(text), date_of(headers.get("date", ""))
    if until is None or now is None:
        return None
    return max(0.0, until - now)


def date_of(text: str) -> float | None:
    """Unix seconds of an HTTP date; None where it is none (RFC 9110 §5.6.7)."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
