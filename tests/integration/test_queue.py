"""The queue's scripts, by themselves: once, under a fence, all or nothing, and not for ever."""

import pytest
from hookside import counts_of, event

from poller.errors import Fenced, StoreRefused
from poller.model import fields_of
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.letters import EndpointState, Meta
from poller.store.operators import EndpointAdmin
from poller.store.queue import ABANDONED_AFTER_S, KEPT_DEAD_S, Outcome, Place, Queue, Recovery

META = Meta(id="evt_1", type="drum.task.added", subject="task/1", time="", attempts=3, first=1.5)
NOW = 1_900_000_000.0


@pytest.fixture
def queue(connection: Connection, keys: Keys) -> Queue:
    """The queue of endpoint `hook`, held under fence 5."""
    return Queue(connection, keys, endpoint="hook", fence=5)


async def settle(
    queue: Queue, *outcomes: Outcome, batch: str = "b", counts: dict[str, int] | None = None
) -> None:
    place = Place(cursor="9-0", ordinal=9, holes=("3-0", "7-0"))
    await queue.settle("acme", batch=batch, place=place, counts=counts or {}, outcomes=outcomes)


async def test_a_settlement_is_one_step(queue: Queue) -> None:
    """Outcome, next attempt, place and counters are there together, byte for byte."""
    await settle(queue, Outcome("wait", "3-0", NOW, META, b'{ "a":\n1}'), counts={"delivered": 2})
    [letter] = await queue.waiting("acme")
    assert (letter.place, letter.at, letter.meta) == ("3-0", NOW, META)
    assert await queue.body("acme", "3-0") == b'{ "a":\n1}'
    place, _ = await queue.open("acme", start="now")
    assert place == Place(cursor="9-0", ordinal=9, holes=("3-0", "7-0"))


async def test_the_same_batch_counts_once(queue: Queue, connection: Connection, keys: Keys) -> None:
    """A settlement whose reply was lost is sent again: its counters do not rise twice."""
    for batch in ("b1", "b1", "b2"):
        await settle(queue, Outcome("done", "3-0"), batch=batch, counts={"delivered": 1})
    assert (await counts_of(connection, keys)).delivered == 2


async def test_nothing_is_written_under_an_old_fence(
    queue: Queue, connection: Connection, keys: Keys
) -> None:
    """Every writing script refuses a holder that was replaced."""
    newer = Queue(connection, keys, endpoint="hook", fence=6)
    await newer.open("acme", start="oldest")
    await newer.save(EndpointState(), [], turn=0)
    before = await connection.commands.hgetall(keys.place("acme", "hook"))
    with pytest.raises(Fenced, match="newer holder than fence 5"):
        await queue.open("acme", start="oldest")
    with pytest.raises(Fenced):
        await settle(queue, Outcome("wait", "3-0", NOW, META, b"{}"))
    with pytest.raises(Fenced):
        await queue.replay("acme", [], asked=Recovery(), after="1-0", upto="2-0")
    with pytest.raises(Fenced):
        await queue.sweep("acme", now=NOW)
    with pytest.raises(Fenced):
        await queue.save(EndpointState(failures=9), [], turn=0)
    assert await connection.commands.hgetall(keys.place("acme", "hook")) == before
    assert await queue.waiting("acme") == []


@pytest.mark.parametrize("spoilt", ["waiting", "tries", "dead"])
async def test_a_settlement_that_cannot_be_whole_is_not_begun(
    queue: Queue, connection: Connection, keys: Keys, spoilt: str
) -> None:
    """Lua does not roll back: with a key of the wrong type nothing at all is written."""
    await connection.commands.set(getattr(keys, spoilt)("acme", "hook"), "a string")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await settle(queue, Outcome("dead", "3-0", NOW, META, b"{}"))
    assert not await connection.commands.exists(keys.place("acme", "hook"))


