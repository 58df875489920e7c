"""The simulated Close without a wire: its log adds up, its rules are the contract's, its hazards as set."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from clocks import Clock

from poller.simulators.close import EXAMPLE, Orders, Switches, World, life_of
from poller.simulators.close.dates import day, read, written, written_naive
from poller.simulators.close.fields import NOISE
from poller.simulators.close.journal import BadCursor
from poller.simulators.close.limits import GroupLimits, refusal, told
from poller.simulators.close.query import BadQuery, found
from poller.simulators.close.views import expected_cents, formatted
from poller.simulators.truth import Entry

START = 1_764_000_000.0


def made(*, opportunities: int = 0, seed: int = 1, clock: Clock | None = None, **switches: Any) -> Orders:
    world = World(switches=Switches.model_validate(switches), clock=clock or Clock(START))
    world.populate(opportunities=opportunities, seed=seed)
    return Orders(world)


def verbs(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.type.rsplit(".", 1)[1] for entry in entries]


def status_of(world: World, label: str) -> str:
    return next(one.id for one in world.tables.statuses.values() if one.name == label)


# --- the log adds up ------------------------------------------------------------------------


class Folded:
    """What somebody knows who knows the beginning and reads the log."""

    def __init__(self, world: World) -> None:
        self.records = {f"opportunity/{row.id}": dict(world.shown(row)) for row in world.live()}

    def read(self, entry: Entry) -> None:
        verb = entry.type.rsplit(".", 1)[1]
        if verb == "renamed":
            self.rename(entry)
        elif verb in {"created", "appeared"}:
            assert entry.subject not in self.records
            self.records[entry.subject] = dict(entry.object or {})
        elif verb == "removed":
            assert self.records.pop(entry.subject) == entry.before
        else:
            move(self.records[entry.subject], entry)

    def rename(self, entry: Entry) -> None:
        table, key = entry.subject.split("/")
        names = {
            "status": {"status_id": ("status_label", "status_display_name")},
            "pipeline": {"pipeline_id": ("pipeline_name",)},
            "lead": {"lead_id": ("lead_name",)},
            "contact": {"contact_id": ("contact_name",)},
            "user": {
                "user_id": ("user_name",),
                "created_by": ("created_by_name",),
                "updated_by": ("updated_by_name",),
            },
        }[table]
        for record in self.records.values():
            for reference, printed in names.items():
                if record[reference] == key:
                    record.update(dict.fromkeys(printed, entry.after["name"]))


def move(record: dict[str, Any], entry: Entry) -> None:
    assert {name: record[name] for name in entry.changed if name in record} == entry.before
    for name in entry.changed:
        record.pop(name, None)
    record.update(entry.after)
    assert record == entry.object
    assert entry.noise == NOISE.issuperset(entry.changed)


@pytest.mark.parametrize(
    ("seed", "switches"),
    [
        (1, {}),
        (2, {"lag": 4}),
        (3, {"quiet": []}),
        (4, {"quiet": ["rename", "stall", "merge", "custom", "currency", "restore"], "tick_s": 30}),
        (5, {"resolution_ms": 1000, "replica_lag": 5, "event_delay": 5}),
    ],
)
def test_log_adds_up(seed: int, switches: dict[str, Any]) -> None:
    """The log of 2,000 steps, folded over the first state, gives the last, and every before is what was."""
    orders = made(opportunities=60, seed=seed, **switches)
    world = orders.world
    folded, life = Folded(world), life_of(world, orders, seed=seed)
    steps = life.steps(2_000)
    orders.account.catch_up()
    for entry in world.log:
        folded.read(entry)
    assert folded.records == {f"opportunity/{row.id}": world.shown(row) for row in world.live()}
    assert [entry.seq for entry in world.log] == list(range(1, len(world.log) + 1))
    if not switches.get("lag"):
        assert [step.transition for step in steps] == list(range(1, 2_001))


def test_life_keeps_its_size_and_does_everything() -> None:
    """A long life leaves the account about as large as it was, and every action of it happens."""
    orders = made(opportunities=100)
    world = orders.world
    life = life_of(world, orders, seed=3)
    done = {step.action for step in life.steps(4_000)}
    assert 60 <= len(world.rows) <= 160
    assert len(done) == 17
    assert any(not one["date_created"].startswith("2025-11-24") for one in world.activities)


# --- won, lost, reopened -----------------------------------------------------------------------


def test_types_of_a_deals_life() -> None:
    """Won, lost and reopened follow the type of the status; a move within a type is status_changed."""
    orders = made()
    world = orders.world
    steps = [
        (status_of(world, "Negotiation"), "status_changed"),
        (status_of(world, "Won"), "won"),
        (status_of(world, "Renewed"), "status_changed"),
        (status_of(world, "Lost"), "lost"),
        (status_of(world, "Not a Fit"), "status_changed"),
        (status_of(world, "Upgraded"), "won"),
        (status_of(world, "Qualified"), "reopened"),
        (status_of(world, "Lost"), "lost"),
        (status_of(world, "Terms Sent"), "reopened"),
    ]
    for status, verb in steps:
        assert verbs(orders.set_status(EXAMPLE, status)) == [verb]
    assert orders.set_status(EXAMPLE, status_of(world, "Terms Sent")) == ()


def test_date_won_is_a_hope() -> None:
    """An active deal has a date_won; winning leaves it as it is, fills it only when empty, and it stays."""
    orders = made()
    row = orders.world.row(EXAMPLE)
    shown = orders.world.shown(row)
    assert (shown["status_type"], shown["date_won"], shown["value"]) == ("active", "2024-02-07", 100)
    orders.win(EXAMPLE)
    assert row.values["date_won"] == "2024-02-07"
    orders.reopen(EXAMPLE)
    assert row.values["date_won"] == "2024-02-07"
    orders.update(EXAMPLE, date_won=None)
    orders.win(EXAMPLE)
    assert row.values["date_won"] == day(int(START * 1000))


def test_date_lost_comes_and_goes() -> None:
    """date_lost is the moment of losing, and none once the deal is open again."""
    orders = made()
    row = orders.world.row(EXAMPLE)
    orders.lose(EXAMPLE)
    assert row.values["date_lost"] == written(int(START * 1000))
    orders.reopen(EXAMPLE)
    assert row.values["date_lost"] is None


def test_entered_when_done() -> None:
    """A deal that is entered as won is created, not won: nobody saw it open."""
    orders = made()
    won = status_of(orders.world, "Won")
    (entry,) = orders.create(status_id=won, value=500_000)
    assert entry.type == "close.opportunity.created"
    assert entry.object is not None
    assert (entry.object["status_type"], entry.object["date_won"]) == ("won", day(int(START * 1000)))


# --- coming and going ------------------------------------------------------------------------------


def test_scope_hides_and_shows() -> None:
    """What the token may no longer see is removed, what it sees again appears; both are its reach's doing."""
    orders = made(opportunities=20)
    world = orders.world
    foreign = {row.id for row in world.live() if row.values["user_id"] != world.main.user}
    gone = orders.account.set_scope("own")
    assert {entry.subject for entry in gone} == {f"opportunity/{record}" for record in foreign}
    assert {(verbs((entry,))[0], entry.cause) for entry in gone} == {("removed", "access")}
    back = orders.account.set_scope("all")
    assert {(verbs((entry,))[0], entry.cause) for entry in back} == {("appeared", "access")}


