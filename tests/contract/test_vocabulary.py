"""One vocabulary over all sources: the same thing done in each CRM is called the same, and shown the same."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from watching import Watched, watching

from poller.deliver.filters import compile_filter, wants_type
from poller.deliver.formats.slack import message
from poller.model import Deal, Event, dumps
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.sources import SOURCES

Order = Callable[[Any], Any]
OPEN: Mapping[str, Callable[[Any], list[Any]]] = {
    "drum": lambda sim: [row.id for row in sim.world.rows.values() if row.kind == "opportunity"],
    "close": lambda sim: [
        key
        for key in sim.world.rows
        if (seen := sim.world.state(key).known)["status_type"] == "active" and seen["value"] is not None
    ],
    "pipedrive": lambda sim: [
        row.id for row in sim.world.live("deal") if row.values["status"] == "open" and row.values["org_id"]
    ],
}
"""Deals that can be won and lost."""
MADE: Mapping[str, Order] = {
    "drum": lambda sim: sim.orders.create_opportunity(name="Another"),
    "close": lambda sim: sim.orders.create(),
    "pipedrive": lambda sim: sim.orders.create(title="Another"),
}
DONE: Mapping[str, Callable[[Any, Any], Any]] = {
    "created": lambda sim, _deal: MADE[sim.kind](sim),
    "won": lambda sim, deal: sim.orders.win(deal),
    "lost": lambda sim, deal: sim.orders.lose(deal),
    "removed": lambda sim, deal: (sim.orders.archive if sim.kind == "drum" else sim.orders.delete)(deal),
}
STATUS = {"created": "open", "won": "won", "lost": "lost", "removed": "open"}


async def done(watched: Watched, sim: Any, kind: str) -> dict[str, dict[str, Any]]:
    """Let each of the four happen to a deal of its own; verb -> the event that says it."""
    await watched.cycle_quietly()
    await watched.events()
    found: dict[str, dict[str, Any]] = {}
    deals = OPEN[kind](sim)
    for verb, deal in zip(DONE, deals, strict=False):
        DONE[verb](sim, deal)
        events: list[dict[str, Any]] = []
        for _ in range(2):  # an absence is asked again after the next sweep
            await watched.cycle_quietly()
            events += await watched.events()
        (found[verb],) = [event for event in events if wants_type([f"*.{verb}"], event["type"])][:1]
    return found


def test_every_source_is_here() -> None:
    """A line in the registry needs its orders here."""
    assert set(SOURCES) == set(MADE) == set(OPEN)


@pytest.mark.parametrize("kind", sorted(SOURCES))
async def test_the_same_is_called_the_same(kind: str, connection: Connection) -> None:
    """Created, won, lost and removed have these names; filters and Slack take the deals of all alike."""
    async with (
        serve(kind, options=Options(records=40, seed=5)) as sim,
        watching(connection, Keys(), kind=kind, url=sim.url, token=sim.token) as watched,
    ):
        found = await done(watched, sim, kind)
    assert set(found) == set(DONE)
    for verb, event in found.items():
        deal = event["data"]["deal"]
        assert set(deal) == set(Deal.model_fields)
        assert deal["status"] == STATUS[verb]
        assert deal["url"].startswith("http")
        if verb != "created":
            assert deal["client"]
            assert Decimal(deal["amount"]) >= 0
            assert compile_filter("deal.amount >= 0.0 && deal.client != ''")(event)
        assert compile_filter(f"type.endsWith('.{verb}') && deal.status == '{STATUS[verb]}'")(event)
        shown = message(Event(event["id"], event["type"], event["subject"], event["time"], dumps(event)))
        assert deal["name"] is None or deal["name"].split()[0] in str(shown)
