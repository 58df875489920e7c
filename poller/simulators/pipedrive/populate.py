"""Made-up but plausible records of a sales team: titles, people, companies, values, projects."""

import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from .columns import number
from .fields import OPTION_FIELD, PROJECT_FIELD, TEXT_FIELD, Kind
from .tables import DAY_S, Named, Write

_COMPANIES = (
    "Põhjala Tehnika", "Ribeira Foods", "Kestrel Optics", "Nordhaven Shipping", "Lindqvist & Partners",
    "Casa Verde Hotels", "Aurora Biotech", "Hollins Print Works", "Saare Wind", "Meridian Clinics",
    "Alpenrose Dairy", "Oakwell Schools", "Tramline Media", "Vesterby Kitchens", "Juniper Fitness",
    "Corvo Security", "Elbe Robotics", "Foxglove Gardens", "Granite Legal", "Harbour Street Coffee",
)  # fmt: skip
_PEOPLE = (
    "Liis Tamm", "Rui Almeida", "Hannah Schulz", "Oskar Nyberg", "Ciara Walsh", "Piotr Zielinski",
    "Anna Virtanen", "Bruno Costa", "Freya Larsen", "Marko Saar", "Elena Rossi", "David O'Neill",
)  # fmt: skip
_WORK = (
    "annual licence", "support contract", "pilot", "roll-out", "hardware refresh", "training days",
    "integration", "renewal", "extension to two sites", "audit", "migration", "managed service",
)  # fmt: skip
_REASONS = ("Price", "Timing", "Went with a competitor", "No answer", None)
_MOST = 2_000_000.0


class Ground(Protocol):
    """What a population needs of the company it is made for."""

    tables: dict[str, dict[int, Named]]

    def now(self) -> float: ...
    def next_id(self, kind: Kind) -> int: ...
    def add_named(self, table: str, name: str, *, home: int | None = None) -> Named: ...


class Population:
    """Makes records; the same generator makes the same."""

    def __init__(self, ground: Ground, *, rng: random.Random) -> None:
        self._ground, self._rng = ground, rng
        if not ground.tables["organization"]:
            companies = [ground.add_named("organization", name).id for name in _COMPANIES]
            for name in _PEOPLE:
                ground.add_named("person", name, home=self._rng.choice(companies))

    def deal(self) -> Write:
        """A deal that has always been there: open, won or lost, with times that agree."""
        rng, fields = self._rng, self.deal_fields()
        added, moved, touched = self._moments()
        status = rng.choices(("open", "won", "lost"), (8, 1, 1))[0]
        stage = self._ground.tables["stage"][rng.choice((1, 2, 3, 4, 5, 6, 7))]
        closed = None if status == "open" else moved
        values = fields | {
            "stage_id": stage.id,
            "pipeline_id": stage.home,
            "status": status,
            "add_time": added,
            "stage_change_time": rng.choice((None, moved)),
            "update_time": touched,
            "close_time": closed,
            "won_time": closed if status == "won" else None,
            "first_won_time": closed if status == "won" else None,
            "lost_time": closed if status == "lost" else None,
            "lost_reason": rng.choice(_REASONS) if status == "lost" else None,
        }
        return Write(kind="deal", id=self._ground.next_id("deal"), values=values)

    def project(self) -> Write:
        """A project that has always been there: under way, rarely completed."""
        added, moved, touched = self._moments()
        phase = self._ground.tables["phase"][self._rng.randint(1, 7)]
        values = self.project_fields() | {
            "phase_id": phase.id,
            "board_id": phase.home,
            "status": self._rng.choices(("open", "completed", "canceled"), (8, 1, 0.3))[0],
            "add_time": added,
            "status_change_time": moved,
            "update_time": touched + self._rng.randrange(1000) / 1000,
        }
        return Write(kind="project", id=self._ground.next_id("project"), values=values)

    def deal_fields(self) -> dict[str, Any]:
        """What somebody fills in for a new deal."""
        rng, company = self._rng, self.company()
        return {
            "title": f"{self._ground.tables['organization'][company].name} {self.work()}",
            "owner_id": self.user(),
            "value": self.amount(),
            "currency": rng.choices(("EUR", "USD", "GBP"), (7, 2, 1))[0],
            "person_id": rng.choice((None, self.person())),
            "org_id": company,
            "stage_id": rng.choice((1, 1, 2, 6)),
            "expected_close_date": rng.choice((None, self.day(10, 120))),
            "label_ids": self.labels(),
            "channel": rng.choice((None, 52, 53)),
            "custom_fields": {
                TEXT_FIELD: rng.choice((None, f"PO-{rng.randint(1000, 9999)}")),
                OPTION_FIELD: rng.choice((None, 21, 22, 23)),
            },
        }

    def project_fields(self) -> dict[str, Any]:
        """What somebody fills in for a new project."""
        rng, company = self._rng, self.company()
        return {
            "title": f"{self._ground.tables['organization'][company].name}: {self.work()}",
            "description": rng.choice((None, "As agreed in the offer")),
            "owner_id": self.user(),
            "start_date": self.day(-30, 10),
            "end_date": rng.choice((None, self.day(30, 200))),
            "org_ids": (company,),
            "person_ids": (self.person(),),
            "label_ids": self.labels(),
            "custom_fields": {PROJECT_FIELD: rng.choice((None, "on site", "remote"))},
        }

    def amount(self) -> Decimal | int:
        """A deal's value: most are small, few are large, some have cents."""
        value = min(_MOST, self._rng.lognormvariate(9.2, 1.0))
        return number(round(value, 2) if self._rng.random() < 0.2 else round(value / 50) * 50)

    def work(self) -> str:
        """What is sold."""
        return self._rng.choice(_WORK)

    def company(self) -> int:
        """Id of an organization."""
        return self._rng.choice(sorted(self._ground.tables["organization"]))

    def person(self) -> int:
        """Id of a person."""
        return self._rng.choice(sorted(self._ground.tables["person"]))

    def user(self) -> int:
        """Id of a user."""
        return self._rng.choice(sorted(self._ground.tables["user"]))

    def labels(self) -> tuple[int, ...]:
        """Ids of labels."""
        return tuple(sorted(self._rng.sample((11, 12, 13, 14), self._rng.randrange(3))))

    def day(self, first: int, last: int) -> str:
        """A day so many days from now: `2025-01-31`."""
        at = self._ground.now() + DAY_S * self._rng.randint(first, last)
        return datetime.fromtimestamp(at, UTC).date().isoformat()

    def _moments(self) -> tuple[int, int, int]:
        """Added, moved, last touched: in that order, often in the same second as others' are."""
        now, rng = math.floor(self._ground.now()), self._rng
        added = now - rng.randint(20, 90) * DAY_S
        moved = added + rng.randint(1, 10) * DAY_S
        # Imports and bulk edits leave many records with one and the same update_time.
        return added, moved, moved + rng.choice((0, 3600, rng.randint(1, 5 * DAY_S)))
