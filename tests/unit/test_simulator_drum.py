"""The simulated Drum without a wire: its log adds up, its rules are the contract's."""

from decimal import Decimal
from typing import Any

import pytest

from poller.simulators.drum import ROLES, Orders, Switches, World, life_of
from poller.simulators.drum.columns import TASK, checked
from poller.simulators.life import Action, Life
from poller.simulators.limiter import FixedWindows
from poller.simulators.truth import Change, Entry, TruthLog


def made(*, switches: dict[str, Any] | None = None, **options: Any) -> tuple[World, Orders]:
    world = World(switches=Switches.model_validate(switches or {}), **options)
    return world, Orders(world)


def types(entries: tuple[Entry, ...] | list[Entry]) -> list[str]:
    return [entry.type for entry in entries]


# --- the log adds up ------------------------------------------------------------------------


class Folded:
    """What somebody knows who knows the beginning and reads the log."""

    def __init__(self, world: World) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.nested: dict[int, dict[str, dict[str, Any]]] = {}
        for number in world.rows:
            state = world.state(number)
            if state:
                self.arrive(state.subject, state.known, state.nested)

    def arrive(self, subject: str, known: Any, nested: Any) -> None:
        self.records[subject] = dict(known)
        self.nested[number_of(subject)] = {name: dict(values) for name, values in nested.items()}

    def read(self, entry: Entry) -> None:
        verb = entry.type.rsplit(".", 1)[1]
        if entry.type == "poller.source.renamed":
            self.rename(entry)
        elif entry.parent:
            self.read_part(entry, verb)
        elif verb in {"created", "appeared", "restored"}:
            self.records.pop(f"opportunity/{number_of(entry.subject)}", None)
            self.arrive(entry.subject, entry.object, entry.nested)
        elif verb == "removed":
            gone = self.records.pop(entry.subject)
            assert gone == entry.before
        elif entry.subject in self.records:
            move(self.records[entry.subject], entry)
        else:
            assert verb == "reopened"
            self.records[entry.subject] = dict(entry.object or {})

    def read_part(self, entry: Entry, verb: str) -> None:
        parts = self.nested[number_of(entry.parent)]
        if verb == "added":
            assert entry.subject not in parts
            parts[entry.subject] = dict(entry.object or {})
        elif verb == "removed":
            assert parts.pop(entry.subject) == entry.before
        else:
            move(parts[entry.subject], entry)

    def rename(self, entry: Entry) -> None:
        number, old, new = number_of(entry.subject), entry.before["name"], entry.after["name"]
        holders = [
            *self.records.values(),
            *(part for parts in self.nested.values() for part in parts.values()),
        ]
        field = {"status": "project_status", "user": "assigned_users"}.get(
            entry.subject.split("/")[0], entry.subject.split("/")[0]
        )
        for holder in holders:
            value = holder.get(field)
            if isinstance(value, list):
                holder[field] = [renamed(one, number, old, new) for one in value]
            elif value:
                holder[field] = renamed(value, number, old, new)

    def equals(self, world: World) -> None:
        states = [state for number in world.rows if (state := world.state(number))]
        assert self.records == {state.subject: state.known for state in states}
        for state in states:
            assert self.nested[state.id] == state.nested


def renamed(value: dict[str, Any], number: int, old: str, new: str) -> dict[str, Any]:
    return value | {"name": new} if (value["id"], value["name"]) == (number, old) else value


def number_of(subject: str) -> int:
    return int(subject.split("/")[1])


def move(record: dict[str, Any], entry: Entry) -> None:
    assert {name: record[name] for name in entry.changed if name in record} == entry.before
    for name in entry.changed:
        record.pop(name, None)
    record.update(entry.after)
    assert record == entry.object


@pytest.mark.parametrize(
    ("seed", "switches"),
    [
        (1, {}),
        (2, {"conversion_after": 3}),
        (3, {"conversion_after": None, "number_on_win": False}),
        (4, {"retention": True, "phases": True, "numbers": "string", "shuffled": True}),
    ],
)
def test_log_adds_up(seed: int, switches: dict[str, Any]) -> None:
    """The log of 2,000 steps, folded over the first state, gives the last, and every before is what was."""
    world, orders = made(switches=switches)
    world.populate(opportunities=40, projects=30, seed=seed)
    folded, life = Folded(world), life_of(world, orders, seed=seed)
    steps = life.steps(2_000)
    for entry in world.log:
        folded.read(entry)
    folded.equals(world)
    assert [step.transition for step in steps] == list(range(1, 2_001))
    assert [entry.seq for entry in world.log] == list(range(1, len(world.log) + 1))


