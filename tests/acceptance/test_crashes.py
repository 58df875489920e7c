"""kill -9 at random moments: nothing lost, nothing twice in the stream, one webhook-id for every repeat."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cluster import Cluster
from faultproxy import FaultProxy, fault_proxy
from realserver import RealServer
from staging import staged

pytestmark = pytest.mark.full

ON_A_CLUSTER, QUICK, LONG = 4, 50, 200
AT_ONCE, BLOWS_A_WINDOW = 20, 4
Figures = Callable[..., None]
Rounds = Callable[[int, int], int]


@pytest.mark.fault(1)
@pytest.mark.timeout(3600)
async def test_kill_9_at_random_moments(
    tmp_path: Path, ground: Cluster | None, rounds: Rounds, figures: Figures
) -> None:
    """The process dies at any moment of its work and is started again on the same directory: all is well."""
    most = rounds(ON_A_CLUSTER if ground else QUICK, LONG)
    url = ground.url if ground else ""
    async with staged(tmp_path, redis_url=url, ours=url) as stage:
        while stage.blows < most:
            window = stage.tale.live(AT_ONCE)
            for _ in range(BLOWS_A_WINDOW):
                await stage.moments.strike(stage.running.kill)
                await stage.restart()
                stage.blows += 1
            await stage.tale.settle(window)
        figures(stage.told(await stage.end()), rounds=stage.blows)


@pytest.mark.fault(3)
@pytest.mark.timeout(3600)
async def test_kill_9_of_the_server_too(
    tmp_path: Path, ground: Cluster | None, rounds: Rounds, figures: Figures
) -> None:
    """The server dies with its poller or without it: what was lost is found again, under the same id."""
    most = rounds(2 if ground else 6, 40)
    url = ground.url if ground else ""
    async with staged(tmp_path, redis_url=url, ours=url, seed=4) as stage:
        while stage.blows < most:
            if ground:
                await (
                    ground.caught_up()
                )  # a tail that reaches into the last window joins two changes into one
            window = stage.tale.live(AT_ONCE)
            await stage.moments.strike(ground.kill_master if ground else stage.place.kill_server)
            if stage.blows % 2:
                stage.running.kill()
                await stage.restart()
            stage.blows += 1
            if ground:
                await ground.heal()
            stage.tale.forget()
            await stage.tale.settle(window)
        figures(stage.told(await stage.end()), rounds=stage.blows)


@pytest.mark.fault(2)
@pytest.mark.timeout(3600)
async def test_lost_replies_of_redis(
    tmp_path: Path, real_server: RealServer, redis_url: str, rounds: Rounds, figures: Figures
) -> None:
    """Redis does what it was told and its reply is lost: nothing is done twice, and nothing stays open."""
    most = rounds(12, 1_000)
    async with (
        fault_proxy(path=real_server.socket) as proxy,
        staged(tmp_path, redis_url=proxy.url, ours=redis_url, seed=5) as stage,
    ):
        while proxy.dropped < most:
            window = stage.tale.live(AT_ONCE // 2)
            await stage.moments.strike(partial(_drop, proxy))
            await stage.tale.settle(window)
        stage.blows = proxy.dropped
        stopped = stage.running.logged("unit.stopped")
        told = f"{stage.told(await stage.end())}; {len(stopped)} began a unit anew"
        figures(told, rounds=stage.blows)


def _drop(proxy: FaultProxy) -> None:
    proxy.drop_replies += 1
