"""Pipedrive: deals by what changed since the last reading, projects in whole, archived and deleted ones too.

From the vendor's specifications of API v2 and v1 (facts.md §3). `updated_since` is inclusive and knows whole
seconds only; a write can be seen late, under the time it was made; archiving, deleting and merging may leave
the time alone. So each reading begins some minutes before the last one, and once an hour all is read.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any, ClassVar

import msgspec

from poller.errors import BadAnswer, Refused, Unreachable
from poller.watch.upstream import Answer, Ticket, Upstream

from .base import (
    MEANINGS,
    Account,
    Api,
    Found,
    Judgement,
    Kind,
    LeftOut,
    Missing,
    Page,
    Parts,
    Reading,
    decoded,
    reached_by,
    taken,
)
from .pipedrive_names import Moment, Names
from .pipedrive_records import KINDS, is_dead
from .pipedrive_wire import (
    DAY_S,
    Envelope,
    day_of,
    is_moment,
    moment,
    old_moment,
    opened,
    pause_of,
    seconds_of,
    server_time,
)

OVERLAP_S = timedelta(minutes=10).total_seconds()
"""How much is read again: longer than a replica lags behind. What is known already costs a fingerprint."""
MOST_ROWS = 500
"""Highest `limit`: above it the answer is a 400."""
MOST_PAGES = 10_000
HINTS = 100
"""Records of /recents that are asked for in one reading: as many as one request may name."""
RECENTS_REACH_S = 28 * DAY_S
"""It reaches back a month and does not say so when it is asked for more."""
ASK_AGAIN_S = timedelta(hours=1).total_seconds()
"""How often a list that the account does not have is asked for."""


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One endpoint with some of a kind's records, its cost in tokens, and the statuses to ask it for."""

    path: str
    cost: int
    statuses: str


_DEALS, _PROJECTS = "open,won,lost,deleted", "open,completed,canceled,deleted"
_SHELVES = {
    "deal": (_Shelf("/api/v2/deals", 10, _DEALS), _Shelf("/api/v2/deals/archived", 20, _DEALS)),
    "project": (
        _Shelf("/api/v2/projects", 10, _PROJECTS),
        _Shelf("/api/v2/projects/archived", 10, _PROJECTS),
    ),
}


class _Row(msgspec.Struct):
    """What of a row is looked at before it is known to have moved."""

    id: int
    update_time: Any = None
    owner_id: Any = None
    stage_id: Any = None
    pipeline_id: Any = None
    board_id: Any = None
    phase_id: Any = None
    person_id: Any = None
    org_id: Any = None
    person_ids: Any = None
    org_ids: Any = None


class _Recent(msgspec.Struct):
    id: int
    data: Any = None
    item: str = ""


_raws = msgspec.json.Decoder(list[msgspec.Raw] | None)
_rows = msgspec.json.Decoder(list[_Row] | None)
_recents = msgspec.json.Decoder(list[_Recent] | None)
_RECENTS = "/api/v1/recents"


@dataclass(slots=True)
class _Run:
    """One reading of a list while it goes on."""

    since: str
    began: float = 0.0
    """When the server gave the first page, by its own clock (Unix seconds)."""
    latest: float = 0.0
    """The latest update_time that was shown."""
    started: float = 0.0
    ended: float = 0.0
    """Of the last answer, by our clock."""
    seen: set[str] = field(default_factory=set)

    @property
    def next_since(self) -> str:
        """Where the next reading begins; a row that is a day ahead of the server is not believed."""
        latest = self.latest if self.latest < self.began + DAY_S else 0.0
        return moment(max(self.began, latest) - OVERLAP_S)


