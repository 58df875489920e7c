"""What all work on one source shares while its lease is held: memory, records, reading by id, commits."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from poller.errors import BadAnswer, Refused, Unreachable
from poller.model import dumps
from poller.store.budget import Class
from poller.store.snapshots import Snapshots

from .diff import Rename
from .events import Bounds, Known, known_of
from .ledger import Ledger, remembered
from .sources.base import Judgement, Kind, Missing, Reading, Source
from .upstream import Ticket

READS = 3
"""Tries to read one record before going on without it."""
SAMPLES = 3
"""Records read to learn what a status means; one without a date settles it as open."""


class Purse(Protocol):
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


class Desk:
    """One source, for as long as nobody else commits to it."""

    def __init__(
        self,
        *,
        source: Source,
        source_kind: str,
        snapshots: Snapshots,
        memory: Mapping[str, bytes],
        purse: Purse,
        manner: Manner,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self.manner = manner
        self.snapshots = snapshots
        self.purse = purse
        self.now = now
        self.memory = remembered(memory, source.lists)
        self._told = dumps(self.memory) if memory else b""
        self._source_kind = source_kind
        self.last_seen: dict[str, dict[str, float]] = {kind: {} for kind in source.lists}
        """kind -> id -> start of the request that last showed its row as it is known."""
        self.urgent: dict[tuple[str, str], float] = {}
        """Records whose row has changed, and when: their detail is read next."""
        self.events = 0

    # --- commits ------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Begin a commit."""
        return Ledger(self.source.name, self._source_kind, detected_at=self.now())

    async def commit(self, ledger: Ledger) -> None:
        """Move what the ledger holds, and the memory where it has changed."""
        told = dumps(self.memory)
        moved = told != self._told
        if not (moved or ledger.prints or ledger.records or ledger.events):
            return
        await self.snapshots.commit(ledger.commit(told if moved else None))
        self._told = told
        self.events += len(ledger.events)

    def say(
        self,
        ledger: Ledger,
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
        ledger.say(
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
        """The small view that all sources share; it also remembers the amount."""
        if kind.deal is None:
            return None
        deal = kind.deal(known, self.meaning(known), self.source.url(kind.name, record_id))
        known.amount = deal["amount"]
        return deal

    async def tell_renames(self, renames: Iterable[Rename], bounds: Bounds) -> None:
        """Say once for the source what is called otherwise now."""
        ledger = self.ledger()
        for each in renames:
            key = f"{each.what}/{each.id}"
            if self.memory.names.get(key) == each.new:
                continue
            self.memory.names[key] = each.new
            ledger.say_source(
                self.memory,
                "renamed",
                {"what": each.what, "id": each.id, "name": each.new},
                previous={"name": each.old},
                bounds=bounds,
            )
        await self.commit(ledger)

    # --- records --------------------------------------------------------------------------------

    async def records(self, kind: str, ids: Iterable[str]) -> dict[str, Known]:
        """What is known of these records."""
        found = await self.snapshots.records(kind, ids)
        return {key: known for key, data in found.items() if (known := known_of(data)) is not None}

    def seen_before(self, kind: str, record_id: str, known: Known) -> float:
        """Start of the request that last saw its row; after a restart, of the last complete sweep."""
        last = self.last_seen[kind].get(record_id)
        return last if last is not None else max(known.row_at, self.memory.lists[kind].swept_at)

    async def read(self, kind: str, record_id: str) -> Reading | Missing | None:
        """Read one record that is to be decided now; None where several tries gave no answer.

        Raises:
            Refused: 401. A 403 for one record while lists are readable is None: never a removal.
        """
        for _ in range(READS):
            try:
                return await self.read_once(kind, record_id, await self.purse.ticket("confirm", 1))
            except (Unreachable, BadAnswer):
                continue
            except Refused as exc:
                if exc.status != 403:
                    raise
                return None
        return None

    async def read_once(self, kind: str, record_id: str, ticket: Ticket) -> Reading | Missing:
        """Read one record by its id, on a ticket that is paid."""
        try:
            return await self.source.read(kind, record_id, ticket=ticket)
        finally:
            await ticket.close()

    # --- what a status means ----------------------------------------------------------------------

    def meaning(self, known: Known) -> str:
        """Open, won or lost: by its own detail view, else by what its status usually means."""
        if known.meaning is not None:
            return known.meaning
        judged = self.source.judge(known.row or {})
        return judged.meaning or self.memory.meanings.get(judged.status, "open")

    def note_status(self, kind: Kind, record_id: str, view: Mapping[str, Any]) -> None:
        """Remember a few records of a status whose meaning is not known yet."""
        if not kind.judged:
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
