"""What nobody has read yet stays in the stream as long as it was promised."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from website import event

from poller.model import fields_of
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S
COUNT = 2_000


@pytest.mark.fault(15)
async def test_a_group_an_hour_behind_misses_nothing(
    connection: Connection, keys: Keys, figures: Callable[..., None]
) -> None:
    """Of entries an hour old none is trimmed within the retention, and all that are older than it go."""
    redis: Any = connection.commands
    stream = keys.events("acme")
    hour_ago, long_ago = (int((time.time() - age_s) * 1000) for age_s in (HOUR_S, WEEK_S + HOUR_S))
    for number in range(COUNT):
        await redis.xadd(stream, dict(fields_of(event(number))), id=f"{long_ago}-{number}")
    for number in range(COUNT):
        await redis.xadd(stream, dict(fields_of(event(number))), id=f"{hour_ago}-{number}")
    await redis.xgroup_create(stream, "behind", id=f"{hour_ago - 1}-0")
    gone = await snapshots.trim(connection, keys, "acme", keep_s=WEEK_S)
    [[_, entries]] = await redis.xreadgroup("behind", "c", {stream: ">"}, count=2 * COUNT)
    figures(f"an hour behind: {COUNT - len(entries)} of {COUNT:,} unread trimmed in a retention of 7 days")
    assert len(entries) == COUNT
    assert COUNT - 200 < gone <= COUNT  # approximate: whole nodes of the stream go


async def test_the_servers_clock_says_what_is_old(redis_url: str, keys: Keys) -> None:
    """Ids are made by it: a poller whose own clock is a week ahead trims nothing that is young."""
    connection = Connection.open(redis_url)
    redis: Any = connection.commands
    for number in range(300):
        await redis.xadd(keys.events("acme"), dict(fields_of(event(number))))
    with time_machine.travel(time.time() + WEEK_S, tick=False):
        assert await snapshots.trim(connection, keys, "acme", keep_s=HOUR_S) == 0
    assert await redis.xlen(keys.events("acme")) == 300
    await connection.close()
