"""The budget as its users meet it: classes, queue, refusals, probe, ramp, and what Redis may forget."""

import asyncio
import time

import pytest
import time_machine
from badwire import BadWire
from clocks import Clock
from faultproxy import fault_proxy
from realserver import RealServer
from waiting import wait_until

from poller.errors import SettingsError, StoreRefused, StoreUnavailable
from poller.store.budget import Budget, Grant, Granted, Wait
from poller.store.connection import Connection
from poller.store.keys import Keys

NOW = 1_795_000_000.0 - 1_795_000_000 % 300 + 100
"""100 s after a multiple of five minutes."""
W = 300.0


def of(
    store: Connection,
    source: str = "acme",
    *,
    limit: int = 240,
    window_s: float = W,
    granted: Granted | None = None,
) -> Budget:
    return Budget(
        store,
        Keys(),
        host="app.example",
        egress="default",
        limit=limit,
        window_s=window_s,
        source=source,
        granted=granted or Granted(clock=time.time),
    )


async def granted(budget: Budget, cls: str = "detail", n: int = 1, **more) -> Grant:
    grant = await budget.take(cls, n=n, deadline_s=more.pop("deadline_s", 15), **more)
    assert isinstance(grant, Grant), grant
    return grant


async def refused(budget: Budget, cls: str = "detail", n: int = 1, **more) -> Wait:
    wait = await budget.take(cls, n=n, deadline_s=15, **more)
    assert isinstance(wait, Wait), wait
    return wait


async def test_a_sweep_is_charged_at_once(connection: Connection) -> None:
    """A grant of n requests is n charges, seen at once by everybody on the host."""
    grant = await granted(of(connection), "sweep", 30)
    assert len(set(grant.ids)) == 30
    usage = await of(connection, "other").usage()
    assert (usage.used, usage.limit, usage.mood) == ({"sweep": 30}, 240, "open")


async def test_confirm_may_use_what_the_others_may_not(connection: Connection) -> None:
    """Sweeps and details leave a twentieth free; confirm takes it; then nobody gets anything."""
    budget = of(connection, limit=100)
    await granted(budget, "sweep", 95)
    await refused(budget, "detail")
    await granted(budget, "confirm", 5)
    wait = await refused(budget, "confirm")
    assert not wait.blocked
    assert 299 < wait.seconds <= 300.1


async def test_another_egress_is_another_budget(connection: Connection, keys: Keys) -> None:
    """Sources that are seen from another address do not share."""
    await granted(of(connection, limit=1), "confirm")
    other = Budget(connection, keys, host="app.example", egress="vpn", limit=1, window_s=W)
    await granted(other, "confirm")


async def test_the_smallest_limit_named_holds(connection: Connection) -> None:
    """A source with a larger budget is held to that of its neighbour on the host."""
    small, large = of(connection, "small", limit=10), of(connection, "large", limit=100)
    await granted(small, "confirm", 1)
    await granted(large, "confirm", 9)
    await refused(large, "confirm")
    assert (await large.usage()).limit == 10


async def test_budgets_of_other_windows_hold_together(fakestore: Connection) -> None:
    """ "10/1m" and "20/5m" on one host: both hold."""
    minute, five = of(fakestore, "a", limit=10, window_s=60), of(fakestore, "b", limit=20, window_s=300)
    with time_machine.travel(NOW, tick=False) as clock:
        sent = 0
        for _ in range(3):
            while isinstance(await minute.take("confirm", deadline_s=0.001), Grant):
                sent += 1
            assert isinstance(await five.take("confirm", deadline_s=0.001), Wait) or sent < 10
            clock.shift(61)
        assert sent <= 20


async def test_what_is_allowed_is_what_all_budgets_leave(fakestore: Connection) -> None:
    """ "60/1h" beside "240/5m" comes to 5 in five minutes: a pace of 240 would use up the hour in one."""
    hour, five = of(fakestore, "a", limit=60, window_s=3600), of(fakestore, "b", limit=240, window_s=300)
    assert (await five.name()).allowed == 240
    await hour.name()
    usage = await five.usage()
    assert (usage.limit, usage.learned, usage.allowed) == (240, 240, 5)
    assert (await hour.usage()).allowed == 60


