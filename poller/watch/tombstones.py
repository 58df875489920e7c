"""What is gone for 30 days: only what ids are made of is kept, so that none is ever given twice."""

from datetime import timedelta

from .desk import Desk
from .details import is_in
from .events import Known, known_of
from .ledger import Ledger

TOMBSTONE_S = timedelta(days=30).total_seconds()
LOOKED_AT = 50
"""Records looked at in one sweep."""
_MARK = b'"gone"'


class Tombstones:
    """One bounded chore per sweep: old tombstones are made small."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def tidy(self) -> None:
        """Look at a few records more, of one kind after the other."""
        desk, kinds = self._desk, list(self._desk.source.kinds)
        kind, cursor = desk.memory.attic or (kinds[0], "0")
        if kind not in kinds:
            kind, cursor = kinds[0], "0"
        at, found = await desk.snapshots.scan(kind, int(cursor), most=LOOKED_AT)
        ledger = desk.ledger()
        for record_id, data in found.items():
            known = known_of(data) if _MARK in data else None
            if known is not None and self._is_old(known):
                await self._shrink(ledger, kind, record_id, known)
        if at == 0:
            kind = kinds[(kinds.index(kind) + 1) % len(kinds)]
        desk.memory.attic = [kind, str(at)]
        await desk.commit(ledger)

    def _is_old(self, known: Known) -> bool:
        kept = known.row is not None or known.detail is not None or bool(known.children)
        return bool(known.gone) and kept and known.gone_at < self._desk.now() - TOMBSTONE_S

    async def _shrink(self, ledger: Ledger, kind: str, record_id: str, known: Known) -> None:
        """Also what is nested in it, of which nothing was said when it went."""
        for subject in known.children:
            name, _, child_id = subject.partition("/")
            child = (await self._desk.records(name, [child_id])).get(child_id)
            if child is not None and not child.gone and is_in(child, record_id):
                ledger.keep(name, child_id, _small(child, known))
        ledger.keep(kind, record_id, _small(known, known))


def _small(known: Known, parent: Known) -> Known:
    return Known(
        revision=known.revision,
        counts=known.counts,
        meaning=known.meaning,
        gone=parent.gone,
        gone_at=parent.gone_at,
    )
