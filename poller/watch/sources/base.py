"""What a source is: lists to read page by page, records to read by id, and what their changes mean.

A source composes `Upstream`; it never sleeps, retries, logs, or sees Redis. `poll` does the rest.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec
from pydantic import BaseModel, ValidationError

from poller.errors import BadAnswer
from poller.model import loads
from poller.watch.diff import Diff, Shape
from poller.watch.events import Known
from poller.watch.upstream import Ticket

Meaning = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class Page:
    """One valid page of a list."""

    ids: tuple[str, ...]
    raws: tuple[msgspec.Raw, ...]
    """The records as sent, not yet decoded, in the order of `ids`."""
    started: float
    ended: float
    total: int | None = None
    """How many records the list has, where the server says so."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One record's detail view."""

    view: dict[str, Any]
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Missing:
    """The record's id answered 404."""

    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Child:
    """A record that is nested in another's detail view."""

    kind: str
    id: str
    view: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of record, and what its changes mean."""

    name: str
    type_prefix: str
    """`drum.opportunity`; an event's type is this, a dot and a suffix."""
    suffixes: tuple[str, ...]
    model: type[BaseModel]
    shape: Shape
    sibling: str = ""
    """The kind that a record of this kind becomes when it leaves this list."""
    listed: bool = True
    judged: bool = False
    """Whether its records are deals: open, won or lost."""
    verdict: Callable[[Diff], str]
    """The most specific type that a change of this kind's fields has by itself."""
    echoes: frozenset[str] = frozenset()
    """Dates that only the detail view has and that a change of status sets or clears."""
    deal: Callable[[Known, str, str], dict[str, str | None]] | None = None
    """(known, its meaning, its address) -> the small view that all sources share."""

    def type(self, suffix: str) -> str:
        """The event type for a suffix."""
        return f"{self.type_prefix}.{suffix}"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a detail view says about a deal beside what its list says."""

    meaning: Meaning | None
    """None where the view does not tell."""
    status: str
    """The id of the status it had at that moment; empty where there is none."""


class Source(Protocol):
    """One account of one API."""

    name: str
    kinds: Mapping[str, Kind]
    lists: tuple[str, ...]
    """The kinds that have a list, in the order in which they are to be read."""

    def pages(self, kind: str, *, size: int, ticket: Ticket) -> AsyncIterator[Page]:
        """Read a list to its end. A page that cannot be believed raises and ends the sweep."""

    async def read(self, kind: str, record_id: str, *, ticket: Ticket) -> Reading | Missing:
        """Read one record by its id."""

    def judge(self, view: Mapping[str, Any]) -> Judgement:
        """What a view of a deal says of its being open, won or lost."""

    def nested(self, view: dict[str, Any]) -> tuple[dict[str, Any], list[Child]]:
        """Part a detail view into its own fields and the records nested in it."""

    def url(self, kind: str, record_id: str) -> str:
        """Where a person finds the record."""

    async def close(self) -> None:
        """Give the connections back."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a source is made of: the settings that concern it, as plain values."""

    name: str
    base_url: str
    token: str = field(repr=False)
    won_statuses: frozenset[str] = frozenset()
    lost_statuses: frozenset[str] = frozenset()


_rows = msgspec.json.Decoder(list[msgspec.Raw])


def split(
    body: bytes, ids: msgspec.json.Decoder[Any], what: str
) -> tuple[tuple[str, ...], tuple[msgspec.Raw, ...]]:
    """Cut a bare JSON array into ids and rows without building their objects.

    Raises:
        BadAnswer: not an array of objects with an id.
    """
    try:
        raws, keys = _rows.decode(body), ids.decode(body)
    except (ValueError, RecursionError) as exc:
        msg = f"{what} is not a JSON array of records with an id: {exc}"
        raise BadAnswer(msg) from exc
    return tuple(str(key.id) for key in keys), tuple(raws)


def decoded(kind: Kind, raw: bytes | msgspec.Raw) -> dict[str, Any]:
    """Decode one record and hold it against its documented types.

    Raises:
        BadAnswer: names the record and the field that is not what the API documents.
    """
    try:
        view = loads(bytes(raw))
    except ValueError as exc:
        msg = f"a {kind.name} is not JSON: {exc}"
        raise BadAnswer(msg) from exc
    try:
        kind.model.model_validate(view)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{kind.name} {view.get('id') if isinstance(view, dict) else '?'}: {where}: {first['msg']}"
        raise BadAnswer(msg) from exc
    result: dict[str, Any] = view
    return result
