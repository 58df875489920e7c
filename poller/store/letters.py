"""An event in its stream and on its way to an endpoint, as values and as bytes. No Redis in here."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from poller.model import Entry, Event

Position = tuple[int, int]
"""A stream's entry id as numbers: milliseconds and sequence."""
LAST_SEQUENCE = 2**64 - 1


def position(place: str) -> Position:
    """Read an entry id, e.g. `1763800000000-0`."""
    ms, _, seq = place.partition("-")
    return int(ms), int(seq or 0)


def place_of(where: Position) -> str:
    """Write an entry id."""
    return f"{where[0]}-{where[1]}"


def before_ms(ms: int) -> str:
    """The place before everything of that millisecond (Unix time) and later."""
    return place_of((max(0, ms - 1), LAST_SEQUENCE))


def before(place: str) -> str:
    """Name the greatest entry id below one."""
    ms, seq = position(place)
    if seq:
        return place_of((ms, seq - 1))
    return before_ms(ms) if ms else "0-0"


class Meta(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of an event that waits or is dead, besides its body."""

    id: str
    type: str
    subject: str
    time: str
    attempts: int = 0
    first: float = 0.0
    """Unix time of the first attempt."""
    last: float = 0.0
    why: str = ""
    """The last answer: a status or a fault, or why it never got one."""
    died: float = 0.0


@dataclass(frozen=True, slots=True)
class Letter:
    """An event that waits or is dead: its place in the stream, what became of it, its body."""

    place: str
    meta: Meta
    body: bytes
    at: float = 0.0
    """When it is due, or when it died (Unix seconds)."""

    @property
    def event(self) -> Event:
        """The event as it stood in the stream, byte for byte."""
        meta = self.meta
        return Event(id=meta.id, type=meta.type, subject=meta.subject, time=meta.time, body=self.body)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Meta)


def record(meta: Meta, body: bytes) -> bytes:
    """Pack a line of what is known and the body untouched: its bytes outlive the stream's trimming."""
    return _encoder.encode(meta) + b"\n" + body


def letter(place: str, packed: bytes, *, at: float = 0.0) -> Letter:
    """Unpack what `record` packed."""
    head, _, body = packed.partition(b"\n")
    return Letter(place, _decoder.decode(head), body, at)


def fresh(old: Letter, *, at: float) -> Letter:
    """Begin an event's schedule anew."""
    meta = Meta(id=old.meta.id, type=old.meta.type, subject=old.meta.subject, time=old.meta.time)
    return Letter(old.place, meta, old.body, at)


def letter_of(entry: Entry, *, at: float) -> Letter:
    """Copy an event out of the stream."""
    event = entry.event
    meta = Meta(id=event.id, type=event.type, subject=event.subject, time=event.time)
    return Letter(entry.place, meta, event.body, at)


FIELDS = frozenset({b"id", b"type", b"subject", b"time", b"event"})
"""What an entry of a source's stream has (contract §6)."""


def event_of(fields: dict[bytes, bytes]) -> Event:
    """Read an event from the fields of its entry (contract §6)."""
    return Event(
        id=fields[b"id"].decode(),
        type=fields[b"type"].decode(),
        subject=fields[b"subject"].decode(),
        time=fields[b"time"].decode(),
        body=fields[b"event"],
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a source's stream."""

    source: str
    place: str
    entry: Entry | None
    """None where it is no event of ours: somebody else wrote it, and it is to be stepped over."""


def rows_of(source: str, rows: Any) -> Iterable[Row]:
    """Read entries as redis-py gives them."""
    for raw, fields in rows or ():
        place, entry = raw.decode(), None
        if fields and fields.keys() >= FIELDS:
            with suppress(UnicodeDecodeError):  # then it is none of ours
                entry = Entry(place=place, source=source, event=event_of(fields))
        yield Row(source, place, entry)


def entries_of(source: str, rows: Any) -> Iterable[Entry]:
    """Read the events among entries as redis-py gives them."""
    return (row.entry for row in rows_of(source, rows) if row.entry)


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt as the log of attempts keeps it. Never a secret, never a URL."""

    at: float
    source: str
    place: str
    event: str
    type: str
    subject: str
    attempt: int
    outcome: str
    """delivered, later, dead, probe (failed, and cost no attempt) or gone."""
    status: int | None = None
    fault: str = ""
    detail: str = ""
    ms: float = 0.0
    excerpt: str = ""
    next: float | None = None
    """Unix time of the next attempt."""


class Notice(msgspec.Struct, kw_only=True):
    """An operational event that is still to be written into a source's stream."""

    id: str
    """Stays the same when it is announced again after a crash."""
    source: str
    type: str
    object: dict[str, Any]


class EndpointState(msgspec.Struct, kw_only=True):
    """What is known of an endpoint over all sources; times are Unix seconds, 0 for never."""

    failing_since: float = 0.0
    failures: int = 0
    last_success: float = 0.0
    up_since: float = 0.0
    paused_until: float = 0.0
    probing_since: float = 0.0
    probes: int = 0
    probe_at: float = 0.0
    disabled: str = ""
    """"", gone (410), silent (72 h), operator."""
    disabled_at: float = 0.0
    said: str = ""

    def word(self, *, now: float) -> Literal["disabled", "probing", "paused", "failing", "ok"]:
        """Say in a word how it fares."""
        if self.disabled:
            return "disabled"
        if self.probing_since:
            return "probing"
        if self.paused_until > now:
            return "paused"
        return "failing" if self.failing_since else "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How one endpoint stands with one source."""

    source: str
    endpoint: str
    waiting: int = 0
    dead: int = 0
    lag: int = 0
    """Entries of the stream that it has not come to yet."""
    oldest_waiting: float | None = None
    """Detection time (Unix seconds) of the oldest event that is neither delivered nor dead."""
    delivered: int = 0
    died: int = 0
    filtered: int = 0
    unsure: int = 0
    """Events that the filter failed on, and that passed."""
    lost: int = 0
    """Entries that retention took before they were sent."""
    recovering: bool = False
