"""What a change of status means: only the detail view has the dates; which status is lost is learned."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .batch import UNSEEN
from .details import STEPS, Details
from .diff import Diff
from .events import Bounds, Known
from .session import SourceSession
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
    """Changes of status of one source's records."""

    def __init__(self, session: SourceSession, details: Details) -> None:
        self._session = session
        self._details = details

    def step(self, kind: Kind, known: Known, row: dict[str, Any], diff: Diff) -> str:
        """What a changed row means where it tells all by itself; `known` then counts as called so."""
        if kind.echoes or not kind.judged:
            return kind.verdict(diff)
        before, now = self._session.meaning(known), self._session.usual(row)
        if now in (None, before) or self._stayed(known.row or {}, row):
            # What differs is still unsaid, or it is the operator's lists of statuses: that is no news.
            return kind.verdict(diff)
        known.meaning = now
        return STEPS[now or before]

    def _stayed(self, old: dict[str, Any], row: dict[str, Any]) -> bool:
        was, now = self._session.source.judge(old), self._session.source.judge(row)
        return (was.status, was.meaning) == (now.status, now.meaning)

    async def settle(self, kind: Kind, pending: Pending) -> None:
        """Say what one change of status was.

        Where the detail view cannot be read, or shows yet another status, what the status usually means
        decides; where that is not known it is a plain status_changed, and the next reading says more.
        """
        session = self._session
        answer = await session.read(kind.name, pending.record_id)
        reading = answer if isinstance(answer, Reading) else None
        known, old = pending.known, pending.known.row or {}
        suffix, bounds = kind.verdict(pending.diff), pending.bounds
        known.status_after = known.status_after or bounds.not_before
        if kind.judged:
            before, now = session.meaning(known), self._now(kind, pending, reading)
            known.meaning = now or before
            if known.meaning != before:
                suffix, bounds = STEPS[known.meaning], known.since_status(bounds)
        known.row, known.row_at = pending.row, pending.started
        changed, previous = list(pending.diff.changed), dict(pending.diff.previous)
        if reading is not None and suffix != "status_changed":
            self._merge_dates(kind, known, reading, changed, previous)
        session.note_status(kind, pending.record_id, pending.row)
        batch = session.batch()
        session.say(
            batch,
            kind,
            pending.record_id,
            known,
            suffix,
            bounds,
            object_=self._object(known, reading),
            previous={**old, **previous} if suffix == "won" else previous,
            changed=changed,
        )
        unsaid = reading is None and self.is_unsaid(kind, known)
        batch.row(kind.name, pending.record_id, UNSEEN if unsaid else pending.fingerprint)
        batch.keep(kind.name, pending.record_id, known)
        await session.commit(batch)
        session.last_seen[kind.name][pending.record_id] = pending.started
        if reading is not None:
            await self._details.take(kind, pending.record_id, reading)
        else:
            session.urgent[kind.name, pending.record_id] = session.now()

    def _now(self, kind: Kind, pending: Pending, reading: Reading | None) -> str | None:
        usual = self._session.usual(pending.row)
        if reading is None:
            return usual
        told = self._session.told(kind, pending.known, reading.view)
        self._session.learned(told)
        return told.meaning or usual if self._agrees(pending.row, reading) else usual

    def _agrees(self, row: dict[str, Any], reading: Reading) -> bool:
        judge = self._session.source.judge
        return judge(row).status == judge(reading.view).status

    def _merge_dates(
        self,
        kind: Kind,
        known: Known,
        reading: Reading,
        changed: list[str],
        previous: dict[str, Any],
    ) -> None:
        """A win, a loss, a completion or a reopening carries the date that it set or cleared."""
        if not self._agrees(known.row or {}, reading):
            return
        old = known.detail or {}
        dates = {name: reading.view[name] for name in kind.echoes & reading.view.keys()}
        for name, value in dates.items():
            if name in old and old[name] != value:
                changed.append(name)
                previous[name] = old[name]
        if known.detail is not None:
            known.detail = {**known.detail, **dates}

    def _object(self, known: Known, reading: Reading | None) -> dict[str, Any]:
        """The record as now known; where its detail was never read before, as just read."""
        if known.detail is None and reading is not None:
            return {**self._session.source.nested(reading.view)[0], **(known.row or {})}
        return known.object

    async def judge(self, kind: Kind, record_id: str, bounds: Bounds) -> None:
        """Say more of a record that came in a status which means more than was said of it."""
        session = self._session
        if not kind.echoes:
            await self._judge_row(kind, record_id, bounds)
            return
        reading = await session.read(kind.name, record_id)
        if isinstance(reading, Reading):
            await self._learn_by(kind, record_id, reading)
            session.urgent.pop((kind.name, record_id), None)
        else:
            session.urgent[kind.name, record_id] = session.now()

    async def doubt(self, kind: Kind, ids: Iterable[str]) -> None:
        """Of records that came with many: what they are may be old, and their dates decide."""
        batch = self._session.batch()
        for record_id, known in (await self._session.records(kind.name, ids)).items():
            known.among_many = True
            batch.keep(kind.name, record_id, known)
        await self._session.commit(batch)

    def is_unsaid(self, kind: Kind, known: Known) -> bool:
        """Whether its status may mean more than was said, and nothing that tells was judged since.

        Where the row does not tell all by itself that is a detail view with that status.
        """
        row, judge = known.row or {}, self._session.source.judge
        usual = self._session.usual(row)
        if not kind.judged or known.meaning in (None, usual):
            return False
        if not kind.echoes:
            return usual is not None
        return known.detail is None or judge(known.detail).status != judge(row).status

    async def _judge_row(self, kind: Kind, record_id: str, bounds: Bounds) -> None:
        session = self._session
        known = (await session.records(kind.name, [record_id])).get(record_id)
        now = session.usual(known.row or {}) if known else None
        if known is None or now is None or now == known.meaning:
            return
        bounds = known.since_status(bounds)
        known.meaning, known.status_after = now, 0.0
        previous = dict(known.row or {}) if now == "won" else {}
        batch = session.batch()
        if not known.among_many or session.source.judge(known.row or {}).latest >= known.came_after:
            session.say(batch, kind, record_id, known, STEPS[now], bounds, previous=previous)
        batch.keep(kind.name, record_id, known)
        await session.commit(batch)

    async def learn(self) -> None:
        """Read a few records of each status that nobody knows yet."""
        memory = self._session.memory
        for kind in (kind for kind in self._session.source.kinds.values() if kind.judged and kind.echoes):
            for status in list(memory.unlearned):
                if await self._learn_status(kind, status):
                    memory.unlearned.pop(status, None)

    async def _learn_status(self, kind: Kind, status: str) -> bool:
        """Whether the status needs no more reading: known, or its records were read and do not tell."""
        memory = self._session.memory
        was_read = False
        for record_id in memory.unlearned[status]:
            reading = await self._session.read(kind.name, record_id)
            if isinstance(reading, Reading):
                was_read = True
                await self._learn_by(kind, record_id, reading)
            if memory.meanings.get(status) == "open":
                return True
        return was_read or status in memory.meanings

    async def _learn_by(self, kind: Kind, record_id: str, reading: Reading) -> None:
        """Take a reading, and learn from it; not from a date of old, which says more than it is called."""
        session = self._session
        await self._details.take(kind, record_id, reading)
        known = (await session.records(kind.name, [record_id])).get(record_id, Known())
        told = session.source.judge(reading.view)
        if known.meaning in (None, told.meaning):
            session.learned(told)