def test_won_once_between_reopenings() -> None:
    """However a deal is won, won is logged once until it is open or lost again."""
    world, orders = made(switches={"conversion_after": 2})
    world.populate(opportunities=60, projects=10)
    life_of(world, orders, seed=7).steps(1_500)
    won: set[str] = set()
    for entry in world.log:
        verb = entry.type.rsplit(".", 1)[1]
        if entry.type == "drum.opportunity.won":
            assert entry.subject not in won
            won.add(entry.subject)
        elif entry.subject.startswith("opportunity/") and verb in {"reopened", "lost"}:
            won.discard(entry.subject)
    assert len([entry for entry in world.log if entry.type == "drum.opportunity.won"]) > 50


def test_life_has_everything() -> None:
    """A life shows every type of event that the contract has for Drum's records."""
    world, orders = made(switches={"conversion_after": 1})
    world.populate(opportunities=60, projects=40)
    life_of(world, orders, seed=1).steps(4_000)
    record = {"created", "updated", "status_changed", "reopened", "removed", "restored"}
    part = {"added", "updated", "status_changed", "completed", "reopened", "removed"}
    expected = {f"drum.opportunity.{verb}" for verb in record | {"won", "lost"}}
    expected |= {f"drum.project.{verb}" for verb in record | {"completed"}}
    expected |= {f"drum.{kind}.{verb}" for kind in ("deliverable", "task") for verb in part}
    assert expected - {"drum.project.reopened"} <= set(types(list(world.log)))
    assert "poller.source.renamed" in types(list(world.log))


def test_life_keeps_its_size() -> None:
    """A long life neither dies out nor grows without end."""
    world, orders = made()
    world.populate(opportunities=60, projects=40)
    life_of(world, orders, seed=3).steps(4_000)
    assert 20 <= len(world.live("opportunity")) <= 120
    assert 20 <= len(world.live("project")) <= 120


def test_empty_life_says_so() -> None:
    """A life in which nothing can happen ends with a message instead of turning for ever."""
    life = Life([Action("nothing", 1, lambda rng: ())])
    with pytest.raises(RuntimeError, match="Populate it first"):
        life.step()


# --- what an ideal observer would say -----------------------------------------------------------


def test_conversion_is_won_and_created() -> None:
    """A win that converts at once is two entries of one transition: won, and the project created."""
    _world, orders = made()
    entries = orders.win(101)
    assert types(entries) == ["drum.opportunity.won", "drum.project.created"]
    assert [entry.subject for entry in entries] == ["opportunity/101", "project/101"]
    assert {entry.transition for entry in entries} == {1}
    assert {entry.at for entry in entries} == {entries[0].at}
    assert "amount" in entries[0].before
    assert "amount" not in entries[0].after
    assert sorted(entries[1].nested) == [
        "deliverable/50",
        "deliverable/51",
        "task/501",
        "task/502",
        "task/503",
    ]


def test_hint_then_conversion() -> None:
    """Won while still listed is the win; the later conversion is only the project's creation."""
    _world, orders = made(switches={"conversion_after": None})
    (hint,) = orders.win(101)
    assert (hint.type, hint.views) == ("drum.opportunity.won", "both")
    assert set(hint.changed) == {"project_status", "deal_won_date"}
    assert types(orders.convert(101)) == ["drum.project.created"]


def test_conversion_after_a_delay() -> None:
    """With a delay of two, the second transition after the win is followed by the conversion."""
    _world, orders = made(switches={"conversion_after": 2})
    orders.win(101)
    orders.update(102, name="One")
    assert orders.due() == ()
    orders.update(102, name="Two")
    assert types(orders.due()) == ["drum.project.created"]
    assert orders.due() == ()


def test_delayed_conversion_forgets_what_was_reopened() -> None:
    """An opportunity that was reopened within the delay does not become a project."""
    world, orders = made(switches={"conversion_after": 1})
    orders.win(101)
    assert types(orders.reopen(101)) == ["drum.opportunity.reopened"]
    assert orders.due() == ()
    assert world.rows[101].kind == "opportunity"


