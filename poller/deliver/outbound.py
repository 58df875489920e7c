"""The only way to call a receiver: judge the address, dial it, send, and read no more than is needed.

One deadline covers everything from the name to the last byte of the answer. No redirects, no proxies
from the environment, no second request behind the caller's back.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from poller._version import __version__

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

DEADLINE_S = 15.0
MOST_READ = 16 * 1024
MOST_KEPT = 4 * 1024
SHORTEST_CUT = 3
MASK = b"***"
RESOLVED_FOR_S = 60
IDLE_FOR_S = 1.8
"""Shorter than what common servers allow (gunicorn 2 s, Node and uvicorn 5 s): a connection that the
other side closes as we write costs an attempt, since a POST is never repeated silently."""
USER_AGENT = f"poller/{__version__}"

_NOT_PUBLIC_4 = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services, though in public space
        "169.254.0.0/16",  # link-local, and with it the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST_6 = ip_network("2000::/3")
"""All that is assigned; outside are loopback, ULA, link- and site-local, multicast, mapped, NAT64."""
_NOT_PUBLIC_6 = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 has an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def is_public(address: Address) -> bool:
    """Tell whether an address is public unicast, and is not another one in disguise."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _GLOBAL_UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)


def plain(text: str) -> Address:
    """Read an address as a socket names it: without its zone, a mapped IPv4 address as what it is."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Blocked(OSError):
    """The address is not one that this endpoint may be sent to."""


@dataclass(frozen=True)
class AddressGuard:
    """Judges each address before it is dialled; `allowed` are CIDRs that are open all the same."""

    allowed: tuple[Network, ...] = ()

    def permits(self, text: str) -> bool:
        """Judge one address, written as a resolver or a socket writes it."""
        address = plain(text)
        return is_public(address) or any(address in network for network in self.allowed)

    def demand(self, text: str, *, name: str) -> None:
        """Pass an address, or say how to open it.

        Raises:
            Blocked: it is not public, and no CIDR of `allow_private` holds it.
        """
        if not self.permits(text):
            raise Blocked(refusal(name, text))

    def socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """Make the socket for one address: the last look before the dial, literals included."""
        family, kind, proto, _, where = info
        self.demand(str(where[0]), name=str(where[0]))
        made = socket.socket(family, kind, proto)
        made.setblocking(False)
        return made


def refusal(name: str, address: str) -> str:
    """Say why an address is refused, and what opens it."""
    single = f"{plain(address)}/{plain(address).max_prefixlen}"
    seen = name if name == address else f"{name} resolves to {address}, which"
    return f"{seen} is not a public address; if it is meant, put a CIDR such as {single} into allow_private"


class VettedResolver(AbstractResolver):
    """Resolves a name and lets through only what the guard permits: the judged address is the dialled one."""

    def __init__(self, guard: AddressGuard, *, lookup: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._lookup = lookup or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve `host`.

        Raises:
            Blocked: not one of its addresses may be dialled.
            OSError: it does not resolve.
        """
        found = await self._lookup.resolve(host, port, family)
        passed = [each for each in found if self._guard.permits(each["host"])]
        if found and not passed:
            raise Blocked(refusal(host, found[0]["host"]))
        return passed

    async def close(self) -> None:
        """Close what does the looking up."""
        await self._lookup.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request. `status` is None where `fault` names why there is no usable answer."""

    status: int | None
    fault: str = ""
    """blocked, dns, connect, tls, reset, timeout, url, answer."""
    detail: str = ""
    excerpt: bytes = b""
    retry_after: str | None = None
    ms: float = 0.0


class Outbound:
    """The connections of one endpoint."""

    def __init__(
        self,
        *,
        url: str,
        concurrency: int,
        allow_private: Iterable[Network] = (),
        hidden: Sequence[str] = (),
        lookup: AbstractResolver | None = None,
        deadline_s: float = DEADLINE_S,
        tls: ssl.SSLContext | bool = True,
    ) -> None:
        """`hidden` texts are blanked in what is kept of an answer: some say back what they were sent."""
        self._hidden = [each for text in hidden for each in _spellings(text)]
        self._guard = AddressGuard(tuple(allow_private))
        self._url = URL(url)
        self._deadline_s = deadline_s
        connector = aiohttp.TCPConnector(
            limit=concurrency,
            resolver=VettedResolver(self._guard, lookup=lookup),
            ttl_dns_cache=RESOLVED_FOR_S,
            keepalive_timeout=IDLE_FOR_S,
            socket_factory=self._guard.socket,
            ssl=tls,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, ceil_threshold=60),
            auto_decompress=False,
            trust_env=False,
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        )

    async def close(self) -> None:
        """Close every connection; safe to call twice."""
        await self._session.close()

    async def post(self, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one POST and read the answer; what the other side does is an Answer, never an exception."""
        began = time.monotonic()
        answer = await self._attempt(body, headers)
        took_ms = (time.monotonic() - began) * 1000
        return replace(answer, excerpt=_blanked(answer.excerpt, self._hidden), ms=took_ms)

    async def _attempt(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self._deadline_s):
                async with self._session.post(
                    self._url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    return await _read(response)
        except TimeoutError:
            limit = f"no complete answer within {self._deadline_s:g} s"
            return Answer(status=None, fault="timeout", detail=limit)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return Answer(status=None, fault=fault_of(exc), detail=_safe(exc))


async def _read(response: aiohttp.ClientResponse) -> Answer:
    kept, size = bytearray(), 0
    while size < MOST_READ and (chunk := await response.content.read(MOST_READ - size)):
        size += len(chunk)
        kept += chunk[: MOST_KEPT - len(kept)]
    if not response.content.at_eof():
        response.close()
    return Answer(
        status=response.status,
        excerpt=bytes(kept),
        retry_after=response.headers.get("Retry-After"),
    )


def _spellings(text: str) -> list[bytes]:
    """A text as it stands, and as it stands in a URL or out of one."""
    found = {each.encode() for each in (text, quote(text, safe=""), unquote(text))}
    return sorted(found, key=len, reverse=True)


def _blanked(said: bytes, hidden: Sequence[bytes]) -> bytes:
    for secret in hidden:
        said = said.replace(secret, MASK)
        # What is kept may end in the midst of it.
        cut = next((n for n in range(len(secret) - 1, SHORTEST_CUT, -1) if said.endswith(secret[:n])), 0)
        said = said[: len(said) - cut]
    return said


_FAULTS: Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], str]] = (
    (Blocked, "blocked"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    ((aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError), "tls"),
    (aiohttp.ClientConnectorError, "connect"),
    (aiohttp.InvalidURL, "url"),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError), "reset"),
    (aiohttp.ClientError, "answer"),
    (OSError, "connect"),
)


def fault_of(exc: BaseException) -> str:
    """Name the class of a failure, by what lies beneath it first."""
    chain = list(_beneath(exc))
    for kind, name in _FAULTS:
        if any(isinstance(each, kind) for each in chain):
            return name
    return "answer"


def _beneath(exc: BaseException) -> Iterable[BaseException]:
    seen: BaseException | None = exc
    while seen is not None:
        yield seen
        inner = getattr(seen, "os_error", None)
        seen = inner if isinstance(inner, BaseException) and inner is not seen else seen.__cause__


def _safe(exc: BaseException) -> str:
    # aiohttp puts whole URLs into some messages, and a Slack URL is a secret: only known texts pass.
    for each in _beneath(exc):
        if isinstance(each, Blocked):
            return str(each)
        if isinstance(each, OSError) and each.strerror:
            return str(each.strerror)[:200]
    return type(exc).__name__
