"""Every event type of the contract (§5) and the model of its object, derived from the sources."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Union

from pydantic import BaseModel

from poller.watch.sources import SOURCES
from poller.watch.sources.base import Kind

from . import operational

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "created": "A record whose id is above the highest one known before this sweep.",
        "appeared": "A record with a lower id that was never known, or any at `baseline = emit`.",
        "added": "A record that is nested in another, and new there.",
        "updated": "Fields changed, and nothing more specific fits.",
        "status_changed": "Its status is another one, and means neither won nor lost nor completed.",
        "stage_changed": "Its stage is another one.",
        "phase_changed": "Its phase is another one.",
        "won": "The deal is won. Said once.",
        "lost": "The deal is lost.",
        "reopened": "What was won, lost or completed is open again.",
        "completed": "It is complete.",
        "archived": "It was archived.",
        "unarchived": "It is no longer archived.",
        "removed": "It is gone: 404 by its own id and by its sibling's, twice.",
        "restored": "What was removed is listed again.",
    }
)


@dataclass(frozen=True, kw_only=True)
class EventType:
    """One type of event."""

    name: str
    description: str
    subject: str
    """What stands before the slash of its subject."""
    object: Any
    """The model of data.object, or a union of models."""
    source_kind: str = ""
    """Empty where it is said of a source or an endpoint of any kind."""
    kind: Kind | None = None

    @property
    def suffix(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]

    @property
    def has_deal(self) -> bool:
        """Whether data.deal is there."""
        return self.kind is not None and self.kind.deal is not None

    @property
    def bare(self) -> bool:
        """Whether previous and changed are always empty (contract §4)."""
        return self.suffix in ("created", "appeared", "removed")


def _of_records() -> Iterator[EventType]:
    for source_kind, made in SOURCES.items():
        for kind in made.kinds.values():
            for suffix in kind.suffixes:
                yield EventType(
                    name=kind.type(suffix),
                    description=MEANINGS.get(suffix, ""),
                    subject=kind.name,
                    object=_object(made.kinds, kind, suffix),
                    source_kind=source_kind,
                    kind=kind,
                )


def _object(kinds: Mapping[str, Kind], kind: Kind, suffix: str) -> Any:
    """A deal that is won by leaving its list is the sibling's record by then (contract §5)."""
    if suffix == "won" and kind.sibling:
        return Union[kind.model, kinds[kind.sibling].model]  # noqa: UP007 -- the members are values
    return kind.model


def _operational() -> Iterator[EventType]:
    for subject, models in (("source", operational.OF_SOURCES), ("webhook", operational.OF_WEBHOOKS)):
        for suffix, model in models.items():
            yield EventType(
                name=f"poller.{subject}.{suffix}",
                description=_first_line(model),
                subject=subject,
                object=model,
            )


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


TYPES: Mapping[str, EventType] = MappingProxyType(
    {each.name: each for each in (*_of_records(), *_operational())}
)
"""Name -> type, in the contract's order."""
