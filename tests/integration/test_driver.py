"""One source at work: first things first, at an even pace, as operators ask, and when its host refuses."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from driving import Driven, driving

from poller.model import rfc3339
from poller.simulators import Options, serve
from poller.store.budget import Budget
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.poll import Swept


@pytest.fixture(autouse=True)
def _told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word is left of how a source fares every fifth of a second: what a test waits for is in it."""
    monkeypatch.setattr("poller.watch.driver.TELL_S", 0.2)


@pytest.fixture
async def sim() -> AsyncIterator[Any]:
    """A simulated Drum of 20 records."""
    async with serve("drum", options=Options(records=20, seed=3)) as served:
        yield served


def lists(sim: Any) -> list[str]:
    """Paths of the lists that were asked for, in order."""
    return [each.path for each in sim.requests if each.path.count("/") == 3]


def details(sim: Any) -> list[str]:
    """Paths of the records that were asked for by id, in order."""
    return [each.path for each in sim.requests if each.path.count("/") == 4]


def failed(sim: Any, path: str) -> list[Any]:
    """Requests for what ends so that gave no answer."""
    return [each for each in sim.requests if each.path.endswith(path) and each.status == 502]


async def all_read(driven: Driven, sim: Any) -> None:
    """Every list was swept and every detail read once."""
    await driven.until(
        lambda: driven.reports and driven.reports[-1]["details"]["records"] == 20, "the list of records"
    )
    await driven.until(lambda: len(set(details(sim))) >= 20, "every detail")


async def test_the_first_sweeps_run_at_once(sim: Any, connection: Connection, keys: Keys) -> None:
    """However small the budget, the baseline waits for nothing that it need not wait for."""
    async with driving(connection, keys, sim, limit=20, window_s=60, every_s=60) as driven:
        await driven.until(lambda: driven.session.memory.baselined, "the baseline", within_s=6)
    assert lists(sim)[0] == "/api/v1/opportunities"
    assert set(lists(sim)) == {"/api/v1/opportunities", "/api/v1/projects"}


async def test_the_pace_is_even(sim: Any, connection: Connection, keys: Keys) -> None:
    """No second has more than its part of the budget and one sweep; none is without a request."""
    limit, window_s = 60, 4.0
    sim.set(limit=limit, limit_period_s=window_s)
    async with driving(connection, keys, sim, limit=limit, window_s=window_s, every_s=0.5) as driven:
        await all_read(driven, sim)
        began = driven.session.now()
        await driven.until(lambda: driven.session.now() > began + 3.0, "three seconds")
    found = Counter(int(each.start - began) for each in sim.requests if began <= each.start < began + 3)
    assert {each.status for each in sim.requests} == {200}
    assert min(found[second] for second in range(3)) >= 5
    assert max(found.values()) <= 15 + 8
    assert sum(found.values()) >= 0.8 * 0.95 * limit * 3 / window_s


async def test_a_dear_first_reading_does_not_blind_the_source(connection: Connection, keys: Keys) -> None:
    """Its 130 tokens are held to the budget, not made good by 14 s of silence; the period is told at once."""
    async with (
        serve("pipedrive", options=Options(records=16, seed=8)) as sim,
        driving(connection, keys, sim, limit=300, window_s=30.0, every_s=0.5) as driven,
    ):

        def deals() -> list[Swept]:
            return [told for told in driven.swept if told.kind == "deal"]

        await driven.until(lambda: len(driven.swept) >= 2 and driven.reports, "the baseline")
        assert sim.world.meter.spent >= 120
        assert driven.reports[-1]["period_s"] > 1.0
        await driven.until(lambda: len(deals()) >= 2, "the next reading", within_s=13.0)


async def test_what_shows_changes_alone_is_swept_as_the_large_list_it_is(
    connection: Connection, keys: Keys
) -> None:
    """Of deals an incremental sweep shows none or few: they are not taken for a small list that can wait."""
    async with (
        serve("pipedrive", options=Options(records=40, seed=8)) as sim,
        driving(connection, keys, sim, limit=1500, window_s=30.0, every_s=0.4) as driven,
    ):
        await driven.until(lambda: len(driven.swept) >= 9, "some sweeps", within_s=30.0)
        count = Counter(told.kind for told in driven.swept[2:])
        assert count["deal"] >= count["project"]
        assert driven.session.memory.lists["deal"].cost == 30


