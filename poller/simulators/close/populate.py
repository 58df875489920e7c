"""Made-up but plausible leads, contacts and opportunities of a company that sells machines."""

import random
from typing import Any, Protocol

from .dates import MS_PER_DAY, day, written
from .fields import COLUMNS
from .tables import Named, Row, Tables

CUSTOM_FIELDS = ("custom.cf_source", "custom.cf_seats", "custom.cf_regions")
"""The custom fields of the account: a choice, a number, a list."""

_NAMES = (
    "Harbor", "Summit", "Cobalt", "Juniper", "Northwind", "Palisade", "Redwood", "Silverline", "Tidewater",
    "Umbra", "Vantage", "Willow", "Yellowstone", "Zephyr", "Aspen", "Birchwood", "Cascade", "Driftwood",
)  # fmt: skip
_TRADES = ("Foods", "Logistics", "Dental", "Optics", "Plastics", "Brewing", "Freight", "Packaging", "Labs")
_PEOPLE = (
    "Iris Vance", "Omar Reyes", "Lena Fischer", "Tom Aldridge", "Mei Tanaka", "Sofia Duarte", "Jonas Weber",
    "Priya Nair", "Caleb Stone", "Hanna Virtanen",
)  # fmt: skip
_NOTES = ("Two arms and a gripper", "Pilot line first", "Waits for the board", "Wants a lease", "Second site")
_SOURCES = ("fair", "referral", "web", "partner", None)
_REGIONS = ("north", "south", "east", "west")


class Ground(Protocol):
    """What a population needs of the account it is made for."""

    tables: Tables

    def new_id(self, prefix: str) -> str: ...
    def now_ms(self) -> int: ...


class Population:
    """Makes rows; the same generator makes the same."""

    def __init__(self, ground: Ground, *, rng: random.Random) -> None:
        self._ground, self._rng = ground, rng
        self._leads = list(ground.tables.leads)

    def opportunity(self, *, fresh: bool = False) -> Row:
        """An opportunity of some age and outcome; `fresh`: one that begins now, not yet dated."""
        rng, tables = self._rng, self._ground.tables
        statuses = tables.of_type("active")
        if not fresh and rng.random() < 0.3:
            statuses = tables.of_type(rng.choice(("won", "lost")))
        status = rng.choice(statuses)
        lead = self.lead()
        values = dict(COLUMNS) | {
            "lead_id": lead,
            "contact_id": rng.choice([None, *tables.contacts_of(lead)]),
            "user_id": rng.choice(list(tables.users)),
            "status_id": status.id,
            "note": rng.choice(_NOTES),
            "value": None if rng.random() < 0.05 else self.value(),
            "value_period": rng.choices(("one_time", "monthly", "annual"), (6, 3, 2))[0],
            "confidence": {"won": 100, "lost": 0}.get(status.type, rng.randrange(5, 100, 5)),
            "date_won": self.hoped() if rng.random() < 0.8 else None,
            **self._custom(),
        }
        row = self._row(self._ground.new_id("oppo"), values, days=0 if fresh else 90)
        if status.type == "won":
            values["date_won"] = day(row.updated_ms)
        if status.type == "lost":
            values["date_lost"] = written(row.updated_ms)
        return row

    def example(self, record: str) -> Row:
        """The opportunity of a public example: $1 at 75 %, demo completed, hoped for two days later."""
        tables = self._ground.tables
        status = next(one for one in tables.statuses.values() if one.name == "Demo Completed")
        values = dict(COLUMNS) | {
            "lead_id": self.new_lead("Bluth Company"),
            "user_id": next(iter(tables.users)),
            "status_id": status.id,
            "value": 100,
            "confidence": 75,
            "date_won": "2024-02-07",
        }
        user = values["user_id"]
        return Row(record, values, 1_707_142_310_033, 1_707_152_447_476, user, user)

    def lead(self) -> str:
        """Id of a lead: often one that has opportunities already."""
        if self._leads and self._rng.random() < 0.5:
            lead = self._rng.choice(self._leads)
            if lead in self._ground.tables.leads:
                return lead
            self._leads.remove(lead)
        name = f"{self._rng.choice(_NAMES)} {self._rng.choice(_TRADES)}"
        lead = self.new_lead(name)
        for _ in range(self._rng.randrange(3)):
            self._new_contact(lead)
        return lead

    def new_lead(self, name: str) -> str:
        """A lead of its own."""
        lead = Named(self._ground.new_id("lead"), name)
        self._ground.tables.leads[lead.id] = lead
        self._leads.append(lead.id)
        return lead.id

    def value(self) -> int:
        """A deal's value in cents: most are small, few are large; some are no whole amount."""
        cents = round(min(50_000_000.0, self._rng.lognormvariate(13.5, 1.0)))
        return cents if self._rng.random() < 0.2 else cents // 10_000 * 10_000

    def hoped(self) -> str:
        """The day on which somebody hopes to win."""
        return day(self._ground.now_ms() + self._rng.randint(5, 120) * MS_PER_DAY)

    def note(self) -> str:
        return f"{self._rng.choice(_NOTES)}, as agreed {self._rng.randint(2, 99)}"

    def regions(self) -> list[str]:
        return self._rng.sample(_REGIONS, self._rng.randint(1, 3))

    def _new_contact(self, lead: str) -> None:
        contact = Named(self._ground.new_id("cont"), self._rng.choice(_PEOPLE))
        self._ground.tables.contacts[contact.id] = contact
        self._ground.tables.leads[lead].contacts.append(contact.id)

    def _custom(self) -> dict[str, Any]:
        """Custom fields that are empty are not printed at all."""
        values = (self._rng.choice(_SOURCES), self._rng.randrange(1, 200), self.regions())
        return {
            name: value
            for name, value in zip(CUSTOM_FIELDS, values, strict=True)
            if self._rng.random() < 0.6 and value is not None
        }

    def _row(self, record: str, values: dict[str, Any], *, days: int) -> Row:
        now = self._ground.now_ms()
        created = now - self._rng.randint(0, days * MS_PER_DAY)
        updated = self._rng.randint(created, now)
        return Row(record, values, created, updated, values["user_id"], values["user_id"])
