"""The event log: newest first, kept for 30 days, updates drawn together, some events late."""

import base64
import bisect
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from poller.model import Json

from .dates import MS_PER_DAY, written, written_naive
from .switches import Switches
from .tables import make_id

_PRIVATE_AFTER_MS = 3_600_000
_COMBINATIONS = frozenset(
    frozenset(names.split())
    for names in (
        "", "object_type", "object_id", "action", "lead_id", "user_id", "request_id",
        "object_type object_id", "object_type action", "object_id action", "lead_id object_type",
        "lead_id object_type action", "lead_id user_id", "lead_id user_id object_type",
        "lead_id user_id object_type action", "user_id object_type", "user_id object_type action",
    )
)  # fmt: skip
FILTERS = ("object_type", "object_id", "action", "lead_id", "user_id", "request_id")


@dataclass(slots=True, kw_only=True)
class Logged:
    """One event of the log."""

    id: str
    number: int
    """Its place among those of one moment."""
    action: str
    object_type: str
    object_id: str
    lead_id: str | None
    user_id: str
    request_id: str
    created_ms: int
    updated_ms: int
    shows_at: int
    """The number of transitions from which on it is there."""
    changed: set[str]
    data: Mapping[str, Json] | None
    previous: dict[str, Json]
    meta: dict[str, Json]

    @property
    def place(self) -> tuple[int, int]:
        return (self.updated_ms, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one call of somebody's did: its events share it."""

    id: str
    user: str
    meta: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pages:
    """One page of the log, and the cursors beside it."""

    events: list[Logged]
    next: str | None
    previous: str | None


class BadCursor(ValueError):
    """The cursor is none of ours."""


class Journal:
    """The log of one account."""

    def __init__(self, *, rng: random.Random, organization: str, transition: Callable[[], int]) -> None:
        self._rng = rng
        self._organization = organization
        self._transition = transition
        self._events: dict[tuple[str, str], list[Logged]] = defaultdict(list)
        self._latest: dict[str, Logged] = {}
        self._count = 0

    def add(
        self,
        *,
        at_ms: int,
        action: str,
        object_type: str,
        object_id: str,
        lead_id: str | None,
        request: Request,
        switches: Switches,
        before: Mapping[str, Json] | None = None,
        after: Mapping[str, Json] | None = None,
    ) -> None:
        """Note what happened to an object; an update may be drawn into the one before it."""
        self._count += 1
        changed = {name for name in {*(before or {}), *(after or {})} if _moved(name, before, after)}
        latest = self._latest.get(object_id)
        if action == "updated" and latest and _joins(latest, at_ms, request, switches):
            self._join(latest, at_ms, changed, before or {}, after)
            return
        event = Logged(
            id=make_id(self._rng, "ev"),
            number=self._count,
            action=action,
            object_type=object_type,
            object_id=object_id,
            lead_id=lead_id,
            user_id=request.user,
            request_id=request.id,
            created_ms=at_ms,
            updated_ms=at_ms,
            shows_at=self._shows_at(switches),
            changed=changed if action == "updated" else set(),
            data=after,
            previous=_previous(action, changed, before),
            meta=dict(request.meta),
        )
        self._latest[object_id] = event
        self._events[object_type, action].append(event)
        self._forget(at_ms, switches)

    def show_all(self) -> None:
        """Let everything that is late be there."""
        for events in self._events.values():
            for event in events:
                event.shows_at = 0

    def page(
        self, filters: Mapping[str, str], *, limit: int, cursor: str, now_ms: int, switches: Switches,
        since_ms: int | None = None, until_ms: int | None = None, replica_lag: int = 0,
    ) -> Pages:  # fmt: skip
        """The events that fit, newest first, from the cursor on.

        Raises:
            BadCursor: the cursor is none that this log has given.
            ValueError: these filters cannot be combined.
        """
        if frozenset(filters) not in _COMBINATIONS:
            msg = f"Filtering by {', '.join(sorted(filters))} together is not supported."
            raise ValueError(msg)
        oldest = max(now_ms - int(switches.event_days * MS_PER_DAY), since_ms or 0)
        newest = now_ms if until_ms is None else until_ms
        shown = self._transition() - replica_lag
        found = [
            event
            for event in self._fitting(filters)
            if oldest <= event.updated_ms <= newest and event.shows_at <= shown
        ]
        found.sort(key=lambda event: event.place, reverse=True)
        return _cut(found, limit, cursor)

    def printed(self, event: Logged, *, admin: bool, now_ms: int, switches: Switches) -> dict[str, Json]:
        """As the API prints it; who is no admin sees what changed for an hour only."""
        hidden = not admin and now_ms - event.created_ms > _PRIVATE_AFTER_MS
        moment = written_naive if switches.event_dates == "naive" else written
        return {
            "id": event.id,
            "date_created": moment(event.created_ms),
            "date_updated": moment(event.updated_ms),
            "organization_id": self._organization,
            "user_id": event.user_id,
            "request_id": event.request_id,
            "api_key_id": None,
            "object_type": event.object_type,
            "object_id": event.object_id,
            "lead_id": event.lead_id,
            "action": event.action,
            "changed_fields": sorted(event.changed),
            "meta": event.meta,
            "data": None if hidden else event.data,
            "previous_data": None if hidden else event.previous,
        }

    def _shows_at(self, switches: Switches) -> int:
        if not switches.event_delay and not switches.replica_lag:
            return 0
        # What is noted now belongs to the transition that is being made.
        return self._transition() + 1 + self._rng.randint(0, switches.event_delay)

    def _join(
        self, event: Logged, at_ms: int, changed: set[str], before: Mapping[str, Json], after: Any
    ) -> None:
        event.updated_ms, event.number = at_ms, self._count
        for name in changed - event.changed:
            event.previous[name] = before.get(name)
        event.changed |= changed
        event.data = after

    def _fitting(self, filters: Mapping[str, str]) -> Iterator[Logged]:
        kind, action = filters.get("object_type"), filters.get("action")
        rest = [(name, value) for name, value in filters.items() if name not in {"object_type", "action"}]
        for (one_kind, one_action), events in self._events.items():
            if kind in {None, one_kind} and action in {None, one_action}:
                for event in events:
                    if all(getattr(event, name) == value for name, value in rest):
                        yield event

    def _forget(self, now_ms: int, switches: Switches) -> None:
        oldest = now_ms - int(switches.event_days * MS_PER_DAY)
        for key, events in self._events.items():
            if events[0].updated_ms < oldest:
                self._events[key] = kept = [event for event in events if event.updated_ms >= oldest]
                if not kept:
                    del self._events[key]
                    return


def _moved(name: str, before: Mapping[str, Json] | None, after: Mapping[str, Json] | None) -> bool:
    return (before or {}).get(name) != (after or {}).get(name)


def _joins(latest: Logged, at_ms: int, request: Request, switches: Switches) -> bool:
    near = at_ms - latest.updated_ms <= switches.consolidate_s * 1000
    return near and latest.action == "updated" and latest.user_id == request.user


def _previous(action: str, changed: set[str], before: Mapping[str, Json] | None) -> dict[str, Json]:
    """Of an update the old values, of a deletion everything."""
    if before is None:
        return {}
    return dict(before) if action == "deleted" else {name: before.get(name) for name in changed}


def _cut(found: list[Logged], limit: int, cursor: str) -> Pages:
    way, place = _read(cursor)
    start = 0
    if place is not None:
        keys = [(-event.updated_ms, -event.number) for event in found]
        at = (-place[0], -place[1])
        start = (
            bisect.bisect_right(keys, at) if way == "next" else max(0, bisect.bisect_left(keys, at) - limit)
        )
    events = found[start : start + limit]
    more = events and start + limit < len(found)
    return Pages(
        events,
        _write("next", events[-1].place) if more else None,
        _write("previous", events[0].place) if events and start > 0 else None,
    )


def _write(way: str, place: tuple[int, int]) -> str:
    return base64.urlsafe_b64encode(f"{way}:{place[0]}:{place[1]}".encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[str, tuple[int, int] | None]:
    if not cursor:
        return "next", None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        way, at, number = text.split(":")
        return way, (int(at), int(number))
    except ValueError as exc:
        msg = "Invalid cursor."
        raise BadCursor(msg) from exc
