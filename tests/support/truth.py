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
    return [
        (entry.type, f"source/{source}" if entry.type.startswith("poller.") else entry.subject)
        for entry in entries
        if entry.seen and not entry.noise
    ]


async def live(
    watched: Watched, sim: Any, *, steps: int, at_once: int = 1, cycles: int = 4, score: Score
) -> Score:
    """Let `steps` transitions happen, `at_once` between two cycles, and score the events of each window."""
    for _ in range(0, steps, at_once):
        start = sim.log.seq
        for _ in range(at_once):
            sim.life.step()
        await settle(watched, sim, start, cycles=cycles, score=score, steps=at_once)
    return score


async def settle(
    watched: Watched, sim: Any, start: int, *, cycles: int, score: Score, steps: int
) -> None:
    """Run cycles until what is due was told, or there were enough of them; then score."""
    got: list[dict[str, Any]] = []
    for _ in range(cycles):
        await cycle(watched)
        got += await watched.events()
        entries = sim.log.since(start)
        if not _unmatched(entries, got)[0]:
            break
    missed, invented = _unmatched(sim.log.since(start), got)
    score.transitions += steps
    score.due += len(due(sim.log.since(start)))
    score.told += len(got)
    score.missed += missed
    score.invented += invented


async def cycle(watched: Watched) -> None:
    """Sweep every list, then read every listed record."""
    await watched.sweep()
    await watched.details()


def _unmatched(entries: list[Any], got: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """What is missing and what is too much, subject by subject."""
    wanted, had = _by_subject(due(entries)), _by_subject((e["type"], e["subject"]) for e in got)
    missed, invented = [], []
    for subject in wanted.keys() | had.keys():
        want, have = wanted.get(subject, []), had.get(subject, [])
        if len(want) <= 1 or subject.startswith("source/"):
            missed += [f"{kind} {subject}" for kind in (Counter(want) - Counter(have)).elements()]
            invented += [f"{kind} {subject}" for kind in (Counter(have) - Counter(want)).elements()]
            continue
        allowed = {kind.rpartition(".")[2] for kind in want} | COLLAPSED
        invented += [f"{kind} {subject}" for kind in have if kind.rpartition(".")[2] not in allowed]
        if len(have) > len(want):
            invented.append(f"{len(have) - len(want)} more than happened to {subject}")
    return missed, invented


def _by_subject(told: Iterable[Told]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, subject in told:
        found.setdefault(subject, []).append(kind)
    return found