def test_handed_over_into_view() -> None:
    """An old deal that is handed to the token's user appears; a new one of another's was never there."""
    orders = made(opportunities=20)
    world = orders.world
    orders.account.set_scope("own")
    other = next(user for user in world.tables.users if user != world.main.user)
    assert orders.create(user_id=other) == ()
    hidden = list(world.rows)[-1]
    assert verbs(orders.update(hidden, user_id=world.main.user)) == ["appeared"]
    assert verbs(orders.update(hidden, user_id=other)) == ["removed"]


def test_lead_takes_its_deals_along() -> None:
    """Deleting a lead removes its deals in one transition; bringing it back lets them appear, dated anew."""
    clock = Clock(START)
    orders = made(clock=clock)
    world = orders.world
    lead = world.row(EXAMPLE).values["lead_id"]
    orders.create(lead_id=lead)
    gone = orders.leads.delete_lead(lead)
    assert verbs(gone) == ["removed", "removed"]
    assert len({entry.transition for entry in gone}) == 1
    assert world.rows == {}
    clock.now += 60
    assert verbs(orders.leads.restore_lead(lead)) == ["appeared", "appeared"]
    assert world.row(EXAMPLE).updated_ms == int((START + 60) * 1000)


def test_merge_moves_deals() -> None:
    """Merging a lead moves its deals to the other: an update of lead_id, no removal."""
    orders = made(opportunities=5)
    world = orders.world
    source = world.row(EXAMPLE).values["lead_id"]
    destination = next(lead for lead in world.tables.leads if lead != source)
    (entry,) = orders.leads.merge_leads(source, destination)
    assert verbs((entry,)) == ["updated"]
    assert entry.after["lead_id"] == destination
    assert source not in world.tables.leads


