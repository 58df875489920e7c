"""What a detail view says: fields that only it has, and the records nested in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from poller.store.snapshots import MOST_CHANGES

from .desk import Desk
from .diff import Diff, Rename, compare, worth_saying
from .events import Bounds, Known
from .ledger import Ledger
from .sources.base import Child, Kind, Reading

STEPS = {"open": "reopened", "won": "won", "lost": "lost"}


def step(before: str, now: str | None) -> str:
    """What happened to a deal whose status moved."""
    return "status_changed" if now is None or now == before else STEPS[now]


class Details:
    """Readings of records by their id."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def take(self, kind: Kind, record_id: str, reading: Reading) -> None:
        """Commit what a detail view shows of a record that is listed."""
        known = (await self._desk.records(kind.name, [record_id])).get(record_id)
        if known is None or known.gone:
            return
        own, children = self._desk.source.nested(reading.view)
        first = known.detail is None
        ledger = self._desk.ledger()
        bounds = Bounds(known.detail_at, reading.ended)
        if first:
            self.baseline(kind, known, reading, own)
        else:
            await self._own(ledger, kind, record_id, known, reading, own)
        await self.nested(ledger, known, children, bounds, first=first)
        ledger.keep(kind.name, record_id, known)
        await self._desk.commit(ledger)

    def baseline(self, kind: Kind, known: Known, reading: Reading, own: dict[str, Any]) -> None:
        """The first detail reading says nothing. It judges a deal only in the status its row has."""
        known.detail, known.detail_at = own, reading.started
        told = self._desk.source.judge(own)
        if kind.judged and known.meaning is None and self._same_status(known, told.status):
            known.meaning = told.meaning

    async def _own(
        self,
        ledger: Ledger,
        kind: Kind,
        record_id: str,
        known: Known,
        reading: Reading,
        own: dict[str, Any],
    ) -> None:
        desk, old = self._desk, known.detail or {}
        bounds = Bounds(known.detail_at, reading.ended)
        mine = own.keys() - (known.row or {}).keys() - kind.echoes
        diff = compare(kind.shape, _only(old, mine), _only(own, mine))
        await desk.tell_renames(diff.renames, bounds)
        suffix, echoes = self._judged(kind, known, own)
        changed = (*diff.changed, *echoes)
        known.detail, known.detail_at = {**own, **self._held_echoes(kind, known, own)}, reading.started
        if not desk.manner.details:
            return
        if suffix != "updated" or echoes or worth_saying(kind.shape, changed, noise=desk.manner.noise):
            previous = {name: old.get(name) for name in changed}
            desk.say(ledger, kind, record_id, known, suffix, bounds, previous=previous, changed=changed)

    def _judged(self, kind: Kind, known: Known, own: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Whether the dates say more than the list did, and which of them moved."""
        moved = tuple(sorted(n for n in kind.echoes & own.keys() if own[n] != (known.detail or {}).get(n)))
        told = self._desk.source.judge(own)
        if not kind.judged:
            return "updated", tuple(name for name in moved if own[name] and (known.detail or {}).get(name))
        if not self._same_status(known, told.status) or told.meaning is None:
            return "updated", ()
        before = self._desk.meaning(known)
        known.meaning = told.meaning
        if told.meaning != before:
            return STEPS[told.meaning], moved
        return "updated", tuple(name for name in moved if own[name] and (known.detail or {}).get(name))

    def _held_echoes(self, kind: Kind, known: Known, own: Mapping[str, Any]) -> dict[str, Any]:
        """Dates of a status that the list has not shown yet stay as they were known."""
        if not kind.judged or self._same_status(known, self._desk.source.judge(own).status):
            return {}
        return {name: (known.detail or {}).get(name) for name in kind.echoes & own.keys()}

    def _same_status(self, known: Known, status: str) -> bool:
        return known.row is None or self._desk.source.judge(known.row).status == status

    # --- nested records -------------------------------------------------------------------------

    async def nested(
        self, ledger: Ledger, parent: Known, children: Sequence[Child], bounds: Bounds, *, first: bool
    ) -> None:
        """Note deliverables and tasks; more than a commit holds goes ahead of its parent."""
        if not self._desk.manner.details:
            return
        kinds = self._desk.source.kinds
        now = {f"{child.kind}/{child.id}": child for child in children}
        gone = [subject for subject in parent.children if subject not in now]
        known = await self._nested_records({*now, *gone})
        await self._desk.tell_renames(_renames(kinds, now, known), bounds)
        for subject, child in now.items():
            record = known.get(subject)
            self._child(ledger, kinds[child.kind], child, record, bounds, first=first)
            if len(ledger) >= MOST_CHANGES - 1:
                await self._desk.commit(ledger)
                ledger.clear()
        for subject in gone:
            kind_name, _, record_id = subject.partition("/")
            record = known.get(subject)
            if record is not None and not record.gone:
                record.gone, record.gone_at = "removed", self._desk.now()
                self._desk.say(ledger, kinds[kind_name], record_id, record, "removed", bounds)
                ledger.keep(kind_name, record_id, record)
        parent.children = list(now)

    async def _nested_records(self, subjects: set[str]) -> dict[str, Known]:
        found: dict[str, Known] = {}
        for kind in {subject.partition("/")[0] for subject in subjects}:
            ids = [s.partition("/")[2] for s in subjects if s.startswith(f"{kind}/")]
            records = await self._desk.records(kind, ids)
            found |= {f"{kind}/{record_id}": known for record_id, known in records.items()}
        return found

    def _child(
        self, ledger: Ledger, kind: Kind, child: Child, known: Known | None, bounds: Bounds, *, first: bool
    ) -> None:
        desk = self._desk
        if known is None or known.gone:
            known = known or Known()
            known.detail, known.gone = child.view, ""
            if not first:
                desk.say(ledger, kind, child.id, known, "added", bounds)
        else:
            diff = compare(kind.shape, known.detail or {}, child.view)
            if not _moved(diff, known, child):
                return
            known.detail = child.view
            if worth_saying(kind.shape, diff.changed, noise=desk.manner.noise):
                desk.say(
                    ledger,
                    kind,
                    child.id,
                    known,
                    kind.verdict(diff),
                    bounds,
                    previous=diff.previous,
                    changed=diff.changed,
                )
        known.detail_at = bounds.not_after
        ledger.keep(kind.name, child.id, known)


def _renames(kinds: Mapping[str, Kind], now: Mapping[str, Child], known: Mapping[str, Known]) -> list[Rename]:
    return [
        rename
        for subject, child in now.items()
        if subject in known
        for rename in compare(kinds[child.kind].shape, known[subject].detail or {}, child.view).renames
    ]


def _only(view: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name in names}


def _moved(diff: Diff, known: Known, child: Child) -> bool:
    return bool(diff.changed or diff.hidden or diff.shown or diff.renames) and known.detail != child.view
