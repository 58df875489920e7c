"""One source: sweeps of its lists and readings of its records, turned into commits.

What a valid page shows stands. A page that fails ends the sweep, and then nothing is absent (contract §1).
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import xxhash

from poller.errors import BadAnswer, Unreachable
from poller.store.snapshots import MOST_CHANGES

from . import page_size
from .absence import HOLD_AT_LEAST, Absence
from .batch import UNSEEN
from .details import Details
from .diff import Rename
from .events import Bounds
from .rows import MOST_NEWS, Rows, Run
from .session import SourceSession
from .sources.base import Kind, LeftOut, Missing, Page, Reading, Same
from .statuses import Statuses
from .tombstones import Tombstones
from .upstream import Ticket
from .visibility import Visibility

SAMPLES = 3
"""Known records that are asked for by id before a list is taken for another account's."""
JUDGED_AT_ONCE = 20
"""Records that came in a status which may say more: as many are read by id in one reading, the rest next."""
RESTS = 4.0
"""What can be asked for changes is read in whole in a quarter of the time at most: the rest is for those."""
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
    changed: set[str] = field(default_factory=set)
    """Ids of rows that are new or another."""
    events: int = 0
    suspects: int = 0
    cost: int = 0
    """What the last reading of its pages cost, in requests, or in what the API counts instead."""


