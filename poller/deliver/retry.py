"""When an event is tried again, and how an endpoint is faring: pure, time and chance come as arguments.

Two levels. An event has a schedule. An endpoint has a health: paused by `Retry-After`, probed when it
takes nothing, failing after a day, disabled after three (contract §7). All times are Unix seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Literal

MINUTE = 60.0
HOUR = 3600.0

SCHEDULE_S = (
    0.0,
    5.0,
    30.0,
    120.0,
    600.0,
    1800.0,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
"""Pauses before the first, second, … attempt: 12 over 75.7 h."""

JITTER = 0.2
"""Added, never taken away: a hint is never undercut."""
LONGEST_PAUSE_S = 6 * HOUR
PROBE_AFTER_S = MINUTE
PROBE_AFTER_FAILURES = 20
FIRST_PROBE_S = 30.0
LONGEST_PROBE_S = 10 * MINUTE
FAILING_AFTER_S = 24 * HOUR
DISABLED_AFTER_S = 72 * HOUR
DISABLED_AFTER_FAILURES = 10
PASS_AFTER_S = HOUR
"""How long a later event of a subject waits for an earlier one while the endpoint takes others."""
PASS_WITHIN_S = 60.0
"""So soon after the earlier one has failed a later one tells whether it was that one or the endpoint."""


def span_s(schedule_s: Sequence[float]) -> float:
    """Time from the first attempt to the last, without jitter."""
    return sum(schedule_s)


def delay_s(schedule_s: Sequence[float], *, attempts: int, chance: float) -> float | None:
    """Time from the last attempt to the next, after `attempts` were made; None when they are used up.

    `chance` is in [0, 1) and spreads the retries of many events by up to 20 %.
    """
    if attempts >= len(schedule_s):
        return None
    return schedule_s[attempts] * (1 + JITTER * chance)


def longest_wait_s(schedule_s: Sequence[float]) -> float:
    """No event waits longer than this; a later time can only be the work of a clock that jumped."""
    return max(LONGEST_PAUSE_S, max(schedule_s, default=0.0) * (1 + JITTER))


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110 §10.2.3): seconds or a date; at most 6 h.

    None where there is none, or where it is malformed, negative or past.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # int() refuses over 4,300 digits; nine of them are 30 years.
        digits = text.lstrip("0") or "0"
        seconds = float(digits) if len(digits) <= 9 else LONGEST_PAUSE_S
    else:
        seconds = _until(text, now=now)
    return min(seconds, LONGEST_PAUSE_S) if seconds > 0 else None


def _until(text: str, *, now: float) -> float:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


class Verdict(Enum):
    """What an answer means for the event that was sent."""

    TAKEN = "delivered"
    """2xx."""
    FAILED = "failed"
    """Anything else, no answer included: the schedule goes on."""
    GONE = "gone"
    """410: the endpoint wants nothing any more."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and for how long the endpoint asked to be left alone (seconds, 0 if it did not)."""

    verdict: Verdict
    pause_s: float = 0.0


def judge(status: int | None, *, retry_after: str | None, now: float) -> Judgement:
    """Judge an answer by its status; None stands for no usable answer."""
    if status is not None and 200 <= status < 300:
        return Judgement(Verdict.TAKEN)
    if status == 410:
        return Judgement(Verdict.GONE)
    if status in {429, 503}:
        return Judgement(Verdict.FAILED, retry_after_s(retry_after, now=now) or 0.0)
    return Judgement(Verdict.FAILED)