# --- dates -----------------------------------------------------------------------------------------


def test_writes_are_dated() -> None:
    """A write moves date_updated to its moment; a write that changes nothing moves nothing."""
    orders = made()
    row = orders.world.row(EXAMPLE)
    before = row.updated_ms
    assert orders.update(EXAMPLE, value=100) == ()
    assert row.updated_ms == before
    (entry,) = orders.update(EXAMPLE, value=30_000)
    assert row.updated_ms == int(START * 1000)
    assert set(entry.changed) == {
        "annualized_expected_value", "annualized_value", "date_updated", "expected_value", "value",
        "value_formatted",
    }  # fmt: skip
    assert not entry.noise


def test_ties() -> None:
    """A bulk edit gives all its deals one date_updated; at a coarse resolution so do separate writes."""
    orders = made(opportunities=5)
    world = orders.world
    records = list(world.rows)
    entries = orders.bulk_update(records, confidence=42)
    assert len({entry.transition for entry in entries}) == 1
    assert {row.updated_ms for row in world.live()} == {int(START * 1000)}
    clock = Clock(START)
    coarse = made(opportunities=2, clock=clock, resolution_ms=1000)
    for step, record in enumerate(list(coarse.world.rows)):
        clock.now = START + 5 + step / 10
        coarse.update(record, note="tied")
    assert {row.updated_ms for row in coarse.world.live()} == {int(START + 5) * 1000}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("custom", {"custom.cf_seats": 7}), ("currency", {"value_currency": "EUR"}), ("stall", None)],
)
def test_quiet_changes(kind: str, fields: dict[str, Any] | None) -> None:
    """A kind of change that is quiet leaves date_updated as it was, and is logged with that cause."""
    for quiet in ([kind], []):
        orders = made(quiet=quiet)
        before = orders.world.row(EXAMPLE).updated_ms
        (entry,) = orders.update(EXAMPLE, **fields) if fields else orders.stall(EXAMPLE)
        moved = orders.world.row(EXAMPLE).updated_ms != before
        assert (moved, entry.cause) == ((False, "quiet") if quiet else (True, ""))
        assert entry.noise == (kind == "stall")


def test_renames() -> None:
    """A rename is told once, of the thing itself; loud ones also date the deals that print it, as noise."""
    orders = made(opportunities=10)
    world = orders.world
    status = world.row(EXAMPLE).values["status_id"]
    before = world.row(EXAMPLE).updated_ms
    (entry,) = orders.account.rename("status", status, "Shown")
    assert (entry.subject, entry.type) == (f"status/{status}", "poller.source.renamed")
    assert (entry.before, entry.after, entry.noise) == ({"name": "Demo Completed"}, {"name": "Shown"}, False)
    assert world.shown(world.row(EXAMPLE))["status_label"] == "Shown"
    assert world.row(EXAMPLE).updated_ms == before
    world.switches = Switches(quiet=frozenset())
    first, *rest = orders.account.rename("pipeline", next(iter(world.tables.pipelines)), "Machines")
    assert first.type == "poller.source.renamed"
    assert rest
    assert all(entry.noise and set(entry.changed) <= {"date_updated"} for entry in rest)
    (lead,) = (world.row(EXAMPLE).values["lead_id"],)
    assert orders.account.rename("lead", lead, "Sitwell")[0].noise


