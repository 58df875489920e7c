"""Calling a receiver: which address is dialled, how much is read, and what no receiver can do to us."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from hookside import LOOPBACK, Got, Receiver, receiving

from poller.deliver.outbound import MOST_KEPT, MOST_READ, Answer, Outbound
from poller.deliver.settings import EndpointSettings, outbound_for


class Names(AbstractResolver):
    """A name server of this test: each name gives the next of its addresses."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        self.asked.append(host)
        answers = self.names[host.partition(".")[0]]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if not found:
            raise OSError(None, "no such name")
        kind = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            {"hostname": host, "host": each, "port": port, "family": kind[":" in each], "proto": 0,
             "flags": socket.AI_NUMERICHOST}
            for each in found
        ]  # fmt: skip

    async def close(self) -> None:
        pass


@asynccontextmanager
async def calling(url: str, **options: Any) -> AsyncIterator[Outbound]:
    """An Outbound, closed at the end."""
    outbound = Outbound(url=url, concurrency=8, **options)
    try:
        yield outbound
    finally:
        await outbound.close()


async def post(url: str, **options: Any) -> Answer:
    async with calling(url, **options) as outbound:
        return await outbound.post(body=b"{}", headers={"content-type": "application/json"})


class Canary:
    """A socket on loopback that must never be called."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def was_called(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


async def test_the_judged_address_is_the_dialled_one() -> None:
    """A name that is public when asked first and private when asked again is never dialled privately."""
    canary = Canary()
    with closing(canary.socket):
        names = Names(rebind=[["192.0.2.1"], ["127.0.0.1"]])
        url = f"http://rebind.test:{canary.port}/"
        allowed = (ip_network("192.0.2.1/32"),)  # stands for a public address that nobody answers on
        async with calling(url, lookup=names, allow_private=allowed, deadline_s=0.2) as outbound:
            for _ in range(3):
                answer = await outbound.post(body=b"", headers={})
                assert answer.status is None
        assert not canary.was_called()


async def test_of_several_addresses_only_the_permitted_are_dialled() -> None:
    """A name with a public and a private address reaches the first only."""
    async with receiving() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        names = Names(both=[["10.0.0.1", "127.0.0.1", "169.254.169.254"]])
        answer = await post(f"http://both.test:{port}/", lookup=names, allow_private=LOOPBACK)
        assert answer.status == 200


async def test_a_private_name_is_refused_with_the_remedy() -> None:
    """The refusal says which name, which address, and which setting opens it."""
    answer = await post("http://internal.test/", lookup=Names(internal=[["10.0.0.7"]]))
    assert answer.fault == "blocked"
    assert answer.detail == (
        "internal.test resolves to 10.0.0.7, which is not a public address; "
        "if it is meant, put a CIDR such as 10.0.0.7/32 into allow_private"
    )


async def test_a_literal_is_refused_with_the_remedy() -> None:
    """An address written into the URL passes the same judgement."""
    answer = await post("http://127.0.0.1:9/")
    assert answer.fault == "blocked"
    assert "allow_private" in answer.detail


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    """A 302 to the metadata address is a failure, and nothing else is called."""
    canary = Canary()
    with closing(canary.socket):
        for status in (301, 302, 303, 307, 308):
            to = {"Location": f"http://127.0.0.1:{canary.port}/latest/meta-data/"}
            async with receiving(Receiver(always=(status, to))) as receiver:
                assert (await post(receiver.url, allow_private=LOOPBACK)).status == status
        assert not canary.was_called()


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY would make somebody else dial, past every judgement."""
    canary = Canary()
    with closing(canary.socket):
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        async with receiving() as receiver:
            assert (await post(receiver.url, allow_private=LOOPBACK)).status == 200
        assert not canary.was_called()


# --- how much, and how long -------------------------------------------------------------------------


def streaming(chunk: bytes, times: int, headers: dict[str, str] | None = None) -> Receiver:
    async def reply(request: web.Request, got: Got) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers or {})
        await response.prepare(request)
        try:
            for _ in range(times):
                await response.write(chunk)
        except ConnectionError:
            pass  # we were hung up on, as we should be
        return response

    return Receiver(always=reply)


async def test_of_a_huge_answer_only_the_beginning_is_read() -> None:
    """A gigabyte of answer costs 16 KiB, of which 4 KiB are kept, and the verdict is its status."""
    async with receiving(streaming(b"x" * 65536, 16384)) as receiver:
        answer = await post(receiver.url, allow_private=LOOPBACK)
    assert answer.status == 200
    assert answer.excerpt == b"x" * MOST_KEPT
    assert answer.ms < 5000


async def test_a_compressed_bomb_is_never_unpacked() -> None:
    """100 MB of zeroes packed into 100 KB stay packed."""
    bomb = gzip.compress(bytes(10_000_000))
    async with receiving(streaming(bomb, 10, {"Content-Encoding": "gzip"})) as receiver:
        answer = await post(receiver.url, allow_private=LOOPBACK)
    assert answer.status == 200
    assert answer.excerpt == bomb[:MOST_KEPT]


