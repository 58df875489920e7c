"""Pausing, probing, disabling, and what operators ask: resend, recover, enable, disable."""

import time
from functools import partial

import pytest
import structlog.testing
from clocks import Clock
from hookside import (
    Receiver,
    Side,
    attempts,
    counts_of,
    delivering,
    event,
    gauges,
    receiving,
    standing_of,
)
from waiting import wait_until

from poller.deliver.trial import example, send
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.operators import EndpointAdmin

HOUR = 3600.0


async def state(side: Side, word: str) -> None:
    assert side.endpoint is not None
    endpoint = side.endpoint
    await wait_until(lambda: gauges(endpoint).state == word, f"the endpoint to be {word}")


def more_or(side: Side, made: int, word: str) -> bool:
    """Tell whether there was another attempt, or the endpoint is as the word says."""
    assert side.endpoint is not None
    return len(side.told.attempts) > made or gauges(side.endpoint).state == word


async def until_probing(side: Side, clock: Clock) -> None:
    """Let time pass in steps of 2 s; what was in flight when probing began has ended, too."""
    assert side.endpoint is not None
    while gauges(side.endpoint).state != "probing":
        made = len(side.told.attempts)
        clock.forward(2)
        await wait_until(partial(more_or, side, made, "probing"), "another attempt, or probing")
    endpoint = side.endpoint
    await wait_until(lambda: gauges(endpoint).in_flight == 0, "the end of what was under way")


