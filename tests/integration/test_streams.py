"""Reading the streams without a place of one's own."""

import asyncio
import gc

from hookside import event
from waiting import wait_until

from poller.model import Entry, fields_of
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.streams import Streams


async def test_a_follower_steps_over_what_is_none_of_ours(connection: Connection, keys: Keys) -> None:
    """Somebody else's entry is read once; the event after it comes, and nobody spins in between."""
    stream, asked = keys.events("acme"), 0
    execute = connection.blocking.execute_command

    async def counted(*args: object, **options: object) -> object:
        nonlocal asked
        asked += 1
        assert asked < 20, "the same entry is read again and again"
        return await execute(*args, **options)

    connection.blocking.execute_command = counted  # type: ignore[method-assign, assignment]
    streams = Streams(connection, keys)
    async with asyncio.timeout(20), streams.following(["acme"], places={"acme": "0-0"}, start="0-0") as news:
        for foreign in ({"foreign": "entry"}, {"event": "of somebody else"}):
            before = asked
            await connection.commands.xadd(stream, foreign)
            await wait_until(lambda before=before: asked > before, "the follower to read on")
        await connection.commands.xadd(stream, dict(fields_of(event(1))))
        told = await news.get()
        assert isinstance(told, Entry)
        assert told.event.id == "evt_1"


async def test_a_follower_that_ends_at_once_leaves_nothing_begun(connection: Connection, keys: Keys) -> None:
    """Neither while it is about to look for sources nor while it is about to read one; a warning fails it."""
    streams = Streams(connection, keys)
    for turns in range(6):
        async with streams.following(["acme"], places={}, start="0-0"):
            for _ in range(turns):
                await asyncio.sleep(0)
        gc.collect()
    assert {task.get_coro().__qualname__ for task in asyncio.all_tasks()}.isdisjoint({"_told"})