def test_late_writes() -> None:
    """With a lag a write shows after the moment it is dated with; those of one record keep their order."""
    clock = Clock(START)
    orders = made(opportunities=3, clock=clock, lag=50)
    world = orders.world
    others = [record for record in world.rows if record != EXAMPLE]
    dated = []
    for number in range(40):
        clock.now += 1
        orders.update(EXAMPLE, value=1_000 + number)
        orders.update(others[number % 3], value=9_000 + number)
        dated.append(world.row(EXAMPLE).updated_ms)
    world.switches = Switches()
    orders.account.catch_up()
    own = [entry for entry in world.log if entry.subject == f"opportunity/{EXAMPLE}"]
    assert [entry.after["value"] for entry in own] == list(range(1_000, 1_040))
    assert any(at < int((START + number + 1) * 1000) for number, at in enumerate(dated))
    assert dated == sorted(dated)


def test_late_writes_come_due() -> None:
    """A late write shows by itself once as many transitions have passed, whoever made them."""
    orders = made(opportunities=3, lag=3)
    world = orders.world
    while orders.update(EXAMPLE, value=7_777):
        orders.update(EXAMPLE, value=8_888)
    world.switches = Switches()
    other = next(record for record in world.rows if record != EXAMPLE)
    seen: list[str] = []
    for number in range(1, 5):
        orders.update(other, value=number)
        seen += [entry.subject for entry in orders.due()]
    assert seen == [f"opportunity/{EXAMPLE}"]


def test_replica_stands_back() -> None:
    """With a replica lag lists show what was that many transitions ago, deletions and arrivals too."""
    orders = made(opportunities=4, replica_lag=2)
    world = orders.world

    def listed() -> dict[str, Any]:
        return {row.id: world.shown(row)["value"] for row in world.behind()}

    first = listed()
    deleted = next(record for record in world.rows if record != EXAMPLE)
    orders.update(EXAMPLE, value=555)
    orders.delete(deleted)
    assert listed() == first
    orders.create(value=1)
    assert listed() == {**first, EXAMPLE: 555}
    orders.account.catch_up()
    assert set(listed()) == set(world.rows)


def test_time_passes() -> None:
    """The account's clock runs ahead by what was let pass, and by a tick at each transition."""
    orders = made(tick_s=10)
    orders.update(EXAMPLE, value=1)
    orders.account.pass_time(days=40)
    orders.update(EXAMPLE, value=2)
    assert orders.world.row(EXAMPLE).updated_ms == int((START + 10 + 40 * 86_400) * 1000)


# --- the event log -----------------------------------------------------------------------------------


def page(
    orders: Orders, *, limit: int = 50, cursor: str = "", **filters: str
) -> tuple[list[Any], str | None]:
    world = orders.world
    found = world.journal.page(
        filters, limit=limit, cursor=cursor, now_ms=world.now_ms(), switches=world.switches
    )
    return found.events, found.next


def test_events_of_a_cascade() -> None:
    """A deleted lead leaves one event of its own and one for each deal, by one request."""
    orders = made()
    world = orders.world
    lead = world.row(EXAMPLE).values["lead_id"]
    orders.create(lead_id=lead)
    orders.leads.delete_lead(lead)
    events, _ = page(orders, action="deleted")
    assert sorted(event.object_type for event in events) == ["lead", "opportunity", "opportunity"]
    assert len({event.request_id for event in events}) == 1
    assert {event.lead_id for event in events} == {lead}


def test_events_of_a_merge() -> None:
    """A merge tells of itself in the meta of every event."""
    orders = made(opportunities=5)
    world = orders.world
    source = world.row(EXAMPLE).values["lead_id"]
    destination = next(lead for lead in world.tables.leads if lead != source)
    orders.leads.merge_leads(source, destination)
    events, _ = page(orders)
    assert {(event.object_type, event.action) for event in events} == {
        ("opportunity", "updated"), ("lead", "updated"), ("lead", "deleted"),
    }  # fmt: skip
    for event in events:
        assert event.meta == {"merge_source_lead_id": source, "merge_destination_lead_id": destination}


