"""What a source is: lists to read page by page, records to read by id, and what their changes mean.

A source composes `Upstream`; it never sleeps, retries, logs, or sees Redis. `poll` does the rest.

Two ways of reading a list meet here. Where an API has no "changed since" (Drum), every reading is whole:
all pages, and what a complete one does not show is suspect. Where it has one, the kind names
`whole_every_s`; then `pages` is given the `cursor` that the last reading ended with, shows what changed
since (`whole=False`) and what the API itself reports as `gone`, and nothing becomes suspect but in the
whole readings in between. The cursor moves with the commit that ends a reading: what is read again
after a crash is known by its fingerprint, so overlaps and ties are said once.
"""

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from poller.errors import BadAnswer
from poller.model import loads
from poller.watch.diff import Diff, Shape
from poller.watch.events import Known
from poller.watch.upstream import Answer, Ticket, Upstream

T = TypeVar("T")
Meaning = Literal["open", "won", "lost"]
Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Api:
    """What is known of an API before anybody calls it."""

    variable: str
    """The environment variable that `poller init` and the examples keep its token in."""
    base_url: str = ""
    """Scheme and host; empty where each account has its own."""
    base_url_like: str = ""
    """What the address of an account looks like, where each has its own."""
    budget: str = "240/5m"
    """What its host may be sent where the settings do not say (contract §2), counted in `unit`."""
    unit: Unit = "requests"
    """What it counts: requests, or tokens of which a request costs one or more."""
    dearest: int = 1
    """What one request counts at most: a smaller budget could never pay it."""
    plans: str = ""
    """What its plans allow, as `poller check` tells it; empty where nobody has to know."""


class LeftOut(BadAnswer):
    """The account has no such list, or the token may not read it, while others are read: go on without."""


@dataclass(frozen=True, slots=True)
class Day:
    """What an account may use in a day, all who ask it together, in what its API counts."""

    limit: int
    left: int | None
    """None where it does not say."""


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
    whole: bool = True
    """False: this reading shows only what changed since its cursor, and makes nothing suspect."""
    gone: tuple[str, ...] = ()
    """Ids that the API itself reports as deleted: asked by id once more, and removed if they are 404."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What things are called now, as `stage/7` -> its name, where records hold only ids."""
    named: Mapping[str, float] = field(default_factory=dict)
    """When all names of a kind of thing (`stage`) were last asked for, before this reading or in it."""
    unchanged: bool = False
    """The server says that it is what it was: `ids` are those of then, and there are no rows."""
    cursor: str = ""
    """Where the next reading may begin once this one has ended; the last page's is kept."""
    day: Day | None = None
    """What the API said of the account's day with this page, where it has such a limit."""


Pages: TypeAlias = AsyncGenerator[Page, None]
"""A list while it is read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One record's detail view."""

    view: dict[str, Any]
    started: float
    ended: float
    tag: str = ""
    """By which the server knows this very view; empty where it gives none."""


@dataclass(frozen=True, slots=True)
class Same:
    """The record's detail view is the one that has the tag which was sent."""

    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Missing:
    """The record's id answered 404."""

    started: float
    ended: float


Found: TypeAlias = Reading | Missing | Same
"""What a reading by id gives."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The record's id answered 403, while lists are readable: never a removal."""

    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Child:
    """A record that is nested in another's detail view."""

    kind: str
    id: str
    view: dict[str, Any]


Parts: TypeAlias = tuple[dict[str, Any], list[Child], frozenset[str]]
"""A detail view's own fields, what is nested in it, and the kinds of that which it does not show."""


def number_of(record_id: str, _row: Mapping[str, Any]) -> float:
    """Ids that count upwards: the id itself; 0 where it is no number."""
    return float(record_id) if record_id.isascii() and record_id.isdigit() else 0.0


def no_moment(_cursor: str) -> float:
    """A cursor of this kind names no moment."""
    return 0.0


def only_updated(_diff: Diff) -> str:
    """No field of this kind makes a change anything but an update."""
    return "updated"


def never(_row: Mapping[str, Any]) -> bool:
    """No row of this kind says by itself that its record is deleted."""
    return False


