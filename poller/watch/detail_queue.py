"""Which records' details are read in turn: the listed ones, with the ages that the store has of them."""

from typing import Any

import msgspec

from .pacing import Round, Subject
from .poll import Swept
from .session import SourceSession

READ_AT_ONCE = 500
"""Records whose age is read between two requests."""
LOOK_ANEW_S = 600.0
"""How often the listed ids are compared with those here, whatever sweeps say."""


class _Age(msgspec.Struct):
    detail_at: float = 0.0
    changes: float = 0.0
    watched_s: float = 0.0


_age = msgspec.json.Decoder(_Age)
_UNKNOWN = _Age()


class DetailQueue:
    """Keeps a round of records equal to what is listed."""

    def __init__(self, session: SourceSession, round_: Round) -> None:
        self._session = session
        self._round = round_
        self._waiting: list[Subject] | None = None
        self._ages: dict[Subject, _Age] = {}
        self._filled = False
        self._anew = False
        self._looked_at: dict[str, float] = {}
        self._events = 0
        """Said when the listed ids were last looked at: a reading by id may have moved one, too."""
        session.past = lambda kind, record_id: round_.past((kind, record_id))

    def forget(self) -> None:
        """Read every record again as if its age were not known."""
        for subject in list(self._round):
            self._round.drop(subject)
        self._filled, self._waiting, self._anew = False, None, True

    async def fill(self, per_s: float) -> bool:
        """Take in some more of the listed records; False when all are. At `per_s` a round takes its time."""
        if self._filled or not self._session.manner.details:
            return False
        if self._waiting is None:
            self._ages, self._waiting = {}, await self._listed()
        part, self._waiting = self._waiting[:READ_AT_ONCE], self._waiting[READ_AT_ONCE:]
        self._ages |= await self._read_ages(part)
        if not self._waiting:
            # One that was never read counts as read a round ago: no sweep has to wait for all of them.
            ago_s = max(self._round.every_s, len(self._ages) / max(per_s, 1e-3))
            read_at = {each: 0.0 if self._anew else age.detail_at for each, age in self._ages.items()}
            pasts = {each: (age.changes, age.watched_s) for each, age in self._ages.items()}
            self._round.load(read_at, pasts=pasts, unread_at=self._session.now() - ago_s)
            self._filled, self._anew, self._ages = True, False, {}
        return True

    async def _listed(self) -> list[Subject]:
        session = self._session
        return [
            (kind, record_id)
            for kind in session.source.lists
            if session.source.kinds[kind].detailed
            for record_id in sorted(await session.snapshots.listed_ids(kind))
        ]

    async def _read_ages(self, subjects: list[Subject]) -> dict[Subject, _Age]:
        ages = dict.fromkeys(subjects, _UNKNOWN)
        for kind in {kind for kind, _ in subjects}:
            ids = [record_id for each, record_id in subjects if each == kind]
            found = await self._session.snapshots.records(kind, ids)
            ages |= {(kind, record_id): _age.decode(data) for record_id, data in found.items()}
        return ages

    async def swept(self, told: Swept) -> None:
        """A list was read: take in what is new, drop what is gone. What moved is another list's as well."""
        session = self._session
        if not (self._filled and told.complete):
            return
        stale = session.now() - self._looked_at.get(told.kind, 0.0) > LOOK_ANEW_S
        names = session.source.lists if session.events != self._events else [told.kind] if stale else []
        self._events = session.events
        for kind in names:
            if session.source.kinds[kind].detailed:
                self._looked_at[kind] = session.now()
                await self._follow(kind)

    async def _follow(self, kind: str) -> None:
        """Make the round's records of a kind those that are listed."""
        mine = {subject for subject in self._round if subject[0] == kind}
        listed = {(kind, record_id) for record_id in await self._session.snapshots.listed_ids(kind)}
        for subject in mine - listed:
            self._round.drop(subject)
        new = sorted(listed - mine)
        for at in range(0, len(new), READ_AT_ONCE):
            ages = await self._read_ages(new[at : at + READ_AT_ONCE])
            for subject, age in ages.items():
                self._round.add(subject, now=self._session.now(), read_at=age.detail_at)

    def told(self) -> dict[str, Any]:
        """How many records there are, how many were never read, and when the oldest was (Unix seconds)."""
        return {"records": len(self._round), "unread": self._round.unread, "oldest_at": self._round.oldest()}
