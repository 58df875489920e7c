"""What the README says is true: its examples run, its commands exist, its files are there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from typer.main import get_command

from poller.cli import app
from poller.model import fields_of
from poller.watch.events import Bounds, Known, make

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def block(name: str) -> str:
    """The code block that is marked with this name."""
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture
def won(redis_url: str) -> redis.Redis:
    """A server whose stream holds one win."""
    event = make(
        Known(),
        source="/drum/drum",
        subject="opportunity/101",
        type_="drum.opportunity.won",
        bounds=Bounds(1.0, 2.0),
        object_={"id": 101},
        deal={"client": "Enterprise Solutions Ltd", "amount": "250000.00", "currency": "AUD"},
        detected_at=2.0,
    )
    client = redis.Redis.from_url(redis_url)
    client.sadd("poller:sources", "drum")
    client.xadd("poller:{drum}:events", dict(fields_of(event)))
    yield client
    client.close()


def test_the_python_example_consumes_the_stream(won: redis.Redis, redis_url: str) -> None:
    """Run word for word, it writes the invoice and acknowledges."""
    told = subprocess.run(
        [sys.executable, "-c", block("python")],
        env={**os.environ, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert told.stdout.startswith("invoice Enterprise Solutions Ltd 250000.00 AUD (evt_")
    assert won.xpending("poller:{drum}:events", "invoices")["pending"] == 0


def test_the_subscriber_consumes_the_stream(won: redis.Redis, redis_url: str) -> None:
    """Run word for word, it writes the invoice and waits for the next one."""
    service = subprocess.Popen(
        [sys.executable, "-c", block("subscribe")],
        env={**os.environ, "REDIS_URL": redis_url},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stdout is not None
        said = service.stdout.readline()
        assert said.startswith("invoice Enterprise Solutions Ltd 250000.00 AUD (evt_")
        assert service.poll() is None
    finally:
        service.kill()
        service.communicate()


def test_the_redis_cli_example_consumes_the_stream(won: redis.Redis) -> None:
    """Its commands, sent as redis-cli sends them, give the entry with the fields of the contract."""
    answers = [won.execute_command(*shlex.split(line)[1:]) for line in block("redis-cli").splitlines()]
    [(_, entries)] = answers[-1].items() if isinstance(answers[-1], dict) else answers[-1]
    entries = entries[0] if isinstance(entries[0], list) else entries
    fields = entries[0][1]
    names = fields.keys() if isinstance(fields, dict) else fields[::2]
    assert {name.decode() for name in names} == {"id", "type", "subject", "time", "event"}


def test_every_command_that_the_readme_names_exists_and_the_other_way_round() -> None:
    """The table of commands is the command line."""
    section = README.partition("## Commands")[2].partition("\n## ")[0]
    named = set(re.findall(r"`poller (\w+)", section))
    assert named == set(get_command(app).commands)


def test_every_file_that_the_readme_links_is_there() -> None:
    """No dead links into the repository."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