async def test_a_sweep_larger_than_the_budget_comes_in_parts(connection: Connection) -> None:
    """More pages than the budget ever allows are granted in parts, instead of never."""
    assert len(await granted(of(connection, limit=20), "sweep", 500)) == 19


async def test_a_request_that_costs_more_than_the_budget_is_a_settings_error(connection: Connection) -> None:
    """What can never be sent is said at once, with the remedy."""
    with pytest.raises(SettingsError, match=r"costs 40.*raise `budget`"):
        await of(connection, limit=20).take("detail", cost=40, deadline_s=1)


async def test_costs_count(connection: Connection) -> None:
    """Requests of several units (Pipedrive's endpoints) use up as many."""
    budget = of(connection, limit=100)
    await granted(budget, "detail", 2, cost=40)
    await refused(budget, "detail", cost=40)
    await granted(budget, "detail", cost=15)
    assert (await budget.usage()).used == {"detail": 95}


async def test_a_request_counts_until_one_window_after_its_answer(fakestore: Connection) -> None:
    """Not from when it was sent: a slow answer holds its place longer."""
    budget = of(fakestore, limit=1)
    with time_machine.travel(NOW, tick=False) as clock:
        grant = await granted(budget, "confirm", deadline_s=60)
        clock.shift(20)
        assert await budget.settle(grant) == 0
        clock.shift(W)
        await refused(budget, "confirm")
        clock.shift(0.002)
        await granted(budget, "confirm")


async def test_a_request_without_answer_counts_from_its_deadline(fakestore: Connection) -> None:
    """It may have reached the host until then."""
    budget = of(fakestore, limit=1)
    with time_machine.travel(NOW, tick=False) as clock:
        await granted(budget, "confirm", deadline_s=60)
        clock.shift(W + 59.9)
        await refused(budget, "confirm")
        clock.shift(0.2)
        await granted(budget, "confirm")


async def test_wait_says_when(fakestore: Connection) -> None:
    """Asking again after the seconds that were named is granted, and not a moment later than needed."""
    budget = of(fakestore, limit=10)
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(10):
            await budget.settle(await granted(budget, "confirm"))
            clock.shift(1)
        wait = await refused(budget, "confirm", 3)
        clock.shift(wait.seconds - 0.01)
        await refused(budget, "confirm", 3)
        clock.shift(0.01)
        await granted(budget, "confirm", 3)


async def test_a_waiting_sweep_is_not_starved_by_details(fakestore: Connection) -> None:
    """Details of others leave what frees up to the sweep that asked first."""
    greedy, sweeper = of(fakestore, "greedy", limit=40), of(fakestore, "sweeper", limit=40)
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(38):
            await greedy.settle(await granted(greedy))
            clock.shift(1)
        wait = await refused(sweeper, "sweep", 10)
        clock.shift(0.01)
        waited = 0.01
        while isinstance(reply := await sweeper.take("sweep", n=10, deadline_s=15), Wait):
            await refused(greedy)
            clock.shift(reply.ask_again_s)
            waited += reply.ask_again_s
        assert waited == pytest.approx(wait.seconds, abs=1)


async def test_who_stops_asking_loses_the_place(fakestore: Connection) -> None:
    """A claimant that died holds the others up for seconds, not for a window."""
    dead, other = of(fakestore, "dead", limit=40), of(fakestore, "other", limit=40)
    with time_machine.travel(NOW, tick=False) as clock:
        await other.settle(await granted(other, "sweep", 30))
        await refused(dead, "sweep", 20)
        await refused(other)
        clock.shift(7.1)
        await granted(other)


async def test_retry_after_blocks_everybody_for_that_long(fakestore: Connection) -> None:
    """A 429 with Retry-After: nobody sends, settling says so, and afterwards exactly one probes."""
    one, two = of(fakestore, "one"), of(fakestore, "two")
    with time_machine.travel(NOW, tick=False) as clock:
        sweep = await granted(two, "sweep", 5)
        assert await one.refuse(retry_after_s=30) == 30
        assert await two.settle(sweep, 0) == 30
        wait = await refused(two, "confirm")
        assert (wait.seconds, wait.blocked) == (30, True)
        clock.shift(30)
        probe = await granted(two, "sweep", 20)
        assert (probe.probe, len(probe)) == (True, 1)
        assert (await refused(one, "confirm")).blocked
        assert await two.relax(probe)
        assert not (await granted(one)).probe


