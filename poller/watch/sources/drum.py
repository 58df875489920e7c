"""Drum: opportunities and projects, two lists of one table, with no timestamps and no order.

From the two documents of the API and what public material adds to them (facts.md §1): pages until one is
empty, repeats, or brings no new id; an id answers on one of the two resources; only the detail view has
`deal_won_date` and `deal_lost_date`, which Drum sets when a status of that type is reached.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from poller.errors import BadAnswer, Unreachable
from poller.watch.upstream import Answer, Ticket, Upstream

from .base import (
    Account,
    Api,
    Child,
    Judgement,
    Kind,
    Missing,
    Page,
    Parts,
    Reading,
    Same,
    bearer,
    decoded,
    reached_by,
    split,
)
from .drum_records import KINDS

API = "/api/v1"
MOST_PAGES = 10_000
"""Longer than any account's list: a server that never ends its list is not believed."""

_PATHS = {"opportunity": f"{API}/opportunities", "project": f"{API}/projects"}


class _Id(msgspec.Struct):
    id: int


_ids = msgspec.json.Decoder(list[_Id])

TAGGED = "tagged"
"""The cursor of a reading whose pages had tags: the next one may ask only for those that have changed."""


@dataclass(frozen=True, slots=True)
class _Tagged:
    """A page as it was when the server gave it this tag, without its rows."""

    tag: str
    ids: tuple[str, ...]


