"""The orders one can give to a simulated Drum account: what people do in it, one transition each.

Every order returns the entries it left in the truth log: () where the main token sees nothing of it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from poller.simulators.truth import Change, Entries

from .columns import RECORD, checked, filled
from .fields import DETAILED, REFERENCES, ROLES, Kind, Role
from .tables import Named, Row
from .tokens import Token
from .views import gated, readable
from .work import Work
from .world import World

_TYPES = {"opportunity": ("open", "won", "lost"), "project": ("work", "done")}
_FIRST = {"opportunity": "4", "project": "9"}


class Orders:
    """What people do in one account; `work` has the orders for deliverables and tasks."""

    def __init__(self, world: World) -> None:
        self.work = Work(world)
        self._world = world
        self._pending: list[tuple[int, int]] = []
        self._sales: dict[int, tuple[str | None, str]] = {}

    # --- records come, change and go --------------------------------------------------------
    def create_opportunity(self, **fields: Any) -> Entries:
        """A new opportunity; fields by the names of the API, references by id (`client=456`)."""
        return self._create("opportunity", fields)

    def create_project(self, **fields: Any) -> Entries:
        """A project that never was an opportunity."""
        return self._create("project", fields)

    def add(self, row: Row) -> Entries:
        """Take in a row that was made elsewhere, as new."""

        return self._world.apply(row.id, lambda: self._world.take(row))

    def update(self, record: int, **fields: Any) -> Entries:
        """Change fields of a record.

        Raises:
            ValueError: there is no such record, field or reference.
        """
        row = self._world.row(record)
        values = self._values(fields)
        status = values.pop("project_status", row.values["project_status"])
        self._check_status(row.kind, status)

        def mutate() -> None:
            if "description" in values:
                row.list_description = None
            row.values.update(values)
            self._reach(row, status)

        return self._world.apply(record, mutate)

    def archive(self, record: int) -> Entries:
        """Delete softly: the record leaves both resources."""
        return self._world.apply(record, lambda: setattr(self._world.row(record), "archived", True))

    def restore(self, record: int) -> Entries:
        """Take a record out of the archive."""
        return self._world.apply(record, lambda: setattr(self._world.row(record), "archived", False))

    # --- statuses -------------------------------------------------------------------------
    def set_status(self, record: int, status: int | None) -> Entries:
        """Give a record a status by its id; won and lost statuses set their dates, as in Drum."""
        return self.update(record, project_status=status)

    def win(self, record: int, status: int = 6) -> Entries:
        """Give an opportunity a won status; it becomes a project as the switches say."""
        return self.set_status(self._live(record, "opportunity").id, status)

    def lose(self, record: int, status: int = 7) -> Entries:
        """Give an opportunity a lost status; it stays listed."""
        return self.set_status(self._live(record, "opportunity").id, status)

    def complete(self, record: int) -> Entries:
        """Give a project a completed status."""
        return self.set_status(self._live(record, "project").id, 11)

    def reopen(self, record: int) -> Entries:
        """Give a record an open status again."""
        row = self._live(record, None)
        return self.set_status(record, 2 if row.kind == "opportunity" else 5)

    def convert(self, record: int) -> Entries:
        """Make a project of an opportunity, whatever its status: same id, the sales fields go."""
        row = self._live(record, "opportunity")
        return self._world.apply(record, lambda: self._convert(row))

    def revert(self, record: int) -> Entries:
        """Make an opportunity of a project again."""
        row = self._live(record, "project")
        return self._world.apply(record, lambda: self._revert(row))

    def due(self) -> Entries:
        """Convert the next opportunity whose delay since its win is over; () if none is due."""
        for index, (when, record) in enumerate(self._pending):
            if self._world.log.transition >= when:
                del self._pending[index]
                row = self._world.rows[record]
                waiting = row.kind == "opportunity" and not row.archived and row.values["deal_won_date"]
                return self.convert(record) if waiting else self.due()
        return ()

    # --- the account ------------------------------------------------------------------------
    def rename(self, table: str, key: int | str, name: str) -> Entries:
        """Rename a status, client, team, lead_score, user or resource_type: every record prints the new name.

        Raises:
            ValueError: there is no such table or row.
        """
        row, seen = self._named(table, key), self.in_use(table, key)
        before, row.name = row.name, name
        self._world.forget_views()
        return self._world.record(_renamed(table, row.id, before, name, seen=seen))

    def in_use(self, table: str, key: int | str) -> bool:
        """Whether the main token sees a record that prints this row of a table."""
        return any(
            readable(row, self._world.role) and _uses(row, table, str(key))
            for row in self._world.rows.values()
        )

    def set_role(self, role: str | Role) -> Entries:
        """Change what the main token may do; logged is what its holder notices.

        Raises:
            ValueError: there is no role of that name.
        """
        if isinstance(role, str) and role not in ROLES:
            msg = f"there is no role {role}. There are: {', '.join(ROLES)}."
            raise ValueError(msg)
        return self._regard(role=ROLES[role] if isinstance(role, str) else role)

    def expire_token(self) -> Entries:
        """Let the main token's time be over: 401."""
        return self._regard(expires_at=self._world.clock())

    def renew_token(self) -> Entries:
        """Let the main token hold for ever."""
        return self._regard(expires_at=None)

    def archive_user(self) -> Entries:
        """Archive the main token's user: 403."""
        return self._regard(archived=True)

    def revive_user(self) -> Entries:
        """Take the main token's user out of the archive."""
        return self._regard(archived=False)

    def add_token(self, secret: str, role: str = "admin") -> Token:
        """A further token of this account; the log stays written for the main one."""
        self._world.tokens[secret] = Token(secret=secret, role=ROLES[role])
        return self._world.tokens[secret]

    def named(self) -> dict[str, Callable[..., Entries]]:
        """What the admin port takes, by name."""
        given: tuple[Callable[..., Entries], ...] = (
            self.create_opportunity, self.create_project, self.update, self.archive, self.restore,
            self.set_status, self.win, self.lose, self.complete, self.reopen, self.convert, self.revert,
            self.rename, self.set_role, self.expire_token, self.renew_token, self.archive_user,
            self.revive_user, *self.work.orders(),
        )  # fmt: skip
        return {order.__name__: order for order in given}

    # --- how -------------------------------------------------------------------------------
    def _create(self, kind: Kind, fields: dict[str, Any]) -> Entries:
        values = self._values(fields)
        self._check_status(kind, values.get("project_status"))
        values.setdefault("project_number", self._world.next_number(kind))
        status = values.pop("project_status", None) or _FIRST[kind]
        row = Row(id=self._world.next_id("record"), kind=kind, values=filled(RECORD, values))
        self._reach(row, status)
        return self.add(row)

    def _values(self, fields: dict[str, Any]) -> dict[str, Any]:
        values = checked(RECORD, fields)
        for name in REFERENCES.keys() & values.keys():
            values[name] = self._key(name, values[name])
        return values

    def _key(self, field: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._key(field, one) for one in value]
        if value is not None:
            self._named(REFERENCES[field], value)
        return None if value is None else str(value)

    def _named(self, table: str, key: int | str) -> Named:
        tables = self._world.tables
        row = tables.get(table, {}).get(str(key))
        if row is None:
            msg = f"there is no {table} {key}. There are: {', '.join(tables.get(table, tables))}."
            raise ValueError(msg)
        return row

    def _live(self, record: int, kind: Kind | None) -> Row:
        row = self._world.row(record)
        if row.archived or (kind and row.kind != kind):
            now = "archived" if row.archived else f"of the kind {row.kind}"
            msg = f"record {record} is {now}: this order is for a live {kind or 'record'}."
            raise ValueError(msg)
        return row

    def _check_status(self, kind: Kind, key: str | None) -> None:
        if key is not None and self._world.tables["status"][key].type not in _TYPES[kind]:
            msg = f"status {key} is none for a {kind}."
            raise ValueError(msg)

    def _reach(self, row: Row, key: str | None) -> None:
        """Set a status and the dates that follow from its hidden type."""
        if key == row.values["project_status"]:
            return
        row.values["project_status"] = key
        reached = self._world.tables["status"][key].type if key else "open"
        day = self._world.today.isoformat()
        if row.kind == "project":
            row.values["completed_date"] = (
                (row.values["completed_date"] or day) if reached == "done" else None
            )
            return
        for name, type_ in (("deal_won_date", "won"), ("deal_lost_date", "lost")):
            row.values[name] = (row.values[name] or day) if reached == type_ else None
        self._converts(row, won=reached == "won")

    def _converts(self, row: Row, *, won: bool) -> None:
        after = self._world.switches.conversion_after
        if won and after == 0:
            self._convert(row)
        elif won and after is not None:
            # This transition is not counted yet.
            self._pending.append((self._world.log.transition + 1 + after, row.id))

    def _convert(self, row: Row) -> None:
        values = row.values
        self._sales[row.id] = (values["project_status"], values["project_number"])
        values["deal_won_date"] = values["deal_won_date"] or self._world.today.isoformat()
        values["deal_lost_date"] = None
        row.kind, row.list_description = "project", None
        values["project_status"], values["completed_date"] = _FIRST["project"], None
        values["start_date"] = values["estimated_start_date"]
        values["end_date"] = values["estimated_end_date"]
        values["company_id"] = self._world.tables["client"][values["client"]].id if values["client"] else None
        if self._world.switches.number_on_win:
            values["project_number"] = self._world.next_number("project")

    def _revert(self, row: Row) -> None:
        status, number = self._sales.pop(row.id, (None, row.values["project_number"]))
        open_again = status is not None and self._world.tables["status"][status].type == "open"
        row.kind = "opportunity"
        row.values["project_status"] = status if open_again else "2"
        row.values["project_number"] = number
        row.values["deal_won_date"] = row.values["deal_lost_date"] = None
        if (
            row.values["client"]
            and self._world.tables["client"][row.values["client"]].more["type"] != "Company"
        ):
            row.values["client"] = None

    def _regard(self, **changed: Any) -> Entries:
        """Change the main token, and log what comes into view and leaves it."""
        main = self._world.main
        was = replace(main)
        for name, value in changed.items():
            setattr(main, name, value)
        self._world.forget_views()
        found = list(_access(was, main, now=self._world.clock()))
        for row in self._world.rows.values():
            if readable(row, was.role) != readable(row, main.role):
                before, after = (self._world.state(row.id, role) for role in (was.role, main.role))
                found += self._world.changes(before, after, cause="access")
        return self._world.record(found)


