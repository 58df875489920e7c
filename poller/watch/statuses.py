"""What a change of status means: only the detail view has the dates; which status is lost is learned."""

from dataclasses import dataclass
from typing import Any

from .desk import Desk
from .details import Details, step
from .diff import Diff
from .events import Bounds, Known
from .sources.base import Kind, Reading


@dataclass(frozen=True, slots=True)
class Pending:
    """A change of status that waits for the detail view."""

    record_id: str
    fingerprint: bytes
    known: Known
    diff: Diff
    row: dict[str, Any]
    started: float
    bounds: Bounds


class Statuses:
    """Changes of status of one source's deals."""

    def __init__(self, desk: Desk, details: Details) -> None:
        self._desk = desk
        self._details = details

    async def settle(self, kind: Kind, pending: Pending) -> None:
        """Say what one change of status was.

        Where the detail view cannot be read, or shows yet another status, what the status usually means
        decides; where that is not known it is a plain status_changed, and the next reading says more.
        """
        desk = self._desk
        reading = await desk.read(kind.name, pending.record_id)
        found = reading if isinstance(reading, Reading) else None
        known = pending.known
        before, now = desk.meaning(known), self._now(pending, found)
        known.row, known.row_at, known.meaning = pending.row, pending.started, now
        suffix = step(before, now)
        changed, previous = list(pending.diff.changed), dict(pending.diff.previous)
        if suffix != "status_changed" and found is not None:
            self._merge_dates(kind, known, found, changed, previous)
        desk.note_status(kind, pending.record_id, pending.row)
        ledger = desk.ledger()
        desk.say(
            ledger,
            kind,
            pending.record_id,
            known,
            suffix,
            pending.bounds,
            previous=previous,
            changed=changed,
        )
        ledger.row(kind.name, pending.record_id, pending.fingerprint)
        ledger.keep(kind.name, pending.record_id, known)
        await desk.commit(ledger)
        desk.last_seen[kind.name][pending.record_id] = pending.started
        if found is not None:
            await self._details.take(kind, pending.record_id, found)

    def _now(self, pending: Pending, reading: Reading | None) -> str | None:
        judge = self._desk.source.judge
        listed = judge(pending.row)
        usual = listed.meaning or self._desk.memory.meanings.get(listed.status)
        if reading is None:
            return usual
        told = judge(reading.view)
        self._desk.learned(told)
        return told.meaning or usual if told.status == listed.status else usual

    def _merge_dates(
        self,
        kind: Kind,
        known: Known,
        reading: Reading,
        changed: list[str],
        previous: dict[str, Any],
    ) -> None:
        """A win, a loss or a reopening carries the date that it set or cleared."""
        old = known.detail or {}
        dates = {name: reading.view[name] for name in kind.echoes & reading.view.keys()}
        for name, value in dates.items():
            if name in old and old[name] != value:
                changed.append(name)
                previous[name] = old[name]
        if known.detail is not None:
            known.detail = {**known.detail, **dates}

    async def learn(self) -> None:
        """Read a few records of each status that nobody knows yet."""
        memory = self._desk.memory
        for kind in (kind for kind in self._desk.source.kinds.values() if kind.judged):
            for status in list(memory.unlearned):
                if await self._learn_status(kind, status):
                    memory.unlearned.pop(status, None)

    async def _learn_status(self, kind: Kind, status: str) -> bool:
        memory = self._desk.memory
        for record_id in memory.unlearned[status]:
            reading = await self._desk.read(kind.name, record_id)
            if isinstance(reading, Reading):
                self._desk.learned(self._desk.source.judge(reading.view))
                await self._details.take(kind, record_id, reading)
            if memory.meanings.get(status) == "open":
                return True
        return status in memory.meanings
