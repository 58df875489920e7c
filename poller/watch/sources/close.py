"""Close: opportunities by what changed since, deletions from its event log, names from two lists beside.

From the document of the API and what public material adds to it (facts.md §2): moments are printed to the
millisecond and asked for in UTC; `_skip` over a list that moves misses rows, so pages go by date, and a
moment that holds more than a page is taken apart by the date of creation.
"""

import base64
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from poller.errors import BadAnswer, Refused
from poller.watch.limits import date_of
from poller.watch.upstream import Answer, Ticket, Upstream

from .base import Account, Api, Found, Judgement, Kind, Meaning, Page, flat, read_of, taken
from .close_lists import DATES, Asking, Head, Part, written
from .close_records import APP_PATH, KINDS, LATE_S, mark_us, unix_us

API = "/api/v1"
PATH = f"{API}/opportunity/"
NAMES_EVERY_S = 300.0
"""How often the names of statuses and pipelines are asked for; whole readings always do."""
MOST_PAGES = 1_000
"""Longer than any 30 days of deletions."""

_SECOND_US = 1_000_000
_LATE_US = round(LATE_S * _SECOND_US)
_DAY_US = 86_400 * _SECOND_US
_LOG_KEPT_US = 30 * _DAY_US
"""For so long the event log remembers: what was deleted in a longer outage is only absent."""
_MEANINGS: Mapping[str, Meaning] = {"active": "open", "won": "won", "lost": "lost"}
_NAMED = {"status": f"{API}/status/opportunity/", "pipeline": f"{API}/pipeline/"}
_APPS = {"https://api.close.com": "https://app.close.com"}


class _Event(msgspec.Struct):
    object_id: str
    date_updated: str


class _Log(msgspec.Struct):
    data: list[_Event]
    cursor_next: str | None = None


class _Named(msgspec.Struct):
    id: str
    name: str | None = None
    label: str | None = None


class _Names(msgspec.Struct):
    data: list[_Named]
    has_more: bool = False


_log = msgspec.json.Decoder(_Log)
_names = msgspec.json.Decoder(_Names)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the last reading ended: what changed later is dated later, but for LATE_S."""

    at_us: int
    organization: str

    @classmethod
    def read(cls, cursor: str) -> "_Mark | None":
        """None where there is no cursor, or one that is none of ours: then all is read."""
        try:
            return cls(mark_us(cursor), cursor.partition(" ")[2])
        except ValueError:
            return None

    def cursor(self) -> str:
        return f"{written(self.at_us)} {self.organization}"


class _Progress:
    """What one reading has shown so far."""

    def __init__(self, mark: _Mark | None) -> None:
        self._mark = mark or _Mark(0, "")
        self._latest_us = self._mark.at_us
        self.began_us = 0
        """When the first answer was given, by the server's own clock where it names it."""
        self._organization = self._mark.organization
        self._given: dict[str, str] = {}
        self.pages = 0
        self.started = self.ended = 0.0

    def take(self, part: Part, *, whole: bool) -> Page:
        """The rows of an answer, without those that were given before as they are now.

        Raises:
            BadAnswer: they are another organization's: the token was changed for a stranger's.
        """
        answer = part.answer
        if not self.started:
            self._begin(answer)
        self.ended = answer.ended
        ids, raws = [], []
        for head, raw in zip(part.heads, part.raws, strict=True):
            self._note(head)
            if self._given.get(head.id) != head.date_updated:
                self._given[head.id] = head.date_updated
                ids.append(head.id)
                raws.append(raw)
        return Page(tuple(ids), tuple(raws), answer.started, answer.ended, whole=whole)

    def _begin(self, answer: Answer) -> None:
        """What the first answer tells of the time."""
        self.started, at_s = answer.started, date_of(answer.headers.get("date", ""))
        self.began_us = round((at_s or answer.started) * _SECOND_US)
        if at_s is not None:
            self._latest_us = max(self._latest_us, self.began_us)

    def _note(self, head: Head) -> None:
        at_us = head.us("date_updated")
        if at_us < self.began_us + _DAY_US:  # a row that is a day ahead of the server is not believed
            self._latest_us = max(self._latest_us, at_us)
        theirs = head.organization_id or self._organization
        if self._mark.organization not in ("", theirs):
            msg = (
                f"opportunity {head.id} is of {theirs}, not of {self._organization}: another account's token?"
            )
            raise BadAnswer(msg)
        self._organization = theirs

    def mark(self) -> _Mark:
        """Where the next reading may begin: now by the server's clock, or the latest date that it showed."""
        return _Mark(self._latest_us, self._organization)


