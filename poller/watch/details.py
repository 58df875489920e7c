"""What a detail view says: fields that only it has, and the records nested in it."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from poller.store.snapshots import MOST_CHANGES

from .batch import WriteBatch
from .diff import Diff, Rename, compare, same, worth_saying
from .events import Bounds, Known
from .session import SourceSession
from .sources.base import Child, Kind, Reading, Same

STEPS = {"open": "reopened", "won": "won", "lost": "lost"}


@dataclass(frozen=True, slots=True)
class Arrived:
    """The first row of a record that came from the sibling list, where only its detail view was known."""

    record_id: str
    fingerprint: bytes
    row: dict[str, Any]
    started: float


class Details:
    """Readings of records by their id."""

    def __init__(self, session: SourceSession) -> None:
        self._session = session

    async def take(
        self, kind: Kind, record_id: str, reading: Reading, *, arrived: Arrived | None = None
    ) -> None:
        """Commit what a detail view shows of a record that is listed.

        With `arrived` the record's first row is committed too: until then the detail view alone told, so
        it is compared with itself also in what the row has, where both agree on the new value.
        """
        session = self._session
        known = (await session.records(kind.name, [record_id])).get(record_id)
        if known is None or known.gone:
            return
        if known.row is None and not (arrived or session.manner.details):
            return  # only what rows have is watched: its first row tells what has moved, beside this view
        own, children, hidden = session.source.nested(reading.view)
        nested = await self.nested(record_id, known, children, hidden, reading)
        batch = session.batch()
        if arrived:
            known.row, known.row_at, known.last_row = arrived.row, arrived.started, None
            batch.row(kind.name, record_id, arrived.fingerprint)
        self._own(batch, kind, record_id, known, reading, own, alone=arrived is not None)
        self._note_past(kind, record_id, known)
        batch.keep(kind.name, record_id, known)
        batch.join(nested)
        await session.commit(batch)

    async def same(self, kind: Kind, record_id: str, found: Same, *, tagged_at: float) -> bool:
        """Note that the view read at `tagged_at` still stands; False where another was read since then."""
        known = (await self._session.records(kind.name, [record_id])).get(record_id)
        if known is None or known.gone:
            return True
        if known.detail_at != tagged_at:
            return False
        known.detail_at = found.started
        self._note_past(kind, record_id, known)
        batch = self._session.batch()
        batch.keep(kind.name, record_id, known)
        await self._session.commit(batch)
        return True

    def _note_past(self, kind: Kind, record_id: str, known: Known) -> None:
        """Keep with it how often it changed until now, so that a restart need not learn it again."""
        known.changes, known.watched_s = self._session.past(kind.name, record_id) or (
            known.changes,
            known.watched_s,
        )

    def _own(
        self,
        batch: WriteBatch,
        kind: Kind,
        record_id: str,
        known: Known,
        reading: Reading,
        own: dict[str, Any],
        *,
        alone: bool,
    ) -> None:
        """Compare the view with itself as last read, and say what only it can say.

        The first reading is silent, but for what the dates say of a deal that was called open. `alone`:
        until now there was no row that could have told.
        """
        session, old = self._session, known.detail or {}
        bounds = Bounds(known.detail_at or known.came_after, reading.ended)
        diff, older = self._difference(kind, known, own, alone=alone), session.is_older(known.detail_at)
        if not older:
            session.say_renames(batch, diff.renames, bounds)
        judged, dates = self._judged(kind, known, own)
        suffix, bounds = judged or kind.verdict(diff), known.since_status(bounds) if judged else bounds
        if suffix == "updated" and known.status_after:  # its echo: said with the status, or as good as said
            dates = tuple(n for n in dates if own[n] and old.get(n))
        changed = (*diff.changed, *(dates if session.manner.details or suffix != "updated" else ()))
        if known.detail is not None and not older:
            lost, back = old.keys() - own.keys(), own.keys() - old.keys()
            self._notice(kind, lost=lost, back=back, since=known.detail_at)
        known.detail, known.detail_at = {**own, **self._held_echoes(kind, known, own)}, reading.started
        if self._same_status(known, session.source.judge(own).status):
            known.status_after = 0.0
        news = worth_saying(kind.shape, changed, noise=session.manner.noise)
        if suffix != "updated" or (news and not older):
            previous = {name: old.get(name) for name in changed}
            previous = {**known.last_listed, **previous} if suffix == "won" else previous
            session.say(batch, kind, record_id, known, suffix, bounds, previous=previous, changed=changed)

    def _difference(self, kind: Kind, known: Known, own: Mapping[str, Any], *, alone: bool) -> Diff:
        """The fields that only this view has; where it told alone, also those in which the row agrees.

        With details = false what only this view has is not watched, and these are all.
        """
        old, row = known.detail, known.row or {}
        if old is None:
            return compare(kind.shape, own, own)
        others = {
            name
            for name in row
            if not (alone and name in own and same(kind.shape, name, own[name], row[name]))
        }
        watched = old.keys() | own.keys() if self._session.manner.details else row.keys()
        mine = watched - others - kind.echoes
        return compare(kind.shape, _only(old, mine), _only(own, mine))

    def _judged(self, kind: Kind, known: Known, own: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """What the dates say beyond what was said (empty: nothing), and which dates moved."""
        old = known.detail or {}
        dates = tuple(sorted(n for n in kind.echoes & own.keys() & old.keys() if own[n] != old[n]))
        told = self._session.told(kind, known, own)
        if not self._same_status(known, told.status):
            return "", ()
        if not kind.judged or told.meaning is None:
            return "", dates
        if old and not dates and self._session.source.judge(old).status == told.status:
            return "", ()  # nothing moved but the operator's lists of statuses: that is no news
        before = known.meaning
        known.meaning = told.meaning
        if not old and known.among_many and told.latest < known.came_after:
            return "", ()  # so it was before it came: it became visible, or was imported
        return STEPS[told.meaning] if before not in (None, told.meaning) else "", dates

    def _held_echoes(self, kind: Kind, known: Known, own: Mapping[str, Any]) -> dict[str, Any]:
        """Dates of a status that the list has not shown yet stay as they were known."""
        if self._same_status(known, self._session.source.judge(own).status):
            return {}
        return {name: (known.detail or {}).get(name) for name in kind.echoes & own.keys()}

    def _same_status(self, known: Known, status: str) -> bool:
        return known.row is None or self._session.source.judge(known.row).status == status

    def _notice(self, kind: Kind, *, lost: Iterable[str], back: Iterable[str], since: float) -> None:
        """Count fields that this view lost or has again since then: many at once are the token's doing."""
        memory = self._session.memory
        if not self._session.manner.details:
            return
        for sign, names, visible in (("-", lost, False), ("+", back, True)):
            for name in (f"{kind.name}.{each}" for each in names):
                if memory.visible.get(name) is not visible:
                    memory.noticed[sign + name] = memory.noticed.get(sign + name, 0) + 1
                    memory.noticed_since[sign + name] = max(memory.noticed_since.get(sign + name, 0.0), since)

    # --- nested records -------------------------------------------------------------------------

    async def nested(
        self, home: str, parent: Known, children: Sequence[Child], hidden: Set[str], reading: Reading
    ) -> WriteBatch:
        """Note deliverables and tasks; what one commit cannot hold goes ahead of it.

        Silent where they were never read. `home` is the parent's id; kinds that are `hidden` stay as they
        were known, and where nothing is shown at all nothing was read.
        """
        session = self._session
        batch = session.batch()
        read_at = parent.detail_at if parent.nested_at is None else parent.nested_at
        passed = not session.manner.details or bool(hidden and not children)
        parent.nested_at = read_at if passed else None
        if passed:
            return batch
        kinds, first, bounds = session.source.kinds, read_at == 0, Bounds(read_at, reading.ended)
        now = {f"{child.kind}/{child.id}": child for child in children}
        unseen = [subject for subject in parent.children if subject not in now]
        kept = [subject for subject in unseen if subject.partition("/")[0] in hidden]
        gone = [subject for subject in unseen if subject.partition("/")[0] not in hidden]
        unread = set(kinds) if first else set(parent.unread)
        known = await self._nested_records([*now, *gone])
        if not session.is_older(bounds.not_before):
            session.say_renames(batch, _renames(kinds, now, known), bounds)
        for subject, child in now.items():
            record = known.get(subject)
            silent = child.kind in unread
            self._child(batch, kinds[child.kind], child, record, bounds, reading.started, first=silent)
            await self._ahead(batch)
        for subject in gone:
            self._child_gone(batch, subject, known.get(subject), home, bounds)
            await self._ahead(batch)
        parent.children, parent.unread = [*now, *kept], sorted(unread & hidden)
        return batch

    async def _ahead(self, batch: WriteBatch) -> None:
        if len(batch) >= MOST_CHANGES - 2:
            await self._session.commit(batch)
            batch.clear()

    async def _nested_records(self, subjects: Iterable[str]) -> dict[str, Known]:
        found: dict[str, Known] = {}
        ids: dict[str, list[str]] = {}
        for kind, _, record_id in (subject.partition("/") for subject in subjects):
            ids.setdefault(kind, []).append(record_id)
        for kind, mine in ids.items():
            records = await self._session.records(kind, mine)
            found |= {f"{kind}/{record_id}": known for record_id, known in records.items()}
        return found

    def _child(
        self,
        batch: WriteBatch,
        kind: Kind,
        child: Child,
        known: Known | None,
        bounds: Bounds,
        started: float,
        *,
        first: bool,
    ) -> None:
        """Note one nested record; nothing is said of a new one where its parent's were never read."""
        session = self._session
        if known is None or known.gone:
            known = known or Known()
            known.detail, known.detail_at, known.gone, known.gone_at = child.view, started, "", 0.0
            if not first:
                session.say(batch, kind, child.id, known, "added", bounds)
            batch.keep(kind.name, child.id, known)
            return
        diff = compare(kind.shape, known.detail or {}, child.view)
        if known.detail == child.view:
            return
        # One that has not changed keeps the moment of its first reading: its parent's counts.
        older, suffix, previous = session.is_older(bounds.not_before), kind.verdict(diff), diff.previous
        if not older:
            self._notice(kind, lost=diff.hidden, back=diff.shown, since=bounds.not_before)
        since = Bounds(max(bounds.not_before, known.detail_at), bounds.not_after)
        known.detail, known.detail_at = child.view, started
        news = worth_saying(kind.shape, diff.changed, noise=session.manner.noise)
        if news and (suffix != "updated" or not older):
            session.say(batch, kind, child.id, known, suffix, since, previous=previous, changed=diff.changed)
        batch.keep(kind.name, child.id, known)

    def _child_gone(
        self, batch: WriteBatch, subject: str, known: Known | None, home: str, bounds: Bounds
    ) -> None:
        """A nested record left this parent: removed, unless another parent was seen to have it."""
        kind, _, record_id = subject.partition("/")
        if known is None or known.gone:
            return
        if not is_in(known, home):
            return
        known.gone, known.gone_at = "removed", self._session.now()
        self._session.say(batch, self._session.source.kinds[kind], record_id, known, "removed", bounds)
        batch.keep(kind, record_id, known)


def is_in(child: Known, home: str) -> bool:
    """Whether a nested record is still this parent's: another's list of them may be older than a move."""
    return str((child.detail or {}).get("parent")).partition("/")[2] in ("", home)


def _renames(kinds: Mapping[str, Kind], now: Mapping[str, Child], known: Mapping[str, Known]) -> list[Rename]:
    return [
        rename
        for subject, child in now.items()
        if subject in known
        for rename in compare(kinds[child.kind].shape, known[subject].detail or {}, child.view).renames
    ]


def _only(view: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: view[name] for name in names if name in view}
