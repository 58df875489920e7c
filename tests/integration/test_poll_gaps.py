"""What comes in a mass: after a gap of days, an import, a wider role. No win is lost of it, none made up."""

from collections import Counter
from typing import Any

import pytest
from watching import Watched, drum

from poller.simulators.drum import World, today
from poller.store.connection import Connection
from poller.watch.poll import JUDGED_AT_ONCE
from poller.watch.session import SAMPLES

MANY = 50
DAYS_3_S = 3 * 86_400


def account(deals: int = 12) -> World:
    """An account of today, whose dates are those of the clock."""
    world = World(today=today())
    world.populate(opportunities=deals, projects=4)
    return world


def entered(sim: Any, count: int = MANY) -> list[str]:
    """New deals; their ids."""
    made = [sim.orders.create_opportunity(name=f"Deal {n}")[0].subject for n in range(count)]
    return [subject.partition("/")[2] for subject in made]


async def wakes(watched: Watched) -> None:
    """Whoever polls comes back after three days, and knows only what Redis keeps."""
    await watched.restart()
    later = watched.session.now
    watched.session.now = lambda: later() + DAYS_3_S


async def counted(watched: Watched) -> Counter[str]:
    """How often each type was told since the last call."""
    return Counter(kind.removeprefix("drum.") for kind, _ in await watched.told())


def broken_after_a_page(sim: Any) -> Any:
    """A hook: whoever asks for a second page of opportunities meets a limit."""

    async def before(asked: Any) -> None:
        if asked.path.endswith("/opportunities") and "page=2&" in f"{asked.query}&":
            sim.fail_next("http503", path="/opportunities")

    return before


def readings(sim: Any) -> int:
    """How many records were read by their id so far."""
    return sum(each.path.rpartition("/")[2].isdigit() for each in sim.requests)


@pytest.mark.parametrize("listed", [False, True], ids=["converted", "still listed"])
async def test_many_deals_won_in_an_outage_are_all_told(connection: Connection, listed: bool) -> None:
    """Fifty of sixty known deals: a hold does not keep one of the wins, and none is told twice."""
    after = {"conversion_after": None if listed else 0}
    async with drum(connection, world=account(60), **after) as (sim, watched):
        await watched.events()
        won = [row.id for row in sim.world.live("opportunity")][:MANY]
        for record in won:
            sim.orders.win(record)
        await wakes(watched)
        for _ in range(4):
            await watched.sweep()
        told = await watched.told()
        assert Counter(subject for kind, subject in told if kind == "drum.opportunity.won") == Counter(
            f"opportunity/{record}" for record in won
        )
        assert sum(kind == "drum.project.created" for kind, _ in told) == (0 if listed else MANY)
        assert not [kind for kind, _ in told if kind.endswith((".removed", ".lost"))]
        assert await watched.cycle() == []


@pytest.mark.parametrize("details", [True, False])
async def test_many_deals_entered_and_won_in_a_gap_are_all_told(
    connection: Connection, details: bool
) -> None:
    """Each is created and won, twenty read by their id in a sweep, and a crash in between loses none."""
    manner = {"details": details}
    async with drum(connection, world=account(), manner=manner, conversion_after=None) as (sim, watched):
        await watched.events()
        for record in entered(sim):
            sim.orders.win(int(record))
        await wakes(watched)
        for _ in range(3):
            before = readings(sim)
            await watched.poll.sweep("opportunity")
            assert readings(sim) - before <= JUDGED_AT_ONCE + SAMPLES
            await watched.restart()
        assert await counted(watched) == {"opportunity.created": MANY, "opportunity.won": MANY}
        assert await watched.cycle() == []


async def test_pages_with_tags_put_off_no_win(connection: Connection) -> None:
    """What twenty readings a sweep left over is read after the next, though no row of it has changed."""
    async with drum(connection, world=account(), conversion_after=None, etag=True) as (sim, watched):
        await watched.sweep()
        await watched.events()
        for record in entered(sim):
            sim.orders.win(int(record))
        for _ in range(3):
            await watched.poll.sweep("opportunity")
        assert await counted(watched) == {"opportunity.created": MANY, "opportunity.won": MANY}


async def test_what_waits_to_be_read_changes_like_any_other(connection: Connection) -> None:
    """A new name of one whose win is still to be read is told at once, its win after it."""
    manner = {"details": False}
    async with drum(connection, world=account(), manner=manner, conversion_after=None) as (sim, watched):
        records = entered(sim)
        for record in records:
            sim.orders.win(int(record))
        await watched.poll.sweep("opportunity")
        waiting = set(records) - {
            subject.partition("/")[2] for kind, subject in await watched.told() if kind.endswith(".won")
        }
        sim.orders.update(int(max(waiting, key=int)), name="Otherwise")
        for _ in range(3):
            await watched.poll.sweep("opportunity")
        told = await counted(watched)
        assert told == {"opportunity.updated": 1, "opportunity.won": len(waiting)}


