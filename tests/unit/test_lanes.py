"""What one endpoint has before it: places that lose and repeat nothing, and the order by subject."""

from hookside import event
from hypothesis import given
from hypothesis import strategies as st

from poller.deliver.lanes import Board, Item, Lane, item_of, waiting_item
from poller.deliver.retry import Health
from poller.model import Entry
from poller.store.letters import Letter, Meta, before, position
from poller.store.queue import Place

HOUR = 3600.0


def entry(n: int, *, subject: str = "", source: str = "acme") -> Entry:
    return Entry(place=f"{n}-0", source=source, event=event(n, subject=subject or f"task/{n}"))


def board_of(*entries: Entry, ordered: bool = True) -> Board:
    board = Board(ordered=ordered)
    for each in entries:
        board.add(item_of(each, due=0.0))
    return board


WELL = Health(last_success=100 * HOUR)
"""It takes others all the time."""


def take(board: Board, now: float = 1.0, health: Health = WELL) -> Item | None:
    return board.take(now=now, health=health)


def taken(board: Board, now: float = 1.0, health: Health = WELL) -> list[str]:
    """Take until nothing may go."""
    found = []
    while item := take(board, now, health):
        found.append(item.place)
    return found


def fail(board: Board, item: Item, *, at: float, due: float) -> None:
    """Let an attempt fail, and keep the event as the endpoint does."""
    item.meta.first, item.meta.last = item.meta.first or at, at
    for each in (item, *board.behind(item)):
        board.store(each)
    board.postpone(item, due=due)


# --- the place ----------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(["read", "skip", "settle"]), st.integers(0, 9)), max_size=60)


@given(STEPS)
def test_a_place_names_exactly_what_is_under_way(steps: list[tuple[str, int]]) -> None:
    """Whoever goes on from a place takes up what was not settled, and nothing that was."""
    lane, n = Lane.at("acme", Place()), 0
    settled: set[str] = set()
    for what, which in steps:
        if what == "settle" and lane.outstanding:
            item = list(lane.outstanding.values())[which % len(lane.outstanding)]
            lane.let_go(item)
            settled.add(item.place)
        elif what != "settle":
            n += 1
            ordinal = lane.step(f"{n}-0")
            if what == "read":
                lane.hold(item_of(entry(n), due=0.0, ordinal=ordinal))
            else:
                settled.add(f"{n}-0")
        place = lane.place()
        done = {f"{k}-0" for k in range(1, n + 1) if position(f"{k}-0") <= position(place.cursor)} - set(
            place.holes
        )
        assert done <= settled
        assert set(lane.outstanding) == {f"{k}-0" for k in range(1, n + 1)} - settled
        again = set(place.holes) | {
            f"{k}-0" for k in range(1, n + 1) if position(f"{k}-0") > position(place.cursor)
        }
        assert again >= set(lane.outstanding)
        skipped_or_done_again = again - set(lane.outstanding)
        assert not skipped_or_done_again & {f"{k}-0" for k in range(1, lane.top_ordinal + 1)}
        assert place.ordinal == position(place.cursor)[0] or place.cursor.endswith(str(2**64 - 1))


def test_before_names_the_place_just_below() -> None:
    """No entry can lie between a place and the one before it."""
    assert before("5-3") == "5-2"
    assert before("5-0") == f"4-{2**64 - 1}"
    assert before("0-0") == "0-0"


# --- the order ----------------------------------------------------------------------------------


def test_the_oldest_goes_first_over_all_sources() -> None:
    """Streams are merged by the time of detection."""
    board = board_of(entry(3), entry(1, source="other"), entry(2))
    assert taken(board) == ["1-0", "2-0", "3-0"]


def test_one_event_of_a_subject_at_a_time() -> None:
    """A later event of a record waits until the earlier one is delivered."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a"), entry(3))
    first = take(board)
    assert first is not None
    assert taken(board) == ["3-0"]
    board.remove(first)
    assert taken(board) == ["2-0"]


def test_without_order_all_go() -> None:
    """order = "none" lets every event go at once."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a"), ordered=False)
    assert taken(board) == ["1-0", "2-0"]


def test_subjects_of_two_sources_are_two_subjects() -> None:
    """opportunity/1 of one account has nothing to do with that of another."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a", source="other"))
    assert taken(board) == ["1-0", "2-0"]


def test_a_failed_event_holds_its_subject_until_it_is_due_again() -> None:
    """Others pass; what is behind it waits with it."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a"), entry(3))
    first = take(board)
    assert first is not None
    fail(board, first, at=1.0, due=6.0)
    assert taken(board, now=2.0) == ["3-0"]
    assert board.next_due() == 6.0
    assert taken(board, now=6.0) == ["1-0"]


