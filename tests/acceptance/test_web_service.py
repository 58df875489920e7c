"""`poller run` and its HTTP side, in a process of its own: the port, the probes, and the order of a stop."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from commands import crm
from hookside import Receiver, hang, receiving
from processes import Running, home
from waiting import wait_until
from website import TOKEN

from poller.simulators.drum import DEMO_TOKEN


def acme(url: str) -> dict[str, dict[str, str]]:
    """A source on a simulated CRM."""
    return {"acme": {"base_url": url, "token": DEMO_TOKEN}}


async def address(running: Running) -> str:
    """Where the process answers."""
    (line,) = await wait_until(lambda: running.logged("web.serving"), "the port", 30)
    return str(line["url"])


async def test_a_port_that_is_taken_ends_the_service(tmp_path: Path) -> None:
    """A port that is taken ends `poller run` with exit 2 and the remedy, before its server is started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with home(tmp_path, sources=acme("http://127.0.0.1:9")) as here:
            text = here.settings.read_text().replace("port = 0", f"port = {port}")
            here.settings.write_text(text)
            running = await here.run()
            assert await running.end(within_s=20) == 2
            assert f"web.port {port} on 127.0.0.1 cannot be taken" in running.words()
            assert not here.server_lives()


async def test_the_order_of_a_stop(tmp_path: Path) -> None:
    """From SIGTERM on it is unready and alive while its deliveries settle; the port closes last; exit 0."""
    released = asyncio.Event()
    receiver = Receiver(always=hang(released))
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(crm())
        await stack.enter_async_context(receiving(receiver))
        here = await stack.enter_async_context(home(tmp_path, sources=acme(world.url), receiver=receiver.url))
        text = here.settings.read_text().replace("port = 0", f'port = 0\ntoken = "{TOKEN}"')
        here.settings.write_text(text)
        running = await here.run()
        url = await address(running)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        await wait_until(lambda: receiver.got, "a delivery under way", 30)
        await wait_until(lambda: _is(http, "/readyz", 200), "it is ready", 10)
        running.terminate()
        await wait_until(lambda: _is(http, "/readyz", 503), "it is unready", 5)
        proof = {"authorization": f"Bearer {TOKEN}"}
        assert (await http.get("/readyz", headers=proof)).json()["reasons"] == ["it was told to stop"]
        assert (await http.get("/healthz")).status_code == 200
        released.set()
        assert await running.end(within_s=25) == 0
        await wait_until(lambda: _closed(url), "the port is closed", 2)


async def _is(http: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await http.get(path)).status_code == status


def _closed(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


async def test_without_a_source(tmp_path: Path) -> None:
    """Without a source the service runs, says so on its page and its log, and is not ready."""
    async with home(tmp_path, sources={}) as here:
        running = await here.run()
        async with httpx.AsyncClient(base_url=await address(running), trust_env=False) as http:
            assert "Nothing is set up yet" in (await http.get("/")).text
            assert (await http.get("/readyz")).status_code == 503
        assert "no source is set up" in running.words(100)
        running.terminate()
        assert await running.end(within_s=25) == 0
