"""How long sweeps and rounds take within a budget, and the advice where they take too long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.app.reckoning import Allowance, Load, advice, reckon, requests_of
from poller.config import parse_duration

USUAL = Allowance(limit=240, window_s=300)


def load(**changed: float) -> Load:
    """A source of 800 records in 9 pages."""
    made = {"requests": 11, "records": 800, "every_s": 30.0, "max_age_s": 86_400.0, **changed}
    return Load(source="acme", **made)  # type: ignore[arg-type]


def test_what_fits_needs_no_advice() -> None:
    """A usual account fits: sweeps when they are due, and a round of details in the rest."""
    reckoned = reckon([load()], USUAL)
    assert reckoned.stretch == 1
    assert reckoned.round_s == pytest.approx(800 / (0.76 - 11 / 30))
    assert advice(load(), [load()], USUAL) == ""


def test_too_many_sweeps_are_stretched() -> None:
    """Sweeps that ask for more than the budget come less often, and the advice says what to set."""
    much = load(requests=110)
    reckoned = reckon([much], USUAL)
    assert reckoned.stretch == pytest.approx(110 / 30 / 0.76)
    assert reckoned.round_s is None
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
    allowance = Allowance(limit=limit, window_s=300)
    loads = [mine, *[load(requests=2, records=0, every_s=3600.0)] * others]
    told = advice(mine, loads, allowance)
    if found := re.search(r'set every = "(\w+)"', told):
        slower = load(requests=requests, records=records, every_s=parse_duration(found[1]).total_seconds())
        assert reckon([slower, *loads[1:]], allowance).stretch == 1
        assert advice(slower, [slower, *loads[1:]], allowance) == ""
    if found := re.search(r"raise budget to (\d+)", told):
        larger = Allowance(limit=int(found[1]) + 1, window_s=300)
        assert advice(mine, loads, larger) == ""
