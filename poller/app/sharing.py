"""What part of a host's pace is a source's: by what every source on it says that it needs."""

import time
from collections.abc import Mapping
from typing import Any

from poller.config import Settings
from poller.model import loads
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.token_bucket import Demand, part_of

from .status import same_host

HEARD_S = 30.0
"""A source that has said nothing for so long uses nothing: it is paused, suspended, or nobody polls it."""


class Sharing:
    """One source among those of its host and egress, whichever replica polls them."""

    def __init__(self, settings: Settings, connection: Connection, keys: Keys, name: str) -> None:
        mine = settings.sources[name]
        self._name = name
        self._others = [
            each for each, given in settings.sources.items() if each != name and same_host(given, mine)
        ]
        self._connection = connection
        self._keys = keys

    async def part(self, mine: Demand, per_s: float) -> float:
        """Requests a second for this source, of so many for all.

        Raises:
            StoreUnavailable, StoreRefused: as the store.
        """
        demands = {self._name: mine}
        for name in self._others:
            told = await snapshots.reported(self._connection, self._keys, name)
            demand = self._demand(loads(told), mine) if told else mine
            if demand is not None:
                demands[name] = demand
        return part_of(self._name, demands, per_s)

    def _demand(self, report: Mapping[str, Any], mine: Demand) -> Demand | None:
        """What another source last asked; one of which nothing is known yet counts like this one."""
        if float(report.get("at", 0)) < time.time() - HEARD_S or report.get("state") in (
            "paused",
            "suspended",
        ):
            return None
        pace = report.get("pace")
        if pace is None:
            return mine
        return Demand(float(pace["weight"]), float(pace["most_per_s"]))
