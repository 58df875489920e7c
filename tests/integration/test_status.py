"""How everything stands, on both stores: told from what is kept, with the one word that fits."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from poller.app.status import Inspector
from poller.cli.connect import Store
from poller.cli.sources import ask
from poller.config import Settings
from poller.errors import SettingsError
from poller.model import dumps, loads
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.store.leases import Leases, Replicas, living
from poller.store.snapshots import Commit, Snapshots
from poller.watch.batch import ListMemory, Memory
from poller.web.needs import needs
from poller.web.words import source_sentence

NOW = time.time()


def settings() -> Settings:
    """A source and an endpoint."""
    return Settings.model_validate(
        {
            "sources": {"acme": {"kind": "drum", "token": "t", "every": "30s"}},
            "webhooks": {
                "billing": {
                    "url": "https://example.com/hook",
                    "secrets": ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
                }
            },
        }
    )


def memory(**changed: Any) -> Memory:
    """What a source remembers that was swept ten seconds ago."""
    swept = {"baselined": True, "swept_at": NOW - 10, "pages": 2}
    lists = {name: ListMemory(**swept) for name in ("opportunity", "project")}
    made = Memory(lists=lists, baselined=True)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


async def kept(connection: Connection, keys: Keys, remembered: Memory, *, report: Any = None) -> None:
    """Hold the lease of the source and keep this of it."""
    fence = await Leases(connection, holder="me-1-a", ttl_s=60).acquire(keys.source_lease("acme"))
    assert fence is not None
    store = Snapshots(connection, keys, "acme", fence=fence)
    await store.open()
    prints = {"opportunity": {str(number): b"x" for number in range(5)}}
    await store.commit(Commit(prints=prints, memory={"memory": dumps(remembered)}))
    await snapshots.report(connection, keys, "acme", dumps(report or {}))


def _strange(of: Memory) -> None:
    of.lists["project"].strange = True


def _held(of: Memory) -> None:
    of.lists["opportunity"].held = 45


def _stale(of: Memory) -> None:
    of.lists["project"].swept_at = NOW - 400


def _paused(of: Memory) -> None:
    of.paused = True


def _suspended(of: Memory) -> None:
    of.suspended = "401"


def _new(of: Memory) -> None:
    of.baselined = False


@pytest.mark.parametrize(
    ("change", "state", "well", "why"),
    [
        (lambda _: None, "polling", True, ""),
        (_new, "starting", True, "the first reading"),
        (_suspended, "suspended", False, "401"),
        (_paused, "paused", False, "poller sources resume acme"),
        (_held, "held", False, "45 records are missing at once"),
        (_strange, "held", False, "another account's token"),
        (_stale, "stale", False, "project: not read to the end for 400 s"),
    ],
)
async def test_a_word_for_each_state(
    connection: Connection, keys: Keys, change: Callable[[Memory], None], state: str, well: bool, why: str
) -> None:
    """What is kept of a source becomes one word, the reason, and whether somebody must act."""
    remembered = memory()
    change(remembered)
    await kept(connection, keys, remembered)
    found = (await Inspector(settings(), connection, keys, now=lambda: NOW).sources())[0]
    assert (found.state, found.well) == (state, well)
    assert why in found.why
    assert found.held_by == "me-1-a"
    assert [each.records for each in found.lists] == [5, 0]


async def test_why_it_is_stale_is_what_the_last_sweep_said(connection: Connection, keys: Keys) -> None:
    """A source that cannot be read says why, in the words of the last attempt."""
    remembered = memory()
    _stale(remembered)
    report = {"at": NOW, "lists": {"project": {"complete": False, "reason": "answered 502", "took_s": 1}}}
    await kept(connection, keys, remembered, report=report)
    found = (await Inspector(settings(), connection, keys, now=lambda: NOW).sources())[0]
    assert (found.state, found.why) == ("stale", "project: answered 502")


async def test_a_source_that_was_never_read_and_cannot_be_is_not_well(
    connection: Connection, keys: Keys
) -> None:
    """A wrong address from the first day on: `poller status` ends with 1, and the page says what it needs."""
    remembered = memory()
    _new(remembered)
    report = {"at": NOW, "lists": {"project": {"complete": False, "reason": "answered 404", "took_s": 1}}}
    await kept(connection, keys, remembered, report=report)
    seen = await Inspector(settings(), connection, keys, now=lambda: NOW).everything()
    found = seen.sources[0]
    assert (found.state, found.well, seen.well) == ("starting", False, False)
    assert source_sentence(found) == "project: answered 404"
    assert [need.why for need in needs(seen) if need.title.startswith("acme")] == ["project: answered 404"]


async def test_pace_ages_and_delays_are_what_the_poller_told(connection: Connection, keys: Keys) -> None:
    """Period, oldest detail, both delays and the source's own spending are carried from its last report."""
    report = {
        "at": NOW,
        "period_s": 42.0,
        "spent": {"sweep": 6, "detail": 11},
        "details": {"records": 5, "unread": 0, "oldest_at": NOW - 90},
        "delay": {"expected_s": 31.5, "observed_s": 29.0},
    }
    await kept(connection, keys, memory(), report=report)
    found = (await Inspector(settings(), connection, keys, now=lambda: NOW).sources())[0]
    assert (found.period_s, found.expected_delay_s, found.observed_delay_s) == (42.0, 31.5, 29.0)
    assert found.spent == {"sweep": 6, "detail": 11}
    assert found.details is not None
    assert found.details.oldest_s == pytest.approx(90)
    assert (found.budget.refusals, found.budget.blocked_s) == (0, 0.0)


