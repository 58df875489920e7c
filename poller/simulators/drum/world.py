"""The state of one account: its rows, what they look like to whom, and the bookkeeping of what changed."""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

from poller.model import dumps
from poller.simulators.truth import Change, Entry, TruthLog

from . import ideal, views
from .columns import DELIVERABLE, RECORD, TASK, filled
from .fields import REFERENCES, ROLES, Kind, Role
from .populate import Population
from .switches import Switches
from .tables import Part, Row, examples, reference_tables
from .tokens import Token

DEMO_TOKEN = "drum_demo_token"  # noqa: S105 - made up, and worth nothing anywhere else
"""What a simulated account takes unless it is told otherwise."""


class World:
    """One account as it stands. `Orders` change it; here that becomes visible, and is logged.

    `first_id` keeps the ids of two accounts apart.
    """

    def __init__(
        self,
        *,
        account: str = "acme",
        token: str = DEMO_TOKEN,
        role: Role = ROLES["admin"],
        log: TruthLog | None = None,
        switches: Switches | None = None,
        with_examples: bool = True,
        first_id: int = 103,
        today: date = date(2025, 11, 3),
        seed: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.account = account
        self.today = today
        self.clock = clock
        self.log = log if log is not None else TruthLog(clock=clock)
        self.tables = reference_tables()
        self.rows: dict[int, Row] = {}
        self.main = Token(secret=token, role=role)
        self.tokens = {token: self.main}
        self.homes: dict[tuple[str, int], int] = {}
        """Which record a deliverable or task is nested in."""
        self._ids = {"record": first_id, "deliverable": first_id * 10, "task": first_id * 100}
        self._numbers = {"opportunity": 44, "project": 3}
        self._switches = switches or Switches()
        self._rng = random.Random(seed)
        self._members = self._touches = 0
        self._orders: dict[Any, tuple[int, list[Row]]] = {}
        self._known: set[str] = set()
        self._highest = 0
        if with_examples:
            self._print_examples()

    # --- switches and roles ---------------------------------------------------------------
    @property
    def switches(self) -> Switches:
        return self._switches

    @switches.setter
    def switches(self, switches: Switches) -> None:
        self._switches = switches
        self.__dict__.pop("_plain", None)
        self.forget_views()

    @property
    def role(self) -> Role:
        """What the main token may; the log is written from its point of view."""
        return self.main.role

    @property
    def main_token(self) -> str:
        """The secret of the main token."""
        return self.main.secret

    # --- reading --------------------------------------------------------------------------
    def row(self, record: int) -> Row:
        """The row of an id, archived or not.

        Raises:
            ValueError: there is none.
        """
        if record not in self.rows:
            msg = f"there is no record {record}."
            raise ValueError(msg)
        return self.rows[record]

    def live(self, kind: Kind) -> list[Row]:
        """The rows of a kind that are not archived, by id."""
        return self.ordered(kind, ROLES["admin"], "id")

    def state(self, record: int, role: Role | None = None) -> ideal.State | None:
        """A record as the main token sees it, for the log; None where it cannot."""
        row = self.rows.get(record)
        if row is None or not views.readable(row, role or self.role):
            return None
        if role is not None:
            return self._state(row, role)
        if row.state is None:
            row.state = self._state(row, self.role)
        state: ideal.State = row.state
        return state

    def _state(self, row: Row, role: Role) -> ideal.State:
        return ideal.State(
            id=row.id,
            kind=row.kind,
            deal=_deal(row),
            listed=views.listed(row, self.tables, role, self._plain),
            detail=views.outer(row, self.tables, role, self._plain),
            parts=dict(self._parts(row, role)),
        )

    @cached_property
    def _plain(self) -> Switches:
        # How a number is spelt is no change of it, nor is the order of people and tags.
        return self._switches.model_copy(update={"numbers": "places", "shuffled": False})

    def _parts(self, row: Row, role: Role) -> Iterator[tuple[str, ideal.Part]]:
        for part, home in row.parts():
            values = views.unnested(part, self.tables, role, self._plain)
            if home is None:
                yield f"deliverable/{part.id}", ideal.Part(kind="deliverable", values=values)
            else:
                values["deliverable_id"] = home.id
                yield f"task/{part.id}", ideal.Part(kind="task", values=values)

    def ordered(self, kind: Kind, role: Role, sort: str) -> list[Row]:
        """The visible rows of a kind in the order of a list; `random` is another at each call."""
        if sort == "random":
            rows = list(self.ordered(kind, role, "id"))
            self._rng.shuffle(rows)
            return rows
        version = self._members if sort == "id" and role.scope == "all" else self._touches
        at, rows = self._orders.get((kind, role, sort), (-1, []))
        if at != version:
            rows = [row for row in self.rows.values() if row.kind == kind and views.readable(row, role)]
            rows.sort(key=_SORTS[sort])
            self._orders[kind, role, sort] = version, rows
        return rows

    def encoded(self, row: Row, role: Role, *, detail: bool) -> bytes:
        """The row as it is sent, made once and kept until it changes."""
        key = (detail, role.metrics, role.gross_profit)
        body = row.encoded.get(key)
        if body is None:
            render = views.detailed if detail else views.listed
            body = row.encoded[key] = dumps(render(row, self.tables, role, self._switches))
        return body

    def forget_views(self) -> None:
        """Something changed that many rows print."""
        for row in self.rows.values():
            row.forget()

    def populate(self, *, opportunities: int = 0, projects: int = 0, seed: int = 1) -> None:
        """Add records that have always been there, made up from `seed`; nothing is logged."""
        made = Population(self, rng=random.Random(seed))
        for _ in range(opportunities):
            self.settle(made.opportunity())
        for _ in range(projects):
            self.settle(made.project())

    # --- changing -------------------------------------------------------------------------
    def apply(self, record: int, mutate: Callable[[], None]) -> tuple[Entry, ...]:
        """Change one record and log what that amounts to, at one moment (nothing else runs meanwhile)."""
        before, place = self.state(record), self._place(record)
        mutate()
        self.touch(record)
        if self._place(record) != place:
            self._members += 1
        return self.record(self.changes(before, self.state(record)))

    def record(self, changes: Iterable[Change]) -> tuple[Entry, ...]:
        """Log changes as one transition."""
        return self.log.record(account=self.account, changes=changes)

    def _place(self, record: int) -> tuple[str, bool] | None:
        row = self.rows.get(record)
        return None if row is None else (row.kind, row.archived)

    def changes(
        self, before: ideal.State | None, after: ideal.State | None, *, cause: str = ""
    ) -> Iterator[Change]:
        """What an ideal observer says of it; it remembers what it has seen."""
        arrival = self._arrival(after) if after else ""
        self._see(after)
        yield from ideal.changes(before, after, arrival=arrival, cause=cause)

    def _arrival(self, state: ideal.State) -> str:
        """How a record that comes into view does so (contract: created, appeared, restored)."""
        if state.subject in self._known:
            return "restored"
        return "created" if state.id > self._highest else "appeared"

    def _see(self, state: ideal.State | None) -> None:
        """Remember that the main token has had it in view."""
        if state is not None:
            self._known.add(state.subject)
            self._highest = max(self._highest, state.id)

    def touch(self, record: int) -> None:
        row = self.rows[record]
        self._touches += 1
        row.touched = self._touches
        row.forget()

    def next_id(self, what: str) -> int:
        self._ids[what] += 1
        return self._ids[what] - 1

    def next_number(self, kind: Kind) -> str:
        self._numbers[kind] += 1
        return f"{'OPP' if kind == 'opportunity' else 'PRJ'}-{self._numbers[kind] - 1:03d}"

    def take(self, row: Row) -> None:
        """Put a row into the tables."""
        self.rows[row.id] = row
        for part, home in row.parts():
            self.homes["task" if home else "deliverable", part.id] = row.id

    def settle(self, row: Row) -> None:
        """Take in a row that has always been there: nothing is logged."""
        self.take(row)
        self._members += 1
        self.touch(row.id)
        self._see(self.state(row.id))

    # --- the documents' own records -------------------------------------------------------
    def _print_examples(self) -> None:
        kinds: tuple[Kind, ...] = ("opportunity", "project")
        for kind in kinds:
            shown = examples()[kind]
            details = {item["id"]: item for item in shown["detail"]}
            for item in shown["list"]:
                self.settle(self._from_example(kind, item, details.get(item["id"], item)))

    def _from_example(self, kind: Kind, item: dict[str, Any], detail: dict[str, Any]) -> Row:
        values = _columns(RECORD, detail)
        if item["team"] == {"id": 3, "name": "Development Team"}:
            values["team"] = "3-projects"
        if kind == "project":
            values["company_id"] = item["client"]["id"]
        same = item["description"] == detail["description"]
        return Row(
            id=item["id"],
            kind=kind,
            values=values,
            deliverables=[_example_part(part) for part in detail.get("deliverables", [])],
            list_description=None if same else item["description"],
        )


def _example_part(item: dict[str, Any]) -> Part:
    columns = DELIVERABLE if "tasks" in item else TASK
    values = {"id": item["id"], **_columns(columns, item)}
    return Part(values, [_example_part(task) for task in item.get("tasks", [])])


def _columns(columns: Any, item: dict[str, Any]) -> dict[str, Any]:
    values = filled(columns, {}) | {name: item[name] for name in columns if name in item}
    for name in REFERENCES.keys() & values.keys():
        given = values[name]
        values[name] = [str(one["id"]) for one in given] if isinstance(given, list) else _key(given)
    return values


def _key(given: dict[str, Any] | None) -> str | None:
    return None if given is None else str(given["id"])


def _deal(row: Row) -> Any:
    if row.values["deal_won_date"]:
        return "won"
    return "lost" if row.values["deal_lost_date"] else "open"


_SORTS: dict[str, Callable[[Row], Any]] = {
    "id": lambda row: row.id,
    "updated": lambda row: (-row.touched, row.id),
    "name": lambda row: (row.values["name"], row.id),
}


def today() -> date:
    """The day now, for a simulator that is watched by people."""
    return datetime.now(UTC).date()
