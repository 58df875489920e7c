"""What happens in a sales team, and how often: the life of a simulated Close organization."""

import random
from collections.abc import Callable
from typing import Any

from poller.simulators.life import Action, Life, chosen
from poller.simulators.truth import Entries

from .orders import Orders
from .populate import CUSTOM_FIELDS, Population
from .tables import Row, StatusType
from .world import World

_NOTHING: Entries = ()
_MOST_GROWTH = 1.5
_REASONABLE = 40
_ENDS = (" Group", " Inc.", " (new)", " A")


class Team:
    """The actions of a life, each taking its chances from the generator that it is given."""

    def __init__(self, world: World, orders: Orders, *, seed: int = 1) -> None:
        self._world, self._orders = world, orders
        self._made = Population(world, rng=random.Random(f"team {seed}"))
        self._most = max(_REASONABLE, int(_MOST_GROWTH * len(world.rows)))

    def actions(self) -> list[Action]:
        """All of them, weighted so that a pipeline looks alive."""
        weights: tuple[tuple[float, Callable[[random.Random], Entries]], ...] = (
            (10, self.deal_comes), (14, self.deal_moves), (8, self.deal_is_repriced),
            (6, self.deal_is_edited), (4, self.deal_is_handed_over), (4, self.forecast_moves),
            (6, self.deal_is_won), (5, self.deal_is_lost), (3, self.deal_is_reopened),
            (0.7, self.won_becomes_lost), (1.5, self.deal_is_deleted), (5, self.deal_is_filed),
            (0.6, self.lead_is_deleted), (0.4, self.leads_are_merged), (1.2, self.many_are_moved),
            (2, self.deal_stalls), (0.5, self.something_is_renamed), (0.3, self.past_is_imported),
        )  # fmt: skip
        return [Action(act.__name__, weight, act) for weight, act in weights]

    # --- deals ------------------------------------------------------------------------------
    def deal_comes(self, rng: random.Random) -> Entries:
        if len(self._world.rows) >= self._most:
            return _NOTHING
        row = self._made.opportunity(fresh=True)
        # Now and then a deal is entered when it is done.
        if rng.random() < 0.05:
            row.values["status_id"] = rng.choice(self._world.tables.of_type("won")).id
        return self._orders.add(row)

    def deal_moves(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        return self._orders.set_status(row.id, self._status(rng, "active")) if row else _NOTHING

    def deal_is_repriced(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        if row is None:
            return _NOTHING
        factor = rng.choice((80, 90, 95, 105, 110, 125, 150))
        value = row.values["value"]
        return self._orders.update(
            row.id, value=self._made.value() if value is None else value * factor // 100
        )

    def deal_is_edited(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        return self._orders.update(row.id, **rng.choice(self._edits(rng))) if row else _NOTHING

    def deal_is_handed_over(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        if row is None:
            return _NOTHING
        contacts = [None, *self._world.tables.contacts_of(row.values["lead_id"])]
        changes: dict[str, Any] = rng.choice(
            ({"user_id": rng.choice(list(self._world.tables.users))}, {"contact_id": rng.choice(contacts)})
        )
        return self._orders.update(row.id, **changes)

    def forecast_moves(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        if row is None:
            return _NOTHING
        changes: dict[str, Any] = rng.choice(
            ({"confidence": rng.randrange(5, 100, 5)}, {"date_won": rng.choice((None, self._made.hoped()))})
        )
        return self._orders.update(row.id, **changes)

    def deal_is_won(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        return self._orders.win(row.id) if row else _NOTHING

    def deal_is_lost(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        return self._orders.lose(row.id) if row else _NOTHING

    def deal_is_reopened(self, rng: random.Random) -> Entries:
        row = self._deal(rng, rng.choice(("lost", "lost", "won")))
        return self._orders.reopen(row.id) if row else _NOTHING

    def won_becomes_lost(self, rng: random.Random) -> Entries:
        row = self._deal(rng, rng.choice(("won", "lost")))
        if row is None:
            return _NOTHING
        won = self._type(row) == "won"
        return self._orders.lose(row.id) if won else self._orders.win(row.id)

    def deal_stalls(self, rng: random.Random) -> Entries:
        row = self._deal(rng, "active")
        return self._orders.stall(row.id, not row.values["is_stalled"]) if row else _NOTHING

    # --- going ------------------------------------------------------------------------------
    def deal_is_deleted(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live())
        return self._orders.delete(row.id) if row else _NOTHING

    def deal_is_filed(self, rng: random.Random) -> Entries:
        """What is done makes room, so that a long life does not grow without end."""
        full = len(self._world.rows) >= self._most
        row = self._deal(rng, rng.choice(("won", "lost"))) if full else None
        return self._orders.delete(row.id) if row else _NOTHING

    def lead_is_deleted(self, rng: random.Random) -> Entries:
        row = chosen(rng, self._world.live())
        return self._orders.leads.delete_lead(row.values["lead_id"]) if row else _NOTHING

    def leads_are_merged(self, rng: random.Random) -> Entries:
        row, other = chosen(rng, self._world.live()), chosen(rng, self._world.live())
        if row is None or other is None or row.values["lead_id"] == other.values["lead_id"]:
            return _NOTHING
        return self._orders.leads.merge_leads(row.values["lead_id"], other.values["lead_id"])

    # --- many at once, and what is not of one record --------------------------------------------
    def many_are_moved(self, rng: random.Random) -> Entries:
        rows = [row for row in self._world.live() if self._type(row) == "active"]
        chosen = rng.sample(rows, min(len(rows), rng.randint(2, 12)))
        if not chosen:
            return _NOTHING
        return self._orders.bulk_update([row.id for row in chosen], status_id=self._status(rng, "active"))

    def something_is_renamed(self, rng: random.Random) -> Entries:
        table = rng.choice(("status", "status", "pipeline", "lead", "contact", "user"))
        rows = self._world.tables.named(table)
        if not rows:
            return _NOTHING
        key = rng.choice(sorted(rows))
        name: str = rows[key].name
        stem = next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), name)
        return self._orders.account.rename(table, key, stem + rng.choice(_ENDS))

    def past_is_imported(self, rng: random.Random) -> Entries:
        """A status change that never was; it is no transition."""
        row = chosen(rng, self._world.live())
        if row is None:
            return _NOTHING
        won, lost = self._status(rng, "won"), self._status(rng, "lost")
        return self._orders.import_status_change(row.id, lost, won, days_ago=rng.choice((0, 0, 3, 300)))

    # --- how --------------------------------------------------------------------------------
    def _deal(self, rng: random.Random, type_: StatusType) -> Row | None:
        return chosen(rng, self._world.live(), lambda row: self._type(row) == type_)

    def _type(self, row: Row) -> StatusType:
        return self._world.tables.statuses[row.values["status_id"]].type

    def _status(self, rng: random.Random, type_: StatusType) -> str:
        return rng.choice(self._world.tables.of_type(type_)).id

    def _edits(self, rng: random.Random) -> tuple[dict[str, Any], ...]:
        source, seats, regions = CUSTOM_FIELDS
        return (
            {"note": self._made.note()},
            {"value_period": rng.choice(("one_time", "monthly", "annual"))},
            {"value_currency": rng.choice(("USD", "EUR", "GBP"))},
            {source: rng.choice(("fair", "referral", "web", None))},
            {seats: rng.randrange(1, 500)},
            {regions: self._made.regions()},
            {"note": self._made.note(), "confidence": rng.randrange(5, 100, 5)},
        )


def life_of(world: World, orders: Orders, *, seed: int = 1) -> Life:
    """A seeded life over an organization as it stands."""
    return Life(Team(world, orders, seed=seed).actions(), seed=seed, due=orders.due)