class Drum:
    """One Drum account."""

    api: ClassVar[Api] = Api(base_url="https://app.getdrum.com", variable="DRUM_API_TOKEN")
    kinds: ClassVar[Mapping[str, Kind]] = KINDS
    lists: ClassVar[tuple[str, ...]] = ("opportunity", "project")
    auth = staticmethod(bearer)

    def __init__(self, account: Account, upstream: Upstream) -> None:
        self.name = account.name
        self.base_url = account.base_url
        self._account = account
        self._upstream = upstream
        self._tagged: dict[tuple[str, int, int], _Tagged] = {}

    async def close(self) -> None:
        """Give the connections back."""
        await self._upstream.close()

    def url(self, kind: str, record_id: str) -> str:
        """Where a person finds the record."""
        return f"{self.base_url}/{_PATHS[kind].rpartition('/')[2]}/{record_id}"

    async def pages(
        self,
        kind: str,
        *,
        size: int,
        ticket: Ticket,
        since: str = "",
        first: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """Read a list until a page is empty, repeats, brings no new id, or the headers prove the end.

        A page past the end may be empty, the last page again, a 404 or a 500 (facts.md §1.3); a page
        shorter than asked says nothing, since the server may cap what was asked.
        """
        seen: set[str] = set()
        # All of them: a tag that outlived a reading in full would say "unchanged" of what that one replaced.
        tagged = {key: self._tagged.pop(key) for key in list(self._tagged) if key[0] == kind}
        for number in range(1, MOST_PAGES + 1):
            known = tagged.get((kind, number, size)) if since == TAGGED else None
            answer = await self._page(kind, number, size, ticket, known)
            if first and number > 1 and _is_end(answer):
                answer = await self._page(kind, number, size, ticket, known)
            if answer is None:
                return
            page, tag = _shown(answer, known, f"page {number} of {_PATHS[kind]}")
            fresh = set(page.ids) - seen
            if fresh or number == 1:
                yield page
            seen |= fresh
            if not fresh or (page.total == len(seen) and _count(answer, "total-pages") == number):
                # The last page is always asked for in full: its counts prove the end, a 304 may have none.
                return
            if tag:
                self._tagged[kind, number, size] = _Tagged(tag, page.ids)
        msg = f"{_PATHS[kind]} has no end after {MOST_PAGES} pages"
        raise BadAnswer(msg)

    async def _page(
        self, kind: str, number: int, size: int, ticket: Ticket, known: _Tagged | None
    ) -> Answer | None:
        """One page, 304 where it is still as it is known, or None where the list has ended before it."""
        try:
            answer = await self._ask(kind, number, size, ticket, tag=known.tag if known else "")
        except Unreachable:
            if number == 1 or not await self._breaks_past_end(kind, number, size, ticket):
                raise
            return None
        if answer.status == 200 or (answer.status == 304 and known is not None):
            return answer
        if answer.status == 304:
            msg = f"{_PATHS[kind]} answered 304 though no tag was sent"
            raise BadAnswer(msg)
        if number == 1:
            msg = f"{_PATHS[kind]} answered {answer.status}: is base_url right?"
            raise BadAnswer(msg)
        return None

    async def _breaks_past_end(self, kind: str, number: int, size: int, ticket: Ticket) -> bool:
        """Whether this server fails past the end: twice here, beyond as well, and not on the page before."""
        for page in (number, number + 1):
            try:
                await self._ask(kind, page, size, ticket)
            except Unreachable:
                continue
            return False
        return (await self._ask(kind, number - 1, size, ticket)).status == 200

    async def _ask(self, kind: str, number: int, size: int, ticket: Ticket, *, tag: str = "") -> Answer:
        params = {"page": number, "items": size}
        headers = {"if-none-match": tag} if tag else {}
        return await self._upstream.get(_PATHS[kind], params=params, headers=headers, ticket=ticket)

    async def read(
        self, kind: str, record_id: str, *, ticket: Ticket, tag: str = ""
    ) -> Reading | Missing | Same:
        """Read one opportunity or project with its deliverables and tasks."""
        headers = {"if-none-match": tag} if tag else {}
        answer = await self._upstream.get(f"{_PATHS[kind]}/{record_id}", headers=headers, ticket=ticket)
        if answer.status == 304 and tag:
            return Same(answer.started, answer.ended)
        if answer.status in (404, 410):
            return Missing(answer.started, answer.ended)
        view = decoded(self.kinds[kind], answer.body)
        if str(view["id"]) != record_id or view.get("project_type", kind) != kind:
            msg = f"{kind} {record_id}: the answer is {view.get('project_type')} {view['id']}"
            raise BadAnswer(msg)
        return Reading(view, answer.started, answer.ended, answer.headers.get("etag", ""))

    def judge(self, view: Mapping[str, Any]) -> Judgement:
        """By the operator's lists first, then by the dates, which only the detail view has."""
        status = view.get("project_status") or {}
        names = {str(status.get("id")), str(status.get("name"))}
        key = str(status.get("id") or "")
        won, lost = view.get("deal_won_date"), view.get("deal_lost_date")
        if names & self._account.won_statuses or won:
            return Judgement(meaning="won", status=key, latest=reached_by(won))
        if names & self._account.lost_statuses or lost:
            return Judgement(meaning="lost", status=key, latest=reached_by(lost))
        told = "deal_won_date" in view and "deal_lost_date" in view
        return Judgement(meaning="open" if told else None, status=key)

    def nested(self, view: dict[str, Any]) -> Parts:
        """Deliverables and tasks are records of their own, with their parent named."""
        own = {name: value for name, value in view.items() if name != "deliverables"}
        parent = {"parent": f"{view.get('project_type')}/{view['id']}", "parent_id": view["id"]}
        children, deliverables = [], view.get("deliverables") or []
        hidden = frozenset[str]() if "deliverables" in view else frozenset({"deliverable", "task"})
        if any("tasks" not in deliverable for deliverable in deliverables):
            hidden |= {"task"}
        for deliverable in deliverables:
            fields = {name: value for name, value in deliverable.items() if name != "tasks"}
            children.append(Child("deliverable", str(deliverable["id"]), {**fields, **parent}))
            home = {**parent, "deliverable_id": deliverable["id"]}
            children += [
                Child("task", str(task["id"]), {**task, **home}) for task in deliverable.get("tasks") or []
            ]
        return own, children, hidden


def _is_end(answer: Answer | None) -> bool:
    return answer is None or answer.body.strip() == b"[]"


def _shown(answer: Answer, known: _Tagged | None, what: str) -> tuple[Page, str]:
    """A page and its tag; a 304 says that it is what it was, and holds no rows."""
    total = _count(answer, "total-count")
    if answer.status == 304 and known is not None:
        same = Page(known.ids, (), answer.started, answer.ended, total, unchanged=True, cursor=TAGGED)
        return same, known.tag
    tag = answer.headers.get("etag", "")
    ids, raws = split(answer.body, _ids, what)
    return Page(ids, raws, answer.started, answer.ended, total, cursor=TAGGED if tag else ""), tag


_COUNT_NAMES = {
    "total-count": ("total-count", "x-total-count", "x-total", "total"),
    "total-pages": ("total-pages", "x-total-pages", "page-count", "x-page-count"),
}
"""Every version of pagy, and what accounts commonly rename its headers to (anchors/polling.md §4)."""


def _count(answer: Answer, what: str) -> int | None:
    for name in _COUNT_NAMES[what]:
        text = answer.headers.get(name, "")
        if text.isascii() and text.isdigit():
            return int(text)
    return None