class DealView(Protocol):
    """Makes the small view that all sources share (contract §4)."""

    def __call__(
        self, known: Known, meaning: str, url: str, names: Mapping[str, str], /
    ) -> dict[str, str | None]:
        """Of what is known, what its status means, its address, and names as `stage/7` -> its name."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of record, and what its changes mean."""

    name: str
    type_prefix: str
    """`drum.opportunity`; an event's type is this, a dot and a suffix."""
    suffixes: tuple[str, ...]
    model: type[BaseModel]
    shape: Shape = field(default_factory=Shape)
    """How its fields compare."""
    sibling: str = ""
    """The kind that a record of this kind becomes when it leaves this list."""
    judged: bool = False
    """Whether its records are deals: open, won or lost."""
    verdict: Callable[[Diff], str] = only_updated
    """The most specific type that a change of this kind's fields has by itself."""
    echoes: frozenset[str] = frozenset()
    """Dates that only the detail view has and that a change of status sets or clears. Where there are
    any, a change of status is said after the detail view was read; else the row alone is judged."""
    deal: DealView | None = None
    rank: Callable[[str, Mapping[str, Any]], float] = number_of
    """(id, row) -> a number that grows with every record the account makes (an id, a moment of creation in
    Unix seconds): a new record above the highest known one is `created`, any other `appeared`."""
    dead: Callable[[Mapping[str, Any]], bool] = never
    """Whether a row says that its record is deleted (a list that shows deleted records for a while)."""
    late: float = 0.0
    """Where ranks are moments: one made since the last reading is `created`, or so many seconds before it,
    for it may have shown late. 0 where ranks are ids."""
    reached: Callable[[str], float] = no_moment
    """Where ranks are moments: (cursor) -> when the reading that ended with it began, by the same clock as
    they are (Unix seconds). Ours may be minutes off."""
    detailed: bool = True
    """Whether a reading by id shows more than the row: else none is spent but to judge an absence."""
    whole_every_s: float = 0.0
    """Where the API can be asked for changes: a whole reading is made this often. 0: each is whole."""

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
    latest: float = math.inf
    """By when that was reached, as far as the view tells (Unix seconds)."""


DAY_ANYWHERE_S = 36 * 3600.0
"""A day that began at midnight UTC ends so much later where it ends last: 24 hours, at UTC-12."""


def reached_by(day: object) -> float:
    """By when a date (or the date of a moment) had come, wherever it was; infinity where it is none."""
    try:
        begun = datetime.combine(date.fromisoformat(str(day)[:10]), time(), UTC)
    except ValueError:
        return math.inf
    return begun.timestamp() + DAY_ANYWHERE_S


class Source(Protocol):
    """One account of one API."""

    @property
    def name(self) -> str:
        """The account's name in the settings."""

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Every kind of record, by name."""

    @property
    def lists(self) -> tuple[str, ...]:
        """The kinds that have a list, in the order in which they are to be read."""

    def pages(self, kind: str, *, size: int, ticket: Ticket, since: str = "", first: bool = False) -> Pages:
        """Read a list to its end, page by page; at least one page. One that cannot be believed raises.

        `since` is the cursor that the last reading ended with; empty: read everything. A source that
        cannot go on from there (too old a cursor) reads everything too: its pages say `whole`. One whose
        readings are all whole may then give pages without rows that the server says are `unchanged`.
        `first`: nothing is known to be in the list yet, so what looks like its end is asked for twice. It
        may be a passing fault, and nothing else would show it: who comes behind would be new the next time.
        """

    async def read(self, kind: str, record_id: str, *, ticket: Ticket, tag: str = "") -> Found:
        """Read one record by its id; with the tag of a view that is known, it may be the same."""

    def judge(self, view: Mapping[str, Any]) -> Judgement:
        """What a view of a deal says of its being open, won or lost."""

    def nested(self, view: dict[str, Any]) -> Parts:
        """Part a detail view into its own fields and the records nested in it.

        Third, the kinds of these that it does not show, for a key is absent: of them nothing is known.
        """

    def url(self, kind: str, record_id: str) -> str:
        """Where a person finds the record."""

    async def close(self) -> None:
        """Give the connections back."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a source is made of: the settings that concern it, as plain values."""

    name: str
    base_url: str
    won_statuses: frozenset[str] = frozenset()
    lost_statuses: frozenset[str] = frozenset()
    recents: bool = False
    """Pipedrive: also read /v1/recents as a quick signal."""


