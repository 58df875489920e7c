"""What a source does next: sweeps and details in one queue, what goes first, and what it all comes to."""

import random
import statistics
from dataclasses import dataclass

import pytest

from poller.watch.agenda import CROWD, FIRST_ROUND, LONGEST_RETRY_S, Agenda, Choice
from poller.watch.habits import DAY_S, EDGES_S

EVERY_S = 5.0
START = 1_000_000.0


def agenda(records: int = 100, *, details: bool = True, read: bool = True) -> Agenda:
    """Two lists that were swept just now, and records that were read over the last 200 s."""
    made = Agenda.of(["opportunity", "project"], every_s=EVERY_S, max_age_s=DAY_S, details=details)
    for kind in made.lists:
        made.begun(kind, now=START)
        made.swept(kind, complete=True, cost=3, records=records, changed=())
    at = {("opportunity", str(n)): START - 200 * n / records if read else 0.0 for n in range(1, records + 1)}
    made.round.load(at, unread_at=START - 200)
    return made


@dataclass
class Course:
    """What a schedule did while so many requests a second were spent."""

    spent: dict[str, int]
    """Requests by what they were for."""
    gaps: dict[str, list[float]]
    """List -> seconds between the beginnings of two sweeps."""
    oldest_s: float
    """The greatest age of a detail."""


def course(made: Agenda, *, seconds: int, per_s: float = 0.8, begin: int = 0) -> Course:
    """Let it run for so long, from `begin` seconds after its start."""
    found = Course({"sweep": 0, "detail": 0}, {kind: [] for kind in made.lists}, 0.0)
    credit = 0.0
    for second in range(begin, begin + seconds):
        now, credit = START + second, min(credit + per_s, 10.0)
        while (choice := made.next(now, ())) is not None and choice.cost <= credit:
            credit -= choice.cost
            found.spent[choice.what] += choice.cost
            if choice.what == "sweep":
                made.begun(choice.subject[0], now=now)
                made.swept(choice.subject[0], complete=True, cost=3, records=100, changed=())
                found.gaps[choice.subject[0]] += [made.lists[choice.subject[0]].period_s]
            else:
                made.read(choice, now=now, changed=False)
        found.oldest_s = max(found.oldest_s, now - (made.round.oldest() or now))
    return found


def test_every_list_is_swept_at_once_at_the_start() -> None:
    """The first sweeps wait for nothing."""
    made = Agenda.of(["opportunity", "project"], every_s=EVERY_S, max_age_s=DAY_S, details=True)
    for kind in ("opportunity", "project"):
        choice = made.next(START, ())
        assert choice == Choice("sweep", (kind, ""), 2, first=True)
        made.begun(kind, now=START)
        made.swept(kind, complete=True, cost=2, records=5, changed=())
    assert made.next(START, ()) is None


def test_no_list_is_swept_again_within_every() -> None:
    """`every` is the least time between two sweeps of one list, unless somebody asks."""
    made = agenda(details=False)
    assert made.next(START + EVERY_S - 0.1, ()) is None
    assert made.idle_s(START + EVERY_S - 0.1) == pytest.approx(0.1)
    made.ask(kinds=["project"])
    assert made.next(START + 1, ()) == Choice("sweep", ("project", ""), 3, first=True)


def test_a_changed_row_is_read_next_but_not_for_ever() -> None:
    """Changed records go first, until they have cost as much as a sweep that is due."""
    made = agenda()
    urgent = {("opportunity", str(n)): START for n in range(1, 51)}
    now, order = START + 60, []
    for _ in range(8):
        choice = made.next(now, urgent)
        assert choice is not None
        order.append(choice.what)
        if choice.what == "sweep":
            made.begun(choice.subject[0], now=now)
            made.swept(
                choice.subject[0], complete=True, cost=3, records=100, changed={str(n) for n in range(50)}
            )
        else:
            urgent.pop(choice.subject)
            made.read(choice, now=now, changed=True)
    assert order == ["detail", "detail", "detail", "sweep"] * 2


def test_sweeps_and_details_both_have_their_part() -> None:
    """Where lists and details are both lively, neither starves."""
    found = course(agenda(), seconds=2000).spent
    assert found["sweep"] + found["detail"] > 0.95 * 2000 * 0.8
    assert min(found.values()) > 200


def test_the_first_round_of_details_has_its_part() -> None:
    """However lively the lists, details that were never read get one request of three."""
    made = agenda(2000, read=False)
    for mine in made.lists.values():
        mine.seen, mine.begun, mine.over_s = 1000.0, 1000.0, 100.0
    found = course(made, seconds=1000).spent
    assert found["detail"] >= 0.9 * found["sweep"] / FIRST_ROUND


@pytest.mark.parametrize("max_age_s", [120.0, 20.0])
def test_lists_are_read_whatever_max_age_asks(max_age_s: float) -> None:
    """Details that can never all be young enough take three quarters of the pace, and not all of it."""
    made = agenda()
    made.round.max_age_s = max_age_s
    found = course(made, seconds=1000)
    assert found.spent["sweep"] >= 0.2 * 1000 * 0.8
    assert max(map(max, found.gaps.values())) < 60
    assert found.oldest_s < 100 / (0.75 * 0.8) * 1.3


