"""Lists of Close read by date: no row is missed while rows move, however many share a moment.

Ascending by `_skip` loses rows: one that was read moves to the tail when it is updated, and the one behind
slips by. So each page begins at the last date seen. A moment that fills a page is read by the next date
of `DATES` within it, and only what was made and updated in the same moment by `_skip`.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal, TypeAlias

import msgspec

from poller.errors import BadAnswer
from poller.watch.upstream import Answer, Ticket, Upstream

from .close_records import unix_us

PAGE = 100
"""The documents' default: never named, so that no cap below it is ever exceeded."""
MOST_PAGES = 20_000
"""Longer than any organization's list."""
ROUNDS = 12
"""Readings of one moment whose rows come in another order each time, until all were seen."""
MINUTE_US = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Field: TypeAlias = Literal["date_updated", "date_created"]
DATES: tuple[Field, ...] = ("date_updated", "date_created")


class Head(msgspec.Struct):
    """What of a row the way through the list depends on."""

    id: str
    date_updated: str
    date_created: str
    organization_id: str | None = None

    def us(self, field: Field) -> int:
        """The date in Unix microseconds."""
        return unix_us(self.date_updated if field == "date_updated" else self.date_created)

    def check(self) -> None:
        """Read both dates.

        Raises:
            ValueError: one is none.
        """
        self.us("date_updated")
        self.us("date_created")


class _Heads(msgspec.Struct):
    data: list[Head]


class _Envelope(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool
    total_results: int | None = None


_heads = msgspec.json.Decoder(_Heads)
_envelope = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, slots=True)
class Part:
    """One answer: rows in the order asked for."""

    heads: list[Head]
    raws: list[msgspec.Raw]
    more: bool
    total: int | None
    answer: Answer


def written(at_us: int) -> str:
    """A moment in UTC, as it is asked for: without an offset, whose `+` would have to be encoded."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class Asking:
    """One reading of the list."""

    def __init__(self, upstream: Upstream, path: str, *, ticket: Ticket, size: int, first: bool) -> None:
        self._upstream, self._path, self._ticket = upstream, path, ticket
        self._first = first
        self._size: dict[str, str | int] = {"_limit": size} if size < PAGE else {}
        self._pages = 0

    async def rows(
        self, within: Mapping[str, str | int], by: tuple[Field, ...], since_us: int | None
    ) -> AsyncGenerator[Part, None]:
        """All rows within these filters, by a date from `since_us` on; the last of a page come again.

        Raises:
            BadAnswer: an answer is no list of opportunities, or not in order, or has no end.
        """
        if not by:
            async for part in self._moment(within):
                yield part
            return
        field, finer = by[0], by[1:]
        grain_us, promised = 1, False
        while True:
            part = await self._page(within, field, since_us)
            if promised and not part.heads:
                msg = f"{self._path} said that there is more, and shows nothing"
                raise BadAnswer(msg)
            yield part
            if not part.more:
                return
            first, last = part.heads[0].us(field), part.heads[-1].us(field)
            if since_us is not None and first < since_us:
                grain_us = MINUTE_US  # the server cuts what it is asked for to seconds or minutes
            if since_us is None or last // grain_us > since_us // grain_us:
                since_us, promised = last, not within  # its last row comes again; out of a moment it may move
                continue
            low = since_us // grain_us * grain_us
            window = {f"{field}__gte": written(low), f"{field}__lte": written(low + grain_us - 1)}
            async for part in self.rows({**within, **window}, finer, None):
                yield part
            since_us, promised = low + grain_us, False

    async def _page(self, within: Mapping[str, str | int], field: Field, since_us: int | None) -> Part:
        lower: dict[str, str | int] = {} if since_us is None else {f"{field}__gte": written(since_us)}
        part = await self._ask({**within, **lower, "_order_by": field})
        dates = [head.us(field) for head in part.heads]
        if any(later < earlier for earlier, later in pairwise(dates)):
            msg = f"{self._path} is not in the order of {field}"
            raise BadAnswer(msg)
        return part

    async def _moment(self, within: Mapping[str, str | int]) -> AsyncGenerator[Part, None]:
        """Rows of one moment in both dates: by `_skip`, again until as many were seen as there are."""
        seen: set[str] = set()
        for _ in range(ROUNDS):
            skip, more, total = 0, True, None
            while more:
                part = await self._ask({**within, "_order_by": DATES[-1], "_skip": skip})
                yield part
                seen.update(head.id for head in part.heads)
                skip, more, total = skip + len(part.heads), part.more, part.total
            if total is None or len(seen) >= total:
                return
        msg = f"{self._path}: {len(seen)} of {total} rows of one moment after {ROUNDS} readings"
        raise BadAnswer(msg)

    async def _ask(self, params: Mapping[str, str | int]) -> Part:
        part = await self._answered(params)
        if self._first and not part.heads:
            part = await self._answered(params)
        return part

    async def _answered(self, params: Mapping[str, str | int]) -> Part:
        self._pages += 1
        if self._pages > MOST_PAGES:
            msg = f"{self._path} has no end after {MOST_PAGES} pages"
            raise BadAnswer(msg)
        answer = await self._upstream.get(self._path, params={**params, **self._size}, ticket=self._ticket)
        if answer.status != 200:
            msg = f"{self._path} answered {answer.status}: is base_url right?"
            raise BadAnswer(msg)
        return _part(answer, self._path)


def _part(answer: Answer, path: str) -> Part:
    try:
        envelope, heads = _envelope.decode(answer.body), _heads.decode(answer.body).data
        for head in heads:
            head.check()
    except (ValueError, OverflowError, RecursionError) as exc:
        msg = f"{path} is not a page of opportunities: {exc}"
        raise BadAnswer(msg) from exc
    if envelope.has_more and not heads:
        msg = f"{path} is empty and says that there is more"
        raise BadAnswer(msg)
    return Part(heads, envelope.data, envelope.has_more, envelope.total_results, answer)
