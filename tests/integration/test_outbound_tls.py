"""TLS to a receiver: only a certificate that somebody trusted vouches for, and of that name, will do."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hookside import LOOPBACK
from nameserver import WireResolver, naming

from poller.deliver.outbound import Answer, Outbound

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")

SUBJECT = ["-subj", "/CN=hook.test", "-addext", "subjectAltName=DNS:hook.test"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hook.test that vouches for itself, its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "hook.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]
    made = path.with_suffix(".crt")
    command = ["openssl", "req", "-x509", *key, "-days", "2", *SUBJECT, "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + made.read_text())
    return path


@asynccontextmanager
async def listening(certificate: Path) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A receiver that speaks TLS; its port, and what it was sent."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], got


async def post(name: str, port: int, *, trusted: Path | None) -> Answer:
    """Send one request to a name that resolves to loopback."""
    tls = ssl.create_default_context(cafile=trusted) if trusted else True
    async with naming(**{name.partition(".")[0]: [["127.0.0.1"]]}) as server:
        outbound = Outbound(
            url=f"https://{name}:{port}/",
            concurrency=1,
            allow_private=LOOPBACK,
            lookup=WireResolver(server.address),
            tls=tls,
        )
        try:
            return await outbound.post(body=b"", headers={})
        finally:
            await outbound.close()


async def test_a_trusted_certificate_of_that_name_is_taken(certificate: Path) -> None:
    """What is resolved by us is still verified against the name in the URL."""
    async with listening(certificate) as (port, got):
        assert (await post("hook.test", port, trusted=certificate)).status == 204
    assert b"host: hook.test" in got[0].lower()


async def test_a_certificate_of_another_name_is_refused(certificate: Path) -> None:
    """Trusted, but for somebody else: nothing is sent."""
    async with listening(certificate) as (port, got):
        answer = await post("other.test", port, trusted=certificate)
    assert (answer.status, answer.fault, got) == (None, "tls", [])


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    """As it is outside of tests, by the system's own list: nothing is sent."""
    async with listening(certificate) as (port, got):
        answer = await post("hook.test", port, trusted=None)
    assert (answer.status, answer.fault, got) == (None, "tls", [])
