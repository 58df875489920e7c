"""The connection: scripts run once, faults are translated."""

from poller.store.connection import Connection
from poller.store.keys import Keys


async def test_a_key_can_be_written_and_read(connection: Connection, keys: Keys) -> None:
    """What is written through the commands client is seen by the blocking one."""
    await connection.commands.hset(keys.head("acme"), "version", "1")
    assert await connection.blocking.hget(keys.head("acme"), "version") == b"1"
