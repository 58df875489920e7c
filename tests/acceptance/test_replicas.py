"""Two `poller run` on one Redis share the work and never commit over each other, however one of them ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from gate import Gate, gated
from processes import Home, Running, home
from realserver import RealServer
from receiver import Receiver, receiving
from tales import Tale
from waiting import wait_until

from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases

pytestmark = pytest.mark.full

LEASE_S = 2.0
AT_ONCE = 15
Figures = Callable[..., None]
Rounds = Callable[[int, int], int]


@dataclass
class Pair:
    """Two replicas, two accounts of which one lives, an endpoint, and who holds what."""

    sim: Any
    places: list[tuple[Home, Gate | None]]
    tale: Tale
    receiver: Receiver
    leases: Leases
    running: dict[int, Running] = field(default_factory=dict)

    async def holders(self) -> dict[str, int]:
        """Unit -> process id of the replica that holds it."""
        keys = Keys()
        units = {name: keys.source_lease(name) for name in ("acme", "beta")}
        units["hook"] = keys.endpoint_lease("hook")
        found = {unit: await self.leases.holder(key) for unit, key in units.items()}
        return {unit: int(each.split("-")[-2]) for unit, each in found.items() if each}

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
        """Start the replica that does not run."""
        busy = {running.log.parent for running in self.running.values()}
        place = next(place for place, _ in self.places if place.settings.parent not in busy)
        running = await place.run()
        self.running[running.pid] = running

    def gate(self, running: Running) -> Gate:
        """The way of this one to Redis."""
        return next(
            gate for place, gate in self.places if gate and place.settings.parent == running.log.parent
        )

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
async def paired(folder: Path, server: RealServer | Cluster) -> AsyncIterator[Pair]:
    """Two replicas that share the work, each with a way of its own to the same Redis; a cluster has none."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        sim = await enter(serve("drum", options=Options(records=40, seed=21)))
        still = await enter(serve("drum", options=Options(records=10, seed=22)))
        receiver = await enter(receiving())
        places: list[tuple[Home, Gate | None]] = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            gate = await enter(gated(server.socket)) if isinstance(server, RealServer) else None
            place = await enter(
                home(
                    folder / name,
                    sources={
                        source: {"base_url": each.url, "token": each.token}
                        for source, each in (("acme", sim), ("beta", still))
                    },
                    receiver=receiver.url,
                    redis={"url": (gate or server).url, "lease": f"{LEASE_S:g}s"},
                )
            )
            places.append((place, gate))
        connection = Connection.open(server.url)
        stack.push_async_callback(connection.close)
        leases = Leases(connection, holder="the test", ttl_s=1)
        tale = Tale(sim, places[0][0], url=server.url)
        pair = Pair(sim, places, tale, receiver, leases)
        await pair.another()
        await pair.another()
        await pair.shared()
        await tale.baseline()
        yield pair


@pytest.mark.fault(6)
async def test_a_death_is_taken_over_within_the_lease_and_a_second(
    tmp_path: Path, redis_url: str, real_server: RealServer, ground: Cluster | None, figures: Figures
) -> None:
    """kill -9 of either replica: the other holds all of its work within lease + 1 s, and nothing is lost."""
    took_s = []
    async with paired(tmp_path, ground or real_server) as pair:
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
    where = "on a cluster " if ground else ""
    figures(f"kill -9 {where}with a lease of {LEASE_S:g} s: taken over after {max(took_s):.1f} s at most")
    assert max(took_s) <= LEASE_S + 1.0


@pytest.mark.fault(6)
@pytest.mark.timeout(7200)
async def test_a_leader_that_slept_past_its_lease_commits_nothing(
    tmp_path: Path, redis_url: str, real_server: RealServer, rounds: Rounds, figures: Figures
) -> None:
    """Stopped in the midst of a commit, a leader is followed by the other; what it had sent is refused."""
    most = rounds(1, 300)
    replies: list[bytes] = []
    took_s: list[float] = []
    async with paired(tmp_path, real_server) as pair:
        for _ in range(most):
            held = await pair.shared()
            leader, other = pair.running[held["acme"]], pair.other(held["acme"])
            gate = pair.gate(leader)
            gate.shut()
            window = pair.tale.live(AT_ONCE)
            async with asyncio.timeout(20):
                await gate.held.wait()
            leader.stand()
            took_s.append(await pair.taken(other.pid))
            await pair.tale.settle(window)
            window = pair.tale.live(AT_ONCE)
            gate.open()
            await wait_until(lambda gate=gate: gate.replies, "the answer to the old commit", 10)
            replies.append(gate.replies.pop())
            leader.go_on()
            await pair.tale.settle(window)
        await pair.end()
    refused = sum(b"FENCED" in each for each in replies)
    told = f"{refused} of {most} stale commits refused, taken over after {max(took_s):.1f} s at most"
    figures(f"{told}; {pair.tale.transitions:,} transitions, 0 lost, 0 twice", rounds=most)
    assert refused == most
    assert max(took_s) <= LEASE_S + 1.0
