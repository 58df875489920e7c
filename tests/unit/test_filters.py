"""Which events an endpoint wants: globs and CEL."""

from typing import Any

import pytest
from hookside import event

from poller.deliver.filters import FilterFailed, compile_filter, wanted_by, wants_source, wants_type
from poller.errors import SettingsError


def an_event(**deal: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "source": "/drum/acme",
        "type": "drum.opportunity.won",
        "subject": "opportunity/1",
        "data": {"object": {"id": 1}, "changed": ["name"], "deal": deal or None},
    }


@pytest.mark.parametrize(
    ("globs", "type_", "wanted"),
    [
        (["*"], "drum.opportunity.won", True),
        (["*.won"], "drum.opportunity.won", True),
        (["*.won"], "drum.opportunity.lost", False),
        (["drum.project.*"], "drum.project.created", True),
        (["drum.project.*"], "drum.opportunity.created", False),
        (["*"], "poller.source.suspended", False),
        (["*.suspended"], "poller.source.suspended", False),
        (["poller.*"], "poller.source.suspended", True),
        (["poller.source.suspended"], "poller.source.suspended", True),
        (["poller.source.*"], "poller.webhook.disabled", False),
        ([], "drum.opportunity.won", False),
    ],
)
def test_globs_over_types(globs: list[str], type_: str, wanted: bool) -> None:
    """A star also matches dots; operational events come only to who names them."""
    assert wants_type(globs, type_) is wanted


def test_globs_over_sources() -> None:
    """An endpoint may serve some sources only."""
    assert wants_source(["ac*"], "acme")
    assert not wants_source(["ac*"], "drum")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("deal.amount > 100000", True),
        ("deal.amount == 250000", True),
        ("deal.amount >= 250000.01", False),
        ('deal.client == "Acme" && type.endsWith(".won")', True),
        ('data.changed.exists(name, name == "name")', True),
        ("data.object.id == 1", True),
        ('subject.startsWith("project/")', False),
        ("has(deal.owner) && deal.owner == 'x'", False),
    ],
)
def test_an_expression_sees_the_event(text: str, passes: bool) -> None:
    """The amount is a number; attributes, data and deal are there by their names."""
    test = compile_filter(text)
    assert test(an_event(amount="250000.00", client="Acme")) is passes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deal.amount >", r"line 1, column 14(.|\n)*\n  deal\.amount >\n {15}\^"),
        ("", "line 1, column 1"),
        ('deal.amount > 1 &&\n  tipe == "x"', r"an event has no tipe(.|\n)*\n    tipe == \"x\"\n    \^"),
        ("amount > 5", "an event has no amount, it has id, source, type"),
        ("startswith(type, 'x')", "CEL has no function startswith"),
    ],
)
def test_one_that_does_not_compile_points_at_the_place(text: str, says: str) -> None:
    """The settings error shows the line and a mark under the place."""
    with pytest.raises(SettingsError, match=says):
        compile_filter(text)


@pytest.mark.parametrize(
    "text", ["deal.amount > 1", "deal.nope == 1", "data.object.id", "1 / (data.object.id - 1) > 0"]
)
def test_one_that_fails_on_an_event_says_so(text: str) -> None:
    """No amount, an unknown field, an answer that is no bool: FilterFailed, never another exception."""
    with pytest.raises(FilterFailed):
        compile_filter(text)(an_event())


def test_an_event_that_the_filter_fails_on_passes_and_is_counted() -> None:
    """A missed event is worse than one too many."""
    wanted = wanted_by(["*"], "deal.amount > 100")
    assert wanted(event(1, amount="50")) == (False, True)
    assert wanted(event(2, amount="500")) == (True, True)
    assert wanted(event(3)) == (True, False)


def test_a_name_in_a_string_is_not_a_variable() -> None:
    """What stands in quotes is not mistaken for a name that the expression binds or uses."""
    assert compile_filter('type == "drum.opportunity.won" || type == "x.exists(y, y)"')(an_event())
