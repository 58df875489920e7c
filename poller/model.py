"""The words of the contract, as values. No I/O, no clock."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field

Json: TypeAlias = Any
"""A decoded JSON value. Numbers with a point or an exponent are Decimal, the places kept as sent."""

MOST_DIGITS = 400
"""Before or behind the point: more than any number of IEEE 754 has, and of what an API means by one."""


def number(text: str) -> Decimal:
    """Read a JSON number with a point or an exponent, the places kept as sent.

    Raises:
        ValueError: it is none, or beyond MOST_DIGITS: written out it would fill the memory.
    """
    try:
        read = Decimal(text)
        digits = max(abs(int(read.as_tuple().exponent)), abs(read.adjusted()))
    except InvalidOperation:  # an exponent that Decimal itself cannot hold
        digits = MOST_DIGITS + 1
    if digits > MOST_DIGITS:
        msg = f"the number {text[:40]} has more than {MOST_DIGITS} digits before or behind its point"
        raise ValueError(msg)
    return read


_decoder = msgspec.json.Decoder(float_hook=number)
_encoder = msgspec.json.Encoder(decimal_format="number")
_canonical = msgspec.json.Encoder(decimal_format="number", order="sorted")


def loads(data: bytes | str) -> Json:
    """Decode JSON, keeping the decimal places of every number.

    Raises:
        ValueError: not JSON, nested deeper than the interpreter can follow, or a number beyond all sense.
    """
    try:
        return _decoder.decode(data)
    except RecursionError as exc:
        msg = "nested too deeply"
        raise ValueError(msg) from exc


def dumps(value: Json) -> bytes:
    """Encode to compact JSON; Decimals become numbers with the places they have."""
    return _encoder.encode(value)


def pretty(value: Json) -> str:
    """Write JSON for reading: indented, numbers with their places."""
    return msgspec.json.format(dumps(value), indent=2).decode()


def canonical(value: Json) -> bytes:
    """Encode with sorted keys: equal values give equal bytes."""
    return _canonical.encode(value)


def rfc3339(at: float) -> str:
    """Write a Unix time (seconds) as RFC 3339 UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Event(msgspec.Struct, frozen=True):
    """One typed change as it stands in the stream; `body` is the whole CloudEvent, byte for byte as sent.

    No dataclass, nor is Entry: each is made for every entry that is read, at a sixth of the time.
    """

    id: str
    type: str
    subject: str
    time: str
    body: bytes


class Entry(msgspec.Struct, frozen=True):
    """An event at its place in a source's stream."""

    place: str
    """The stream's entry id, e.g. `1763800000000-0`."""
    source: str
    event: Event


ObjectT = TypeVar("ObjectT")


class Observed(BaseModel):
    """Between which two moments the change happened."""

    not_before: datetime = Field(description="Start of the request that last saw the old.")
    not_after: datetime = Field(description="End of the request that first saw the new.")


class Deal(BaseModel):
    """The same small view of an opportunity, project or deal, for every source."""

    name: str | None = None
    client: str | None = None
    amount: str | None = Field(None, description="Decimal string; after a win the amount last known.")
    currency: str | None = None
    status: str | None = Field(None, description="open, won, lost or completed.")
    stage: str | None = Field(None, description="The source's own name of the status, stage or phase.")
    owner: str | None = None
    url: str | None = None


class EventData(BaseModel, Generic[ObjectT]):
    """What a CloudEvent of poller carries (contract §4)."""

    object: ObjectT
    previous: dict[str, Any]
    changed: list[str]
    observed: Observed
    deal: Deal | None = None
    revision: int = Field(ge=1)


class CloudEvent(BaseModel, Generic[ObjectT]):
    """The envelope: CloudEvents 1.0, structured JSON."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: str = Field(pattern=r"^evt_[0-9a-f]+$")
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"]
    data: EventData[ObjectT]


def fields_of(event: Event) -> Mapping[str, str | bytes]:
    """The fields of an event's entry in the stream (contract §6)."""
    return {
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "event": event.body,
    }