async def test_a_changed_row_has_its_detail_read_next(sim: Any, connection: Connection, keys: Keys) -> None:
    """What was changed in a list is looked at closely at once, not when its turn comes."""
    async with driving(connection, keys, sim, every_s=0.3) as driven:
        await all_read(driven, sim)
        sim.orders.update(101, name="Another name")
        await driven.until(lambda: any(told.changed for told in driven.swept[2:]), "the change")
        at = next(told for told in driven.swept[2:] if told.changed).ended
        await driven.until(
            lambda: next((each for each in sim.requests if each.start > at), None), "the next request"
        )
        following = next(each for each in sim.requests if each.start > at)
    assert following.path == "/api/v1/opportunities/101"


async def test_operators_ask_and_it_is_done_at_once(sim: Any, connection: Connection, keys: Keys) -> None:
    """`poll` sweeps every list now, whatever `every` says, and one record is read next."""
    async with driving(connection, keys, sim, every_s=600, details=False) as driven:
        await driven.until(lambda: len(driven.swept) == 2, "the first sweeps")
        driven.ask(do="poll")
        await driven.until(lambda: len(driven.swept) == 4, "two more sweeps")
        driven.ask(do="poll", record="opportunity/101")
        await driven.until(lambda: "/api/v1/opportunities/101" in details(sim), "that record")


async def test_a_paused_source_is_left_alone(sim: Any, connection: Connection, keys: Keys) -> None:
    """Nothing is asked of a source that was paused; resumed, it is swept at once."""
    async with driving(connection, keys, sim, every_s=0.2) as driven:
        await driven.until(lambda: len(driven.swept) >= 4, "some sweeps")
        driven.ask(do="pause")
        await driven.until(lambda: driven.reports[-1]["state"] == "paused", "the pause")
        asked, began = len(sim.requests), driven.session.now()
        await driven.until(lambda: driven.session.now() > began + 1.5, "a second and a half")
        assert len(sim.requests) == asked
        driven.ask(do="resume")
        await driven.until(lambda: len(sim.requests) > asked, "the next request")
        assert list(sim.requests)[asked].path == "/api/v1/opportunities"


async def test_the_limit_of_a_paused_source_holds(sim: Any, connection: Connection, keys: Keys) -> None:
    """It sends nothing, and still names the smallest budget of its host to whoever else sends there."""
    async with driving(connection, keys, sim, limit=50) as driven:
        driven.ask(do="pause")
        await driven.until(lambda: driven.reports and driven.reports[-1]["state"] == "paused", "the pause")
        await connection.commands.delete(keys.blocked("sim", "default"))  # as when it was named too long ago
        other = Budget(connection, keys, host="sim", egress="default", limit=1000, window_s=60, source="big")

        async def is_named() -> bool:
            return (await other.usage()).limit == 50

        await driven.until(is_named, "the limit to be named again", within_s=5)


async def test_resync_reads_every_detail_again(sim: Any, connection: Connection, keys: Keys) -> None:
    """After `resync` every record is read again, whatever its age."""
    async with driving(connection, keys, sim, every_s=30) as driven:
        await all_read(driven, sim)
        before = Counter(details(sim))
        driven.ask(do="resync")
        await driven.until(lambda: len(driven.swept) == 4, "two more sweeps")
        await driven.until(
            lambda: all(count > before[path] for path, count in Counter(details(sim)).items()), "every detail"
        )


async def test_a_refused_token_suspends_and_is_tried_when_asked(
    sim: Any, connection: Connection, keys: Keys
) -> None:
    """401 is said once, nothing else is asked meanwhile, and an operator may have it tried at once."""
    async with driving(connection, keys, sim, every_s=0.2, token="wrong") as driven:
        await driven.until(
            lambda: driven.reports and driven.reports[-1]["state"] == "suspended", "suspension"
        )
        asked = len(sim.requests)
        driven.ask(do="resume")
        await driven.until(lambda: len(sim.requests) > asked, "another try")
        assert await driven.events() == ["poller.source.suspended"]


async def test_hints_try_no_token_that_is_refused(sim: Any, connection: Connection, keys: Keys) -> None:
    """A record that is asked for, by Drum's webhooks every second, waits until the token is good again."""
    async with driving(connection, keys, sim, every_s=0.2) as driven:
        await driven.until(lambda: driven.session.memory.baselined, "the baseline")
        sim.orders.expire_token()
        await driven.until(lambda: driven.session.memory.suspended, "suspension")
        asked = len(sim.requests)
        for number in range(20):
            driven.ask(do="poll", record=f"opportunity/{101 + number % 3}")
            await driven.until(lambda: not driven.asked, "the hint to be heard", within_s=5)
        assert len(sim.requests) == asked
        sim.orders.renew_token()
        driven.ask(do="poll")
        await driven.until(lambda: not driven.session.memory.suspended, "resumption")
        wanted = {f"/api/v1/opportunities/{101 + number}" for number in range(3)}
        await driven.until(lambda: wanted <= {each.path for each in [*sim.requests][asked:]}, "the records")


