"""How long sweeps and rounds take within a budget, and the advice where they take too long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.app.forecast import HostLimit, Load, advice, reckon, requests_of
from poller.config import parse_duration

USUAL = HostLimit(limit=240, window_s=300)


def load(**changed: float) -> Load:
    """A source of 800 records in 9 pages."""
    made = {"requests": 11, "records": 800, "every_s": 30.0, "max_age_s": 86_400.0, **changed}
    return Load(source="acme", **made)  # type: ignore[arg-type]


def test_what_fits_needs_no_advice() -> None:
    """A usual account fits: lists and details share the budget so that changes are told soonest."""
    reckoned = reckon(load(), [], USUAL)
    assert 30 <= reckoned.period_s < 45
    assert reckoned.sweeps_share * 0.76 + 800 / reckoned.round_s == pytest.approx(0.76, rel=0.01)
    assert reckoned.delay_s is not None
    assert reckoned.period_s / 2 < reckoned.delay_s < reckoned.round_s / 2
    assert advice(load(), [load()], USUAL) == ""


def test_a_larger_budget_sweeps_at_every_and_the_rest_is_for_details() -> None:
    """No list is read more often than `every`, whatever the budget."""
    plenty = HostLimit(limit=1200, window_s=300)
    reckoned = reckon(load(), [], plenty)
    assert reckoned.period_s == 30
    assert reckoned.round_s == pytest.approx(800 / (3.8 - 11 / 30), rel=0.01)


def test_the_others_of_a_host_have_their_part() -> None:
    """Two alike get half of the budget each; one that needs next to nothing takes next to nothing."""
    alone, beside = reckon(load(), [], USUAL), reckon(load(), [load()], USUAL)
    assert beside.round_s == pytest.approx(2 * alone.round_s, rel=0.05)
    small = load(requests=2, records=0, every_s=3600.0)
    assert reckon(load(), [small], USUAL).round_s == pytest.approx(alone.round_s, rel=0.05)


def test_too_many_sweeps_are_stretched() -> None:
    """Sweeps that ask for more than the budget come less often, and the advice says what to set."""
    much = load(requests=110)
    assert reckon(much, [], USUAL).period_s > 110 / 0.76
    assert advice(much, [much], USUAL).startswith('set every = "3m", or raise budget to ')


def test_details_that_are_never_done() -> None:
    """More records than a day has requests for: only a larger budget or no details help."""
    endless = load(records=1_000_000)
    assert advice(endless, [endless], USUAL).endswith("or set details = false")


def test_each_list_pays_for_the_page_behind_its_end() -> None:
    """Drum tells the end of a list only by a page that brings nothing."""
    assert requests_of([3, 1]) == 6
    assert requests_of([0]) == 2


@given(
    requests=st.integers(2, 500),
    records=st.integers(0, 50_000),
    every_s=st.integers(1, 3600),
    limit=st.integers(2, 2000),
    others=st.integers(0, 3),
)
def test_whoever_follows_the_advice_is_well(
    requests: int, records: int, every_s: int, limit: int, others: int
) -> None:
    """After doing what the advice says there is nothing more to advise."""
    mine = load(requests=requests, records=records, every_s=float(every_s))
    host_limit = HostLimit(limit=limit, window_s=300)
    loads = [mine, *[load(requests=2, records=0, every_s=3600.0)] * others]
    told = advice(mine, loads, host_limit)
    if found := re.search(r'set every = "(\w+)"', told):
        slower = load(requests=requests, records=records, every_s=parse_duration(found[1]).total_seconds())
        assert advice(slower, [slower, *loads[1:]], host_limit) == ""
    if found := re.search(r"raise budget to (\d+)", told):
        larger = HostLimit(limit=int(found[1]) + 1, window_s=300)
        assert advice(mine, loads, larger) == ""