async def test_what_was_spent_leaves_the_window_though_nobody_tells(
    connection: Connection, keys: Keys
) -> None:
    """A source that is suspended or unattended for longer than the budget's window spent nothing in it."""
    await kept(connection, keys, memory(), report={"at": NOW, "spent": {"detail": 11}})
    for later_s, spent in ((299.0, {"detail": 11}), (301.0, {})):
        inspector = Inspector(settings(), connection, keys, now=lambda later_s=later_s: NOW + later_s)
        assert (await inspector.sources())[0].spent == spent


async def test_nothing_was_ever_there(connection: Connection, keys: Keys) -> None:
    """On an empty store everything is unattended, and nothing is written by looking."""
    found = await Inspector(settings(), connection, keys, now=lambda: NOW).everything()
    assert not found.well
    assert (found.sources[0].state, found.webhooks[0].state) == ("unattended", "unattended")
    client: Any = connection.commands
    assert await client.dbsize() == 0


async def test_replicas_that_live(connection: Connection, keys: Keys) -> None:
    """A replica counts while its heartbeat is younger than the lease."""
    await Replicas(connection, keys, me="host-1-a", ttl_s=60).beat(["source/acme"])
    client: Any = connection.commands
    await client.hset(keys.replicas(), "host-2-b", f"{int((time.time() - 100) * 1000)} source/acme")
    assert list(await living(connection, keys, ttl_s=60)) == ["host-1-a"]


async def test_a_request_is_left_for_the_poller(connection: Connection, keys: Keys) -> None:
    """What an operator asks is queued as the poller reads it; what makes no sense is refused."""
    remembered = memory()
    _held(remembered)
    await kept(connection, keys, remembered)
    store = Store(settings(), connection, keys)
    told = await ask(store, "acme", "release")
    assert (told["touches"], told["polled_by"]) == (45, "me-1-a")
    await ask(store, "acme", "poll", record="opportunity/3")
    requests = snapshots.Requests(connection, keys, "acme")
    left = [loads(await requests.next() or b"{}") for _ in range(2)]
    assert left == [{"do": "release"}, {"do": "poll", "record": "opportunity/3"}]
    with pytest.raises(SettingsError, match="opportunity/ID or project/ID"):
        await ask(store, "acme", "poll", record="deliverable/3")
