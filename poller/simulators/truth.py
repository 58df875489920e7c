"""What truly happened: the log that a poller's events are held against.

An entry says what an ideal observer with the account's main token would publish for one
transition that stood long enough. Nothing here is ever served to the poller.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Literal, TypeAlias

from poller.model import Json

Fields: TypeAlias = Mapping[str, Json]
Views: TypeAlias = Literal["list", "detail", "both"]
"""Which view shows a change; a field that both have shows in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event that an ideal observer would publish, before it has its place in the log."""

    subject: str
    """`opportunity/101`; for a rename what was renamed, `status/2`; for the token `source`."""
    type: str
    """The event type of the contract."""
    parent: str = ""
    """For a deliverable or task the record it is nested in."""
    changed: tuple[str, ...] = ()
    before: Fields = field(default_factory=dict)
    after: Fields = field(default_factory=dict)
    views: Views = "both"
    noise: bool = False
    """Nothing but counters, computed money or positions moved."""
    seen: bool = True
    """False where the token cannot see it: no event is due."""
    cause: str = ""
    """`access` where the token's reach moved, `parent` where the thing went with its deliverable."""
    object: Fields | None = None
    """The record afterwards: its list view, and what only the detail has. None when it left."""
    nested: Mapping[str, Fields] = field(default_factory=dict)
    """For a record that comes into view: what is nested in it, by subject, of which nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change at its place: `at` (Unix seconds) is the moment it became visible."""

    seq: int
    at: float
    account: str
    transition: int
    subject: str
    type: str
    parent: str
    changed: tuple[str, ...]
    before: Fields
    after: Fields
    views: Views
    noise: bool
    seen: bool
    cause: str
    object: Fields | None
    nested: Mapping[str, Fields]


Entries: TypeAlias = tuple[Entry, ...]
"""What one transition left in the log."""


class TruthLog:
    """The entries of all accounts of one simulator, numbered from 1; `keep` bounds a long run's memory."""

    def __init__(self, *, clock: Callable[[], float] = time.time, keep: int | None = None) -> None:
        self.seq = 0
        self.transition = 0
        self._clock = clock
        self._keep = keep
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def keep(self, entries: int | None) -> None:
        """Keep that many at least from now on; None: all."""
        self._keep = entries

    def record(self, *, account: str, changes: Iterable[Change]) -> tuple[Entry, ...]:
        """Log the changes of one transition, all at one moment; none: no transition is counted."""
        found = list(changes)
        if not found:
            return ()
        self.transition += 1
        at = self._clock()
        entries = tuple(self._entry(change, account=account, at=at) for change in found)
        self._entries.extend(entries)
        self._forget()
        return entries

    def since(self, seq: int = 0, *, limit: int | None = None) -> list[Entry]:
        """The entries after `seq`, oldest first."""
        if not self._entries:
            return []
        start = max(0, seq + 1 - self._entries[0].seq)
        stop = None if limit is None else start + limit
        return list(islice(self._entries, start, stop))

    def _entry(self, change: Change, *, account: str, at: float) -> Entry:
        self.seq += 1
        said = {each.name: getattr(change, each.name) for each in fields(change)}
        return Entry(seq=self.seq, at=at, account=account, transition=self.transition, **said)

    def _forget(self) -> None:
        # Half is let go at once, so that the cost is spread thin.
        if self._keep is not None and len(self._entries) > 2 * self._keep:
            del self._entries[: -self._keep]
