"""How many requests a host may still be sent from one address: shared by all sources and replicas.

A request counts from before it is sent until one window after its answer, or after its deadline, and
is never refunded (contract §8). That holds against servers whose windows are aligned to the epoch,
start at the first request, or slide. Where Redis is away there is no grant, and so no call.
"""

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from poller.errors import SettingsError, StoreUnavailable

from .connection import Connection, Script
from .keys import Keys

Class: TypeAlias = Literal["sweep", "confirm", "detail"]
"""What a request is for. `confirm` may use the twentieth that the others leave free, and goes first."""

Mood: TypeAlias = Literal["open", "blocked", "probing", "ramping"]

ASK_AGAIN_S = 5.0
"""Who waits keeps the place in the queue by asking again within this time."""

LONGEST_S = 86_400.0
"""No Retry-After is obeyed for longer than a day: a wrong one must not stop a source for good."""

_SCRIPT = Script("budget")
_AGAIN = frozenset({"take", "settle", "usage", "name", "restore"})
"""What is asked once more where the reply was lost: at worst it is charged twice, never too little. One lost
reply would else end a sweep whose pages are all paid."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send `len(ids)` requests, each within the deadline that was named.

    That can be fewer than asked for: one, if it is the probe that reopens the host, or as many as
    the budget has at most. Charges that are not used stay counted.
    """

    ids: tuple[str, ...]
    probe: bool
    """After its answer call `relax`, or `refuse` again."""

    @property
    def token(self) -> str:
        """What the ids have in common."""
        return self.ids[0].partition("/")[0]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now."""

    seconds: float
    """Until that many could be had, as things stand. Asking earlier does no harm."""
    blocked: bool
    """The host refused, or its probe is on the way: nobody may send."""

    @property
    def ask_again_s(self) -> float:
        """When to ask again so as not to lose the place in the queue."""
        return self.seconds if self.blocked else min(self.seconds, ASK_AGAIN_S)


@dataclass(frozen=True, slots=True)
class Usage:
    """How the budget stands."""

    limit: int
    """The smallest that any source named lately."""
    learned: int
    """The limit after what the host's refusals taught; recovers by 5 % a window."""
    allowed: int
    """What may be sent in one window now: less than `learned` while it ramps up again, or where a budget of
    another window comes to less in this one."""
    used: dict[str, int]
    """Units that count now, by class (`probe` among them)."""
    mood: Mood
    blocked_until: float | None
    """Unix time in seconds, by the clock of Redis, while it is blocked."""
    refusals: int
    """429 and 503 so far, for a day at least."""
    blocked_s: float
    """Seconds blocked so far, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The host asked to be left alone."""

    at: float
    """By the asker's clock."""
    window_ms: int
    status: int
    retry_ms: int | None
    date_ms: int | None
    token: str


class Granted:
    """What this process was granted of one host's budget, whichever of its sources asked.

    It outlives their work, which begins anew after each fault: what a server forgot of it when it died is
    charged again by the next of them that asks. It also tells a server whose clock was set.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.payer = secrets.token_hex(8)
        self.takes = 0
        self.refusal: Refusal | None = None
        """The last one."""
        self.blocked_until = -math.inf
        """By our clock, while it holds; infinity where Redis has not heard of it."""
        self._heard: tuple[float, float] | None = None
        self._live: deque[tuple[float, int, tuple[str, ...]]] = deque()

    def hear(self, told_ms: int, *, asked: float) -> None:
        """The server's clock said so in answer to what was asked then (by ours)."""
        self._heard = asked, told_ms

    def expected_ms(self) -> int:
        """What the server's clock says now, unless it was set; 0 where it was never heard."""
        if self._heard is None:
            return 0
        asked, told_ms = self._heard
        return round(told_ms + (self.clock() - asked) * 1000)

    def note(self, ends: float, ids: tuple[str, ...], *, takes: int) -> None:
        """Remember a grant until `ends` (by our clock); it was the server's so many-th to us."""
        self.takes = max(self.takes, takes)
        self._forget()
        self._live.append((ends, takes, ids))

    def has(self, takes: int) -> bool:
        """Tell whether one of these was the so many-th: if another is now, the server has forgotten it."""
        return takes <= self.takes and any(takes == number for _, number, _ in self._live)

    def live(self) -> list[str]:
        """The charges that still count."""
        self._forget()
        return [member for _, _, ids in self._live for member in ids]

    def _forget(self) -> None:
        now = self.clock()
        while self._live and self._live[0][0] <= now:
            self._live.popleft()


