"""Every address that must not be called, in every spelling, as a URL and as a name's answer; and all others.

What is dialled is seen by an audit hook of the interpreter, which also keeps it on this machine: only
loopback is really called, and there a canary listens on every address at once.
"""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hookside import LOOPBACK, Receiver, receiving
from nameserver import NameServer, WireResolver, naming

from poller.deliver.outbound import Answer, Outbound

REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1 127.1.2.3
127.255.255.254 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 169.254.169.123 172.16.0.1
172.17.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1
192.88.99.1 192.168.0.1 192.168.1.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7
203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 100::1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
2002:7f00:1:: 2002:a9fe:a9fe:: 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1
fe80::a9fe:a9fe fec0::1 ff02::1 ff0e::1
""".split()
"""Loopback, private, shared, metadata of seven clouds, protocol, documentation, benchmark, multicast."""

PUBLIC = """
1.1.1.1 1.0.0.1 8.8.8.8 8.8.4.4 9.9.9.9 9.255.255.255 11.0.0.0 34.120.0.1 52.95.110.1 100.63.255.255
100.128.0.0 126.255.255.255 128.0.0.1 140.82.121.4 151.101.1.1 168.63.129.15 168.63.129.17 169.253.255.255
169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
216.58.212.14 223.255.255.255
2001:200::1 2001:4860:4860::8888 2003::1 2400:cb00::1 2606:4700:4700::1111 2620:fe::fe 2a00:1450:4001::1
2a03:2880:f12f::1 2c0f:fb50::1 3ffe::1
""".split()
"""Well-known hosts, and the neighbours of what is refused."""


AT_ONCE = 40
NEVER_SENT = {"blocked", "url", "dns", "timeout"}
"""`127.0.0.1.` is asked of the machine's own name server, which may be slow, or not there at all."""


def in_a_url(text: str) -> dict[str, str]:
    """Spell an address as the host of a URL; all of them reach it in some program or other."""
    address = ip_address(text)
    return _four(address) if isinstance(address, IPv4Address) else _six(address)


def _four(address: IPv4Address) -> dict[str, str]:
    value, (a, b, c, d), text = int(address), address.packed, str(address)
    return {
        "dotted": text,
        "decimal": str(value),
        "hex": hex(value),
        "octal": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        "hex by parts": f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        "three parts": f"{a}.{b}.{c * 256 + d}",
        "two parts": f"{a}.{b * 65536 + c * 256 + d}",
        "trailing dot": f"{text}.",
        "percent-encoded": "".join(f"%{ord(char):02x}" for char in text),
        "full width": text.translate({**{48 + n: 0xFF10 + n for n in range(10)}, 46: 0xFF0E}),
        "circled": text.translate({48: 0x24EA, **{48 + n: 0x245F + n for n in range(1, 10)}}),
        "ideographic dots": text.replace(".", "。"),
        "mapped": f"[::ffff:{text}]",
        "mapped in hex": f"[0:0:0:0:0:FFFF:{value >> 16:X}:{value & 65535:X}]",
    }


def _six(address: IPv6Address) -> dict[str, str]:
    text, low = str(address), IPv4Address(int(address) & 0xFFFFFFFF)
    high = ":".join(address.exploded.split(":")[:6])
    return {
        "compressed": f"[{text}]",
        "exploded": f"[{address.exploded}]",
        "plain zeros": "[" + ":".join(part.lstrip("0") or "0" for part in address.exploded.split(":")) + "]",
        "upper case": f"[{text.upper()}]",
        "dotted end": f"[{high}:{low}]",
        "zone": f"[{text}%25lo]",
        "percent-encoded": f"%5b{text}%5d",
    }


def hidden(text: str) -> list[str]:
    """Hide an IPv4 address in IPv6: mapped, NAT64, its local prefix, 6to4, Teredo, compatible, translated."""
    value = int(IPv4Address(text))
    return [
        str(IPv6Address(each))
        for each in (
            0xFFFF << 32 | value,
            0x0064FF9B << 96 | value,
            0x0064FF9B0001 << 80 | value,
            0x2002 << 112 | value << 80 | 1,
            0x20010000 << 96 | (value ^ 0xFFFFFFFF),
            value,
            0xFFFF0000 << 32 | value,
        )
    ]


def in_an_answer(text: str) -> list[list[str]]:
    """Say an address in the answer of a name server: alone, doubled, and hidden."""
    if ":" in text:
        return [[text], [text, text]]
    return [[text], [text, text], *([each] for each in hidden(text))]


