"""A CRM that answers nonsense, or refuses: nothing is concluded, memory stays bounded, service goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import Running, home
from receiver import receiving
from redis.asyncio import Redis
from tales import Tale, show
from waiting import wait_until

from poller.model import loads
from poller.simulators import Options, serve
from poller.simulators.faults import FAULTS
from poller.store.keys import Keys

pytestmark = pytest.mark.full

NONSENSE = (
    "html200",
    "truncated",
    "cut",
    "wrong_types",
    "object",
    "empty",
    "huge",
    "gzip_bomb",
    "gzip_twice",
)
PATIENT = {"hang"}
"""It lasts as long as the caller's patience: 30 s."""
MEMORY_MB = 32.0 + 50.0
"""How much more the process may need at its worst than in good days: the largest body, and 50 MB."""


async def report(tale: Tale) -> dict[str, Any]:
    """What the service last said of the source, as `poller status` shows it."""
    client: Any = Redis.from_url(tale.url or tale.home.server_url() or "", socket_timeout=2)
    told = await client.get(Keys().report("acme"))
    await client.aclose()
    found: dict[str, Any] = loads(told) if told else {}
    return found


async def complaint(running: Running, after: int) -> str:
    """Wait until both lists were asked for again, and a sweep ended with a reason; gives it."""

    def reason() -> str:
        swept = running.logged("source.swept", complete=False)[after:]
        return swept[-1]["reason"] if len(swept) >= 2 else ""

    found: str = await wait_until(reason, "a sweep that ends with a reason", 30)
    return found


@pytest.mark.fault(10)
async def test_nonsense_is_believed_by_nobody(tmp_path: Path, figures: Callable[..., None]) -> None:
    """Each kind of bad answer ends the sweep with a reason; what moved meanwhile is told once, afterwards."""
    rows: list[tuple[Any, ...]] = []
    options = Options(records=60, seed=13)
    async with serve("drum", options=options, fault_size=500_000_000) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token}
        async with home(tmp_path, sources={"acme": acme}, receiver=receiver.url) as place:
            running = await place.run()
            tale = Tale(sim, place)
            await tale.baseline()
            usual_mb = running.memory_mb()
            for fault in NONSENSE:
                sim.set(fault_rate=1.0, faults=(fault,))
                window = tale.live(5)
                said = len(await tale.events())
                reason = await complaint(running, len(running.logged("source.swept", complete=False)))
                news = (await tale.events())[said:]
                assert [each["type"] for each in news if each["subject"] != "source/acme"] == []
                rows.append((fault, f"{running.memory_mb():.0f} MB", reason[:70]))
                sim.set(fault_rate=0.0, faults=())
                await tale.settle(window)
            peak_mb = running.memory_mb()
            verdict = await tale.verdict()
            running.terminate()
            assert await running.end() == 0
    show(("fault", "peak", "reason"), ("none", f"{usual_mb:.0f} MB", ""), *rows)
    figures(f"{', '.join(NONSENSE)}: 0 events, a reason each, {peak_mb - usual_mb:+.0f} MB", rounds=len(rows))
    verdict.check()
    assert peak_mb - usual_mb < MEMORY_MB


@pytest.mark.parametrize(("orders", "status"), [(("expire_token", "renew_token"), 401),
                                               (("archive_user", "revive_user"), 403)])  # fmt: skip
async def test_a_refused_token_suspends_the_source(
    tmp_path: Path, orders: tuple[str, str], status: int
) -> None:
    """401 and 403 are said once and conclude nothing; asked again by an operator, service goes on."""
    async with serve("drum", options=Options(records=30, seed=13)) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token}
        async with home(tmp_path, sources={"acme": acme}, receiver=receiver.url) as place:
            running = await place.run()
            tale = Tale(sim, place)
            await tale.baseline()
            sim.order(orders[0])

            async def times(verb: str) -> int:
                types = [event["type"] for event in await tale.events()]
                return types.count(f"poller.source.{verb}")

            async def is_suspended() -> bool:
                return await times("suspended") == 1 and (await report(tale)).get("state") == "suspended"

            await wait_until(is_suspended, "the suspension", 30)
            window = tale.live(10)
            for turn in (1, 2):
                asked = len(running.logged("source.suspended"))
                await tale.ask({"do": "poll"})
                await wait_until(
                    lambda asked=asked: len(running.logged("source.suspended")) > asked,
                    f"refusal {turn} after an operator's request",
                    30,
                )
            assert {each.status for each in list(sim.requests)[-2:]} == {status}
            assert await times("suspended") == 1
            assert not +(await tale.told())
            sim.order(orders[1])
            await tale.ask({"do": "poll"})
            await wait_until(lambda: times("resumed"), "the resumption", 30)
            await tale.settle(window)
            verdict = await tale.verdict()
            running.terminate()
            assert await running.end() == 0
            assert await tale.told()
    verdict.check()
    types = [event["type"] for event in verdict.events]
    assert (types.count("poller.source.suspended"), types.count("poller.source.resumed")) == (1, 1)


def test_every_fault_of_the_simulator_is_named_here() -> None:
    """A fault that is added to the simulator is tried here, or left out for a reason."""
    quick = {"http500", "http502", "http503", "reset"}  # no answer at all: tests/acceptance/test_truth_drum
    assert set(FAULTS) == {*NONSENSE, *PATIENT, *quick}
