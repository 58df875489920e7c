"""What is known of a record, and the events made of it: ids, revisions, envelopes. Pure."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from poller.model import Event, dumps, rfc3339

from .diff import Shape, meant, sort_key


class Known(msgspec.Struct, omit_defaults=True):
    """Everything that is kept of one record."""

    row: dict[str, Any] | None = None
    """Its list view as last seen."""
    row_at: float = 0.0
    """Start of the request that gave it (Unix seconds)."""
    last_row: dict[str, Any] | None = None
    """The row of the time before it moved away and came back, until its list shows it again."""
    detail: dict[str, Any] | None = None
    """Its detail view as last read, without what is a record of its own."""
    detail_at: float = 0.0
    revision: int = 0
    counts: dict[str, int] = {}
    """How often each type has happened to it."""
    gone: str = ""
    """Why it is no longer listed: "removed", or "moved" to its sibling list."""
    gone_at: float = 0.0
    meaning: str | None = None
    """open, won or lost, as last said of it; None where nothing was: as its status usually means."""
    status_after: float = 0.0
    """Start of the request that last saw the status before this one (Unix seconds), until what this one
    means is said: of a kind with echoes, until a detail view with it was read. 0: it is."""
    children: list[str] = []
    """Subjects of what is nested in it."""
    nested_at: float | None = None
    """When these were last read, if not with the detail (details = false passes them over); 0: never."""
    unread: list[str] = []
    """Kinds of these that no reading has shown yet, for their key was hidden from the first one on."""
    came_after: float = 0.0
    """Start of the last sure reading of its list without it (Unix seconds); 0: there at the baseline."""
    among_many: bool = False
    """It came with many: a win or a loss that is dated before that reading is no news."""
    changes: float = 0.0
    """Changes that readings of its detail found, faded by age: how often it is to be read (habits.py)."""
    watched_s: float = 0.0
    """… and over how long."""
    amount: str | None = None
    """The deal's amount last known, kept for when the win hides it."""

    @property
    def object(self) -> dict[str, Any]:
        """The record as now known: its list view, and what only the detail view has."""
        return {**(self.detail or {}), **(self.row or {})}

    @property
    def last_listed(self) -> dict[str, Any]:
        """The last list view there was."""
        return self.row or self.last_row or {}

    def since_status(self, bounds: "Bounds") -> "Bounds":
        """The bounds of what its status means, where what was seen since then did not tell."""
        return Bounds(self.status_after or bounds.not_before, bounds.not_after)


_decoder = msgspec.json.Decoder(Known, float_hook=Decimal)


def known_of(data: bytes | None) -> Known | None:
    """Read what was kept of a record; None where nothing was."""
    return None if data is None else _decoder.decode(data)


def kept(known: Known) -> bytes:
    """Write what is to be kept of a record."""
    return dumps(known)


PLAIN = Shape()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which two moments something changed (Unix seconds)."""

    not_before: float
    not_after: float


def by_content(suffix: str) -> bool:
    """Whether this type's id is a hash of the new values (contract §4) rather than of a count."""
    return suffix in ("updated", "status_changed", "stage_changed", "phase_changed")


def make(
    known: Known,
    *,
    source: str,
    subject: str,
    type_: str,
    bounds: Bounds,
    object_: Mapping[str, Any],
    previous: Mapping[str, Any] | None = None,
    changed: tuple[str, ...] = (),
    deal: Mapping[str, str | None] | None = None,
    shape: Shape = PLAIN,
    detected_at: float,
) -> Event:
    """Make the next event of a record, whose fields are compared by `shape`, and count it in `known`.

    The id follows contract §4: the same transition found again has the same id, and every real
    transition another.
    """
    suffix = type_.rpartition(".")[2]
    known.revision += 1
    known.counts = {**known.counts, suffix: known.counts.get(suffix, 0) + 1}
    told: object = known.counts[suffix]
    if by_content(suffix):
        told = [known.revision, {name: meant(shape, name, object_.get(name)) for name in changed}]
    event_id = "evt_" + hashlib.sha256(sort_key([source, subject, type_, told])).hexdigest()[:40]
    time = rfc3339(detected_at)
    data: dict[str, Any] = {
        "object": object_,
        "previous": previous or {},
        "changed": sorted(changed),
        "observed": {
            # Where the clock was set back in between, the two moments are by two clocks.
            "not_before": rfc3339(min(bounds.not_before, bounds.not_after)),
            # Up to the next millisecond: cut off, the bound could lie before the change.
            "not_after": rfc3339(math.ceil(bounds.not_after * 1000) / 1000),
        },
    }
    if deal is not None:
        data["deal"] = deal
    body = dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": type_,
            "subject": subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": {**data, "revision": known.revision},
        }
    )
    return Event(id=event_id, type=type_, subject=subject, time=time, body=body)
