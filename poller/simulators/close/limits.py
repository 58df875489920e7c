"""Close's own limits: per endpoint group and key, a larger one per organization; told in headers."""

import math
from dataclasses import dataclass

from poller.model import Json, dumps
from poller.simulators.faults import Answer, typed

from .switches import Switches

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one request stands to the limit that it is nearest to."""

    limit: int
    remaining: int
    reset_s: float
    refused: bool
    of: str
    """`key` or `organization`."""


class GroupLimits:
    """Counts requests in windows that begin at multiples of their length; what is refused is not counted."""

    def __init__(self) -> None:
        self._window: tuple[int, float] = (-1, 0.0)
        self._counts: dict[tuple[str, str], int] = {}

    def take(
        self, *, group: str, key: str, organization: str, now: float, switches: Switches
    ) -> Standing | None:
        """Count one request at `now` (Unix seconds); None where there is no limit."""
        per_key = switches.group_limits.get(group, switches.rate_limit)
        if per_key is None:
            return None
        window = (math.floor(now / switches.rate_window_s), switches.rate_window_s)
        if window != self._window:
            self._window, self._counts = window, {}
        reset_s = (window[0] + 1) * switches.rate_window_s - now
        sides = (("key", key, per_key), ("organization", organization, per_key * switches.org_factor))
        left = {of: limit - self._counts.get((group, name), 0) for of, name, limit in sides}
        of = min(left, key=lambda side: left[side])
        refused = left[of] <= 0
        if not refused:
            for _, name, _ in sides:
                self._counts[group, name] = self._counts.get((group, name), 0) + 1
        limit = next(limit for side, _, limit in sides if side == of)
        return Standing(limit, max(0, left[of] - 1), reset_s, refused, of)


def told(standing: Standing | None, switches: Switches) -> Headers:
    """The header that tells how one stands."""
    if standing is None:
        return ()
    reset = f"{standing.reset_s:.6f}" if switches.fractional else str(math.ceil(standing.reset_s))
    said = f"limit={standing.limit}, remaining={standing.remaining}, reset={reset}"
    return ((b"ratelimit", said.encode()),)


def refusal(standing: Standing, switches: Switches) -> Answer:
    """The 429, which says as much as the switches let it."""
    headers: Headers = typed(b"application/json")
    body: Json = {"error": {"message": "API call count exceeded for this period"}}
    if switches.refusal == "header":
        headers += told(standing, switches)
    elif switches.refusal == "retry_after":
        headers += ((b"retry-after", str(math.ceil(standing.reset_s)).encode()),)
    elif switches.refusal == "body":
        body["error"] |= {
            "rate_reset": round(standing.reset_s, 6),
            "rate_limit": standing.limit,
            "rate_window": switches.rate_window_s,
            "rate_limit_type": standing.of,
        }
    return Answer(429, headers, dumps(body))
