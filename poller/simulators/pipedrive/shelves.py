"""The rows that a replica shows, kept in the orders that lists ask for while rows come, change and go."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import partial
from typing import Any

from .fields import Kind
from .tables import Row

ORDERS = ("id", "update_time", "add_time")
"""What a list can be sorted by; the id breaks ties."""


def place(row: Row, *, by: str) -> tuple[Any, int]:
    """Where a row stands in an order."""
    return (row.id if by == "id" else row.values[by]), row.id


_PLACES = {by: partial(place, by=by) for by in ORDERS}


class Shelves:
    """Rows by subject, and sorted: a change costs the same in a large company as in a small one."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        kinds: tuple[Kind, ...] = ("deal", "project")
        self._sorted: dict[tuple[Kind, str], list[Row]] = {(kind, by): [] for kind in kinds for by in ORDERS}

    def __contains__(self, subject: object) -> bool:
        return subject in self._rows

    def __getitem__(self, subject: str) -> Row:
        return self._rows[subject]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, subject: str) -> Row | None:
        """The row of a subject, if it is there."""
        return self._rows.get(subject)

    def put(self, row: Row) -> None:
        """Put a row in, in place of what it was before."""
        self.take(row.subject)
        self._rows[row.subject] = row
        for by, key in _PLACES.items():
            insort(self._sorted[row.kind, by], row, key=key)

    def take(self, subject: str) -> None:
        """Take a row out, if it is there."""
        row = self._rows.pop(subject, None)
        if row is None:
            return
        for by, key in _PLACES.items():
            rows = self._sorted[row.kind, by]
            del rows[bisect_left(rows, key(row), key=key)]

    def ordered(self, kind: Kind, by: str) -> list[Row]:
        """The rows of a kind by a column and then by id; not to be changed."""
        return self._sorted[kind, by]
