"""Moments as Close writes and reads them: to the millisecond, naive ones in the zone of the caller."""

from datetime import UTC, date, datetime, timedelta, timezone

MS_PER_DAY = 86_400_000


def written(at_ms: int) -> str:
    """`2024-02-05T17:00:47.476000+00:00`."""
    return _moment(at_ms).isoformat(timespec="microseconds")


def written_naive(at_ms: int) -> str:
    """The same without an offset: so print pipelines and events."""
    return _moment(at_ms).replace(tzinfo=None).isoformat(timespec="microseconds")


def day(at_ms: int, *, offset_h: float = 0.0) -> str:
    """The day that a moment falls on."""
    return _moment(at_ms).astimezone(zone(offset_h)).date().isoformat()


def read(text: str, *, offset_h: float) -> int:
    """A moment or a day (its beginning) in Unix milliseconds; without an offset it is in the caller's zone.

    Raises:
        ValueError: neither a day nor a moment; a `+` that was not encoded arrives as a space, for one.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone(offset_h))
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def read_day(text: str) -> str:
    """A plain day, checked.

    Raises:
        ValueError: no day.
    """
    return date.fromisoformat(text[:10]).isoformat()


def zone(offset_h: float) -> timezone:
    """The zone of an `x-tz-offset` header, in hours; UTC where it is none."""
    return timezone(timedelta(hours=offset_h)) if -24 < offset_h < 24 else UTC


def _moment(at_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