async def test_without_retry_after_to_the_next_multiple_of_the_window(fakestore: Connection) -> None:
    """By the server's Date, however wrong our clock; without a Date a whole window."""
    with time_machine.travel(NOW, tick=False):
        assert await of(fakestore).refuse(server_date=NOW + 7_000_150) == 300 - (100 + 7_000_150) % 300
    await fakestore.commands.flushall()
    with time_machine.travel(NOW, tick=False):
        assert await of(fakestore).refuse() == 300


async def test_refused_again_and_again(fakestore: Connection) -> None:
    """After the first wait 1, 2, 4 … windows, 30 minutes at most."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False) as clock:
        waits = [await budget.refuse(server_date=NOW)]
        for _ in range(5):
            clock.shift(waits[-1])
            probe = await granted(budget)
            assert probe.probe
            waits.append(await budget.refuse(server_date=NOW, grant=probe))
        assert waits == [200, 300, 600, 1200, 1800, 1800]


async def test_a_refusal_during_the_ramp_is_again(fakestore: Connection) -> None:
    """A probe that passed and a 429 soon after: the guess about its windows was wrong, so wait longer."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False) as clock:
        clock.shift(await budget.refuse(server_date=NOW))
        assert await budget.relax(await granted(budget))
        clock.shift(10)
        assert await budget.refuse(server_date=NOW) == 300


async def test_many_429_at_once_are_one_refusal(fakestore: Connection) -> None:
    """Answers to requests that were on their way together do not add up; the longest Retry-After holds."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False):
        straggler = await granted(budget)
        assert await budget.refuse(retry_after_s=10) == 10
        assert await budget.refuse(retry_after_s=5) == 10
        assert await budget.refuse() == 10
        assert await budget.refuse(retry_after_s=20, grant=straggler) == 20
        usage = await budget.usage()
        assert (usage.refusals, usage.learned, usage.mood) == (4, 192, "blocked")
        assert usage.blocked_until == NOW + 20


async def test_a_straggler_does_not_judge_the_probe(fakestore: Connection) -> None:
    """A 429 to a request from before the block, told while a probe is on its way, changes nothing."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False) as clock:
        straggler = await granted(budget)
        await budget.refuse(retry_after_s=10)
        clock.shift(10)
        probe = await granted(budget)
        assert await budget.refuse(grant=straggler) == 0
        assert await budget.relax(probe)


async def test_retry_after_of_nothing_is_no_hammer(fakestore: Connection) -> None:
    """ "Retry-After: 0", again and again, waits longer each time; one of years waits for a day."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False) as clock:
        waits = []
        for _ in range(4):
            waits.append(await budget.refuse(retry_after_s=0))
            clock.shift(waits[-1])
            await granted(budget)
        assert waits == [1, 2, 4, 8]
        assert await budget.refuse(retry_after_s=float("inf")) == 86_400


async def test_a_probe_that_died_is_replaced(fakestore: Connection) -> None:
    """A replica that took the probe and fell silent does not keep the host shut."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False) as clock:
        clock.shift(await budget.refuse(retry_after_s=10))
        assert (await granted(budget)).probe
        assert (await refused(budget)).blocked
        clock.shift(15)
        assert (await granted(budget)).probe


async def test_a_probe_without_a_verdict_lets_the_next_one_go(fakestore: Connection) -> None:
    """A probe that met no answer is settled without relax: the host stays shut, the next may probe."""
    budget = of(fakestore)
    with time_machine.travel(NOW, tick=False) as clock:
        clock.shift(await budget.refuse(retry_after_s=10))
        await budget.settle(await granted(budget))
        assert (await granted(budget)).probe


