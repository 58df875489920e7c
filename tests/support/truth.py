"""The truth harness: a simulated life, watched, and its events held against what truly happened."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from watching import Watched

Told = tuple[str, str]
"""Type and subject of an event."""

COLLAPSED = {"updated", "status_changed"}
"""What several transitions between two readings may come to."""


@dataclass(kw_only=True)
class Score:
    """How a life was told."""

    transitions: int = 0
    due: int = 0
    told: int = 0
    missed: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Share of what was due that was told."""
        return 1 - len(self.missed) / max(1, self.due)

    @property
    def precision(self) -> float:
        """Share of what was told that was due."""
        return 1 - len(self.invented) / max(1, self.told)

    def line(self, mode: str) -> str:
        """One row of the table."""
        return f"{mode:<34} {self.transitions:>6} {self.due:>6} {self.recall:>8.4f} {self.precision:>9.4f}"


HEAD = f"{'mode':<34} {'trans.':>6} {'due':>6} {'recall':>8} {'precision':>9}"


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
    return told


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


async def settle(watched: Watched, sim: Any, start: int, *, cycles: int, score: Score) -> None:
    """Run cycles until what is due was told, or there were enough of them; then score."""
    got = await watched.events()
    for _ in range(cycles):
        await cycle(watched)
        got += await watched.events()
        entries = sim.log.since(start)
        if not unmatched(entries, got)[0]:
            break
    missed, invented = unmatched(sim.log.since(start), got)
    score.transitions += len({entry.transition for entry in sim.log.since(start)})
    score.due += len(due(sim.log.since(start)))
    score.told += len(got)
    score.missed += missed
    score.invented += invented


async def cycle(watched: Watched) -> None:
    """Sweep every list, then read every listed record."""
    await watched.sweep()
    await watched.details()


def unmatched(entries: list[Any], got: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """What is missing and what is too much, subject by subject.

    A subject with one transition is told exactly that. Several between two readings may collapse, but
    nothing else may be told, and a removal that stands is told. What is nested in a record that is new
    itself was never read before: it may be told or not.
    """
    fresh = {e.subject for e in entries if e.type.rpartition(".")[2] in ("created", "appeared", "restored")}
    optional = due(e for e in entries if e.parent in fresh)
    wanted, had = _by_subject(due(entries)), _by_subject((e["type"], e["subject"]) for e in got)
    missed, invented = [], []
    for subject in wanted.keys() | had.keys():
        want, have = wanted.get(subject, []), had.get(subject, [])
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
        stands = want[-1].endswith(".removed") and not came
        if stands and not any(kind.endswith(".removed") for kind in have):
            missed.append(f"{want[-1]} {subject}")
    return missed, invented


def _by_subject(told: Iterable[Told]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, subject in told:
        found.setdefault(subject, []).append(kind)
    return found
