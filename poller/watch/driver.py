"""What one source does next: what is worth most goes first, at its share of the host's pace; and pauses."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from poller.errors import BadAnswer, Limited, Refused, Unreachable
from poller.model import loads

from .agenda import Agenda, Choice
from .credit import Demand
from .desk import Desk
from .events import Bounds
from .pacing import Subject
from .poll import Poll, Swept
from .purse import Purse
from .roster import Roster

LOOK_S = 1.0
"""How often an idle source looks whether an operator asked for something."""
TELL_S = 5.0
"""How often word is left of how a source fares, and its share is looked at anew."""
TRIES = 3
"""Readings of a changed record in a row; after that it waits for its turn."""
FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 1800.0
"""A source that refuses its token is asked again after 1, 2, 4 … minutes, half an hour at most."""

log = structlog.get_logger("poller.watch")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often a source is to be read: the settings that concern it, as plain values."""

    every_s: float
    max_age_s: float
    part: Callable[[Demand, float], Awaitable[float]]
    """(what it asks, requests a second for all sources of its host) -> its part of them."""


class Driver:
    """One source, for as long as its lease is held."""

    def __init__(
        self,
        desk: Desk,
        *,
        purse: Purse,
        plan: Plan,
        due: asyncio.Event,
        asked: Callable[[], Awaitable[bytes | None]],
        report: Callable[[dict[str, Any]], Awaitable[None]],
        swept: Callable[[Swept], None],
    ) -> None:
        self._desk = desk
        self._poll = Poll(desk)
        self._purse = purse
        self._plan = plan
        self._due = due
        self._asked = asked
        self._report = report
        self._swept = swept
        self._agenda = Agenda.of(
            desk.source.lists, every_s=plan.every_s, max_age_s=plan.max_age_s, details=desk.manner.details
        )
        self._roster = Roster(desk, self._agenda.round)
        self._refusals = 0
        self._tries: dict[Subject, int] = {}
        self._blocked_until = 0.0
        self._limited = ""
        self._told_at = 0.0
        self._last: dict[str, dict[str, Any]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; what is being committed is finished first.

        Raises:
            StoreError, Fenced, Conflict: the lease or the state must be looked at again.
        """
        self._purse.stopping = stop
        while not stop.is_set():
            while (request := await self._asked()) is not None:
                await self._obey(loads(request))
            wait_s = await self._step(stop)
            if self._desk.now() - self._told_at >= TELL_S:
                await self._tell()
            await self._wait(min(wait_s, LOOK_S))

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until the scheduler says that a sweep may be due."""
        if seconds <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._due.wait()
        self._due.clear()

    async def _step(self, stop: asyncio.Event) -> float:
        """Do what is worth most, if its pace allows it now; else say how long to wait."""
        now = self._desk.now()
        if self._desk.memory.paused or now < self._blocked_until:
            return LOOK_S
        if self._may_read() and await self._roster.fill(self._purse.credit.per_s):
            return 0.0
        choice = self._agenda.next(now, self._desk.urgent if self._may_read() else ())
        if choice is None:
            return max(0.0, self._agenda.idle_s(now))
        wait_s = self._wait_s(choice)
        if wait_s > 0:
            return wait_s
        try:
            if choice.what == "sweep":
                return await self._sweep(choice.subject[0], stop)
            return await self._read(choice)
        except Limited as exc:
            return self._block(exc)

    def _wait_s(self, choice: Choice) -> float:
        if choice.first and choice.what == "sweep":
            return 0.0
        return self._purse.wait_s(choice.cost, dearest=self._agenda.dearest, hurried=choice.first)

    def _block(self, exc: Limited) -> float:
        log.warning("source.limited", source=self._desk.source.name, reason=str(exc))
        self._limited = exc.why or self._limited
        self._blocked_until = self._desk.now() + min(exc.retry_after or LOOK_S, LONGEST_PAUSE_S)
        return LOOK_S

    # --- sweeps -------------------------------------------------------------------------------

    async def _sweep(self, kind: str, stop: asyncio.Event) -> float:
        """Sweep one list."""
        purse, agenda = self._purse, self._agenda
        purse.cautious, before = agenda.lists[kind].failures > 0, purse.paid
        begins, known = agenda.lists[kind].began_at == -math.inf, agenda.lists[kind].records
        agenda.begun(kind, now=self._desk.now())
        try:
            told = await self._poll.sweep(kind)
        except Refused as exc:
            await self._suspend(kind, str(exc), stop)
            return 0.0
        except Limited:
            agenda.ask(kinds=[kind])
            raise
        finally:
            purse.cautious = False
        usual = self._usual(told)
        if told.complete:
            # What a first reading, a whole one, or one that asks for names costs beyond a usual sweep is
            # held to the budget alone: made good at the source's pace, it would blind it for long.
            purse.credit.spend((0 if begins else usual) - told.cost)
        agenda.swept(
            kind,
            complete=told.complete,
            cost=usual if told.complete else purse.paid - before,
            # What only shows changes shows a few rows of many.
            records=max(told.records, known) if self._desk.source.kinds[kind].whole_every_s else told.records,
            changed=told.changed,
        )
        self._limited = ""
        if told.pages or self._desk.memory.lists[kind].left_out:
            await self._accepted(kind)
        self._note(told)
        await self._roster.swept(told)
        if self._desk.now() - self._told_at >= LOOK_S:
            await self._tell()
        return 0.0

    def _usual(self, told: Swept) -> int:
        """What a sweep as most are costs; where there was none yet, a page of the whole reading."""
        cost = self._desk.memory.lists[told.kind].cost
        return min(told.cost, cost or told.cost // max(1, told.pages))

    def _note(self, told: Swept) -> None:
        """One line per sweep."""
        self._last[told.kind] = {
            "at": told.ended,
            "took_s": round(told.ended - told.started, 3),
            "complete": told.complete,
            "reason": told.reason,
            "pages": told.pages,
            "records": told.records,
            "period_s": round(self._agenda.lists[told.kind].period_s, 3),
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
            changed=len(told.changed),
            events=told.events,
            suspects=told.suspects,
            ms=round((told.ended - told.started) * 1000),
        )
        self._swept(told)

    # --- a token that is refused ------------------------------------------------------------------

    async def _suspend(self, kind: str, reason: str, stop: asyncio.Event) -> None:
        """401 and 403 are the token's fault, never a removal: say so once and ask again later."""
        memory, lists = self._desk.memory, self._desk.memory.lists
        pause_s = min(FIRST_PAUSE_S * 2**self._refusals, LONGEST_PAUSE_S)
        self._refusals += 1
        log.error("source.suspended", source=self._desk.source.name, reason=reason, again_in_s=pause_s)
        ledger = self._desk.ledger()
        lists[kind].refused_at = self._agenda.lists[kind].began_at
        if not memory.suspended:
            memory.suspended = reason
            now = self._desk.now()
            bounds = Bounds(lists[kind].swept_at or now, now)
            ledger.say_source(memory, "suspended", {"reason": reason}, bounds=bounds)
        await self._desk.commit(ledger)
        await self._tell()
        await self._pause(pause_s, stop)
        # In turn: one list that is refused for good must not keep the others from being read.
        self._agenda.ask(kinds=[name for name in lists if name != kind] or None)

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
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await stop.wait()

    async def _accepted(self, kind: str) -> None:
        """A list that gave a page is refused no longer; the source goes on when none of them is."""
        memory = self._desk.memory
        if not memory.suspended:
            return
        mine, ledger = memory.lists[kind], self._desk.ledger()
        bounds = Bounds(mine.refused_at or mine.swept_at, self._desk.now())
        mine.refused_at = 0.0
        if refused := [name for name, mine in memory.lists.items() if mine.refused_at]:
            self._agenda.ask(kinds=refused)
        else:
            self._refusals = 0
            memory.suspended = ""
            told = {"reason": "the token is accepted again"}
            ledger.say_source(memory, "resumed", told, bounds=bounds)
        await self._desk.commit(ledger)

    # --- details --------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        """Whether ids mean this account's records now. Without details only what is still to be judged."""
        desk, memory = self._desk, self._desk.memory
        strange = not desk.trusted or any(mine.strange for mine in memory.lists.values())
        if strange or not memory.baselined or memory.suspended:
            return False
        return desk.manner.details or bool(desk.urgent)

    async def _read(self, choice: Choice) -> float:
        """Read one record's detail; where the budget has no room, say how long to wait."""
        desk, subject = self._desk, choice.subject
        ticket = await self._purse.offer("detail")
        if isinstance(ticket, float):
            return ticket
        before = desk.events
        try:
            await self._poll.detail(*subject, ticket)
            self._tries.pop(subject, None)
        except Limited:
            self._again(choice)
            raise
        except (Unreachable, BadAnswer, Refused) as exc:
            what = "record.refused" if isinstance(exc, Refused) else "record.unread"
            log.warning(what, source=desk.source.name, record="/".join(subject), reason=str(exc))
            self._again(choice)
        self._agenda.read(choice, now=desk.now(), changed=desk.events > before)
        return 0.0

    def _again(self, choice: Choice) -> None:
        """A reading that was to go first gave nothing: it goes first again, but not for ever."""
        tries = self._tries.get(choice.subject, 0) + 1
        if choice.first and tries < TRIES:
            self._tries[choice.subject] = tries
            self._desk.urgent.setdefault(choice.subject, self._desk.now())
        else:
            self._tries.pop(choice.subject, None)

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
            self._roster.forget()
            self._desk.tags.clear()
            self._desk.clean.clear()
            for mine in memory.lists.values():
                mine.recheck = True
        record = str(request.get("record") or "")
        if what == "poll" and record:
            kind, _, record_id = record.partition("/")
            self._desk.urgent = {(kind, record_id): self._desk.now(), **self._desk.urgent}
        elif what != "pause":
            self._agenda.ask()
        await self._desk.commit(self._desk.ledger())
        await self._tell()

    # --- how it fares -----------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Leave word for the commands and the page, and look at this source's share anew."""
        desk, memory, agenda = self._desk, self._desk.memory, self._agenda
        self._told_at = desk.now()
        usage = await self._purse.budget.name()
        demand = agenda.demand(fastest_per_s=self._purse.fastest_per_s)
        per_s = await self._plan.part(demand, self._purse.per_s(usage.allowed))
        self._purse.credit.per_s = per_s
        outlook = agenda.outlook(per_s)
        state = "suspended" if memory.suspended else "paused" if memory.paused else "polling"
        await self._report(
            {
                "at": desk.now(),
                "state": state,
                "limited": self._limited,
                "baselined": memory.baselined,
                "lists": self._last,
                "spent": self._purse.spent(),
                "refusals": usage.refusals,
                "blocked_s": usage.blocked_s,
                "pace": {"per_s": per_s, "weight": demand.weight, "most_per_s": demand.most_per_s},
                "period_s": max(
                    each.period_s or outlook.sweeps_s[kind] for kind, each in agenda.lists.items()
                ),
                "details": self._roster.told(),
                "delay": {"expected_s": outlook.delay_s, "observed_s": agenda.observed_s},
            }
        )