async def test_one_that_takes_nothing_is_probed_and_comes_back_with_everything(
    connection: Connection, keys: Keys
) -> None:
    """After a minute and over 20 attempts only probes go, for free; the first success sends everything."""
    clock = Clock()
    async with (
        receiving(Receiver(always=503)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(*(event(n) for n in range(60)))
        await until_probing(side, clock)
        tried = len(receiver.got)
        assert tried <= 70
        for pause in (30, 60, 120, 240, 480, 600, 600):
            made = len(side.told.attempts)
            clock.forward(pause + 0.1)
            await attempts(side, made + 1)
        probes = [each for each in side.told.attempts if each.outcome == "probe"]
        assert len(probes) == 7
        assert set(receiver.ids[tried:]) == {"evt_0"}
        receiver.got.clear()
        receiver.always = 200
        clock.forward(601)
        await wait_until(lambda: len(set(receiver.ids)) == 60, "all events")
        assert receiver.ids[0] == "evt_0"
        await side.stop()
        counts = await counts_of(connection, keys)
        assert (counts.waiting, counts.dead, counts.delivered) == (0, 0, 60)


async def test_an_endpoint_that_is_down_for_good_ends_disabled_with_its_events_parked(
    connection: Connection, keys: Keys
) -> None:
    """Nothing dies of an outage: after 72 h the endpoint is disabled, its events wait, and both are said."""
    clock = Clock()
    async with (
        receiving(Receiver(always=500)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock) as side,
    ):
        side.start()
        await side.publish(*(event(n) for n in range(30)))
        await until_probing(side, clock)
        while gauges(side.endpoint).state != "disabled":
            made = len(side.told.attempts)
            clock.forward(HOUR / 2)
            await wait_until(partial(more_or, side, made, "disabled"), "another probe, or to be disabled")
        await wait_until(lambda: len(side.told.types) == 2, "both to be said")
        assert side.told.types == ["poller.webhook.failing", "poller.webhook.disabled"]
        assert side.told.announced[1][0] == "acme"
        assert side.told.announced[1][2] == "webhook/hook"
        await side.stop()
        counts = await counts_of(connection, keys)
        assert (counts.dead, counts.delivered) == (0, 0)
        receiver.always = 200
        await EndpointAdmin(connection, keys).enable("hook")
        receiver.got.clear()
        side.start()
        await wait_until(lambda: len(set(receiver.ids)) == 30, "every event after enabling")
        await wait_until(lambda: "poller.webhook.recovered" in side.told.types, "the recovery to be said")
        await side.stop()


async def test_a_disabled_endpoint_stays_so_over_a_restart(connection: Connection, keys: Keys) -> None:
    """Disabling is kept in Redis, and so is the place."""
    admin = EndpointAdmin(connection, keys)
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        side.start()
        await admin.disable("hook")
        await state(side, "disabled")
        await side.kill()
        side.start()
        await side.publish(event(1))
        await state(side, "disabled")
        assert (await standing_of(connection, keys)).state.word(now=0) == "disabled"
        assert receiver.got == []
        await admin.enable("hook")
        await attempts(side, 1)
        await side.stop()


async def test_enable_from_now_passes_over_what_was_missed(connection: Connection, keys: Keys) -> None:
    """What was not read is skipped; what waited becomes a dead letter; what comes after is delivered."""
    admin = EndpointAdmin(connection, keys)
    async with (
        receiving(Receiver(answers={"evt_1": 500})) as receiver,
        delivering(connection, keys, receiver.url) as side,
    ):
        side.start()
        await side.publish(event(1))
        await attempts(side, 1)
        await admin.disable("hook")
        await state(side, "disabled")
        await side.publish(event(2), event(3))
        await admin.enable("hook", from_now=True)
        await state(side, "ok")
        await wait_until(lambda: _skipped(connection, keys), "the order to be obeyed")
        await side.publish(event(4))
        await attempts(side, 2)
        await side.stop()
        assert receiver.ids == ["evt_1", "evt_4"]
        counts = await counts_of(connection, keys)
        assert (counts.waiting, counts.dead, counts.lag) == (0, 1, 0)


async def _skipped(connection: Connection, keys: Keys) -> bool:
    return not await connection.commands.hexists(keys.endpoint("hook"), "skip")


async def test_a_dead_letter_can_be_resent_and_all_of_them(connection: Connection, keys: Keys) -> None:
    """Each goes again from its first attempt, with its own id, while the endpoint runs."""
    admin, clock = EndpointAdmin(connection, keys), Clock()
    async with (
        receiving(Receiver(always=500)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, schedule_s=(0.0,)) as side,
    ):
        side.start()
        await side.publish(event(1), event(2), event(3))
        await attempts(side, 3)
        await wait_until(lambda: _dead(connection, keys, 3), "three dead letters")
        letters = await admin.dead("hook", "acme")
        assert [each.event for each in letters] == [event(1), event(2), event(3)]
        receiver.always = 200
        found = await admin.find("hook", ["acme"], "evt_2", within_s=5)
        assert found == ("acme", letters[1].place)
        assert await admin.resend("hook", *found) == "dead"
        await attempts(side, 4)
        assert receiver.ids[-1] == "evt_2"
        assert await admin.recover_dead("hook", ["acme"]) == 2
        await attempts(side, 6)
        await wait_until(lambda: _dead(connection, keys, 0), "no dead letters")
        await side.stop()
        assert sorted(receiver.ids[-2:]) == ["evt_1", "evt_3"]  # two subjects, two connections: no order
        assert not await connection.commands.exists(keys.tries("acme", "hook"))


@pytest.mark.parametrize("ahead_s", [HOUR, -HOUR])
async def test_all_dead_letters_go_again_once_whoever_asks(
    connection: Connection, keys: Keys, ahead_s: float
) -> None:
    """An order from a machine with another clock revives each of them, and none of them twice."""
    admin, clock = EndpointAdmin(connection, keys), Clock(time.time() + ahead_s)
    async with (
        receiving(Receiver(always=500)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, schedule_s=(0.0,)) as side,
    ):
        side.start()
        await side.publish(event(1), event(2))
        await attempts(side, 2)
        await wait_until(lambda: _dead(connection, keys, 2), "two dead letters")
        clock.forward(1)
        assert await admin.recover_dead("hook", ["acme"]) == 2
        await attempts(side, 4)
        await wait_until(lambda: _obeyed(connection, keys), "the end of the recovery")
        await side.stop()
        assert len(side.told.attempts) == 4


async def _obeyed(connection: Connection, keys: Keys) -> bool:
    counts = await counts_of(connection, keys)
    return counts.dead == 2 and not counts.recovering


async def _dead(connection: Connection, keys: Keys, count: int) -> bool:
    return (await counts_of(connection, keys)).dead == count


async def test_an_event_that_was_delivered_can_be_resent(connection: Connection, keys: Keys) -> None:
    """As long as the stream has it, it is found by its id and goes out again unchanged."""
    admin = EndpointAdmin(connection, keys)
    async with receiving() as receiver, delivering(connection, keys, receiver.url) as side:
        side.start()
        await side.publish(event(1), event(2))
        await attempts(side, 2)
        found = await admin.find("hook", ["other", "acme"], "evt_1", within_s=5)
        assert found is not None
        assert await admin.resend("hook", *found) == "stream"
        await attempts(side, 3)
        await side.stop()
        assert [each.body for each in receiver.got if each.id == "evt_1"] == [event(1).body] * 2
        assert await admin.find("hook", ["acme"], "evt_77", within_s=5) is None
        assert await admin.resend("hook", "acme", "nonsense") is None


async def test_what_is_due_can_be_resent_from_its_first_attempt(connection: Connection, keys: Keys) -> None:
    """While an endpoint is disabled every wait ends; resending still begins the schedule anew."""
    admin, clock = EndpointAdmin(connection, keys), Clock()
    async with (
        receiving(Receiver(always=500)) as receiver,
        delivering(connection, keys, receiver.url, clock=clock, schedule_s=(0.0, 5.0)) as side,
    ):
        side.start()
        (place,) = await side.publish(event(1))
        await attempts(side, 1)
        await admin.disable("hook")
        await state(side, "disabled")
        clock.forward(10)
        assert await admin.resend("hook", "acme", place) == "waiting"
        await admin.enable("hook")
        await attempts(side, 2)
        await side.stop()
        assert [each.outcome for each in side.told.attempts] == ["later", "later"]
        assert [each.attempt for each in await admin.attempts("hook")] == [1, 1]


async def test_attempts_are_kept_without_secrets(connection: Connection, keys: Keys) -> None:
    """Status or fault, milliseconds, the answer's beginning and the next time; never a URL or a key."""
    with structlog.testing.capture_logs() as logs:
        async with (
            receiving(Receiver(script=[500])) as receiver,
            delivering(
                connection, keys, receiver.url + "/SECRET?k=SECRET", headers={"authorization": "SECRET"}
            ) as side,
        ):
            side.start()
            await side.publish(event(1))
            await attempts(side, 1)
            await side.stop()
            assert "SECRET" not in repr(side.settings)
    kept = await EndpointAdmin(connection, keys).attempts("hook")
    assert [(each.status, each.outcome, each.excerpt, each.attempt) for each in kept] == [
        (500, "later", "said 500", 1)
    ]
    assert kept[0].next == side.clock() + 5 or abs(kept[0].next - side.clock() - 5) < 1
    raw = await connection.commands.xrange(keys.attempts("hook"))
    assert "SECRET" not in f"{logs}{raw}"
    line = next(each for each in logs if each["event"] == "delivery.attempted")
    assert {"endpoint", "source", "event_id", "type", "attempt", "status", "ms", "next"} <= set(line)


async def test_a_trial_shows_what_was_sent_and_what_to_think_of_it(
    connection: Connection, keys: Keys
) -> None:
    """`webhooks test` needs no queue; its headers hold no secret, its verdict names the remedy."""
    async with (
        receiving(Receiver(script=[200, 401, 302])) as receiver,
        delivering(connection, keys, receiver.url, headers={"authorization": "SECRET"}) as side,
    ):
        verdicts = []
        for _ in range(3):
            sent = example("hook", now=side.clock(), chance=side.chance)
            trial = await send(side.settings, sent, now=side.clock())
            verdicts.append((trial.ok, trial.verdict.partition(";")[0]))
            assert "SECRET" not in f"{trial}"
            got = receiver.got[-1]
            assert trial.body == got.body
            assert trial.headers["authorization"] == "(set)"
            sent = {name: value for name, value in trial.headers.items() if name != "authorization"}
            assert sent.items() <= got.headers.items()
            assert len([name for name in sent if name.startswith("webhook-")]) == 3
    assert verdicts[0][0]
    assert verdicts[1:] == [(False, "401: refused"), (False, "302: redirects are not followed")]
    assert len(set(receiver.ids)) == 3