def test_updates_are_drawn_together() -> None:
    """Updates of one object within seconds are one event that moves; later ones are events of their own."""
    clock = Clock(START)
    orders = made(clock=clock, consolidate_s=5)
    for value in (200, 300, 400):
        orders.update(EXAMPLE, value=value)
        clock.now += 4
    (event,), _ = page(orders, object_id=EXAMPLE)
    assert event.updated_ms - event.created_ms == 8_000
    assert (event.previous["value"], event.data["value"]) == (100, 400)
    clock.now += 4
    orders.update(EXAMPLE, note="later")
    assert len(page(orders, object_id=EXAMPLE)[0]) == 2


def test_currency_is_not_told() -> None:
    """A change of the currency alone leaves no event, as the documents say."""
    orders = made()
    assert verbs(orders.update(EXAMPLE, value_currency="EUR")) == ["updated"]
    assert page(orders) == ([], None)


def test_cursors() -> None:
    """Cursors lead through the log once, newest first, in pages; a new event does not shift them."""
    clock = Clock(START)
    orders = made(opportunities=30, clock=clock)
    records = list(orders.world.rows)
    for record in records[:25]:
        clock.now += 1
        orders.delete(record)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        events, cursor = page(orders, limit=10, cursor=cursor, object_type="opportunity", action="deleted")
        seen += [event.object_id for event in events]
        orders.delete(next(iter(orders.world.rows)))
    assert seen == records[:25][::-1]


def test_cursor_back() -> None:
    """The previous cursor leads to the page before, an unknown one is refused."""
    orders = made(opportunities=9)
    for record in list(orders.world.rows):
        orders.delete(record)
    world = orders.world

    def asked(cursor: str) -> Any:
        return world.journal.page({}, limit=4, cursor=cursor, now_ms=world.now_ms(), switches=world.switches)

    first = asked("")
    second = asked(first.next)
    assert first.previous is None
    assert asked(second.previous).events == first.events
    with pytest.raises(BadCursor):
        asked("nonsense")


def test_events_are_forgotten() -> None:
    """Events are kept for 30 days, by the account's clock."""
    orders = made(opportunities=2)
    records = list(orders.world.rows)
    orders.delete(records[0])
    orders.account.pass_time(days=29.9)
    assert len(page(orders)[0]) == 1
    orders.account.pass_time(days=0.2)
    assert page(orders)[0] == []
    orders.delete(records[1])
    assert len(page(orders)[0]) == 1


def test_late_events() -> None:
    """Late events come in below newer ones, under their own dates; catching up shows all."""
    clock = Clock(START)
    orders = made(opportunities=60, clock=clock, event_delay=10)
    records = list(orders.world.rows)[:50]
    missing = 0
    for number, record in enumerate(records):
        clock.now += 1
        orders.delete(record)
        missing += number + 1 - len(page(orders)[0])
    assert missing > 50
    orders.account.catch_up()
    events = page(orders)[0]
    assert [event.object_id for event in events] == records[::-1]


def test_events_hide_what_is_old() -> None:
    """Who is no admin sees what an event changed for an hour only."""
    orders = made()
    world = orders.world
    orders.delete(EXAMPLE)
    (event,), _ = page(orders)

    def printed(*, admin: bool) -> dict[str, Any]:
        return world.journal.printed(event, admin=admin, now_ms=world.now_ms(), switches=world.switches)

    assert printed(admin=False)["previous_data"]["id"] == EXAMPLE
    orders.account.pass_time(seconds=3_601)
    assert printed(admin=False)["previous_data"] is None
    assert printed(admin=True)["previous_data"]["id"] == EXAMPLE
    assert printed(admin=True)["object_id"] == printed(admin=False)["object_id"] == EXAMPLE


def test_filters_that_cannot_be_combined() -> None:
    """Only the documented combinations of filters are answered."""
    orders = made()
    page(orders, object_type="opportunity", action="deleted")
    with pytest.raises(ValueError, match="request_id, user_id together"):
        page(orders, request_id="r", user_id="u")


def test_imported_history() -> None:
    """Status changes can be written into the history without the deal moving."""
    orders = made()
    world = orders.world
    lost, won = status_of(world, "Lost"), status_of(world, "Won")
    assert orders.import_status_change(EXAMPLE, lost, won, days_ago=300) == ()
    orders.win(EXAMPLE)
    assert [one["old_status_type"] for one in world.activities] == ["lost", "active"]
    assert {one["opportunity_date_won"] for one in world.activities} == {"2024-02-07T00:00:00+00:00"}
    assert page(orders, object_id=EXAMPLE, object_type="opportunity")[0][0].action == "updated"


