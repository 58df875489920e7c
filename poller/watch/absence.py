"""What an absence means: won, moved back, removed, or nothing at all; answers by id decide (contract §5)."""

from collections.abc import Iterable

from .desk import Desk
from .details import Details
from .events import Bounds, Known
from .ledger import Ledger, ListMemory
from .sources.base import Kind, Missing, Reading

HOLD_AT_LEAST = 20
HOLD_SHARE = 0.05
"""More than max(20, 5 %) of a list suspect at once is held."""
WINS_A_SWEEP = 20
UNSEEN = b"-"
"""Fingerprint of a record that is known to be listed but whose row was not read yet."""


class Absence:
    """Suspicions of one source, and what becomes of them."""

    def __init__(self, desk: Desk, details: Details) -> None:
        self._desk = desk
        self._details = details

    async def settle(self, kind: Kind, suspects: set[str], *, swept_at: float) -> None:
        """Ask by id for what a complete sweep did not show, or hold it where it is too much."""
        mine = self._desk.memory.lists[kind.name]
        held = await self._brake(kind, mine, len(suspects))
        for record_id in self._asked(mine, suspects) if held else sorted(suspects):
            await self.resolve(kind, record_id, swept_at=0.0 if held else swept_at)

    async def _brake(self, kind: Kind, mine: ListMemory, suspects: int) -> bool:
        """Whether removals wait now; says when that begins and ends."""
        listed = await self._desk.snapshots.listed(kind.name)
        too_many = suspects > max(HOLD_AT_LEAST, listed * HOLD_SHARE)
        if not too_many:
            mine.released = False
        held = too_many and not mine.released
        ledger = self._desk.ledger()
        if held and not mine.held:
            reason = f"{suspects} of {listed} are missing at once"
            ledger.say_source(
                self._desk.memory, "held", {"list": kind.name, "suspects": suspects, "reason": reason}
            )
        elif mine.held and not held:
            ledger.say_source(
                self._desk.memory, "released", {"list": kind.name, "reason": "the missing records are back"}
            )
        mine.held = suspects if held else 0
        await self._desk.commit(ledger)
        return held

    def _asked(self, mine: ListMemory, suspects: Iterable[str]) -> list[str]:
        """The next twenty of what is held, in turn: wins among them are still looked for."""
        ordered = sorted(suspects)
        at = mine.turn % len(ordered)
        mine.turn = at + WINS_A_SWEEP
        return (ordered[at:] + ordered[:at])[:WINS_A_SWEEP]

    async def resolve(self, kind: Kind, record_id: str, *, swept_at: float) -> None:
        """Ask a record's own list and then its sibling's by id; `swept_at` 0 removes nothing."""
        desk = self._desk
        own = await desk.read(kind.name, record_id)
        mine = desk.memory.lists[kind.name]
        if isinstance(own, Reading):
            mine.missing.pop(record_id, None)
            await self._details.take(kind, record_id, own)
        if not isinstance(own, Missing):
            return
        other = await desk.read(kind.sibling, record_id) if kind.sibling else own
        if isinstance(other, Reading):
            mine.missing.pop(record_id, None)
            await self._moved(kind, desk.source.kinds[kind.sibling], record_id, other)
        elif isinstance(other, Missing):
            first = mine.missing.setdefault(record_id, own.ended)
            if first < swept_at:
                await self._removed(kind, record_id, first)

    async def _removed(self, kind: Kind, record_id: str, first: float) -> None:
        """404 on both, and again on both after the next sweep."""
        desk = self._desk
        known = (await desk.records(kind.name, [record_id])).get(record_id, Known())
        ledger = desk.ledger()
        if not known.gone:
            bounds = Bounds(desk.seen_before(kind.name, record_id, known), first)
            desk.say(ledger, kind, record_id, known, "removed", bounds)
            known.gone, known.gone_at = "removed", desk.now()
            ledger.keep(kind.name, record_id, known)
        ledger.row(kind.name, record_id, None)
        desk.memory.lists[kind.name].missing.pop(record_id, None)
        await desk.commit(ledger)

    async def _moved(self, kind: Kind, to: Kind, record_id: str, reading: Reading) -> None:
        """The record answers on its sibling's resource now: both sides are said in one commit."""
        desk = self._desk
        old = (await desk.records(kind.name, [record_id])).get(record_id, Known())
        new = (await desk.records(to.name, [record_id])).get(record_id, Known())
        bounds = Bounds(desk.seen_before(kind.name, record_id, old), reading.ended)
        own, children = desk.source.nested(reading.view)
        first = old.detail is None
        meaning, amount = desk.meaning(old), self._amount(kind, record_id, old)
        new.row, new.row_at, new.gone, new.meaning = None, 0.0, "", None
        new.detail, new.detail_at, new.children, new.amount = own, reading.started, old.children, amount
        ledger = desk.ledger()
        if kind.judged:
            self._won(ledger, kind, to, record_id, old, new, bounds, said=meaning == "won")
        else:
            self._moved_back(ledger, kind, to, record_id, old, new, bounds)
        old.gone, old.gone_at, old.children = "moved", desk.now(), []
        await self._details.nested(ledger, new, children, bounds, first=first)
        ledger.row(kind.name, record_id, None)
        ledger.row(to.name, record_id, UNSEEN)
        ledger.keep(kind.name, record_id, old)
        ledger.keep(to.name, record_id, new)
        await desk.commit(ledger)

    def _amount(self, kind: Kind, record_id: str, old: Known) -> str | None:
        deal = self._desk.deal(kind, record_id, old)
        return deal["amount"] if deal else None

    def _won(
        self,
        ledger: Ledger,
        kind: Kind,
        to: Kind,
        record_id: str,
        old: Known,
        new: Known,
        bounds: Bounds,
        *,
        said: bool,
    ) -> None:
        """Won once: a win by its date or status was said while it was still listed."""
        if not said:
            self._desk.say(
                ledger,
                kind,
                record_id,
                old,
                "won",
                bounds,
                object_=new.object,
                previous=old.row or {},
                changed=("project_type",),
                deal=self._desk.deal(to, record_id, new),
            )
        old.meaning = "won"
        self._desk.say(ledger, to, record_id, new, "created", bounds)

    def _moved_back(
        self, ledger: Ledger, kind: Kind, to: Kind, record_id: str, old: Known, new: Known, bounds: Bounds
    ) -> None:
        new.meaning = self._desk.source.judge(new.object).meaning
        self._desk.say(
            ledger,
            to,
            record_id,
            new,
            "reopened",
            bounds,
            previous={"project_type": kind.name},
            changed=("project_type",),
        )
        if not old.gone:
            self._desk.say(ledger, kind, record_id, old, "removed", bounds)
