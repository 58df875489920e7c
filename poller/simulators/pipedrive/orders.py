"""The orders one can give to a simulated Pipedrive company: what people do in it, one transition each.

Every order returns the entries it left in the truth log: () where the main token sees nothing of it,
or not yet (a replica that lags).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from poller.simulators.truth import Change, Entries

from .columns import checked, number
from .fields import DEAL_COLUMNS
from .projects import Projects
from .tables import DAY_S, Row, Write
from .tokens import OAUTH_S, SCOPES, Reach
from .world import World


class Orders:
    """What people do in one company; `projects` has the orders for projects."""

    def __init__(self, world: World) -> None:
        self.projects = Projects(world)
        self._world = world

    # --- deals --------------------------------------------------------------------------------
    def create(self, **fields: Any) -> Entries:
        """A new deal; fields by the names of API v2."""
        values = self._checked(fields, DEAL_COLUMNS)
        values.setdefault("title", "New deal")
        self._place(values, values.get("stage_id", 1))
        deal = self._world.next_id("deal")
        return self._write(deal, **values, add_time=self._world.stamp("deal"))

    def update(self, deal: int, **fields: Any) -> Entries:
        """Change fields of a deal.

        Raises:
            ValueError: there is no such deal, field or reference, or it is archived or deleted.
        """
        row = self._editable(deal)
        values = self._checked(fields, row.values)
        if "stage_id" in values:
            self._place(values, values["stage_id"], old=row)
        return self._write(deal, **values)

    def move(self, deal: int, stage: int) -> Entries:
        """Put a deal into another stage, also of another pipeline."""
        return self.update(deal, stage_id=stage)

    def move_all(self, deals: Iterable[int], stage: int) -> Entries:
        """Put many deals into a stage at once: one transition, one update_time."""
        writes = []
        for row in [self._editable(deal) for deal in deals]:
            values = self._checked({"stage_id": stage}, row.values)
            self._place(values, stage, old=row)
            if row.values["stage_id"] != stage:
                writes.append(Write(kind="deal", id=row.id, values=values))
        return self._world.commit(*writes)

    def win(self, deal: int) -> Entries:
        """Mark a deal as won."""
        row, at = self._editable(deal), self._world.stamp("deal")
        first = row.values["first_won_time"] or at
        return self._reach(row, "won", won_time=at, first_won_time=first, close_time=at, lost_reason=None)

    def lose(self, deal: int, reason: str | None = None) -> Entries:
        """Mark a deal as lost."""
        row, at = self._editable(deal), self._world.stamp("deal")
        return self._reach(row, "lost", lost_time=at, close_time=at, lost_reason=reason)

    def reopen(self, deal: int) -> Entries:
        """Make a won or lost deal open again."""
        return self._reach(self._editable(deal), "open", close_time=None, lost_reason=None)

    def archive(self, deal: int) -> Entries:
        """Put a deal among the archived ones: it leaves /deals, and cannot be edited."""
        self._editable(deal)
        return self._write(deal, "archive", archive_time=self._world.stamp("deal"))

    def unarchive(self, deal: int) -> Entries:
        """Take a deal back from the archived ones."""
        row = self._world.row("deal", deal)
        if row.deleted:
            msg = f"deal {deal} is deleted: restore it first."
            raise ValueError(msg)
        return self._write(deal, "unarchive", archive_time=None)

    def delete(self, deal: int) -> Entries:
        """Mark a deal as deleted; 30 days later it is purged."""
        row = self._world.row("deal", deal)
        return self._write(deal, "delete", delete_time=row.values["delete_time"] or self._world.now())

    def restore(self, deal: int) -> Entries:
        """Take a deleted deal back."""
        self._world.row("deal", deal)
        return self._write(deal, "restore", delete_time=None)

    def merge(self, deal: int, into: int) -> Entries:
        """Merge a deal into another: the first is deleted, the second takes on what it had."""
        row, goal = self._editable(deal), self._editable(into)
        if deal == into:
            msg = f"deal {deal} cannot be merged with itself."
            raise ValueError(msg)
        touch = "merge" not in self._world.switches.untouched
        gone = {"delete_time": self._world.now()}
        return self._world.commit(
            Write(kind="deal", id=deal, values=gone, touch=touch, cause="merge"),
            Write(kind="deal", id=into, values=_merged(row, goal), touch=touch, cause="merge"),
        )

    def log_activity(self, deal: int) -> Entries:
        """Add an activity to a deal: of what v2 prints only update_time moves."""
        row = self._editable(deal)
        counts = ("activities_count", "undone_activities_count")
        values = {name: row.values[name] + 1 for name in counts}
        return self._write(deal, **values, next_activity_id=deal * 1000 + values["activities_count"])

    # --- the company ----------------------------------------------------------------------------
    def rename(self, table: str, key: int, name: str) -> Entries:
        """Rename a stage, pipeline, phase, board, user, person or organization; no deal is touched by it.

        Raises:
            ValueError: there is no such table or row.
        """
        tables = self._world.tables
        named = tables.get(table, {}).get(int(key))
        if named is None:
            msg = f"there is no {table} {key}. There are: {', '.join(map(str, tables.get(table, tables)))}."
            raise ValueError(msg)
        seen, before = self.in_use(table, named.id), named.name
        if before == name:
            return ()
        named.name, named.update_time = name, self._world.now()
        self._world.forget_views()
        renamed = Change(
            subject=f"{table}/{named.id}",
            type="poller.source.renamed",
            changed=("name",),
            before={"name": before},
            after={"name": name},
            seen=seen,
        )
        return self._world.record([renamed])

    def in_use(self, table: str, key: int) -> bool:
        """Whether the main token sees a record that refers to this row of a table."""
        return any(key in _used(row.values, table) for row in self._world.visible())

    def expire_token(self) -> Entries:
        """Let the main token's time be over: 401."""
        return self._regard(expires_at=self._world.now())

    def renew_token(self) -> Entries:
        """Let the main token hold: for ever, or for another hour if it is of OAuth."""
        oauth = self._world.main.kind == "oauth"
        return self._regard(expires_at=self._world.now() + OAUTH_S if oauth else None)

    def use_oauth(self, seconds: float = OAUTH_S) -> Entries:
        """Make the main token an access token of OAuth, which holds so many seconds, as Bearer only."""
        return self._regard(kind="oauth", expires_at=self._world.now() + seconds)

    def grant(self, scopes: Iterable[str] = SCOPES) -> Entries:
        """Grant the main token of OAuth these scopes and no others: 403 for the rest."""
        return self._regard(scopes=frozenset(scopes))

    def set_reach(self, reach: Reach) -> Entries:
        """What the main token's user sees: all records, own, or none; others' are gone from its lists."""
        if reach not in ("all", "own", "none"):
            msg = f"reach is {reach!r}: it must be all, own or none."
            raise ValueError(msg)
        return self._regard(reach=reach)

    def close_account(self) -> Entries:
        """Close the company's account: 402 on everything."""
        return self._close(closed=True)

    def reopen_account(self) -> Entries:
        """Open the company's account again."""
        return self._close(closed=False)

    def pass_time(self, days: float = 0, seconds: float = 0) -> Entries:
        """Let the company's clock go ahead; what is due by then happens (purges, replicas)."""
        if days < 0 or seconds < 0:
            msg = f"days is {days} and seconds {seconds}: time only goes on."
            raise ValueError(msg)
        self._world.ahead_s += days * DAY_S + seconds
        return self.due()

    def due(self) -> Entries:
        """Let the next write be seen that a replica held back; () if none is due."""
        return self._world.due()

    def named(self) -> dict[str, Callable[..., Entries]]:
        """What the admin port takes, by name."""
        given: tuple[Callable[..., Entries], ...] = (
            self.create, self.update, self.move, self.move_all, self.win, self.lose, self.reopen,
            self.archive, self.unarchive, self.delete, self.restore, self.merge, self.log_activity,
            self.rename, self.expire_token, self.renew_token, self.use_oauth, self.grant, self.set_reach,
            self.close_account, self.reopen_account, self.pass_time, *self.projects.orders(),
        )  # fmt: skip
        return {order.__name__: order for order in given}

    # --- how ------------------------------------------------------------------------------------
    def _editable(self, deal: int) -> Row:
        row = self._world.row("deal", deal)
        if row.archived or row.deleted:
            now = "deleted" if row.deleted else "archived"
            msg = f"deal {deal} is {now}: this order is for a deal that is neither archived nor deleted."
            raise ValueError(msg)
        return row

    def _checked(self, fields: dict[str, Any], old: Any) -> dict[str, Any]:
        return checked("deal", fields, self._world.tables, old=old)

    def _place(self, values: dict[str, Any], stage: int, *, old: Row | None = None) -> None:
        values["stage_id"], values["pipeline_id"] = stage, self._world.tables["stage"][stage].home
        if old and old.values["stage_id"] != stage:
            values["stage_change_time"] = self._world.stamp("deal")

    def _reach(self, row: Row, status: str, **values: Any) -> Entries:
        if row.values["status"] == status:
            return ()
        if not self._world.switches.stale_times:
            values = {"won_time": None, "lost_time": None, **values}
        return self._write(row.id, status=status, **values)

    def _write(self, deal: int, why: str = "", **values: Any) -> Entries:
        row = self._world.rows.get(f"deal/{deal}")
        if row and all(row.values[name] == value for name, value in values.items()):
            return ()
        touch = why not in self._world.switches.untouched
        return self._world.commit(Write(kind="deal", id=deal, values=values, touch=touch))

    def _regard(self, **changed: Any) -> Entries:
        world = self._world
        found = list(world.regard(replace(world.main, **changed)))
        return world.record([*world.access(), *found])

    def _close(self, *, closed: bool) -> Entries:
        self._world.closed = closed
        return self._world.record(self._world.access())


def _used(values: Mapping[str, Any], table: str) -> set[Any]:
    names = {
        "stage": ("stage_id",),
        "pipeline": ("pipeline_id",),
        "phase": ("phase_id",),
        "board": ("board_id",),
        "user": ("owner_id",),
        "person": ("person_id", "person_ids"),
        "organization": ("org_id", "org_ids"),
    }[table]
    found = [values[name] for name in names if name in values]
    return {one for value in found for one in (value if isinstance(value, tuple) else (value,))}


def _merged(row: Row, goal: Row) -> dict[str, Any]:
    """What the deal that stays takes on: the value, in one currency, and the labels."""
    was, now = row.values, goal.values
    same = was["currency"] == now["currency"]
    return {
        "value": number(now["value"] + was["value"]) if same else now["value"],
        "label_ids": tuple(sorted({*now["label_ids"], *was["label_ids"]})),
        "person_id": now["person_id"] or was["person_id"],
        "activities_count": now["activities_count"] + was["activities_count"],
    }
