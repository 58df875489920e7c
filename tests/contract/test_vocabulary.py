"""One vocabulary over all sources: the same thing done in each CRM is called the same, and shown the same."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from given import GIVEN, HERE
from watching import Watched, watching

from poller.deliver.filters import compile_filter, wants_type
from poller.deliver.formats.slack import message
from poller.model import Deal, Event, dumps
from poller.simulators import Options, serve
from poller.store.connection import Connection
from poller.store.keys import Keys

DONE: Mapping[str, Callable[[Any], Any]] = {
    "created": lambda sim: GIVEN[sim.kind].make(sim),
    "removed": lambda sim: GIVEN[sim.kind].remove(sim),
    "won": lambda sim: sim.orders.win(GIVEN[sim.kind].deals(sim)[0]),
    "lost": lambda sim: sim.orders.lose(GIVEN[sim.kind].deals(sim)[1]),
}
STATUS = {"created": "open", "won": "won", "lost": "lost"}


async def done(watched: Watched, sim: Any) -> dict[str, dict[str, Any]]:
    """Let each of the four happen; verb -> the event that says it."""
    await watched.cycle_quietly()
    await watched.events()
    found: dict[str, dict[str, Any]] = {}
    for verb, order in DONE.items():
        order(sim)
        events: list[dict[str, Any]] = []
        for _ in range(2):  # an absence is asked again after the next sweep
            await watched.cycle_quietly()
            events += await watched.events()
        found[verb] = next(event for event in events if wants_type([f"*.{verb}"], event["type"]))
    return found


@pytest.mark.parametrize("kind", HERE)
async def test_the_same_is_called_the_same(kind: str, connection: Connection) -> None:
    """Created, won, lost and removed have these names; filters and Slack take the deals of all alike."""
    async with (
        serve(kind, options=Options(records=40, seed=5)) as sim,
        watching(connection, Keys(), kind=kind, url=sim.url, token=sim.token) as watched,
    ):
        found = await done(watched, sim)
    assert set(found) == set(DONE)
    for verb, event in found.items():
        deal = event["data"]["deal"]
        assert set(deal) == set(Deal.model_fields)
        assert deal["status"] == STATUS.get(verb, deal["status"])
        assert deal["url"].startswith("http")
        if verb in ("won", "lost"):
            assert deal["client"]
            assert Decimal(deal["amount"]) >= 0
            assert compile_filter("deal.amount >= 0.0 && deal.client != ''")(event)
        assert compile_filter(f"type.endsWith('.{verb}') && deal.status == '{deal['status']}'")(event)
        shown = message(Event(event["id"], event["type"], event["subject"], event["time"], dumps(event)))
        assert deal["name"] is None or deal["name"].split()[0] in str(shown)