def test_nothing_grows_older_than_max_age_where_the_pace_suffices() -> None:
    """However lively the lists, a detail is read at `max_age` at the latest."""
    made = agenda()
    for mine in made.lists.values():
        mine.seen, mine.begun, mine.over_s = 10_000.0, 10_000.0, 100.0
    made.round.max_age_s = 300.0
    course(made, seconds=300)
    assert course(made, begin=300, seconds=1700).oldest_s < 310


@pytest.mark.parametrize("max_age_s", [DAY_S, 160.0])
def test_what_is_foretold_is_what_happens(max_age_s: float) -> None:
    """The intervals of the outlook are those of the schedule at work, `max_age` or not."""
    made = agenda(read=False)
    made.round.max_age_s = max_age_s
    for mine in made.lists.values():
        mine.seen, mine.begun, mine.over_s = 1000.0, 1000.0, 1000.0 / mine.rate
    course(made, seconds=500)
    told, found = made.outlook(0.8), course(made, begin=500, seconds=1000)
    for kind, interval_s in told.sweeps_s.items():
        assert statistics.mean(found.gaps[kind]) == pytest.approx(interval_s, rel=0.15)
    assert found.oldest_s == pytest.approx(told.oldest_s, rel=0.15)


def test_what_is_foretold_of_details_is_max_age_where_every_is_longer() -> None:
    """`every` is the shortest time between two sweeps: details of 100 s are read every 100 s beside it."""
    made = agenda()
    made.every_s = made.round.every_s = 600.0
    made.round.max_age_s = 100.0
    told = made.outlook(100.0)
    assert told.oldest_s == pytest.approx(100.0)
    assert min(told.sweeps_s.values()) == pytest.approx(600.0)


def test_a_list_that_cannot_be_read_is_tried_for_one_request_and_less_often() -> None:
    """A failing source takes next to nothing of its host's budget, and no detail is tried."""
    made = agenda()
    for _ in range(10):
        for kind in made.lists:
            made.begun(kind, now=START)
            made.swept(kind, complete=False, cost=1, records=0, changed=())
    assert made.failing
    assert made.next(START + LONGEST_RETRY_S - 1, {("opportunity", "1"): START}) is None
    choice = made.next(START + LONGEST_RETRY_S, ())
    assert choice is not None
    assert (choice.what, choice.cost) == ("sweep", 1)
    assert made.demand().most_per_s < 0.05
    assert made.demand(fastest_per_s=0.01).most_per_s == 0.01


def test_without_details_only_lists_are_read() -> None:
    """`details = false` reads no detail in turn, but what is to be judged it does."""
    made = agenda(details=False)
    first = made.next(START + 1, {("opportunity", "7"): START})
    assert first == Choice("detail", ("opportunity", "7"), 1, first=True)
    assert course(made, seconds=600, per_s=5.0).spent["detail"] == 0


def test_twice_the_pace_is_half_the_delay() -> None:
    """The delay to be expected follows from the pace, down to what `every` allows."""
    made = agenda(1000)
    slow, fast = made.outlook(0.5).delay_s, made.outlook(1.0).delay_s
    assert slow is not None
    assert fast is not None
    assert slow == pytest.approx(2 * fast, rel=0.05)
    at_best = made.outlook(1e9).delay_s
    assert at_best == pytest.approx(EVERY_S / 2)
    assert made.outlook(0.0).delay_s is None


def worked_on(made: Agenda, *, sweeps: int, seed: int = 1) -> float:
    """Rows that are changed some times within minutes; gives when the last sweep began."""
    rng, busy = random.Random(seed), set[str]()
    for turn in range(1, sweeps + 1):
        busy = {row for row in busy if rng.random() < 0.8}
        if rng.random() < 0.02:
            busy.add(str(rng.randrange(100)))
        made.begun("opportunity", now=START + 30 * turn)
        changed = {row for row in busy if rng.random() < 0.5}
        made.swept("opportunity", complete=True, cost=3, records=100, changed=changed)
    return START + 30 * sweeps


def test_a_list_is_swept_sooner_while_somebody_works_on_its_rows() -> None:
    """That changes follow each other is learned from its rows; it wears off, and an import is none."""
    made = agenda(details=False)
    at = worked_on(made, sweeps=3000)
    mine = made.lists["opportunity"]

    def after(changed: set[str], seconds: float) -> float:
        made.begun("opportunity", now=at + seconds)
        made.swept("opportunity", complete=True, cost=3, records=100, changed=changed)
        return mine.rate_now

    quiet = after(set(), EDGES_S[-1])
    assert quiet < mine.rate
    assert after({"7"}, EDGES_S[-1] + 30) > 3 * quiet
    assert after(set(), 2 * EDGES_S[-1] + 60) == pytest.approx(quiet, rel=0.1)
    assert after({str(n) for n in range(CROWD + 1)}, 2 * EDGES_S[-1] + 90) < 3 * quiet
    after(set(), 4 * EDGES_S[-1])
    assert after({"7"}, 4 * EDGES_S[-1] + 30) > 3 * quiet
    after(set(), 0.0)
    assert after(set(), 30.0) < 3 * quiet, "a clock that was set back leaves nobody at work in the future"


def test_what_was_observed_is_half_of_what_was_between() -> None:
    """A change lies in the middle between the reading that missed it and the one that showed it."""
    made = agenda()
    assert made.observed_s is None
    choice = Choice("detail", ("opportunity", "100"), 1, first=False)
    made.read(choice, now=START + 100, changed=True)
    assert made.observed_s == pytest.approx((100 + 200) / 2)
