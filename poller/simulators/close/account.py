"""The orders for the organization as a whole: names, tokens, time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from poller.simulators.truth import Change, Entries

from .tokens import SCOPES, Scope, Token
from .views import readable
from .world import World
from .writes import Writes

_PRINTED = {"lead": "lead_id", "contact": "contact_id", "status": "status_id"}


class Account:
    """Orders for what is not one opportunity's."""

    def __init__(self, world: World, writes: Writes) -> None:
        self._world, self._writes = world, writes

    def orders(self) -> tuple[Callable[..., Entries], ...]:
        """What the admin port takes of them."""
        return (
            self.rename, self.set_scope, self.expire_token, self.renew_token, self.deactivate_user,
            self.activate_user, self.lapse_plan, self.pay_plan, self.pass_time, self.catch_up,
        )  # fmt: skip

    # --- names ----------------------------------------------------------------------------
    def rename(self, table: str, key: str, name: str) -> Entries:
        """Rename a status, pipeline, lead, contact or user: every opportunity prints the new name.

        Only of the names of statuses and pipelines an event is due; the others are computed.

        Raises:
            ValueError: there is no such table or row.
        """
        rows = self._world.tables.named(table)
        if key not in rows:
            msg = f"there is no {table} {key}."
            raise ValueError(msg)
        self._writes.catch()
        before, rows[key].name = rows[key].name, name
        self._world.touch(self._world.rows)
        if before == name:
            return ()
        change = Change(
            subject=f"{table}/{key}",
            type="poller.source.renamed",
            changed=("name",),
            before={"name": before},
            after={"name": name},
            noise=table not in {"status", "pipeline"},
        )
        return self._dated(change, table, key)

    def _dated(self, change: Change, table: str, key: str) -> Entries:
        """Log a rename; where it is not quiet, the opportunities that print the name are dated now."""
        if "rename" in self._world.switches.quiet:
            return self._world.record([change])
        at_ms = self._world.stamp()
        rows = [row for row in self._world.live() if self._prints(row.values, table, key)]

        def act() -> None:
            for row in rows:
                row.updated_ms = at_ms

        return self._world.apply([row.id for row in rows], act, also=[change])

    def _prints(self, values: dict[str, Any], table: str, key: str) -> bool:
        if table == "pipeline":
            return self._world.tables.statuses[values["status_id"]].pipeline == key
        return bool(values[_PRINTED.get(table, "user_id")] == key)

    # --- the main token ---------------------------------------------------------------------
    def set_scope(self, scope: Scope) -> Entries:
        """Let the main token see all opportunities, its user's own, or none.

        Raises:
            ValueError: there is no scope of that name.
        """
        if scope not in SCOPES:
            msg = f"there is no scope {scope}. There are: {', '.join(SCOPES)}."
            raise ValueError(msg)
        self._writes.catch()
        main = self._world.main
        was = replace(main)

        def reach(token: Token) -> set[str]:
            return {row.id for row in self._world.live() if readable(row, token)}

        main.scope = scope
        moved = sorted(reach(was) ^ reach(main))
        main.scope = was.scope
        return self._world.apply(moved, lambda: setattr(main, "scope", scope), cause="access")

    def expire_token(self) -> Entries:
        """Let the main token's time be over: 401."""
        return self._regard(expires_at=self._world.clock())

    def renew_token(self) -> Entries:
        """Let the main token hold for ever."""
        return self._regard(expires_at=None)

    def deactivate_user(self) -> Entries:
        """Deactivate the main token's user: 403."""
        return self._regard(allowed=False)

    def activate_user(self) -> Entries:
        """Let the main token's user be active again."""
        return self._regard(allowed=True)

    def lapse_plan(self) -> Entries:
        """Let the organization's plan lapse: 402."""
        return self._regard(paid=False)

    def pay_plan(self) -> Entries:
        """Let the organization's plan be paid."""
        return self._regard(paid=True)

    def _regard(self, **changed: Any) -> Entries:
        main = self._world.main
        could = main.verdict(now=self._world.clock()) == 200
        for name, value in changed.items():
            setattr(main, name, value)
        can = main.verdict(now=self._world.clock()) == 200
        if could == can:
            return ()
        verb = "resumed" if can else "suspended"
        return self._world.record([Change(subject="source", type=f"poller.source.{verb}")])

    # --- time -------------------------------------------------------------------------------
    def pass_time(self, days: float = 0.0, seconds: float = 0.0) -> Entries:
        """Let time pass at once in the account: nothing else happens."""
        self._world.pass_time(days * 86_400 + seconds)
        return ()

    def catch_up(self) -> Entries:
        """Let everything show that is late: writes, events, the replica."""
        entries = self._writes.all_shown()
        self._world.catch_up()
        return entries
