"""Pipedrive simulated without a wire: its log adds up, its rules are the contract's."""

from collections.abc import Iterable
from typing import Any

import pytest
from clocks import Clock

from poller.simulators.pipedrive import Orders, Switches, World, life_of
from poller.simulators.pipedrive.columns import number
from poller.simulators.pipedrive.fields import OPTION_FIELD, TEXT_FIELD
from poller.simulators.pipedrive.limits import Meter
from poller.simulators.truth import Entry

NOON = 1_800_014_400.0
"""2027-01-15, noon in UTC."""


def made(*, deals: int = 0, projects: int = 0, **options: Any) -> tuple[World, Orders, Clock]:
    clock = Clock(NOON)
    switches = Switches.model_validate(options.pop("switches", {}))
    world = World(clock=clock, switches=switches, **options)
    world.populate(deals=deals, projects=projects)
    return world, Orders(world), clock


def verbs(entries: Iterable[Entry]) -> list[str]:
    return [entry.type.removeprefix("pipedrive.") for entry in entries]


# --- the log adds up ------------------------------------------------------------------------


def folded(world: World, start: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What somebody knows who knows the beginning and reads the log."""
    known = dict(start)
    for entry in world.log:
        verb = entry.type.rsplit(".", 1)[1]
        if entry.type.startswith("poller."):
            continue
        if verb in {"created", "appeared", "restored"}:
            assert entry.subject not in known
            known[entry.subject] = dict(entry.object or {})
        elif verb == "removed":
            assert known.pop(entry.subject) == entry.before
        else:
            record = known[entry.subject]
            assert {name: record[name] for name in entry.changed} == entry.before
            known[entry.subject] = record | entry.after
            assert known[entry.subject] == entry.object
    return known


@pytest.mark.parametrize(
    ("seed", "switches"),
    [
        (1, {}),
        (2, {"untouched": ["archive", "merge", "delete", "restore", "unarchive"], "stale_times": True}),
        (3, {"null_custom_fields": False, "deleted_status": "kept"}),
        (4, {"replica_lag_s": 3, "replica_lag_share": 0.3}),
    ],
)
def test_log_adds_up(seed: int, switches: dict[str, Any]) -> None:
    """The log of 700 steps, folded over the first state, gives the last, and every before is what was."""
    world, orders, clock = made(deals=60, projects=30, switches=switches)
    start = {subject: dict(state.view) for subject, state in world.states().items()}
    life = life_of(world, orders, seed=seed)
    for _ in range(700):
        clock.now += 0.4
        life.step()
    assert folded(world, start) == {subject: state.view for subject, state in world.states().items()}
    assert [entry.seq for entry in world.log] == list(range(1, len(world.log) + 1))


def test_life_has_everything() -> None:
    """A life shows every type of event that the contract has for Pipedrive, but what only access gives."""
    world, orders, _ = made(deals=60, projects=40)
    life_of(world, orders).steps(2_000)
    both = {"created", "updated", "archived", "unarchived", "removed", "restored"}
    expected = {f"deal.{verb}" for verb in both | {"stage_changed", "won", "lost", "reopened"}}
    expected |= {f"project.{verb}" for verb in both | {"phase_changed", "completed"}}
    assert set(verbs(world.log)) == expected | {"poller.source.renamed"}


def test_life_keeps_its_size() -> None:
    """A long life neither dies out nor grows without end."""
    world, orders, _ = made(deals=60, projects=40)
    life_of(world, orders, seed=3).steps(2_500)
    assert 30 <= len(world.live("deal")) <= 100
    assert 20 <= len(world.live("project")) <= 70


def test_won_once_between_reopenings() -> None:
    """Won is logged only of a deal that was not won, and lost only of one that was not lost."""
    world, orders, _ = made(deals=60)
    life_of(world, orders, seed=7).steps(600)
    for entry in world.log:
        if entry.type.rsplit(".", 1)[1] in {"won", "lost", "reopened"}:
            assert entry.before["status"] != entry.after["status"]


# --- what an ideal observer would say -----------------------------------------------------------


def test_deals_are_won_lost_and_reopened() -> None:
    """The status decides; the times follow, and a reopened deal has none but of its first win."""
    world, orders, clock = made(deals=1)
    orders.reopen(1)
    (won,) = orders.win(1)
    assert (won.type, won.before["status"], won.after["status"]) == ("pipedrive.deal.won", "open", "won")
    assert won.after["won_time"] == "2027-01-15T12:00:00Z"
    assert won.after["local_won_date"] == "2027-01-15"
    clock.now += 60
    (lost,) = orders.lose(1, "Price")
    assert (lost.type, lost.after["lost_reason"]) == ("pipedrive.deal.lost", "Price")
    assert lost.after["won_time"] is None
    (reopened,) = orders.reopen(1)
    assert reopened.type == "pipedrive.deal.reopened"
    assert reopened.after["lost_time"] is None
    assert orders.reopen(1) == ()
    assert world.row("deal", 1).values["first_won_time"] == NOON


def test_stale_times_stay() -> None:
    """With stale times a reopened deal still has won_time: only the status tells."""
    world, orders, _ = made(deals=1, switches={"stale_times": True})
    orders.win(1)
    assert verbs(orders.reopen(1)) == ["deal.reopened"]
    state = world.state("deal/1")
    assert state is not None
    assert (state.view["status"], state.view["won_time"]) == ("open", "2027-01-15T12:00:00Z")


def test_stages_and_pipelines() -> None:
    """Another stage is stage_changed, also with other fields; another pipeline's stage moves both."""
    _, orders, clock = made()
    orders.create(title="Pilot", stage_id=1)
    clock.now += 1
    (moved,) = orders.update(1, stage_id=6, value=10)
    assert moved.type == "pipedrive.deal.stage_changed"
    assert {"stage_id", "pipeline_id", "stage_change_time", "value", "update_time"} == set(moved.changed)
    assert moved.after["pipeline_id"] == 2
    assert orders.move(1, 6) == ()


def test_archived_and_back() -> None:
    """An archived deal is archived, cannot be edited, and comes back."""
    world, orders, _ = made()
    orders.create(title="Pilot")
    (archived,) = orders.archive(1)
    assert archived.type == "pipedrive.deal.archived"
    assert (archived.after["is_archived"], archived.object is not None) == (True, True)
    for order in (orders.win, orders.archive, lambda deal: orders.update(deal, title="New")):
        with pytest.raises(ValueError, match="deal 1 is archived"):
            order(1)
    assert verbs(orders.unarchive(1)) == ["deal.unarchived"]
    assert world.row("deal", 1).values["status"] == "open"


def test_deleted_restored_and_purged() -> None:
    """A deleted deal is removed, and restored within 30 days; then it is gone, and nothing more is said."""
    world, orders, _ = made()
    orders.create(title="Pilot")
    (removed,) = orders.delete(1)
    assert (removed.type, removed.cause) == ("pipedrive.deal.removed", "")
    assert orders.delete(1) == ()
    assert verbs(orders.restore(1)) == ["deal.restored"]
    orders.delete(1)
    assert orders.pass_time(days=29.9) == ()
    assert "deal/1" in world.shown
    assert orders.pass_time(days=0.2) == ()
    assert "deal/1" not in world.shown
    assert set(world.purged) == {"deal/1"}
    with pytest.raises(ValueError, match="there is no deal 1"):
        orders.restore(1)
    orders.create(title="Next")
    assert "deal/2" in world.shown


def test_merged() -> None:
    """Of two merged deals the one is removed and the other updated, in one transition, for that cause."""
    _, orders, _ = made()
    orders.create(title="One", value=100)
    orders.create(title="Two", value="50.5", label_ids=[11])
    entries = orders.merge(2, into=1)
    assert [(entry.subject, entry.type) for entry in entries] == [
        ("deal/2", "pipedrive.deal.removed"),
        ("deal/1", "pipedrive.deal.updated"),
    ]
    assert {entry.cause for entry in entries} == {"merge"}
    assert {entry.transition for entry in entries} == {3}
    assert (entries[1].after["value"], entries[1].after["label_ids"]) == (number("150.5"), [11])
    with pytest.raises(ValueError, match="cannot be merged with itself"):
        orders.merge(1, into=1)


def test_untouched_times() -> None:
    """What is switched to leave update_time alone does so; everything else moves it."""
    world, orders, clock = made(switches={"untouched": ["archive"]})
    orders.create(title="Pilot")
    clock.now += 100
    (archived,) = orders.archive(1)
    assert "update_time" not in archived.changed
    (back,) = orders.unarchive(1)
    assert "update_time" in back.changed
    assert world.row("deal", 1).values["update_time"] == NOON + 100


def test_whole_seconds() -> None:
    """Deals keep whole seconds and projects milliseconds, so that many writes of deals share one time."""
    world, orders, clock = made()
    clock.now = NOON + 0.7654
    orders.create(title="Pilot")
    orders.projects.create_project(title="Pilot")
    assert world.row("deal", 1).values["update_time"] == NOON
    assert world.row("project", 1).values["update_time"] == pytest.approx(NOON + 0.765, abs=1e-6)
    (entry,) = orders.update(1, title="Same second")
    assert entry.changed == ("title",)


def test_activities_are_noise() -> None:
    """An activity moves nothing that v2 prints but update_time: noise, or within one second nothing."""
    _, orders, clock = made()
    orders.create(title="Pilot")
    assert orders.log_activity(1) == ()
    clock.now += 5
    (entry,) = orders.log_activity(1)
    assert (entry.type, entry.changed, entry.noise) == ("pipedrive.deal.updated", ("update_time",), True)


def test_many_at_once() -> None:
    """A bulk move is one transition with one time for all, and leaves alone what is there already."""
    world, orders, clock = made()
    for stage in (1, 2, 1):
        orders.create(title="Pilot", stage_id=stage)
    clock.now += 7
    entries = orders.move_all([1, 2, 3], 2)
    assert [(entry.subject, entry.transition) for entry in entries] == [("deal/1", 4), ("deal/3", 4)]
    assert [world.row("deal", deal).values["update_time"] - NOON for deal in (1, 2, 3)] == [7, 0, 7]


def test_projects() -> None:
    """Projects change phase, are completed, resumed, canceled, archived, deleted, and come back."""
    _, orders, clock = made()
    projects = orders.projects
    assert verbs(projects.create_project(title="Roll-out", deal_ids=[7])) == ["project.created"]
    clock.now += 1
    told = [
        projects.move_project(1, 6), projects.complete_project(1), projects.resume_project(1),
        projects.cancel_project(1), projects.update_project(1, health_status="at_risk"),
        projects.archive_project(1), projects.unarchive_project(1), projects.delete_project(1),
        projects.restore_project(1),
    ]  # fmt: skip
    assert [verbs(entries) for entries in told] == [
        ["project.phase_changed"], ["project.completed"], ["project.updated"], ["project.updated"],
        ["project.updated"], ["project.archived"], ["project.unarchived"], ["project.removed"],
        ["project.restored"],
    ]  # fmt: skip
    assert told[0][0].after["board_id"] == 2


def test_renames() -> None:
    """A renamed stage or company is one entry for the account; no deal changes with it."""
    world, orders, _ = made(deals=20)
    used = world.row("deal", 1).values["org_id"]
    (entry,) = orders.rename("organization", used, "Renamed Ltd")
    assert (entry.subject, entry.type, entry.seen) == (
        f"organization/{used}",
        "poller.source.renamed",
        True,
    )
    assert orders.rename("organization", used, "Renamed Ltd") == ()
    (unused,) = orders.rename("board", 1, "Delivery team")
    assert not unused.seen
    with pytest.raises(ValueError, match=r"there is no team 1\. There are: pipeline, stage,"):
        orders.rename("team", 1, "x")


def test_reach() -> None:
    """What the token's user may no longer see is removed for want of access, and restored with it."""
    _, orders, _ = made()
    for owner in (1, 2):
        orders.create(title="Pilot", owner_id=owner)
    (gone,) = orders.set_reach("own")
    assert (gone.subject, gone.type, gone.cause) == ("deal/2", "pipedrive.deal.removed", "access")
    assert orders.create(title="Theirs", owner_id=2) == ()
    assert verbs(orders.create(title="Mine", owner_id=1)) == ["deal.created"]
    entries = orders.set_reach("all")
    assert {entry.subject: entry.type.rsplit(".", 1)[1] for entry in entries} == {
        "deal/2": "restored",
        "deal/3": "appeared",
    }
    with pytest.raises(ValueError, match="it must be all, own or none"):
        orders.set_reach("some")  # type: ignore[arg-type]


def test_access_lost_and_back() -> None:
    """An expired token and a closed account suspend the source; what undoes it resumes it."""
    _, orders, _ = made()
    for off, on in (
        (orders.expire_token, orders.renew_token),
        (orders.close_account, orders.reopen_account),
    ):
        assert verbs(off()) == ["poller.source.suspended"]
        assert off() == ()
        assert verbs(on()) == ["poller.source.resumed"]
    orders.use_oauth(60)
    assert verbs(orders.pass_time(seconds=61)) == ["poller.source.suspended"]
    assert orders.close_account() == ()
    assert orders.renew_token() == ()
    assert verbs(orders.reopen_account()) == ["poller.source.resumed"]


# --- replicas --------------------------------------------------------------------------------------


def test_late_writes_have_old_times() -> None:
    """A write that lags is seen later, with the update_time of the moment it was made, and logged then."""
    world, orders, clock = made(deals=1, switches={"replica_lag_s": 5})
    assert orders.update(1, title="Late") == ()
    assert world.shown["deal/1"].values["title"] != "Late"
    clock.now += 4.9
    assert orders.due() == ()
    clock.now += 0.1
    (entry,) = orders.due()
    assert (entry.after["title"], entry.at) == ("Late", NOON + 5)
    assert entry.after["update_time"] == "2027-01-15T12:00:00Z"


def test_a_record_never_goes_back() -> None:
    """A later write of a record is never seen before an earlier one that still lags."""
    world, orders, clock = made(deals=2, switches={"replica_lag_s": 5})
    orders.update(1, title="First")
    world.switches = Switches()
    assert orders.update(1, title="Second") == ()
    assert verbs(orders.update(2, title="Other")) == ["deal.updated"]
    clock.now += 6
    world.catch_up()
    titles = [entry.after["title"] for entry in world.log if entry.subject == "deal/1"]
    assert titles == ["First", "Second"]


# --- limits ------------------------------------------------------------------------------------------


def taken(meter: Meter, at: float, cost: int = 10, token: str = "a", **switches: Any) -> int:
    return meter.take(token, cost, now=at, switches=Switches.model_validate(switches)).status


def test_burst_is_a_rolling_window_per_token() -> None:
    """No token is let through more than its burst in any 2 seconds; another token has its own."""
    meter = Meter()
    assert [taken(meter, at, burst=2) for at in (0.0, 1.5, 1.9, 2.0, 3.4, 3.5)] == [
        200, 200, 429, 200, 429, 200,
    ]  # fmt: skip
    assert taken(meter, 3.5, token="b", burst=2) == 200


def test_day_is_the_company_s() -> None:
    """The tokens of a day are shared by all tokens of the company, by cost, and are back at midnight."""
    meter, day = Meter(), 86_400.0
    assert [taken(meter, at, daily_tokens=25) for at in (1.0, 2.0, 3.0)] == [200] * 3
    assert taken(meter, 4.0, token="b", daily_tokens=25) == 429
    assert meter.spent == 30
    assert taken(meter, day - 1, daily_tokens=25) == 429
    assert taken(meter, day, daily_tokens=25) == 200
    assert meter.spent == 10
    assert [charge.cost for charge in meter.charges] == [10] * 4


def test_day_may_begin_elsewhere() -> None:
    """Midnight is the server's own, wherever that is."""
    meter = Meter()
    assert [taken(meter, hours * 3600.0, daily_tokens=5, day_begins_h=7) for hours in (1, 6.9, 7)] == [
        200, 429, 200,
    ]  # fmt: skip


def test_headers_of_the_limits() -> None:
    """The headers count down; the reset is in seconds from now; the daily ones can be missing, or all."""
    meter = Meter()

    def headers(at: float, **more: Any) -> dict[str, str]:
        switches = Switches.model_validate({"burst": 1, "daily_tokens": 100} | more)
        return meter.take("a", 10, now=at, switches=switches).headers

    assert headers(0.0) == {
        "x-ratelimit-limit": "1",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "2",
        "x-daily-ratelimit-token-limit": "100",
        "x-daily-ratelimit-token-remaining": "90",
    }
    assert headers(1.5)["x-ratelimit-reset"] == "1"
    assert headers(1.5, retry_after="seconds")["retry-after"] == "1"
    assert headers(1.5, retry_after="date")["retry-after"] == "Thu, 01 Jan 1970 00:00:02 GMT"
    assert "x-daily-ratelimit-token-limit" not in headers(5.0, limit_headers="burst")
    assert headers(9.0, limit_headers="off") == {}
    assert headers(10.0, burst=None, daily_tokens=0, retry_after="seconds")["retry-after"] == "86390"


def test_who_does_not_listen_is_banned() -> None:
    """429s in a row that are ignored end in 403 for a while; who waits between them is never banned."""
    meter = Meter()
    how = {"burst": 1, "ban_after": 3, "ban_s": 60.0}
    assert [taken(meter, 0.1 * number, **how) for number in range(6)] == [200, 429, 429, 429, 403, 403]
    assert taken(meter, 59.0, **how) == 403
    assert taken(meter, 61.0, **how) == 200
    patient = Meter()
    answers = [taken(patient, 2.5 * number, daily_tokens=1, ban_after=3) for number in range(10)]
    assert answers == [200] + [429] * 9


# --- orders that cannot be carried out -------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "arguments", "message"),
    [
        ("win", {"deal": 9}, "there is no deal 9"),
        (
            "update",
            {"deal": 1, "vaule": 1},
            "there is no field vaule that could be given. Did you mean value",
        ),
        ("update", {"deal": 1, "value": "much"}, "'much' is no number: write e.g. 1200 or 99.5"),
        ("update", {"deal": 1, "status": "won"}, "there is no field status that could be given"),
        ("update", {"deal": 1, "owner_id": 9}, "there is no user 9. There are: 1, 2,"),
        ("update", {"deal": 1, "label_ids": "11"}, "label_ids is '11': it must be a list of ids"),
        ("update", {"deal": 1, "custom_fields": {"x": 1}}, "there is no custom field x. There are: 9d0f"),
        ("update", {"deal": 1, "title": ""}, "title is '': it must be a text"),
        ("move", {"deal": 1, "stage": 99}, "there is no stage 99"),
        ("complete_project", {"project": 5}, "there is no project 5"),
        ("pass_time", {"days": -1}, "time only goes on"),
    ],
)
def test_refused_orders(order: str, arguments: dict[str, Any], message: str) -> None:
    """An order that cannot be carried out says why, and changes nothing."""
    world, orders, _ = made(deals=1)
    with pytest.raises(ValueError, match=r"there is|it must be|write e\.g\.|time only") as caught:
        orders.named()[order](**arguments)
    assert message in str(caught.value)
    assert len(world.log) == 0


def test_numbers_as_javascript_writes_them() -> None:
    """Values have no more places than they need, and equal ones are equal."""
    assert [str(number(given)) for given in (200, "200.0", "99.50", 0.1)] == ["200", "200", "99.5", "0.1"]
    world, orders, _ = made(deals=1)
    orders.update(1, value="200.00")
    assert orders.update(1, value=200) == ()
    assert world.row("deal", 1).values["value"] == 200


def test_custom_fields_are_laid_over() -> None:
    """A custom field that is given leaves the others as they were."""
    world, orders, _ = made()
    orders.create(title="Pilot", custom_fields={TEXT_FIELD: "PO-1"})
    orders.update(1, custom_fields={OPTION_FIELD: 21})
    assert world.row("deal", 1).values["custom_fields"] == {TEXT_FIELD: "PO-1", OPTION_FIELD: 21}
