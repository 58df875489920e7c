"""What an answer's headers say of the host's limit, in every form that was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.watch.limits import RateLimit, pause_of, rate_limit, retry_after

DATE = "Sun, 22 Nov 2026 19:00:00 GMT"
EPOCH = 1795374000
"""DATE as Unix seconds."""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "120, 3600"}, 3600),
        ({"retry-after": "Sun, 22 Nov 2026 19:02:00 GMT", "date": DATE}, 120),
        ({"retry-after": "Sun, 22 Nov 2026 18:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Sun, 22 Nov 2026 19:02:00 GMT"}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": f"Sun, 22 Nov {'9' * 20} 19:02:00 GMT", "date": DATE}, None),
        ({"retry-after": f"Sun, 22 Nov 2026 19:02:00 +{'9' * 20}", "date": DATE}, None),
        ({"retry-after": "120", "date": f"Sun, 22 Nov {'9' * 20} 19:02:00 GMT"}, 120),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, or a date against the server's own clock; anything else names no time."""
    assert retry_after(headers) == seconds


def test_a_date_of_a_host_that_does_not_tell_its_clock_is_held_against_ours() -> None:
    """An hour asked for is an hour, and not one period."""
    headers, now = {"retry-after": "Sun, 22 Nov 2026 19:02:00 GMT"}, 1795374000.0
    assert retry_after(headers, now) == 120
    assert retry_after({**headers, "date": DATE}, now - 3600) == 120
    pause = pause_of(429, headers, now)
    assert pause is not None
    assert (pause.retry_after_s, pause.server_date) == (120, None)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, RateLimit(100, 50, 5)),
        ({"ratelimit": "limit=40, remaining=0, reset=0.870663"}, RateLimit(40, 0, 0.870663)),
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=10'},
            RateLimit(100, 50, 30),
        ),
        (
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "0", "ratelimit-reset": "53"},
            RateLimit(100, 0, 53),
        ),
        ({"ratelimit-reset": str(EPOCH + 53), "date": DATE}, RateLimit(None, None, 53)),
        ({"x-ratelimit-reset": str((EPOCH + 53) * 1000), "date": DATE}, RateLimit(None, None, 53)),
        ({"x-ratelimit-reset": str(EPOCH - 53), "date": DATE}, RateLimit(None, None, 0)),
        ({"x-ratelimit-reset": str(EPOCH + 53)}, RateLimit(None, None, None)),
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "19", "x-ratelimit-reset": "2"},
            RateLimit(20, 19, 2),
        ),
        ({"ratelimit": '"burst";r=0;t=2, "day";r=5000;t=40000'}, RateLimit(None, 0, 2)),
        ({"ratelimit": '"burst";r=0;t=2, "day";r=0;t=40000'}, RateLimit(None, 0, 40000)),
        ({"ratelimit": '"burst";r=9;t=2,"day";r=3;t=40000', "date": DATE}, RateLimit(None, 3, 40000)),
        ({"x-rate-limit-remaining": "0"}, RateLimit(None, 0, None)),
        ({"x-ratelimit-reset": "53s"}, RateLimit(None, None, 53)),
        ({"x-ratelimit-reset": "2026-11-22T19:00:53Z"}, None),
        ({"ratelimit-limit": "many"}, None),
        ({}, None),
    ],
)
def test_rate_limit(headers: dict[str, str], said: RateLimit | None) -> None:
    """The combined header in both forms, one header for each part, reset as seconds and as a moment."""
    assert rate_limit(headers) == said


def test_a_429_without_retry_after_waits_for_the_reset() -> None:
    """Where only the limit's own headers name a time, that is the pause."""
    pause = pause_of(429, {"ratelimit": "limit=100, remaining=0, reset=5"})
    assert pause is not None
    assert pause.retry_after_s == 5


def test_a_503_pauses_as_a_429_does() -> None:
    """For as long as it says, else by the budget's period; what is left of a limit says nothing of it."""
    named, silent = pause_of(503, {"retry-after": "5"}), pause_of(503, {"ratelimit-reset": "5"})
    assert named is not None
    assert named.retry_after_s == 5
    assert silent is not None
    assert silent.retry_after_s is None
    assert pause_of(502, {"retry-after": "5"}) is None


@given(st.dictionaries(st.sampled_from(["date", "retry-after", "ratelimit", "ratelimit-reset"]), st.text()))
def test_nothing_a_host_sends_breaks_it(headers: dict[str, str]) -> None:
    """Whatever the headers hold, there is an answer, and never a negative time."""
    pause = pause_of(429, headers)
    assert pause is not None
    assert pause.retry_after_s is None or pause.retry_after_s >= 0
