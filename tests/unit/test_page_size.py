"""The largest page that a server honours, whatever it does with one that is too large."""

from collections.abc import Callable

import pytest

from poller.watch.page_size import SIZES, Sizing, read, refused, smaller

MODES: dict[str, tuple[Callable[[int], int | None], int]] = {
    "cuts to 100": (lambda asked: min(asked, 100), 100),
    "cuts to 20": (lambda asked: min(asked, 20), 20),
    "cuts to 250": (lambda asked: min(asked, 250), 250),
    "ignores what is above 100": (lambda asked: asked if asked <= 100 else 20, 100),
    "refuses what is above 100": (lambda asked: asked if asked <= 100 else None, 100),
    "refuses what is above 50": (lambda asked: asked if asked <= 50 else None, 20),
    "honours everything": (lambda asked: asked, 500),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_largest_page_is_found_and_kept(mode: str) -> None:
    """After a few sweeps the longest pages that the server gives are asked for, for good."""
    serves, best = MODES[mode]
    known, got = Sizing(), 0
    for _ in range(5):
        size = known.size or SIZES[0]
        while (rows := serves(size)) is None:
            less = refused(known, size)
            assert less is not None
            known, size = less, less.size
        known, got = read(known, size=size, longest=rows, pages=10), rows
    assert got == best
    assert known == read(known, size=known.size or SIZES[0], longest=got, pages=10)


def test_one_page_says_nothing() -> None:
    """A list that fits on one page does not tell how long a page may be."""
    assert read(Sizing(), size=500, longest=20, pages=1) == Sizing()


def test_there_is_an_end_to_smaller() -> None:
    """A server that refuses even the default is not asked for less."""
    assert [smaller(size) for size in SIZES] == [*SIZES[1:], None]
    assert refused(Sizing(), SIZES[-1]) is None