class Maker(Protocol):
    """What the registry holds: the class of a source."""

    @property
    def api(self) -> Api: ...
    @property
    def kinds(self) -> Mapping[str, Kind]: ...
    @property
    def lists(self) -> tuple[str, ...]: ...

    def __call__(self, account: Account, upstream: Upstream) -> Source:
        """One account of the API."""

    def auth(self, token: str) -> Mapping[str, str]:
        """The headers that say who asks."""


# --- what the simplest APIs have in common: a source says which of these hold for its own ---------------


def by_name(*kinds: Kind) -> Mapping[str, Kind]:
    """The kinds of a source."""
    return {kind.name: kind for kind in kinds}


def bearer(token: str) -> Mapping[str, str]:
    """The token as most APIs take it."""
    return {"authorization": f"Bearer {token}", "accept": "application/json"}


def by_status(view: Mapping[str, Any]) -> Judgement:
    """A `status` that is open, won or lost says how a deal stands."""
    status = str(view.get("status") or "")
    return Judgement(meaning=MEANINGS.get(status), status=status)


def decimal_text(amount: object) -> str | None:
    """A decimal string, the places kept, never with an exponent."""
    if isinstance(amount, Decimal):
        return format(amount, "f")
    return None if amount is None else str(amount)


def flat(_view: dict[str, Any]) -> Parts:
    """A list that shows all there is: a reading by id only proves that the record exists."""
    return {}, [], frozenset()


def page_of(answer: Answer, what: str) -> Page:
    """A page that is a bare JSON array of records with an id.

    Raises:
        BadAnswer: it is none.
    """
    if answer.status != 200:
        msg = f"{what} answered {answer.status}: is base_url right?"
        raise BadAnswer(msg)
    ids, raws = split(answer.body, _ids, what)
    return Page(ids, raws, answer.started, answer.ended)


def read_of(kind: Kind, answer: Answer, record_id: str) -> Found:
    """The detail view in the answer to a reading by id; 404 and 410 say that there is none.

    Raises:
        BadAnswer: it is another record, or not what the API documents.
    """
    if answer.status in (404, 410):
        return Missing(answer.started, answer.ended)
    view = decoded(kind, answer.body)
    if str(view["id"]) != record_id:
        msg = f"{kind.name} {record_id}: the answer is {view['id']}"
        raise BadAnswer(msg)
    return Reading(view, answer.started, answer.ended)


class _Id(msgspec.Struct):
    id: int | str


MOST_NESTED = 100
"""Deeper than any record is, and far from where comparing two of them would end in a RecursionError."""
MEANINGS: Mapping[str, Meaning] = {"open": "open", "won": "won", "lost": "lost"}
"""Of a status that says by itself how a deal stands."""
_ids = msgspec.json.Decoder(list[_Id])
_rows = msgspec.json.Decoder(list[msgspec.Raw])


def taken(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, what: str) -> T:
    """Decode what an answer holds.

    Raises:
        BadAnswer: it is not of the documented types.
    """
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as exc:
        msg = f"{what} is not what the API documents: {exc}"
        raise BadAnswer(msg) from exc


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
    if _too_deep(bytes(raw), view):
        msg = f"a {kind.name} is nested deeper than {MOST_NESTED} levels"
        raise BadAnswer(msg)
    try:
        kind.model.model_validate(view)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{kind.name} {view.get('id') if isinstance(view, dict) else '?'}: {where}: {first['msg']}"
        raise BadAnswer(msg) from exc
    result: dict[str, Any] = view
    return result


def _too_deep(raw: bytes, value: Any) -> bool:
    """Whether a value is nested deeper than MOST_NESTED; most have fewer brackets than that in all."""
    if raw.count(b"{") + raw.count(b"[") <= MOST_NESTED:
        return False
    level = [value]
    for _ in range(MOST_NESTED):
        held = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for values in held for each in values if isinstance(each, dict | list)]
    return bool(level)