# --- queries -----------------------------------------------------------------------------------------


def ask(world: World, offset_h: float = 0, precision_ms: int = 1, **asked: str) -> list[str]:
    result = found(world.live(), asked, shown=world.shown, offset_h=offset_h, precision_ms=precision_ms)
    return [row.id for row in result.rows]


def dated(*stamps: str) -> tuple[World, list[str]]:
    """A world whose deals were updated and created at these moments."""
    world = World(with_examples=False, clock=Clock(START))
    world.populate(opportunities=len(stamps))
    for row, stamp in zip(world.live(), stamps, strict=True):
        row.updated_ms = row.created_ms = read(stamp, offset_h=0)
        row.forget()
    return world, list(world.rows)


@pytest.mark.parametrize(
    ("operator", "kept"),
    [("", [1]), ("__gte", [1, 2]), ("__gt", [2]), ("__lte", [0, 1]), ("__lt", [0])],
)
@pytest.mark.parametrize("name", ["date_updated", "date_created"])
def test_date_filters(name: str, operator: str, kept: list[int]) -> None:
    """Every operator of the dates includes or excludes its bound as it says, to the millisecond."""
    world, ids = dated("2025-01-01T10:00:00.001Z", "2025-01-01T10:00:00.002Z", "2025-01-01T10:00:00.003Z")
    asked = {name + operator: "2025-01-01T10:00:00.002000+00:00", "_order_by": "date_updated"}
    assert ask(world, **asked) == [ids[place] for place in kept]


def test_filter_precision() -> None:
    """Where filters cut dates down to the minute, `gt` loses what is later in it, `gte` keeps too much."""
    world, ids = dated("2025-01-01T10:00:01Z", "2025-01-01T10:00:59Z", "2025-01-01T10:01:00Z")
    exact = {"date_updated__gt": "2025-01-01T10:00:30Z", "_order_by": "date_updated"}
    assert ask(world, **exact) == ids[1:]
    assert ask(world, precision_ms=60_000, **exact) == ids[2:]
    wide = {"date_updated__gte": "2025-01-01T10:00:30Z", "_order_by": "date_updated"}
    assert ask(world, precision_ms=60_000, **wide) == ids


def test_naive_dates_are_in_the_callers_zone() -> None:
    """Moments and days without an offset are read in the zone of x-tz-offset, those with one are not."""
    world, ids = dated("2025-01-01T05:00:00Z", "2025-01-01T23:30:00Z")
    assert ask(world, date_updated__gte="2025-01-01T06:00:00") == ids[1:]
    assert set(ask(world, offset_h=2, date_updated__gte="2025-01-01T06:00:00")) == set(ids)
    assert ask(world, date_updated__gte="2025-01-02") == []
    assert ask(world, offset_h=2, date_updated__gte="2025-01-02") == ids[1:]
    assert ask(world, offset_h=2, date_updated__gte="2025-01-01T06:00:00Z") == ids[1:]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"date_updated__gte": "2025-01-01T10:00:00 00:00"}, "date_updated__gte"),
        ({"date_won__lt": "soon"}, "date_won__lt"),
        ({"_order_by": "note"}, "_order_by"),
        ({"_group_by": "user_id"}, ""),
    ],
)
def test_bad_queries(asked: dict[str, str], field: str) -> None:
    """What cannot be read or is not offered is refused by name; an offset's plus must be encoded."""
    with pytest.raises(BadQuery) as caught:
        ask(World(clock=Clock(START)), **asked)
    assert caught.value.field == field


