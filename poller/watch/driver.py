"""What one source does next: sweeps when they are due, details in between, what operators ask, and pauses."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from poller.errors import BadAnswer, Limited, Refused, Unreachable
from poller.model import loads

from .desk import Desk
from .poll import Poll, Swept

LOOK_S = 1.0
"""How often an idle source looks whether an operator asked for something."""
FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 1800.0
"""A source that refuses its token is asked again after 1, 2, 4 … minutes, half an hour at most."""

log = structlog.get_logger("poller.watch")


class Driver:
    """One source, for as long as its lease is held."""

    def __init__(
        self,
        desk: Desk,
        *,
        due: asyncio.Event,
        asked: Callable[[], Awaitable[bytes | None]],
        report: Callable[[dict[str, Any]], Awaitable[None]],
        swept: Callable[[Swept], None],
    ) -> None:
        self._desk = desk
        self._poll = Poll(desk)
        self._due = due
        self._asked = asked
        self._report = report
        self._swept = swept
        self._round: deque[tuple[str, str]] = deque()
        self._refusals = 0
        self._last: dict[str, dict[str, Any]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; what is being committed is finished first.

        Raises:
            StoreError, Fenced, Conflict: the lease or the state must be looked at again.
        """
        while not stop.is_set():
            if await self._until_due(stop):
                self._due.clear()
                await self._cycle(stop)
                await self._tell()

    async def _until_due(self, stop: asyncio.Event) -> bool:
        """Spend the time until the next sweep on details; True when it is due."""
        while not (stop.is_set() or self._due.is_set()):
            while (request := await self._asked()) is not None:
                await self._obey(loads(request))
            if self._due.is_set():
                break
            await self._wait(await self._read_next())
        return self._due.is_set() and not stop.is_set()

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return

    # --- sweeps -------------------------------------------------------------------------------

    async def _cycle(self, stop: asyncio.Event) -> None:
        """Sweep every list once."""
        memory = self._desk.memory
        if memory.paused:
            return
        for kind in self._desk.source.lists:
            if stop.is_set():
                return
            try:
                told = await self._poll.sweep(kind)
            except Refused as exc:
                await self._suspend(str(exc), stop)
                return
            except Limited as exc:
                log.warning("source.limited", source=self._desk.source.name, reason=str(exc))
                return
            await self._resume()
            self._note(told)

    def _note(self, told: Swept) -> None:
        """One line per sweep."""
        self._last[told.kind] = {
            "at": told.ended,
            "took_s": round(told.ended - told.started, 3),
            "complete": told.complete,
            "reason": told.reason,
            "pages": told.pages,
            "records": told.records,
        }
        say = log.info if told.complete else log.warning
        say(
            "source.swept",
            source=self._desk.source.name,
            list=told.kind,
            complete=told.complete,
            reason=told.reason or None,
            pages=told.pages,
            records=told.records,
            changed=told.changed,
            events=told.events,
            suspects=told.suspects,
            ms=round((told.ended - told.started) * 1000),
        )
        self._swept(told)

    async def _suspend(self, reason: str, stop: asyncio.Event) -> None:
        """401 and 403 are the token's fault, never a removal: say so once and ask again later."""
        memory = self._desk.memory
        pause_s = min(FIRST_PAUSE_S * 2**self._refusals, LONGEST_PAUSE_S)
        self._refusals += 1
        log.error("source.suspended", source=self._desk.source.name, reason=reason, again_in_s=pause_s)
        if not memory.suspended:
            memory.suspended = reason
            ledger = self._desk.ledger()
            ledger.say_source(memory, "suspended", {"reason": reason})
            await self._desk.commit(ledger)
        await self._tell()
        await self._pause(pause_s, stop)
        self._due.set()

    async def _pause(self, seconds: float, stop: asyncio.Event) -> None:
        until = self._desk.now() + seconds
        while not stop.is_set() and self._desk.now() < until:
            request = await self._asked()
            if request is not None:
                await self._obey(loads(request))
                return
            await self._sleep(min(LOOK_S, until - self._desk.now()), stop)

    @staticmethod
    async def _sleep(seconds: float, stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await stop.wait()
        except TimeoutError:
            return

    async def _resume(self) -> None:
        memory = self._desk.memory
        self._refusals = 0
        if memory.suspended:
            memory.suspended = ""
            ledger = self._desk.ledger()
            ledger.say_source(memory, "resumed", {"reason": "the token is accepted again"})
            await self._desk.commit(ledger)

    # --- details --------------------------------------------------------------------------------

    async def _read_next(self) -> float:
        """Read one record's detail if the budget allows it now; else say how long to wait."""
        if not self._may_read():
            return LOOK_S
        ticket = await self._desk.purse.offer("detail")
        if isinstance(ticket, float):
            return min(ticket, LOOK_S)
        subject = await self._next()
        if subject is None:
            await ticket.close()
            return LOOK_S
        try:
            await self._poll.detail(*subject, ticket)
        except (Unreachable, BadAnswer) as exc:
            log.warning(
                "record.unread", source=self._desk.source.name, record="/".join(subject), reason=str(exc)
            )
        except Limited:
            return LOOK_S
        except Refused as exc:
            log.warning(
                "record.refused", source=self._desk.source.name, record="/".join(subject), reason=str(exc)
            )
        return 0.0

    def _may_read(self) -> bool:
        """Whether ids mean this account's records now. Without details only what is still to be judged."""
        desk, memory = self._desk, self._desk.memory
        strange = not desk.trusted or any(mine.strange for mine in memory.lists.values())
        if strange or not memory.baselined or memory.paused or memory.suspended:
            return False
        return desk.manner.details or bool(desk.urgent)

    async def _next(self) -> tuple[str, str] | None:
        """What has changed first, then every listed record in turn."""
        if self._desk.urgent:
            return next(iter(self._desk.urgent))
        if not self._desk.manner.details:
            return None
        if not self._round:
            for kind in self._desk.source.lists:
                ids = await self._desk.snapshots.listed_ids(kind)
                self._round.extend((kind, record_id) for record_id in sorted(ids))
        return self._round.popleft() if self._round else None

    # --- operators --------------------------------------------------------------------------------

    async def _obey(self, request: dict[str, Any]) -> None:
        """Do what an operator asked for."""
        memory, what = self._desk.memory, request.get("do")
        log.info("source.asked", source=self._desk.source.name, what=what, record=request.get("record"))
        if what in ("pause", "resume"):
            memory.paused = what == "pause"
        elif what == "release":
            for mine in memory.lists.values():
                mine.released = bool(mine.held or mine.strange)
        elif what == "resync":
            self._round.clear()
            for mine in memory.lists.values():
                mine.recheck = True
        record = str(request.get("record") or "")
        if what == "poll" and record:
            kind, _, record_id = record.partition("/")
            self._desk.urgent = {(kind, record_id): self._desk.now(), **self._desk.urgent}
        elif what != "pause":
            self._due.set()
        await self._desk.commit(self._desk.ledger())
        await self._tell()

    async def _tell(self) -> None:
        """Leave word for the commands and the page."""
        memory = self._desk.memory
        state = "suspended" if memory.suspended else "paused" if memory.paused else "polling"
        held = {kind: mine.held for kind, mine in memory.lists.items() if mine.held}
        strange = [kind for kind, mine in memory.lists.items() if mine.strange]
        await self._report(
            {
                "at": self._desk.now(),
                "state": "held" if (held or strange) and state == "polling" else state,
                "reason": memory.suspended,
                "held": held,
                "strange": strange,
                "baselined": memory.baselined,
                "lists": self._last,
                "urgent": len(self._desk.urgent),
            }
        )
