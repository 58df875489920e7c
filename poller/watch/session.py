"""What all work on one source shares while its lease is held: memory, records, reading by id, commits."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from poller.errors import BadAnswer, Refused, Unreachable
from poller.model import dumps
from poller.store.budget import Class
from poller.store.snapshots import Snapshots

from .batch import WriteBatch, remembered
from .diff import Rename
from .events import Bounds, Known, known_of
from .sources.base import Forbidden, Judgement, Kind, Missing, Reading, Same, Source
from .upstream import Ticket

READS = 3
"""Tries to read one record before going on without it."""
SAMPLES = 3
"""Records read to learn what a status means; one without a date settles it as open."""


class Limiter(Protocol):
    """Where requests are paid."""

    async def ticket(self, purpose: Class, requests: int) -> Ticket:
        """Wait until so many requests may be sent, and pay for them."""

    async def offer(self, purpose: Class) -> Ticket | float:
        """Pay for one request if it may be sent now; else say in how many seconds to ask again."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a source is to be read: the settings that concern it, as plain values."""

    details: bool = True
    emit_baseline: bool = False
    noise: bool = False
    page_size: int = 500
    """More than any known cap: a server that does not honour it cuts it, and all pages are read anyway."""


class SourceSession:
    """One source, for as long as nobody else commits to it."""

    def __init__(
        self,
        *,
        source: Source,
        source_kind: str,
        snapshots: Snapshots,
        memory: Mapping[str, bytes],
        limiter: Limiter,
        manner: Manner,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self.manner = manner
        self.snapshots = snapshots
        self.limiter = limiter
        self.now = now
        self.memory = remembered(memory, source.lists)
        self._told = dumps(self.memory) if memory else b""
        if snapshots.is_older:
            self._rebase()
        self._source_kind = source_kind
        self.last_seen: dict[str, dict[str, float]] = {kind: {} for kind in source.lists}
        """kind -> id -> start of the request that last showed its row as it is known."""
        self.urgent: dict[tuple[str, str], float] = {}
        """Records whose detail is to be read next, and since when."""
        self.trusted = False
        """Whether a list was seen to be this account's since the token was given: ids mean the same."""
        self.clean: set[str] = set()
        """Lists whose last reading left nothing to do: a page that has not changed since need not be sent."""
        self.tags: dict[tuple[str, str], tuple[str, float]] = {}
        """Records whose detail the server tagged: the tag, and when the view was read that has it."""
        self.past: Callable[[str, str], tuple[float, float] | None] = lambda _kind, _id: None
        """(kind, id) -> changes found by reading its detail, and over how many seconds; None: not known."""
        self.events = 0

    def _rebase(self) -> None:
        """Compare everything anew: an older poller may have read values differently."""
        self.memory.rebased_at = self.now()
        for mine in self.memory.lists.values():
            mine.recheck = True

    def is_older(self, read_at: float) -> bool:
        """Whether what was read then was read by an older poller: what differs from it is no news."""
        return read_at < self.memory.rebased_at

    def is_loud(self, kind: Kind) -> bool:
        """Whether what happens to a list's records is said; before its baseline only where all is to be."""
        return self.memory.lists[kind.name].baselined or self.manner.emit_baseline

    # --- commits ------------------------------------------------------------------------------

    def batch(self) -> WriteBatch:
        """Begin a commit."""
        return WriteBatch(self.source.name, self._source_kind, detected_at=self.now())

    async def commit(self, batch: WriteBatch) -> None:
        """Move what the batch holds, and the memory where it has changed."""
        told = dumps(self.memory)
        moved = told != self._told
        if not (moved or batch.prints or batch.records or batch.events):
            return
        await self.snapshots.commit(batch.commit(told if moved else None))
        self._told = told
        self.events += len(batch.events)

    def say(
        self,
        batch: WriteBatch,
        kind: Kind,
        record_id: str,
        known: Known,
        suffix: str,
        bounds: Bounds,
        *,
        object_: Mapping[str, Any] | None = None,
        previous: Mapping[str, Any] | None = None,
        changed: Iterable[str] = (),
        deal: Mapping[str, str | None] | None = None,
    ) -> None:
        """Say what happened to a record, with the deal it is about."""
        batch.say(
            kind,
            record_id,
            known,
            suffix,
            bounds=bounds,
            object_=object_,
            previous=previous,
            changed=tuple(changed),
            deal=deal if deal is not None else self.deal(kind, record_id, known),
        )

    def deal(self, kind: Kind, record_id: str, known: Known) -> dict[str, str | None] | None:
        """The small view that all sources share; it also remembers the amount of a deal."""
        if kind.deal is None:
            return None
        url = self.source.url(kind.name, record_id)
        deal = kind.deal(known, self.meaning(known), url, self.memory.names)
        if kind.judged:
            known.amount = deal["amount"]
        return deal

    def say_renames(self, batch: WriteBatch, renames: Iterable[Rename], bounds: Bounds) -> None:
        """Say once for the source what is called otherwise now."""
        for each in renames:
            key = f"{each.what}/{each.id}"
            # A record that was not read for long may still have a name of before the last one.
            old = self.memory.names.get(key, each.old)
            if old == each.new:
                continue
            self.memory.names[key] = each.new
            batch.say_source(
                self.memory,
                "renamed",
                {"what": each.what, "id": each.id, "name": each.new},
                previous={"name": old},
                bounds=bounds,
            )

    # --- records --------------------------------------------------------------------------------

    async def records(self, kind: str, ids: Iterable[str]) -> dict[str, Known]:
        """What is known of these records."""
        found = await self.snapshots.records(kind, ids)
        return {key: known for key, data in found.items() if (known := known_of(data)) is not None}

    def seen_before(self, kind: str, record_id: str, known: Known, *, undated: bool) -> float:
        """Start of the request that last saw its row; after a restart, of the last sure sweep.

        `undated`: it may be a change that only a whole reading shows; what lies between tells nothing of it.
        """
        last, mine = self.last_seen[kind].get(record_id, known.row_at), self.memory.lists[kind]
        if record_id in mine.forbidden:  # no list shows what changes in it
            return last
        return max(last, mine.shown_at if undated else mine.sure_at)

    def agrees(self, known: Known) -> bool:
        """Whether both views have the same status; a detail view with another than the row told nothing."""
        judge = self.source.judge
        return not (known.row and known.detail) or judge(known.row).status == judge(known.detail).status

    def last_sight(self, kind: str, record_id: str, known: Known) -> float:
        """Start of the request that last showed one that was gone; of its tombstone, when it was missed."""
        return max(self.last_seen[kind].get(record_id, known.row_at), known.detail_at) or known.gone_at

    def top(self, kind: Kind) -> float:
        """The highest rank known of a list and its sibling, which share one sequence of ids."""
        names = [kind.name, kind.sibling] if kind.sibling else [kind.name]
        return max(self.memory.lists[name].highest for name in names)

    async def read(self, kind: str, record_id: str) -> Reading | Missing | Forbidden | None:
        """Read one record that is to be decided now; None where several tries gave no answer.

        Raises:
            Refused: 401. Limited: the host must be left alone.
        """
        for _ in range(READS):
            started = self.now()
            try:
                answer = await self.read_once(kind, record_id, await self.limiter.ticket("confirm", 1))
                if not isinstance(answer, Same):
                    return answer
            except (Unreachable, BadAnswer):
                continue
            except Refused as exc:
                if exc.status != 403:
                    raise
                return Forbidden(started, self.now())
        return None

    async def read_once(
        self, kind: str, record_id: str, ticket: Ticket, *, tag: str = ""
    ) -> Reading | Missing | Same:
        """Read one record by its id, on a ticket that is paid."""
        try:
            return await self.source.read(kind, record_id, ticket=ticket, tag=tag)
        finally:
            await ticket.close()

    # --- what a status means ----------------------------------------------------------------------

    def meaning(self, known: Known) -> str:
        """Open, won or lost: as it was last said of it, else what its status usually means."""
        return known.meaning or self.usual(known.row or {}) or "open"

    def told(self, kind: Kind, known: Known, view: Mapping[str, Any]) -> Judgement:
        """What a detail view says beyond the last one, where there is one: a date that stayed tells of then.

        One that was set before and is another now tells where the status moved too.
        """
        judge, old = self.source.judge, known.detail or {}
        moved = judge(view).status != judge(old).status
        stayed = {
            name
            for name in kind.echoes
            if old.get(name) and view.get(name) and not (moved and view[name] != old[name])
        }
        return judge({name: value for name, value in view.items() if name not in stayed})

    def usual(self, row: Mapping[str, Any]) -> str | None:
        """What a row's status means by itself; None where nobody knows yet."""
        judged = self.source.judge(row)
        return judged.meaning or self.memory.meanings.get(judged.status)

    def note_status(self, kind: Kind, record_id: str, view: Mapping[str, Any]) -> None:
        """Remember a few records of a status whose meaning is not known yet."""
        if not (kind.judged and kind.echoes):
            return
        status = self.source.judge(view).status
        if status in self.memory.meanings:
            return
        samples = self.memory.unlearned.setdefault(status, [])
        if record_id not in samples and len(samples) < SAMPLES:
            samples.append(record_id)

    def learned(self, told: Judgement) -> None:
        """Learn from one detail view. Open is final: the dates are set when a status is reached."""
        if told.meaning is None or self.memory.meanings.get(told.status) == "open":
            return
        self.memory.meanings[told.status] = told.meaning
