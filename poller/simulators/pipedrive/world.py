"""The state of one company: its rows, when they become visible and to whom, and the log of it."""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from poller.simulators.truth import Change, Entry, TruthLog

from . import ideal, views
from .fields import COLUMNS, Kind
from .limits import Meter
from .populate import Population
from .shelves import Shelves
from .switches import Switches
from .tables import DAY_S, Named, Row, Write, reference_tables
from .tokens import Token

DEMO_TOKEN = "pipedrive_demo_token"  # noqa: S105 - made up, and worth nothing anywhere else
"""What a simulated company takes unless it is told otherwise."""
PURGED_AFTER_S = 30 * DAY_S
"""A deleted row is shown to who asks for deleted ones this long, in seconds; then it is gone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Late:
    """Writes that a replica has not seen yet."""

    when: float
    rows: tuple[tuple[Row, str], ...]


class World:
    """One company as it stands. `Orders` change it; here that becomes visible, and is logged.

    `first_id` keeps the ids of two companies apart. `rows` is what was written, `shown` what the
    replica that answers has seen of it.
    """

    def __init__(
        self,
        *,
        account: str = "acme",
        token: str = DEMO_TOKEN,
        log: TruthLog | None = None,
        switches: Switches | None = None,
        first_id: int = 1,
        seed: int = 1,
        clock: Callable[[], float] = time.time,
        keep: int | None = None,
    ) -> None:
        self.account = account
        self.log = log if log is not None else TruthLog(clock=clock, keep=keep)
        self.tables = reference_tables()
        self.rows: dict[str, Row] = {}
        self.shown = Shelves()
        self.purged: dict[str, float] = {}
        """When rows were purged, by subject, in Unix seconds."""
        self.main = Token(secret=token)
        self.tokens = {token: self.main}
        self.closed, self._able = False, True
        """The company's account is closed: 402."""
        self.meter = Meter(keep=keep)
        self.ahead_s = 0.0
        """How far the company's clock is ahead, in seconds: time can be let pass."""
        self._clock = clock
        self._switches = switches or Switches()
        self._rng = random.Random(seed)
        self._ids: dict[Kind, int] = {"deal": first_id, "project": first_id}
        self._late: list[_Late] = []
        self._deleted: set[str] = set()
        self._epoch = 0
        self._live: dict[Kind, dict[int, Row]] = {"deal": {}, "project": {}}
        self._known: set[str] = set()
        self._highest: dict[Kind, int] = {"deal": 0, "project": 0}

    # --- clock, switches, tokens ------------------------------------------------------------
    def now(self) -> float:
        """The company's own time, in Unix seconds."""
        return self._clock() + self.ahead_s

    @property
    def switches(self) -> Switches:
        return self._switches

    @switches.setter
    def switches(self, switches: Switches) -> None:
        self._switches = switches
        self.forget_views()

    @property
    def main_token(self) -> str:
        """The secret of the main token."""
        return self.main.secret

    def regard(self, token: Token) -> Iterator[Change]:
        """Put another main token in place of the present one; says what comes into view and leaves it."""
        was, self.main = self.main, token
        self.tokens.pop(was.secret, None)
        self.tokens[token.secret] = token
        for row in self.shown:
            if was.sees(row.values["owner_id"]) != token.sees(row.values["owner_id"]):
                yield from self._changes(self._state(row, was), self._state(row, token), cause="access")

    def access(self) -> Iterator[Change]:
        """What the main token's holder notices if it is refused now and was not before, or the other way."""
        could, self._able = self._able, self.main.holds(now=self.now()) and not self.closed
        if could != self._able:
            yield Change(subject="source", type=f"poller.source.{'resumed' if self._able else 'suspended'}")

    # --- reading ----------------------------------------------------------------------------
    def row(self, kind: Kind, number: int) -> Row:
        """The row of an id, as it was last written.

        Raises:
            ValueError: there is none.
        """
        row = self.rows.get(f"{kind}/{number}")
        if row is None:
            msg = f"there is no {kind} {number}."
            raise ValueError(msg)
        return row

    def live(self, kind: Kind) -> list[Row]:
        """The rows of a kind that are neither archived nor deleted, as they were last written."""
        return list(self._live[kind].values())

    def visible(self) -> Iterator[Row]:
        """The rows that the main token sees, as they are shown."""
        return (row for row in self.shown if not row.deleted and self.main.sees(row.values["owner_id"]))

    def state(self, subject: str) -> ideal.State | None:
        """A record as the main token sees it, for the log; None where it does not."""
        row = self.shown.get(subject)
        return self._state(row, self.main) if row else None

    def states(self) -> dict[str, ideal.State]:
        """All records that the main token sees, by subject."""
        found = (self._state(row, self.main) for row in self.shown)
        return {state.subject: state for state in found if state}

    def encoded(self, row: Row, shape: str, printed: Callable[[], bytes]) -> bytes:
        """The row as it is sent in a shape, made once and kept until something changes that it prints."""
        epoch, body = row.encoded.get(shape, (-1, b""))
        if epoch != self._epoch:
            body = printed()
            row.encoded[shape] = self._epoch, body
        return body

    def forget_views(self) -> None:
        """Something changed that many rows print."""
        self._epoch += 1

    # --- changing ---------------------------------------------------------------------------
    def commit(self, *writes: Write) -> tuple[Entry, ...]:
        """Make one transition; () where it changes nothing that the main token sees, or not yet."""
        rows = tuple((self._written(write), write.cause) for write in writes)
        when = self._visible_at(rows)
        if when > self.now():
            self._late.append(_Late(when, rows))
            return ()
        return self._publish(rows)

    def record(self, changes: Iterable[Change]) -> tuple[Entry, ...]:
        """Log changes as one transition."""
        return self.log.record(account=self.account, changes=changes)

    def due(self) -> tuple[Entry, ...]:
        """Let the next thing happen that is due: a late write seen, a token expired; () if there is none."""
        while ready := [late for late in self._late if late.when <= self.now()]:
            self._late.remove(ready[0])
            if entries := self._publish(ready[0].rows):
                return entries
        self._purge()
        return self.record(self.access())

    def catch_up(self) -> None:
        """Let everything happen that is due by now."""
        while self.due():
            continue

    def next_id(self, kind: Kind) -> int:
        self._ids[kind] += 1
        return self._ids[kind] - 1

    def add_named(self, table: str, name: str, *, home: int | None = None) -> Named:
        """A person or organization that has always been there."""
        number = max(self.tables[table], default=0) + 1
        self.tables[table][number] = Named(table, number, name, home)
        return self.tables[table][number]

    def populate(self, *, deals: int = 0, projects: int = 0, seed: int = 1) -> None:
        """Add records that have always been there, made up from `seed`; nothing is logged."""
        made = Population(self, rng=random.Random(seed))
        for kind, count in (("deal", deals), ("project", projects)):
            for _ in range(count):
                self.settle(made.deal() if kind == "deal" else made.project())

    def settle(self, write: Write) -> None:
        """Take in a row that has always been there, times and all: nothing is logged."""
        row = self._written(replace(write, touch=False))
        self._show(row)
        self._see(self.state(row.subject))

    # --- how --------------------------------------------------------------------------------
    def _written(self, write: Write) -> Row:
        subject = f"{write.kind}/{write.id}"
        old = self.rows.get(subject)
        was = old.values if old else COLUMNS[write.kind]
        values = {**was, **write.values}
        if write.touch:
            values["update_time"] = max(was["update_time"], self.stamp(write.kind))
        row = self.rows[subject] = Row(write.kind, write.id, values)
        if row.archived or row.deleted:
            self._live[row.kind].pop(row.id, None)
        else:
            self._live[row.kind][row.id] = row
        return row

    def stamp(self, kind: Kind) -> float:
        """Now, as precisely as the kind's times are kept: whole seconds, for projects milliseconds."""
        now = self.now()
        return math.floor(now) if kind == "deal" else math.floor(now * 1000) / 1000

    def _visible_at(self, rows: tuple[tuple[Row, str], ...]) -> float:
        """When a write is seen: never before an earlier one of the same record."""
        subjects = {row.subject for row, _ in rows}
        waiting = [late.when for late in self._late if any(row.subject in subjects for row, _ in late.rows)]
        lag = self._switches.replica_lag_s
        lags = lag > 0 and self._rng.random() < self._switches.replica_lag_share
        return max([self.now() + lag if lags else 0.0, *waiting])

    def _publish(self, rows: Iterable[tuple[Row, str]]) -> tuple[Entry, ...]:
        found: list[Change] = []
        for row, cause in rows:
            before = self.state(row.subject)
            self._show(row)
            found += self._changes(before, self.state(row.subject), cause=cause)
        return self.record(found)

    def _show(self, row: Row) -> None:
        self.shown.put(row)
        (self._deleted.add if row.deleted else self._deleted.discard)(row.subject)

    def _state(self, row: Row, token: Token) -> ideal.State | None:
        if row.deleted or not token.sees(row.values["owner_id"]):
            return None
        return ideal.State(row.kind, row.id, views.shown(row, self._switches))

    def _changes(self, before: ideal.State | None, after: ideal.State | None, *, cause: str) -> list[Change]:
        arrival = self._arrival(after) if after else ""
        self._see(after)
        return list(ideal.changes(before, after, arrival=arrival, cause=cause))

    def _arrival(self, state: ideal.State) -> str:
        """How a record that comes into view does so (contract: created, appeared, restored)."""
        if state.subject in self._known:
            return "restored"
        return "created" if state.id > self._highest[state.kind] else "appeared"

    def _see(self, state: ideal.State | None) -> None:
        if state is not None:
            self._known.add(state.subject)
            self._highest[state.kind] = max(self._highest[state.kind], state.id)

    def _purge(self) -> None:
        """Rows deleted 30 days ago are gone for good; nothing is said of that, they were removed before."""
        now = self.now()
        for subject in [name for name in self._deleted if self._overdue(name, now)]:
            self.purged[subject] = self.shown[subject].values["delete_time"] + PURGED_AFTER_S
            self._deleted.discard(subject)
            self.shown.take(subject)
            del self.rows[subject]

    def _overdue(self, subject: str, now: float) -> bool:
        deleted: float = self.shown[subject].values["delete_time"]
        # What was restored but is not yet seen to be stays.
        return self.rows[subject].deleted and now >= deleted + PURGED_AFTER_S