async def test_only_a_page_ends_a_suspension(
    sim: Any, connection: Connection, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that fails for another reason says nothing of the token; one that is read, that it is good."""
    monkeypatch.setattr("poller.watch.driver.FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("poller.watch.driver.LONGEST_PAUSE_S", 0.2)
    async with driving(connection, keys, sim) as driven:
        await driven.until(lambda: driven.session.memory.baselined, "the baseline")
        (expired,) = sim.orders.expire_token()
        await driven.until(lambda: driven.session.memory.suspended, "suspension")
        sim.set(fault_rate=1.0, faults=["http502"])
        before = len(driven.swept)
        await driven.until(lambda: len(driven.swept) >= before + 2, "readings that fail otherwise")
        assert driven.session.memory.suspended
        sim.set(fault_rate=0.0)
        refused = len([each for each in sim.requests if each.status == 401])
        await driven.until(
            lambda: len([each for each in sim.requests if each.status == 401]) > refused, "another refusal"
        )
        assert (await driven.events())[1:] == ["poller.source.suspended"]
        (renewed,) = sim.orders.renew_token()
        await driven.until(lambda: not driven.session.memory.suspended, "resumption")
        assert (await driven.events())[2:] == ["poller.source.resumed"]
        for entry, event in zip((expired, renewed), (await driven.told())[1:], strict=True):
            observed = event["data"]["observed"]
            assert observed["not_before"] <= rfc3339(entry.at) <= observed["not_after"]


@pytest.mark.parametrize("refused", ["opportunities", "projects"])
async def test_a_source_of_which_one_list_is_refused_stays_suspended(
    refused: str, sim: Any, connection: Connection, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is said once, however often the other list is read meanwhile; and it is asked less and less."""
    monkeypatch.setattr("poller.watch.driver.FIRST_PAUSE_S", 0.05)
    async with driving(connection, keys, sim) as driven:
        await driven.until(lambda: driven.session.memory.baselined, "the baseline")

        async def forbid(asked: Any) -> None:
            (sim.orders.archive_user if asked.path.endswith(refused) else sim.orders.revive_user)()

        sim.between(before=forbid)
        await driven.until(lambda: driven.session.memory.suspended, "suspension")
        for _ in range(3):
            sim.requests.clear()
            await driven.until(
                lambda: len(set(lists(sim))) == 2 and any(each.status == 200 for each in sim.requests),
                "both lists asked again",
            )
        assert (await driven.events())[1:] == ["poller.source.suspended"]
        assert driven.driver._refusals >= 3
        sim.between()
        sim.orders.revive_user()
        driven.ask(do="resume")
        await driven.until(lambda: not driven.session.memory.suspended, "resumption")
        assert (await driven.events())[2:] == ["poller.source.resumed"]


@pytest.mark.fault(9)
async def test_429_stops_everything_until_it_is_over(
    sim: Any, connection: Connection, keys: Keys, figures: Callable[..., None]
) -> None:
    """After one refusal nothing is sent until the host said, and the report tells of it."""
    sim.set(retry_after="seconds", limit=30, limit_period_s=3.0)
    async with driving(connection, keys, sim, limit=1000, window_s=3.0, every_s=0.2) as driven:
        await driven.until(lambda: any(each.status == 429 for each in sim.requests), "a refusal")
        refused = next(each for each in sim.requests if each.status == 429)
        await driven.until(
            lambda: any(each.start > refused.end and each.status == 200 for each in sim.requests), "the probe"
        )
        probe = next(each for each in sim.requests if each.start > refused.end + 0.2)
        await driven.until(lambda: driven.reports[-1]["refusals"] >= 1, "word of it")
    figures("after a 429 with Retry-After one probe when that is over, and nothing before")
    assert probe.start - refused.end > 0.5
    assert driven.reports[-1]["blocked_s"] > 0.5


async def test_a_list_that_fails_is_asked_less_and_less(sim: Any, connection: Connection, keys: Keys) -> None:
    """A source whose lists fail sends a request now and then, and reads no detail."""
    async with driving(connection, keys, sim, every_s=0.2, limit=1000, window_s=60) as driven:
        await driven.until(lambda: driven.session.memory.baselined, "the baseline")
        sim.set(fault_rate=1.0, faults=("http500",))
        await driven.until(lambda: len([t for t in driven.swept if not t.complete]) >= 8, "eight failures")
        gaps = [
            after.started - before.started
            for before, after in zip(driven.swept, driven.swept[2:], strict=False)
        ]
        last = driven.swept[-1].started
    assert gaps[-1] > 3 * 0.2
    assert not [each for each in sim.requests if each.start > last and each.path.count("/") == 4]


async def test_the_report_says_how_it_fares(sim: Any, connection: Connection, keys: Keys) -> None:
    """What the commands, the page and the metrics show of pace, ages and delays is there."""
    async with driving(connection, keys, sim, every_s=0.2) as driven:
        await all_read(driven, sim)
        sim.orders.update(101, name="Another name")
        await driven.until(lambda: driven.reports[-1]["delay"]["observed_s"] is not None, "a delay")
        told = driven.reports[-1]
    assert told["state"] == "polling"
    assert set(told["spent"]) >= {"sweep", "detail"}
    assert told["period_s"] >= 0.2
    assert 0 < told["delay"]["observed_s"] < 5
    assert told["delay"]["expected_s"] > 0
    assert told["details"]["unread"] == 0
    assert told["details"]["oldest_at"] > driven.session.now() - 60
    assert (told["refusals"], told["blocked_s"]) == (0, 0.0)
    assert told["pace"]["per_s"] > 0


async def test_ages_survive_a_restart(sim: Any, connection: Connection, keys: Keys) -> None:
    """What was read a moment ago is not read again because a replica started."""
    async with driving(connection, keys, sim, every_s=30) as driven:
        await all_read(driven, sim)
    asked = len(details(sim))
    async with driving(connection, keys, sim, every_s=30) as driven:
        await driven.until(
            lambda: driven.reports and driven.reports[-1]["details"]["records"] == 20, "the list of records"
        )
        assert driven.reports[-1]["details"]["unread"] == 0
    assert len(details(sim)) == asked


async def test_what_was_read_while_it_moved_counts_as_read(
    sim: Any, connection: Connection, keys: Keys
) -> None:
    """A project that was won has its detail from the reading that proved the win: nothing of it is unread."""
    won = next(row.id for row in sim.world.live("opportunity"))
    async with driving(connection, keys, sim, every_s=0.2) as driven:
        await all_read(driven, sim)
        driven.driver._agenda.round.every_s = 3600.0  # no turn comes until the end
        sim.orders.win(won)
        await driven.until(lambda: ("project", str(won)) in driven.driver._agenda.round, "the project")
        asked = details(sim).count(f"/api/v1/projects/{won}")
        reports = len(driven.reports)
        await driven.until(lambda: len(driven.reports) > reports + 1, "word of it")
        assert asked
        assert driven.reports[-1]["details"]["unread"] == 0


async def test_what_was_learned_survives_a_restart(sim: Any, connection: Connection, keys: Keys) -> None:
    """How often a record changes is kept with it: a replica that takes over need not learn it again."""
    subject = ("opportunity", "101")
    async with driving(connection, keys, sim, every_s=0.2) as driven:
        await all_read(driven, sim)
        sim.orders.work.add_deliverable(101, name="Phase")
        past = driven.session.past
        await driven.until(lambda: (past(*subject) or (0.0, 0.0))[0] > 0.5, "the change to be found")
        asked = details(sim).count("/api/v1/opportunities/101")
        await driven.until(
            lambda: details(sim).count("/api/v1/opportunities/101") > asked + 1, "what was found to be kept"
        )
        before = past(*subject)
    async with driving(connection, keys, sim, every_s=30) as driven:
        await driven.until(lambda: driven.session.past(*subject), "the record")
        assert before is not None
        assert driven.session.past(*subject) == pytest.approx(before, rel=0.5)


async def test_a_changed_record_that_gives_no_answer_is_asked_again(
    sim: Any, connection: Connection, keys: Keys
) -> None:
    """What was to be read first is not forgotten because one answer failed, and not asked for ever."""
    async with driving(connection, keys, sim, every_s=30) as driven:
        await all_read(driven, sim)
        before = len(details(sim))
        sim.fail_next("http502", times=2, path="/opportunities/101")
        driven.ask(do="poll", record="opportunity/101")
        await driven.until(lambda: len(details(sim)) >= before + 3, "the third try")
        assert [each.status for each in sim.requests if each.path.endswith("/101")][-3:] == [502, 502, 200]
        sim.fail_next("http502", times=9, path="/opportunities/102")
        driven.ask(do="poll", record="opportunity/102")
        await driven.until(lambda: len(failed(sim, "/102")) == 3, "the third failure")
        await driven.until(lambda: not driven.session.urgent, "its end")
    assert len(failed(sim, "/102")) == 3
