"""Leases: one holder at a time, a fence that only grows, an even spread without talking."""

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases, Replicas, fair_share

KEY = Keys().source_lease("acme")


def of(connection: Connection, holder: str, ttl_s: float = 15) -> Leases:
    return Leases(connection, holder=holder, ttl_s=ttl_s)


async def test_one_holder_at_a_time(connection: Connection) -> None:
    """While one holds it, another gets None."""
    assert await of(connection, "a").acquire(KEY)
    assert await of(connection, "b").acquire(KEY) is None


async def test_acquiring_again_keeps_the_fence(connection: Connection) -> None:
    """Acquiring what is held is a renewal: the fence stays, the end moves."""
    leases = of(connection, "a")
    fence = await leases.acquire(KEY)
    assert await leases.acquire(KEY) == fence


async def test_a_release_frees_at_once_and_the_fence_grows(connection: Connection) -> None:
    """After a release another replica gets it at once, with a higher fence, and so on."""
    fences = []
    for name in ("a", "b", "a"):
        leases = of(connection, name)
        fence = await leases.acquire(KEY)
        assert fence is not None
        fences.append(fence)
        assert await leases.release(KEY, fence)
    assert fences == sorted(set(fences))


async def test_only_the_holder_releases_and_renews(connection: Connection) -> None:
    """Another's name, or an old fence, changes nothing."""
    fence = await of(connection, "a").acquire(KEY)
    assert fence is not None
    assert not await of(connection, "b").release(KEY, fence)
    assert not await of(connection, "b").renew(KEY, fence)
    assert not await of(connection, "a").release(KEY, fence - 1)
    assert not await of(connection, "a").renew(KEY, fence - 1)
    assert await of(connection, "b").holder(KEY) == "a"
    assert await connection.commands.hget(KEY, "fence") == str(fence).encode()


async def test_a_lease_that_ran_out_goes_to_the_next(connection: Connection) -> None:
    """A holder that fell silent loses it within its ttl, and then knows by its renewal."""
    first, second = of(connection, "a", ttl_s=0.05), of(connection, "b")
    old = await first.acquire(KEY)
    assert old is not None
    new = await wait_until(lambda: second.acquire(KEY), "the second replica takes over")
    assert new > old
    assert not await first.renew(KEY, old)
    assert await first.acquire(KEY) is None


async def test_a_late_renewal_holds_if_nobody_came(connection: Connection) -> None:
    """A lease that ran out unnoticed is renewed with the same fence: nobody else can have written."""
    leases = of(connection, "a", ttl_s=0.02)
    fence = await leases.acquire(KEY)
    assert fence is not None

    async def free() -> bool:
        return await leases.holder(KEY) is None

    await wait_until(free, "the lease runs out")
    assert await leases.renew(KEY, fence)


async def test_a_lease_ends_by_the_clock_of_redis(connection: Connection) -> None:
    """The end is by Redis TIME and not further away than the ttl."""
    await of(connection, "a").acquire(KEY)
    until_ms = await connection.commands.hget(KEY, "until")
    seconds, micros = await connection.commands.time()
    assert until_ms is not None
    assert 14 < int(until_ms) / 1000 - (seconds + micros / 1e6) <= 15


async def test_the_hash_is_what_commit_scripts_compare(connection: Connection) -> None:
    """HGET <lease> fence is the very number that was given, and stays after a release, without a TTL."""
    leases = of(connection, "a")
    fence = await leases.acquire(KEY)
    assert fence is not None
    assert await connection.commands.hget(KEY, "fence") == str(fence).encode()
    await leases.release(KEY, fence)
    assert await connection.commands.hgetall(KEY) == {b"fence": str(fence).encode()}
    assert await connection.commands.pttl(KEY) == -1


