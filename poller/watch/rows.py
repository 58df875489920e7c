"""What the rows of one page say: arrivals, changes, and what waits until the page's list was read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from .batch import UNSEEN, WriteBatch
from .details import Arrived
from .diff import Diff, compare, worth_saying
from .events import Bounds, Known
from .session import SourceSession
from .sources.base import Kind, Page, decoded
from .statuses import Pending, Statuses
from .visibility import Visibility

MOST_NEWS = 20
"""Of records that come at once beyond this some may have become visible, or were imported: a win or a loss
that is dated before they came is no news."""

UNDATED = frozenset({"archived", "unarchived"})
"""What an API may not date, as deleting and restoring: a reading of changes shows it after another change."""


@dataclass(slots=True)
class Run:
    """One reading of a list while it goes on."""

    kind: Kind
    top: float
    """Highest rank known when it began."""
    started: float = 0.0
    """Start of its first page."""
    whole: bool = True
    cursor: str = ""
    seen: dict[str, float] = field(default_factory=dict)
    steady: bool = True
    """No id twice, and a total, where the server sends one, that stays and adds up."""
    total: int | None = None
    pages: int = 0
    longest: int = 0
    """Rows of its longest page."""
    doubtful: bool = False
    """A page that was said to be unchanged has rows that never were taken."""
    cost: int = 0
    """What it cost, in requests, or in what the API counts instead."""
    changed: set[str] = field(default_factory=set)
    pending: list[Pending] = field(default_factory=list)
    came: int = 0
    """How many ids were above the highest known."""
    foreign: bool = False
    """An operator said that another account is meant: what its deals are is no news."""
    fresh: dict[str, Bounds] = field(default_factory=dict)
    """Records that came or came back in a status that may say more than that, and were not read since."""
    turned: list[Arrived] = field(default_factory=list)
    """First rows of records that came from the sibling list."""
    arrivals: dict[str, float] = field(default_factory=dict)
    """Ids that the sibling list holds, and the end of the request that showed them here."""
    gone: set[str] = field(default_factory=set)
    """Ids that the API itself reports as deleted."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row whose fingerprint moved, or is new."""

    record_id: str
    fingerprint: bytes
    view: dict[str, Any]
    known: Known
    was: bytes | None
    """Its fingerprint before; None where it was not listed."""


