"""What an absence means: won, moved back, removed, or nothing at all; answers by id decide (contract §5)."""

import math
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from poller.store.snapshots import MOST_CHANGES

from .batch import UNSEEN, ListMemory, WriteBatch
from .details import Details
from .events import Bounds, Known
from .session import SourceSession
from .sources.base import Forbidden, Kind, Missing, Reading, never

HOLD_AT_LEAST = 20
HOLD_SHARE = 0.05
"""More than max(20, 5 %) of a list suspect at once is held."""
WINS_A_SWEEP = 20
ASKED_A_SWEEP = 60
"""Suspects asked by id in one sweep: a twentieth of a large list must not keep the next sweep waiting."""


class Absence:
    """Suspicions of one source, and what becomes of them."""

    def __init__(self, session: SourceSession, details: Details) -> None:
        self._session = session
        self._details = details

    async def settle(self, kind: Kind, suspects: set[str], *, swept_at: float) -> None:
        """Ask by id for what a complete sweep did not show, or hold it where it is too much."""
        mine = self._session.memory.lists[kind.name]
        suspects = await self._let_go(kind, suspects)
        mine.missing = {key: at for key, at in mine.missing.items() if key in suspects}
        for record_id in [key for key in mine.forbidden if key not in suspects]:
            await self._allowed(kind, record_id)
        if not (suspects or mine.held or mine.released):
            return
        held = await self._brake(kind, mine, len(suspects))
        for record_id in self._asked(mine, suspects, held=held):
            await self.resolve(kind, record_id, swept_at=0.0 if held else swept_at)

    async def _let_go(self, kind: Kind, suspects: set[str]) -> set[str]:
        """The others, without those whose last row said that they are deleted: of them all was said."""
        if kind.dead is never:
            return suspects
        ordered, left = sorted(suspects), set(suspects)
        for at in range(0, len(ordered), MOST_CHANGES):
            some = await self._session.records(kind.name, ordered[at : at + MOST_CHANGES])
            batch = self._session.batch()
            for record_id in [key for key, known in some.items() if known.gone == "removed"]:
                batch.row(kind.name, record_id, None)
                left.discard(record_id)
            await self._session.commit(batch)
        return left

    async def gone(self, kind: Kind, ids: Iterable[str]) -> None:
        """Ask by id for what the API itself reports as deleted: with its 404 that is proof enough."""
        for record_id in sorted(ids):
            known = (await self._session.records(kind.name, [record_id])).get(record_id)
            if known is not None and not known.gone:
                await self.resolve(kind, record_id, swept_at=float("inf"))

    async def is_too_much(self, kind: Kind, suspects: int) -> bool:
        """More than max(20, 5 %) of a list at once."""
        listed = await self._session.snapshots.listed(kind.name)
        return suspects > max(HOLD_AT_LEAST, listed * HOLD_SHARE)

    async def _brake(self, kind: Kind, mine: ListMemory, suspects: int) -> bool:
        """Whether removals wait now; says when that begins and ends."""
        listed = await self._session.snapshots.listed(kind.name)
        too_many = await self.is_too_much(kind, suspects)
        held, was_held = too_many and not mine.released, mine.held
        reason = "the missing records are back"
        if too_many and mine.released:
            reason = "an operator released it"
        mine.released = mine.released and too_many
        mine.held = suspects if held else 0
        if held and not was_held:
            told = {"suspects": suspects, "reason": f"{suspects} of {listed} are missing at once"}
            await self._tell("held", {"list": kind.name, **told}, since=mine.shown_at)
        elif was_held and not held:
            await self._tell("released", {"list": kind.name, "reason": reason}, since=mine.whole_at)
        return held

    @staticmethod
    def _asked(mine: ListMemory, suspects: Iterable[str], *, held: bool) -> list[str]:
        """Whom to ask now, in turn. While all is held wins are still looked for, twenty a sweep."""
        ordered, most = sorted(suspects), WINS_A_SWEEP if held else ASKED_A_SWEEP
        if len(ordered) <= most:
            return ordered
        at = mine.turn % len(ordered)
        mine.turn = at + most
        return (ordered[at:] + ordered[:at])[:most]

    async def resolve(
        self, kind: Kind, record_id: str, *, swept_at: float, seen_at: float | None = None
    ) -> None:
        """Ask a record's own list and then its sibling's by id; `swept_at` 0 removes nothing.

        `seen_at` is the end of the request that showed it in its sibling's list, if one did.
        """
        session = self._session
        mine = session.memory.lists[kind.name]
        own = await session.read(kind.name, record_id)
        if isinstance(own, Reading):
            await self._allowed(kind, record_id)
            mine.missing.pop(record_id, None)
            await self._details.take(kind, record_id, own)
            return
        other: Reading | Missing | Forbidden | None = own
        if isinstance(own, Missing) and kind.sibling:
            other = await session.read(kind.sibling, record_id)
        if isinstance(own, Forbidden) or isinstance(other, Forbidden):
            await self._forbidden(kind, record_id)
        elif isinstance(other, Reading):
            await self._allowed(kind, record_id)
            mine.missing.pop(record_id, None)
            await self._moved(kind, session.source.kinds[kind.sibling], record_id, other, seen_at)
        elif isinstance(own, Missing) and isinstance(other, Missing):
            await self._allowed(kind, record_id)
            # What was missed before the API's log named it went before that, and undated.
            logged = swept_at == math.inf and record_id not in mine.missing
            first = mine.missing.setdefault(record_id, own.ended)
            if first < swept_at:
                await self._removed(kind, record_id, first, logged=logged)

    async def _forbidden(self, kind: Kind, record_id: str) -> None:
        """403 by id is said once, and never a removal."""
        mine = self._session.memory.lists[kind.name]
        if record_id in mine.forbidden:
            return
        mine.forbidden = [*mine.forbidden, record_id]
        told = {"list": kind.name, "reason": "forbidden", "record": f"{kind.name}/{record_id}"}
        await self._tell("held", told, since=mine.shown_at)

    async def _allowed(self, kind: Kind, record_id: str) -> None:
        mine = self._session.memory.lists[kind.name]
        if record_id not in mine.forbidden:
            return
        mine.forbidden = [key for key in mine.forbidden if key != record_id]
        reason = {"reason": "it answers again", "record": f"{kind.name}/{record_id}"}
        # Not every one is asked for in each sweep: the last that had no suspect at all is sure.
        await self._tell("released", {"list": kind.name, **reason}, since=mine.shown_at)

    async def _tell(self, suffix: str, object_: dict[str, Any], *, since: float) -> None:
        batch = self._session.batch()
        batch.say_source(self._session.memory, suffix, object_, bounds=Bounds(since, self._session.now()))
        await self._session.commit(batch)

    async def _removed(self, kind: Kind, record_id: str, first: float, *, logged: bool) -> None:
        """404 on both, and again on both after the next sweep; or once, where the API's log says so."""
        session = self._session
        known = (await session.records(kind.name, [record_id])).get(record_id, Known())
        batch = session.batch()
        if not known.gone:
            since = self._last_seen(kind, record_id, known, undated=not logged)
            if session.is_loud(kind):
                session.say(batch, kind, record_id, known, "removed", Bounds(since, first))
            known.gone, known.gone_at = "removed", session.now()
            batch.keep(kind.name, record_id, known)
        batch.row(kind.name, record_id, None)
        session.memory.lists[kind.name].missing.pop(record_id, None)
        await session.commit(batch)

    def _last_seen(self, kind: Kind, record_id: str, known: Known, *, undated: bool = True) -> float:
        """Start of the request that last showed it, in whichever view."""
        if known.gone:
            return self._session.last_sight(kind.name, record_id, known)
        row_at = self._session.seen_before(kind.name, record_id, known, undated=undated)
        return max(row_at, known.detail_at)

    async def _moved(
        self, kind: Kind, to: Kind, record_id: str, reading: Reading, seen_at: float | None
    ) -> None:
        """The record answers on its sibling's resource now: both sides are said in one commit."""
        session = self._session
        old = (await session.records(kind.name, [record_id])).get(record_id, Known())
        new = (await session.records(to.name, [record_id])).get(record_id, Known())
        bounds = Bounds(self._last_seen(kind, record_id, old), seen_at or reading.ended)
        own, children, hidden = session.source.nested(reading.view)
        nested = await self._details.nested(record_id, old, children, hidden, reading)
        amount, told = self._amount(kind, record_id, old), session.told(to, new, own)
        new.last_row = new.last_listed or None
        new.row, new.row_at, new.gone, new.gone_at, new.meaning = None, 0.0, "", 0.0, None
        new.detail, new.detail_at, new.amount = own, reading.started, amount
        new.children, new.nested_at, new.unread = old.children, old.nested_at, old.unread
        new.status_after = 0.0
        batch = session.batch()
        if kind.judged:
            self._won(batch, kind, to, record_id, old, new, bounds)
        else:
            new.meaning = "lost" if told.meaning == "lost" else "open"
            self._moved_back(batch, kind, to, record_id, old, new, bounds)
        old.gone, old.gone_at = "moved", session.now()
        old.children, old.nested_at, old.unread = [], None, []
        batch.row(kind.name, record_id, None)
        batch.row(to.name, record_id, UNSEEN)
        batch.keep(kind.name, record_id, old)
        batch.keep(to.name, record_id, new)
        batch.join(nested)
        await session.commit(batch)

    def _amount(self, kind: Kind, record_id: str, old: Known) -> str | None:
        deal = self._session.deal(kind, record_id, old)
        return deal["amount"] if deal else None

    def _won(
        self,
        batch: WriteBatch,
        kind: Kind,
        to: Kind,
        record_id: str,
        old: Known,
        new: Known,
        bounds: Bounds,
    ) -> None:
        """Won once: by its date or status it may have been called so while it was still listed.

        What its status usually means is not asked: a win that was never said is better said now than never.
        """
        session = self._session
        if old.meaning != "won":
            session.say(
                batch,
                kind,
                record_id,
                old,
                "won",
                self._reached(kind, record_id, old, bounds),
                object_=new.object,
                previous=old.last_listed,
                changed=("project_type",),
                deal=session.deal(to, record_id, new),
            )
        old.meaning = "won"
        session.say(batch, to, record_id, new, "created", bounds)

    def _reached(self, kind: Kind, record_id: str, old: Known, bounds: Bounds) -> Bounds:
        """The bounds of a win: a view with another status than the row may have shown it and told nothing."""
        judge = self._session.source.judge
        if old.row and judge(old.row).status != judge(old.detail or {}).status:
            by_row = replace(old, detail_at=0.0)
            bounds = Bounds(self._last_seen(kind, record_id, by_row), bounds.not_after)
        return old.since_status(bounds)

    def _moved_back(
        self, batch: WriteBatch, kind: Kind, to: Kind, record_id: str, old: Known, new: Known, bounds: Bounds
    ) -> None:
        """A project that is an opportunity again: open, or lost where its dates say so.

        Not won: if it still has the date of its win, its conversion will be a win again.
        """
        session = self._session
        session.urgent[to.name, record_id] = bounds.not_after
        previous = {"project_type": kind.name}
        session.say(
            batch,
            to,
            record_id,
            new,
            "reopened",
            bounds,
            previous=previous,
            changed=("project_type",),
        )
        if not old.gone:
            session.say(batch, kind, record_id, old, "removed", bounds)