async def test_a_body_of_exactly_the_limit_is_read_to_its_end() -> None:
    """16 KiB is within bounds."""
    async with receiving(streaming(b"y" * MOST_READ, 1)) as receiver:
        assert (await post(receiver.url, allow_private=LOOPBACK)).status == 200


@asynccontextmanager
async def raw(answer: bytes, *, hold: bool = True) -> AsyncIterator[str]:
    """A server that sends some bytes, and then nothing."""
    over, serving = asyncio.Event(), set[asyncio.Task[Any]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await reader.read(65536)
            writer.write(answer)
            if hold:
                await over.wait()
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        over.set()
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5,
    ],
)
async def test_one_deadline_covers_everything(answer: bytes) -> None:
    """Silence before, in the middle of, or after the headers ends at the same deadline as a failure."""
    async with raw(answer) as url:
        got = await post(url, allow_private=LOOPBACK, deadline_s=0.3)
    assert (got.status, got.fault) == (None, "timeout")
    assert 250 < got.ms < 3000


async def test_the_deadline_covers_the_name_and_the_handshake() -> None:
    """A name server and a TLS peer that never answer end an attempt as a silent receiver does."""

    class Silent(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
            await asyncio.Event().wait()
            return []

        async def close(self) -> None:
            pass

    got = await post("http://silent.test/", lookup=Silent(), deadline_s=0.2)
    assert (got.status, got.fault) == (None, "timeout")
    async with raw(b"") as url:
        got = await post(url.replace("http:", "https:"), allow_private=LOOPBACK, deadline_s=0.2)
    assert (got.status, got.fault) == (None, "timeout")


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    ],
)
async def test_a_broken_answer_is_a_failure(answer: bytes) -> None:
    """Neither nonsense nor a cut-off body nor endless headers count as success, or as a crash."""
    async with raw(answer, hold=False) as url:
        got = await post(url, allow_private=LOOPBACK, deadline_s=5)
    assert got.status is None
    assert got.fault in {"answer", "reset"}


async def test_nobody_listening_is_a_failure() -> None:
    """A refused connection has its own name."""
    canary = Canary()
    canary.socket.close()
    got = await post(f"http://127.0.0.1:{canary.port}/", allow_private=LOOPBACK)
    assert got.fault == "connect"


async def test_a_name_that_does_not_resolve_is_a_failure() -> None:
    """It is told apart from a receiver that refuses."""
    got = await post("http://nowhere.test/", lookup=Names(nowhere=[[]]))
    assert got.fault == "dns"


async def test_plain_http_on_a_tls_port_is_a_tls_fault() -> None:
    """The certificate is checked, and what is no TLS is told as such."""
    async with raw(b"HTTP/1.1 400 Bad Request\r\n\r\n", hold=False) as url:
        got = await post(url.replace("http://", "https://"), allow_private=LOOPBACK, deadline_s=2)
    assert got.fault in {"tls", "timeout"}


async def test_no_failure_shows_the_url() -> None:
    """A Slack URL is a secret: neither its path nor its query appears in what is told."""
    for url in (
        "http://127.0.0.1:1/services/SECRET?token=SECRET",
        "http://[::1/SECRET",
        "http://0x7f.1/SECRET",
    ):
        try:
            got = await post(url, allow_private=LOOPBACK, deadline_s=2)
        except ValueError:
            continue
        assert "SECRET" not in got.detail


async def test_what_a_receiver_says_back_is_blanked() -> None:
    """Header values, queries and long parts of the path are not in what is kept of its answer, cut or not."""

    async def parrot(request: web.Request, got: Got) -> web.StreamResponse:
        told = f"{request.headers['x-key']} {request.path_qs} "
        filler = "." * (MOST_KEPT - len(told) - 9)  # so that "header-ca" is the last that is kept
        return web.Response(text=f"{told}{filler}header-canary", status=500)

    async with receiving(Receiver(always=parrot)) as receiver:
        settings = EndpointSettings(
            name="hook",
            url=f"{receiver.url}?key=query%2Fcanary",
            headers={"x-key": "Bearer header-canary"},
            allow_private=LOOPBACK,
        )
        outbound = outbound_for(settings)
        said = (await outbound.post(body=b"{}", headers=settings.headers)).excerpt
        await outbound.close()
    assert said.startswith(b"*** *** /hook?key=*** ...")
    assert said.endswith(b"...")


async def test_requests_carry_our_name_and_no_cookies() -> None:
    """user-agent is poller/<version>; what one answer sets no later request sends back."""
    cookie = Receiver(always=(200, {"Set-Cookie": "a=b"}))
    async with receiving(cookie) as receiver, calling(receiver.url, allow_private=LOOPBACK) as outbound:
        for _ in range(2):
            await outbound.post(body=b"{}", headers={})
    assert receiver.got[1].headers["user-agent"].startswith("poller/")
    assert "cookie" not in receiver.got[1].headers
