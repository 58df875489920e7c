"""Drum's own tables: one of records with a flag for their type, and those they refer to."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal, TypeAlias

from poller.model import Json, loads

from .fields import Kind

StatusType: TypeAlias = Literal["open", "won", "lost", "work", "done"]
"""Never shown by the API: three types of sales status, two of project status."""


@dataclass(slots=True)
class Named:
    """One row of a table that records refer to. `id` is what is printed."""

    id: int
    name: str
    more: dict[str, Json] = field(default_factory=dict)
    """What is printed besides: a client's type, a status's complete_status."""
    type: StatusType = "open"


@dataclass(slots=True)
class Part:
    """A deliverable (with tasks) or a task; values by the names of the API, references by key."""

    values: dict[str, Any]
    tasks: list["Part"] = field(default_factory=list)

    @property
    def id(self) -> int:
        number: int = self.values["id"]
        return number


@dataclass(slots=True)
class Row:
    """A record: an opportunity until it is won, then a project, under one id."""

    id: int
    kind: Kind
    values: dict[str, Any]
    """The columns of both kinds; references hold keys."""
    deliverables: list[Part] = field(default_factory=list)
    list_description: str | None = None
    """Where the list tells another text than the detail view, as in the document of opportunities."""
    archived: bool = False
    touched: int = 0
    """The order of last changes; never printed."""
    encoded: dict[Any, bytes] = field(default_factory=dict)
    """The views as last sent, until something changes."""
    state: Any = None
    """What the main token sees of it, as last told to the log, until something changes."""

    def forget(self) -> None:
        """Something changed that this row prints."""
        self.encoded.clear()
        self.state = None

    def parts(self) -> Iterator[tuple[Part, Part | None]]:
        """Every deliverable (beside None), and every task beside its deliverable."""
        for deliverable in self.deliverables:
            yield deliverable, None
            for task in deliverable.tasks:
                yield task, deliverable


def _status(number: int, name: str, type_: StatusType) -> Named:
    return Named(number, name, {"complete_status": type_ == "done"}, type_)


def _client(number: int, name: str, type_: str = "Company") -> Named:
    return Named(number, name, {"type": type_})


def reference_tables() -> dict[str, dict[str, Named]]:
    """The tables that records refer to, by name; a row's key is its id as a string.

    Only one key differs from its id: the two documents give team 3 two names, and the first
    records carry the documents' values.
    """
    statuses = [
        _status(1, "Proposal In Progress", "open"),
        _status(2, "Proposal Submitted", "open"),
        _status(3, "Negotiation", "open"),
        _status(4, "Qualifying", "open"),
        _status(6, "Won", "won"),
        _status(7, "Lost", "lost"),
        _status(8, "No Decision", "lost"),
        _status(5, "In Progress", "work"),
        _status(9, "Planning", "work"),
        _status(10, "On Hold", "work"),
        _status(11, "Completed", "done"),
        _status(12, "Closed Out", "done"),
    ]
    clients = [
        _client(123, "Acme Corp"),
        _client(124, "Tech Startup Inc"),
        _client(456, "Enterprise Solutions Ltd"),
        _client(457, "Tech Startup Co"),
        _client(458, "Internal", "BusinessOverhead"),
    ]
    teams = {
        "1": Named(1, "Strategy Team"),
        "2": Named(2, "Design Team"),
        "3": Named(3, "Sales Team"),
        "3-projects": Named(3, "Development Team"),
        "4": Named(4, "Content Team"),
    }
    return {
        "status": _keyed(statuses),
        "client": _keyed(clients),
        "team": teams,
        "lead_score": _keyed([Named(2, "Cold Lead"), Named(3, "Warm Lead"), Named(4, "Hot Lead")]),
        "user": _keyed(
            [
                Named(12, "Sarah Johnson"),
                Named(18, "Michael Chen"),
                Named(21, "Priya Nair"),
                Named(24, "Tom O'Brien"),
                Named(27, "Zoë Papadakis"),
            ]
        ),
        "resource_type": _keyed(
            [
                Named(5, "Senior Consultant"),
                Named(6, "UX Researcher"),
                Named(7, "Senior Designer"),
                Named(8, "Senior Consultant"),
                Named(9, "Business Analyst"),
                Named(10, "Salesforce Developer"),
            ]
        ),
    }


def _keyed(rows: list[Named]) -> dict[str, Named]:
    return {str(row.id): row for row in rows}


def examples() -> Json:
    """The objects that the two documents print: `{kind: {"list": [...], "detail": [...]}}`."""
    return loads(resources.files(__package__).joinpath("examples.json").read_bytes())