def test_values_of_filters() -> None:
    """Filters take one value, or several by `__in`."""
    orders = made(opportunities=80)
    world = orders.world

    def types(found: list[str]) -> set[str]:
        return {world.shown(world.row(record))["status_type"] for record in found}

    assert types(ask(world, status_type="won")) == {"won"}
    both = ask(world, status_type__in="won,lost")
    assert types(both) == {"won", "lost"}
    assert types(ask(world, status__in="Won,Renewed")) == types(ask(world, status="Won")) == {"won"}
    user = world.main.user
    assert set(ask(world, user_id=user)) == {row.id for row in world.live() if row.values["user_id"] == user}
    orders.stall(EXAMPLE)
    assert ask(world, is_stalled="true") == [EXAMPLE]
    hoped = ask(world, date_won__lte="2024-02-07")
    assert hoped == [EXAMPLE]


def test_orders() -> None:
    """Every order sorts by its field, both ways; nothing is lost in it, also where it is null."""
    orders = made(opportunities=40)
    world = orders.world
    for name in ("date_won", "date_updated", "confidence", "user_name", "value", "annualized_value"):
        up = ask(world, _order_by=name)
        down = ask(world, _order_by=f"-{name}")
        values = [world.shown(world.row(record))[name] for record in up]
        kept = [value for value in values if value is not None]
        assert kept == sorted(kept)
        assert sorted(up) == sorted(down) == sorted(world.rows)
        assert world.shown(world.row(down[0]))[name] == kept[-1]


def test_ties_can_be_ordered_anew() -> None:
    """With random ties equal rows come another way each time, unequal ones as asked."""
    world, _ = dated(*["2025-01-01T10:00:00Z"] * 20, "2025-01-01T09:00:00Z")

    def once(ties: random.Random) -> list[str]:
        result = found(
            world.live(), {"_order_by": "date_updated"}, shown=world.shown, offset_h=0, precision_ms=1,
            ties=ties,
        )  # fmt: skip
        return [row.id for row in result.rows]

    ties = random.Random(1)
    first, second = once(ties), once(ties)
    assert first != second
    assert first[0] == second[0]
    assert sorted(first) == sorted(second)


def test_totals() -> None:
    """The totals are sums over all that fits, in cents; a monthly value counts twelvefold in a year."""
    orders = made()
    orders.create(value=1_000, value_period="monthly", confidence=50)
    orders.create(value=None)
    world = orders.world
    totals = found(world.live(), {}, shown=world.shown, offset_h=0, precision_ms=1).totals
    assert totals == {
        "total_results": 3,
        "count_by_value_period": {"one_time": 2, "monthly": 1, "annual": 0},
        "total_value_one_time": 100,
        "total_value_monthly": 1_000,
        "total_value_annual": 0,
        "expected_value_one_time": 75,
        "expected_value_monthly": 500,
        "expected_value_annual": 0,
        "total_value_annualized": 12_100,
        "expected_value_annualized": 6_075,
    }


@pytest.mark.parametrize(
    ("cents", "currency", "period", "text"),
    [
        (100, "USD", "one_time", "$1"),
        (300_000, "USD", "one_time", "$3,000"),
        (300_050, "EUR", "monthly", "€3,000.50 monthly"),
        (-5, "CHF", "annual", "-CHF 0.05 annual"),
    ],
)
def test_formatted_values(cents: int, currency: str, period: str, text: str) -> None:
    """Cents are printed for people as the fixtures show."""
    assert formatted(cents, currency, period) == text
    assert expected_cents(100, 75) == 75


def test_moments() -> None:
    """Moments are printed to the microsecond of a millisecond, with an offset or without."""
    at_ms = read("2024-02-05T17:00:47.476Z", offset_h=0)
    assert written(at_ms) == "2024-02-05T17:00:47.476000+00:00"
    assert written_naive(at_ms) == "2024-02-05T17:00:47.476000"
    assert day(read("2024-02-05T23:30:00Z", offset_h=0), offset_h=1) == "2024-02-06"


# --- limits --------------------------------------------------------------------------------------------


def take(limits: GroupLimits, switches: Switches, *, key: str = "k", group: str = "opportunity") -> Any:
    return limits.take(group=group, key=key, organization="o", now=START + 1.129337, switches=switches)


