"""The main job, end to end in a process of its own: a Drum token in, typed and signed events out."""

from pathlib import Path

import pytest
from cluster import Cluster
from processes import home
from receiver import receiving
from tales import Tale, show
from waiting import wait_until

from poller.simulators import Options, serve

pytestmark = pytest.mark.full

STEPS, AT_ONCE = 1_000, 50
ON_A_CLUSTER = 300


@pytest.mark.timeout(300)
async def test_a_life_of_a_thousand_transitions_is_told_delivered_and_verified(
    tmp_path: Path, ground: Cluster | None
) -> None:
    """Each event once, none invented, all delivered and verified by libraries that know nothing of ours.

    On a cluster the master of all of it dies in the middle: then a delivery may be repeated.
    """
    url = ground.url if ground else ""
    steps = ON_A_CLUSTER if ground else STEPS
    async with serve("drum", options=Options(records=80, seed=7)) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token}
        redis = {"url": url} if url else {}
        async with home(tmp_path, sources={"acme": acme}, receiver=receiver.url, redis=redis) as place:
            running = await place.run()
            tale = Tale(sim, place, url=url)
            await tale.baseline()
            while tale.transitions < steps:
                if ground:
                    await ground.caught_up()  # what is lost with a master lies within one window
                window = tale.live(min(AT_ONCE, steps - tale.transitions))
                if ground and tale.transitions == steps // 2:
                    ground.kill_master()
                    tale.forget()
                await tale.settle(window)
            verdict = await tale.verdict()
            await wait_until(
                lambda: len(receiver.counts) == len(verdict.events), "every event at the receiver", 20
            )
            running.terminate()
            code = await running.end()
    show(
        ("transitions", "due", "told", "delivered", "twice"),
        (tale.transitions, len(tale.due), len(verdict.told), len(receiver.counts), receiver.repeats),
    )
    verdict.check(receiver)
    assert code == 0
    assert ground or receiver.repeats == 0
