"""The largest page that a server honours: found once, and remembered. Pure."""

import msgspec

SIZES = (500, 100, 20)
"""Asked for in this order. Most servers cut what is too much to their cap, and so the first is right."""
CAP = 100
"""No cap below this was ever documented: shorter pages can mean that what is too much was ignored."""
TOO_MUCH = (400, 413, 422)
"""Statuses of a first page that may mean: not so many."""


class Sizing(msgspec.Struct, omit_defaults=True):
    """What is known of one list's pages."""

    size: int = 0
    """To be asked for; 0: the largest."""
    longest: int = 0
    """Rows of the longest page while a larger size was asked for."""
    settled: bool = False


def smaller(size: int) -> int | None:
    """The next size to ask for where a server refuses this one."""
    return next((each for each in SIZES if each < size), None)


def refused(known: Sizing, size: int) -> Sizing | None:
    """What to do where this size was refused; None where there is no smaller one."""
    less = smaller(size)
    return None if less is None else Sizing(size=less, settled=known.settled)


def read(known: Sizing, *, size: int, longest: int, pages: int) -> Sizing:
    """What a reading to the end has shown, which asked for `size` and had pages of `longest` rows at most.

    A server may ignore what is too much and give its default, 20 rows: then 100 is tried once.
    """
    if known.settled or pages < 2:
        return known
    if known.longest:
        better = longest > known.longest
        return Sizing(size=size if better else 0, settled=True)
    if longest >= min(size, CAP):
        return Sizing(size=known.size, settled=True)
    less = smaller(size)
    if less is None or less <= longest:
        return Sizing(size=known.size, settled=True)
    return Sizing(size=less, longest=longest)
