"""Paying for requests: tickets on the host's budget, and the pace at which details use what sweeps leave."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from poller.errors import Limited
from poller.store.budget import Budget, Class, Grant, Wait

from .limits import Pause

PAGE_S = 0.5
"""What a page usually takes; a sweep that is slower pays anew, its old charges count on."""
FREE_SHARE = 0.95


class Ticket:
    """Charges that are paid; each request uses one up."""

    def __init__(self, purse: "Purse", purpose: Class, grant: Grant, deadline: float) -> None:
        self._purse = purse
        self._purpose: Class = purpose
        self._grant, self._deadline = grant, deadline
        self._used = 0

    async def use(self) -> None:
        """Take one charge before a request is sent, paying another where none is left in time."""
        late = self._purse.clock() + self._purse.timeout_s > self._deadline
        if self._used >= len(self._grant) or late:
            await self.close()
            again = await self._purse.ticket(self._purpose, 1)
            self._grant, self._deadline, self._used = again._grant, again._deadline, 0
        self._used += 1

    async def answered(self) -> None:
        """The last request was answered: it counts for one window from now.

        One without an answer is not settled, and counts from its deadline.

        Raises:
            Limited: the host refused somebody meanwhile: send no more.
        """
        wait_s = await self._purse.budget.settle(self._grant, self._used - 1)
        if wait_s > 0:
            msg = f"{self._purse.host} asks to be left alone for {wait_s:.0f} s"
            raise Limited(msg, retry_after=wait_s)

    async def refused(self, pause: Pause, status: int) -> float:
        """The host refused this request: block it for everybody; the seconds for which."""
        return await self._purse.budget.refuse(
            status=status,
            retry_after_s=pause.retry_after_s,
            server_date=pause.server_date,
            grant=self._grant,
        )

    async def welcomed(self) -> None:
        """The host answered and did not refuse: if this was the probe, it is open again."""
        if self._grant.probe:
            await self._purse.budget.relax(self._grant)

    async def close(self) -> None:
        """No more will be sent on this ticket: what is left of it counts for one window from now."""
        unused = range(self._used, len(self._grant))
        self._used = len(self._grant)
        if unused:
            await self._purse.budget.settle(self._grant, *unused)


class Purse:
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
        self._limit = limit
        self._window_s = window_s
        self._spent: deque[tuple[float, int]] = deque()
        self._next_detail = 0.0

    async def ticket(self, purpose: Class, requests: int) -> Ticket:
        """Wait until so many requests may be sent, and pay for them all at once.

        Raises:
            Limited: the host is blocked; it is no use to wait here.
        """
        while True:
            got = await self._take(purpose, requests)
            if isinstance(got, Ticket):
                return got
            if got.blocked:
                msg = f"{self.host} asks to be left alone for {got.seconds:.0f} s"
                raise Limited(msg, retry_after=got.seconds)
            await asyncio.sleep(got.ask_again_s)

    async def offer(self, purpose: Class) -> Ticket | float:
        """Pay for one request if it may be sent now; else the seconds after which to ask again."""
        now = self.clock()
        if now < self._next_detail:
            return self._next_detail - now
        got = await self._take(purpose, 1)
        if isinstance(got, Wait):
            return got.ask_again_s
        self._next_detail = now + self._pace_s(now)
        return got

    async def _take(self, purpose: Class, requests: int) -> Ticket | Wait:
        deadline_s = self.timeout_s + PAGE_S * requests
        now = self.clock()
        got = await self.budget.take(purpose, n=requests, deadline_s=deadline_s)
        if isinstance(got, Wait):
            return got
        if purpose != "detail":
            self._spent.append((now, len(got)))
        return Ticket(self, purpose, got, now + deadline_s)

    def _pace_s(self, now: float) -> float:
        """Seconds between two details, so that they use what sweeps leave and never all of it at once."""
        while self._spent and self._spent[0][0] < now - self._window_s:
            self._spent.popleft()
        spent = sum(count for _, count in self._spent)
        return self._window_s / max(1.0, self._limit * FREE_SHARE - spent)
