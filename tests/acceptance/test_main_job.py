"""The main job, end to end in a process of its own: a Drum token in, typed and signed events out."""

from pathlib import Path

import pytest
from processes import home
from receiver import receiving
from tales import Tale, show
from waiting import wait_until

from poller.simulators import Options, serve

pytestmark = pytest.mark.full

STEPS, AT_ONCE = 1_000, 50


async def test_a_life_of_a_thousand_transitions_is_told_delivered_and_verified(tmp_path: Path) -> None:
    """Each event once, none invented, all delivered and verified by libraries that know nothing of ours."""
    async with serve("drum", options=Options(records=80, seed=7)) as sim, receiving() as receiver:
        acme = {"base_url": sim.url, "token": sim.token}
        async with home(tmp_path, sources={"acme": acme}, receiver=receiver.url) as place:
            running = await place.run()
            tale = Tale(sim, place)
            await tale.baseline()
            while tale.transitions < STEPS:
                await tale.settle(tale.live(min(AT_ONCE, STEPS - tale.transitions)))
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
    assert receiver.repeats == 0
