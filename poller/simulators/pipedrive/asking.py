"""What a request asks for: its parameters, checked as strictly as the API does, and its place in a list."""

import base64
import binascii
import calendar
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import xxhash

from poller.model import dumps, loads

from .tokens import Token
from .world import World

MOST = 500
"""Highest `limit` of a list."""
DEFAULT = 100
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
RowT = TypeVar("RowT")


class Rejected(Exception):
    """The request is answered with an error: `status`, and a message for the envelope."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose caller is known and whose cost is paid."""

    world: World
    token: Token
    path: str
    places: Mapping[str, str]
    """What stands in the path, by name."""
    query: Mapping[str, str]

    def number(self, name: str) -> int | None:
        """A parameter that is an id or a count.

        Raises:
            Rejected: it is no whole number.
        """
        given = self.query.get(name, "")
        if not given:
            return None
        if not (given.isascii() and given.isdigit() and len(given) < 16):
            raise Rejected(400, f"{name} must be an integer")
        return int(given)

    def place(self, name: str = "id") -> int:
        """The id in the path.

        Raises:
            Rejected: it is none.
        """
        given = self.places[name]
        if not (given.isascii() and given.isdigit() and len(given) < 16):
            raise Rejected(400, f"{name} must be an integer")
        return int(given)

    def names(self, name: str, allowed: Sequence[str] | None = None, *, most: int = 100) -> list[str]:
        """A parameter that is a list with commas.

        Raises:
            Rejected: there are too many, or one that is not allowed.
        """
        given = [one.strip() for one in self.query.get(name, "").split(",") if one.strip()]
        if len(given) > most:
            raise Rejected(400, f"{name} must name at most {most}, not {len(given)}")
        unknown = [one for one in given if allowed is not None and one not in allowed]
        if unknown and allowed is not None:
            raise Rejected(400, f"{name} must be of {', '.join(allowed)}, not {unknown[0]}")
        return given

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        """A parameter with few values, the first by default.

        Raises:
            Rejected: it is another.
        """
        return (self.names(name, allowed, most=1) or [allowed[0]])[0]

    def limit(self) -> int:
        """How many rows of a page are asked for.

        Raises:
            Rejected: none, or more than 500.
        """
        given = self.number("limit")
        if given is None:
            return DEFAULT
        if not 0 < given <= MOST:
            raise Rejected(400, f"limit must be from 1 to {MOST}, not {given}")
        return given

    def moment(self, name: str) -> float | None:
        """A parameter that is a moment of v2, in Unix seconds: whole seconds and a Z, nothing else.

        Raises:
            Rejected: it is written otherwise.
        """
        given = self.query.get(name, "")
        return self._read(name, given, _RFC3339, "%Y-%m-%dT%H:%M:%SZ") if given else None

    def old_moment(self, name: str) -> float:
        """A parameter that is a moment of v1, in Unix seconds: `2019-11-28 16:19:50`, in UTC.

        Raises:
            Rejected: it is not there, or written otherwise.
        """
        return self._read(name, self.query.get(name, ""), _PLAIN, "%Y-%m-%d %H:%M:%S")

    def _read(self, name: str, given: str, form: re.Pattern[str], shape: str) -> float:
        try:
            if form.fullmatch(given):
                return calendar.timegm(time.strptime(given, shape))
        except ValueError:
            # The 30th of February and its like are told as any other bad form.
            pass
        raise Rejected(400, f"{name} must be of the form {shape}, not {given!r}")


def paged(
    call: Call,
    rows: Sequence[RowT],
    *,
    by: str,
    place: Callable[[RowT], tuple[Any, int]],
    limit: int,
    keep: Callable[[RowT], bool] = bool,
) -> tuple[list[RowT], str | None]:
    """A page of those rows that are kept, sorted by `place` (a value and an id), and the next one's cursor.

    The cursor holds the place of the next page's first row, so that rows may come and go meanwhile.

    Raises:
        Rejected: the cursor is none of this list with these parameters.
    """
    down = call.query.get("sort_direction") == "desc"
    order = "desc" if down else "asc"
    start = 0
    if given := call.query.get("cursor"):
        found = _opened(given)
        if (found.get("field"), found.get("sortDirection"), found.get("for")) != (by, order, _tied(call)):
            raise Rejected(400, "Invalid cursor: keep all other parameters as they were")
        start = _start(rows, place, (found["fieldValue"], found["id"]), down=down)
    count = len(rows)
    following = (rows[count - 1 - index if down else index] for index in range(start, count))
    page = list(islice(filter(keep, following), limit + 1))
    if len(page) <= limit:
        return page, None
    value, number = place(page.pop())
    told = {"field": by, "fieldValue": value, "sortDirection": order, "id": number, "for": _tied(call)}
    return page, base64.urlsafe_b64encode(dumps(told)).decode().rstrip("=")


def _start(rows: Sequence[RowT], place: Callable[[RowT], tuple[Any, int]], goal: Any, *, down: bool) -> int:
    try:
        if down:
            return len(rows) - bisect_right(rows, goal, key=place)
        return bisect_left(rows, goal, key=place)
    except TypeError as exc:
        raise Rejected(400, "Invalid cursor") from exc


def _opened(cursor: str) -> dict[str, Any]:
    try:
        found = loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as exc:
        raise Rejected(400, "Invalid cursor") from exc
    if not isinstance(found, dict) or not {"fieldValue", "id"} <= set(found):
        raise Rejected(400, "Invalid cursor")
    return found


def _tied(call: Call) -> str:
    """What a cursor is tied to: the list, and every parameter but its own."""
    free = {"cursor", "limit", "api_token"}
    query = sorted((name, value) for name, value in call.query.items() if name not in free)
    return xxhash.xxh3_64_hexdigest(repr((call.path, query)).encode())