def test_lost_reopened_and_moved() -> None:
    """Dates decide lost and reopened; a status of the same type is a plain change of status."""
    world, orders = made()
    assert types(orders.lose(101)) == ["drum.opportunity.lost"]
    assert world.rows[101].values["deal_lost_date"] == "2025-11-03"
    assert types(orders.lose(101, 8)) == ["drum.opportunity.status_changed"]
    assert types(orders.reopen(101)) == ["drum.opportunity.reopened"]
    assert world.rows[101].values["deal_lost_date"] is None
    assert types(orders.set_status(101, 3)) == ["drum.opportunity.status_changed"]
    assert types(orders.set_status(101, None)) == ["drum.opportunity.status_changed"]
    assert orders.set_status(101, None) == ()


def test_back_to_opportunity() -> None:
    """A project that becomes an opportunity again is reopened and removed, and can be won again."""
    world, orders = made()
    orders.win(101)
    assert types(orders.revert(101)) == ["drum.opportunity.reopened", "drum.project.removed"]
    assert world.rows[101].values["project_number"] == "OPP-042"
    assert types(orders.win(101)) == ["drum.opportunity.won", "drum.project.created"]


def test_archive_and_restore() -> None:
    """Archived is removed, taken out again is restored, and nothing is said of what is nested."""
    _world, orders = made()
    assert types(orders.archive(42)) == ["drum.project.removed"]
    assert orders.update(42, name="Unseen") == ()
    (restored,) = orders.restore(42)
    assert restored.type == "drum.project.restored"
    assert restored.object is not None
    assert restored.object["name"] == "Unseen"


def test_project_completed() -> None:
    """A completed status completes a project and sets its date; leaving it reopens it."""
    _world, orders = made()
    (entry,) = orders.complete(42)
    assert entry.type == "drum.project.completed"
    assert set(entry.changed) == {"project_status", "completed_date"}
    assert types(orders.reopen(42)) == ["drum.project.reopened"]


def test_number_on_win() -> None:
    """A won opportunity gets a project's number, or keeps its own, as the switch says."""
    for switch, number in ((True, "PRJ-003"), (False, "OPP-042")):
        world, orders = made(switches={"number_on_win": switch})
        orders.win(101)
        assert world.rows[101].values["project_number"] == number


def test_views_and_noise() -> None:
    """An entry says which view shows it, and whether only counters and computed money moved."""
    _world, orders = made()
    (listed,) = orders.update(101, amount=1)
    (detail,) = orders.update(101, opportunity_tags=["one"])
    (noise,) = orders.update(101, quotes_count=9, costs_to_date="7.5")
    (mixed,) = orders.update(101, quotes_count=10, name="New")
    assert [entry.views for entry in (listed, detail, noise, mixed)] == ["both", "detail", "detail", "both"]
    assert [entry.noise for entry in (listed, detail, noise, mixed)] == [False, False, True, False]
    assert noise.after == {"quotes_count": 9, "costs_to_date": Decimal("7.50")}


def test_order_of_people_and_tags_is_nothing() -> None:
    """The same people and tags in another order are no change."""
    _world, orders = made()
    assert (
        orders.update(101, assigned_users=[18, 12], opportunity_tags=["crm", "high-priority", "enterprise"])
        == ()
    )
    (entry,) = orders.update(101, assigned_users=[18])
    assert entry.changed == ("assigned_users",)


def test_spelling_of_numbers_is_nothing() -> None:
    """Money of the same amount is no change, whatever places or type it is given in."""
    world, orders = made()
    assert orders.update(101, amount="250000") == ()
    assert orders.update(101, amount=250000) == ()
    assert str(world.rows[101].values["amount"]) == "250000.00"


def test_description_of_the_list() -> None:
    """Where list and detail tell two texts, as of the first opportunity, the list is judged."""
    world, orders = made()
    state = world.state(101)
    assert state is not None
    assert state.detail["description"].startswith(state.listed["description"])
    assert state.detail["description"] != state.listed["description"]
    (entry,) = orders.update(101, description="New")
    assert entry.before == {"description": "Implementation of Salesforce CRM for enterprise client"}