def test_limits_by_key_group_and_organization() -> None:
    """Each key has its limit in each group, all keys thrice as much; windows end on the clock."""
    limits, switches = GroupLimits(), Switches(rate_limit=2, rate_window_s=5)
    assert [take(limits, switches).refused for _ in range(3)] == [False, False, True]
    assert not take(limits, switches, group="event").refused
    assert [take(limits, switches, key="l").refused for _ in range(3)] == [False, False, True]
    assert [take(limits, switches, key="m").refused for _ in range(2)] == [False, False]
    over = take(limits, switches, key="n")
    assert (over.refused, over.of, over.limit) == (True, "organization", 6)
    assert over.reset_s == pytest.approx(3.870663, abs=1e-4)
    later = limits.take(group="opportunity", key="k", organization="o", now=START + 5, switches=switches)
    assert later is not None
    assert not later.refused
    assert take(GroupLimits(), Switches(rate_limit=None)) is None
    assert take(GroupLimits(), Switches(group_limits={"event": 0}), group="event").refused


def test_the_limit_header() -> None:
    """How one stands is told in one header; where there is no limit, there is none."""
    switches = Switches(rate_limit=10)
    assert told(take(GroupLimits(), switches), switches) == (
        (b"ratelimit", b"limit=10, remaining=9, reset=4"),
    )
    assert told(None, switches) == ()


@pytest.mark.parametrize(
    ("mode", "header", "text"),
    [
        ("header", (b"ratelimit", b"limit=0, remaining=0, reset=3.87066"), b"exceeded"),
        ("retry_after", (b"retry-after", b"4"), b"exceeded"),
        ("body", None, b'"rate_reset":3.87066'),
        ("silent", None, b"exceeded"),
    ],
)
def test_refusals(mode: str, header: tuple[bytes, bytes] | None, text: bytes) -> None:
    """A 429 tells the time to wait in the header, as Retry-After, in the old body, or not at all."""
    switches = Switches.model_validate({"rate_limit": 0, "refusal": mode, "fractional": True})
    answer = refusal(take(GroupLimits(), switches), switches)
    assert answer.status == 429
    assert text in answer.body
    told_times = {name: value for name, value in answer.headers if name != b"content-type"}
    if header is None:
        assert told_times == {}
    else:
        assert list(told_times) == [header[0]]
        assert told_times[header[0]].startswith(header[1])


# --- orders that cannot be carried out, and tokens ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("win", {"record": "oppo_x"}, "there is no opportunity oppo_x"),
        ("update", {"record": EXAMPLE, "valeu": 5}, "there is no field valeu. Did you mean value?"),
        ("update", {"record": EXAMPLE, "value": 1.5}, "value is 1.5: it must be of type int"),
        ("update", {"record": EXAMPLE, "status_id": "stat_x"}, "there is no status_id stat_x"),
        ("update", {"record": EXAMPLE, "confidence": 101}, "confidence is 101: it must be from 0 to 100"),
        ("update", {"record": EXAMPLE, "value_period": "weekly"}, "value_period is weekly"),
        ("rename", {"table": "team", "key": "1", "name": "x"}, "there is no table team"),
        ("rename", {"table": "lead", "key": "1", "name": "x"}, "there is no lead 1"),
        ("delete_lead", {"lead": "lead_x"}, "there is no lead lead_x"),
        ("restore_lead", {"lead": "lead_x"}, "no lead lead_x was deleted"),
        ("set_scope", {"scope": "some"}, "there is no scope some"),
    ],
)
def test_orders_that_cannot_be(name: str, arguments: Mapping[str, Any], message: str) -> None:
    """What cannot be carried out is refused with what is wrong, and changes nothing."""
    orders = made()
    with pytest.raises(ValueError, match=message):
        orders.named()[name](**arguments)
    assert len(orders.world.log) == 0


def test_tokens() -> None:
    """A token that is expired, unpaid or whose user is inactive is refused; the log tells it once."""
    orders = made()
    world, account = orders.world, orders.account
    verdict = {"expire_token": 401, "lapse_plan": 402, "deactivate_user": 403}
    heal = {"expire_token": "renew_token", "lapse_plan": "pay_plan", "deactivate_user": "activate_user"}
    for spoil, status in verdict.items():
        assert [entry.type for entry in getattr(account, spoil)()] == ["poller.source.suspended"]
        assert world.main.verdict(now=world.clock()) == status
        assert getattr(account, spoil)() == ()
        assert [entry.type for entry in getattr(account, heal[spoil])()] == ["poller.source.resumed"]
