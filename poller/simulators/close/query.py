"""What a list of opportunities is asked for: filters, order, totals. Pure, over opportunities as printed."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from poller.model import Json

from .dates import read, read_day
from .fields import PERIODS
from .tables import Row

Shown: TypeAlias = Mapping[str, Json]
Test: TypeAlias = Callable[[Row, Shown], bool]

ORDERS = (
    "date_won", "date_updated", "date_created", "confidence", "user_name", "value",
    "annualized_value", "annualized_expected_value",
)  # fmt: skip
_EQUAL = (
    "lead_id", "contact_id", "organization_id", "user_id", "status_id", "status_type", "status_label",
    "value_period", "pipeline_id",
)  # fmt: skip
_IN = ("user_id", "status_id", "status_type", "status_label", "value_period")
_NAMES: Mapping[str, str] = {"status": "status_label"}
_MOMENTS = ("date_created", "date_updated")
_REFUSED = ("query", "lead_query", "lead_saved_search_id", "_group_by")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "": lambda value, bound: bool(value == bound),
    "__gte": lambda value, bound: bool(value >= bound),
    "__gt": lambda value, bound: bool(value > bound),
    "__lte": lambda value, bound: bool(value <= bound),
    "__lt": lambda value, bound: bool(value < bound),
}


class BadQuery(ValueError):
    """The query cannot be answered: 400, with `error`, or with what is wrong with which field."""

    def __init__(self, error: str, *, field: str = "") -> None:
        self.field = field
        super().__init__(error)


@dataclass(frozen=True, slots=True)
class Found:
    """All that fits, in its order, and the totals that every page of it carries."""

    rows: list[Row]
    totals: dict[str, Json]


def found(
    rows: Iterable[Row],
    asked: Mapping[str, str],
    *,
    shown: Callable[[Row], Shown],
    offset_h: float,
    precision_ms: int,
    ties: random.Random | None = None,
) -> Found:
    """The opportunities that fit a query.

    Raises:
        BadQuery: a value cannot be read, or something is asked for that is not offered.
    """
    tests = list(_tests(asked, offset_h=offset_h, precision_ms=precision_ms))
    kept = [row for row in rows if all(test(row, shown(row)) for test in tests)]
    kept.sort(key=lambda row: row.id)
    if ties:
        ties.shuffle(kept)
    for name in reversed((asked.get("_order_by") or "-date_created").split(",")):
        kept.sort(key=_key(name.removeprefix("-"), shown), reverse=name.startswith("-"))
    return Found(kept, totals([shown(row) for row in kept]))


def totals(found: list[Shown]) -> dict[str, Json]:
    """The values that every list carries of all that fits, whatever the page; money in whole cents."""
    priced = [one for one in found if one["value"] is not None]
    sums: dict[str, Json] = {
        "total_results": len(found),
        "count_by_value_period": {
            period: len([one for one in found if one["value_period"] == period]) for period in PERIODS
        },
    }
    for word, name in (("total_value", "value"), ("expected_value", "expected_value")):
        for period in PERIODS:
            sums[f"{word}_{period}"] = sum(one[name] for one in priced if one["value_period"] == period)
    sums["total_value_annualized"] = sum(one["annualized_value"] for one in priced)
    sums["expected_value_annualized"] = sum(one["annualized_expected_value"] for one in priced)
    return sums


def whole(asked: Mapping[str, str], name: str, default: int) -> int:
    """A number of the query.

    Raises:
        BadQuery: none.
    """
    given = asked.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdigit()) or len(given) > 9:
        msg = "Not a valid integer."
        raise BadQuery(msg, field=name)
    return int(given)


def _tests(asked: Mapping[str, str], *, offset_h: float, precision_ms: int) -> Iterable[Test]:
    for name in _REFUSED:
        if asked.get(name):
            msg = f"This simulator does not know {name}."
            raise BadQuery(msg)
    yield from _values(asked)
    for name in (f"{name}{operator}" for name in _MOMENTS for operator in _COMPARE):
        if asked.get(name):
            yield _moment(name, asked[name], offset_h, precision_ms)
    for name in (f"date_won{operator}" for operator in _COMPARE):
        if asked.get(name):
            yield _won(name, asked[name])
    if asked.get("is_stalled"):
        yield _one_of("is_stalled", {asked["is_stalled"].lower() == "true"})


def _values(asked: Mapping[str, str]) -> Iterable[Test]:
    """Filters by one value, or by several with `__in`; `status` is a name for the label."""
    for name in (*_EQUAL, "status"):
        if asked.get(name):
            yield _one_of(_NAMES.get(name, name), {asked[name]})
    for name in (*_IN, "status"):
        if asked.get(f"{name}__in"):
            yield _one_of(_NAMES.get(name, name), set(asked[f"{name}__in"].split(",")))


def _one_of(name: str, values: set[Any]) -> Test:
    return lambda _row, shown: shown[name] in values


def _moment(asked: str, text: str, offset_h: float, precision_ms: int) -> Test:
    name, _, operator = asked.partition("__")
    compare = _COMPARE[f"__{operator}" if operator else ""]
    bound = _read(lambda: read(text, offset_h=offset_h), asked) // precision_ms
    if name == "date_updated":
        return lambda row, _shown: compare(row.updated_ms // precision_ms, bound)
    return lambda row, _shown: compare(row.created_ms // precision_ms, bound)


def _won(asked: str, text: str) -> Test:
    compare = _COMPARE[asked.removeprefix("date_won")]
    bound = _read(lambda: read_day(text), asked)
    return lambda _row, shown: shown["date_won"] is not None and compare(shown["date_won"], bound)


def _read(reading: Callable[[], Any], field: str) -> Any:
    try:
        return reading()
    except (ValueError, OverflowError) as exc:
        msg = "Not a valid date or datetime."
        raise BadQuery(msg, field=field) from exc


def _key(name: str, shown: Callable[[Row], Shown]) -> Callable[[Row], Any]:
    if name not in ORDERS:
        msg = f"Cannot order by {name}."
        raise BadQuery(msg, field="_order_by")
    if name == "date_updated":
        return lambda row: row.updated_ms
    if name == "date_created":
        return lambda row: row.created_ms

    def key(row: Row) -> tuple[bool, Any]:
        value = shown(row)[name]
        return (value is not None, value if value is not None else 0)

    return key
