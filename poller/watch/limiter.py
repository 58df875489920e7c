"""Paying for requests: tickets on the host's budget, and the credit that paces one source."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from poller.errors import Limited
from poller.store.budget import Budget, Class, Grant, Wait

from .limits import Pause
from .token_bucket import FREE_SHARE, TokenBucket

PAGE_S = 0.5
"""What a page usually takes; a sweep that is slower pays anew, its old charges count on."""
SETTLED = 0.2
"""How much the newest of a row of answers counts."""
OVERDRAFT = 0.1
"""Of a window's budget: what readings of changed records may spend before it was saved up."""


class Ticket:
    """Charges that are paid; each request uses one up."""

    def __init__(
        self, limiter: "RateLimiter", purpose: Class, grant: Grant, deadline: float, *, worth: int = 1
    ) -> None:
        """Each charge of the grant is `worth` so many units."""
        self._limiter = limiter
        self._purpose: Class = purpose
        self._grant, self._deadline = grant, deadline
        self._worth = worth
        self._used = 0
        self._last = range(0)
        self._sent_at = 0.0
        self.spent = 0
        """Units used up by the requests that were sent."""

    async def use(self, cost: int = 1) -> None:
        """Take charges for one request of `cost` units before it is sent, paying where too few are left."""
        late = self._limiter.clock() + self._limiter.timeout_s > self._deadline
        needed = -(-cost // self._worth)
        if self._used + needed > len(self._grant) or late:
            await self.close()
            again = await self._limiter.ticket(self._purpose, 1, worth=cost)
            self._grant, self._deadline, self._worth, self._used = again._grant, again._deadline, cost, 0
            needed = 1
        self._last = range(self._used, self._used + needed)
        self._used += needed
        self.spent += cost
        self._sent_at = self._limiter.clock()

    async def answered(self) -> None:
        """The last request was answered: it counts for one window from now.

        One without an answer is not settled, and counts from its deadline.

        Raises:
            Limited: the host refused somebody meanwhile: send no more.
        """
        self._limiter.note_answer(self._limiter.clock() - self._sent_at)
        wait_s = await self._limiter.budget.settle(self._grant, *self._last)
        if wait_s > 0:
            msg = f"{self._limiter.host} asks to be left alone for {wait_s:.0f} s"
            raise Limited(msg, retry_after=wait_s)

    async def refused(self, pause: Pause, status: int) -> float:
        """The host refused this request: block it for everybody; the seconds for which."""
        return await self._limiter.budget.refuse(
            status=status,
            retry_after_s=pause.retry_after_s,
            server_date=pause.server_date,
            grant=self._grant,
        )

    async def welcomed(self) -> None:
        """The host answered and did not refuse: if this was the probe, it is open again."""
        if self._grant.probe:
            await self._limiter.budget.relax(self._grant)

    async def close(self) -> None:
        """No more will be sent on this ticket: what is left of it counts for one window from now."""
        unused = range(self._used, len(self._grant))
        self._used = len(self._grant)
        if unused:
            await self._limiter.budget.settle(self._grant, *unused)


class RateLimiter:
    """Where one source pays."""

    def __init__(
        self,
        budget: Budget,
        *,
        host: str,
        limit: int,
        window_s: float,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.host = host
        self.timeout_s = timeout_s
        self.clock = clock
        self.stopping: asyncio.Event | None = None
        """Once it is set, nobody waits here any more."""
        self.cautious = False
        """Pay for one request at a time: the host fails, and a sweep's charges would be for nothing."""
        self.credit = TokenBucket(per_s=limit * FREE_SHARE / window_s, now=clock())
        self._limit = limit
        self._window_s = window_s
        self._spent: deque[tuple[float, Class, int]] = deque()
        self.paid = 0
        """Requests paid for so far."""
        self._answer_s = 0.0

    async def ticket(self, purpose: Class, requests: int, *, worth: int = 1) -> Ticket:
        """Wait until so many requests (of `worth` units each) may be sent, and pay for them all at once.

        Raises:
            Limited: the host is blocked, or this source is to stop; it is no use to wait here.
        """
        wanted = 1 if self.cautious else requests
        while True:
            got = await self._take(purpose, wanted, worth)
            if isinstance(got, Ticket):
                return got
            if got.blocked:
                msg = f"{self.host} asks to be left alone for {got.seconds:.0f} s"
                raise Limited(msg, retry_after=got.seconds)
            if await self._stopped(got.ask_again_s):
                msg = f"told to stop while waiting for the budget of {self.host}"
                raise Limited(msg, retry_after=got.seconds)

    async def _stopped(self, seconds: float) -> bool:
        """Wait so long, or until this source is to stop."""
        if self.stopping is None:
            await asyncio.sleep(seconds)
            return False
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True

    async def offer(self, purpose: Class) -> Ticket | float:
        """Pay for one request if it may be sent now; else the seconds after which to ask again.

        Raises:
            Limited: the host is blocked.
        """
        got = await self._take(purpose, 1)
        if isinstance(got, Ticket):
            return got
        if got.blocked:
            msg = f"{self.host} asks to be left alone for {got.seconds:.0f} s"
            raise Limited(msg, retry_after=got.seconds)
        return got.ask_again_s

    async def _take(self, purpose: Class, requests: int, worth: int = 1) -> Ticket | Wait:
        deadline_s = self.timeout_s + PAGE_S * requests
        now = self.clock()
        got = await self.budget.take(purpose, n=requests, cost=worth, deadline_s=deadline_s)
        if isinstance(got, Wait):
            return got
        units = len(got) * worth
        self._spent.append((now, purpose, units))
        self.paid += units
        self.credit.spend(units)
        return Ticket(self, purpose, got, now + deadline_s, worth=worth)

    # --- pace -------------------------------------------------------------------------------------

    def wait_s(self, cost: int, *, dearest: int, hurried: bool = False) -> float:
        """Seconds until this source's pace allows so many requests; `hurried` ones may overdraw it."""
        overdraw = self._limit * OVERDRAFT if hurried else 0.0
        return self.credit.wait_s(cost, self.clock(), dearest=dearest, overdraw=overdraw)

    def note_answer(self, took_s: float) -> None:
        """An answer took so long."""
        self._answer_s += (took_s - self._answer_s) * SETTLED

    @property
    def fastest_per_s(self) -> float:
        """Requests a second that can be sent one after the other, as fast as the host answers."""
        return 1 / self._answer_s if self._answer_s > 0 else math.inf

    def spent(self) -> dict[str, int]:
        """What this source paid for in the last window, by class."""
        after = self.clock() - self._window_s
        while self._spent and self._spent[0][0] < after:
            self._spent.popleft()
        found: dict[str, int] = {}
        for _, purpose, count in self._spent:
            found[purpose] = found.get(purpose, 0) + count
        return found

    def per_s(self, allowed: int) -> float:
        """Requests a second for sweeps and details of all sources, where so many are allowed in a window."""
        return allowed * FREE_SHARE / self._window_s
