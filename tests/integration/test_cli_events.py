"""`poller events`: what it prints of the streams, and how it follows them."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from commands import Commands
from rich.text import Text

from poller.cli.output import event_line
from poller.errors import StoreUnavailable
from poller.model import Event, dumps, fields_of, loads, rfc3339
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.letters import position
from poller.store.streams import AT_ONCE, Streams

ROOT = Path(__file__).parents[2]


def made(number: int, *, type_: str = "drum.opportunity.updated", **object_: Any) -> Event:
    """An event as the stream holds it."""
    body = {
        "specversion": "1.0",
        "id": f"evt_{number:040x}",
        "source": "/drum/acme",
        "type": type_,
        "subject": f"opportunity/{number}",
        "time": rfc3339(1_800_000_000 + number),
        "datacontenttype": "application/json",
        "data": {
            "object": {"id": number, "amount": 25, **object_},
            "previous": {"amount": 20},
            "changed": ["amount"],
            "observed": {},
            "deal": {"name": f"Deal {number}", "client": "Wayne", "amount": "250000.00", "currency": "EUR"},
            "revision": 1,
        },
    }
    return Event(
        id=str(body["id"]), type=type_, subject=str(body["subject"]), time=str(body["time"]), body=dumps(body)
    )


async def put(connection: Connection, keys: Keys, source: str, *events: Event, at: str = "*") -> None:
    """Write events into a source's stream."""
    client: Any = connection.commands
    await client.sadd(keys.sources(), source)
    for each in events:
        await client.xadd(keys.events(source), dict(fields_of(each)), id=at)


async def test_the_last_events(call: Commands, redis_url: str, keys: Keys) -> None:
    """Without options the last 50 are shown, one readable line each, and it is said that there are more."""
    connection = Connection.open(redis_url)
    await put(connection, keys, "acme", *map(made, range(1, 61)))
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("events")
    assert said.code == 0
    assert len(said.lines) == 50
    assert "these are the last 50; --since 24h shows more" in said.err
    assert said.lines[0].split()[1:4] == ["drum.opportunity.updated", "opportunity/11", "·"]
    assert "Deal 60 · Wayne · 250,000.00 EUR  amount: 20 → 25" in said.lines[-1]
    await connection.close()


async def test_json_lines_are_the_events_themselves(call: Commands, redis_url: str, keys: Keys) -> None:
    """--json prints the very CloudEvents, one a line; --type and --source choose among them."""
    connection = Connection.open(redis_url)
    won = made(7, type_="drum.opportunity.won")
    await put(connection, keys, "acme", made(1), won)
    await put(connection, keys, "other", made(2, type_="drum.opportunity.won"))
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("events", "--json", "--type", "*.won", "--source", "acme")
    assert said.lines == [won.body.decode()]
    assert len((await call("events", "--json", "--type", "*.won")).lines) == 2
    assert (
        await call("events", "--type", "close.*")
    ).err.strip() == "no such event yet; --follow waits for one"
    await connection.close()


async def test_a_type_that_does_not_exist_is_told(call: Commands, redis_url: str) -> None:
    """Whoever waits for a type that is misspelt is told the nearest one, not only that nothing has come."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("events", "--type", "drum.oportunity.won", "--type", "*.won")
    assert said.err.splitlines()[0] == (
        'warning: there is no event type "drum.oportunity.won"; the nearest is "drum.opportunity.won"; '
        "`poller schema` lists them"
    )
    assert len(said.err.splitlines()) == 2


async def test_since(call: Commands, redis_url: str, keys: Keys) -> None:
    """--since shows all sources in the order of detection, and nothing older."""
    connection = Connection.open(redis_url)
    now_ms = position(await Streams(connection, keys).start())[0]
    for number in range(1, 500):
        source = "acme" if number % 2 else "other"
        await put(connection, keys, source, made(number), at=f"{now_ms - 1_000_000 + number * 1000}-0")
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    said = await call("events", "--json", "--since", "15m")
    ids = [loads(line)["data"]["object"]["id"] for line in said.lines]
    assert ids == list(range(ids[0], 500))
    assert 100 <= ids[0] <= 105
    await connection.close()


async def test_usage(call: Commands, redis_url: str) -> None:
    """A wrong duration or an unknown source is a usage error that says what is meant."""
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    wrong = await call("events", "--since", "yesterday")
    assert wrong.code == 2
    assert '--since "yesterday": ' in wrong.err
    unknown = await call("events", "--source", "acne")
    assert unknown.code == 2
    assert 'there is no source "acne"; the nearest is "acme"' in unknown.err


async def test_following(connection: Connection, keys: Keys) -> None:
    """Following gives what comes from every source, of one that appears later too, and nothing twice."""
    streams = Streams(connection, keys)
    await put(connection, keys, "acme", made(1))
    start = await streams.start()
    async with asyncio.timeout(10), streams.following((), places={"acme": "0-0"}, start=start) as news:
        first = await news.get()
        assert not isinstance(first, Exception)
        assert first.event == made(1)
        await put(connection, keys, "later", made(2))
        second = await news.get()
        assert not isinstance(second, Exception)
        assert (second.source, second.event) == ("later", made(2))
        await put(connection, keys, "acme", made(3))
        third = await news.get()
        assert not isinstance(third, Exception)
        assert third.event == made(3)
        assert news.empty()


async def test_following_while_redis_is_away(keys: Keys, tmp_path: Path) -> None:
    """Where Redis is away following says so once, and does not end."""
    connection = Connection.open(f"unix://{tmp_path}/none")
    async with Streams(connection, keys).following((), places={}, start="0-0") as news:
        async with asyncio.timeout(5):
            assert isinstance(await news.get(), StoreUnavailable)
        assert news.empty()
    await connection.close()


async def test_pages_are_read_to_their_end(connection: Connection, keys: Keys) -> None:
    """A stream of many pages is read whole, forwards and backwards."""
    await put(connection, keys, "acme", *map(made, range(1, 2 * AT_ONCE + 2)))
    streams = Streams(connection, keys)
    assert len([each async for each in streams.since("acme", after="0-0")]) == 2 * AT_ONCE + 1
    assert len(await streams.newest("acme")) == AT_ONCE


async def test_follow_until_ctrl_c(call: Commands, redis_url: str, keys: Keys) -> None:
    """`--follow` prints what comes and is done on Ctrl-C: exit code 0, without a word."""
    connection = Connection.open(redis_url)
    await put(connection, keys, "acme", made(1))
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "poller", "events", "--follow", "--since", "1h", "--config",
        str(call.config), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert b"Deal 1" in await process.stdout.readline()
        await put(connection, keys, "acme", made(2))
        assert b"Deal 2" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    await connection.close()


async def test_a_reader_that_goes(call: Commands, redis_url: str, keys: Keys) -> None:
    """`poller events --follow | head -1` ends quietly when its reader does."""
    connection = Connection.open(redis_url)
    await put(connection, keys, "acme", made(1))
    call.settings(redis=redis_url, crm="http://127.0.0.1:9")
    command = f"{sys.executable} -m poller events --json --follow --since 1h --config {call.config} | head -1"
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline()
        await put(connection, keys, "acme", *map(made, range(2, 50)))
        _, err = await process.communicate()
    assert err == b""
    await connection.close()


def test_a_line_obeys_no_escape_sequence() -> None:
    """A name that a stranger chose in the CRM cannot steer the terminal."""
    event = loads(made(1).body)
    event["data"]["deal"]["name"] = "\x1b[2J evil\nsecond line"
    line = event_line(event)
    assert isinstance(line, Text)
    assert "\x1b" not in line.plain
    assert "\n" not in line.plain