def _uses(row: Row, table: str, key: str) -> bool:
    names = [name for name, other in REFERENCES.items() if other == table]
    if table == "resource_type":
        return any(part.values.get("resource_type") == key for part, _ in row.parts())
    return any(name in DETAILED[row.kind] and _holds(row.values[name], key) for name in names)


def _holds(value: Any, key: str) -> bool:
    return key in value if isinstance(value, list) else value == key


def _renamed(table: str, number: int, before: str, after: str, *, seen: bool) -> list[Change]:
    if before == after:
        return []
    return [
        Change(
            subject=f"{table}/{number}",
            type="poller.source.renamed",
            changed=("name",),
            before={"name": before},
            after={"name": after},
            views="detail" if table in {"user", "resource_type"} else "both",
            seen=seen,
        )
    ]


def _access(was: Token, now_: Token, *, now: float) -> list[Change]:
    found = []
    could, can = was.verdict(now=now) == 200, now_.verdict(now=now) == 200
    if could != can:
        found.append(Change(subject="source", type=f"poller.source.{'resumed' if can else 'suspended'}"))
    hidden, shown = gated(now_.role) - gated(was.role), gated(was.role) - gated(now_.role)
    for verb, names in (("fields_hidden", hidden), ("fields_shown", shown)):
        if names:
            found.append(Change(subject="source", type=f"poller.source.{verb}", changed=tuple(sorted(names))))
    return found
