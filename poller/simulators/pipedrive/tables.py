"""Pipedrive's tables: rows as they were written, and the things with a name that they refer to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import Kind

DAY_S = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A deal or project as one write left it; a change makes another, so that a replica can lag."""

    kind: Kind
    id: int
    values: Mapping[str, Any]
    """By the names of API v2; times are Unix seconds, lists tuples."""
    encoded: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """The row as it was last sent in each shape, and the epoch of the account that it was printed in."""

    @property
    def subject(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def deleted(self) -> bool:
        """Marked as deleted; purged 30 days later."""
        return self.values["delete_time"] is not None

    @property
    def archived(self) -> bool:
        """In the list of archived ones, and not in the other."""
        return self.values["archive_time"] is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What changes of one record, by column; `touch`: whether its update_time moves."""

    kind: Kind
    id: int
    values: Mapping[str, Any] = field(default_factory=dict)
    touch: bool = True
    cause: str = ""


@dataclass(slots=True)
class Named:
    """A stage, pipeline, board, phase, user, person or organization."""

    table: str
    id: int
    name: str
    home: int | None = None
    """The pipeline of a stage, the board of a phase, the organization of a person."""
    order: int = 1
    probability: int = 100
    add_time: float = 1_704_067_200
    update_time: float = 1_704_067_200


Tables = Mapping[str, dict[int, Named]]

_USERS = ("Maret Kask", "Jonas Feld", "Aoife Byrne", "Teodor Ilves", "Ines Carvalho")
_STAGES = (
    (1, "Qualified", 1, 10), (2, "Contact Made", 1, 25), (3, "Demo Scheduled", 1, 45),
    (4, "Proposal Made", 1, 65), (5, "Negotiations Started", 1, 85),
    (6, "Renewal Due", 2, 60), (7, "Terms Agreed", 2, 90),
)  # fmt: skip
_PHASES = (
    (1, "Kick-off", 1), (2, "Planning", 1), (3, "Implementation", 1), (4, "Review", 1), (5, "Closing", 1),
    (6, "Onboarding", 2), (7, "Handover", 2),
)  # fmt: skip


def reference_tables() -> dict[str, dict[int, Named]]:
    """The tables that deals and projects refer to, by name and id; people and companies come with them."""
    return {
        "pipeline": {
            1: Named("pipeline", 1, "Sales"),
            2: Named("pipeline", 2, "Renewals", order=2),
        },
        "stage": {
            number: Named("stage", number, name, home, order=number, probability=probability)
            for number, name, home, probability in _STAGES
        },
        "board": {1: Named("board", 1, "Delivery"), 2: Named("board", 2, "Onboarding", order=2)},
        "phase": {number: Named("phase", number, name, home, order=number) for number, name, home in _PHASES},
        "user": {number: Named("user", number, name) for number, name in enumerate(_USERS, start=1)},
        "person": {},
        "organization": {},
    }
