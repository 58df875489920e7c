"""An even pace, and a host's budget parted among its sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.watch.token_bucket import LEAST_PART, SPARE, Demand, TokenBucket, part_of, shares

demands = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.builds(Demand, st.floats(0, 100), st.floats(0, 10)),
    min_size=1,
)


def test_credit_grows_evenly_and_is_not_hoarded() -> None:
    """After an idle hour no more may be sent at once than the dearest sweep and a little."""
    credit = TokenBucket(per_s=0.5, now=0.0)
    assert credit.wait_s(3, 0.0, dearest=3) == pytest.approx(6.0)
    assert credit.wait_s(3, 6.0, dearest=3) == 0.0
    assert credit.left(3600.0, dearest=3) == 3 + SPARE


def test_what_goes_first_may_overdraw_and_is_made_good() -> None:
    """An urgent reading waits for nothing; what comes after it waits for both."""
    credit = TokenBucket(per_s=1.0, now=0.0)
    assert credit.wait_s(1, 0.0, dearest=1, overdraw=5) == 0.0
    for _ in range(5):
        credit.spend(1)
    assert credit.wait_s(1, 0.0, dearest=1, overdraw=5) == pytest.approx(1.0)
    assert credit.wait_s(1, 0.0, dearest=1) == pytest.approx(6.0)


def test_a_slower_pace_takes_nothing_back() -> None:
    """What was saved up stays, whatever the pace becomes."""
    credit = TokenBucket(per_s=1.0, now=0.0)
    assert credit.left(3.0, dearest=5) == pytest.approx(3.0)
    credit.per_s = 0.0
    assert credit.left(9.0, dearest=5) == pytest.approx(3.0)
    assert credit.wait_s(4, 9.0, dearest=5) == float("inf")


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 4)), max_size=60), st.floats(0.1, 3))
def test_never_more_than_the_pace_and_what_was_saved(steps: list[tuple[float, int]], per_s: float) -> None:
    """In any time no more is sent than the pace gives in it, and what could be saved up before."""
    credit, now, sent = TokenBucket(per_s=per_s, now=0.0), 0.0, [(0.0, 0)]
    for passed_s, cost in steps:
        now += passed_s
        if cost and credit.wait_s(cost, now, dearest=4) == 0.0:
            credit.spend(cost)
            sent.append((now, cost))
    for at, (start, _) in enumerate(sent):
        total = sum(cost for _, cost in sent[at:])
        assert total <= (now - start) * per_s + 4 + SPARE + 1e-6


@given(demands, st.floats(0.01, 5))
def test_a_budget_is_parted_wholly_and_never_twice(asked: dict[str, Demand], per_s: float) -> None:
    """All of it is given where it is wanted, none gets more than it can use, and the sum is never more."""
    given_ = shares(asked, per_s)
    assert given_.keys() == asked.keys()
    assert sum(given_.values()) <= per_s * (1 + 1e-9)
    assert all(given_[name] <= each.most_per_s + 1e-9 for name, each in asked.items())
    wanted = sum(each.most_per_s for each in asked.values())
    assert sum(given_.values()) == pytest.approx(min(per_s, wanted), abs=1e-9)


def test_who_needs_twice_as_much_gets_it() -> None:
    """Shares follow the need; what one cannot use goes to the others."""
    asked = {"a": Demand(2.0, 9.0), "b": Demand(1.0, 9.0), "failing": Demand(5.0, 0.1)}
    assert shares(asked, 1.0) == pytest.approx({"a": 0.6, "b": 0.3, "failing": 0.1})


def test_nobody_is_left_with_nothing() -> None:
    """A source that has shown no need yet gets enough to show it."""
    asked = {"new": Demand(0.0, 9.0), "busy": Demand(100.0, 9.0)}
    assert part_of("new", asked, 1.0) == pytest.approx(LEAST_PART / 2)