Disabled = Literal["", "gone", "silent", "operator"]
NoticeType = Literal["failing", "disabled", "recovered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How an endpoint fares, over all sources. What is 0 or empty does not hold."""

    failing_since: float = 0.0
    """First failure after the last success."""
    failures: int = 0
    """Failed attempts, probes included, since the last success."""
    last_success: float = 0.0
    up_since: float = 0.0
    """When it last began to take events again; an hour of patience with one event starts here."""
    paused_until: float = 0.0
    """By Retry-After."""
    probing_since: float = 0.0
    probes: int = 0
    probe_at: float = 0.0
    disabled: Disabled = ""
    disabled_at: float = 0.0
    said: Literal["", "failing", "disabled"] = ""
    """The worst that was announced and not yet taken back by `recovered`."""

    @property
    def probing(self) -> bool:
        """Nothing is sent but a probe now and then; neither costs an attempt."""
        return self.probing_since > 0

    @property
    def doubtful(self) -> bool:
        """Over 20 attempts in a row failed: new events hold back until it is known what is wrong."""
        return self.failures > PROBE_AFTER_FAILURES

    def open_at(self) -> float:
        """When the next request may leave: in the past when there is nothing in the way."""
        return max(self.paused_until, self.probe_at)

    def may_be_passed(self, *, first: float, last: float, now: float) -> bool:
        """Whether an event that was tried then is waited for no longer by a later one of its subject.

        After an hour in which the endpoint took others (contract §7). Where there were none, a later one
        finds out, but only just after this one has failed again: else it may be the first after an outage.
        """
        since = max(first, self.up_since)
        if not first or now - since < PASS_AFTER_S:
            return False
        return self.last_success > since or now - last < PASS_WITHIN_S

    def succeeded(self, *, now: float) -> tuple["Health", NoticeType | None]:
        """Count a success: it ends failing and probing.

        Not a pause: nothing is sent while it lasts, so a success then belongs to a request of before.
        """
        up_since = now if self.probing or not self.up_since else self.up_since
        well = Health(
            last_success=now,
            up_since=up_since,
            disabled=self.disabled,
            disabled_at=self.disabled_at,
            paused_until=self.paused_until,
            said=self.said if self.disabled else "",
        )
        return well, "recovered" if self.said and not self.disabled else None

    def failed(
        self, *, now: float, pause_s: float = 0.0, probe: bool = False
    ) -> tuple["Health", NoticeType | None]:
        """Count a failed attempt, or a failed probe, and what it leads to."""
        probes = self.probes + 1 if probe else self.probes
        worse = replace(
            self,
            failing_since=self.failing_since or now,
            failures=self.failures + 1,
            paused_until=max(self.paused_until, now + pause_s) if pause_s > 0 else self.paused_until,
            probes=probes,
            probe_at=now + probe_delay_s(probes) if probe and self.probing else self.probe_at,
        )
        return worse.passed(now=now)

    def passed(self, *, now: float) -> tuple["Health", NoticeType | None]:
        """Let time pass: open the breaker, say failing, disable."""
        if self.disabled or not self.failing_since:
            return self, None
        state, lasted = self, now - self.failing_since
        if not self.probing and self.doubtful and lasted >= PROBE_AFTER_S:
            state = replace(state, probing_since=now, probes=0, probe_at=now + probe_delay_s(0))
        if lasted >= DISABLED_AFTER_S and state.failures >= DISABLED_AFTER_FAILURES:
            return replace(state, disabled="silent", disabled_at=now, said="disabled"), "disabled"
        if lasted >= FAILING_AFTER_S and not state.said:
            return replace(state, said="failing"), "failing"
        return state, None

    def gone(self, *, now: float) -> tuple["Health", NoticeType | None]:
        """Answer a 410: disable at once."""
        if self.disabled:
            return self, None
        worse = replace(self, failing_since=self.failing_since or now, failures=self.failures + 1)
        return replace(worse, disabled="gone", disabled_at=now, said="disabled"), "disabled"

    def enabled(self, *, now: float) -> "Health":
        """Begin again; that it was disabled is remembered until the first success takes it back."""
        return Health(last_success=self.last_success, up_since=now, said=self.said)

    def sane(self, *, now: float) -> "Health":
        """Undo what a clock that went back leaves behind: a time in the future would never come."""
        return replace(
            self,
            failing_since=min(self.failing_since, now),
            last_success=min(self.last_success, now),
            up_since=min(self.up_since, now),
            paused_until=min(self.paused_until, now + LONGEST_PAUSE_S),
            probing_since=min(self.probing_since, now),
            probe_at=min(self.probe_at, now + LONGEST_PROBE_S),
        )


def probe_delay_s(probes: int) -> float:
    """Pause before a probe, after `probes` were made: 30 s doubling to 10 min."""
    return min(FIRST_PROBE_S * 2.0 ** min(probes, 10), LONGEST_PROBE_S)