async def test_dead_letters_are_buried_after_14_days(
    queue: Queue, connection: Connection, keys: Keys
) -> None:
    """Their bodies go with them, and what is younger or waits stays."""
    await settle(
        queue,
        Outcome("dead", "1-0", NOW, META, b"{}"),
        Outcome("dead", "2-0", NOW + 60, META, b"{}"),
        Outcome("wait", "3-0", NOW, META, b"{}"),
    )
    assert await queue.sweep("acme", now=NOW + KEPT_DEAD_S - 1) == 0
    assert await queue.sweep("acme", now=NOW + KEPT_DEAD_S + 1) == 1
    assert [each.place for each in await EndpointAdmin(connection, keys).dead("hook", "acme")] == ["2-0"]
    assert sorted(await connection.commands.hkeys(keys.tries("acme", "hook"))) == [b"2-0", b"3-0"]


async def test_however_many_are_dead_none_is_buried_early(
    queue: Queue, connection: Connection, keys: Keys
) -> None:
    """Fourteen days are promised to each: a flood of new ones does not crowd the older ones out."""
    many = {f"{n}-0": NOW + n / 1000 for n in range(1, 60_001)}
    await connection.commands.zadd(keys.dead("acme", "hook"), many)
    assert await queue.sweep("acme", now=NOW + KEPT_DEAD_S - 1) == 0
    assert await connection.commands.zcard(keys.dead("acme", "hook")) == len(many)


async def test_an_abandoned_endpoint_leaves_only_its_place(
    queue: Queue, connection: Connection, keys: Keys
) -> None:
    """Whatever holds bodies ends by itself once nobody serves the endpoint any more."""
    await settle(queue, Outcome("wait", "3-0", NOW, META, b"{}"), Outcome("dead", "1-0", NOW, META, b"{}"))
    await queue.sweep("acme", now=NOW)
    for key in (keys.waiting("acme", "hook"), keys.tries("acme", "hook"), keys.dead("acme", "hook")):
        assert 0 < await connection.commands.ttl(key) <= ABANDONED_AFTER_S
    assert await connection.commands.ttl(keys.place("acme", "hook")) == -1


@pytest.mark.parametrize(("start", "ordinal"), [("now", 3), ("oldest", 0)])
async def test_a_new_place_is_at_the_end_or_at_the_beginning(
    queue: Queue, connection: Connection, keys: Keys, start: str, ordinal: int
) -> None:
    """It is kept at once, and a later `from` does not move it."""
    ids = [await connection.commands.xadd(keys.events("acme"), dict(fields_of(event(n)))) for n in range(3)]
    place, _ = await queue.open("acme", start=start)  # type: ignore[arg-type]
    assert place == Place(cursor=ids[-1].decode() if start == "now" else "0-0", ordinal=ordinal)
    again, _ = await queue.open("acme", start="oldest" if start == "now" else "now")
    assert again == place


async def test_an_order_is_not_overwritten_by_what_was_decided_before_it(
    queue: Queue, connection: Connection, keys: Keys
) -> None:
    """What an operator asks between reading and saving is read first."""
    orders = await queue.orders()
    await EndpointAdmin(connection, keys).disable("hook")
    assert not await queue.save(EndpointState(failures=1), [], turn=orders.turn)
    orders = await queue.orders()
    assert (orders.want, orders.turn, orders.state.failures) == ("disabled", 1, 0)
    assert await queue.save(EndpointState(failures=1), [], turn=orders.turn)
    assert (await queue.orders()).want == ""


async def test_a_newer_order_to_recover_stands(queue: Queue, connection: Connection, keys: Keys) -> None:
    """Who is at an earlier one notes how far it is, or that it is done: that wipes no order given since."""
    await connection.commands.xadd(keys.events("acme"), dict(fields_of(event(1))))
    await queue.open("acme", start="oldest")
    admin = EndpointAdmin(connection, keys)
    await admin.recover_since("hook", ["acme"], since=1.0)
    first = await queue.recovery("acme")
    await admin.recover_since("hook", ["acme"], since=0.5)
    second = await queue.recovery("acme")
    await queue.replay("acme", [], asked=first, after="", upto="")
    assert await queue.recovery("acme") == second
    await queue.replay("acme", [], asked=second, after="", upto="")
    assert (await queue.recovery("acme")).after == ""
