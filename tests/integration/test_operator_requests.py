"""What operators ask of a source is obeyed, whatever becomes of a reply or of who was asked."""

import pytest
from faultproxy import fault_proxy
from realserver import RealServer

from poller.errors import StoreUnavailable
from poller.model import dumps
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys

PAUSE, POLL = dumps({"do": "pause"}), dumps({"do": "poll"})


async def test_a_request_stays_until_it_was_obeyed(connection: Connection, keys: Keys) -> None:
    """Who dies over a request leaves it to the next; in order, and each once where nobody dies."""
    for request in (PAUSE, POLL, POLL):
        await snapshots.ask(connection, keys, "acme", request)
    assert await snapshots.Requests(connection, keys, "acme").next() == PAUSE
    requests = snapshots.Requests(connection, keys, "acme")
    assert [await requests.next() for _ in range(4)] == [PAUSE, POLL, POLL, None]
    assert await snapshots.Requests(connection, keys, "acme").next() is None


async def test_what_is_no_request_is_passed_over(connection: Connection, keys: Keys) -> None:
    """Something else in the list keeps nobody from the requests behind it."""
    for text in (b"{", b"[]", PAUSE):
        await snapshots.ask(connection, keys, "acme", text)
    assert await snapshots.Requests(connection, keys, "acme").next() == PAUSE


async def test_a_lost_reply_loses_no_request(real_server: RealServer, redis_url: str, keys: Keys) -> None:
    """Whichever reply is lost, a request that was not obeyed is given."""
    async with fault_proxy(path=real_server.socket) as proxy:
        connection = Connection.open(proxy.url)
        for request in (PAUSE, POLL):
            await snapshots.ask(connection, keys, "acme", request)
        requests = snapshots.Requests(connection, keys, "acme")
        proxy.drop_replies = 1
        assert await requests.next() == PAUSE  # a reading is sent again
        proxy.drop_replies = 1
        with pytest.raises(StoreUnavailable):
            await requests.next()  # its removal is not: the unit begins anew
        assert await snapshots.Requests(connection, keys, "acme").next() == POLL
        await connection.close()
