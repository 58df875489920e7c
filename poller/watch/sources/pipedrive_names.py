"""What the ids in Pipedrive's rows are called: stages, phases, users; of people and companies those in use.

Rows hold ids alone. A name is asked for when a row first shows its id, and again once an hour, so that
records carry names and a rename is noticed. A name that cannot be had never holds up the rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from poller.errors import BadAnswer, Refused, Unreachable
from poller.watch.upstream import Answer, Ticket, Upstream

from .base import taken
from .pipedrive_wire import moment, opened, pause_of

EVERY_S = 3600.0
"""How often a name is asked for again."""
AT_ONCE = 100
"""Ids in one request, as documented; a page of rows with more unknown ones than that is not kept waiting."""
LATER_REQUESTS = 10
"""Requests at the end of one reading for names that no row waited for."""
OVERLAP_S = 600.0
MOST = 500
MOST_PAGES = 1_000


@dataclass(frozen=True, slots=True)
class Table:
    """Things with a name; `columns` are the fields of rows that hold their ids."""

    name: str
    path: str
    cost: int
    columns: tuple[str, ...]
    many: bool = False
    """Too many to be read in full: those in use are asked for by their ids."""
    within: str = ""
    """The table of which each thing is a part, where they are only listed part by part."""


_USER = Table("user", "/api/v1/users", 20, ("owner_id",))
_ORGANIZATION = Table("organization", "/api/v2/organizations", 10, ("org_id", "org_ids"), many=True)
_PERSON = Table("person", "/api/v2/persons", 10, ("person_id", "person_ids"), many=True)
TABLES: Mapping[str, tuple[Table, ...]] = {
    "deal": (
        Table("stage", "/api/v2/stages", 5, ("stage_id",)),
        Table("pipeline", "/api/v2/pipelines", 5, ("pipeline_id",)),
        _USER,
        _ORGANIZATION,
        _PERSON,
    ),
    "project": (
        Table("board", "/api/v2/boards", 10, ("board_id",)),
        Table("phase", "/api/v2/phases", 10, ("phase_id",), within="board"),
        _USER,
        _ORGANIZATION,
        _PERSON,
    ),
}


class _Thing(msgspec.Struct):
    id: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment by our clock, which measures intervals, and by the server's (Unix seconds)."""

    ours: float
    theirs: float


NEVER = Moment(0.0, 0.0)
_things = msgspec.json.Decoder(list[_Thing] | None)


@dataclass(slots=True)
class _State:
    """What this process knows of one table."""

    used: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    later: dict[int, None] = field(default_factory=dict)
    """Ids that no row waits for, in the order in which they were seen."""
    read_at: Moment = NEVER
    """When all of it was last asked for."""


