"""Laws of the comparison: nothing for equal views, everything for others, no order that does not matter."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.model import dumps, loads
from poller.watch.diff import Rename, Shape, compare, equal, same, worth_saying
from poller.watch.sources.drum import KINDS

SHAPE = KINDS["opportunity"].shape

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9)
    | st.text(max_size=12)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["name", "amount", "project_status", "client", "opportunity_tags", "assigned_users", "description", "new"]
)
views = st.dictionaries(names, values, max_size=8)


@given(views)
def test_equal_views_have_no_difference(view: dict[str, Any]) -> None:
    """No change, no event: also after the view went over the wire and came back."""
    again = loads(dumps(view))
    diff = compare(SHAPE, view, again)
    assert (diff.changed, diff.hidden, diff.shown, diff.renames) == ((), (), (), ())


@given(views, views)
def test_replaying_the_difference_gives_the_new_view(old: dict[str, Any], new: dict[str, Any]) -> None:
    """What the difference names, and nothing else, turns the old view into the new one."""
    diff = compare(Shape(), old, new)
    replayed = {name: value for name, value in old.items() if name not in diff.hidden}
    replayed |= {name: new[name] for name in (*diff.changed, *diff.shown)}
    assert replayed.keys() == new.keys()
    assert all(equal(replayed[name], new[name]) for name in new)
    assert diff.previous == {name: old[name] for name in diff.changed}


@given(views, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(view: dict[str, Any], chance: Any) -> None:
    """An API that writes its keys in another order has changed nothing."""
    keys = list(view)
    chance.shuffle(keys)
    assert compare(SHAPE, view, {key: view[key] for key in keys}).changed == ()


@given(st.lists(st.text(max_size=5), unique=True), st.randoms(use_true_random=False))
def test_tags_are_a_set(tags: list[str], chance: Any) -> None:
    """Tags in another order are the same tags."""
    other = list(tags)
    chance.shuffle(other)
    assert same(SHAPE, "opportunity_tags", tags, other)


@given(st.lists(st.integers(1, 99), unique=True, min_size=1), st.randoms(use_true_random=False))
def test_people_are_a_set(ids: list[int], chance: Any) -> None:
    """People in another order are the same people; one fewer is a change."""
    people = [{"id": number, "name": f"P{number}"} for number in ids]
    other = list(people)
    chance.shuffle(other)
    assert same(SHAPE, "assigned_users", people, other)
    assert not same(SHAPE, "assigned_users", people, people[1:])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Decimal("250000.00"), Decimal("250000.0")),
        (Decimal("0.00"), 0),
        ("250000.0", Decimal("250000.00")),
        ("1.10", "1.1"),
        (Decimal("-0.0"), Decimal("0.00")),
        ("n/a", "n/a"),
        ("NaN", "NaN"),
        ("1e1000000", "1e1000000"),
    ],
)
def test_the_same_amount_is_no_change(old: object, new: object) -> None:
    """250000.00 = 250000.0 = "250000.0": places and quotes are spelling."""
    assert same(SHAPE, "amount", old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("amount", Decimal("1.10"), Decimal("1.11")),
        ("amount", Decimal("0.00"), None),
        ("planned", True, 1),
        ("planned", False, None),
        ("project_number", "007", "7"),
        ("name", "", None),
        ("client", {"id": 1, "name": "A"}, {"id": 2, "name": "A"}),
        (
            "client",
            {"id": 1, "name": "A", "type": "Company"},
            {"id": 1, "name": "A", "type": "BusinessOverhead"},
        ),
        ("team", {"id": 1, "name": "A"}, None),
        ("opportunity_tags", ["a"], ["a", "a"]),
    ],
)
def test_a_real_change_is_one(name: str, old: object, new: object) -> None:
    """Values that only look alike are not."""
    assert not same(SHAPE, name, old, new)


def test_an_absent_key_is_unknown_and_not_changed() -> None:
    """A field that the token may no longer read is hidden, one that it may read now is shown."""
    diff = compare(SHAPE, {"id": 1, "total_budget": Decimal(5)}, {"id": 1, "amount": Decimal(7)})
    assert (diff.changed, diff.hidden, diff.shown) == ((), ("total_budget",), ("amount",))


def test_a_new_name_under_the_same_id_is_a_rename() -> None:
    """A status that is called otherwise is one rename of the status and no change of the record."""
    old = {"project_status": {"id": 2, "name": "Proposal"}, "assigned_users": [{"id": 5, "name": "Ann"}]}
    new = {"project_status": {"id": 2, "name": "Offer"}, "assigned_users": [{"id": 5, "name": "Anna"}]}
    diff = compare(SHAPE, old, new)
    assert diff.changed == ()
    assert [(r.what, r.id, r.old, r.new) for r in diff.renames] == [
        ("status", "2", "Proposal", "Offer"),
        ("user", "5", "Ann", "Anna"),
    ]


def test_counters_alone_are_noise() -> None:
    """Counters and computed money are worth an event only where the operator wants them."""
    assert not worth_saying(SHAPE, ["costs_count", "work_in_progress"], noise=False)
    assert worth_saying(SHAPE, ["costs_count"], noise=True)
    assert worth_saying(SHAPE, ["costs_count", "name"], noise=False)
    assert not worth_saying(KINDS["task"].shape, ["position"], noise=True)


# --- documented objects ---------------------------------------------------------------------------

DAYS = st.dates().map(str) | st.none()
MONEY = st.decimals(0, 10**7, places=2) | st.decimals(0, 10**7, places=2).map(str)
THINGS = st.builds(lambda key, name: {"id": key, "name": name}, st.integers(1, 4), st.sampled_from("ABC"))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["Website", "App", ""]),
    "description": st.none() | st.sampled_from(["", "Text", "Other text"]),
    "amount": MONEY,
    "total_budget": MONEY,
    "target_date": DAYS,
    "planned": st.booleans(),
    "project_status": st.none() | THINGS.map(lambda ref: {**ref, "complete_status": ref["id"] > 3}),
    "client": st.none() | THINGS.map(lambda ref: {**ref, "type": "Company"}),
    "team": st.none() | THINGS,
    "lead_score": st.none() | THINGS,
    "assigned_users": st.lists(THINGS, max_size=3),
    "opportunity_tags": st.lists(st.sampled_from("abcd"), max_size=4),
    "quotes_count": st.integers(0, 5),
    "vip": st.booleans(),
}
documented = st.fixed_dictionaries({}, optional=VALUES)


def meant(name: str, value: Any) -> Any:
    """What a value says, by another way than that of the comparison: for people and things their ids."""
    if name in ("amount", "total_budget"):
        return Decimal(str(value))
    if name in ("project_status", "client", "team", "lead_score"):
        return value and {key: each for key, each in value.items() if key != "name"}
    if name == "assigned_users":
        return sorted(user["id"] for user in value)
    return sorted(value) if name == "opportunity_tags" else value


@given(documented, documented)
def test_the_difference_of_documented_objects_is_complete(old: dict[str, Any], new: dict[str, Any]) -> None:
    """What differs in meaning is named, and nothing else; keys that one lacks are hidden or shown."""
    diff = compare(SHAPE, old, new)
    both = old.keys() & new.keys()
    assert set(diff.changed) == {name for name in both if meant(name, old[name]) != meant(name, new[name])}
    assert (set(diff.hidden), set(diff.shown)) == (old.keys() - new.keys(), new.keys() - old.keys())
    assert list(diff.changed) == sorted(diff.changed)


@given(documented)
def test_a_documented_object_is_as_it_was_after_the_wire_and_the_store(view: dict[str, Any]) -> None:
    """Equal objects have no difference, however often they were written and read."""
    assert compare(SHAPE, view, loads(dumps(loads(dumps(view))))).changed == ()


@given(documented, documented, documented)
def test_differences_add_up(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    """What changed between the first and the last changed on one of the ways between them."""
    names = one.keys() & two.keys() & three.keys()
    whole = set(compare(SHAPE, one, three).changed) & names
    parts = set(compare(SHAPE, one, two).changed) | set(compare(SHAPE, two, three).changed)
    assert whole <= parts


@given(documented, documented)
def test_the_difference_is_the_same_both_ways(old: dict[str, Any], new: dict[str, Any]) -> None:
    """What changed from one to the other changed from the other to the one."""
    there, back = compare(SHAPE, old, new), compare(SHAPE, new, old)
    assert there.changed == back.changed
    assert (there.hidden, there.shown) == (back.shown, back.hidden)
    assert len(there.renames) == len(back.renames)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_compares_what_it_names(kind: str) -> None:
    """Numbers, sets and references are fields of their own; what is noise is not silent as well."""
    shape = KINDS[kind].shape
    assert not shape.numbers & shape.sets
    assert not shape.refs.keys() & (shape.numbers | shape.sets)
    assert not shape.noise & shape.silent


def test_a_thing_that_is_named_twice_is_renamed_once() -> None:
    """One rename of the user, however often the list names it."""
    old = {"assigned_users": [{"id": 1, "name": "A"}, {"id": 1, "name": "A"}]}
    new = {"assigned_users": [{"id": 1, "name": "B"}, {"id": 1, "name": "B"}]}
    assert compare(SHAPE, old, new).renames == (Rename("user", "1", "A", "B"),)


DONE, OPEN, UNKNOWN = ({"complete_status": True}, {"complete_status": False}, dict[str, Any]())


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (OPEN, DONE, "completed"),
        (None, DONE, "completed"),
        (DONE, OPEN, "reopened"),
        (DONE, None, "reopened"),
        (DONE, UNKNOWN, "status_changed"),
        (UNKNOWN, DONE, "status_changed"),
        (OPEN, UNKNOWN, "status_changed"),
        (OPEN, OPEN, "status_changed"),
    ],
)
def test_a_status_that_does_not_say_whether_it_is_complete_completes_nothing(
    before: Any, after: Any, verdict: str
) -> None:
    """An absent key is unknown; no status at all is none that is complete."""
    project = KINDS["project"]
    views = [
        {"project_status": None if status is None else {**status, "id": at, "name": "Status"}}
        for at, status in enumerate((before, after))
    ]
    assert project.verdict(compare(project.shape, *views)) == verdict
