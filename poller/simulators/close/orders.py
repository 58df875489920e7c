"""The orders one can give to a simulated Close organization: what people do in it, one transition each.

Every order returns the entries it left in the truth log: () where the main token sees nothing of it, or
not yet (switch `lag`). Opportunities are named by their ids.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from poller.simulators.truth import Entries

from .account import Account
from .dates import day, written
from .fields import COLUMNS, CUSTOM, LOGGED_NOT, checked
from .journal import Request
from .leads import Leads
from .tables import Row, Status, StatusType
from .world import World
from .writes import Writes

_DEFAULT_CONFIDENCE: Mapping[str, int] = {"won": 100, "lost": 0}


class Orders:
    """What people do in one organization; `leads` and `account` have the orders beside."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._writes = Writes(world)
        self.leads = Leads(world, self._writes)
        self.account = Account(world, self._writes)

    # --- opportunities come, change and go ----------------------------------------------------
    def create(self, **fields: Any) -> Entries:
        """A new opportunity; fields by the names of the API."""
        values = dict(COLUMNS) | self._values(fields)
        tables = self.world.tables
        values["user_id"] = values["user_id"] or next(iter(tables.users))
        values["status_id"] = values["status_id"] or tables.of_type("active")[0].id
        values["lead_id"] = values["lead_id"] or next(iter(tables.leads), "")
        if not values["lead_id"]:
            msg = "there is no lead yet: populate the account first."
            raise ValueError(msg)
        user = values["user_id"]
        return self.add(Row(self.world.new_id("oppo"), values, 0, 0, user, user))

    def add(self, row: Row) -> Entries:
        """Take in an opportunity that was made elsewhere, as new: it is dated now."""

        def act(at_ms: int) -> None:
            row.created_ms = row.updated_ms = at_ms
            _reach(row, self._status(row), at_ms, previous="active")
            self.world.rows[row.id] = row
            request = self._request(row, "POST")
            self.world.note(
                row, action="created", at_ms=at_ms, request=request, before=None, after=self.world.shown(row)
            )

        return self._writes.write([row.id], act)

    def update(self, record: str, **fields: Any) -> Entries:
        """Change fields of an opportunity; None takes a custom field away.

        Raises:
            ValueError: there is no such opportunity, field or reference.
        """
        values = self._values(fields)
        self._writes.catch([record])
        row = self.world.row(record)
        quiet = self._quiet(values)
        return self._writes.write(
            [record], lambda at_ms: self._set(row, values, at_ms, quiet=quiet), quiet=quiet
        )

    def bulk_update(self, records: Sequence[str], **fields: Any) -> Entries:
        """Change fields of many opportunities by one request: all get the same date_updated."""
        values = self._values(fields)
        self._writes.catch(records)
        rows = [self.world.row(record) for record in records]
        meta = {"bulk_action_id": self.world.new_id("bulkaction")}

        def act(at_ms: int) -> None:
            request = Request(id=self.world.new_id("req"), user=self.world.main.user, meta=meta)
            for row in rows:
                self._set(row, values, at_ms, request=request)

        return self._writes.write(list(records), act)

    def delete(self, record: str) -> Entries:
        """Delete an opportunity: it leaves every list, its id answers 404, the event log tells it."""
        self._writes.catch([record])
        row = self.world.row(record)
        return self._writes.write(
            [record], lambda at_ms: self.leads.drop(row, at_ms, self._request(row, "DELETE")), at_once=True
        )

    # --- statuses -----------------------------------------------------------------------------
    def set_status(self, record: str, status: str) -> Entries:
        """Give an opportunity a status by its id; `date_won` and `date_lost` follow its type as in Close."""
        return self.update(record, status_id=status)

    def win(self, record: str) -> Entries:
        """Give an opportunity the won status of its pipeline."""
        return self.set_status(record, self._of_type(record, "won"))

    def lose(self, record: str) -> Entries:
        """Give an opportunity the lost status of its pipeline."""
        return self.set_status(record, self._of_type(record, "lost"))

    def reopen(self, record: str) -> Entries:
        """Give an opportunity an active status again."""
        return self.set_status(record, self._of_type(record, "active"))

    def stall(self, record: str, stalled: bool = True) -> Entries:
        """Let the server judge that an opportunity has stalled, or no longer."""
        self._writes.catch([record])
        row = self.world.row(record)
        quiet = "stall" in self.world.switches.quiet
        return self._writes.write(
            [record], lambda at_ms: self._set(row, {"is_stalled": stalled}, at_ms, quiet=quiet), quiet=quiet
        )

    # --- activities of the past ------------------------------------------------------------------
    def import_status_change(self, record: str, old: str, new: str, *, days_ago: float = 0.0) -> Entries:
        """Write a status change into the history that never happened: the opportunity does not move.

        Raises:
            ValueError: there is no such opportunity or status.
        """
        row = self.world.row(record)
        at_ms = self.world.now_ms() - int(days_ago * 86_400_000)
        was, now = (self._named_status(status) for status in (old, new))
        self.world.activities.append(self._activity(row, was, now, at_ms))
        return ()

    # --- what is due -----------------------------------------------------------------------------
    def due(self) -> Entries:
        """Let one late write show whose time has come; () if none is due."""
        return self._writes.due()

    def named(self) -> dict[str, Callable[..., Entries]]:
        """What the admin port takes, by name."""
        given: tuple[Callable[..., Entries], ...] = (
            self.create, self.update, self.bulk_update, self.delete, self.set_status, self.win, self.lose,
            self.reopen, self.stall, self.import_status_change,
            *self.leads.orders(), *self.account.orders(),
        )  # fmt: skip
        return {order.__name__: order for order in given}

    # --- how -------------------------------------------------------------------------------------
    def _values(self, fields: dict[str, Any]) -> dict[str, Any]:
        values = checked(fields)
        tables = self.world.tables
        for name, table in (
            ("lead_id", tables.leads), ("contact_id", tables.contacts), ("user_id", tables.users),
            ("status_id", tables.statuses),
        ):  # fmt: skip
            if values.get(name) and values[name] not in table:
                msg = f"there is no {name} {values[name]}."
                raise ValueError(msg)
        return values

    def _status(self, row: Row) -> Status:
        return self.world.tables.statuses[row.values["status_id"]]

    def _named_status(self, status: str) -> Status:
        return self.world.tables.statuses[self._values({"status_id": status})["status_id"]]

    def _of_type(self, record: str, type_: StatusType) -> str:
        pipeline = self._status(self.world.row(record)).pipeline
        found = [one.id for one in self.world.tables.of_type(type_) if one.pipeline == pipeline]
        return found[0]

    def _quiet(self, values: Mapping[str, Any]) -> bool:
        """Whether a change of these fields does not move date_updated."""
        kinds = {"custom" if name.startswith(CUSTOM) else name for name in values}
        quiet = self.world.switches.quiet
        return (kinds == {"custom"} and "custom" in quiet) or (
            kinds == {"value_currency"} and "currency" in quiet
        )

    def _request(self, row: Row, method: str = "PUT") -> Request:
        meta = {"request_method": method, "request_path": f"/api/v1/opportunity/{row.id}/"}
        return Request(id=self.world.new_id("req"), user=row.values["user_id"], meta=dict(meta))

    def _set(
        self,
        row: Row,
        values: Mapping[str, Any],
        at_ms: int,
        *,
        quiet: bool = False,
        request: Request | None = None,
    ) -> None:
        """Change a row and what follows from it; where nothing moves, nothing is dated."""
        before, was = self.world.shown(row), self._status(row)
        row.values.update(values)
        for name in [name for name in row.values if name.startswith(CUSTOM) and row.values[name] is None]:
            del row.values[name]
        now = self._status(row)
        _reach(row, now, at_ms, previous=was.type)
        row.forget()
        if self.world.shown(row) == before:
            return
        if not quiet:
            row.updated_ms, row.updated_by = at_ms, row.values["user_id"]
            row.forget()
        self._tell(row, before, at_ms, request or self._request(row))
        if was.id != now.id:
            self.world.activities.append(self._activity(row, was, now, at_ms))

    def _tell(self, row: Row, before: Mapping[str, Any], at_ms: int, request: Request) -> None:
        after = self.world.shown(row)
        moved = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        if not moved <= LOGGED_NOT:
            self.world.note(row, action="updated", at_ms=at_ms, request=request, before=before, after=after)

    def _activity(self, row: Row, was: Status, now: Status, at_ms: int) -> dict[str, Any]:
        """A status change as the history prints it; its `date_won` is a moment, unlike the opportunity's."""
        pipelines, values = self.world.tables.pipelines, row.values
        moment = written(at_ms)
        told: dict[str, Any] = {
            "_type": "OpportunityStatusChange",
            "id": self.world.new_id("acti"),
            "organization_id": self.world.tables.organization.id,
            "opportunity_id": row.id,
            "lead_id": values["lead_id"],
            "user_id": values["user_id"],
            "opportunity_value": values["value"],
            "opportunity_value_currency": values["value_currency"],
            "opportunity_value_period": values["value_period"],
            "opportunity_confidence": values["confidence"],
            "opportunity_date_won": f"{values['date_won']}T00:00:00+00:00" if values["date_won"] else None,
            "date_created": moment,
            "date_updated": moment,
            "activity_at": moment,
        }
        for side, status in (("old", was), ("new", now)):
            told[f"{side}_status_id"], told[f"{side}_status_label"] = status.id, status.name
            told[f"{side}_status_type"], told[f"{side}_pipeline_id"] = status.type, status.pipeline
            told[f"{side}_pipeline_name"] = pipelines[status.pipeline].name
        return told


def _reach(row: Row, status: Status, at_ms: int, *, previous: str) -> None:
    """What follows from a status: winning fills an empty `date_won` and leaves a hoped-for one as it is."""
    if status.type == previous:
        return
    if status.type == "won":
        row.values["date_won"] = row.values["date_won"] or day(at_ms)
    row.values["date_lost"] = written(at_ms) if status.type == "lost" else None
    row.values["confidence"] = _DEFAULT_CONFIDENCE.get(status.type, row.values["confidence"])