class Poll:
    """The work on one source."""

    def __init__(self, session: SourceSession) -> None:
        self._session = session
        self._details = Details(session)
        self._statuses = Statuses(session, self._details)
        self._visibility = Visibility(session, self._details)
        self._absence = Absence(session, self._details)
        self._rows = Rows(session, self._statuses, self._visibility)
        self._tombstones = Tombstones(session)

    async def sweep(self, name: str) -> Swept:
        """Read one list to its end, commit what it shows, and ask by id for what is absent.

        Raises:
            Refused, Limited: the source or its host must wait. StoreError, Fenced, Conflict: as the store.
        """
        told = Swept(kind=name, started=self._session.now())
        before = self._session.events
        suspects: set[str] | None = None
        began: Run | None = None
        for _ in range(READINGS):
            run = await self._read(name, told)
            began = began or run
            run.started, run.top = began.started, began.top
            if not (told.complete and run.whole):
                break
            absent = await self._absent(run)
            suspects = absent if suspects is None else suspects & absent
            if await self._is_enough(run, suspects):
                break
        if told.complete:
            told.suspects = len(suspects or ())
            await self._conclude(run, suspects or set())
        elif self._session.memory.lists[name].left_out:
            await self._tell_baseline()
        told.events, told.ended = self._session.events - before, self._session.now()
        return told

    async def _is_enough(self, run: Run, suspects: set[str]) -> bool:
        """Whether a list needs no further reading: it stood still, or nothing is missing from it.

        A baseline of nothing is read again, and so is a list that lacks too much before anything is held:
        an empty answer is what a passing fault looks like, too.
        """
        mine = self._session.memory.lists[run.kind.name]
        if not mine.baselined:
            return run.steady and bool(run.seen)
        if not suspects:
            return True
        known = mine.held or mine.released
        return run.steady and (bool(known) or not await self._absence.is_too_much(run.kind, len(suspects)))

    async def detail(self, name: str, record_id: str, ticket: Ticket) -> None:
        """Read one record by its id and commit what only that view has.

        Raises:
            Unreachable, BadAnswer: nothing was concluded. Else as `sweep`.
        """
        session, kind, subject = self._session, self._session.source.kinds[name], (name, record_id)
        hurried = session.urgent.pop(subject, None) is not None
        tag, tagged_at = session.tags.pop(subject, ("", 0.0))
        # A row that changed may let the very same view say more: it is read in full.
        reading = await session.read_once(name, record_id, ticket, tag="" if hurried else tag)
        if isinstance(reading, Reading):
            await self._details.take(kind, record_id, reading)
            if reading.tag:
                session.tags[subject] = (reading.tag, reading.started)
        elif isinstance(reading, Same):
            if await self._details.same(kind, record_id, reading, tagged_at=tagged_at):
                session.tags[subject] = (tag, reading.started)
            else:
                session.urgent[subject] = session.now()
        elif isinstance(reading, Missing):
            await self._missed(kind, record_id)

    async def _missed(self, kind: Kind, record_id: str) -> None:
        """Listed, and gone by its id: a win need not wait for the next sweep; nothing is removed here."""
        mine = self._session.memory.lists[kind.name]
        listed = (await self._session.snapshots.prints(kind.name, [record_id]))[0] is not None
        if listed and not mine.held and record_id not in mine.missing:
            await self._absence.resolve(kind, record_id, swept_at=0.0)

    # --- one reading --------------------------------------------------------------------------

    async def _read(self, name: str, told: Swept) -> Run:
        """One reading of a list, its changes committed."""
        session = self._session
        kind, mine = session.source.kinds[name], session.memory.lists[name]
        run, since = Run(kind, top=session.top(kind)), await self._since(kind)
        session.clean.discard(name)
        ticket = await session.limiter.ticket("sweep", mine.cost or 2)
        try:
            size = await self._read_pages(run, ticket, since)
            mine.sizing = page_size.read(mine.sizing, size=size, longest=run.longest, pages=run.pages)
            told.complete, told.reason = True, ""
        except (Unreachable, BadAnswer) as exc:
            told.complete, told.reason = False, str(exc)
            mine.left_out = isinstance(exc, LeftOut)
        finally:
            await ticket.close()
        run.cost = told.cost = ticket.spent
        await self._settle(run)
        if told.complete and run.steady and not (run.doubtful or run.turned or run.arrivals or run.fresh):
            session.clean.add(name)
        told.pages, told.records = told.pages + run.pages, len(run.seen)
        told.changed |= run.changed | {each.record_id for each in run.pending}
        run.steady = run.steady and run.total in (None, len(run.seen))
        return run

    async def _read_pages(self, run: Run, ticket: Ticket, since: str) -> int:
        """Read to the end; gives the rows asked for on a page: fewer where the server refuses so many."""
        session, name = self._session, run.kind.name
        mine = session.memory.lists[name]
        while True:
            size = mine.sizing.size or session.manner.page_size
            first = not mine.baselined
            pages = session.source.pages(name, size=size, ticket=ticket, since=since, first=first)
            try:
                async with aclosing(pages):
                    async for page in pages:
                        await self._take_page(run, page)
            except BadAnswer as exc:
                less = page_size.refused(mine.sizing, size) if exc.status in page_size.TOO_MUCH else None
                if run.pages or less is None:
                    raise
                mine.sizing = less
            else:
                return size

    async def _since(self, kind: Kind) -> str:
        """The cursor to go on from; empty where all is to be read."""
        mine = self._session.memory.lists[kind.name]
        whole = mine.recheck or mine.released or not mine.baselined
        if not kind.whole_every_s:
            return "" if whole or kind.name not in self._session.clean else mine.cursor
        due_s = max(kind.whole_every_s, RESTS * mine.whole_s)
        if whole or self._session.now() - mine.whole_at >= due_s or not await self._is_ours(kind):
            return ""
        return mine.cursor

    async def _settle(self, run: Run) -> None:
        """What waited until the pages were read: it needs readings by id."""
        session, kind = self._session, run.kind
        for pending in run.pending:
            await self._statuses.settle(kind, pending)
        # What a reading that broke off took and left unsaid counts again.
        if max(run.came, len(run.fresh)) > MOST_NEWS:
            await self._statuses.doubt(kind, run.fresh)
        most = JUDGED_AT_ONCE if kind.echoes else len(run.fresh)
        for record_id, bounds in list(run.fresh.items())[:most]:
            await self._statuses.judge(kind, record_id, bounds)
        for arrived in run.turned:
            reading = await session.read(kind.name, arrived.record_id)
            if isinstance(reading, Reading):
                await self._details.take(kind, arrived.record_id, reading, arrived=arrived)
        for record_id, seen_at in sorted(run.arrivals.items()):
            sibling = session.source.kinds[kind.sibling]
            await self._absence.resolve(sibling, record_id, swept_at=0.0, seen_at=seen_at)
        await self._absence.gone(kind, run.gone)

    async def _absent(self, run: Run) -> set[str]:
        """The listed ids that a complete reading did not show."""
        snapshots, name = self._session.snapshots, run.kind.name
        if not run.arrivals and await snapshots.listed(name) == len(run.seen):
            return set()
        return await snapshots.listed_ids(name) - run.seen.keys()

    async def _conclude(self, run: Run, suspects: set[str]) -> None:
        """What only a reading that ended may conclude."""
        mine = self._session.memory.lists[run.kind.name]
        if not (run.whole and run.kind.whole_every_s):
            # What most readings take: the rare whole one pays page by page.
            mine.pages = run.pages
            mine.cost, mine.last_cost = min(run.cost, mine.last_cost or run.cost), run.cost
        mine.left_out = False
        if run.whole:
            await self._visibility.settle(run.kind, len(run.seen))
            await self._absence.settle(run.kind, suspects, swept_at=run.started)
            mine.whole_at, mine.whole_s = run.started, self._session.now() - run.started
        elif mine.missing and not (mine.held or mine.released):
            # Asked again after this sweep, as after any: the next whole reading may be an hour away.
            doubted = {*mine.missing, *mine.forbidden}
            await self._absence.settle(run.kind, doubted, swept_at=run.started)
        doubted = suspects | mine.missing.keys()
        if not doubted:
            mine.sure_at = run.started
            mine.shown_at = run.started if run.whole else mine.shown_at
        clear = run.steady and not doubted - set(mine.forbidden)  # who answers 403 is left out: no other is
        if clear or not mine.clear_at:
            mine.clear_at = run.started
        mine.swept_at, mine.cursor, mine.recheck = run.started, run.cursor or mine.cursor, False
        # A sweep that lacked known records, or showed one twice, may have lacked new ones below its highest.
        mine.top = max(run.top, mine.highest) if mine.clear_at == run.started else run.top
        if not mine.baselined:
            mine.baselined = True
            mine.top = self._session.top(run.kind)
        await self._statuses.learn()
        await self._tell_baseline()
        await self._tombstones.tidy()

    async def _tell_baseline(self) -> None:
        """Once every list has had its first complete sweep."""
        session, memory = self._session, self._session.memory
        batch = session.batch()
        if not memory.baselined and all(each.baselined or each.left_out for each in memory.lists.values()):
            memory.baselined = True
            counts = {kind: await session.snapshots.listed(kind) for kind in memory.lists}
            for name, each in memory.lists.items():
                each.top = session.top(session.source.kinds[name])
            batch.say_source(memory, "baseline_completed", {"counts": counts})
        await session.commit(batch)

    # --- pages --------------------------------------------------------------------------------

    async def _take_page(self, run: Run, page: Page) -> None:
        """Commit what one valid page shows."""
        session, name = self._session, run.kind.name
        known = await session.snapshots.prints(name, page.ids) if page.ids else []
        if run.pages == 0:
            await self._guard_account(run, known, page)
        self._note_page(run, page)
        await self._take_names(run, page)
        if page.unchanged:
            run.doubtful = run.doubtful or None in known or UNSEEN in known
        else:
            await self._take_rows(run, page, known)
        run.seen.update(dict.fromkeys(page.ids, page.started))
        waiting = {each.record_id for each in run.pending}
        session.last_seen[name].update((key, page.started) for key in page.ids if key not in waiting)

    async def _take_rows(self, run: Run, page: Page, known: Sequence[bytes | None]) -> None:
        """Commit the rows whose fingerprint is another."""
        fingerprints = [xxhash.xxh3_128_digest(raw) for raw in page.raws]
        moved = self._moved(run, page, fingerprints, known)
        for at in range(0, len(moved), MOST_CHANGES):
            rows = await self._rows.read(run.kind, page, moved[at : at + MOST_CHANGES], fingerprints, known)
            await self._rows.take(run, page, rows)

    @staticmethod
    def _note_page(run: Run, page: Page) -> None:
        run.started = run.started or page.started
        run.pages += 1
        run.longest = max(run.longest, len(page.ids))
        run.whole, run.cursor = run.whole and page.whole, page.cursor or run.cursor
        run.gone.update(page.gone)
        ids = set(page.ids)
        run.steady = run.steady and len(ids) == len(page.ids) and run.seen.keys().isdisjoint(ids)
        if page.total is not None:
            run.steady = run.steady and run.total in (None, page.total)
            run.total = page.total

    def _moved(
        self, run: Run, page: Page, fingerprints: Sequence[bytes], known: Sequence[bytes | None]
    ) -> list[int]:
        """Places of the rows to look at: the first of each id, where its fingerprint is another."""
        recheck = self._session.memory.lists[run.kind.name].recheck
        taken = {each.record_id for each in run.pending} | {each.record_id for each in run.turned}
        first = {record_id: at for at, record_id in reversed(list(enumerate(page.ids)))}
        return sorted(
            at
            for record_id, at in first.items()
            if (known[at] != fingerprints[at] or recheck) and record_id not in taken
        )

    async def _take_names(self, run: Run, page: Page) -> None:
        """Names that are listed apart from the records: one that moved is a rename."""
        session = self._session
        names, named_at = session.memory.names, session.memory.named_at
        batch, before = session.batch(), session.memory.lists[run.kind.name].whole_at
        for key, new in page.names.items():
            what, _, thing = key.partition("/")
            if names.get(key, new) != new:
                bounds = Bounds(named_at.get(what, before), session.now())
                session.say_renames(batch, [Rename(what, thing, names[key], new)], bounds)
            named_at.setdefault(what, page.started)
        named_at.update(page.named)
        names.update(page.names)
        if page.names:
            await session.commit(batch)

    # --- another account's token ----------------------------------------------------------------

    async def _guard_account(self, run: Run, known: Sequence[bytes | None], page: Page) -> None:
        """A first page that shares no id with what is known is another account's: then everything waits.

        Raises:
            BadAnswer: it is; nothing was taken from it.
        """
        session, kind, mine = self._session, run.kind, self._session.memory.lists[run.kind.name]
        doubtful = page.whole and mine.baselined and not any(known)
        doubtful = doubtful and bool(page.ids or await session.snapshots.listed(kind.name))
        run.foreign = doubtful and mine.strange and mine.released
        strange = doubtful and not mine.released and await self._is_anothers(kind)
        if strange is None:
            msg = f"the list of {kind.name} shares no id with what is known, and no known id gave an answer"
            raise BadAnswer(msg)
        if strange != mine.strange:
            mine.strange = strange
            reason = "an operator released it" if mine.released else "the known records are back"
            if strange:
                reason = "its first page shares no id with what is known: another account's token?"
            batch, suffix = session.batch(), "held" if strange else "released"
            told, bounds = {"list": kind.name, "reason": reason}, Bounds(mine.swept_at, session.now())
            batch.say_source(session.memory, suffix, told, bounds=bounds)
            await session.commit(batch)
        if strange:
            msg = f"the list of {kind.name} looks like another account's: everything waits"
            raise BadAnswer(msg)
        session.trusted = True

    async def _is_ours(self, kind: Kind) -> bool:
        """Whether changes may be asked for. They share no id with what is known when nothing known changed:

        until a list was seen to be this account's a known record has to answer, or else all is read.
        """
        return self._session.trusted or await self._is_anothers(kind) is False

    async def _is_anothers(self, kind: Kind) -> bool | None:
        """Whether 20 or more records are known and a few were asked by id, and none is there.

        One that is there proves the account: then the page is full of new records, or empty. One that gives
        no answer proves nothing: None.
        """
        session = self._session
        listed = {name: await session.snapshots.listed(name) for name in (kind.name, *session.source.lists)}
        name = next((name for name, count in listed.items() if count >= HOLD_AT_LEAST), None)
        if name is None:
            return False
        ids = sorted(await session.snapshots.listed_ids(name))
        silent = False
        for record_id in ids[:: max(1, len(ids) // SAMPLES)][:SAMPLES]:
            answer = await session.read(name, record_id)
            if isinstance(answer, Reading):
                return False
            silent = silent or answer is None
        return None if silent else True
