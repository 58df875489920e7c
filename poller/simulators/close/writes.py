"""How a write becomes visible: at once, or some transitions after the moment that it is dated with."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from poller.simulators.truth import Entries

from .world import World

Act: TypeAlias = Callable[[int], None]
"""Carries a write out, dated with the given moment in milliseconds."""


@dataclass(frozen=True, slots=True)
class _Late:
    shows_at: int
    records: frozenset[str]
    at_ms: int
    act: Act
    cause: str


class Writes:
    """The writes of one organization; those of one record keep their order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._late: list[_Late] = []
        self._caught: Entries = ()

    def write(
        self, records: Sequence[str], act: Act, *, quiet: bool = False, at_once: bool = False
    ) -> Entries:
        """Carry a write out that was made now: now, or as late as the switches say, by chance.

        A `quiet` one does not move date_updated: it is logged with that cause.
        """
        late = 0 if at_once else self._world.rng.randint(0, self._world.switches.lag)
        cause = "quiet" if quiet else ""
        at_ms = self._world.stamp()
        if late:
            shows_at = self._world.log.transition + late
            self._late.append(_Late(shows_at, frozenset(records), at_ms, act, cause))
            return self._taken()
        return self._taken() + self._world.apply(records, lambda: act(at_ms), cause=cause)

    def catch(self, records: Collection[str] | None = None) -> None:
        """Let the late writes of these records show before anything else befalls them; None: all."""
        for late in list(self._late):
            if records is None or late.records.intersection(records):
                self._late.remove(late)
                self._caught += self._shown(late)

    def due(self) -> Entries:
        """Let one late write show whose time has come; () if none is due, or if it changes nothing."""
        for late in list(self._late):
            if late.shows_at <= self._world.log.transition:
                self._late.remove(late)
                entries = self._shown(late)
                if entries:
                    return entries
        return ()

    def all_shown(self) -> Entries:
        """Let every late write show."""
        self.catch()
        return self._taken()

    def _shown(self, late: _Late) -> Entries:
        return self._world.apply(sorted(late.records), lambda: late.act(late.at_ms), cause=late.cause)

    def _taken(self) -> Entries:
        caught, self._caught = self._caught, ()
        return caught
