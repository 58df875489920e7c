"""One record: what is known of it, and its own history out of the stream."""

from typing import Any

from poller.model import loads, pretty
from poller.store.letters import position
from poller.store.page_reads import PageReads
from poller.store.snapshots import Snapshots
from poller.watch.events import Known, known_of

from .answers import RecordAnswer
from .context import WebContext
from .search import Wanted, find, placed

MOST_EVENTS = 200
ONLY_EVENTS = ("source", "webhook")
"""What operational events are about: it has no record."""


async def record(
    context: WebContext, page_reads: PageReads, source: str, kind: str, record_id: str
) -> RecordAnswer | None:
    """A record and its events, oldest first; None where nothing is known of it.

    Raises:
        StoreUnavailable, StoreRefused: Redis cannot tell.
    """
    store = Snapshots(context.connection, context.keys, source, fence=0)
    known = known_of((await store.records(kind, [record_id])).get(record_id))
    subject = f"{kind}/{record_id}"
    found = await find(page_reads, [source], Wanted(subject=subject), limit=MOST_EVENTS)
    entries = sorted(found.entries, key=lambda entry: position(entry.place))
    # What ever had an event is known for good, so where nothing is known no older event is left to find.
    if known is None and not entries and (found.next is None or kind not in ONLY_EVENTS):
        return None
    listed = bool((await store.prints(kind, [record_id]))[0])
    events = [placed(entry) for entry in entries]
    known = known or Known()
    # A listed record may have a field of this name of its own.
    parent = "" if listed else str((known.detail or {}).get("parent") or "")
    return RecordAnswer(
        source=source,
        record=subject,
        state="listed" if listed else "nested" if parent and not known.gone else "gone",
        object=known.object or _last(events),
        revision=known.revision or max((_revision(each.event) for each in events), default=0),
        detail_at=known.detail_at or None,
        amount=known.amount,
        parent=parent or None,
        events=events,
        complete=found.next is None,
    )


def _last(events: list[Any]) -> dict[str, Any]:
    data = events[-1].event.get("data") if events else None
    return dict(data.get("object") or {}) if isinstance(data, dict) else {}


def _revision(event: dict[str, Any]) -> int:
    data = event.get("data")
    return int(data.get("revision", 0)) if isinstance(data, dict) else 0


def pretty_body(body: bytes) -> str:
    """An event's bytes for reading; what is no JSON as it is."""
    try:
        return pretty(loads(body))
    except ValueError:
        return body.decode("utf-8", "replace")
