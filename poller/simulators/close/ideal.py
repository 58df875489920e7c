"""What an ideal observer would publish for one transition: two states in, a change out. Pure.

The rules are the contract's. Won and lost are told by the type of the status alone: `date_won` is set on
active opportunities too, as the day on which somebody hopes to win them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from poller.model import Json
from poller.simulators.truth import Change

from .fields import NOISE


@dataclass(frozen=True, slots=True)
class State:
    """An opportunity that exists and can be seen, as it is printed."""

    known: Mapping[str, Json]

    @property
    def subject(self) -> str:
        return f"opportunity/{self.known['id']}"


def changes(before: State | None, after: State | None, *, arrival: str, cause: str = "") -> Iterator[Change]:
    """What one transition of one opportunity amounts to; `arrival`: created or appeared."""
    if before is None:
        if after is not None:
            yield Change(
                subject=after.subject, type=_type(arrival), object=after.known, views="both", cause=cause
            )
    elif after is None:
        yield Change(subject=before.subject, type=_type("removed"), before=before.known, cause=cause)
    else:
        yield from _moved(before.known, after.known, after.subject, cause)


def _moved(was: Mapping[str, Json], now: Mapping[str, Json], subject: str, cause: str) -> Iterator[Change]:
    changed = tuple(sorted(name for name in {*was, *now} if not _same(name, was, now)))
    if not changed:
        return
    yield Change(
        subject=subject,
        type=_type(_verb(was, now)),
        changed=changed,
        before={name: was[name] for name in changed if name in was},
        after={name: now[name] for name in changed if name in now},
        noise=NOISE.issuperset(changed),
        cause=cause,
        object=now,
    )


def _same(name: str, was: Mapping[str, Json], now: Mapping[str, Json]) -> bool:
    return name in was and name in now and bool(was[name] == now[name])


def _verb(was: Mapping[str, Json], now: Mapping[str, Json]) -> str:
    if was["status_type"] != now["status_type"]:
        return "reopened" if now["status_type"] == "active" else str(now["status_type"])
    return "updated" if was["status_id"] == now["status_id"] else "status_changed"


def _type(verb: str) -> str:
    return f"close.opportunity.{verb}"