# --- what is dialled ----------------------------------------------------------------------------------


@dataclass
class Dials:
    """Every connect() of a stream socket while it is watched; those off this machine are refused."""

    tried: list[str] = field(default_factory=list)
    watching: bool = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "socket.connect" or not self.watching or args[0].type & socket.SOCK_STREAM == 0:
            return
        if args[0].family not in {socket.AF_INET, socket.AF_INET6}:
            return
        where = ip_address(args[1][0].partition("%")[0])
        self.tried.append(str(where))
        if not where.is_loopback:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "kept on this machine")


DIALS = Dials()
sys.addaudithook(DIALS)  # it cannot be taken away again, so there is one for all tests


@contextmanager
def dials() -> Iterator[Dials]:
    """Watch what is dialled."""
    DIALS.tried, DIALS.watching = [], True
    try:
        yield DIALS
    finally:
        DIALS.watching = False


@dataclass
class Canary:
    """Listens on every address of this machine, and must never be called."""

    socket: socket.socket

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def calls(self) -> int:
        """How often it was called since the last look."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self.socket.accept()[0].close()
                count += 1
        return count


@pytest.fixture
def canary() -> Iterator[Canary]:
    """One on a free port."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        listening.setblocking(False)
        yield Canary(listening)


async def post(url: str, server: NameServer | None = None, **options: Any) -> Answer:
    """Send one request through a guard of its own; a URL that cannot be is an answer as well."""
    lookup = WireResolver(server.address) if server else None
    try:
        outbound = Outbound(url=url, concurrency=1, lookup=lookup, deadline_s=5, **options)
    except ValueError:
        return Answer(status=None, fault="url")
    try:
        return await outbound.post(body=b"{}", headers={})
    finally:
        await outbound.close()


# --- the corpus ---------------------------------------------------------------------------------------


def test_the_corpus_is_large_enough() -> None:
    """At least 47 addresses in 6 spellings each, and 30 that are to pass."""
    assert len(set(REFUSED)) >= 47
    assert len(set(PUBLIC)) >= 30
    assert all(len(set(in_a_url(text).values())) >= 6 for text in REFUSED)


@pytest.mark.fault(19)
async def test_no_spelling_in_a_url_is_dialled(canary: Canary, figures: Callable[..., None]) -> None:
    """Nobody is called, whatever the spelling, and the answer says so."""
    hosts = [host for text in REFUSED for host in in_a_url(text).values()]
    hosts += ["localhost", "localhost.", "LOCALHOST", "0", "0x7f.1", "127.1", "[::127.0.0.1]", "[::%25lo]"]
    with dials() as seen:
        for at in range(0, len(hosts), AT_ONCE):
            some = hosts[at : at + AT_ONCE]
            answers = await asyncio.gather(*(post(f"http://{host}:{canary.port}/") for host in some))
            for host, answer in zip(some, answers, strict=True):
                assert answer.fault in NEVER_SENT, (host, answer)
    assert (seen.tried, canary.calls) == ([], 0)
    figures(f"{len(REFUSED)} addresses in {len(hosts)} URLs: 0 dialled, 0 at a canary")


@pytest.mark.fault(19)
async def test_no_answer_of_a_name_server_is_dialled(canary: Canary, figures: Callable[..., None]) -> None:
    """A name that resolves to what must not be called is refused, whatever it is hidden in."""
    answers = [answer for text in REFUSED for answer in in_an_answer(text)]
    async with naming(**{f"n{at}": [answer] for at, answer in enumerate(answers)}) as server:
        with dials() as seen:
            for at, said in enumerate(answers):
                answer = await post(f"http://n{at}.test:{canary.port}/", server)
                assert (answer.fault, answer.status) == ("blocked", None), (said, answer)
                assert "allow_private" in answer.detail
        assert len(server.asked) == 2 * len(answers)
    assert (seen.tried, canary.calls) == ([], 0)
    figures(f"as {len(answers)} answers of a name server: 0, 0")


async def test_beside_a_public_address_a_private_one_is_not_dialled(canary: Canary) -> None:
    """Of a mixed answer only the public addresses are tried, in whatever order it names them."""
    answers = [pair for text in REFUSED for pair in ([text, "9.9.9.9"], ["9.9.9.9", text])]
    async with naming(**{f"n{at}": [answer] for at, answer in enumerate(answers)}) as server:
        with dials() as seen:
            for at in range(len(answers)):
                assert (await post(f"http://n{at}.test:{canary.port}/", server)).fault == "connect"
    assert set(seen.tried) == {"9.9.9.9"}
    assert canary.calls == 0


