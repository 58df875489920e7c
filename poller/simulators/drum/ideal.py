"""What an ideal observer would publish for one transition: two states of a record in, changes out. Pure.

The rules are the contract's (event types, and when); the observer sees what the account's main
token may see, but unlike a poller it also knows what each status means.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from poller.model import Json, canonical
from poller.simulators.truth import Change, Views

from .fields import DELIVERABLE_NOISE, RECORD_NOISE, TASK_NOISE, Kind

_NOISE = {"deliverable": DELIVERABLE_NOISE, "task": TASK_NOISE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is nested in a record; for a task also which deliverable it stands in."""

    kind: Literal["deliverable", "task"]
    values: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A record that exists and can be seen."""

    id: int
    kind: Kind
    deal: Literal["open", "won", "lost"]
    """By the dates, which follow the hidden type of the status."""
    listed: Mapping[str, Json]
    detail: Mapping[str, Json]
    """Without `deliverables`."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """By subject."""

    @property
    def subject(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def known(self) -> dict[str, Json]:
        """The list view, and what only the detail view has."""
        return {**self.detail, **self.listed}

    @property
    def nested(self) -> dict[str, Mapping[str, Json]]:
        return {subject: part.values for subject, part in self.parts.items()}


def changes(before: State | None, after: State | None, *, arrival: str, cause: str = "") -> Iterator[Change]:
    """What one transition of one record amounts to.

    `arrival` says how a record that comes into view does so: created, appeared or restored.
    """
    if before is None:
        if after is not None:
            yield _arrived(after, arrival, cause)
    elif after is None:
        yield _left(before, cause)
    elif before.kind != after.kind:
        yield from _turned(before, after)
        yield from _inside(before, after)
    else:
        yield from _moved(before, after)
        yield from _inside(before, after)


def _arrived(state: State, how: str, cause: str = "") -> Change:
    return Change(
        subject=state.subject,
        type=f"drum.{state.kind}.{how}",
        object=state.known,
        nested=state.nested,
        cause=cause,
    )


def _left(state: State, cause: str = "") -> Change:
    return Change(subject=state.subject, type=f"drum.{state.kind}.removed", before=state.known, cause=cause)


def _turned(before: State, after: State) -> Iterator[Change]:
    """An opportunity became a project, or the other way round."""
    if after.kind == "opportunity":
        yield _between(before, after, "drum.opportunity.reopened")
        yield _left(before)
        return
    # Won by its date while it was still listed: then that has been said.
    if before.deal != "won":
        yield _between(before, after, "drum.opportunity.won")
    yield _arrived(after, "created")


def _between(before: State, after: State, type_: str) -> Change:
    was, now = before.known, after.known
    changed = _differing(was, now)
    return Change(
        subject=f"opportunity/{after.id}",
        type=type_,
        changed=changed,
        before={name: was[name] for name in changed if name in was},
        after={name: now[name] for name in changed if name in now},
        object=now,
    )


def _differing(was: Mapping[str, Json], now: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(sorted(name for name in {*was, *now} if not _same(name, was, now)))


def _same(name: str, was: Mapping[str, Json], now: Mapping[str, Json]) -> bool:
    if name not in was or name not in now:
        return False
    old, new = was[name], now[name]
    if isinstance(old, list) and isinstance(new, list):
        # People and tags come in no promised order.
        return sorted(map(canonical, old)) == sorted(map(canonical, new))
    return bool(old == new)


def _moved(before: State, after: State) -> Iterator[Change]:
    was, now = before.known, after.known
    changed = _differing(was, now)
    if not changed:
        return
    yield Change(
        subject=after.subject,
        type=f"drum.{after.kind}.{_record_verb(before, after)}",
        changed=changed,
        before={name: was[name] for name in changed if name in was},
        after={name: now[name] for name in changed if name in now},
        views=_views(changed, before, after),
        noise=RECORD_NOISE.issuperset(changed),
        object=now,
    )


def _views(changed: Iterable[str], before: State, after: State) -> Views:
    in_list = [name for name in changed if name in before.listed or name in after.listed]
    if not in_list:
        return "detail"
    same = all(before.detail.get(name) == after.detail.get(name) for name in in_list)
    return "list" if same and len(in_list) == len(list(changed)) else "both"


def _record_verb(before: State, after: State) -> str:
    if before.deal != after.deal:
        return "reopened" if after.deal == "open" else after.deal
    was, now = (state.listed.get("project_status") or {} for state in (before, after))
    if after.kind == "project" and was.get("complete_status", False) != now.get("complete_status", False):
        return "completed" if now.get("complete_status") else "reopened"
    return "updated" if was.get("id") == now.get("id") else "status_changed"


def _inside(before: State, after: State) -> Iterator[Change]:
    for subject, part in after.parts.items():
        old = before.parts.get(subject)
        if old is None:
            yield Change(
                subject=subject,
                type=f"drum.{part.kind}.added",
                parent=after.subject,
                views="detail",
                object=part.values,
            )
        elif old.values != part.values:
            yield _part_moved(subject, old, part, after.subject)
    gone = [subject for subject in before.parts if subject not in after.parts]
    for subject in gone:
        yield _part_left(subject, before.parts[subject], gone, after.subject)


def _part_left(subject: str, part: Part, gone: list[str], parent: str) -> Change:
    home = f"deliverable/{part.values.get('deliverable_id')}"
    return Change(
        subject=subject,
        type=f"drum.{part.kind}.removed",
        parent=parent,
        before=part.values,
        views="detail",
        cause="parent" if home in gone else "",
    )


def _part_moved(subject: str, old: Part, new: Part, parent: str) -> Change:
    changed = _differing(old.values, new.values)
    return Change(
        subject=subject,
        type=f"drum.{new.kind}.{_part_verb(old, new)}",
        parent=parent,
        changed=changed,
        before={name: old.values[name] for name in changed if name in old.values},
        after={name: new.values[name] for name in changed if name in new.values},
        views="detail",
        noise=_NOISE[new.kind].issuperset(changed),
        object=new.values,
    )


def _part_verb(old: Part, new: Part) -> str:
    was, now = old.values.get("status"), new.values.get("status")
    if was == now:
        return "updated"
    if now == "completed":
        return "completed"
    return "reopened" if was == "completed" else "status_changed"
