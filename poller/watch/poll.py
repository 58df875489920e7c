"""One source: sweeps of its lists and readings of its records, turned into commits.

What a valid page shows stands. A page that fails ends the sweep, and then nothing is absent (contract §1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from poller.errors import BadAnswer, Unreachable
from poller.store.snapshots import MOST_CHANGES

from .absence import HOLD_AT_LEAST, Absence
from .desk import Desk
from .details import Details
from .diff import Diff, Rename, compare, worth_saying
from .events import Bounds, Known
from .ledger import Ledger
from .sources.base import Kind, Page, Reading, decoded
from .statuses import Pending, Statuses
from .upstream import Ticket

READINGS = 3
"""A list that moves under its sweep is read again this often before anybody is asked by id."""


@dataclass(kw_only=True)
class Swept:
    """What one sweep did, for its log line and the metrics."""

    kind: str
    started: float
    ended: float = 0.0
    complete: bool = False
    reason: str = ""
    pages: int = 0
    records: int = 0
    changed: int = 0
    events: int = 0
    suspects: int = 0


@dataclass(slots=True)
class _Run:
    """One reading of a list while it goes on."""

    kind: Kind
    started: float
    top: int
    seen: dict[str, float] = field(default_factory=dict)
    steady: bool = True
    """No id twice, and a total, where the server sends one, that stays and adds up."""
    total: int | None = None
    pages: int = 0
    changed: int = 0
    pending: list[Pending] = field(default_factory=list)
    arrivals: set[str] = field(default_factory=set)
    """Ids that the sibling list holds: they moved between the two readings."""
    renames: list[Rename] = field(default_factory=list)
    hidden: dict[str, int] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row whose fingerprint moved, or is new."""

    record_id: str
    fingerprint: bytes
    view: dict[str, Any]
    known: Known
    arrived: bool


