"""What is gone for 30 days: only what ids are made of is kept, so that none is ever given twice."""

from datetime import timedelta

from .batch import WriteBatch
from .details import is_in
from .events import Known, known_of
from .session import SourceSession

TOMBSTONE_S = timedelta(days=30).total_seconds()
LOOKED_AT = 50
"""Records looked at in one sweep."""
_MARK = b'"gone"'


class Tombstones:
    """One bounded chore per sweep: old tombstones are made small."""

    def __init__(self, session: SourceSession) -> None:
        self._session = session

    async def tidy(self) -> None:
        """Look at a few records more, of one kind after the other."""
        session, kinds = self._session, list(self._session.source.kinds)
        kind, cursor = session.memory.attic or (kinds[0], "0")
        if kind not in kinds:
            kind, cursor = kinds[0], "0"
        at, found = await session.snapshots.scan(kind, int(cursor), most=LOOKED_AT)
        batch = session.batch()
        for record_id, data in found.items():
            known = known_of(data) if _MARK in data else None
            if known is not None and self._is_old(known):
                await self._shrink(batch, kind, record_id, known)
        if at == 0:
            kind = kinds[(kinds.index(kind) + 1) % len(kinds)]
        session.memory.attic = [kind, str(at)]
        await session.commit(batch)

    def _is_old(self, known: Known) -> bool:
        kept = known.row is not None or known.detail is not None or bool(known.children)
        return bool(known.gone) and kept and known.gone_at < self._session.now() - TOMBSTONE_S

    async def _shrink(self, batch: WriteBatch, kind: str, record_id: str, known: Known) -> None:
        """Also what is nested in it, of which nothing was said when it went."""
        for subject in known.children:
            name, _, child_id = subject.partition("/")
            child = (await self._session.records(name, [child_id])).get(child_id)
            if child is not None and not child.gone and is_in(child, record_id):
                batch.keep(name, child_id, _small(child, known))
        batch.keep(kind, record_id, _small(known, known))


def _small(known: Known, parent: Known) -> Known:
    return Known(
        revision=known.revision,
        counts=known.counts,
        meaning=known.meaning,
        gone=parent.gone,
        gone_at=parent.gone_at,
    )
