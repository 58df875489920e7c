"""What lies between the caller and any simulated API: limiter, latency, faults, ETags, a log of requests."""

import asyncio
import gzip
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import xxhash
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poller.simulators.faults import FAULTS, Answer, Line, deliver, known, typed
from poller.simulators.limiter import FixedWindows, Refusal, RetryAfter


class WireSwitches(BaseModel):
    """How the host behaves on the wire, whatever API it serves; frozen: change them as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_s: float = Field(0.0, ge=0, description="Seconds per answer: half before it is made, half after.")
    limit: int | None = Field(None, ge=0, description="Requests per window and address; None: no limiter.")
    limit_period_s: float = Field(300.0, gt=0, description="Seconds of a window; windows begin on the clock.")
    retry_after: RetryAfter = Field("none", description="What a 429 says of when to come back.")
    fault_rate: float = Field(0.0, ge=0, le=1, description="Share of the requests that meet a fault.")
    faults: Annotated[tuple[str, ...], AfterValidator(known)] = Field((), description="The kinds they meet.")
    fault_path: str = Field("", description="Only requests whose path holds this meet faults.")
    fault_size: int = Field(1 << 28, ge=0, description="Bytes of an oversized body, unpacked.")
    etag: bool = Field(False, description="Weak ETags, and 304 for If-None-Match.")
    gzip: bool = Field(False, description="Compress for callers who accept it.")


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request: `start` and `end` are Unix seconds, `end` 0 while it runs."""

    number: int
    method: str
    path: str
    query: str
    address: str
    start: float
    end: float = 0.0
    status: int = 0
    """0: no answer (reset, hung up), or none yet."""
    seq: int = 0
    """The truth log's last number in the moment the answer was made."""
    fault: str = ""


Hook: TypeAlias = Callable[[Asked], Awaitable[None]]
"""Called before the answer is made, or after it was sent."""


class Wire:
    """ASGI around ASGI. `before` and `after` may change the world between two requests of a crawl."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        switches: Callable[[], WireSwitches],
        seq: Callable[[], int],
        seed: int = 1,
        clock: Callable[[], float] = time.time,
        keep: int | None = None,
    ) -> None:
        self.requests: deque[Asked] = deque(maxlen=keep)
        self.before: Hook | None = None
        self.after: Hook | None = None
        self._app = app
        self._switches = switches
        self._seq = seq
        self._rng = random.Random(seed)
        self._clock = clock
        self._windows = FixedWindows()
        self._next: deque[tuple[str, str]] = deque()
        self._count = 0

    def fail_next(self, fault: str, *, times: int = 1, path: str = "") -> None:
        """Let the next `times` requests (whose path holds `path`) meet this fault, before any by chance.

        Raises:
            ValueError: there is no such fault.
        """
        (name,) = known([fault])
        self._next.extend([(name, path)] * times)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = self._note(scope)
        if self.before:
            await self.before(asked)
        try:
            asked.status = await self._exchange(asked, scope, receive, send)
        finally:
            asked.end = self._clock()
        if self.after:
            await self.after(asked)

    def _note(self, scope: Scope) -> Asked:
        self._count += 1
        asked = Asked(
            number=self._count,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            address=scope["client"][0] if scope.get("client") else "",
            start=self._clock(),
        )
        self.requests.append(asked)
        return asked

    async def _exchange(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> int:
        switches = self._switches()
        refusal = self._refusal(asked, switches)
        if refusal:
            return await deliver(send, _too_many(refusal))
        await _wait(switches.latency_s / 2)
        asked.fault = self._pick(asked, switches)
        answer = await _collected(self._app, scope, receive)
        asked.seq = self._seq()
        await _wait(switches.latency_s / 2)
        if asked.fault:
            hang_up = scope.get("poller.hang_up", _nobody)
            line = Line(answer, receive, send, hang_up=hang_up, size=switches.fault_size)
            return await FAULTS[asked.fault](line)
        return await deliver(send, _dressed(answer, scope, switches))

    def _refusal(self, asked: Asked, switches: WireSwitches) -> Refusal | None:
        if switches.limit is None:
            return None
        return self._windows.take(
            asked.address,
            now=asked.start,
            limit=switches.limit,
            period_s=switches.limit_period_s,
            retry_after=switches.retry_after,
        )

    def _pick(self, asked: Asked, switches: WireSwitches) -> str:
        for index, (fault, path) in enumerate(self._next):
            if path in asked.path:
                del self._next[index]
                return fault
        if not switches.faults or switches.fault_path not in asked.path:
            return ""
        return self._rng.choice(switches.faults) if self._rng.random() < switches.fault_rate else ""


async def _wait(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _nobody(_reset: bool) -> None:
    """Outside a server there is no connection to end."""


def _too_many(refusal: Refusal) -> Answer:
    more = [] if refusal.retry_after is None else [(b"retry-after", refusal.retry_after.encode())]
    return Answer(429, typed(b"text/plain", *more), b"Retry later\n")


async def _collected(app: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    """What the API itself says, held back so that the wire can spoil it."""
    start: Message = {}
    parts: list[bytes] = []

    async def hold(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, hold)
    headers = tuple((key, value) for key, value in start["headers"] if key != b"content-length")
    return Answer(start["status"], headers, b"".join(parts))


def _dressed(answer: Answer, scope: Scope, switches: WireSwitches) -> Answer:
    asked = dict(scope["headers"])
    if switches.etag and answer.status == 200:
        tag = b'W/"' + xxhash.xxh3_128_hexdigest(answer.body).encode() + b'"'
        if tag in asked.get(b"if-none-match", b""):
            return Answer(304, ((b"etag", tag),), b"")
        answer = answer.with_headers((b"etag", tag))
    if switches.gzip and b"gzip" in asked.get(b"accept-encoding", b"") and answer.body:
        packed = gzip.compress(answer.body, 1, mtime=0)
        answer = Answer(answer.status, answer.headers, packed)
        return answer.with_headers((b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    return answer
