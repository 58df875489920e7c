"""Every simulator over real HTTP: the wire and its faults, the two ports, and what holds for each of them."""

import asyncio
import gzip
import os
import signal
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from calling import Caller, calling
from clocks import Clock

from poller.model import loads
from poller.simulators import PORTS, SIMULATORS, Options, serve
from poller.simulators.faults import FAULTS, bomb
from poller.simulators.wire import Asked

# --- the wire -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "seconds", "date"])
async def test_limiter(mode: str) -> None:
    """The request above the limit gets 429 as plain text until the window ends, as Retry-After may say."""
    clock = Clock(1_800_000_100.0)
    how = {"options": Options(clock=clock), "limit": 2, "limit_period_s": 300, "retry_after": mode}
    async with calling(**how) as caller:
        assert [(await caller.get("/projects"))[0] for _ in range(2)] == [200, 200]
        status, headers, body = await caller.get("/projects")
        assert (status, body, headers["content-type"]) == (429, b"Retry later\n", "text/plain")
        if mode == "none":
            assert "retry-after" not in headers
        elif mode == "seconds":
            assert headers["retry-after"] == "200"
        else:
            assert parsedate_to_datetime(headers["retry-after"]).timestamp() == 1_800_000_300
        clock.now = 1_800_000_300.0
        assert (await caller.get("/projects"))[0] == 200


async def test_etags() -> None:
    """With ETags an unchanged answer is 304 without a body; a changed one is sent."""
    async with calling(etag=True) as caller:
        tag = (await caller.get("/projects"))[1]["etag"]
        assert tag.startswith('W/"')
        status, _, body = await caller.get("/projects", **{"if-none-match": tag})
        assert (status, body) == (304, b"")
        caller.sim.orders.update(42, name="Other")
        assert (await caller.get("/projects", **{"if-none-match": tag}))[0] == 200
        caller.sim.set(etag=False)
        assert "etag" not in (await caller.get("/projects"))[1]


async def test_compression() -> None:
    """Callers who accept gzip get it, if it is switched on."""
    async with calling(gzip=True) as caller:
        plain = (await caller.get("/projects", **{"accept-encoding": "identity"}))[2]
        _, headers, packed = await caller.get("/projects", **{"accept-encoding": "gzip"})
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed) == plain


async def test_latency_surrounds_the_answer() -> None:
    """With latency the answer is made between the start and the end of the request, and both are logged."""
    async with calling(latency_s=0.02) as caller:
        await caller.json("/projects")
        (asked,) = caller.sim.requests
        assert asked.end - asked.start >= 0.015
        assert (asked.method, asked.path, asked.status, asked.seq) == ("GET", "/api/v1/projects", 200, 0)


async def test_requests_are_logged_with_the_truth() -> None:
    """Each request says at which point of the truth log it was answered."""
    async with calling() as caller:
        await caller.json("/projects?page=1")
        caller.sim.orders.win(101)
        await caller.get("/projects/9")
        first, second = caller.sim.requests
        assert (first.query, first.seq, first.status) == ("page=1", 0, 200)
        assert (second.seq, second.status, second.number) == (2, 404, 2)
        assert 0 < first.start <= first.end <= second.start