@pytest.mark.fault(19)
async def test_no_public_address_is_refused(figures: Callable[..., None]) -> None:
    """Each is dialled, written into the URL or answered for a name, and it alone."""
    async with naming(**{f"n{at}": [[text]] for at, text in enumerate(PUBLIC)}) as server:
        for at, text in enumerate(PUBLIC):
            for host in (f"[{text}]" if ":" in text else text, f"n{at}.test"):
                with dials() as seen:
                    assert (await post(f"http://{host}:9/", server)).fault == "connect"
                assert seen.tried == [text]
    figures(f"of {len(PUBLIC)} public addresses, as URL and as answer, 0 refused")


async def test_a_name_that_changes_its_mind_is_judged_by_what_is_dialled(canary: Canary) -> None:
    """Public when it is judged and private a moment later: the private one is never dialled."""
    turns = [["9.9.9.9"], ["127.0.0.1"], ["9.9.9.9"], ["169.254.169.254"], ["::1"], ["127.0.0.1"]]
    async with naming(rebind=turns) as server:
        with dials() as seen:
            said = [
                (await post(f"http://rebind.test:{canary.port}/", server)).fault for _ in range(len(turns))
            ]
    assert said == ["connect", "blocked", "connect", "blocked", "blocked", "blocked"]
    assert seen.tried == ["9.9.9.9", "9.9.9.9"]
    assert canary.calls == 0


async def test_two_readings_of_one_url_do_not_lead_past_the_guard(canary: Canary) -> None:
    """What one parser takes for the host and another for a user is judged as it is dialled."""
    port = canary.port
    ways = [
        f"http://example.com@127.0.0.1:{port}/",
        f"http://example.com:80@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@9.9.9.9/",
        f"http://127.0.0.1:{port}?@9.9.9.9/",
        f"http://9.9.9.9\\@127.0.0.1:{port}/",
        f"http://9.9.9.9#@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}\\@9.9.9.9/",
        f"http://[::1]:{port}@9.9.9.9:{port}/",
        f"http://9.9.9.9 @127.0.0.1:{port}/",
        f"http://9.9.9.9\t@127.0.0.1:{port}/",
        f"http:\\\\127.0.0.1:{port}\\",
        f"http:///127.0.0.1:{port}/",
        f"//127.0.0.1:{port}/",
    ]
    with dials() as seen:
        for way in ways:
            assert (await post(way)).status is None, way
    assert set(seen.tried) <= {"9.9.9.9"}
    assert canary.calls == 0


async def test_no_redirect_leads_to_metadata(canary: Canary) -> None:
    """Whatever a permitted receiver answers, no second address is dialled."""
    for status in (300, 301, 302, 303, 305, 307, 308):
        for to in ("http://169.254.169.254/latest/meta-data/", f"http://127.0.0.1:{canary.port}/"):
            headers = {"Location": to, "Refresh": f"0; url={to}", "Link": f"<{to}>; rel=preload"}
            async with receiving(Receiver(always=(status, headers))) as receiver:
                with dials() as seen:
                    assert (await post(receiver.url, allow_private=LOOPBACK)).status == status
            assert seen.tried == ["127.0.0.1"]
    assert canary.calls == 0


async def test_no_proxy_of_the_environment_is_dialled(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for what is permitted, nor to reach what is not."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "socks_proxy"):
        for each in (name, name.upper()):
            monkeypatch.setenv(each, f"http://127.0.0.1:{canary.port}")
    with dials() as seen:
        assert (await post("http://9.9.9.9:9/")).fault == "connect"
        assert (await post("https://9.9.9.9:9/")).fault == "connect"
        assert (await post("http://169.254.169.254/latest/meta-data/")).fault == "blocked"
    assert set(seen.tried) == {"9.9.9.9"}
    assert canary.calls == 0


async def test_allow_private_opens_what_it_names_and_no_spelling_of_anything_else(canary: Canary) -> None:
    """With 127.0.0.1/32 open, 127.0.0.2, ::1 and every other address of the corpus stay closed."""
    opened = (ip_network("127.0.0.1/32"),)
    with dials() as seen:
        for text in REFUSED:
            if text == "127.0.0.1":
                continue
            host = f"[{text}]" if ":" in text else text
            assert (await post(f"http://{host}:{canary.port}/", allow_private=opened)).fault == "blocked"
    assert (seen.tried, canary.calls) == ([], 0)
