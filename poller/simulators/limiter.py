"""The limiter that a host may put before its API: fixed windows per address, aligned to the epoch."""

import math
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal, TypeAlias

RetryAfter: TypeAlias = Literal["none", "seconds", "date"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 429: its Retry-After, or None where the host names no time."""

    retry_after: str | None


class FixedWindows:
    """Counts requests per address in windows that begin at multiples of the period.

    As rack-attack does (the sample setting of the framework that the API is built on): a refused
    request counts too, and the next window begins on the clock, not at the first request.
    """

    def __init__(self) -> None:
        self._window = -1
        self._counts: dict[str, int] = {}

    def take(
        self, address: str, *, now: float, limit: int, period_s: float, retry_after: RetryAfter
    ) -> Refusal | None:
        """Count one request at `now` (Unix seconds); a Refusal where the window is full."""
        window = math.floor(now / period_s)
        if window != self._window:
            self._window = window
            self._counts = {}
        self._counts[address] = self._counts.get(address, 0) + 1
        if self._counts[address] <= limit:
            return None
        return Refusal(_retry_after(retry_after, now=now, reopens=(window + 1) * period_s))


def _retry_after(mode: RetryAfter, *, now: float, reopens: float) -> str | None:
    if mode == "seconds":
        return str(math.ceil(reopens - now))
    if mode == "date":
        return formatdate(math.ceil(reopens), usegmt=True)
    return None
