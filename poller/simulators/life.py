"""A life of its own: seeded, weighted, driven step by step or at a pace."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias, TypeVar

from poller.simulators.truth import Entry

Act: TypeAlias = Callable[[random.Random], tuple[Entry, ...]]
"""Does one thing to the world; () where there is nothing it could be done to."""

RowT = TypeVar("RowT")

MOST_TRIES = 1_000
_DRAWS = 24


def chosen(rng: random.Random, rows: Sequence[RowT], fits: Callable[[RowT], bool] = bool) -> RowT | None:
    """One row that fits; a few draws first, so that a large world costs no more than a small one."""
    for _ in range(min(_DRAWS, len(rows))):
        row = rng.choice(rows)
        if fits(row):
            return row
    found = [row for row in rows if fits(row)]
    return rng.choice(found) if found else None


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of thing that happens, and how often beside the others."""

    name: str
    weight: float
    act: Act


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    action: str
    transition: int
    entries: tuple[Entry, ...]


class Life:
    """Chooses what happens next; the same seed over the same world gives the same life."""

    def __init__(
        self, actions: Sequence[Action], *, seed: int = 1, due: Callable[[], tuple[Entry, ...]] | None = None
    ) -> None:
        """`due` is asked first at each step: what the world owes by now, e.g. a delayed conversion."""
        self._actions = tuple(actions)
        self._bounds = tuple(accumulate(action.weight for action in self._actions))
        self._rng = random.Random(seed)
        self._due = due

    def step(self) -> Step:
        """Make exactly one transition.

        Raises:
            RuntimeError: the world is so empty that nothing can happen in it.
        """
        owed = self._due() if self._due else ()
        if owed:
            return Step("due", owed[0].transition, owed)
        for _ in range(MOST_TRIES):
            (action,) = self._rng.choices(self._actions, cum_weights=self._bounds)
            entries = action.act(self._rng)
            if entries:
                return Step(action.name, entries[0].transition, entries)
        msg = f"nothing can happen in this world: {MOST_TRIES} tries changed nothing. Populate it first."
        raise RuntimeError(msg)

    def steps(self, count: int) -> list[Step]:
        """Make `count` transitions."""
        return [self.step() for _ in range(count)]

    async def run(self, *, pace: float) -> None:
        """Live for ever at `pace` transitions per second, by chance evenly spread; until cancelled."""
        while True:
            await asyncio.sleep(self._rng.expovariate(pace))
            self.step()
