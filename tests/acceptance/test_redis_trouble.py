"""Redis away, silent, full, loading, read-only: the service lives, says so, halves nothing, goes on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import realserver
from faultproxy import FaultProxy, fault_proxy
from realserver import RealServer
from redis.asyncio import Redis
from staging import Stage, staged
from waiting import wait_until

pytestmark = pytest.mark.full

QUICK_S, LONG_S = 6.0, 60.0
QUICK_ROUNDS, LONG_ROUNDS = 10, 100
UNREADY_S, BACK_S = 5.0, 10.0
MORE_MB = 20.0
ERRORS = (
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "NOSCRIPT No matching script. Please use EVAL.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MOVED 3999 127.0.0.1:6381",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
)
"""MISCONF is what a full disk looks like."""
Figures = Callable[..., None]
Rounds = Callable[[int, int], int]


class Doors:
    """The probes of a process, and how long each of its moods takes to come."""

    def __init__(self, stage: Stage) -> None:
        [line] = stage.running.logged("web.serving")
        self._url = line["url"]

    async def until(self, status: int, within_s: float) -> float:
        """Seconds until readiness says so; all the while the process is alive."""
        began, answers = time.monotonic(), list[httpx.Response]()
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=10) as http:

            async def said() -> bool:
                assert (await http.get("/healthz")).status_code == 200
                answers.append(await http.get("/readyz"))
                return answers[-1].status_code == status

            try:
                await wait_until(said, f"/readyz says {status}", within_s)
            except BaseException as exc:
                exc.add_note(f"it said: {answers[-1:]} {[each.text for each in answers[-1:]]}")
                raise
        return time.monotonic() - began


@pytest.mark.fault(4)
@pytest.mark.parametrize("how", ["reset", "half_open"])
@pytest.mark.timeout(600)
async def test_redis_is_gone(
    tmp_path: Path,
    redis_url: str,
    real_server: RealServer,
    pytestconfig: pytest.Config,
    figures: Figures,
    how: str,
) -> None:
    """Refused or silent: unready within 5 s, the CRM left alone, no growth; normal within 10 s after."""
    lasts_s = LONG_S if pytestconfig.getoption("--long") else QUICK_S
    async with (
        fault_proxy(path=real_server.socket) as proxy,
        staged(tmp_path, redis_url=proxy.url, ours=redis_url) as stage,
    ):
        doors, running = Doors(stage), stage.running
        await doors.until(200, 10)
        before_mb = running.memory_mb("VmRSS")
        setattr(proxy, how, True)
        began = time.monotonic()
        window = stage.tale.live(10)
        unready_s = await doors.until(503, UNREADY_S + 5)
        asked = stage.tale.asked()
        await wait_until(lambda: time.monotonic() - began > lasts_s, "the outage", lasts_s + 5)
        meanwhile, more_mb = stage.tale.asked() - asked, running.memory_mb("VmRSS") - before_mb
        setattr(proxy, how, False)
        ready_s = await doors.until(200, BACK_S + 5)
        await wait_until(lambda: stage.tale.asked() > asked + meanwhile, "the CRM is asked again", BACK_S)
        await stage.tale.settle(window)
        verdict = await stage.end()
    figures(
        f"{'refused' if how == 'reset' else 'silent'} for {lasts_s:.0f} s: unready after {unready_s:.1f} s, "
        f"{meanwhile} requests, {more_mb:+.0f} MB, ready {ready_s:.1f} s after, "
        f"{len(verdict.told)} told, 0 lost"
    )
    assert unready_s <= UNREADY_S
    assert ready_s <= BACK_S
    assert meanwhile <= 1
    assert more_mb < MORE_MB


@pytest.mark.fault(5)
@pytest.mark.timeout(1800)
async def test_redis_refuses_every_command(
    tmp_path: Path, redis_url: str, real_server: RealServer, rounds: Rounds, figures: Figures
) -> None:
    """Whatever it answers instead: no end, no half commit; what happened meanwhile is told once."""
    most = rounds(QUICK_ROUNDS, LONG_ROUNDS)
    backs = []
    async with (
        fault_proxy(path=real_server.socket) as proxy,
        staged(tmp_path, redis_url=proxy.url, ours=redis_url, seed=8) as stage,
    ):
        doors = Doors(stage)
        for error in ERRORS:
            window = stage.tale.live(10)
            await _answered(proxy, error, most)
            assert stage.running.lives, error
            backs.append(await doors.until(200, BACK_S))
            await stage.tale.settle(window)
        told = stage.told(await stage.end())
    names = ", ".join(each.partition(" ")[0] for each in ERRORS)
    figures(
        f"{names}, {most} times each: 0 ends, ready after {max(backs):.1f} s; {told}", rounds=proxy.errors
    )


async def _answered(proxy: FaultProxy, error: str, times: int) -> None:
    """Have so many commands answered with this."""
    goal = proxy.errors + times
    proxy.error = error
    await wait_until(lambda: proxy.errors >= goal, f"{times} times {error}", 120)
    proxy.error = ""


@pytest.mark.fault(5)
async def test_redis_forgets_its_scripts(
    tmp_path: Path, redis_url: str, real_server: RealServer, rounds: Rounds, figures: Figures
) -> None:
    """SCRIPT FLUSH at any moment is not even noticed."""
    most = rounds(QUICK_ROUNDS, LONG_ROUNDS)
    client: Any = Redis.from_url(redis_url)
    async with staged(tmp_path, redis_url=redis_url, ours=redis_url, seed=9) as stage:
        for turn in range(most):
            if turn % 5 == 0:
                window = stage.tale.live(10)
            asked = stage.tale.asked()
            await client.script_flush()
            await wait_until(lambda asked=asked: stage.tale.asked() > asked + 1, "some requests", 20)
            if turn % 5 == 4:
                await stage.tale.settle(window)
        assert stage.running.logged("unit.stopped") == []
        await stage.end()
    await client.aclose()
    figures("scripts forgotten: no unit stopped", rounds=most)


@pytest.mark.fault(17)
async def test_redis_at_its_limit(tmp_path: Path, rounds: Rounds, figures: Figures) -> None:
    """At maxmemory every write is refused before its first step; with more memory it goes on by itself."""
    most = rounds(QUICK_ROUNDS, LONG_ROUNDS)
    server = realserver.start()
    client: Any = Redis.from_url(server.url)
    try:
        async with staged(tmp_path, redis_url=server.url, ours=server.url, seed=10) as stage:
            window = stage.tale.live(20)
            await client.config_set("maxmemory", "1mb")

            async def refused() -> int:
                told = (await client.info("errorstats")).get("errorstat_OOM", {})
                return int(told.get("count", 0)) if int(told.get("count", 0)) >= most else 0

            times = await wait_until(refused, f"{most} refusals", 120)
            assert stage.running.lives
            await client.config_set("maxmemory", "0")
            began = time.monotonic()
            await stage.tale.settle(window)
            took_s = time.monotonic() - began
            told = stage.told(await stage.end())
    finally:
        await client.aclose()
        server.stop()
    figures(f"{times} writes refused; all told {took_s:.1f} s after, without a restart; {told}", rounds=times)


@pytest.mark.fault(17)
async def test_the_embedded_server_cannot_start_for_a_while(tmp_path: Path, figures: Figures) -> None:
    """Died, and its disk gives nothing back: it is tried again and again, and goes on from where it was."""
    async with staged(tmp_path, seed=12) as stage:
        await stage.tale.settle(stage.tale.live(10))
        [manifest] = stage.place.data.rglob("*.manifest")
        right = manifest.read_bytes()
        manifest.write_bytes(b"no manifest\n")
        stage.place.kill_server()
        window = stage.tale.live(10)
        await wait_until(lambda: stage.running.logged("store.embedded_down"), "it cannot be started", 60)
        assert stage.running.lives
        manifest.write_bytes(right)
        began = time.monotonic()
        stage.tale.forget()
        await stage.tale.settle(window)
        took_s = time.monotonic() - began
        await stage.end()
    figures(f"embedded server that could not start: all told {took_s:.1f} s after it could, 0 lost, 0 twice")
