"""The truth harness: a simulated life, watched, and its events held against what truly happened."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tales import ECHOES, QUIET, broken, plain
from watching import Watched

from poller.model import dumps, loads

Told = tuple[str, str]
"""Type and subject of an event."""

EVERY = 8
"""In each of so many windows all records are read by id; in the others those that moved."""
COLLAPSED = {"updated", "status_changed"}
"""What several transitions between two readings may come to."""
FAULTS = (
    "http502", "http500", "http503", "html200", "truncated", "cut", "reset", "object", "wrong_types",
    "gzip_twice", "empty",
)  # fmt: skip
"""What goes wrong on the wire of an API whose lists go on from a cursor."""


@dataclass(kw_only=True)
class Score:
    """How a life was told."""

    transitions: int = 0
    due: int = 0
    told: int = 0
    missed: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    misdated: list[str] = field(default_factory=list)
    """Events whose moments do not lie around what they tell."""
    events: list[dict[str, Any]] = field(default_factory=list)
    windows: int = 0
    owed: set[Told] = field(default_factory=set)
    """What went out of view before anybody could see it: it may be told when the record is back."""

    @property
    def false_removals(self) -> int:
        """Records that were said to be removed, and were not."""
        return sum(".removed " in each for each in self.invented)

    @property
    def recall(self) -> float:
        """Share of what was due that was told."""
        return 1 - len(self.missed) / max(1, self.due)

    @property
    def precision(self) -> float:
        """Share of what was told that was due."""
        return 1 - len(self.invented) / max(1, self.told)

    def line(self, mode: str) -> str:
        """One row of the table, as Markdown."""
        shares = f"{self.recall:.4f} | {self.precision:.4f} | {self.false_removals}"
        return f"| {mode} | {self.transitions:,} | {self.due:,} | {self.told:,} | {shares} |"


HEAD = """\
| mode | transitions | due | told | recall | precision | false removals |
|---|---:|---:|---:|---:|---:|---:|"""


def total(scores: Iterable[Score]) -> Score:
    """All modes together."""
    whole = Score()
    for each in scores:
        whole.transitions += each.transitions
        whole.due += each.due
        whole.told += each.told
        whole.missed += each.missed
        whole.invented += each.invented
    return whole


def due(entries: Iterable[Any], source: str = "acme") -> list[Told]:
    """What an ideal observer would publish for these truth entries."""
    told: list[Told] = []
    renamed: set[str] = set()
    for entry in entries:
        if not entry.seen or entry.noise or entry.subject in renamed:
            continue
        if entry.type.startswith("poller."):
            renamed.add(entry.subject)  # called otherwise twice between two readings: that is once
            told.append((entry.type, f"source/{source}"))
        else:
            told.append((entry.type, entry.subject))
            told += _came_as(entry)
    return told


def _came_as(entry: Any) -> list[Told]:
    """One that is entered when it is won or lost is told as that too, where its row says so."""
    prefix, _, suffix = entry.type.rpartition(".")
    row = entry.object or {}
    stands = row.get("status_type", row.get("status"))
    came = suffix == "created" and stands in ("won", "lost")
    return [(f"{prefix}.{stands}", entry.subject)] if came else []


async def drift(watched: Watched, sim: Any, *, windows: int, cycles: int = 6, score: Score) -> Score:
    """Let the life go on between the pages of a crawl, then settle; `windows` such crawls."""
    for _ in range(windows):
        start = sim.log.seq
        sim.set(drift=1)
        await watched.sweep()
        sim.set(drift=0)
        await settle(watched, sim, start, cycles=cycles, score=score)
    return score


async def live(
    watched: Watched, sim: Any, *, steps: int, at_once: int = 1, cycles: int = 4, score: Score
) -> Score:
    """Let `steps` transitions happen, `at_once` between two cycles, and score the events of each window."""
    for _ in range(0, steps, at_once):
        start = sim.log.seq
        for _ in range(at_once):
            sim.life.step()
        await settle(watched, sim, start, cycles=cycles, score=score)
    return score


async def roles(watched: Watched, sim: Any, *, steps: int, score: Score) -> Score:
    """Give the token one role after the other, and let the life go on under those that see every record."""
    given = ("manager", "admin", "staff", "admin", "staff", "manager", "admin", "team", "admin")
    for turn in range(max(1, steps // 3)):
        start, role = sim.log.seq, given[turn % len(given)]
        if role == "team" and not _fits(sim):
            role = "admin"
        sim.orders.set_role(role)
        await settle(watched, sim, start, cycles=6, score=score)
        if role != "team":
            await live(watched, sim, steps=2, score=score)
    start = sim.log.seq
    sim.orders.set_role("admin")
    await settle(watched, sim, start, cycles=6, score=score)
    return score


def _fits(sim: Any) -> bool:
    """Whether so few records leave the view of one team that their removal is not held."""
    mine = [row for row in sim.world.rows.values() if not row.archived]
    hidden = Counter(row.kind for row in mine if row.values["team"] != "2")
    return max(hidden.values(), default=0) <= 20


def account(sim: Any, *, details: bool = True) -> dict[str, dict[str, Any]]:
    """The account as it stands, by subject, as a caller reads it; or as its lists alone show it."""
    found: dict[str, dict[str, Any]] = {}
    for record in sim.world.rows:
        state = sim.world.state(record)
        if state is not None and not details:
            found[state.subject] = loads(dumps(state.listed))
        elif state is not None:
            found[state.subject] = loads(dumps(state.known))
            found |= {subject: loads(dumps(part.values)) for subject, part in state.parts.items()}
    return found


async def ended(
    watched: Watched, sim: Any, start: dict[str, dict[str, Any]], score: Score, *, echoes: bool = True
) -> list[str]:
    """After a life: nothing more comes, revisions and chains hold, and stream = snapshot = account."""
    for _ in range(2):
        await cycle(watched)
    found = [f"{event['type']} {event['subject']} came late" for event in await watched.events()]
    # A deal that was won before it left its list says no more of itself when it does.
    told_of = [event for event in score.events if not event["subject"].startswith("source/")]
    found += [each for each in broken(told_of, start) if "project_type was" not in each]
    end = account(sim, details=watched.session.manner.details)
    told = {**start}
    for event in score.events:
        told[event["subject"]] = {**told.get(event["subject"], {}), **event["data"]["object"]}
    for subject, fields in end.items():
        known = await watched.known(subject)
        kept = known.object if known else {}
        if known is None or known.gone:
            found.append(f"{subject} is there, and is not known")
        found += _unlike(f"{subject} as kept", kept, fields, QUIET - {"position"})
        found += _unlike(
            f"{subject} as told", told.get(subject, {}), fields, QUIET if echoes else QUIET | ECHOES
        )
    return found


def _unlike(what: str, mine: dict[str, Any], true: dict[str, Any], but: Iterable[str]) -> list[str]:
    names = (mine.keys() & true.keys()) - set(but)
    return [
        f"{what}: {name} is {mine[name]!r}, and {true[name]!r} in truth"
        for name in sorted(names)
        if plain(mine[name]) != plain(true[name])
    ]


def judge(
    score: Score, mode: str, report: dict[str, Score], *, recall: bool = True, dated: bool = True
) -> None:
    """Note the row, and hold it against what was promised."""
    score.events.clear()
    report[mode] = score
    assert score.invented == []
    assert score.misdated == [] or not dated
    assert score.missed == [] or not recall


async def settle(watched: Watched, sim: Any, start: int, *, cycles: int, score: Score) -> None:
    """Run cycles until what is due was told, or there were enough of them; then score."""
    got = await watched.events()
    score.windows += 1
    for _ in range(cycles):
        entries = watched_for(watched, sim, start)
        await cycle(watched, None if score.windows % EVERY == 0 else touched(entries))
        got += await watched.events()
        entries = watched_for(watched, sim, start)
        if not unmatched(entries, in_time(entries, got, set(score.owed)))[0]:
            break
    entries = watched_for(watched, sim, start)
    missed, invented = unmatched(entries, in_time(entries, got, score.owed))
    score.owed |= unseen(entries, got)
    score.events += got
    score.transitions += len({entry.transition for entry in entries})
    score.due += len(due(entries))
    score.told += len(got)
    score.missed += missed
    score.invented += invented
    score.misdated += misdated(entries, got)


def watched_for(watched: Watched, sim: Any, start: int) -> list[Any]:
    """What happened since then, of what is watched: with details = false not what only the detail shows."""
    entries: list[Any] = list(sim.log.since(start))
    return [each for each in entries if watched.session.manner.details or each.views != "detail"]


async def cycle(watched: Watched, subjects: list[str] | None = None) -> None:
    """Sweep every list, then read these records by id, or every listed one; or those still to be judged."""
    await watched.sweep()
    if not watched.session.manner.details:
        subjects = ["/".join(each) for each in watched.session.urgent]
    await watched.details(subjects)


def touched(entries: Iterable[Any]) -> list[str] | None:
    """The records that these entries are about; None where it may be any, as with a rename."""
    found: set[str] = set()
    for entry in entries:
        if entry.type.startswith("poller."):
            return None
        found.add(entry.parent or entry.subject)
    return sorted(found)


def unseen(entries: list[Any], got: list[dict[str, Any]]) -> set[Told]:
    """What was due of records that left the view in the same window, and was not told."""
    gone = {entry.subject for entry in entries if entry.type.endswith(".removed")}
    hidden = due(entry for entry in entries if {entry.subject, entry.parent} & gone)
    return set(Counter(hidden) - Counter((event["type"], event["subject"]) for event in got))


def in_time(entries: list[Any], got: list[dict[str, Any]], owed: set[Told]) -> list[dict[str, Any]]:
    """The events without those that were owed from before and are not due now."""
    wanted, kept = Counter(due(entries)), []
    for event in got:
        told = (event["type"], event["subject"])
        if wanted[told] == 0 and told in owed:
            owed.discard(told)
            continue
        wanted[told] -= 1
        kept.append(event)
    return kept


def unmatched(entries: list[Any], got: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """What is missing and what is too much, subject by subject.

    A subject with one transition is told exactly that. Several between two readings may collapse, but
    nothing else may be told; a removal or a win that stands is told. What is nested in a record that came or
    went itself may never have been read: it may be told or not.
    """
    unread = ("created", "appeared", "restored", "removed")
    fresh = {e.subject for e in entries if e.type.rpartition(".")[2] in unread}
    optional = due(e for e in entries if e.parent in fresh)
    wanted, had = _by_subject(due(entries)), _by_subject((e["type"], e["subject"]) for e in got)
    missed, invented = [], []
    for subject in wanted.keys() | had.keys():
        want, have = wanted.get(subject, []), had.get(subject, [])
        sibling = subject.replace("opportunity/", "project/")
        filed = sibling != subject and wanted.get(sibling, [""])[-1].endswith(".removed")
        if filed and [kind.rpartition(".")[2] for kind in have] == ["removed"]:
            continue  # won, and its project gone, before anybody looked: it answers 404 on both
        if len(want) <= 1 or subject.startswith("source/"):
            missing = (Counter(want) - Counter(have)).elements()
            missed += [f"{kind} {subject}" for kind in missing if (kind, subject) not in optional]
            invented += [f"{kind} {subject}" for kind in (Counter(have) - Counter(want)).elements()]
            continue
        allowed = {kind.rpartition(".")[2] for kind in want} | COLLAPSED
        invented += [f"{kind} {subject}" for kind in have if kind.rpartition(".")[2] not in allowed]
        if len(have) > len(want):
            invented.append(f"{len(have) - len(want)} more than happened to {subject}")
        came = want[0].rpartition(".")[2] in ("created", "appeared", "restored")
        for stands in () if came else _standing([kind.rpartition(".")[2] for kind in want]):
            if not any(kind.endswith(f".{stands}") for kind in have):
                missed.append(f"{stands} {subject}")
    return missed, invented


def misdated(entries: list[Any], got: list[dict[str, Any]]) -> list[str]:
    """Events that are dated before or after every transition of their kind that they may tell of."""
    found = []
    for event in got:
        told = (event["type"], event["subject"])
        moments = [entry.at for entry in entries if (entry.type, entry.subject) == told]
        after, before = (moment(event, name) for name in ("not_before", "not_after"))
        if moments and not any(after <= at <= before for at in moments):
            found.append(f"{' '.join(told)} between {after:.3f} and {before:.3f}, not at {moments}")
    return found


def moment(event: dict[str, Any], name: str) -> float:
    """One bound of an event (Unix seconds)."""
    return datetime.fromisoformat(event["data"]["observed"][name]).timestamp()


def _standing(suffixes: list[str]) -> list[str]:
    """What must be told of several transitions: a removal that stands, and a win that was none before."""
    if suffixes[-1] == "removed":
        return ["removed"]
    steps = [each for each in suffixes if each in ("won", "lost", "reopened")]
    return ["won"] if steps and steps[-1] == "won" and steps[0] != "reopened" else []


def _by_subject(told: Iterable[Told]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, subject in told:
        found.setdefault(subject, []).append(kind)
    return found