class Poll:
    """The work on one source."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._details = Details(desk)
        self._statuses = Statuses(desk, self._details)
        self._absence = Absence(desk, self._details)

    async def sweep(self, name: str) -> Swept:
        """Read one list to its end, commit what it shows, and ask by id for what is absent.

        Raises:
            Refused, Limited: the source or its host must wait. StoreError, Fenced, Conflict: as the store.
        """
        told = Swept(kind=name, started=self._desk.now())
        before = self._desk.events
        suspects: set[str] | None = None
        for _ in range(READINGS):
            run = await self._read(name, told)
            if not told.complete:
                break
            absent = await self._absent(run)
            suspects = absent if suspects is None else suspects & absent
            if run.steady or (not suspects and self._desk.memory.lists[name].baselined):
                break
        if told.complete and suspects is not None:
            told.suspects = len(suspects)
            await self._conclude(run, suspects)
        told.events, told.ended = self._desk.events - before, self._desk.now()
        return told

    async def detail(self, name: str, record_id: str, ticket: Ticket) -> None:
        """Read one record by its id and commit what only that view has.

        Raises:
            Unreachable, BadAnswer: nothing was concluded. Else as `sweep`.
        """
        self._desk.urgent.pop((name, record_id), None)
        reading = await self._desk.read_once(name, record_id, ticket)
        if isinstance(reading, Reading):
            await self._details.take(self._desk.source.kinds[name], record_id, reading)

    async def _read(self, name: str, told: Swept) -> _Run:
        """One reading of a list, its changes committed."""
        desk = self._desk
        run = _Run(desk.source.kinds[name], started=desk.now(), top=desk.memory.top)
        ticket = await desk.purse.ticket("sweep", max(2, desk.memory.lists[name].pages + 1))
        try:
            async for page in desk.source.pages(name, size=desk.manner.page_size, ticket=ticket):
                await self._take_page(run, page)
            told.complete, told.reason = True, ""
        except (Unreachable, BadAnswer) as exc:
            told.complete, told.reason = False, str(exc)
        finally:
            await ticket.close()
        for pending in run.pending:
            await self._statuses.settle(run.kind, pending)
        told.pages, told.records = told.pages + run.pages, len(run.seen)
        told.changed += run.changed + len(run.pending)
        run.steady = run.steady and run.total in (None, len(run.seen))
        return run

    async def _absent(self, run: _Run) -> set[str]:
        """The listed ids that a complete reading did not show."""
        snapshots, name = self._desk.snapshots, run.kind.name
        if await snapshots.listed(name) == len(run.seen.keys() - run.arrivals):
            return set()
        return await snapshots.listed_ids(name) - run.seen.keys()

    async def _conclude(self, run: _Run, suspects: set[str]) -> None:
        """What only a complete sweep may conclude."""
        desk, name = self._desk, run.kind.name
        mine = desk.memory.lists[name]
        mine.pages = run.pages
        mine.missing = {key: at for key, at in mine.missing.items() if key in suspects}
        await self._tell_visibility(run)
        for record_id in sorted(run.arrivals):
            await self._absence.resolve(desk.source.kinds[run.kind.sibling], record_id, swept_at=0.0)
        if suspects or mine.held or mine.released:
            await self._absence.settle(run.kind, suspects, swept_at=run.started)
        mine.swept_at, mine.top = run.started, run.top
        if not mine.baselined:
            mine.tries += READINGS if not run.steady else 1
            mine.baselined = run.steady or mine.tries >= READINGS
            mine.top = desk.memory.top
        await self._statuses.learn()
        await self._tell_baseline()

    # --- pages --------------------------------------------------------------------------------

    async def _take_page(self, run: _Run, page: Page) -> None:
        """Commit what one valid page shows."""
        run.pages += 1
        run.steady = run.steady and run.seen.keys().isdisjoint(page.ids)
        if page.total is not None:
            run.steady = run.steady and run.total in (None, page.total)
            run.total = page.total
        if not page.ids:
            return
        fingerprints = [xxhash.xxh3_128_digest(raw) for raw in page.raws]
        known = await self._desk.snapshots.prints(run.kind.name, page.ids)
        if run.pages == 1:
            await self._guard_account(run.kind.name, known)
        taken = {each.record_id for each in run.pending}
        first = {record_id: at for at, record_id in reversed(list(enumerate(page.ids)))}
        moved = [
            at
            for record_id, at in first.items()
            if known[at] != fingerprints[at] and record_id not in taken
        ]
        moved.sort()
        for at in range(0, len(moved), MOST_CHANGES):
            part = moved[at : at + MOST_CHANGES]
            rows = await self._rows(run, page, part, fingerprints, known)
            await self._take_rows(run, page, rows)
        self._note_seen(run, page)

    def _note_seen(self, run: _Run, page: Page) -> None:
        run.seen.update(dict.fromkeys(page.ids, page.started))
        waiting = {each.record_id for each in run.pending}
        last_seen = self._desk.last_seen[run.kind.name]
        last_seen.update((key, page.started) for key in page.ids if key not in waiting)

    async def _rows(
        self,
        run: _Run,
        page: Page,
        moved: Sequence[int],
        fingerprints: Sequence[bytes],
        prints: Sequence[bytes | None],
    ) -> list[_Row]:
        """Decode the rows that moved; one that cannot be believed rejects its page."""
        views = [decoded(run.kind, page.raws[at]) for at in moved]
        knowns = await self._desk.records(run.kind.name, [page.ids[at] for at in moved])
        return [
            _Row(page.ids[at], fingerprints[at], view, knowns.get(page.ids[at], Known()), prints[at] is None)
            for at, view in zip(moved, views, strict=True)
        ]

    async def _take_rows(self, run: _Run, page: Page, rows: Sequence[_Row]) -> None:
        siblings = await self._siblings(run.kind, [row.record_id for row in rows if row.arrived])
        ledger = self._desk.ledger()
        for row in rows:
            if not row.arrived:
                self._changed(run, ledger, page, row)
            elif row.record_id in siblings or row.known.gone == "moved":
                run.arrivals.add(row.record_id)
            else:
                self._new(run, ledger, page, row)
        run.changed += len(ledger)
        await self._desk.commit(ledger)
        if run.renames:
            bounds = Bounds(self._desk.memory.lists[run.kind.name].swept_at, page.ended)
            await self._desk.tell_renames(run.renames, bounds)
            run.renames.clear()

    async def _siblings(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        """Which of these ids the sibling list is known to hold, or to have held until it was removed."""
        if not kind.sibling or not ids:
            return set()
        found = await self._desk.records(kind.sibling, ids)
        return {key for key, known in found.items() if known.gone != "moved"}

    def _new(self, run: _Run, ledger: Ledger, page: Page, row: _Row) -> None:
        desk, known = self._desk, row.known
        mine = desk.memory.lists[run.kind.name]
        number = int(row.record_id) if row.record_id.isdigit() else 0
        desk.memory.top = max(desk.memory.top, number)
        suffix = "created" if number > mine.top and mine.baselined else "appeared"
        if known.gone:
            suffix = "restored"
        known.row, known.row_at = row.view, page.started
        known.gone, known.gone_at, known.meaning = "", 0.0, None
        desk.note_status(run.kind, row.record_id, row.view)
        desk.deal(run.kind, row.record_id, known)
        if mine.baselined or desk.manner.emit_baseline:
            desk.say(ledger, run.kind, row.record_id, known, suffix, Bounds(mine.swept_at, page.ended))
            desk.urgent[run.kind.name, row.record_id] = page.ended
        ledger.row(run.kind.name, row.record_id, row.fingerprint)
        ledger.keep(run.kind.name, row.record_id, known)

    def _changed(self, run: _Run, ledger: Ledger, page: Page, row: _Row) -> None:
        desk, kind, known = self._desk, run.kind, row.known
        diff = compare(kind.shape, known.row or {}, row.view)
        self._count_visibility(run, known, diff)
        run.renames += diff.renames
        baselined = desk.memory.lists[kind.name].baselined
        said = baselined and worth_saying(kind.shape, diff.changed, noise=desk.manner.noise)
        suffix = kind.verdict(diff)
        bounds = Bounds(desk.seen_before(kind.name, row.record_id, known), page.ended)
        if said:
            desk.urgent[kind.name, row.record_id] = page.ended
        if said and kind.judged and suffix == "status_changed":
            run.pending.append(
                Pending(row.record_id, row.fingerprint, known, diff, row.view, page.started, bounds)
            )
            return
        if kind.judged and suffix == "status_changed":
            known.meaning = None
        known.row, known.row_at = row.view, page.started
        desk.note_status(kind, row.record_id, row.view)
        if said:
            desk.say(
                ledger,
                kind,
                row.record_id,
                known,
                suffix,
                bounds,
                previous=diff.previous,
                changed=diff.changed,
            )
        ledger.row(kind.name, row.record_id, row.fingerprint)
        ledger.keep(kind.name, row.record_id, known)

    # --- the list as a whole ----------------------------------------------------------------------

    async def _guard_account(self, name: str, known: Sequence[bytes | None]) -> None:
        """A first page that shares no id with a known list of 20 or more is another account's."""
        desk = self._desk
        mine = desk.memory.lists[name]
        strange = mine.baselined and not mine.released and not any(known)
        strange = strange and await desk.snapshots.listed(name) >= HOLD_AT_LEAST
        if strange != mine.strange:
            mine.strange = strange
            reason = "its first page shares no id with what is known: another account's token?"
            ledger = desk.ledger()
            ledger.say_source(
                desk.memory,
                "held" if strange else "released",
                {"list": name, "reason": reason if strange else "the known records are back"},
            )
            await desk.commit(ledger)
        if strange:
            msg = f"the list of {name} looks like another account's: everything waits"
            raise BadAnswer(msg)

    @staticmethod
    def _count_visibility(run: _Run, known: Known, diff: Diff) -> None:
        if known.row is None:
            return
        for names, counts in ((diff.hidden, run.hidden), (diff.shown, run.shown)):
            for name in names:
                counts[name] = counts.get(name, 0) + 1

    async def _tell_visibility(self, run: _Run) -> None:
        """A key that vanishes from or returns to many records at once is the token's doing, not theirs."""
        listed = len(run.seen)
        many = max(listed / 5, min(5, listed))
        ledger = self._desk.ledger()
        for suffix, counts in (("fields_hidden", run.hidden), ("fields_shown", run.shown)):
            fields = sorted(name for name, count in counts.items() if count >= many)
            if fields:
                ledger.say_source(self._desk.memory, suffix, {"kind": run.kind.name, "fields": fields})
        await self._desk.commit(ledger)

    async def _tell_baseline(self) -> None:
        """Once every list has had its first complete sweep."""
        memory = self._desk.memory
        ledger = self._desk.ledger()
        if not memory.baselined and all(each.baselined for each in memory.lists.values()):
            memory.baselined = True
            counts = {kind: await self._desk.snapshots.listed(kind) for kind in memory.lists}
            for each in memory.lists.values():
                each.top = memory.top
            ledger.say_source(memory, "baseline_completed", {"counts": counts})
        await self._desk.commit(ledger)