class Names:
    """The names in one account."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._states: dict[str, _State] = {}
        self._whole: set[str] = set()
        """Kinds of which this process has seen every row, and so every id in use."""
        self.sure_at: dict[str, float] = {}
        """Table -> when all its names that are in use were last asked for, before this reading."""

    async def of(
        self, kind: str, rows: Iterable[Mapping[str, Any]], *, now: Moment, ticket: Ticket
    ) -> dict[str, str]:
        """The names that these rows show for the first time, and those that are due again.

        Gives `stage/7` -> its name.

        Raises:
            Limited; Refused: 401.
        """
        found: dict[str, str] = {}
        rows = list(rows)
        for table in TABLES[kind]:
            state = self._states.setdefault(table.name, _State(read_at=now if table.many else NEVER))
            shown = {each for row in rows for column in table.columns for each in _ids(row.get(column))}
            state.used |= shown
            new = shown - state.asked
            due = bool(state.used) and now.ours - state.read_at.ours >= EVERY_S
            if new or due:
                found |= await self._asked(table, state, new, now, ticket, due=due)
        return found

    async def rest(self, kind: str, *, ticket: Ticket) -> dict[str, str]:
        """Names that no row waited for: some of them at the end of each reading."""
        found: dict[str, str] = {}
        for table in TABLES[kind]:
            state = self._states.get(table.name) or _State()
            for _ in range(LATER_REQUESTS):
                some = list(state.later)[:AT_ONCE]
                if not some:
                    break
                found |= await self._by_ids(table, state, some, ticket)
        return found

    def settle(self, kind: str, *, whole: bool) -> None:
        """A reading of these rows ended: note as of when names are sure.

        Of a large table only once the rows of every kind that has its ids were all seen.
        """
        self._whole |= {kind} if whole else set()
        for table in TABLES[kind]:
            state = self._states.get(table.name)
            kinds = {each for each, tables in TABLES.items() if table in tables}
            if state and state.read_at.ours and not (table.many and (state.later or kinds - self._whole)):
                self.sure_at[table.name] = state.read_at.ours

    async def _asked(
        self, table: Table, state: _State, new: set[int], now: Moment, ticket: Ticket, *, due: bool
    ) -> dict[str, str]:
        """Ask for one table's names, in the way that fits how many there are."""
        if not table.many:
            return await self._in_full(table, state, now, ticket)
        found: dict[str, str] = {}
        if due:
            found = await self._renamed(table, state, now, ticket)
        if len(new) > AT_ONCE:
            state.later.update(dict.fromkeys(sorted(new)))
        elif new:
            found |= await self._by_ids(table, state, sorted(new), ticket)
        return found

    async def _in_full(self, table: Table, state: _State, now: Moment, ticket: Ticket) -> dict[str, str]:
        parts: list[dict[str, Any]] = [{}]
        if table.within:
            parts = [{f"{table.within}_id": each} for each in sorted(self._states[table.within].used)]
        found: dict[str, str] = {}
        for params in parts:
            told = await self._read(table, params, ticket)
            if told is None:
                return {}
            found |= told
        state.read_at, state.asked = now, set(state.used)
        return found

    async def _by_ids(self, table: Table, state: _State, ids: list[int], ticket: Ticket) -> dict[str, str]:
        for each in ids:
            state.later.pop(each, None)
        told = await self._read(table, {"ids": ",".join(map(str, ids))}, ticket)
        if told is not None:
            state.asked.update(ids)
        return told or {}

    async def _renamed(self, table: Table, state: _State, now: Moment, ticket: Ticket) -> dict[str, str]:
        """What was changed of a large table since it was last asked; those not in use say nothing."""
        told = await self._read(table, {"updated_since": moment(state.read_at.theirs - OVERLAP_S)}, ticket)
        if told is None:
            return {}
        state.read_at = now
        return {key: name for key, name in told.items() if int(key.partition("/")[2]) in state.used}

    async def _read(self, table: Table, params: Mapping[str, Any], ticket: Ticket) -> dict[str, str] | None:
        """Names as listed; none where the token may not read them; None where it failed: ask again.

        Raises:
            Limited; Refused: 401.
        """
        try:
            return await self._pages(table, params, ticket)
        except (Unreachable, BadAnswer):
            return None
        except Refused as exc:
            if exc.status == 401:
                raise
            return {}

    async def _pages(self, table: Table, params: Mapping[str, Any], ticket: Ticket) -> dict[str, str]:
        found: dict[str, str] = {}
        cursor = ""
        for _ in range(MOST_PAGES):
            answer = await self._page(table, {**params, "limit": MOST}, cursor, ticket)
            if answer.status != 200:
                return found
            what = f"the list of each {table.name}"
            envelope = opened(answer, what)
            found |= {
                f"{table.name}/{each.id}": each.name
                for each in taken(_things, envelope.data, what) or []
                if each.name
            }
            cursor = envelope.cursor
            if not cursor:
                return found
        msg = f"{table.path} has no end after {MOST_PAGES} pages"
        raise BadAnswer(msg)

    async def _page(self, table: Table, params: dict[str, Any], cursor: str, ticket: Ticket) -> Answer:
        if cursor:
            params["cursor"] = cursor
        return await self._upstream.get(
            table.path, params=params, ticket=ticket, cost=table.cost, pauses=pause_of
        )


def _ids(value: object) -> list[int]:
    """The ids that a field of a row holds; v1 shows objects in places, which name themselves."""
    return [each for each in (value if isinstance(value, list) else [value]) if type(each) is int]
