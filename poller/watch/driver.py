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
from .detail_queue import DetailQueue
from .events import Bounds
from .limiter import RateLimiter
from .pacing import Subject
from .poll import Poll, Swept
from .session import SourceSession
from .token_bucket import Demand

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
        session: SourceSession,
        *,
        limiter: RateLimiter,
        plan: Plan,
        due: asyncio.Event,
        asked: Callable[[], Awaitable[bytes | None]],
        report: Callable[[dict[str, Any]], Awaitable[None]],
        swept: Callable[[Swept], None],
    ) -> None:
        self._session = session
        self._poll = Poll(session)
        self._limiter = limiter
        self._plan = plan
        self._due = due
        self._asked = asked
        self._report = report
        self._swept = swept
        self._agenda = Agenda.of(
            session.source.lists,
            every_s=plan.every_s,
            max_age_s=plan.max_age_s,
            details=session.manner.details,
        )
        self._detail_queue = DetailQueue(session, self._agenda.round)
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
        self._limiter.stopping = stop
        while not stop.is_set():
            while (request := await self._asked()) is not None:
                await self._obey(loads(request))
            wait_s = await self._step(stop)
            if self._session.now() - self._told_at >= TELL_S:
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
        now = self._session.now()
        if self._session.memory.paused or now < self._blocked_until:
            return LOOK_S
        if self._may_read() and await self._detail_queue.fill(self._limiter.credit.per_s):
            return 0.0
        choice = self._agenda.next(now, self._session.urgent if self._may_read() else ())
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
        return self._limiter.wait_s(choice.cost, dearest=self._agenda.dearest, hurried=choice.first)

    def _block(self, exc: Limited) -> float:
        log.warning("source.limited", source=self._session.source.name, reason=str(exc))
        self._limited = exc.why or self._limited
        self._blocked_until = self._session.now() + min(exc.retry_after or LOOK_S, LONGEST_PAUSE_S)
        return LOOK_S

    # --- sweeps -------------------------------------------------------------------------------

    async def _sweep(self, kind: str, stop: asyncio.Event) -> float:
        """Sweep one list."""
        limiter, agenda = self._limiter, self._agenda
        limiter.cautious, before = agenda.lists[kind].failures > 0, limiter.paid
        begins, known = agenda.lists[kind].began_at == -math.inf, agenda.lists[kind].records
        agenda.begun(kind, now=self._session.now())
        try:
            told = await self._poll.sweep(kind)
        except Refused as exc:
            await self._suspend(kind, str(exc), stop)
            return 0.0
        except Limited:
            agenda.ask(kinds=[kind])
            raise
        finally:
            limiter.cautious = False
        usual = self._usual(told)
        if told.complete:
            # What a first reading, a whole one, or one that asks for names costs beyond a usual sweep is
            # held to the budget alone: made good at the source's pace, it would blind it for long.
            limiter.credit.spend((0 if begins else usual) - told.cost)
        agenda.swept(
            kind,
            complete=told.complete,
            cost=usual if told.complete else limiter.paid - before,
            # What only shows changes shows a few rows of many.
            records=max(told.records, known)
            if self._session.source.kinds[kind].whole_every_s
            else told.records,
            changed=told.changed,
        )
        self._limited = ""
        if told.pages or self._session.memory.lists[kind].left_out:
            await self._accepted(kind)
        self._note(told)
        await self._detail_queue.swept(told)
        if self._session.now() - self._told_at >= LOOK_S:
            await self._tell()
        return 0.0

    def _usual(self, told: Swept) -> int:
        """What a sweep as most are costs; where there was none yet, a page of the whole reading."""
        cost = self._session.memory.lists[told.kind].cost
        return min(told.cost, cost or told.cost // max(1, told.pages))

    def _note(self, told: Swept) -> None:
        """One line per sweep."""
        self._last[told.kind] = {
            "took_s": round(told.ended - told.started, 3),
            "complete": told.complete,
            "reason": told.reason,
            "pages": told.pages,
        }
        say = log.info if told.complete else log.warning
        say(
            "source.swept",
            source=self._session.source.name,
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
        memory, lists = self._session.memory, self._session.memory.lists
        pause_s = min(FIRST_PAUSE_S * 2**self._refusals, LONGEST_PAUSE_S)
        self._refusals += 1
        log.error("source.suspended", source=self._session.source.name, reason=reason, again_in_s=pause_s)
        batch = self._session.batch()
        lists[kind].refused_at = self._agenda.lists[kind].began_at
        if not memory.suspended:
            memory.suspended = reason
            now = self._session.now()
            bounds = Bounds(lists[kind].swept_at or now, now)
            batch.say_source(memory, "suspended", {"reason": reason}, bounds=bounds)
        await self._session.commit(batch)
        await self._tell()
        await self._pause(pause_s, stop)
        # In turn: one list that is refused for good must not keep the others from being read.
        self._agenda.ask(kinds=[name for name in lists if name != kind] or None)

    async def _pause(self, seconds: float, stop: asyncio.Event) -> None:
        until = self._session.now() + seconds
        while not stop.is_set() and self._session.now() < until:
            request = await self._asked()
            if request is not None:
                order = loads(request)
                await self._obey(order)
                if not order.get("record"):  # Drum's own webhooks would have the token tried by the minute
                    return
            else:
                await self._sleep(min(LOOK_S, until - self._session.now()), stop)

    @staticmethod
    async def _sleep(seconds: float, stop: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await stop.wait()

    async def _accepted(self, kind: str) -> None:
        """A list that gave a page is refused no longer; the source goes on when none of them is."""
        memory = self._session.memory
        if not memory.suspended:
            return
        mine, batch = memory.lists[kind], self._session.batch()
        bounds = Bounds(mine.refused_at or mine.swept_at, self._session.now())
        mine.refused_at = 0.0
        if refused := [name for name, mine in memory.lists.items() if mine.refused_at]:
            self._agenda.ask(kinds=refused)
        else:
            self._refusals = 0
            memory.suspended = ""
            told = {"reason": "the token is accepted again"}
            batch.say_source(memory, "resumed", told, bounds=bounds)
        await self._session.commit(batch)

    # --- details --------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        """Whether ids mean this account's records now. Without details only what is still to be judged."""
        session, memory = self._session, self._session.memory
        strange = not session.trusted or any(mine.strange for mine in memory.lists.values())
        if strange or not memory.baselined or memory.suspended:
            return False
        return session.manner.details or bool(session.urgent)

    async def _read(self, choice: Choice) -> float:
        """Read one record's detail; where the budget has no room, say how long to wait."""
        session, subject = self._session, choice.subject
        ticket = await self._limiter.offer("detail")
        if isinstance(ticket, float):
            return ticket
        before = session.events
        try:
            await self._poll.detail(*subject, ticket)
            self._tries.pop(subject, None)
        except Limited:
            self._again(choice)
            raise
        except (Unreachable, BadAnswer, Refused) as exc:
            what = "record.refused" if isinstance(exc, Refused) else "record.unread"
            log.warning(what, source=session.source.name, record="/".join(subject), reason=str(exc))
            self._again(choice)
        self._agenda.read(choice, now=session.now(), changed=session.events > before)
        return 0.0

    def _again(self, choice: Choice) -> None:
        """A reading that was to go first gave nothing: it goes first again, but not for ever."""
        tries = self._tries.get(choice.subject, 0) + 1
        if choice.first and tries < TRIES:
            self._tries[choice.subject] = tries
            self._session.urgent.setdefault(choice.subject, self._session.now())
        else:
            self._tries.pop(choice.subject, None)

    # --- operators --------------------------------------------------------------------------------

    async def _obey(self, request: dict[str, Any]) -> None:
        """Do what an operator asked for."""
        memory, what = self._session.memory, request.get("do")
        log.info("source.asked", source=self._session.source.name, what=what, record=request.get("record"))
        if what in ("pause", "resume"):
            memory.paused = what == "pause"
        elif what == "release":
            for mine in memory.lists.values():
                mine.released = bool(mine.held or mine.strange)
        elif what == "resync":
            self._detail_queue.forget()
            self._session.tags.clear()
            self._session.clean.clear()
            for mine in memory.lists.values():
                mine.recheck = True
        record = str(request.get("record") or "")
        if what == "poll" and record:
            kind, _, record_id = record.partition("/")
            self._session.urgent = {(kind, record_id): self._session.now(), **self._session.urgent}
        elif what != "pause":
            self._agenda.ask()
        await self._session.commit(self._session.batch())
        await self._tell()

    # --- how it fares -----------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Leave word for the commands and the page, and look at this source's share anew."""
        session, memory, agenda = self._session, self._session.memory, self._agenda
        self._told_at = session.now()
        usage = await self._limiter.budget.name()
        demand = agenda.demand(fastest_per_s=self._limiter.fastest_per_s)
        per_s = await self._plan.part(demand, self._limiter.per_s(usage.allowed))
        self._limiter.credit.per_s = per_s
        outlook = agenda.outlook(per_s)
        state = "suspended" if memory.suspended else "paused" if memory.paused else "polling"
        await self._report(
            {
                "at": session.now(),
                "state": state,
                "limited": self._limited,
                "baselined": memory.baselined,
                "lists": self._last,
                "spent": self._limiter.spent(),
                "refusals": usage.refusals,
                "blocked_s": usage.blocked_s,
                "pace": {"per_s": per_s, "weight": demand.weight, "most_per_s": demand.most_per_s},
                "period_s": max(
                    each.period_s or outlook.sweeps_s[kind] for kind, each in agenda.lists.items()
                ),
                "details": self._detail_queue.told(),
                "delay": {"expected_s": outlook.delay_s, "observed_s": agenda.observed_s},
            }
        )