def _json_fails(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(body)


ANSWERS: dict[str, Callable[[int, Any, bytes], None]] = {}


def answers(fault: str) -> Callable[[Callable[[int, Any, bytes], None]], Callable[[int, Any, bytes], None]]:
    def keep(check: Callable[[int, Any, bytes], None]) -> Callable[[int, Any, bytes], None]:
        ANSWERS[fault] = check
        return check

    return keep


@answers("http502")
@answers("http500")
@answers("html200")
def _is_html(status: int, headers: Any, body: bytes) -> None:
    assert status in {502, 500, 200}
    assert headers["content-type"].startswith("text/html")
    _json_fails(body)


@answers("http503")
def _is_503(status: int, headers: Any, body: bytes) -> None:
    assert (status, headers["retry-after"]) == (503, "1")


@answers("truncated")
def _is_truncated(status: int, headers: Any, body: bytes) -> None:
    assert (status, body[:1]) == (200, b"[")
    _json_fails(body)


@answers("empty")
def _is_empty(status: int, headers: Any, body: bytes) -> None:
    assert (status, body) == (200, b"[]")


@answers("object")
def _is_object(status: int, headers: Any, body: bytes) -> None:
    assert isinstance(loads(body), dict)


@answers("wrong_types")
def _is_mistyped(status: int, headers: Any, body: bytes) -> None:
    assert [row["id"] for row in loads(body)] == ["one hundred"] * 2


@answers("huge")
def _is_huge(status: int, headers: Any, body: bytes) -> None:
    assert len(body) >= 1 << 20
    assert "content-length" not in headers


@answers("gzip_bomb")
def _is_bomb(status: int, headers: Any, body: bytes) -> None:
    assert headers["content-encoding"] == "gzip"
    assert loads(gzip.decompress(body)) == []
    assert len(gzip.decompress(body)) >= 1 << 20 > 100 * len(body)


@answers("gzip_twice")
def _is_bomb_twice(status: int, headers: Any, body: bytes) -> None:
    assert headers["content-encoding"] == "gzip, gzip"
    assert gzip.decompress(body) == bomb(1 << 20)


@pytest.mark.parametrize("fault", sorted(ANSWERS))
async def test_faults_that_answer(fault: str) -> None:
    """Each fault is sent as what it claims to be, once, and the next answer is right again."""
    async with calling(fault_size=1 << 20) as caller:
        caller.sim.fail_next(fault)
        ANSWERS[fault](*await caller.get("/projects"))
        assert [asked.fault for asked in caller.sim.requests] == [fault]
        assert (await caller.get("/projects"))[0] == 200


@asynccontextmanager
async def bare(caller: Caller) -> AsyncIterator[asyncio.StreamReader]:
    """A bare socket that asks once: clients ask again by themselves when a connection breaks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(caller.sim.url.rsplit(":", 1)[1]))
    head = f"GET /api/v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {caller.sim.token}"
    writer.write(head.encode() + b"\r\n\r\n")
    async with asyncio.timeout(5):
        yield reader
    writer.close()


async def test_connection_reset() -> None:
    """A reset comes instead of an answer, and only that connection is lost."""
    async with calling() as caller:
        caller.sim.fail_next("reset")
        async with bare(caller) as reader:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert [asked.status for asked in caller.sim.requests] == [0]
        assert (await caller.get("/projects"))[0] == 200


async def test_connection_cut() -> None:
    """A cut connection ends in good order with less than was announced."""
    async with calling() as caller:
        caller.sim.fail_next("cut")
        async with bare(caller) as reader:
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        announced = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        assert 0 < len(body) < int(announced.split(b":")[1])
        assert (await caller.get("/projects"))[0] == 200


async def test_hanging_request_delays_nothing() -> None:
    """A request that hangs neither holds the others up nor the end of the simulator."""
    arrived = asyncio.Event()

    async def note(asked: Asked) -> None:
        arrived.set()

    async with calling() as caller:
        caller.sim.fail_next("hang", path="/projects")
        caller.sim.between(before=note)
        hanging = asyncio.create_task(caller.get("/projects"))
        async with asyncio.timeout(5):
            await arrived.wait()
        assert (await caller.get("/opportunities"))[0] == 200
        assert not hanging.done()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_every_fault_is_covered() -> None:
    """No fault is without a test here."""
    assert set(ANSWERS) | {"reset", "cut", "hang"} == set(FAULTS)


async def test_faults_by_chance_are_seeded() -> None:
    """At a rate, the same seed spoils the same requests; only those whose path is named."""

    async def spoilt() -> list[str]:
        async with calling(faults=["http500", "empty"], fault_rate=0.4, fault_path="/projects") as caller:
            for _ in range(20):
                await caller.get("/projects")
                assert (await caller.get("/opportunities"))[0] == 200
            return [asked.fault for asked in caller.sim.requests]

    first = await spoilt()
    assert first == await spoilt()
    assert 4 <= len([fault for fault in first if fault]) <= 14


def test_bomb_is_valid_gzip() -> None:
    """The bomb unpacks without an error to a JSON array, a thousand times its size."""
    packed = bomb(8 << 20)
    plain = zlib.decompress(packed, zlib.MAX_WBITS | 16)
    assert loads(plain) == []
    assert len(plain) == (8 << 20) + 2
    assert len(packed) < 16 << 10


# --- the admin port --------------------------------------------------------------------------------------


async def test_orders_over_the_admin_port() -> None:
    """Orders are given by name, and answered with what they left in the log."""
    async with calling() as caller:
        status, entries = await caller.admin("/orders/update", record=101, amount="300000.00")
        assert status == 200
        assert entries[0]["type"] == "drum.opportunity.updated"
        assert entries[0]["after"] == {"amount": Decimal("300000.00")}
        assert (await caller.json("/opportunities"))[0]["amount"] == Decimal("300000.00")
        assert [entry["type"] for entry in (await caller.admin("/orders/win", record=101))[1]] == [
            "drum.opportunity.won",
            "drum.project.created",
        ]
        log = await caller.json("/log?after=1", base=caller.sim.admin_url)
        assert [entry["seq"] for entry in log] == [2, 3]


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("/orders/sell", {}, "there is no order sell"),
        ("/orders/win", {"record": 5}, "there is no record 5"),
        ("/orders/win", {"deal": 5}, "the order win does not take that"),
        ("/switches", {"sort": "size"}, "sort"),
        ("/switches", {"colour": "red"}, "colour"),
        ("/faults", {"fault": "flood"}, "no such fault: flood. There are: http502"),
        ("/step", {"n": 0}, "n is 0"),
    ],
)
async def test_bad_orders_are_explained(path: str, given: dict[str, Any], message: str) -> None:
    """What cannot be done is answered with 400 and the reason, and changes nothing."""
    async with calling() as caller:
        status, told = await caller.admin(path, **given)
        assert status == 400
        assert message in told["error"]
        assert len(caller.sim.log) == 0


async def test_the_rest_of_the_admin_port() -> None:
    """Switches, steps, faults and the log of requests are there too; nothing of it on the API's port."""
    async with calling() as caller:
        assert (await caller.admin("/switches", items_cap=1))[1]["items_cap"] == 1
        assert len(await caller.json("/projects")) == 1
        assert len((await caller.admin("/step", n=5))[1]) == 5
        assert caller.sim.log.transition == 5
        await caller.admin("/faults", fault="http502", times=2)
        assert [(await caller.get("/projects"))[0] for _ in range(3)] == [502, 502, 200]
        requests = await caller.json("/requests?after=2", base=caller.sim.admin_url)
        assert [asked["fault"] for asked in requests] == ["http502", ""]
        assert "win" in (await caller.json("/", base=caller.sim.admin_url))["orders"]
        assert (await caller.json("/switches", base=caller.sim.admin_url))["items_cap"] == 1
        assert (await caller.get("/log", base=caller.sim.url))[0] == 404


# --- every simulator ----------------------------------------------------------------------------------------

ENTRANCES = {
    "drum": ("/api/v1/opportunities", "authorization", "Bearer {}"),
    "close": ("/api/v1/opportunity/", "authorization", "Bearer {}"),
    "pipedrive": ("/api/v2/deals", "x-api-token", "{}"),
}
"""The first list of each kind, and how one shows one's token there."""


async def entered(caller: Caller, kind: str, token: str | None = None) -> tuple[int, Any, bytes]:
    path, header, form = ENTRANCES[kind]
    shown = form.format(caller.sim.token if token is None else token)
    return await caller.get(path, token="", base=caller.sim.url, **{header: shown})


def test_every_simulator_has_an_entrance() -> None:
    """No simulator is left out of what follows."""
    assert set(ENTRANCES) == set(SIMULATORS) == set(PORTS)


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_strangers_are_refused(kind: str) -> None:
    """The token that the simulator names is taken, any other is 401, and so is the main one once expired."""
    async with calling(kind, options=Options(records=8)) as caller:
        assert (await entered(caller, kind))[0] == 200
        assert (await entered(caller, kind, "wrong"))[0] == 401
        caller.sim.order("expire_token")
        assert (await entered(caller, kind))[0] == 401
        caller.sim.order("renew_token")
        assert (await entered(caller, kind))[0] == 200
        types = [entry.type for entry in caller.sim.log]
        assert types == ["poller.source.suspended", "poller.source.resumed"]


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_requests_stand_beside_the_truth(kind: str) -> None:
    """Each request says which entries of the log its answer shows."""
    async with calling(kind, options=Options(records=40)) as caller:
        for _ in range(5):
            before = (await entered(caller, kind))[2]
            caller.sim.life.steps(40)
            assert (await entered(caller, kind))[2] != before
            assert caller.sim.requests[-1].seq == caller.sim.log.seq > caller.sim.requests[-2].seq


@pytest.mark.parametrize(
    "fault", sorted(set(FAULTS) - {"reset", "cut", "hang", "huge", "gzip_bomb", "gzip_twice"})
)
@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_faults_spoil_every_api(kind: str, fault: str) -> None:
    """A fault spoils the one answer that it was meant for, in any API; a list that is emptied has an end."""
    async with calling(kind, options=Options(records=8)) as caller:
        right = (await entered(caller, kind))[2]
        caller.sim.fail_next(fault)
        status, _, body = await entered(caller, kind)
        assert body != right
        if fault == "empty":
            told = loads(body)
            assert (status, told if isinstance(told, list) else told["data"]) == (200, [])
        assert (await entered(caller, kind))[2] == right


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_the_same_seed_is_the_same_world(kind: str) -> None:
    """Two simulators of one seed and clock print the same bytes after the same steps, of two seeds others."""

    async def lived(seed: int) -> tuple[bytes, list[tuple[str, str, tuple[str, ...]]]]:
        options = Options(records=30, seed=seed, clock=Clock(1_800_000_000.0))
        async with calling(kind, options=options) as caller:
            caller.sim.life.steps(300)
            told = [(entry.subject, entry.type, entry.changed) for entry in caller.sim.log]
            return (await entered(caller, kind))[2], told

    assert await lived(4) == await lived(4) != await lived(5)


@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_lives_at_a_pace(kind: str) -> None:
    """At a pace the world moves by itself while it is served, and stops with it."""
    async with serve(kind, options=Options(records=40), pace=2_000) as sim:
        async with asyncio.timeout(10):
            while sim.log.transition < 50:
                await aiohttp_get(sim.admin_url + "/")
        assert sim.log.seq >= 50
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def aiohttp_get(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


async def test_unknown_kind() -> None:
    """A kind that is not there is refused by name."""
    with pytest.raises(ValueError, match="there is no simulator salesforce"):
        async with serve("salesforce"):
            pass


async def test_taken_port() -> None:
    """A port that is taken is an error at once."""
    async with serve("drum") as sim:
        port = int(sim.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="in use"):
            async with serve("drum", port=port):
                pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", sorted(SIMULATORS))
async def test_runs_until_it_is_told(kind: str, number: signal.Signals) -> None:
    """`simulate` says first where it is and with which token, and ends cleanly when it is told."""
    how = f"{kind!r}, port=0, admin_port=0, pace=20, records=20"
    code = f"from poller.simulators import simulate; simulate({how})"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
        assert line.startswith(f"{kind} at http://127.0.0.1:")
        assert "token " in line
        process.send_signal(number)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
