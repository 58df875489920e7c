"""Pipedrive's own limits: a burst per token in any 2 seconds, tokens per company and day, and what
becomes of who does not listen.

Sources: the vendor's page on rate limiting; the daily headers and the HTML 403 as others met them.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate

from .switches import Switches
from .tables import DAY_S

BURST_S = 2.0
"""Length of the rolling window of the burst limit, in seconds."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One request that was let through: when (Unix seconds), by which token, at how many tokens."""

    at: float
    token: str
    cost: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """200: go on; 429: over a limit; 403: banned for not listening. The headers go on any answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Caller:
    window: deque[float] = field(default_factory=deque)
    refused: int = 0
    refused_at: float = -math.inf
    banned_until: float = -math.inf


class Meter:
    """What a company's callers have used; a refused request uses nothing."""

    def __init__(self, *, keep: int | None = None) -> None:
        self.charges: deque[Charge] = deque(maxlen=keep)
        self.spent = 0
        """Tokens of this day."""
        self._day = -math.inf
        self._callers: dict[str, _Caller] = {}

    def take(self, token: str, cost: int, *, now: float, switches: Switches) -> Verdict:
        """Charge one request at `now` (Unix seconds), or refuse it."""
        caller = self._callers.setdefault(token, _Caller())
        if now < caller.banned_until:
            return Verdict(403)
        self._turn(now, switches)
        while caller.window and caller.window[0] <= now - BURST_S:
            caller.window.popleft()
        burst = switches.burst is not None and len(caller.window) >= switches.burst
        daily = switches.daily_tokens is not None and self.spent >= switches.daily_tokens
        if burst or daily:
            return self._refuse(caller, now=now, switches=switches, daily=daily)
        caller.window.append(now)
        self.spent += cost
        self.charges.append(Charge(now, token, cost))
        return Verdict(200, self._headers(caller, now, switches))

    def _turn(self, now: float, switches: Switches) -> None:
        day = math.floor((now - switches.day_begins_h * 3600) / DAY_S)
        if day != self._day:
            self._day, self.spent = day, 0

    def _refuse(self, caller: _Caller, *, now: float, switches: Switches, daily: bool) -> Verdict:
        caller.refused = caller.refused + 1 if now - caller.refused_at < BURST_S else 1
        caller.refused_at = now
        if caller.refused > switches.ban_after:
            caller.refused, caller.banned_until = 0, now + switches.ban_s
            return Verdict(403)
        reopens = (
            (self._day + 1) * DAY_S + switches.day_begins_h * 3600 if daily else caller.window[0] + BURST_S
        )
        headers = self._headers(caller, now, switches)
        if switches.retry_after == "seconds":
            headers["retry-after"] = str(math.ceil(reopens - now))
        elif switches.retry_after == "date":
            headers["retry-after"] = formatdate(math.ceil(reopens), usegmt=True)
        return Verdict(429, headers)

    def _headers(self, caller: _Caller, now: float, switches: Switches) -> dict[str, str]:
        found: dict[str, str] = {}
        if switches.burst is not None and switches.limit_headers != "off":
            # Counted from now, not from the epoch, whatever libraries believe.
            reset = caller.window[0] + BURST_S - now if caller.window else BURST_S
            found["x-ratelimit-limit"] = str(switches.burst)
            found["x-ratelimit-remaining"] = str(max(0, switches.burst - len(caller.window)))
            found["x-ratelimit-reset"] = str(math.ceil(reset))
        if switches.daily_tokens is not None and switches.limit_headers == "all":
            found["x-daily-ratelimit-token-limit"] = str(switches.daily_tokens)
            found["x-daily-ratelimit-token-remaining"] = str(max(0, switches.daily_tokens - self.spent))
        return found
