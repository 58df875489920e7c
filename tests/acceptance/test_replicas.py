"""Two `poller run` on one Redis share the work and never commit over each other, however one of them ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import Home, Running, home
from receiver import Receiver, receiving
from tales import Tale, show
from waiting import wait_until

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases

LEASE_S = 2.0
AT_ONCE = 15


@dataclass
class Pair:
    """Two replicas, two accounts of which one lives, an endpoint, and who holds what."""

    sim: Any
    place: Home
    tale: Tale
    receiver: Receiver
    leases: Leases
    running: dict[int, Running]

    async def holders(self) -> dict[str, int]:
        """Unit -> process id of the replica that holds it."""
        keys = Keys()
        units = {name: keys.source_lease(name) for name in ("acme", "beta")}
        units["hook"] = keys.endpoint_lease("hook")
        found = {unit: await self.leases.holder(key) for unit, key in units.items()}
        return {unit: int(each.name.split("-")[-2]) for unit, each in found.items() if each}

    async def shared(self) -> dict[str, int]:
        """Wait until everything is held, and by both; gives who holds what."""

        async def is_shared() -> dict[str, int] | None:
            found = await self.holders()
            return found if len(found) == 3 and set(found.values()) == set(self.running) else None

        held: dict[str, int] = await wait_until(is_shared, "both replicas to hold something", 20)
        return held

    async def taken(self, by: int) -> float:
        """Seconds until one replica holds everything."""
        began = time.monotonic()

        async def is_taken() -> bool:
            return await self.holders() == dict.fromkeys(("acme", "beta", "hook"), by)

        await wait_until(is_taken, f"process {by} to hold everything", 20)
        return time.monotonic() - began

    async def another(self) -> None:
        """Start one more replica."""
        running = await self.place.run()
        self.running[running.pid] = running

    def other(self, pid: int) -> Running:
        """The one that is not this."""
        return next(each for each in self.running.values() if each.pid != pid)

    async def end(self) -> None:
        """Stop both, judge."""
        verdict = await self.tale.verdict()
        ids = {event["id"] for event in verdict.events}
        await wait_until(lambda: self.receiver.counts.keys() >= ids, "every event at the receiver", 20)
        for running in self.running.values():
            running.terminate()
        assert [await running.end() for running in self.running.values()] == [0] * len(self.running)
        verdict.check()
        assert self.receiver.refused == []


@asynccontextmanager
async def paired(folder: Path, redis_url: str) -> AsyncIterator[Pair]:
    """Two replicas that share the work."""
    async with (
        serve("drum", options=Options(records=40, seed=21)) as sim,
        serve("drum", options=Options(records=10, seed=22)) as still,
        receiving() as receiver,
    ):
        redis = {"url": redis_url, "lease": f"{LEASE_S:g}s"}
        connection = Connection.open(redis_url)
        sources = {
            name: {"base_url": each.url, "token": each.token}
            for name, each in (("acme", sim), ("beta", still))
        }
        async with home(folder, sources=sources, receiver=receiver.url, redis=redis) as place:
            pair = Pair(
                sim,
                place,
                Tale(sim, place, url=redis_url),
                receiver,
                Leases(connection, holder="the test", ttl_s=1),
                {},
            )
            await pair.another()
            await pair.another()
            await pair.shared()
            await pair.tale.baseline()
            yield pair
        await connection.close()


async def test_a_death_is_taken_over_within_the_lease_and_a_second(tmp_path: Path, redis_url: str) -> None:
    """kill -9 of either replica: the other holds all of its work within lease + 1 s, and nothing is lost."""
    took_s = []
    async with paired(tmp_path, redis_url) as pair:
        for turn in range(2):
            window = pair.tale.live(AT_ONCE)
            held = await pair.shared()
            # In turn the one that polls the source, and the other.
            victim = pair.running[held["acme"]] if turn == 0 else pair.other(held["acme"])
            victim.kill()
            await pair.running.pop(victim.pid).end()
            took_s.append(await pair.taken(next(iter(pair.running))))
            await pair.tale.settle(window)
            await pair.another()
        await pair.shared()
        await pair.end()
    show(("lease s", "taken over after s"), (LEASE_S, ", ".join(f"{each:.2f}" for each in took_s)))
    assert max(took_s) <= LEASE_S + 1.0


@pytest.mark.timeout(3600)
async def test_a_leader_that_slept_past_its_lease_commits_nothing(
    tmp_path: Path, redis_url: str, pytestconfig: pytest.Config
) -> None:
    """SIGSTOP in the midst of a reading, SIGCONT after a take-over: the old page is never committed."""
    rounds = 300 if pytestconfig.getoption("--long") else 2
    fenced = 0
    async with paired(tmp_path, redis_url) as pair:
        for _ in range(rounds):
            held = await pair.shared()
            leader, other = pair.running[held["acme"]], pair.other(held["acme"])
            window = pair.tale.live(AT_ONCE)
            await _stopped_in_a_reading(pair.sim, leader)
            before = len(leader.logged("lease.lost")) + len(leader.logged("unit.stopped"))
            await pair.taken(other.pid)
            await pair.tale.settle(window)
            window = pair.tale.live(AT_ONCE)
            leader.go_on()
            await wait_until(
                lambda leader=leader, before=before: (
                    len(leader.logged("lease.lost")) + len(leader.logged("unit.stopped")) > before
                ),
                "the old leader to see that it is none",
                20,
            )
            fenced += 1
            await pair.tale.settle(window)
        await pair.end()
    show(
        ("rounds", "fenced off", "transitions", "due"),
        (rounds, fenced, pair.tale.transitions, len(pair.tale.due)),
    )


async def _stopped_in_a_reading(sim: Any, leader: Running) -> None:
    """Stop a process when the answer to its next list request is on the way."""
    stopped = asyncio.Event()

    async def stop(asked: Any) -> None:
        if not stopped.is_set() and not asked.path.rpartition("/")[2].isdecimal():
            leader.stand()
            stopped.set()

    sim.between(before=stop)
    async with asyncio.timeout(20):
        await stopped.wait()
    sim.between()