async def test_after_the_probe_comes_a_ramp(fakestore: Connection) -> None:
    """25, 50, 75, 100 % of the learned limit, a quarter of a window each (80, 84 and 88 here)."""
    budget = of(fakestore, limit=100)
    with time_machine.travel(NOW, tick=False) as clock:
        clock.shift(await budget.refuse(retry_after_s=400))
        await budget.relax(await granted(budget))
        allowed = []
        for _ in range(4):
            usage = await budget.usage()
            allowed.append((usage.allowed, usage.mood))
            clock.shift(75)
        assert allowed == [(21, "ramping"), (42, "ramping"), (63, "ramping"), (88, "open")]


async def test_a_sweep_waits_for_the_ramp_and_lets_the_others_go(fakestore: Connection) -> None:
    """A sweep larger than the ramp's step is told when the next step is, and holds nobody up meanwhile."""
    budget, other = of(fakestore, limit=100), of(fakestore, "other", limit=100)
    with time_machine.travel(NOW, tick=False) as clock:
        clock.shift(await budget.refuse(retry_after_s=400))
        await budget.relax(await granted(budget))
        clock.shift(5)
        assert (await refused(budget, "sweep", 40)).seconds == 70
        await granted(other)


async def test_the_learned_limit_recovers_slowly(fakestore: Connection) -> None:
    """A first 429 takes a fifth away; it comes back by 5 % a window; 503 teaches nothing."""
    budget = of(fakestore, limit=100)
    with time_machine.travel(NOW, tick=False) as clock:
        await budget.refuse(status=503, retry_after_s=1)
        assert (await budget.usage()).learned == 100
        clock.shift(2 * W)
        await budget.relax(await granted(budget))
        clock.shift(2 * W)
        await budget.refuse(retry_after_s=1)
        learned = []
        for _ in range(6):
            learned.append((await budget.usage()).learned)
            clock.shift(W)
        assert learned == [80, 84, 88, 92, 97, 100]


async def test_a_clock_that_goes_back_stops_nothing_and_forgets_nothing(fakestore: Connection) -> None:
    """Redis TIME goes back by an hour: what counted still counts, for as long as before."""
    budget = of(fakestore, limit=2)
    with time_machine.travel(NOW, tick=False) as clock:
        await budget.settle(await granted(budget, "confirm", 2))
        clock.shift(-3600)
        assert (await refused(budget, "confirm")).seconds == pytest.approx(300, abs=0.01)
        clock.shift(300.01)
        await granted(budget, "confirm")


async def test_a_clock_that_is_set_forth_makes_nothing_count_less(fakestore: Connection) -> None:
    """Redis TIME goes forth by an hour: what was just sent counts, a block holds, for as long as before."""
    elapsed = Clock(0.0)
    budgets = [of(fakestore, each, limit=4, granted=Granted(clock=elapsed)) for each in ("one", "two")]
    with time_machine.travel(NOW, tick=False) as clock:
        for budget in budgets:
            await budget.settle(await granted(budget, "confirm", 2))
        clock.shift(3600)
        waits = [(await refused(budget, "confirm")).seconds for budget in budgets]
        assert waits == pytest.approx([300, 300], abs=0.01)
        await budgets[0].refuse(retry_after_s=600)
        clock.shift(3600)
        assert (await refused(budgets[1], "confirm")).seconds == pytest.approx(600, abs=0.01)
        clock.shift(3600 + 600.01)
        elapsed.now += 600.01
        assert (await granted(budgets[1], "confirm")).probe


async def test_time_that_passes_is_no_clock_that_was_set(fakestore: Connection) -> None:
    """Whoever was away for hours, or heard late, keeps nobody from what is free."""
    elapsed = Clock(0.0)
    budget = of(fakestore, limit=2, granted=Granted(clock=elapsed))
    with time_machine.travel(NOW, tick=False) as clock:
        await budget.settle(await granted(budget, "confirm", 2))
        for seconds in (100.0, 100.0, 101.0):
            clock.shift(seconds + 1.5)
            elapsed.now += seconds
        await budget.settle(await granted(budget, "confirm", 2))
        clock.shift(36_000)
        elapsed.now += 36_000
        await granted(budget, "confirm", 2)