def test_after_an_hour_the_later_one_passes() -> None:
    """A later event waits no longer than an hour for one that fails while others are taken."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a"))
    first = take(board)
    assert first is not None
    fail(board, first, at=1.0, due=10 * HOUR)
    board.look_again(now=HOUR, health=WELL)
    assert taken(board, now=HOUR) == []
    board.look_again(now=HOUR + 1, health=WELL)
    assert taken(board, now=HOUR + 1) == ["2-0"]


def test_the_hour_counts_from_when_the_endpoint_came_back() -> None:
    """While the endpoint took nothing from anybody, no event is to be passed for it."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a"))
    first = take(board)
    assert first is not None
    fail(board, first, at=1.0, due=50 * HOUR)
    back = 10 * HOUR
    health = Health(up_since=back, last_success=back + 60)
    board.look_again(now=back + HOUR - 1, health=health)
    assert taken(board, now=back + HOUR - 1, health=health) == []
    board.look_again(now=back + HOUR, health=health)
    assert taken(board, now=back + HOUR, health=health) == ["2-0"]


def test_where_no_others_are_taken_the_later_one_goes_just_after_a_failure() -> None:
    """With nothing to tell an outage from one bad event, the first after the outage is the earlier one."""
    board, silent = board_of(entry(1, subject="task/a"), entry(2, subject="task/a")), Health(last_success=0.5)
    first = take(board, health=silent)
    assert first is not None
    fail(board, first, at=1.0, due=2 * HOUR)
    board.look_again(now=1.5 * HOUR, health=silent)
    assert taken(board, now=1.5 * HOUR, health=silent) == []
    assert taken(board, now=2 * HOUR, health=silent) == ["1-0"]
    fail(board, first, at=2 * HOUR, due=7 * HOUR)
    assert taken(board, now=2 * HOUR + 59, health=silent) == ["2-0"]


def test_one_that_was_passed_does_not_meet_the_next_in_flight() -> None:
    """Even past the hour, two events of one subject are never under way together."""
    board = board_of(entry(1, subject="task/a"), entry(2, subject="task/a"))
    first = take(board)
    assert first is not None
    fail(board, first, at=1.0, due=2 * HOUR)
    now = 2 * HOUR
    board.look_again(now=now, health=WELL)
    assert taken(board, now=now) == ["1-0"]
    fail(board, first, at=now, due=5 * HOUR)
    assert taken(board, now=now) == ["2-0"]


def test_an_older_event_that_is_sent_again_goes_first() -> None:
    """What an operator resends takes its old place among its subject's events."""
    board = board_of(entry(5, subject="task/a"))
    meta = Meta(id="evt_1", type="t", subject="task/a", time="")
    board.add(waiting_item("acme", Letter("1-0", meta, b"", 1.0)))
    item = take(board, now=2.0)
    assert item is not None
    assert item.place == "1-0"
    assert taken(board, now=2.0) == []
    board.remove(item)
    assert taken(board, now=2.0) == ["5-0"]


def test_a_success_pulls_everything_forward_oldest_first() -> None:
    """What waits for its time goes at once, in the order of the stream."""
    board = board_of(*(entry(n) for n in (1, 2, 3)))
    for due in (30.0, 20.0, 10.0):
        item = take(board)
        assert item is not None
        fail(board, item, at=1.0, due=due)
    board.pull_forward(latest=5.0)
    assert taken(board, now=5.0) == ["1-0", "2-0", "3-0"]


def test_the_one_that_met_a_410_goes_before_all_others() -> None:
    """A due time of 0, which only a 410 leaves, comes first whatever its age."""
    board = board_of(entry(1))
    meta = Meta(id="evt_9", type="t", subject="task/9", time="", first=1.0)
    board.add(waiting_item("acme", Letter("9-0", meta, b"", 0.0)))
    assert taken(board) == ["9-0", "1-0"]


def test_a_probe_takes_the_oldest_whether_due_or_not() -> None:
    """While probing, the oldest event of all is the one that is tried."""
    board = board_of(entry(2), entry(1))
    item = take(board)
    assert item is not None
    fail(board, item, at=1.0, due=99.0)
    oldest = board.oldest()
    assert oldest is item


LIFE = st.lists(
    st.tuples(st.sampled_from(["add", "take", "deliver", "fail", "wait", "forward"]), st.integers(0, 3)),
    max_size=80,
)


@given(LIFE)
def test_no_event_overtakes_another_of_its_subject(life: list[tuple[str, int]]) -> None:
    """Within the hour, what is delivered of a subject is delivered in the stream's order, and all of it."""
    board, now, n = Board(ordered=True), 1.0, 0
    flying: list[Item] = []
    delivered: dict[str, list[int]] = {}

    def deliver(item: Item) -> None:
        delivered.setdefault(item.meta.subject, []).append(item.key[0][0])
        board.remove(item)

    for what, which in life:
        if what == "add":
            n += 1
            board.add(item_of(entry(n, subject=f"task/{which}"), due=0.0))
        elif what == "take" and (item := take(board, now)):
            assert item.subject not in {each.subject for each in flying}
            flying.append(item)
        elif what == "deliver" and flying:
            deliver(flying.pop(which % len(flying)))
        elif what == "fail" and flying:
            item = flying.pop(which % len(flying))
            fail(board, item, at=now, due=now + which)
        elif what == "wait":
            now += which
        elif what == "forward":
            board.pull_forward(latest=now)
    for item in flying:
        deliver(item)
    now += 10
    while item := take(board, now):
        deliver(item)
    assert not list(board)
    assert sum(map(len, delivered.values())) == n
    assert all(order == sorted(order) for order in delivered.values())
