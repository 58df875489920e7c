"""What a detail is worth: rates learned from few changes, bursts, the choice, and how long a choice takes."""

import math
import random
import time
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.watch.habits import DAY_S, EDGES_S, GUESS_PER_S, Bursts, Habit, Population, overlaps
from poller.watch.pacing import MOST_URGE, URGE, Round, turns

EVERY_S, MAX_AGE_S = 30.0, DAY_S


def subject(number: int) -> tuple[str, str]:
    """A record."""
    return "opportunity", str(number)


def a_round(count: int, *, now: float = 0.0, spread_s: float = 1000.0) -> Round:
    """Records that were read evenly over the time before `now`."""
    made = Round(every_s=EVERY_S, max_age_s=MAX_AGE_S)
    made.load({subject(n): now - spread_s * (n + 1) / count for n in range(count)}, unread_at=now)
    return made


def population_of(past: dict[int, int], over_s: float) -> Population:
    """So many records (value) that have shown so many changes (key) in that time."""
    made = Population()
    for seen, count in past.items():
        for _ in range(count):
            made.enter(Habit(seen=seen, over_s=over_s))
    for _ in range(20):
        made.fit()
    return made


def test_what_was_never_looked_for_is_guessed() -> None:
    """A record of which nothing is known is believed to change as the guess says."""
    assert Population().rate(Habit().cell) == pytest.approx(GUESS_PER_S, rel=0.15)


def test_a_record_with_a_long_past_is_believed() -> None:
    """A hundred changes in a hundred days are about one a day, whatever the others do."""
    made = population_of({0: 500, 100: 1}, 100 * DAY_S)
    assert made.rate(Habit(seen=100, over_s=100 * DAY_S).cell) == pytest.approx(1 / DAY_S, rel=0.2)


def test_one_change_says_little_where_most_are_alike() -> None:
    """Where all records have about the same rate, one that changed once is not believed lively."""
    alike = population_of({0: 100, 1: 200, 2: 200, 3: 130, 4: 60, 5: 24}, 10 * DAY_S)
    unlike = population_of({0: 650, 1: 10, 20: 40}, 10 * DAY_S)
    calm, lively = Habit(seen=0, over_s=10 * DAY_S).cell, Habit(seen=5, over_s=10 * DAY_S).cell
    assert alike.rate(lively) / alike.rate(calm) < 3
    assert unlike.rate(lively) / unlike.rate(calm) > 30


@given(st.integers(0, 40), st.integers(0, 40), st.floats(3600, 100 * DAY_S))
def test_more_changes_are_never_a_lower_rate(one: int, other: int, over_s: float) -> None:
    """Of two records watched for the same time, the one that changed more often is believed livelier."""
    made = population_of({0: 50, 3: 20, 12: 5}, over_s)
    low, high = sorted((one, other))
    slow, fast = (made.rate(Habit(seen=n, over_s=over_s).cell) for n in (low, high))
    assert slow <= fast * (1 + 1e-9)


def test_what_was_seen_long_ago_fades() -> None:
    """A deal that was lively and has gone quiet is believed quiet after some months."""
    made, habit = Population(), Habit()
    made.enter(habit)
    for _ in range(200):
        made.note(habit, gap_s=DAY_S / 10, seen=1.0)
    lively = habit.rate
    for _ in range(90):
        made.note(habit, gap_s=DAY_S, seen=0.0)
    assert habit.rate < lively / 5


@given(st.floats(0, 1e5), st.floats(0.1, 1e5))
def test_the_parts_of_a_burst_add_up(start_s: float, gap_s: float) -> None:
    """What of a stretch of time lies within a burst is counted once."""
    inside = max(0.0, min(start_s + gap_s, EDGES_S[-1]) - start_s)
    assert sum(spent for _, spent in overlaps(start_s, start_s + gap_s)) == pytest.approx(inside)


def test_sessions_are_learned_and_chance_is_not() -> None:
    """Where changes follow each other within minutes that is expected from then on; else nothing is."""
    rng, bursts, calm = random.Random(1), Bursts(), Bursts()
    for _ in range(2000):
        bursts.note(GUESS_PER_S, since_s=0.0, gap_s=120.0, changed=rng.random() < 0.3)
        calm.note(GUESS_PER_S, since_s=0.0, gap_s=120.0, changed=rng.random() < 120 * GUESS_PER_S)
    assert bursts.further > 0.3
    assert calm.further < 0.02


def test_a_change_that_may_be_old_leaves_little_of_its_burst() -> None:
    """Found after hours, most bursts are over; what is found then does not hide that bursts exist."""
    rng, prompt, late = random.Random(1), Bursts(), Bursts()
    for _ in range(4000):
        prompt.note(GUESS_PER_S, since_s=0.0, gap_s=300.0, changed=rng.random() < 0.4)
        left = late.left(7200.0)
        goes_on = rng.random() < left
        late.note(GUESS_PER_S, since_s=0.0, gap_s=300.0, changed=goes_on and rng.random() < 0.4, left=left)
    shares = [prompt.left(gap_s) for gap_s in (0.0, 60.0, 600.0, 7200.0)]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.1
    assert late.further > prompt.further / 3