class Pipedrive:
    """One Pipedrive company, as one user sees it."""

    api: ClassVar[Api] = Api(
        variable="PIPEDRIVE_API_TOKEN",
        base_url_like="https://COMPANY.pipedrive.com",
        budget="900/1h",
        unit="tokens",
        dearest=20,
        plans=(
            "Pipedrive counts tokens: 30,000 a day and seat on Lite, 60,000 on Growth, 150,000 on Premium, "
            "210,000 on Ultimate, for all integrations of the company together"
        ),
    )
    kinds: ClassVar[Mapping[str, Kind]] = KINDS
    lists: ClassVar[tuple[str, ...]] = ("deal", "project")

    def __init__(self, account: Account, upstream: Upstream) -> None:
        self.name = account.name
        self.base_url = account.base_url
        self._recents = account.recents
        self._upstream = upstream
        self._names = Names(upstream)
        self._asked_in_vain: dict[str, float] = {}

    @staticmethod
    def auth(token: str) -> Mapping[str, str]:
        """The headers that say who asks."""
        return {"x-api-token": token, "accept": "application/json"}

    async def close(self) -> None:
        """Give the connections back."""
        await self._upstream.close()

    def url(self, kind: str, record_id: str) -> str:
        """Where a person finds the record."""
        return f"{self.base_url}/{'deal' if kind == 'deal' else 'projects'}/{record_id}"

    # --- lists --------------------------------------------------------------------------------

    async def pages(
        self, kind: str, *, size: int, ticket: Ticket, since: str = "", first: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Read a list and then its archived part by cursors; a page that is short is not the last.

        Raises:
            LeftOut: the account has no projects.
        """
        if not (self.kinds[kind].whole_every_s and is_moment(since)):
            since = ""
        run = _Run(since)
        for shelf in _SHELVES[kind]:
            cursor = ""
            for _ in range(MOST_PAGES):
                params = _asked(shelf, run, min(size, MOST_ROWS), cursor)
                answer = await self._shown(kind, shelf, params, ticket)
                envelope = opened(answer, shelf.path)
                if first and not envelope.filled:
                    answer = await self._shown(kind, shelf, params, ticket)
                    envelope = opened(answer, shelf.path)
                yield await self._page(kind, shelf, run, answer, envelope, ticket)
                cursor = envelope.cursor
                if not cursor:
                    break
            else:
                msg = f"{shelf.path} has no end after {MOST_PAGES} pages"
                raise BadAnswer(msg)
        if since and self._recents and kind == "deal":
            async for page in self._hinted(run, ticket):
                yield page
        if names := await self._names.rest(kind, ticket=ticket):
            yield Page((), (), run.started, run.ended, names=names, whole=not since, cursor=run.next_since)
        self._names.settle(kind, whole=not since)

    async def _shown(
        self, kind: str, shelf: _Shelf, params: Mapping[str, str | int], ticket: Ticket
    ) -> Answer:
        """One page of a shelf."""
        self._still_left_out(kind)
        try:
            answer = await self._get(shelf.path, shelf.cost, ticket, params)
        except Refused as exc:
            if kind == "deal" or exc.status == 401:
                raise
            raise self._left_out(kind, exc.status) from exc
        if answer.status == 200:
            return answer
        if kind == "project":
            raise self._left_out(kind, answer.status)
        msg = f"{shelf.path} answered {answer.status}: is base_url right?"
        raise BadAnswer(msg)

    def _left_out(self, kind: str, status: int) -> LeftOut:
        self._asked_in_vain[kind] = monotonic()
        self._names.settle(kind, whole=True)
        return LeftOut(f"the account has no {kind}s, or this token may not read them ({status})")

    def _still_left_out(self, kind: str) -> None:
        at = self._asked_in_vain.get(kind)
        if at is not None and monotonic() - at < ASK_AGAIN_S:
            msg = f"the account had no {kind}s when it was last asked; it is asked again once an hour"
            raise LeftOut(msg)

    async def _page(
        self, kind: str, shelf: _Shelf, run: _Run, answer: Answer, envelope: Envelope, ticket: Ticket
    ) -> Page:
        rows = taken(_rows, envelope.data, shelf.path) or []
        raws = taken(_raws, envelope.data, shelf.path) or []
        run.began = run.began or server_time(answer)
        run.started, run.ended = answer.started, answer.ended
        run.latest = max([run.latest, *(seconds_of(row.update_time) for row in rows)])
        shown = [msgspec.structs.asdict(row) for row in rows]
        names = await self._names.of(kind, shown, now=Moment(answer.started, run.began), ticket=ticket)
        ids = tuple(str(row.id) for row in rows)
        run.seen.update(ids)
        return Page(
            ids,
            tuple(raws),
            answer.started,
            answer.ended,
            whole=not run.since,
            names=names,
            named=self._names.sure_at,
            cursor=run.next_since,
            day=day_of(answer.headers),
        )

    # --- /v1/recents ----------------------------------------------------------------------------

    async def _hinted(self, run: _Run, ticket: Ticket) -> AsyncGenerator[Page, None]:
        """What /recents names and the lists did not show, asked of the lists by name.

        It only says that something changed: what no list shows is left to the next whole reading.
        """
        named = (await self._recently(run, ticket))[:HINTS]
        for shelf in _SHELVES["deal"]:
            ids = [record_id for record_id in named if record_id not in run.seen]
            if not ids:
                return
            asked: dict[str, str | int] = {"status": shelf.statuses, "limit": MOST_ROWS}
            answer = await self._shown("deal", shelf, {**asked, "ids": ",".join(ids)}, ticket)
            yield await self._page("deal", shelf, run, answer, opened(answer, shelf.path), ticket)

    async def _recently(self, run: _Run, ticket: Ticket) -> list[str]:
        """Ids of the deals that changed since then and were not shown; none where it does not answer."""
        if run.began - seconds_of(run.since) > RECENTS_REACH_S:
            return []
        try:
            found = await self._named_recently(run, ticket)
        except (Unreachable, BadAnswer):
            return []
        except Refused as exc:
            if exc.status == 401:
                raise
            return []
        return [record_id for record_id in found if record_id not in run.seen]

    async def _named_recently(self, run: _Run, ticket: Ticket) -> list[str]:
        """What /recents names, all pages of it; its data is not read, and null for what was purged."""
        found: dict[str, None] = {}
        start: int | None = 0
        params: dict[str, str | int] = {"since_timestamp": old_moment(run.since), "items": "deal"}
        while start is not None:
            answer = await self._get(_RECENTS, 20, ticket, {**params, "start": start, "limit": MOST_ROWS})
            if answer.status != 200:
                break
            envelope = opened(answer, _RECENTS)
            told = taken(_recents, envelope.data, _RECENTS) or []
            found.update((str(each.id), None) for each in told if each.item == "deal")
            start = envelope.next_start if envelope.next_start > start else None
        return list(found)

    # --- by id ------------------------------------------------------------------------------------

    async def read(
        self,
        kind: str,
        record_id: str,
        *,
        ticket: Ticket,
        tag: str = "",  # noqa: ARG002 - its answers have no tags
    ) -> Found:
        """Read one deal or project, archived or not; one that is deleted counts as missing.

        Its id answers 200, 404 or 410 for 30 days, and 404 from then on: all of it says the same.
        """
        what = f"{kind} {record_id}"
        answer = await self._by_id(kind, record_id, ticket)
        raw = _held_by(answer, what)
        if raw is None:
            return Missing(answer.started, answer.ended)
        view = decoded(self.kinds[kind], raw)
        if str(view["id"]) != record_id:
            msg = f"{what}: the answer is {view['id']}"
            raise BadAnswer(msg)
        if is_dead(view):
            return Missing(answer.started, answer.ended)
        return Reading(view, answer.started, answer.ended)

    async def _by_id(self, kind: str, record_id: str, ticket: Ticket) -> Answer:
        return await self._get(f"{_SHELVES[kind][0].path}/{record_id}", 1, ticket, {})

    async def _get(self, path: str, cost: int, ticket: Ticket, params: Mapping[str, str | int]) -> Answer:
        return await self._upstream.get(path, params=params, ticket=ticket, cost=cost, pauses=pause_of)

    # --- what it means ------------------------------------------------------------------------------

    def judge(self, view: Mapping[str, Any]) -> Judgement:
        """By the status alone; that of a deleted deal says nothing. Its time only tells since when."""
        status = str(view.get("status") or "")
        latest = reached_by(view.get(f"{status}_time"))
        return Judgement(meaning=MEANINGS.get(status), status=status, latest=latest)

    def nested(self, view: dict[str, Any]) -> Parts:
        """Nothing is nested: products and activities are lists of their own, and not read."""
        return view, [], frozenset()


def _asked(shelf: _Shelf, run: _Run, size: int, cursor: str) -> dict[str, str | int]:
    """What a page is asked for by; all but the cursor stays as it is, since that is tied to it."""
    params: dict[str, str | int] = {"status": shelf.statuses, "limit": size}
    if run.since:
        params["updated_since"] = run.since
    if cursor:
        params["cursor"] = cursor
    return params


def _held_by(answer: Answer, what: str) -> msgspec.Raw | None:
    """The one record of an answer; None where there is none."""
    if answer.status != 200:
        return None
    data = opened(answer, what).data
    return None if bytes(data) == b"null" else data