class Close:
    """One organization, as the key's user sees it."""

    api: ClassVar[Api] = Api(base_url="https://api.close.com", variable="CLOSE_API_KEY")
    kinds: ClassVar[Mapping[str, Kind]] = KINDS
    lists: ClassVar[tuple[str, ...]] = ("opportunity",)
    nested = staticmethod(flat)

    def __init__(self, account: Account, upstream: Upstream) -> None:
        self.name = account.name
        self.base_url = account.base_url
        self._account = account
        self._upstream = upstream
        self._named_at = 0.0
        self._logged_us = 0
        """Up to when this process has read the event log; 0 before it has: then all of it is news."""

    @staticmethod
    def auth(token: str) -> Mapping[str, str]:
        """An API key (`api_…`) is the user name of Basic, without a password; all else is an OAuth token."""
        said = f"Bearer {token}"
        if token.startswith("api_"):
            said = f"Basic {base64.b64encode(f'{token}:'.encode()).decode()}"
        return {"authorization": said, "accept": "application/json"}

    async def close(self) -> None:
        """Give the connections back."""
        await self._upstream.close()

    def url(self, kind: str, record_id: str) -> str:  # noqa: ARG002 - there is one kind
        """Where a person finds the opportunity, where its lead is not known."""
        return f"{_APPS.get(self.base_url, self.base_url)}{APP_PATH}{record_id}/"

    # --- the list -----------------------------------------------------------------------------

    async def pages(
        self,
        kind: str,  # noqa: ARG002 - there is one kind
        *,
        size: int,
        ticket: Ticket,
        since: str = "",
        first: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """Read what changed since the cursor, or all; the last page has what is told beside the rows.

        Raises:
            BadAnswer: also where the token is another organization's than the cursor.
        """
        mark = _Mark.read(since)
        whole, reading = mark is None, _Progress(mark)
        asking = Asking(self._upstream, PATH, ticket=ticket, size=size, first=first)
        async for part in asking.rows({}, DATES, mark.at_us - _LATE_US if mark else None):
            page = reading.take(part, whole=whole)
            if page.ids or (whole and not reading.pages):
                reading.pages += 1
                yield page
        gone = await self._deletions(self._log_from(mark, reading.began_us), ticket)
        self._logged_us = reading.began_us
        names: Mapping[str, str] = {}
        if whole or reading.started - self._named_at >= NAMES_EVERY_S:
            names, self._named_at = await self._names(ticket), reading.started
        named = dict.fromkeys(_NAMED, reading.started) if names else {}
        yield Page(
            (), (), reading.started, reading.ended,
            whole=whole, gone=gone, names=names, named=named, cursor=reading.mark().cursor(),
        )  # fmt: skip

    def _log_from(self, mark: _Mark | None, now_us: int) -> int:
        """From when on deletions are asked for. A whole reading asks for a day of them, and for all since the

        log was last read: what an outage took would else be too many absences at once.
        """
        if mark is not None:
            return mark.at_us - _LATE_US
        return max(now_us - _LOG_KEPT_US, min(now_us - _DAY_US, self._logged_us - _LATE_US))

    async def _deletions(self, since_us: int, ticket: Ticket) -> tuple[str, ...]:
        """Ids that the event log says were deleted since.

        The log is read after the rows: what is deleted meanwhile is dated later than any of them. A key that
        may not read it leaves deletions to whole readings.
        """
        asked: dict[str, str | int] = {"object_type": "opportunity", "action": "deleted", "_limit": 50}
        asked["date_updated__gte"] = written(since_us)
        gone: dict[str, None] = {}
        for _ in range(MOST_PAGES):
            answer = await self._beside(f"{API}/event/", asked, ticket)
            if answer is None:
                return ()
            page = taken(_log, answer.body, f"{API}/event/")
            fresh = [event.object_id for event in page.data if _moment(event.date_updated) >= since_us]
            gone |= dict.fromkeys(fresh)
            if not page.cursor_next or len(fresh) < len(page.data):
                return tuple(gone)
            asked["_cursor"] = page.cursor_next
        msg = f"{API}/event/ has no end after {MOST_PAGES} pages"
        raise BadAnswer(msg)

    async def _names(self, ticket: Ticket) -> dict[str, str]:
        """What statuses and pipelines are called now; nothing where the key may not read that."""
        found: dict[str, str] = {}
        for what, path in _NAMED.items():
            asked: dict[str, str | int] = {"_skip": 0}
            more = True
            while more:
                answer = await self._beside(path, asked, ticket)
                if answer is None:
                    return {}
                page = taken(_names, answer.body, path)
                found |= {
                    f"{what}/{each.id}": name for each in page.data if (name := each.name or each.label)
                }
                asked["_skip"] = int(asked["_skip"]) + len(page.data)
                more = page.has_more and bool(page.data)
        return found

    async def _beside(self, path: str, asked: Mapping[str, str | int], ticket: Ticket) -> Answer | None:
        """Ask for what is told beside the rows; None where the key may read these but not that."""
        try:
            answer = await self._upstream.get(path, params=asked, ticket=ticket)
        except Refused as exc:
            if exc.status == 401:
                raise
            return None
        if answer.status != 200:
            msg = f"{path} answered {answer.status}: is base_url right?"
            raise BadAnswer(msg)
        return answer

    # --- one opportunity ------------------------------------------------------------------------

    async def read(
        self,
        kind: str,
        record_id: str,
        *,
        ticket: Ticket,
        tag: str = "",  # noqa: ARG002 - its answers have no tags
    ) -> Found:
        """Read one opportunity; deleted ones and those out of the key's reach are missing alike."""
        answer = await self._upstream.get(f"{PATH}{record_id}/", ticket=ticket)
        return read_of(self.kinds[kind], answer, record_id)

    def judge(self, view: Mapping[str, Any]) -> Judgement:
        """By the operator's lists, then by the type of the status alone: `date_won` is often a hope."""
        status = str(view.get("status_id") or "")
        names = {status, str(view.get("status_label"))}
        if names & self._account.won_statuses:
            return Judgement(meaning="won", status=status)
        if names & self._account.lost_statuses:
            return Judgement(meaning="lost", status=status)
        return Judgement(meaning=_MEANINGS.get(str(view.get("status_type"))), status=status)


def _moment(text: str) -> int:
    try:
        return unix_us(text)
    except (ValueError, OverflowError) as exc:
        msg = f"{API}/event/ has the date {text!r}, which is none"
        raise BadAnswer(msg) from exc