async def test_a_win_of_one_that_could_not_be_read_is_told_by_a_later_sweep(connection: Connection) -> None:
    """Without details nobody else reads it: neither a failing answer nor a restart makes the win lost."""
    manner = {"details": False}
    async with drum(connection, world=account(), manner=manner, conversion_after=None) as (sim, watched):
        await watched.events()
        (record,) = entered(sim, 1)
        sim.orders.win(int(record))
        sim.set(faults=("http502",), fault_rate=1.0, fault_path=f"/{record}")
        await watched.poll.sweep("opportunity")
        assert await counted(watched) == {"opportunity.created": 1}
        sim.set(fault_rate=0.0)
        await watched.restart()
        await watched.poll.sweep("opportunity")
        assert await counted(watched) == {"opportunity.won": 1}


async def test_a_loss_that_could_not_be_read_is_told_by_a_later_sweep(connection: Connection) -> None:
    """Also where no record taught yet what the status means, without details, and after a restart."""
    world = World(today=today())
    async with drum(connection, world=world, manner={"details": False}) as (sim, watched):
        await watched.events()
        sim.orders.lose(101)
        sim.set(faults=("http502",), fault_rate=1.0, fault_path="/101")
        await watched.poll.sweep("opportunity")
        assert await counted(watched) == {"opportunity.status_changed": 1}
        sim.set(fault_rate=0.0)
        await watched.restart()
        await watched.poll.sweep("opportunity")
        assert await counted(watched) == {"opportunity.lost": 1}


async def test_many_projects_that_were_deals_in_a_gap_are_all_told(connection: Connection) -> None:
    """Entered, won and converted while nobody looked: a project shows no sale, so each is created, once."""
    async with drum(connection, world=account()) as (sim, watched):
        await watched.events()
        for record in entered(sim):
            sim.orders.win(int(record))
        await wakes(watched)
        assert await watched.sweep()
        events = await watched.events()
        assert {event["type"] for event in events} == {"drum.project.created"}
        assert len({event["subject"] for event in events}) == len(events) == MANY
        assert all(event["data"]["deal"]["name"] for event in events)
        assert await watched.cycle() == []


async def test_many_that_were_won_before_they_came_are_no_news(connection: Connection) -> None:
    """A wider role or an import shows old deals above the highest id: the date of their win tells."""
    async with drum(connection, records=12, conversion_after=None) as (sim, watched):
        await watched.events()
        for record in entered(sim):
            sim.orders.win(int(record))
        assert f"{sim.world.today}" < f"{today()}"
        for _ in range(4):
            await watched.cycle_quietly()
        assert await counted(watched) == {"opportunity.created": MANY}
        sim.orders.convert(int(record))
        assert await watched.cycle() == [("drum.project.created", f"project/{record}")]


async def test_an_import_of_old_wins_is_no_news_also_where_its_reading_broke_off(
    connection: Connection,
) -> None:
    """Some are read by their id, and the rest is swept, before anybody has seen how many came."""
    async with drum(connection, records=12, conversion_after=None, items_cap=30) as (sim, watched):
        await watched.events()
        for record in entered(sim):
            sim.orders.win(int(record))
        sim.between(before=broken_after_a_page(sim))
        await watched.sweep()
        sim.between()
        assert "opportunity.created" in await counted(watched)
        await watched.details()
        for _ in range(4):
            await watched.cycle_quietly()
        assert set(await counted(watched)) == {"opportunity.created"}


async def test_many_that_reached_an_operators_status_without_a_date_are_told(connection: Connection) -> None:
    """Where no date says otherwise a created deal in a won status is won: a missed win is a lost invoice."""
    given = {"won_statuses": frozenset({"Negotiation"})}
    hidden = ("deal_won_date", "deal_lost_date")
    async with drum(connection, world=account(), account=given, hidden_keys=hidden) as (sim, watched):
        await watched.events()
        for record in entered(sim, 30):
            sim.orders.set_status(int(record), 3)
        for _ in range(3):
            await watched.cycle_quietly()
        assert await counted(watched) == {"opportunity.created": 30, "opportunity.won": 30}


async def test_a_win_of_a_deal_that_came_won_has_the_bounds_of_its_coming(connection: Connection) -> None:
    """It lies between the last sweep without the deal and the answer that told, not between 1970 and now."""
    async with drum(connection, conversion_after=None) as (sim, watched):
        await watched.sweep()
        await watched.events()
        (record,) = entered(sim, 1)
        sim.orders.win(int(record))
        before = readings(sim)
        await watched.poll.sweep("opportunity")
        created, won = await watched.events()
        assert won["type"] == "drum.opportunity.won"
        assert won["data"]["observed"]["not_before"] == created["data"]["observed"]["not_before"]
        assert won["data"]["observed"]["not_after"] > created["data"]["observed"]["not_after"]
        assert readings(sim) - before <= 2  # to tell, and to learn the status
        assert not watched.session.urgent
