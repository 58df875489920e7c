"""The only way to call a CRM: every request is paid before it is sent, bounded in time and size.

httpx over aiohttp (house.md: httpx's own pool can wedge). What comes back is an Answer or one of the
faults of `errors.py`; which one never depends on a body, only on the status and on how far it got.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from poller._version import __version__
from poller.errors import BadAnswer, Limited, Refused, Unreachable

from .limits import Pause, pause_of, rate_limit

REQUEST_TIMEOUT_S = 30.0
BODY_LIMIT = 32 * 1024 * 1024
"""A page of 500 rows is about 350 KB, a very large detail a few MB; beyond this nobody is honest."""
CONNECTIONS = 4
MOMENT_S = 5.0
"""A burst limit that says it is used up is waited for this long at most; a longer one is the host's pause."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the host said, and between which two moments (Unix seconds)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    started: float
    ended: float


class Ticket(Protocol):
    """Charges that are paid, one for each request."""

    @property
    def spent(self) -> int:
        """What was used up so far, in requests, or in what the API counts instead."""

    async def use(self, cost: int = 1) -> None:
        """Take one charge, paying another where none is left, before the request is sent."""

    async def answered(self) -> None:
        """Say that the request of the last charge has ended."""

    async def refused(self, pause: Pause, status: int) -> float:
        """The host refused: stop every request to it; the seconds for which."""

    async def welcomed(self) -> None:
        """The host answered, and did not refuse."""

    async def close(self) -> None:
        """Say that no more will be sent on this ticket."""


class Upstream:
    """One host, one token, one pool of connections."""

    def __init__(
        self,
        *,
        base_url: str,
        auth: Mapping[str, str],
        proxy: str = "",
        timeout_s: float = REQUEST_TIMEOUT_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._host = httpx.URL(base_url).host
        self._timeout_s = timeout_s
        self._now = now
        self._room_at = 0.0
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(client=_session, proxy=_proxy(base_url, proxy)),
            headers={"user-agent": f"poller/{__version__}", "accept-encoding": "gzip", **auth},
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def get(
        self,
        path: str,
        *,
        ticket: Ticket,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        cost: int = 1,
        pauses: Callable[[int, Mapping[str, str], float], Pause | None] = pause_of,
    ) -> Answer:
        """Send one GET, paid from `ticket`; 200, 304, 404 and 410 are answers, all else is a fault.

        `cost` is what the API counts it as; `pauses` says from status, headers and our clock whether it asks
        for one.

        Raises:
            Unreachable: no answer, or another 5xx. Limited: 429 or 503.
            Refused: 401, 402, 403. BadAnswer: any other status, or a body that cannot be read.
        """
        await self._room()
        await ticket.use(cost)
        answer = await self._send(path, dict(params or {}), dict(headers or {}))
        self._note_room(answer.headers)
        await self._judge(path, answer, ticket, pauses(answer.status, answer.headers, answer.ended))
        return answer

    async def _room(self) -> None:
        """Wait a moment where the last answer said that nothing more may be sent until then."""
        wait_s = self._room_at - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _note_room(self, headers: Mapping[str, str]) -> None:
        said = rate_limit(headers)
        if said and said.remaining == 0 and said.reset_s is not None and said.reset_s <= MOMENT_S:
            self._room_at = time.monotonic() + said.reset_s

    async def _send(self, path: str, params: dict[str, str | int], headers: dict[str, str]) -> Answer:
        started = self._now()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("GET", self._base_url + path, params=params, headers=headers) as reply,
            ):
                body = await _body(reply, path)
                return Answer(reply.status_code, reply.headers, body, started, self._now())
        except TimeoutError as exc:
            msg = f"{self._host} did not finish its answer to {path} within {self._timeout_s:g} s"
            raise Unreachable(msg) from exc
        except httpx.HTTPError as exc:
            msg = f"{self._host} could not be reached for {path}: {_reason(exc)}"
            raise Unreachable(msg) from exc

    async def _judge(self, path: str, answer: Answer, ticket: Ticket, pause: Pause | None) -> None:
        status = answer.status
        if pause is not None:
            wait_s = await ticket.refused(pause, status)
            why = f"{self._host} {pause.why} ({status} for {path})"
            msg = f"{why}, for {wait_s:.0f} s"
            raise Limited(msg, retry_after=wait_s, why=why)
        await ticket.welcomed()
        await ticket.answered()
        if status in (401, 402, 403):
            msg = f"{self._host} refuses the token ({status} for {path}): is it valid, and may it read this?"
            raise Refused(msg, status=status)
        if status >= 500:
            msg = f"{self._host} answered {status} for {path}"
            raise Unreachable(msg)
        if status not in (200, 304, 404, 410):
            msg = f"{self._host} answered {status} for {path}, which is no answer to a GET"
            raise BadAnswer(msg, status=status)


def _session() -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    # aiohttp sends a GET again, unasked, when a kept connection turns out to be closed: that second
    # request would not be paid for. It has no public switch; its own test client uses this one.
    session._retry_connection = False
    return session


def _proxy(base_url: str, proxy: str) -> httpx.Proxy | None:
    url = httpx.URL(base_url)
    if not proxy and not proxy_bypass(url.host):
        proxy = getproxies().get(url.scheme, "")
    return httpx.Proxy(proxy) if proxy else None


async def _body(reply: httpx.Response, path: str) -> bytes:
    """Read the body with limits of our own: raw, then one gzip layer at most."""
    chunks, size = [], 0
    async for chunk in reply.aiter_raw():
        size += len(chunk)
        if size > BODY_LIMIT:
            msg = f"the answer for {path} is larger than {BODY_LIMIT} bytes"
            raise BadAnswer(msg)
        chunks.append(chunk)
    return _unpacked(b"".join(chunks), reply.headers.get("content-encoding", ""), path)


def _unpacked(raw: bytes, encoding: str, path: str) -> bytes:
    if not raw or encoding in ("", "identity"):
        return raw
    if encoding != "gzip":
        msg = f"the answer for {path} is encoded as {encoding!r}, which was not asked for"
        raise BadAnswer(msg)
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = unpack.decompress(raw, BODY_LIMIT + 1)
    except zlib.error as exc:
        msg = f"the answer for {path} is no gzip: {exc}"
        raise BadAnswer(msg) from exc
    if len(body) > BODY_LIMIT or not unpack.eof:
        msg = f"the answer for {path} is cut off, or larger than {BODY_LIMIT} bytes when unpacked"
        raise BadAnswer(msg)
    return body


def _reason(exc: httpx.HTTPError) -> str:
    """Say what happened: over aiohttp a refused, unresolved or cut-off call all look like ConnectTimeout."""
    cause = exc.__cause__ or exc
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
