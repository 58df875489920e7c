"""The schedule of an event and the health of an endpoint, as contract §7 has them."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.deliver.retry import (
    DISABLED_AFTER_S,
    HOUR,
    LONGEST_PAUSE_S,
    SCHEDULE_S,
    Health,
    Verdict,
    delay_s,
    judge,
    longest_wait_s,
    probe_delay_s,
    retry_after_s,
    span_s,
)

T0 = 1_900_000_000.0


def down(health: Health, *, attempts: int, every_s: float, start: float = T0) -> tuple[Health, float]:
    """Let attempts fail at a steady pace."""
    now = start
    for _ in range(attempts):
        health, _ = health.failed(now=now)
        now += every_s
    return health, now - every_s


def test_the_schedule_is_the_contracts() -> None:
    """12 attempts at 0, 5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: 75.7 h."""
    assert len(SCHEDULE_S) == 12
    assert round(span_s(SCHEDULE_S) / HOUR, 1) == 75.7
    assert [delay_s(SCHEDULE_S, attempts=n, chance=0) for n in range(13)] == [*SCHEDULE_S, None]


@given(st.integers(0, 11), st.floats(0, 1, exclude_max=True))
def test_jitter_is_only_added_up_to_a_fifth(attempts: int, chance: float) -> None:
    """No attempt comes before its time, and none later than 20 % after it."""
    made = delay_s(SCHEDULE_S, attempts=attempts, chance=chance)
    assert made is not None
    assert SCHEDULE_S[attempts] <= made <= SCHEDULE_S[attempts] * 1.2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120),
        (" 7 ", 7),
        ("0", None),
        ("-5", None),
        ("+5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("1e9", None),
        ("21600", LONGEST_PAUSE_S),
        ("99999999", LONGEST_PAUSE_S),
        ("9" * 5000, LONGEST_PAUSE_S),
        ("0" * 5000 + "9", 9),
        (format_datetime(datetime.fromtimestamp(T0 + 90, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(T0 - 90, UTC), usegmt=True), None),
        (format_datetime(datetime.fromtimestamp(T0 + 9e6, UTC), usegmt=True), LONGEST_PAUSE_S),
        ("Fri, 99 Foo 2030 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(value: str | None, seconds: float | None) -> None:
    """Seconds or a date, 6 h at most; what is malformed, negative or past counts as absent."""
    assert retry_after_s(value, now=T0) == seconds


@given(st.text())
def test_no_retry_after_is_a_crash(value: str) -> None:
    """Whatever a receiver writes there, the answer is a pause within bounds or none."""
    pause = retry_after_s(value, now=T0)
    assert pause is None or 0 < pause <= LONGEST_PAUSE_S


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_only_2xx_is_success(status: int) -> None:
    """Any 2xx is taken."""
    assert judge(status, retry_after=None, now=T0).verdict is Verdict.TAKEN


@pytest.mark.parametrize("status", [None, 100, 199, 300, 301, 304, 308, 400, 401, 404, 409, 500, 502, 599])
def test_everything_else_is_a_failure(status: int | None) -> None:
    """A redirect, a complaint, a fault, or no answer: the schedule goes on, and nothing is paused."""
    judged = judge(status, retry_after="60", now=T0)
    assert (judged.verdict, judged.pause_s) == (Verdict.FAILED, 0)


@pytest.mark.parametrize("status", [429, 503])
def test_limited_answers_pause_for_as_long_as_they_say(status: int) -> None:
    """Retry-After counts on 429 and 503; without one they are plain failures."""
    assert judge(status, retry_after="60", now=T0).pause_s == 60
    assert judge(status, retry_after=None, now=T0).pause_s == 0


def test_410_is_its_own_verdict() -> None:
    """410 means that the endpoint wants nothing any more."""
    assert judge(410, retry_after=None, now=T0).verdict is Verdict.GONE


def test_probing_needs_a_minute_and_over_20_attempts() -> None:
    """20 failures are not enough, nor is less than a minute; both together are."""
    assert not down(Health(), attempts=20, every_s=10)[0].probing
    assert not down(Health(), attempts=40, every_s=1)[0].probing
    assert down(Health(), attempts=21, every_s=3)[0].probing
    quick, last = down(Health(), attempts=25, every_s=0.1)
    assert not quick.probing
    assert quick.passed(now=last + 60)[0].probing


def test_probes_come_at_30_s_doubling_to_10_min() -> None:
    """The pauses are 30, 60, 120, 240, 480 and then 600 s."""
    assert [probe_delay_s(n) for n in range(7)] == [30, 60, 120, 240, 480, 600, 600]
    health, now = down(Health(), attempts=21, every_s=3)
    assert health.probe_at == now + 30
    health, _ = health.failed(now=now + 30, probe=True)
    assert health.probe_at == now + 30 + 60


def test_an_attempt_from_before_moves_no_probe() -> None:
    """What was in flight when probing began may fail without putting the probe off."""
    health, now = down(Health(), attempts=21, every_s=3)
    later, _ = health.failed(now=now + 5)
    assert later.probe_at == health.probe_at


def test_one_success_ends_it() -> None:
    """The first success closes the breaker and forgets the failures."""
    health, now = down(Health(), attempts=30, every_s=3)
    well, notice = health.succeeded(now=now + 1)
    assert (well.probing, well.failures, well.failing_since, notice) == (False, 0, 0, None)
    assert well.up_since == now + 1


def test_failing_is_said_after_a_day_and_disabled_after_three() -> None:
    """Each is said once, in this order, and the first success takes them back."""
    health, said = Health(), []
    for hour in range(80):
        health, notice = health.failed(now=T0 + hour * HOUR)
        said += [(hour, notice)] if notice else []
    assert said == [(24, "failing"), (72, "disabled")]
    again = health.enabled(now=T0 + 81 * HOUR)
    assert again.disabled == ""
    assert again.succeeded(now=T0 + 82 * HOUR)[1] == "recovered"


def test_disabling_needs_ten_attempts() -> None:
    """An endpoint with little to do is not disabled for nine failures, however old."""
    health, now = down(Health(), attempts=9, every_s=1)
    assert health.passed(now=now + DISABLED_AFTER_S)[0].disabled == ""
    health, _ = health.failed(now=now + DISABLED_AFTER_S)
    assert health.disabled == "silent"


def test_time_alone_disables_one_that_failed_often_enough() -> None:
    """Between two attempts of the long end of the schedule 72 h pass as well."""
    health, now = down(Health(), attempts=11, every_s=10)
    _, notice = health.passed(now=now + DISABLED_AFTER_S)
    assert notice == "disabled"


def test_410_disables_at_once_and_only_once() -> None:
    """Eight connections may meet it together: it is said once."""
    health, first = Health().gone(now=T0)
    health, second = health.gone(now=T0)
    assert (health.disabled, first, second) == ("gone", "disabled", None)


def test_a_late_success_does_not_enable() -> None:
    """What was in flight when it was disabled may succeed: whoever disabled it is not overruled."""
    health, _ = Health().gone(now=T0)
    assert health.succeeded(now=T0 + 1)[0].disabled == "gone"


@given(st.floats(-1e6, 1e6), st.integers(0, 40))
def test_after_a_jump_of_the_clock_nothing_waits_beyond_its_bounds(jump: float, attempts: int) -> None:
    """Pauses end within 6 h and probes come within 10 min, whatever the clock does."""
    health, now = down(Health(), attempts=attempts, every_s=5)
    health, _ = health.failed(now=now, pause_s=3600)
    sane = health.sane(now=now + jump)
    assert sane.open_at() - (now + jump) <= LONGEST_PAUSE_S
    assert sane.probe_at - (now + jump) <= 600


def test_the_longest_wait_covers_schedule_and_pause() -> None:
    """With a short schedule a pause of 6 h is still the longest wait."""
    assert longest_wait_s((0.0, 1.0)) == LONGEST_PAUSE_S
    assert longest_wait_s(SCHEDULE_S) == 24 * HOUR * 1.2
