"""How Pipedrive answers: its envelope, its moments, and the ways in which it says that a limit was met.

From facts.md §3.3 and §3.6. What its limits cost is counted by who asks (`Upstream.get(cost=…)`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from poller.errors import BadAnswer
from poller.watch.limits import Pause, date_of, retry_after
from poller.watch.limits import pause_of as usual_pause_of
from poller.watch.upstream import Answer

from .base import Day, taken

DAY_S = 86_400.0
HOUR_S = 3_600.0
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class More(msgspec.Struct):
    """What stands beside the rows."""

    next_cursor: str | None = None
    pagination: Any = None
    """Of v1: {start, limit, more_items_in_collection, next_start}."""


class Envelope(msgspec.Struct):
    """Every answer of v1 and v2; `data` is null where v1 has nothing to say."""

    data: msgspec.Raw
    success: bool = True
    additional_data: More | None = None

    @property
    def filled(self) -> bool:
        """Whether anything is in it."""
        return bytes(self.data) not in {b"[]", b"null"}

    @property
    def cursor(self) -> str:
        """Where the next page begins; empty on the last one, however that is said."""
        return (self.additional_data and self.additional_data.next_cursor) or ""

    @property
    def next_start(self) -> int:
        """Where the next page of v1 begins; 0 on the last one."""
        told = self.additional_data.pagination if self.additional_data else None
        start = told.get("next_start") if isinstance(told, dict) else None
        return start if isinstance(start, int) else 0


_envelopes = msgspec.json.Decoder(Envelope)


def opened(answer: Answer, what: str) -> Envelope:
    """Take an answer out of its envelope.

    Raises:
        BadAnswer: it has none, or says itself that it failed.
    """
    envelope = taken(_envelopes, answer.body, what)
    if not envelope.success:
        msg = f"{what} says success: false with a status of {answer.status}"
        raise BadAnswer(msg)
    return envelope


def moment(at: float) -> str:
    """Write Unix seconds as `updated_since` takes them: whole seconds and a Z, all else is a 400."""
    return datetime.fromtimestamp(int(at), UTC).strftime(_MOMENT)


def is_moment(text: str) -> bool:
    """Whether it is what `moment` writes; a cursor of another version may be anything."""
    return bool(text) and moment(seconds_of(text)) == text


def old_moment(at: str) -> str:
    """The same moment as v1 takes it: `2019-11-28 16:19:50`, in UTC."""
    return at.replace("T", " ").removesuffix("Z")


def seconds_of(text: object) -> float:
    """Unix seconds of a moment of v2, in UTC where it names no zone; 0 where it is none."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return 0.0
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def server_time(answer: Answer) -> float:
    """When the server answered by its own clock (Unix seconds); by ours where it does not say."""
    return date_of(answer.headers.get("date", "")) or answer.started


def day_of(headers: Mapping[str, str]) -> Day | None:
    """What the company may use today, and has left; the headers are not documented, and may be missing."""
    limit, left = (
        headers.get(f"x-daily-ratelimit-token-{part}", "").strip() for part in ("limit", "remaining")
    )
    if not limit.isdecimal():
        return None
    return Day(int(limit), int(left) if left.isdecimal() else None)


def pause_of(status: int, headers: Mapping[str, str], ours: float | None = None) -> Pause | None:
    """Whether an answer asks for a pause: what any API says, the day's end, and the guard's HTML."""
    now = date_of(headers.get("date", ""))
    if status == 403 and headers.get("content-type", "").startswith("text/html"):
        # Pipedrive's own refusals are JSON: HTML is the guard in front, met after ignored limits.
        return Pause(None, now)
    spent = headers.get("x-daily-ratelimit-token-remaining", "").strip() == "0"
    if status == 429 and spent and now is not None and retry_after(headers) is None:
        # x-ratelimit-reset says 2 here as always: it is the burst's, not the day's.
        return Pause(_until_midnight_s(now), now, "says that the company's tokens of this day are used up")
    return usual_pause_of(status, headers, ours)


def _until_midnight_s(now: float) -> float:
    """Seconds until the day's tokens may be there again: at midnight of the server, taken to be UTC's.

    Where that is wrong its midnight is still to come in the hours after UTC's: then ask once an hour,
    since a request that is refused uses nothing.
    """
    left = DAY_S - now % DAY_S
    return left + 1 if left <= DAY_S / 2 else min(left, HOUR_S)
