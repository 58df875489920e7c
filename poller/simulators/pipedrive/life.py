"""What happens in a sales team, and how often: the life of a simulated Pipedrive company."""

import random
from collections.abc import Callable
from typing import Any

from poller.simulators.life import Action, Life, chosen
from poller.simulators.truth import Entries

from .columns import number
from .fields import OPTION_FIELD, PROJECT_FIELD, TEXT_FIELD, Kind
from .orders import Orders
from .populate import Population
from .tables import Row
from .world import World

_NOTHING: Entries = ()
_REASONABLE = 40
_MOST_GROWTH = 1.5
_MOST_AT_ONCE = 6
_ENDS = (" Group", " (new)", " EU", " 2")
_TABLES = ("organization", "organization", "person", "user", "stage", "pipeline", "phase", "board")


class Team:
    """The actions of a life, each taking its chances from the generator that it is given."""

    def __init__(self, world: World, orders: Orders, *, seed: int = 1) -> None:
        self._world, self._orders = world, orders
        self._made = Population(world, rng=random.Random(seed))
        self._most = {kind: max(_REASONABLE, int(_MOST_GROWTH * len(world.live(kind)))) for kind in _KINDS}

    def actions(self) -> list[Action]:
        """All of them, weighted so that a pipeline looks alive."""
        weights: tuple[tuple[float, Callable[[random.Random], Entries]], ...] = (
            (10, self.deal_comes), (16, self.deal_moves), (8, self.deal_is_repriced),
            (8, self.deal_is_edited), (3, self.deal_is_handed_over), (4, self.deal_has_an_activity),
            (7, self.deal_is_won), (6, self.deal_is_lost), (3, self.deal_is_reopened),
            (3, self.deal_is_archived), (2, self.deal_is_unarchived), (1.5, self.deal_is_deleted),
            (1, self.deal_is_restored), (0.8, self.deals_are_merged), (1.5, self.deals_move_together),
            (6, self.deal_is_filed),
            (4, self.project_begins), (6, self.project_moves), (4, self.project_is_edited),
            (3, self.project_completes), (0.8, self.project_is_canceled), (1.5, self.project_goes_on),
            (2, self.project_is_archived), (1, self.project_is_unarchived), (0.8, self.project_is_deleted),
            (0.5, self.project_is_restored), (5, self.project_is_filed), (0.5, self.something_is_renamed),
        )  # fmt: skip
        return [Action(act.__name__, weight, act) for weight, act in weights]

    # --- deals ------------------------------------------------------------------------------
    def deal_comes(self, _rng: random.Random) -> Entries:
        if len(self._world.live("deal")) >= self._most["deal"]:
            return _NOTHING
        return self._orders.create(**self._made.deal_fields())

    def deal_moves(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.move(row.id, rng.randint(1, 7)) if row else _NOTHING

    def deal_is_repriced(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        if row is None:
            return _NOTHING
        value = number(round(float(row.values["value"]) * rng.choice((0.8, 0.95, 1.1, 1.5)), 2))
        return self._orders.update(row.id, value=value)

    def deal_is_edited(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.update(row.id, **self._edit(rng)) if row else _NOTHING

    def deal_is_handed_over(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.update(row.id, owner_id=self._made.user()) if row else _NOTHING

    def deal_has_an_activity(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.log_activity(row.id) if row else _NOTHING

    def deal_is_won(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.win(row.id) if row else _NOTHING

    def deal_is_lost(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "open")
        return self._orders.lose(row.id, rng.choice(("Price", "Timing", None))) if row else _NOTHING

    def deal_is_reopened(self, rng: random.Random) -> Entries:
        row = self._deal(rng, rng.choice(("won", "lost")))
        return self._orders.reopen(row.id) if row else _NOTHING

    def deal_is_archived(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live("deal"))
        return self._orders.archive(row.id) if row else _NOTHING

    def deal_is_unarchived(self, rng: random.Random) -> Entries:
        row = self._gone(rng, "deal", lambda row: row.archived and not row.deleted)
        return self._orders.unarchive(row.id) if row else _NOTHING

    def deal_is_deleted(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live("deal"))
        return self._orders.delete(row.id) if row else _NOTHING

    def deal_is_restored(self, rng: random.Random) -> Entries:
        row = self._gone(rng, "deal", lambda row: row.deleted)
        return self._orders.restore(row.id) if row else _NOTHING

    def deals_are_merged(self, rng: random.Random) -> Entries:
        row, goal = self._deal(rng, "open"), self._deal(rng, "open")
        return self._orders.merge(row.id, goal.id) if row and goal and row is not goal else _NOTHING

    def deals_move_together(self, rng: random.Random) -> Entries:
        found = {row.id for _ in range(_MOST_AT_ONCE) if (row := self._deal(rng, "open"))}
        return self._orders.move_all(sorted(found), rng.randint(1, 7))

    def deal_is_filed(self, rng: random.Random) -> Entries:
        """What is closed makes room, so that a long life does not grow without end."""
        full = len(self._world.live("deal")) > 0.9 * self._most["deal"]
        row = self._deal(rng, rng.choice(("won", "lost"))) if full else None
        return self._orders.archive(row.id) if row else _NOTHING

    # --- projects ---------------------------------------------------------------------------
    def project_begins(self, rng: random.Random) -> Entries:
        if len(self._world.live("project")) >= self._most["project"]:
            return _NOTHING
        won = self._deal(rng, "won") if rng.random() < 0.7 else None
        fields = self._made.project_fields() | ({"deal_ids": (won.id,)} if won else {})
        return self._orders.projects.create_project(**fields)

    def project_moves(self, rng: random.Random) -> Entries:
        row = self._project(rng, "open")
        return self._orders.projects.move_project(row.id, rng.randint(1, 7)) if row else _NOTHING

    def project_is_edited(self, rng: random.Random) -> Entries:
        row = self._project(rng, "open")
        if row is None:
            return _NOTHING
        changes: dict[str, Any] = rng.choice(
            (
                {"end_date": self._made.day(20, 300)},
                {"health_status": rng.choice(("on_track", "at_risk", None))},
                {"description": f"Changed: {self._made.work()}"},
                {"label_ids": self._made.labels()},
                {"custom_fields": {PROJECT_FIELD: rng.choice(("on site", "remote", None))}},
            )
        )
        return self._orders.projects.update_project(row.id, **changes)

    def project_completes(self, rng: random.Random) -> Entries:
        row = self._project(rng, "open")
        return self._orders.projects.complete_project(row.id) if row else _NOTHING

    def project_is_canceled(self, rng: random.Random) -> Entries:
        row = self._project(rng, "open")
        return self._orders.projects.cancel_project(row.id) if row else _NOTHING

    def project_goes_on(self, rng: random.Random) -> Entries:
        row = self._project(rng, rng.choice(("completed", "canceled")))
        return self._orders.projects.resume_project(row.id) if row else _NOTHING

    def project_is_archived(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live("project"))
        return self._orders.projects.archive_project(row.id) if row else _NOTHING

    def project_is_unarchived(self, rng: random.Random) -> Entries:
        row = self._gone(rng, "project", lambda row: row.archived and not row.deleted)
        return self._orders.projects.unarchive_project(row.id) if row else _NOTHING

    def project_is_deleted(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live("project"))
        return self._orders.projects.delete_project(row.id) if row else _NOTHING

    def project_is_restored(self, rng: random.Random) -> Entries:
        row = self._gone(rng, "project", lambda row: row.deleted)
        return self._orders.projects.restore_project(row.id) if row else _NOTHING

    def project_is_filed(self, rng: random.Random) -> Entries:
        """What is completed makes room."""
        full = len(self._world.live("project")) > 0.9 * self._most["project"]
        row = self._project(rng, rng.choice(("completed", "canceled"))) if full else None
        return self._orders.projects.archive_project(row.id) if row else _NOTHING

    # --- the company ------------------------------------------------------------------------
    def something_is_renamed(self, rng: random.Random) -> Entries:
        table = rng.choice(_TABLES)
        named = self._world.tables[table][rng.choice(sorted(self._world.tables[table]))]
        if not self._orders.in_use(table, named.id):
            return _NOTHING
        stem = next((named.name.removesuffix(end) for end in _ENDS if named.name.endswith(end)), named.name)
        return self._orders.rename(table, named.id, stem + rng.choice(_ENDS))

    # --- how --------------------------------------------------------------------------------
    def _edit(self, rng: random.Random) -> dict[str, Any]:
        changes: dict[str, Any] = rng.choice(
            (
                {"title": f"{self._made.work().capitalize()} {rng.randint(2, 99)}"},
                {"expected_close_date": self._made.day(5, 200)},
                {"probability": rng.choice((None, 20, 50, 80))},
                {"label_ids": self._made.labels()},
                {"org_id": self._made.company()},
                {"person_id": rng.choice((None, self._made.person()))},
                {"currency": rng.choice(("EUR", "USD", "GBP"))},
                {"custom_fields": {TEXT_FIELD: f"PO-{rng.randint(1000, 9999)}"}},
                {"custom_fields": {OPTION_FIELD: rng.choice((None, 21, 22, 23))}},
            )
        )
        return changes

    def _deal(self, rng: random.Random, status: str) -> Row | None:
        return chosen(rng, self._world.live("deal"), lambda row: row.values["status"] == status)

    def _project(self, rng: random.Random, status: str) -> Row | None:
        return chosen(rng, self._world.live("project"), lambda row: row.values["status"] == status)

    def _gone(self, rng: random.Random, kind: Kind, fits: Callable[[Row], bool]) -> Row | None:
        found = [row for row in self._world.rows.values() if row.kind == kind and fits(row)]
        return rng.choice(found) if found else None


_KINDS: tuple[Kind, ...] = ("deal", "project")


def life_of(world: World, orders: Orders, *, seed: int = 1) -> Life:
    """A seeded life over a company as it stands."""
    return Life(Team(world, orders, seed=seed).actions(), seed=seed, due=orders.due)
