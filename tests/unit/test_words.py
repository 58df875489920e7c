"""What page and terminal say of things: pure words."""

from typing import Any

import pytest

from poller.web.render import ENVIRONMENT
from poller.web.words import line_of, span


def moved(changed: dict[str, tuple[Any, Any]]) -> str:
    """How a line tells of these changes."""
    return line_of(
        {
            "data": {
                "object": {name: new for name, (_, new) in changed.items()},
                "previous": {name: old for name, (old, _) in changed.items()},
                "changed": sorted(changed),
            }
        }
    ).moved


def test_a_line_says_what_tells_most() -> None:
    """No id beside its name, no stamp of the row; what is left out is counted."""
    told = moved(
        {
            "date_updated": ("2026-01-01", "2026-01-02"),
            "note": (None, "signed"),
            "status_id": ("stat_a", "stat_b"),
            "status_label": ("Open", "Won"),
        }
    )
    assert told == "note: none → signed, status_label: Open → Won, 2 more"
    assert moved({"stage_id": (1, 2)}) == "stage_id: 1 → 2"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "never"),
        (0.04, "under 0.1 s"),
        (0.0, "0.0 s"),
        (34, "34 s"),
        (660, "11 min"),
        (7200, "2 h"),
        (259200, "3 days"),
    ],
)
def test_spans_are_said_as_people_say_them(seconds: float | None, said: str) -> None:
    """Each size in its own unit."""
    assert span(seconds) == said


def test_commands_in_a_sentence_are_shown_as_such_and_nothing_else_is_markup() -> None:
    """Backticks become code; what a name holds is escaped; a lone backtick stays."""
    coded = ENVIRONMENT.filters["coded"]
    assert coded("say `poller run` <b>") == "say <code>poller run</code> &lt;b&gt;"
    assert coded("`<i>`") == "<code>&lt;i&gt;</code>"
    assert coded("a ` b") == "a ` b"