def test_deliverables_and_tasks() -> None:
    """They come, are completed, reopened and go, each under its own subject, its record named."""
    _world, orders = made()
    work = orders.work
    (added,) = work.add_deliverable(101, name="Launch")
    assert (added.subject, added.type, added.parent) == (
        "deliverable/1030",
        "drum.deliverable.added",
        "opportunity/101",
    )
    assert types(work.add_task(1030, name="Party")) == ["drum.task.added"]
    (done,) = work.update_task(10300, status="completed")
    assert (done.type, done.views) == ("drum.task.completed", "detail")
    assert set(done.changed) == {"status", "completed_date"}
    assert types(work.update_task(10300, status="blocked")) == ["drum.task.reopened"]
    assert types(work.update_deliverable(1030, status="completed")) == ["drum.deliverable.completed"]
    removed = work.remove_deliverable(1030)
    assert types(removed) == ["drum.deliverable.removed", "drum.task.removed"]
    assert [entry.cause for entry in removed] == ["", "parent"]


def test_moved_task_is_one_update() -> None:
    """A task put into another deliverable is updated; those that it renumbers are noise."""
    _world, orders = made()
    entries = orders.work.move_task(501, 51, 1)
    loud = [entry for entry in entries if not entry.noise]
    assert [(entry.subject, entry.type, entry.changed) for entry in loud] == [
        ("task/501", "drum.task.updated", ("deliverable_id",))
    ]
    assert {entry.subject for entry in entries if entry.noise} == {"task/502", "task/503"}


def test_renumbering_cascade_is_noise() -> None:
    """A deliverable put first renumbers the others, and that alone is noise."""
    _world, orders = made()
    entries = orders.work.move_deliverable(51, 1)
    assert {entry.subject for entry in entries} == {"deliverable/50", "deliverable/51"}
    assert all(entry.noise and entry.changed == ("position",) for entry in entries)


def test_tracked_time_is_noise() -> None:
    """Booked hours move counters and computed money of the task, its deliverable and the record."""
    _world, orders = made()
    entries = orders.work.track_time(503, "2.5")
    assert [entry.subject for entry in entries] == ["opportunity/101", "deliverable/51", "task/503"]
    assert all(entry.noise for entry in entries)
    assert entries[2].after["actual_total"] == Decimal("375.00")
    assert entries[2].after["budget_used_percentage"] == Decimal("3.12")
    assert entries[0].after["costs_to_date"] == Decimal("5375.00")


def test_rename_is_one_entry() -> None:
    """A renamed status is one entry for the account, not one per record."""
    _world, orders = made()
    (entry,) = orders.rename("status", 5, "Under Way")
    assert (entry.subject, entry.type, entry.seen) == ("status/5", "poller.source.renamed", True)
    assert orders.rename("status", 5, "Under Way") == ()
    (unused,) = orders.rename("lead_score", 2, "Icy Lead")
    assert not unused.seen


def test_role_changes() -> None:
    """What the token may no longer see is fields_hidden, or removed for want of access; and back."""
    _world, orders = made()
    (hidden,) = orders.set_role("staff")
    assert hidden.type == "poller.source.fields_hidden"
    assert "total_budget" in hidden.changed
    assert orders.update(101, total_budget=1) == ()
    assert types(orders.set_role("admin")) == ["poller.source.fields_shown"]
    gone = orders.set_role("blind")
    assert types(gone) == ["drum.opportunity.removed"] * 2 + ["drum.project.removed"] * 2
    assert {entry.cause for entry in gone} == {"access"}
    assert (
        types(orders.set_role("admin")) == ["drum.opportunity.restored"] * 2 + ["drum.project.restored"] * 2
    )


def test_arrivals() -> None:
    """Above the highest known id is created; below it, never seen, is appeared; seen before is restored."""
    _world, orders = made(role=ROLES["team"])
    (created,) = orders.create_opportunity(name="Ours", team=2)
    assert created.type == "drum.opportunity.created"
    assert orders.create_opportunity(name="Theirs", team=3) == ()
    (third,) = orders.create_opportunity(name="Ours too", team=2)
    assert third.subject == "opportunity/105"
    (appeared,) = orders.update(104, team=2)
    assert (appeared.subject, appeared.type) == ("opportunity/104", "drum.opportunity.appeared")
    assert types(orders.update(104, team=3)) == ["drum.opportunity.removed"]
    assert types(orders.update(104, team=2)) == ["drum.opportunity.restored"]


