"""Close's own tables: opportunities, and the leads, people, pipelines and statuses they refer to."""

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

StatusType: TypeAlias = Literal["active", "won", "lost"]
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 43


def make_id(rng: random.Random, prefix: str) -> str:
    """`oppo_` and 43 letters and digits, as Close's ids are: without any order."""
    return f"{prefix}_{''.join(rng.choices(_ALPHABET, k=_LENGTH))}"


@dataclass(slots=True)
class Named:
    """A lead, contact, pipeline or user; a lead holds the ids of its contacts."""

    id: str
    name: str
    contacts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Status:
    """One status of a pipeline; its type says what it means."""

    id: str
    name: str
    type: StatusType
    pipeline: str


@dataclass(slots=True)
class Row:
    """An opportunity as it is stored; moments in Unix milliseconds."""

    id: str
    values: dict[str, Any]
    """By the names of the API, custom fields included."""
    created_ms: int
    updated_ms: int
    created_by: str
    updated_by: str
    shown: dict[str, Any] | None = None
    """As it is printed, until something changes."""
    body: bytes | None = None
    """The same, encoded."""

    def forget(self) -> None:
        """Something changed that this row prints."""
        self.shown = self.body = None

    def copied(self) -> "Row":
        """As it stands now, for whoever sees the past."""
        return Row(
            self.id, dict(self.values), self.created_ms, self.updated_ms, self.created_by, self.updated_by
        )


@dataclass(slots=True)
class Tables:
    """What opportunities refer to."""

    organization: Named
    users: dict[str, Named] = field(default_factory=dict)
    leads: dict[str, Named] = field(default_factory=dict)
    contacts: dict[str, Named] = field(default_factory=dict)
    pipelines: dict[str, Named] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)

    def named(self, table: str) -> dict[str, Any]:
        """A table by its name in orders.

        Raises:
            ValueError: there is none of that name.
        """
        tables: dict[str, dict[str, Any]] = {
            "status": self.statuses,
            "pipeline": self.pipelines,
            "lead": self.leads,
            "contact": self.contacts,
            "user": self.users,
        }
        if table not in tables:
            msg = f"there is no table {table}. There are: {', '.join(tables)}."
            raise ValueError(msg)
        return tables[table]

    def of_type(self, type_: StatusType) -> list[Status]:
        """The statuses of a type, those of the first pipeline first."""
        return [status for status in self.statuses.values() if status.type == type_]

    def contacts_of(self, lead: str) -> list[str]:
        """Ids of a lead's contacts; none where there is no such lead."""
        return self.leads[lead].contacts if lead in self.leads else []


_PIPELINES: tuple[tuple[str, tuple[tuple[str, StatusType], ...]], ...] = (
    (
        "Sales",
        (
            ("Qualified", "active"),
            ("Demo Completed", "active"),
            ("Proposal Sent", "active"),
            ("Negotiation", "active"),
            ("Won", "won"),
            ("Lost", "lost"),
            ("Not a Fit", "lost"),
        ),
    ),
    (
        "Renewals",
        (
            ("Renewal Due", "active"),
            ("Terms Sent", "active"),
            ("Renewed", "won"),
            ("Upgraded", "won"),
            ("Churned", "lost"),
        ),
    ),
)
_USERS = ("Ada Brandt", "Milo Okafor", "Noor Haddad", "Petra Lindqvist")


def reference_tables(rng: random.Random) -> Tables:
    """The tables of a new account: its people, two pipelines and their statuses."""
    tables = Tables(Named(make_id(rng, "orga"), "Acme Robotics"))
    for user in _people(rng):
        tables.users[user.id] = user
    for name, statuses in _PIPELINES:
        pipeline = Named(make_id(rng, "pipe"), name)
        tables.pipelines[pipeline.id] = pipeline
        for label, type_ in statuses:
            status = Status(make_id(rng, "stat"), label, type_, pipeline.id)
            tables.statuses[status.id] = status
    return tables


def _people(rng: random.Random) -> Iterator[Named]:
    for name in _USERS:
        yield Named(make_id(rng, "user"), name)