class Rows:
    """Turns rows into commits."""

    def __init__(self, session: SourceSession, statuses: Statuses, visibility: Visibility) -> None:
        self._session = session
        self._statuses = statuses
        self._visibility = visibility

    async def read(
        self,
        kind: Kind,
        page: Page,
        moved: Sequence[int],
        fingerprints: Sequence[bytes],
        prints: Sequence[bytes | None],
    ) -> list[Row]:
        """Decode the rows that moved.

        Raises:
            BadAnswer: one cannot be believed, and with it its page.
        """
        views = [decoded(kind, page.raws[at]) for at in moved]
        knowns = await self._session.records(kind.name, [page.ids[at] for at in moved])
        return [
            Row(page.ids[at], fingerprints[at], view, knowns.get(page.ids[at]) or Known(), prints[at])
            for at, view in zip(moved, views, strict=True)
        ]

    async def take(self, run: Run, page: Page, rows: Sequence[Row]) -> None:
        """Commit what these rows of a valid page show."""
        unlisted = [row for row in rows if row.was is None]
        siblings = await self._siblings(run.kind, [row.record_id for row in unlisted])
        new = [row for row in unlisted if row.record_id not in siblings and not row.known.gone]
        # Counted ahead: whoever reads one before the list was read to its end knows that many came.
        run.came += sum(self._is_created(run.kind, row) for row in new)
        batch = self._session.batch()
        for row in rows:
            if row.was == UNSEEN and row.known.row is None:
                run.turned.append(Arrived(row.record_id, row.fingerprint, row.view, page.started))
            elif row.was is not None:
                self._changed(run, batch, page, row)
            elif row.record_id in siblings or row.known.gone == "moved":
                run.arrivals[row.record_id] = page.ended
            else:
                self._new(run, batch, page, row)
        run.changed.update(*batch.records.values())
        await self._session.commit(batch)

    async def _siblings(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        """Which of these ids the sibling list is known to hold, or to have held until it was removed."""
        if not kind.sibling or not ids:
            return set()
        found = await self._session.records(kind.sibling, ids)
        return {key for key, known in found.items() if known.gone != "moved"}

    # --- new rows -------------------------------------------------------------------------------

    def _is_created(self, kind: Kind, row: Row) -> bool:
        """Whether it was made since the list was last read, and did not only become visible."""
        mine = self._session.memory.lists[kind.name]
        known_up_to = max(mine.top, kind.reached(mine.cursor)) - kind.late
        return mine.baselined and kind.rank(row.record_id, row.view) > known_up_to

    def _new(self, run: Run, batch: WriteBatch, page: Page, row: Row) -> None:
        session, kind, known = self._session, run.kind, row.known
        mine = session.memory.lists[kind.name]
        suffix = "created" if self._is_created(kind, row) else "appeared"
        mine.highest = max(mine.highest, kind.rank(row.record_id, row.view))
        called = "open" if suffix == "created" and not run.foreign else None
        since = mine.clear_at
        if known.gone:
            suffix = "restored" if "restored" in kind.suffixes else "appeared"
            called = session.meaning(known)
            told_by = known if session.agrees(known) else replace(known, detail_at=0.0)
            since = session.last_sight(kind.name, row.record_id, told_by)
            moved = kind.verdict(compare(kind.shape, known.row or {}, row.view)) != "updated"
            if kind.echoes and moved:
                known.status_after = known.status_after or since
        else:
            known.came_after, known.among_many = mine.clear_at, run.came > MOST_NEWS
        known.row, known.row_at = row.view, page.started
        known.gone, known.gone_at, known.meaning = "", 0.0, called if kind.judged else None
        session.note_status(kind, row.record_id, row.view)
        if kind.dead(row.view):
            known.gone, known.gone_at = "removed", page.ended
            known.status_after = known.status_after or since
        elif session.is_loud(kind):
            # A sweep that lacked known records, or showed one twice, may have lacked this one too; and what
            # only became visible is not dated: a reading of changes did not show it until it moved again.
            whole_at = mine.clear_at if suffix == "created" else mine.shown_at or mine.clear_at
            absent_at = min(mine.clear_at, whole_at)
            self._say_new(run, batch, page, row, suffix, Bounds(absent_at, page.ended), since)
        # Until the rest is said each sweep looks at it again, also after a crash.
        unsaid = row.record_id in run.fresh
        batch.row(kind.name, row.record_id, UNSEEN if unsaid else row.fingerprint)
        batch.keep(kind.name, row.record_id, known)

    def _say_new(
        self, run: Run, batch: WriteBatch, page: Page, row: Row, suffix: str, bounds: Bounds, since: float
    ) -> None:
        """`since`: when it was last seen to be what it was called, or not to be there."""
        session, kind, known = self._session, run.kind, row.known
        session.say(batch, kind, row.record_id, known, suffix, bounds)
        if known.meaning is not None and session.usual(row.view) != known.meaning:
            run.fresh[row.record_id] = bounds
            known.status_after = known.status_after or since
        elif not kind.echoes:
            known.status_after = 0.0
        self._detail_next(kind, row.record_id, page)

    # --- changed rows ---------------------------------------------------------------------------

    def _changed(self, run: Run, batch: WriteBatch, page: Page, row: Row) -> None:
        session, kind, known = self._session, run.kind, row.known
        mine = session.memory.lists[kind.name]
        diff = compare(kind.shape, known.row or {}, row.view)
        undated = page.whole or kind.verdict(diff) in UNDATED
        undated = undated or kind.dead(row.view) != bool(known.gone)
        before = session.seen_before(kind.name, row.record_id, known, undated=undated)
        bounds = Bounds(before, page.ended)
        mine.highest = max(mine.highest, kind.rank(row.record_id, row.view))
        if known.row is not None and not session.is_older(known.row_at):
            self._visibility.count(kind, diff)
            session.say_renames(batch, diff.renames, bounds)
        if self._died_or_rose(run, batch, row, page, bounds):
            return
        waits = kind.echoes and kind.verdict(diff) != "updated"
        if waits and session.is_loud(kind):
            run.pending.append(
                Pending(row.record_id, row.fingerprint, known, diff, row.view, page.started, bounds)
            )
            return
        meaning, suffix = known.meaning, self._statuses.step(kind, known, row.view, diff)
        bounds = bounds if known.meaning == meaning else known.since_status(bounds)
        self._note(run, batch, row, page, diff, suffix, bounds)

    def _note(
        self, run: Run, batch: WriteBatch, row: Row, page: Page, diff: Diff, suffix: str, bounds: Bounds
    ) -> None:
        """Keep the new row, and say what it means where that is worth an event."""
        session, kind, known, old = self._session, run.kind, row.known, row.known.row or {}
        told = not session.is_older(known.row_at) and worth_saying(
            kind.shape, diff.changed, noise=session.manner.noise
        )
        said = told or suffix != "updated"
        known.row, known.row_at = row.view, page.started
        unsaid = row.was == UNSEEN and self._statuses.is_unsaid(kind, known)
        known.status_after = known.status_after if kind.echoes or unsaid else 0.0
        session.note_status(kind, row.record_id, row.view)
        if said and session.is_loud(kind):
            previous = {**old, **diff.previous} if suffix == "won" else diff.previous
            session.say(
                batch,
                kind,
                row.record_id,
                known,
                suffix,
                bounds,
                previous=previous,
                changed=diff.changed,
            )
            self._detail_next(kind, row.record_id, page)
        if unsaid:
            run.fresh[row.record_id] = bounds
        batch.row(kind.name, row.record_id, UNSEEN if unsaid else row.fingerprint)
        batch.keep(kind.name, row.record_id, known)

    def _died_or_rose(self, run: Run, batch: WriteBatch, row: Row, page: Page, bounds: Bounds) -> bool:
        """Where a list shows deleted records for a while: removed, restored, and nothing in between."""
        session, kind, known = self._session, run.kind, row.known
        dead, loud = kind.dead(row.view), session.is_loud(kind)
        if not (dead or known.gone):
            return False
        if dead and not known.gone and loud:
            session.say(batch, kind, row.record_id, known, "removed", bounds)
        if kind.judged:
            # As it was while it lived: the row of a dead one may not tell, and a win of old is no news.
            known.meaning = known.meaning or session.usual(known.row or {})
            if dead and session.usual(row.view) != known.meaning:
                known.status_after = known.status_after or bounds.not_before
        known.row, known.row_at = row.view, page.started
        if not dead:
            known.gone, known.gone_at = "", 0.0
            if loud:
                self._say_new(run, batch, page, row, "restored", bounds, bounds.not_before)
            else:
                known.status_after = 0.0
        elif not known.gone:
            known.gone, known.gone_at = "removed", page.ended
        unsaid = row.record_id in run.fresh
        batch.row(kind.name, row.record_id, UNSEEN if unsaid else row.fingerprint)
        batch.keep(kind.name, row.record_id, known)
        return True

    def _detail_next(self, kind: Kind, record_id: str, page: Page) -> None:
        """What moved in the list is read by its id next."""
        if self._session.manner.details and kind.detailed:
            self._session.urgent[kind.name, record_id] = page.ended
