"""What one transition changes, as a value: between who decides it and the world that carries it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What changes of one record, by column; `touch`: whether its update_time moves."""

    kind: Kind
    id: int
    values: Mapping[str, Any] = field(default_factory=dict)
    touch: bool = True
    cause: str = ""
