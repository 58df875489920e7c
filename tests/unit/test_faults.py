"""The table of the faults: each has a test, and what was measured is shown."""

import re
from pathlib import Path

from faults import FAULTS, Measured, table

TESTS = Path(__file__).parent.parent


def test_each_fault_has_a_test() -> None:
    """All 22 are numbered, and marked on a test somewhere."""
    texts = [path.read_text("utf-8") for path in TESTS.rglob("test_*.py")]
    marked = {int(number) for text in texts for number in re.findall(r"@pytest\.mark\.fault\((\d+)\)", text)}
    assert list(FAULTS) == list(range(1, 23))
    assert marked == set(FAULTS)


def test_one_row_for_each_fault_that_was_measured() -> None:
    """What several tests saw of one fault stands in its row, each thing once; a failure shows."""
    told = [Measured(2, 12, "0 lost", True), Measured(1, 5, "a", True), Measured(1, 7, "b", False)]
    rows = table([*told, told[0]]).splitlines()[2:]
    assert [row.split(" | ")[-3:] for row in rows] == [["a; b", "7", "✗ |"], ["0 lost", "12", "✓ |"]]