def test_token_refused_and_back() -> None:
    """An expired token and an archived user suspend the source; what undoes it resumes it."""
    _world, orders = made()
    for off, on in ((orders.expire_token, orders.renew_token), (orders.archive_user, orders.revive_user)):
        assert types(off()) == ["poller.source.suspended"]
        assert types(on()) == ["poller.source.resumed"]
    assert types(orders.set_role("no_api")) == ["poller.source.suspended"]


# --- orders that cannot be carried out -------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "arguments", "message"),
    [
        ("update", {"record": 7}, "there is no record 7"),
        ("update", {"record": 101, "amuont": 1}, "there is no field amuont. Did you mean amount?"),
        ("update", {"record": 101, "amount": "much"}, "amount is 'much': it must be a decimal number"),
        ("update", {"record": 101, "planned": "yes"}, "planned is 'yes': it must be of type bool"),
        ("update", {"record": 101, "client": 9}, "there is no client 9. There are: 123,"),
        ("set_status", {"record": 101, "status": 5}, "status 5 is none for a opportunity"),
        ("win", {"record": 42}, "record 42 is of the kind project: this order is for a live opportunity"),
        ("rename", {"table": "clients", "key": 1, "name": "x"}, "there is no clients 1. There are: status,"),
        ("set_role", {"role": "king"}, "there is no role king. There are: admin,"),
        ("track_time", {"task": 9}, "there is no task 9"),
        ("update_task", {"task": 501, "status": "done"}, "status is 'done': it must be one of not_started"),
        ("move_task", {"task": 501, "deliverable": 1, "position": 1}, "deliverable 1 is not of record 101"),
    ],
)
def test_refused_orders(order: str, arguments: dict[str, Any], message: str) -> None:
    """An order that cannot be carried out says why, and changes nothing."""
    world, orders = made()
    with pytest.raises(ValueError, match=r"there is|must be|is none|this order|is not of") as caught:
        orders.named()[order](**arguments)
    assert message in str(caught.value)
    assert len(world.log) == 0


# --- smaller pieces ---------------------------------------------------------------------------------


def test_columns_keep_their_places() -> None:
    """Money has two places, hours and percentages at least one."""
    values = checked(TASK, {"budget": "1.1", "actual_duration": 8, "budget_used_percentage": "93.75"})
    assert [str(value) for value in values.values()] == ["1.10", "8.0", "93.75"]


def test_rows_are_encoded_once() -> None:
    """A row that did not change is not encoded again; one that did is."""
    world, orders = made()
    row, admin = world.rows[101], ROLES["admin"]
    first = world.encoded(row, admin, detail=False)
    assert world.encoded(row, admin, detail=False) is first
    orders.update(101, name="Other")
    assert b'"Other"' in world.encoded(row, admin, detail=False)
    orders.rename("client", 456, "Renamed Ltd")
    assert b'"Renamed Ltd"' in world.encoded(row, admin, detail=False)


def test_windows_are_aligned_to_the_epoch() -> None:
    """Windows begin at multiples of the period, per address; refused requests count too."""
    windows = FixedWindows()

    def take(now: float, address: str = "a", retry_after: Any = "none") -> Any:
        return windows.take(address, now=now, limit=2, period_s=300, retry_after=retry_after)

    assert [take(599.0), take(599.5)] == [None, None]
    assert take(599.9).retry_after is None
    assert take(599.9, "b") is None
    assert take(599.2, retry_after="seconds").retry_after == "1"
    assert take(599.2, retry_after="date").retry_after == "Thu, 01 Jan 1970 00:10:00 GMT"
    assert take(600.0) is None


def test_log_forgets_only_what_it_may() -> None:
    """A log that keeps 10 holds at least the last 10, and finds places after a number."""
    log = TruthLog(keep=10, clock=lambda: 1.0)
    for number in range(95):
        log.record(account="acme", changes=[Change(subject=f"opportunity/{number}", type="t")])
    assert 10 <= len(log) <= 20
    assert [entry.seq for entry in log.since(93)] == [94, 95]
    assert [entry.seq for entry in log.since(93, limit=1)] == [94]
    assert log.record(account="acme", changes=[]) == ()
    assert log.transition == 95
