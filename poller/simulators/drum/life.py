"""What happens in an agency, and how often: the life of a simulated Drum account."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from poller.simulators.life import Action, Life, chosen
from poller.simulators.truth import Entries

from .columns import WORK_STATUSES, money
from .fields import TAGS, Kind
from .orders import Orders
from .populate import Population
from .tables import Part, Row
from .world import World

_NOTHING: Entries = ()
_OPEN_SALES = ("1", "2", "3", "4")
_MOST_GROWTH = 1.5
_REASONABLE = 40


class Agency:
    """The actions of a life, each taking its chances from the generator that it is given."""

    def __init__(self, world: World, orders: Orders, *, seed: int = 1) -> None:
        self._world, self._orders = world, orders
        self._rng = random.Random(seed)
        self._made = Population(world, rng=self._rng)
        self._most = {kind: max(_REASONABLE, int(_MOST_GROWTH * len(world.live(kind)))) for kind in _KINDS}

    def actions(self) -> list[Action]:
        """All of them, weighted so that a list of deals looks alive."""
        weights: tuple[tuple[float, Callable[[random.Random], Entries]], ...] = (
            (10, self.deal_comes), (14, self.deal_moves), (8, self.deal_is_repriced),
            (5, self.deal_is_edited), (5, self.deal_is_handed_over),
            (6, self.deal_is_won), (5, self.deal_is_lost),
            (2, self.deal_is_reopened), (2, self.record_is_archived), (1, self.record_is_restored),
            (0.4, self.project_reverts), (0.6, self.internal_project_begins), (4, self.project_moves),
            (8, self.project_completes), (1.2, self.project_reopens), (7, self.project_is_filed),
            (3, self.project_is_edited),
            (3, self.counters_move), (2.5, self.deliverable_comes), (4, self.deliverable_moves_on),
            (1, self.deliverable_is_reordered), (0.8, self.deliverable_goes), (3, self.task_comes),
            (9, self.task_moves_on), (7, self.time_is_tracked), (1.5, self.task_is_moved),
            (1, self.task_goes), (2, self.task_is_edited), (0.5, self.something_is_renamed),
        )  # fmt: skip
        return [Action(act.__name__, weight, act) for weight, act in weights]

    # --- deals ------------------------------------------------------------------------------
    def deal_comes(self, rng: random.Random) -> Entries:
        if len(self._world.live("opportunity")) >= self._most["opportunity"]:
            return _NOTHING
        if rng.random() < 0.3:
            self._world.today += timedelta(days=1)
        return self._orders.add(self._made.opportunity(fresh=True))

    def deal_moves(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.set_status(row.id, int(rng.choice(_OPEN_SALES))) if row else _NOTHING

    def deal_is_repriced(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        if row is None:
            return _NOTHING
        factor = rng.choice((0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5))
        amount = money(round(float(row.values["amount"]) * factor / 10) * 10)
        return self._orders.update(row.id, amount=amount, total_budget=amount)

    def deal_is_edited(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.update(row.id, **rng.choice(self._edits())) if row else _NOTHING

    def deal_is_handed_over(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        if row is None:
            return _NOTHING
        changes: dict[str, Any] = rng.choice(
            (
                {"assigned_users": self._made.users()},
                {"lead_score": rng.choice("234")},
                {"team": rng.choice("1234")},
                {"client": self._made.client()},
            )
        )
        return self._orders.update(row.id, **changes)

    def deal_is_won(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.win(row.id) if row else _NOTHING

    def deal_is_lost(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.lose(row.id, rng.choice((7, 7, 8))) if row else _NOTHING

    def deal_is_reopened(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "lost")
        return self._orders.set_status(row.id, int(rng.choice(_OPEN_SALES))) if row else _NOTHING

    # --- coming and going ---------------------------------------------------------------------
    def record_is_archived(self, rng: random.Random) -> Entries:
        deal, project = self._deal(rng, "lost"), chosen(rng, self._projects("done"))
        row = rng.choice((deal, project)) or deal or project
        return self._orders.archive(row.id) if row else _NOTHING

    def record_is_restored(self, rng: random.Random) -> Entries:
        row = chosen(rng, [row for row in self._world.rows.values() if row.archived])
        return self._orders.restore(row.id) if row else _NOTHING

    def project_reverts(self, rng: random.Random) -> Entries:
        row = chosen(rng, [row for row in self._projects("work") if row.values["deal_won_date"]])
        return self._orders.revert(row.id) if row else _NOTHING

    def internal_project_begins(self, rng: random.Random) -> Entries:
        name = rng.choice(("Studio move", "Own website", "Staff training", "Award entries"))
        return self._orders.create_project(name=name, client=458, team=1, project_status=9)

    def project_is_filed(self, rng: random.Random) -> Entries:
        """What is done makes room, so that a long life does not grow without end."""
        row = chosen(rng, self._projects("done")) if self._full() else None
        return self._orders.archive(row.id) if row else _NOTHING

    # --- projects -------------------------------------------------------------------------------
    def project_moves(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._projects("work"))
        return self._orders.set_status(row.id, rng.choice((5, 9, 10))) if row else _NOTHING

    def project_completes(self, rng: random.Random) -> Entries:
        busy = self._full() or rng.random() < 0.4
        row = chosen(rng, self._projects("work")) if busy else None
        return self._orders.set_status(row.id, rng.choice((11, 11, 12))) if row else _NOTHING

    def project_reopens(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._projects("done"))
        return self._orders.reopen(row.id) if row else _NOTHING

    def project_is_edited(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._projects("work"))
        if row is None:
            return _NOTHING
        changes: dict[str, Any] = rng.choice(
            (
                {"total_budget": money(row.values["total_budget"] + 500 * rng.randint(1, 20))},
                {"end_date": self._later(rng)},
                {"planned": not row.values["planned"]},
                {"skip_planning": not row.values["skip_planning"]},
                {TAGS["project"]: self._made.tags()},
                {"description": f"{self._made.name()}, phase {rng.randint(2, 9)}"},
            )
        )
        return self._orders.update(row.id, **changes)

    def counters_move(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live(rng.choice(_KINDS)))
        if row is None:
            return _NOTHING
        if row.kind == "opportunity":
            return self._orders.update(row.id, quotes_count=row.values["quotes_count"] + 1)
        invoiced = money(row.values["total_invoiced"] + 250 * rng.randint(1, 40))
        count = row.values["invoices_count"] + 1
        return self._orders.update(row.id, total_invoiced=invoiced, invoices_count=count)

    # --- deliverables and tasks -------------------------------------------------------------------
    def deliverable_comes(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live(rng.choice(_KINDS)))
        if row is None or len(row.deliverables) > 5:
            return _NOTHING
        made = self._made.deliverable(len(row.deliverables) + 1, tasks=rng.randrange(3))
        return self._orders.work.insert(row, made)

    def deliverable_moves_on(self, rng: random.Random) -> Entries:
        part = self._part(rng, lambda row: row.deliverables)
        if part is None:
            return _NOTHING
        if rng.random() < 0.4:
            return self._orders.work.update_deliverable(part.id, percentage_complete=rng.randrange(0, 101, 5))
        return self._orders.work.update_deliverable(part.id, status=rng.choice(WORK_STATUSES))

    def deliverable_is_reordered(self, rng: random.Random) -> Entries:
        part = self._part(rng, lambda row: row.deliverables)
        return self._orders.work.move_deliverable(part.id, rng.randint(1, 4)) if part else _NOTHING

    def deliverable_goes(self, rng: random.Random) -> Entries:
        part = self._part(rng, lambda row: [part for part in row.deliverables if not part.tasks])
        return self._orders.work.remove_deliverable(part.id) if part else _NOTHING

    def task_comes(self, rng: random.Random) -> Entries:
        part = self._part(rng, lambda row: [part for part in row.deliverables if len(part.tasks) < 8])
        if part is None:
            return _NOTHING
        made = self._made.task(1).values
        fields = {
            name: made[name] for name in ("name", "original_rate", "original_duration", "budget", "total")
        }
        return self._orders.work.add_task(part.id, **fields)

    def task_moves_on(self, rng: random.Random) -> Entries:
        task = self._part(rng, _tasks)
        return self._orders.work.update_task(task.id, status=rng.choice(WORK_STATUSES)) if task else _NOTHING

    def time_is_tracked(self, rng: random.Random) -> Entries:
        task = self._part(rng, _tasks)
        hours = str(rng.choice((0.25, 0.5, 1, 1.5, 2, 4, 7.5)))
        return self._orders.work.track_time(task.id, hours) if task else _NOTHING

    def task_is_moved(self, rng: random.Random) -> Entries:
        row = chosen(rng, [row for row in self._world.live(rng.choice(_KINDS)) if _tasks(row)])
        if row is None:
            return _NOTHING
        goal = rng.choice(row.deliverables)
        return self._orders.work.move_task(rng.choice(_tasks(row)).id, goal.id, rng.randint(1, 4))

    def task_goes(self, rng: random.Random) -> Entries:
        task = self._part(rng, _tasks)
        return self._orders.work.remove_task(task.id) if task else _NOTHING

    def task_is_edited(self, rng: random.Random) -> Entries:
        task = self._part(rng, _tasks)
        if task is None:
            return _NOTHING
        changes: dict[str, Any] = rng.choice(
            (
                {"note": f"Agreed on {self._world.today.isoformat()}"},
                {"due_date": self._later(rng)},
                {"visible": not task.values["visible"]},
                {"resource_type": rng.choice((5, 6, 7, 9))},
            )
        )
        return self._orders.work.update_task(task.id, **changes)

    # --- the account -----------------------------------------------------------------------------
    def something_is_renamed(self, rng: random.Random) -> Entries:
        table = rng.choice(("client", "client", "status", "team", "lead_score", "user", "resource_type"))
        key = rng.choice(sorted(self._world.tables[table]))
        name = self._world.tables[table][key].name
        stem = next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), name)
        if not self._orders.in_use(table, key):
            return _NOTHING
        return self._orders.rename(table, key, stem + rng.choice(_ENDS))

    # --- how ---------------------------------------------------------------------------------------
    def _full(self) -> bool:
        return len(self._world.live("project")) > self._most["project"]

    def _deal(self, rng: random.Random, type_: str) -> Row | None:
        statuses = self._world.tables["status"]
        rows = self._world.live("opportunity")
        return chosen(rng, rows, lambda row: statuses[row.values["project_status"] or "4"].type == type_)

    def _projects(self, type_: str) -> list[Row]:
        statuses = self._world.tables["status"]
        rows = self._world.live("project")
        return [row for row in rows if statuses[row.values["project_status"] or "9"].type == type_]

    def _part(self, rng: random.Random, inside: Callable[[Row], list[Part]]) -> Part | None:
        row = chosen(rng, self._world.live(rng.choice(_KINDS)), lambda row: bool(inside(row)))
        return rng.choice(inside(row)) if row else None

    def _later(self, rng: random.Random) -> str:
        day: date = self._world.today + timedelta(days=rng.randint(10, 200))
        return day.isoformat()

    def _edits(self) -> tuple[dict[str, Any], ...]:
        rng = self._rng
        return (
            {"name": f"{self._made.name()} {rng.randint(2, 9)}"},
            {"description": f"{self._made.name()}, version {rng.randint(2, 99)}"},
            {"target_date": self._later(rng)},
            {"estimated_start_date": self._later(rng), "estimated_end_date": self._later(rng)},
            {"due_date": f"{self._later(rng)}T17:00:00Z"},
            {"invoicing_structure": rng.choice(("payment_on_delivery", "monthly", None))},
            {TAGS["opportunity"]: self._made.tags()},
            {"planned": rng.random() < 0.5},
        )


_KINDS: tuple[Kind, ...] = ("opportunity", "project")
_ENDS = (" Group", " Australia", " (new)", " A")


def _tasks(row: Row) -> list[Part]:
    return [task for part in row.deliverables for task in part.tasks]


def life_of(world: World, orders: Orders, *, seed: int = 1) -> Life:
    """A seeded life over an account as it stands."""
    return Life(Agency(world, orders, seed=seed).actions(), seed=seed, due=orders.due)