def test_what_a_changed_row_led_to_is_followed_up_sooner() -> None:
    """Of two that were found changed, the one whose row had just changed is read again first."""
    made, now = a_round(2), 10_000.0
    for _ in range(2000):
        made.bursts.note(GUESS_PER_S, since_s=0.0, gap_s=300.0, changed=True)
    made.read(subject(0), now=now, changed=True, prompted=False)
    made.read(subject(1), now=now, changed=True, prompted=True)
    found = made.next(now + 60.0)
    assert found is not None
    assert found[0] == subject(1)


def test_a_change_within_a_burst_is_not_the_records_own() -> None:
    """The fifth edit of one afternoon says next to nothing about how often such afternoons come."""
    bursts = Bursts()
    for _ in range(500):
        bursts.note(GUESS_PER_S, since_s=0.0, gap_s=120.0, changed=True)
    assert bursts.note(GUESS_PER_S, since_s=60.0, gap_s=120.0, changed=True) < 0.01
    assert bursts.note(GUESS_PER_S, since_s=1e6, gap_s=120.0, changed=True) == 1.0


def test_alike_records_are_read_in_turn() -> None:
    """Without any difference between them, the oldest is next."""
    made, now = a_round(50), 0.0
    order = []
    for _ in range(50):
        now += 20
        found = made.next(now)
        assert found is not None
        order.append(found[0])
        made.read(found[0], now=now, changed=False)
    assert order == [subject(n) for n in reversed(range(50))]


def test_the_lively_are_read_more_often_and_nobody_never() -> None:
    """A record that changes all the time is read several times while each other is read once."""
    made, now, reads = a_round(100), 0.0, [0] * 100
    rng = random.Random(3)
    for turn in range(12_000):
        now += 10
        found = made.next(now)
        if found is None:
            continue
        number = int(found[0][1])
        made.read(found[0], now=now, changed=number == 7 and rng.random() < 0.1)
        if turn > 6_000:
            reads[number] += 1
    assert reads[7] > 3 * sorted(reads)[50]
    assert min(reads) > 3


def test_nothing_grows_older_than_its_greatest_age() -> None:
    """A record at its greatest age goes before whatever is livelier."""
    made = Round(every_s=1.0, max_age_s=100.0)
    made.load({subject(1): 1000.0, subject(2): 1190.0}, unread_at=0.0)
    found = made.next(1200.0)
    assert found is not None
    assert (found[0], found[1]) == (subject(1), math.inf)


def test_too_old_ones_are_read_in_turn_however_lively() -> None:
    """Where the pace does not suffice for the greatest age, none is shut out by others of another rate."""
    made = Round(every_s=1.0, max_age_s=60.0)
    quiet, lively = [subject(n) for n in range(100)], [subject(n) for n in range(100, 120)]
    pasts = dict.fromkeys(quiet, (0.0, 40 * DAY_S)) | dict.fromkeys(lively, (8.0, 4 * DAY_S))
    made.load({each: 100.0 - n / 10 for n, each in enumerate(pasts)}, unread_at=0.0, pasts=pasts)
    for now in range(200, 1000):
        found = made.next(float(now))
        assert found is not None
        made.read(found[0], now=float(now), changed=False)
    oldest = made.oldest()
    assert oldest is not None
    assert 1000 - oldest < 1.2 * len(made)


def test_nothing_is_read_again_within_every() -> None:
    """However lively, no detail is read twice within the shortest time between two readings."""
    made = a_round(3, now=1000.0, spread_s=0.3)
    assert made.next(1000.0 + EVERY_S - 1) is None
    assert made.next(1000.0 + EVERY_S + 1) is not None


def test_every_is_of_lists_and_lets_no_detail_grow_too_old() -> None:
    """Lists that are read every six hours, and details once an hour at least: both hold."""
    made = Round(every_s=6 * 3600.0, max_age_s=3600.0)
    made.load({subject(1): 1000.0}, unread_at=0.0)
    assert made.next(1000.0 + 3599) is None
    assert made.next(1000.0 + 3600) == (subject(1), math.inf)


def test_a_first_reading_teaches_nothing_and_has_no_delay() -> None:
    """What was never read before cannot be said to have changed."""
    made = Round(every_s=EVERY_S, max_age_s=MAX_AGE_S)
    made.load({subject(1): 0.0, subject(2): 500.0}, unread_at=900.0)
    assert made.unread == 1
    assert made.read(subject(1), now=1000.0, changed=True) is None
    assert made.read(subject(2), now=1000.0, changed=False) == 500.0
    assert made.unread == 0