async def test_what_redis_forgot_is_charged_again(connection: Connection, keys: Keys) -> None:
    """A restarted server that lost its last second is told what was sent, before anything more is."""
    budget = of(connection, limit=10)
    await granted(budget, "confirm", 4)
    before = await _dump(connection, keys)
    await granted(budget, "confirm", 5)
    await _restore(connection, keys, before)
    await refused(budget, "confirm", 2)
    await granted(budget, "confirm", 1)
    assert (await budget.usage()).used == {"confirm": 10}


async def test_what_redis_forgot_is_charged_again_by_whoever_asks_next(
    connection: Connection, keys: Keys
) -> None:
    """Another source of the process, or the same one whose work began anew: what was sent stays counted."""
    had = Granted()
    await granted(of(connection, limit=10, granted=had), "confirm", 2)
    before = await _dump(connection, keys)
    await granted(of(connection, limit=10, granted=had), "confirm", 8)
    for source in ("other", "acme"):
        await _restore(connection, keys, before)
        await refused(of(connection, source, limit=10, granted=had), "confirm")
        assert (await of(connection, limit=10).usage()).used == {"confirm": 10}


async def test_a_block_that_redis_forgot_holds(connection: Connection, keys: Keys) -> None:
    """A restarted server that lost a refusal is told of it by who met it, before anything more is sent."""
    had = Granted()
    mine, other = (of(connection, each, granted=had) for each in ("acme", "other"))
    grant = await granted(mine)
    before = await _dump(connection, keys)
    await mine.refuse(retry_after_s=600, grant=grant)
    await _restore(connection, keys, before)
    for each in (other, mine):
        wait = await refused(each)
        assert wait.blocked
        assert wait.seconds == pytest.approx(600, abs=10)


async def test_a_take_that_was_on_its_way_gets_nothing_of_what_redis_forgot(
    connection: Connection, keys: Keys
) -> None:
    """Asked before a neighbour's grant and heard after it was lost, it is given the same units in vain."""
    had = Granted()
    await granted(of(connection, limit=10, granted=had), "confirm", 2)
    before = await _dump(connection, keys)
    stop = BadWire(connection).stop("other")
    waiting = asyncio.create_task(refused(of(connection, "other", limit=10, granted=had), "confirm", 8))
    await stop.held.wait()
    await granted(of(connection, limit=10, granted=had), "confirm", 8)
    await _restore(connection, keys, before)
    stop.go_on()
    await waiting
    await refused(of(connection, limit=10, granted=had), "confirm")


async def test_a_store_that_lost_everything_is_told_too(connection: Connection) -> None:
    """Even an empty server does not make us send more than the limit."""
    budget = of(connection, limit=10)
    await granted(budget, "confirm", 10)
    await connection.commands.flushall()
    await refused(budget, "confirm")


async def _dump(connection: Connection, keys: Keys) -> tuple[dict[bytes, bytes], dict[bytes, float]]:
    log, state = keys.budget("app.example", "default"), keys.blocked("app.example", "default")
    entries = dict(await connection.commands.zrange(log, 0, -1, withscores=True))
    return await connection.commands.hgetall(state), entries


async def _restore(
    connection: Connection, keys: Keys, before: tuple[dict[bytes, bytes], dict[bytes, float]]
) -> None:
    log, state = keys.budget("app.example", "default"), keys.blocked("app.example", "default")
    await connection.commands.delete(log, state)
    await connection.commands.hset(state, mapping=before[0])
    await connection.commands.zadd(log, before[1])


async def test_a_burst_of_takers_gets_the_limit_and_no_more(connection: Connection) -> None:
    """A hundred concurrent takes of several sources: exactly the limit is granted."""
    budgets = [of(connection, f"s{n}", limit=40) for n in range(4)]
    replies = await asyncio.gather(
        *(budgets[n % 4].take("confirm", deadline_s=15) for n in range(100)),
    )
    assert sum(isinstance(reply, Grant) for reply in replies) == 40


async def test_a_window_passes_on_the_real_clock(connection: Connection) -> None:
    """With the server's own clock too, what counted stops to count after its window."""
    budget = of(connection, limit=2, window_s=0.1)
    await budget.settle(await granted(budget, "confirm", 2, deadline_s=0.05))
    await refused(budget, "confirm")

    async def free() -> bool:
        return isinstance(await budget.take("confirm", deadline_s=0.05), Grant)

    await wait_until(free, "the window passes")


