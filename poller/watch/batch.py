"""What a source as a whole remembers, and the next commit while it is being written. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from poller.model import Event
from poller.store.snapshots import Commit

from .events import Bounds, Known, kept, make
from .page_size import Sizing
from .sources.base import Kind

UNSEEN = b"-"
"""Fingerprint of a listed record whose row was not read yet, or may mean more than was said: look again."""


class ListMemory(msgspec.Struct, omit_defaults=True):
    """What is remembered of one list."""

    baselined: bool = False
    swept_at: float = 0.0
    """Start of the last reading that ended (Unix seconds): what came since is above `top`, or appeared."""
    whole_at: float = 0.0
    """Start of the last reading that was whole."""
    whole_s: float = 0.0
    """How long it took: a large list and a small budget may make that hours."""
    sure_at: float = 0.0
    """Start of the last reading that left no doubt of any record: none had changed before it unseen."""
    shown_at: float = 0.0
    """… and of the last such reading that was whole: only that shows what the API does not date."""
    clear_at: float = 0.0
    """… and of the last such reading that showed no id twice: then all there was had its place in it."""
    cursor: str = ""
    """Where the next reading goes on, for an API that can be asked for changes."""
    highest: float = 0.0
    """Highest rank known."""
    top: float = 0.0
    """Highest rank of the list and its sibling when the last reading began: above it is `created`."""
    pages: int = 0
    sizing: Sizing = msgspec.field(default_factory=Sizing)
    """What was learned of how many rows a page may have."""
    cost: int = 0
    """What such a reading cost, in requests, or in what the API counts instead: the lesser of the last two,
    for some also ask for names."""
    last_cost: int = 0
    refused_at: float = 0.0
    """Start of the last reading that was refused (Unix seconds); 0 where one gave a page since."""
    left_out: bool = False
    """The account did not have this list when it was to be the baseline."""
    recheck: bool = False
    """An operator wants every row compared again, whatever its fingerprint."""
    held: int = 0
    """How many records are suspect while removals wait; 0 when nothing is held."""
    released: bool = False
    """An operator said that what is missing is really gone."""
    strange: bool = False
    """Its first page shared no id with what is known: another account's token."""
    turn: int = 0
    """Where the search for wins among held records goes on."""
    missing: dict[str, float] = {}
    """Ids that answered 404 on both resources, and when they first did."""
    forbidden: list[str] = []
    """Ids that answered 403, which was said."""
    hidden: dict[str, int] = {}
    """Field -> rows that lost it since the last complete sweep."""
    shown: dict[str, int] = {}
    """Field -> rows that have it again since then."""


class Memory(msgspec.Struct, omit_defaults=True):
    """What is remembered of the source."""

    lists: dict[str, ListMemory] = {}
    meanings: dict[str, str] = {}
    """Status id -> open, won or lost, as learned from records that have it."""
    unlearned: dict[str, list[str]] = {}
    """Status id -> a few records from which its meaning can be learned."""
    names: dict[str, str] = {}
    """What was renamed, or is only named apart from its records -> its name now."""
    named_at: dict[str, float] = {}
    """What is named apart from its records (`stage`) -> when all such names were last asked for."""
    visible: dict[str, bool] = {}
    """Field as `task.budget` -> whether it was last said to be shown or hidden."""
    noticed: dict[str, int] = {}
    """Field as `-task.budget` (lost) or `+task.budget` (back) -> detail views in which that was seen."""
    noticed_since: dict[str, float] = {}
    """… and when a detail view last showed it otherwise."""
    baselined: bool = False
    rebased_at: float = 0.0
    """When a newer poller took over (Unix seconds): what was read before may have been read differently."""
    paused: bool = False
    """An operator said so."""
    suspended: str = ""
    """Why the source is suspended; empty while it is not."""
    attic: list[str] = []
    """Kind and cursor at which the search for old tombstones goes on."""
    self: Known = msgspec.field(default_factory=Known)
    """The source as a subject of its own events."""


_decoder = msgspec.json.Decoder(Memory)
_FIELD = "memory"


def remembered(memory: Mapping[str, bytes], lists: tuple[str, ...]) -> Memory:
    """Read what the source remembers; a new source remembers nothing."""
    stored = memory.get(_FIELD)
    found = _decoder.decode(stored) if stored else Memory()
    found.lists = {kind: found.lists.get(kind, ListMemory()) for kind in lists}
    return found


class WriteBatch:
    """One commit while it is being written."""

    def __init__(self, source: str, kind: str, *, detected_at: float) -> None:
        self._source = source
        self._path = f"/{kind}/{source}"
        self._detected_at = detected_at
        self.prints: dict[str, dict[str, bytes | None]] = {}
        self.records: dict[str, dict[str, bytes | None]] = {}
        self.events: list[Event] = []

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))

    def clear(self) -> None:
        """Begin anew after a part was committed."""
        self.prints, self.records, self.events = {}, {}, []

    def join(self, other: "WriteBatch") -> None:
        """Take in what was noted apart, after what stands here."""
        for mine, theirs in ((self.prints, other.prints), (self.records, other.records)):
            for kind, rows in theirs.items():
                mine.setdefault(kind, {}).update(rows)
        self.events += other.events

    def row(self, kind: str, record_id: str, fingerprint: bytes | None) -> None:
        """Note what the list shows of a record; None: it is no longer listed."""
        self.prints.setdefault(kind, {})[record_id] = fingerprint

    def keep(self, kind: str, record_id: str, known: Known) -> None:
        """Note what is now known of a record. Call it after the record's event was said."""
        self.records.setdefault(kind, {})[record_id] = kept(known)

    def say(
        self,
        kind: Kind,
        record_id: str,
        known: Known,
        suffix: str,
        *,
        bounds: Bounds,
        object_: Mapping[str, Any] | None = None,
        previous: Mapping[str, Any] | None = None,
        changed: tuple[str, ...] = (),
        deal: Mapping[str, str | None] | None = None,
    ) -> None:
        """Say what happened to a record."""
        event = make(
            known,
            source=self._path,
            subject=f"{kind.name}/{record_id}",
            type_=kind.type(suffix),
            bounds=bounds,
            object_=known.object if object_ is None else object_,
            previous=previous,
            changed=changed,
            deal=deal,
            shape=kind.shape,
            detected_at=self._detected_at,
        )
        self.events.append(event)

    def say_source(
        self,
        memory: Memory,
        suffix: str,
        object_: Mapping[str, Any],
        *,
        bounds: Bounds | None = None,
        previous: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what happened to the source as a whole; without bounds what we did ourselves, just now."""
        event = make(
            memory.self,
            source=self._path,
            subject=f"source/{self._source}",
            type_=f"poller.source.{suffix}",
            bounds=bounds or Bounds(self._detected_at, self._detected_at),
            object_=object_,
            previous=previous,
            changed=tuple(previous or ()),
            detected_at=self._detected_at,
        )
        self.events.append(event)

    def commit(self, memory: bytes | None) -> Commit:
        """Everything noted, and the memory where it has moved, as one commit."""
        told = {} if memory is None else {_FIELD: memory}
        return Commit(prints=self.prints, records=self.records, events=self.events, memory=told)
