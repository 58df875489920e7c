"""What an ideal observer would publish for one transition: two states of a record in, changes out. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from poller.model import Json, canonical
from poller.simulators.truth import Change

from .fields import DEAL_NOISE, PROJECT_NOISE, Kind

_NOISE = {"deal": DEAL_NOISE, "project": PROJECT_NOISE}
_STAGE = {"deal": ("stage_id", "stage_changed"), "project": ("phase_id", "phase_changed")}


@dataclass(frozen=True, slots=True)
class State:
    """A deal or project that the main token sees and that is not deleted; `view` as API v2 prints it."""

    kind: Kind
    id: int
    view: Mapping[str, Json]

    @property
    def subject(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def archived(self) -> bool:
        return self.view["archive_time"] is not None


def changes(before: State | None, after: State | None, *, arrival: str, cause: str = "") -> Iterator[Change]:
    """What one write of one record amounts to.

    `arrival` says how a record that comes into view does so: created, appeared or restored.
    """
    if after is not None and before is not None:
        yield from _moved(before, after, cause)
    elif after is not None:
        yield Change(
            subject=after.subject, type=f"pipedrive.{after.kind}.{arrival}", object=after.view, cause=cause
        )
    elif before is not None:
        yield Change(
            subject=before.subject, type=f"pipedrive.{before.kind}.removed", before=before.view, cause=cause
        )


def _moved(before: State, after: State, cause: str) -> Iterator[Change]:
    was, now = before.view, after.view
    changed = tuple(sorted(name for name in {*was, *now} if _differs(name, was, now)))
    if changed:
        yield Change(
            subject=after.subject,
            type=f"pipedrive.{after.kind}.{_verb(before, after)}",
            changed=changed,
            before={name: was[name] for name in changed if name in was},
            after={name: now[name] for name in changed if name in now},
            noise=_verb(before, after) == "updated" and _NOISE[after.kind].issuperset(changed),
            object=now,
            cause=cause,
        )


def _differs(name: str, was: Mapping[str, Json], now: Mapping[str, Json]) -> bool:
    # As JSON writes them: 200 is 200.0, and True is not 1.
    return name not in was or name not in now or canonical(was[name]) != canonical(now[name])


def _verb(before: State, after: State) -> str:
    if before.archived != after.archived:
        return "archived" if after.archived else "unarchived"
    was, now = before.view["status"], after.view["status"]
    if was != now and after.kind == "deal":
        return "reopened" if now == "open" else str(now)
    if was != now and now == "completed":
        return "completed"
    name, verb = _STAGE[after.kind]
    return "updated" if before.view[name] == after.view[name] else verb
