"""The state of one organization: its opportunities, who sees them how, the log of changes."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from poller.model import Json, dumps
from poller.simulators.truth import Change, Entry, TruthLog

from . import ideal, views
from .journal import Journal, Request
from .populate import Population
from .switches import Switches
from .tables import Row, make_id, reference_tables
from .tokens import Token

DEMO_TOKEN = "api_close_demo_key"  # noqa: S105 - made up, and worth nothing anywhere else
"""What a simulated organization takes unless it is told otherwise."""

EXAMPLE = "oppo_wwFacts2024DemoCompleted0000000000000000000"
"""The opportunity that carries the values of a public example: active, yet with a `date_won`."""


class World:
    """One organization as it stands. `Orders` change it; here that becomes visible, and is logged."""

    def __init__(
        self,
        *,
        account: str = "acme",
        token: str = DEMO_TOKEN,
        log: TruthLog | None = None,
        switches: Switches | None = None,
        with_examples: bool = True,
        seed: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.account = account
        self.log = log if log is not None else TruthLog(clock=clock)
        self.rng = random.Random(f"close {account} {seed}")
        self.tables = reference_tables(self.rng)
        self.rows: dict[str, Row] = {}
        self.activities: list[dict[str, Any]] = []
        """Status changes as told by `/activity/status_change/opportunity/`, true and imported ones."""
        first = next(iter(self.tables.users))
        self.main = Token(secret=token, user=first)
        self.tokens = {token: self.main}
        self.switches = switches or Switches()
        self.version = 0
        """Moves at every change of anything that a list shows."""
        self._clock, self._shift_s, self._last_ms = clock, 0.0, 0
        self._past: deque[tuple[int, str, Row | None]] = deque()
        self._ever: set[str] = set()
        self.journal = Journal(
            rng=self.rng,
            organization=self.tables.organization.id,
            transition=lambda: self.log.transition,
        )
        if with_examples:
            self.settle(self._made().example(EXAMPLE))

    @property
    def main_token(self) -> str:
        """The secret of the main token."""
        return self.main.secret

    # --- time -----------------------------------------------------------------------------
    def clock(self) -> float:
        """The account's own Unix time in seconds: the given clock, and what was let pass."""
        return self._clock() + self._shift_s

    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    def pass_time(self, seconds: float) -> None:
        """Let time pass at once."""
        self._shift_s += seconds

    def stamp(self) -> int:
        """The moment of a write, in milliseconds; never before an earlier one."""
        step = self.switches.resolution_ms
        self._last_ms = max(self._last_ms, self.now_ms() // step * step)
        return self._last_ms

    # --- reading --------------------------------------------------------------------------
    def row(self, record: str) -> Row:
        """The row of an id.

        Raises:
            ValueError: there is none.
        """
        if record not in self.rows:
            msg = f"there is no opportunity {record}."
            raise ValueError(msg)
        return self.rows[record]

    def live(self) -> list[Row]:
        """All rows, oldest in the table first."""
        return list(self.rows.values())

    def behind(self) -> Iterable[Row]:
        """The rows as a replica has them, which may stand some transitions back."""
        back = self.switches.replica_lag
        if not back or not self._past:
            return self.rows.values()
        rows, bound = dict(self.rows), self.log.transition - back
        for made_at, record, row in reversed(self._past):
            if made_at <= bound:
                break
            rows.pop(record, None)
            if row is not None:
                rows[record] = row
        return rows.values()

    def shown(self, row: Row) -> dict[str, Json]:
        """The opportunity as it is printed, made once and kept until it changes."""
        if row.shown is None:
            row.shown = views.opportunity(row, self.tables)
        return row.shown

    def encoded(self, row: Row) -> bytes:
        """The same as it is sent."""
        if row.body is None:
            row.body = dumps(self.shown(row))
        return row.body

    def state(self, record: str) -> ideal.State | None:
        """An opportunity as the main token sees it, for the log; None where it cannot."""
        row = self.rows.get(record)
        return ideal.State(self.shown(row)) if row and views.readable(row, self.main) else None

    # --- changing -------------------------------------------------------------------------
    def apply(
        self,
        records: Sequence[str],
        mutate: Callable[[], None],
        *,
        cause: str = "",
        also: Iterable[Change] = (),
    ) -> tuple[Entry, ...]:
        """Change some opportunities, and log what that amounts to as one transition at one moment."""
        before = {record: self.state(record) for record in records}
        self._remember(records)
        mutate()
        self.touch(records)
        fresh = set(records) - self._ever
        self._ever |= fresh
        found = [
            change
            for record in records
            for change in ideal.changes(
                before[record],
                self.state(record),
                arrival="created" if record in fresh else "appeared",
                cause=cause,
            )
        ]
        return self.record([*also, *found])

    def record(self, changes: Iterable[Change]) -> tuple[Entry, ...]:
        """Log changes as one transition."""
        entries = self.log.record(account=self.account, changes=changes)
        if entries:
            self._shift_s += self.switches.tick_s
        return entries

    def touch(self, records: Iterable[str]) -> None:
        """Something changed that these print."""
        self.version += 1
        for record in records:
            if record in self.rows:
                self.rows[record].forget()

    def note(
        self,
        row: Row,
        *,
        action: str,
        at_ms: int,
        request: Request,
        before: Mapping[str, Json] | None,
        after: Mapping[str, Json] | None,
    ) -> None:
        """Put what happened to an opportunity into the event log."""
        self.journal.add(
            at_ms=at_ms,
            action=action,
            object_type="opportunity",
            object_id=row.id,
            lead_id=row.values["lead_id"],
            request=request,
            switches=self.switches,
            before=before,
            after=after,
        )

    def new_id(self, prefix: str) -> str:
        return make_id(self.rng, prefix)

    def catch_up(self) -> None:
        """Let replica and event log show all there is."""
        self._past.clear()
        self.journal.show_all()
        self.version += 1

    # --- taking in ------------------------------------------------------------------------
    def populate(self, *, opportunities: int = 0, seed: int = 1) -> None:
        """Add opportunities that have long been there, made up from `seed`; nothing is logged."""
        made = self._made(seed)
        for _ in range(opportunities):
            self.settle(made.opportunity())

    def settle(self, row: Row) -> None:
        """Take in an opportunity that has always been there: nothing is logged."""
        self.rows[row.id] = row
        self.version += 1
        self._ever.add(row.id)

    def _made(self, seed: int = 1) -> Population:
        return Population(self, rng=random.Random(f"{self.account} {seed}"))

    # --- how ------------------------------------------------------------------------------
    def _remember(self, records: Iterable[str]) -> None:
        """Keep what a replica still shows once this transition is made."""
        back = self.switches.replica_lag
        if not back:
            return
        for record in records:
            row = self.rows.get(record)
            self._past.append((self.log.transition + 1, record, row.copied() if row else None))
        while self._past and self._past[0][0] <= self.log.transition - back:
            self._past.popleft()