async def test_a_clock_that_goes_back_frees_within_the_ttl(fakestore: Connection) -> None:
    """After Redis TIME went back by an hour a dead holder keeps the lease for one ttl, not for an hour."""
    with time_machine.travel(1_795_000_000, tick=False) as clock:
        old = await of(fakestore, "a").acquire(KEY)
        assert old is not None
        clock.shift(-3600)
        assert await of(fakestore, "b").acquire(KEY) is None
        clock.shift(15.1)
        new = await of(fakestore, "b").acquire(KEY)
        assert new is not None
        assert new > old


async def test_a_fence_lost_with_the_tail_is_not_given_again(fakestore: Connection) -> None:
    """The server forgets an acquisition (AOF tail): the next fence is still above the lost one."""
    with time_machine.travel(1_795_000_000, tick=False) as clock:
        lost = await of(fakestore, "a").acquire(KEY)
        assert lost is not None
        await fakestore.commands.delete(KEY)
        clock.shift(0.5)
        given_next = await of(fakestore, "b").acquire(KEY)
        assert given_next is not None
        assert given_next > lost


async def test_heartbeats_tell_who_lives_and_what_they_take(connection: Connection, keys: Keys) -> None:
    """Each replica sees all living ones with their units; one that leaves is gone at once."""
    a = Replicas(connection, keys, me="a", ttl_s=15)
    b = Replicas(connection, keys, me="b", ttl_s=15)
    assert await a.beat({"source/acme"}) == {"a": frozenset({"source/acme"})}
    expected = {"a": frozenset({"source/acme"}), "b": frozenset({"source/acme", "webhook/x"})}
    assert await b.beat({"source/acme", "webhook/x"}) == expected
    await a.leave()
    assert set(await b.beat([])) == {"b"}


async def test_the_silent_are_forgotten(connection: Connection, keys: Keys) -> None:
    """A replica without a heartbeat for its time is no longer counted, and its field is gone."""
    await Replicas(connection, keys, me="dead", ttl_s=15).beat([])
    other = Replicas(connection, keys, me="b", ttl_s=0.01)

    async def alone() -> bool:
        return set(await other.beat([])) == {"b"}

    await wait_until(alone, "the silent replica is forgotten")
    assert set(await connection.commands.hkeys(keys.replicas())) == {b"b"}


names = st.sets(st.text("abcdefgh0123456789-", min_size=1, max_size=8), min_size=1, max_size=8)


@given(names, st.sets(st.text(min_size=1, max_size=8), max_size=40))
def test_every_unit_has_one_taker_and_shares_are_even(replicas: set[str], units: set[str]) -> None:
    """Shares are disjoint, cover everything, and differ by one at most."""
    alive = dict.fromkeys(replicas, units)
    shares = [fair_share(alive, me=name) for name in replicas]
    assert sum(map(len, shares)) == len(units)
    assert frozenset().union(*shares) == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.integers(0, 9).map(str)), min_size=1))
def test_a_unit_goes_to_one_who_knows_it(alive: dict[str, set[str]]) -> None:
    """With different settings every unit still has exactly one taker, and one that can take it."""
    shares = {name: fair_share(alive, me=name) for name in alive}
    for name, share in shares.items():
        assert share <= alive[name]
    assert sum(map(len, shares.values())) == len(set().union(*alive.values()))


def test_a_death_moves_little() -> None:
    """When one of five replicas dies, under half of what the others hold changes hands."""
    units = [f"source/{n}" for n in range(100)]
    before = dict.fromkeys("abcde", units)
    after = dict.fromkeys("abcd", units)
    moved = sum(len(fair_share(before, me=name) - fair_share(after, me=name)) for name in "abcd")
    assert moved < 40


@pytest.mark.parametrize(("holder", "ttl_s"), [("", 15), ("a", 0), ("a", -1)])
async def test_a_lease_needs_a_name_and_a_time(fakestore: Connection, holder: str, ttl_s: float) -> None:
    """A nameless or endless lease is refused where it is made."""
    with pytest.raises(ValueError, match="ttl_s"):
        Leases(fakestore, holder=holder, ttl_s=ttl_s)