def test_records_come_and_go() -> None:
    """What is listed no more is never chosen; what is new is there once, and counts as unread."""
    made = a_round(2)
    made.drop(subject(0))
    made.add(subject(5), now=10.0)
    made.add(subject(5), now=20.0)
    made.read(subject(0), now=30.0, changed=True)
    assert {*made} == {subject(1), subject(5)}
    assert made.unread == 1
    made.drop(subject(5))
    assert made.unread == 0


def lognormal(sigma: float) -> list[tuple[int, float]]:
    """Rates of 200 records."""
    normal = NormalDist(sigma=sigma)
    return [(1, math.exp(normal.inv_cdf((n + 0.5) / 200))) for n in range(200)]


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0, 1.5, 2.0])
def test_the_tail_is_round_robins_and_the_mean_next_to_the_least(sigma: float) -> None:
    """Where all rates are known 19 of 20 changes are found as soon as in turn; the mean is 3 % more."""
    rates = lognormal(sigma)
    _, intervals = turns(rates, urge=URGE)
    assert sum(1 / each for each in intervals) == pytest.approx(1, rel=0.001)
    mean = sum(rate * each for (_, rate), each in zip(rates, intervals, strict=True))
    assert tail(rates, intervals) <= 0.95
    assert mean <= 1.03 * sum(math.sqrt(rate) for _, rate in rates) ** 2


def tail(rates: list[tuple[int, float]], intervals: list[float]) -> float:
    """95th percentile of the delays, in rounds: those of one record are even between 0 and its interval."""
    low, high = 0.0, max(intervals)
    for _ in range(30):
        middle = (low + high) / 2
        found = sum(rate * min(1.0, middle / each) for (_, rate), each in zip(rates, intervals, strict=True))
        low, high = (middle, high) if found < 0.95 * sum(rate for _, rate in rates) else (low, middle)
    return high / len(rates)


def test_what_was_learned_is_believed_after_a_restart() -> None:
    """Rates come from the pasts that were kept, and from what they tell of the population."""
    made, now, rng = a_round(100), 0.0, random.Random(3)
    for _ in range(30_000):
        now += 10
        if choice := made.next(now):
            lively = int(choice[0][1]) % 10 == 7
            made.read(choice[0], now=now, changed=lively and rng.random() < 0.2)
    pasts = {each: past for each in made if (past := made.past(each))}
    again = Round(every_s=EVERY_S, max_age_s=MAX_AGE_S)
    again.load(dict.fromkeys(pasts, now), unread_at=now, pasts=pasts)
    assert apart(made) > 10
    assert apart(again) == pytest.approx(apart(made), rel=0.3)


def apart(made: Round) -> float:
    """How much more often the ten liveliest are believed to change than the others."""
    rates = sorted((rate for count, rate in made.rates() for _ in range(count)), reverse=True)
    return sum(rates[:10]) / 10 / (sum(rates[10:]) / (len(rates) - 10))


@pytest.mark.parametrize(("gap_s", "urge"), [(500.0, 0.0), (998.0, URGE), (2000.0, MOST_URGE)])
def test_the_old_are_urged_as_far_as_changes_are_found_late(gap_s: float, urge: float) -> None:
    """Late is 950 s: where fewer than 5 % of what is found is that late, the quiet ones may wait."""
    made, now = a_round(100), 0.0
    for _ in range(1000):
        now += 10
        choice = made.next(now)
        assert choice is not None
        made.read(choice[0], now=now, changed=False)
    for number in range(100):
        oldest = [*made][number]
        now += 10
        made.load({oldest: now - gap_s}, unread_at=0.0)
        made.read(oldest, now=now, changed=True)
    assert made.urge == pytest.approx(urge, abs=0.05)


def test_the_age_at_which_a_detail_is_late_follows_the_pace() -> None:
    """It is 95 % of a round at the pace that details have had lately."""
    made, now = a_round(100), 0.0
    for apart_s in (10.0, 2.0):
        for _ in range(3000):
            now += apart_s
            choice = made.next(now)
            assert choice is not None
            made.read(choice[0], now=now, changed=False)
        assert made.late_s == pytest.approx(0.95 * 100 * apart_s, rel=0.03)


@pytest.mark.parametrize(("records", "most_s"), [(3_000, 0.0005), (100_000, 0.002)])
def test_a_choice_is_cheap(records: int, most_s: float) -> None:
    """To choose and to learn takes less than a thousandth of the time between two requests."""
    made = a_round(records)
    now, began = 0.0, time.process_time()
    for turn in range(500):
        now += 1
        found = made.next(now)
        assert found is not None
        made.read(found[0], now=now, changed=turn % 50 == 0)
    assert (time.process_time() - began) / 500 < most_s