async def test_looking_at_the_usage_leaves_no_trace(connection: Connection) -> None:
    """`usage` of a budget that nobody used writes nothing."""
    usage = await of(connection).usage()
    assert (usage.used, usage.limit, usage.learned, usage.blocked_until) == ({}, 240, 240, None)
    assert await connection.commands.dbsize() == 0


async def test_every_key_ends(connection: Connection, keys: Keys) -> None:
    """Whatever was done, both keys have a TTL that covers what they must remember."""
    budget = of(connection)
    await budget.settle(await granted(budget, "sweep", 3))
    await budget.refuse(retry_after_s=3600)
    assert await connection.commands.pttl(keys.budget("app.example", "default")) > W * 1000
    assert await connection.commands.pttl(keys.blocked("app.example", "default")) > 86_400_000


async def test_a_lost_reply_is_charged_twice_at_most(redis_url: str, real_server: RealServer) -> None:
    """Leave is given all the same, what was answered is settled, and the sum stays that of the log."""
    async with fault_proxy(path=real_server.socket) as proxy:
        connection = Connection.open(proxy.url)
        mine = of(connection, limit=100, window_s=60)
        await granted(mine, "confirm", 1)
        for _ in range(5):
            proxy.drop_replies = 1
            grant = await mine.take("confirm", n=2, deadline_s=5)
            assert isinstance(grant, Grant)
            proxy.drop_replies = 1
            assert await mine.settle(grant) == 0
        log = await connection.commands.zcard(Keys().budget("app.example", "default"))
        assert log == 11  # the second time the same token is in the log already
        assert (await mine.usage()).used == {"confirm": log}
        await connection.close()


@pytest.mark.parametrize("retry_after_s", [600.0, None])
async def test_a_refusal_that_redis_did_not_hear_holds(
    redis_url: str, real_server: RealServer, retry_after_s: float | None
) -> None:
    """It is told before the next request is paid, whichever source of the process pays it."""
    had = Granted()
    async with fault_proxy(path=real_server.socket) as proxy:
        connection = Connection.open(proxy.url)
        mine, other = (of(connection, each, granted=had) for each in ("acme", "other"))
        grant = await granted(mine)
        proxy.reset = True
        with pytest.raises(StoreUnavailable):
            await mine.refuse(retry_after_s=retry_after_s, grant=grant)
        proxy.reset = False
        wait = await refused(other)
        assert wait.blocked
        assert wait.seconds == pytest.approx(retry_after_s or W, abs=10)
        assert (await refused(mine)).blocked
        assert (await mine.usage()).refusals == 1
        await connection.close()


async def test_a_limit_holds_while_its_source_sends_nothing(fakestore: Connection) -> None:
    """One that is paused for a day still names the smallest budget of the host."""
    with time_machine.travel(NOW, tick=False) as clock:
        small = of(fakestore, "small", limit=10)
        for _ in range(24):
            await small.name()
            clock.shift(3000)
        assert (await of(fakestore, limit=100).usage()).limit == 10
        clock.shift(4000)
        await granted(of(fakestore, limit=100), "confirm", 100)


async def test_without_redis_there_is_no_grant() -> None:
    """No budget, no calls."""
    store = Connection.open("unix:///nonexistent/poller-test.sock")
    with pytest.raises(StoreUnavailable):
        await of(store).take("confirm", deadline_s=1)
    await store.close()


async def test_a_foreign_key_is_refused_before_anything_is_written(
    connection: Connection, keys: Keys
) -> None:
    """A key of the wrong type stops the script before its first write."""
    log = keys.budget("app.example", "default")
    await connection.commands.set(log, "foreign", ex=60)
    with pytest.raises(StoreRefused):
        await of(connection).take("confirm", deadline_s=1)
    assert not await connection.commands.exists(keys.blocked("app.example", "default"))


@pytest.mark.parametrize(("limit", "window_s"), [(0, 300), (10, 0)])
async def test_a_budget_of_nothing_is_refused(fakestore: Connection, limit: int, window_s: float) -> None:
    """It would stop the source in silence."""
    with pytest.raises(ValueError, match="a budget needs"):
        of(fakestore, limit=limit, window_s=window_s)