class Budget:
    """One source's share in the budget of a host; others with the same host and egress draw on it too."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        *,
        host: str,
        egress: str,
        limit: int,
        window_s: float,
        source: str = "default",
        granted: Granted | None = None,
    ) -> None:
        """`granted`: what this process was granted so far; left out where nothing is sent."""
        if limit < 1 or window_s <= 0:
            msg = f"a budget needs a limit of 1 or more and a window above 0: {limit} in {window_s:g} s"
            raise ValueError(msg)
        self._connection = connection
        self._keys = [keys.budget(host, egress), keys.blocked(host, egress)]
        self._host = host
        self._limit = limit
        self._window_ms = max(1, round(window_s * 1000))
        self._source = source
        self._granted = granted or Granted()

    async def take(self, cls: Class, *, n: int = 1, cost: int = 1, deadline_s: float) -> Grant | Wait:
        """Charge `n` requests of `cost` units each, all at once, or say how long to wait.

        `deadline_s` is counted from before this call: after it none of them may be on its way.

        Raises:
            StoreUnavailable, StoreRefused: send nothing (they may be charged all the same).
            SettingsError: one request costs more than the whole budget.
        """
        if n < 1 or cost < 1 or deadline_s <= 0:
            msg = f"cannot take n={n}, cost={cost}, deadline_s={deadline_s:g}: each must be above 0"
            raise ValueError(msg)
        ends = self._granted.clock() + deadline_s + self._window_ms / 1000
        token = secrets.token_hex(8)
        asked = [cls, n, cost, max(1, round(deadline_s * 1000)), token]
        match await self._take(asked):
            case [b"grant", count, given, probe, takes] if not self._granted.has(takes):
                ids = tuple(f"{token}/{i}/{given.decode()}/{cost}" for i in range(count))
                self._granted.note(ends, ids, takes=takes)
                return Grant(ids, probe=bool(probe))
            case [b"wait", wait_ms, blocked]:
                return Wait(wait_ms / 1000, blocked=bool(blocked))
            case [b"never", most]:
                raise SettingsError([self._too_dear(cost, int(most))])
            case other:
                msg = f"the budget of {self._host} loses what was charged: {other!r}. Is Redis restarting?"
                raise StoreUnavailable(msg)

    async def _take(self, asked: Sequence[Any]) -> list[Any]:
        rule, mine = [self._source, self._limit, self._window_ms], self._granted
        reply = await self._run("take", *rule, *asked, mine.payer, mine.takes)
        # The second: asked before a neighbour's grant that was lost when the server heard of it.
        if reply[0] == b"lost" or (reply[0] == b"grant" and mine.has(reply[-1])):
            await self._run("restore", *rule, mine.payer, mine.takes, *mine.live())
            reply = await self._run("take", *rule, *asked, mine.payer, mine.takes)
        if reply[0] == b"grant" and not reply[3] and mine.refusal and mine.clock() < mine.blocked_until:
            await self._tell_refusal(mine.refusal)  # the server never heard of it, or forgot it
            reply = await self._run("take", *rule, *asked, mine.payer, mine.takes)
        return list(reply)

    def _too_dear(self, cost: int, most: int) -> str:
        dear = f"one request to {self._host} costs {cost} tokens, and its budget has {most}"
        return f"{dear}: raise `budget` to {cost}"

    async def settle(self, grant: Grant, *indexes: int) -> float:
        """Say that the answers to these requests of the grant (all, if none is named) are here.

        From now they count for one window. Gives the seconds for which the host is blocked: above 0,
        send no more of this grant. A request without an answer is not settled: it counts until
        one window after its deadline.

        Raises:
            StoreUnavailable, StoreRefused: they count until one window after their deadline.
        """
        ids = [grant.ids[index] for index in indexes] if indexes else grant.ids
        return int(await self._run("settle", grant.token, *ids)) / 1000

    async def refuse(
        self,
        *,
        status: int = 429,
        retry_after_s: float | None = None,
        server_date: float | None = None,
        grant: Grant | None = None,
    ) -> float:
        """The host answered 429 or 503: block it for everybody, and give for how many seconds.

        For `retry_after_s` if given (LONGEST_S at most); else to the next multiple of the window by
        `server_date` (the Date header as Unix seconds); refused again after that: 1, 2, 4 … windows,
        30 minutes at most. A first 429 lowers the learned limit by a fifth. `grant` is the one that
        was refused: it tells a refused probe from a straggler.
        """
        told = Refusal(
            at=self._granted.clock(),
            window_ms=self._window_ms,
            status=status,
            retry_ms=None if retry_after_s is None else round(min(max(0, retry_after_s), LONGEST_S) * 1000),
            date_ms=None if server_date is None else round(server_date * 1000),
            token="" if grant is None else grant.token,
        )
        self._granted.refusal, self._granted.blocked_until = told, math.inf
        return await self._tell_refusal(told)

    async def _tell_refusal(self, told: Refusal) -> float:
        mine, asked = self._granted, self._granted.clock()
        passed_ms = round((asked - told.at) * 1000)
        retry_ms = "" if told.retry_ms is None else max(0, told.retry_ms - passed_ms)
        date_ms = "" if told.date_ms is None else told.date_ms
        reply = await self._run("refuse", told.window_ms, told.status, retry_ms, date_ms, told.token)
        if mine.refusal is told:
            mine.blocked_until = asked + int(reply) / 1000
        return int(reply) / 1000

    async def relax(self, grant: Grant) -> bool:
        """The probe was answered, not refused: open the host again, a quarter of the limit at first."""
        return bool(await self._run("relax", grant.token))

    async def usage(self) -> Usage:
        """How the budget stands, for status and metrics; changes nothing."""
        return self._usage(await self._run("usage", self._limit, self._window_ms))

    async def name(self) -> Usage:
        """Say that this source's limit holds, also while it sends nothing; how the budget stands."""
        return self._usage(await self._run("name", self._limit, self._window_ms, self._source))

    @staticmethod
    def _usage(reply: Sequence[Any]) -> Usage:
        limit, learned, allowed, mood, until, refusals, blocked_ms, used = reply
        pairs = zip(used[::2], used[1::2], strict=True)
        return Usage(
            limit=limit,
            learned=learned,
            allowed=allowed,
            used={cls.decode(): units for cls, units in pairs},
            mood=mood.decode(),
            blocked_until=until / 1000 if mood == b"blocked" else None,
            refusals=refusals,
            blocked_s=blocked_ms / 1000,
        )

    async def _run(self, operation: str, *args: Any) -> Any:
        try:
            return await self._run_once(operation, *args)
        except StoreUnavailable:
            if operation not in _AGAIN:
                raise
            return await self._run_once(operation, *args)

    async def _run_once(self, operation: str, *args: Any) -> Any:
        mine, asked = self._granted, self._granted.clock()
        given = [operation, mine.expected_ms(), *args]
        reply, told_ms = await self._connection.run(_SCRIPT, self._keys, given)
        mine.hear(told_ms, asked=asked)
        return reply
