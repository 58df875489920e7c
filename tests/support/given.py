"""What the suite over all sources has to know of each API, and how it reads a list of a simulator."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from watching import FreeTicket

from poller.simulators import Options, serve
from poller.watch.sources import SOURCES, Account, Source
from poller.watch.sources.base import Page
from poller.watch.upstream import Upstream

RECORDS = 40


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the suite has to know of one API: a line for each source."""

    unknown: str
    """An id that no record has."""
    small_pages: Mapping[str, Any]
    """Switches of the simulator under which a list has several pages."""
    change: Callable[[Any], str]
    """Give an order that changes one record of the first list; its id."""
    forbid: Callable[[Any], Any]
    """Give the order after which the token is refused with 401 or 403."""
    allow: Callable[[Any], Any]
    """Undo that."""
    cap: str
    """The switch that says how many rows a page has at most."""
    money: str
    """The field of the first list that holds the amount."""
    price: Callable[[Any, str], str]
    """Give one record of the first list an amount, written as a decimal; its id."""
    won: Callable[[Any], str]
    """Enter one record in the first list and win it, while it stays listed; its id."""
    remove: Callable[[Any], str]
    """Delete one record of the first list; its id."""
    make: Callable[[Any], Any]
    """Give the order after which there is a new deal."""
    deals: Callable[[Any], list[Any]]
    """Deals with a client and an amount that can be won and lost, by the ids that orders take."""


def changed(entries: Any) -> str:
    """The id of the record that an order was about."""
    (entry, *_) = entries
    record: str = entry.subject.partition("/")[2]
    return record


def priced(sim: Any, record: Any, **fields: Any) -> str:
    """Give a record an amount, which it may have already; its id."""
    sim.orders.update(record, **fields)
    return str(record)


def won(sim: Any, entries: Any, made: Callable[[str], Any] = int) -> str:
    """Win what was just entered; its id."""
    record = changed(entries)
    sim.orders.win(made(record))
    return record


def open_deal(sim: Any) -> int:
    """A deal that can be edited."""
    rows = [row for name, row in sim.world.rows.items() if name.startswith("deal/")]
    return min(row.id for row in rows if not (row.archived or row.deleted))


GIVEN: Mapping[str, Given] = {
    "drum": Given(
        unknown="999999",
        small_pages={"items_cap": 7},
        change=lambda sim: changed(sim.orders.update(101, name="Otherwise")),
        forbid=lambda sim: sim.orders.archive_user(),
        allow=lambda sim: sim.orders.revive_user(),
        cap="items_cap",
        money="amount",
        price=lambda sim, amount: priced(sim, 101, amount=amount),
        won=lambda sim: won(sim, sim.set(conversion_after=None) and sim.orders.create_opportunity()),
        remove=lambda sim: changed(sim.orders.archive(101)),
        make=lambda sim: sim.orders.create_opportunity(name="Another"),
        deals=lambda sim: [
            row.id for row in sim.world.rows.values() if row.kind == "opportunity" and not row.archived
        ],
    ),
    "close": Given(
        unknown="oppo_thereisnosuch",
        small_pages={"limit_cap": 7, "rate_limit": None},
        change=lambda sim: changed(sim.orders.update(next(iter(sim.world.rows)), note="Otherwise")),
        forbid=lambda sim: sim.order("deactivate_user"),
        allow=lambda sim: sim.order("activate_user"),
        cap="limit_cap",
        money="value",
        price=lambda sim, amount: priced(sim, next(iter(sim.world.rows)), value=int(Decimal(amount) * 100)),
        won=lambda sim: won(sim, sim.orders.create(), str),
        remove=lambda sim: changed(sim.orders.delete(next(iter(sim.world.rows)))),
        make=lambda sim: sim.orders.create(),
        deals=lambda sim: [
            key
            for key in sim.world.rows
            if (seen := sim.world.state(key).known)["status_type"] == "active" and seen["value"] is not None
        ],
    ),
    "pipedrive": Given(
        unknown="999999",
        small_pages={"page_most": 7},
        change=lambda sim: changed(sim.orders.update(open_deal(sim), title="Otherwise")),
        forbid=lambda sim: sim.orders.expire_token(),
        allow=lambda sim: sim.orders.renew_token(),
        cap="page_most",
        money="value",
        price=lambda sim, amount: priced(sim, open_deal(sim), value=Decimal(amount)),
        won=lambda sim: won(sim, sim.orders.create()),
        remove=lambda sim: changed(sim.orders.delete(open_deal(sim))),
        make=lambda sim: sim.orders.create(title="Another"),
        deals=lambda sim: [
            row.id
            for row in sim.world.live("deal")
            if row.values["status"] == "open" and row.values["org_id"]
        ],
    ),
}
HERE = sorted(SOURCES.keys() & GIVEN.keys())


@asynccontextmanager
async def source(kind: str, *, token: str = "", pages: bool = True) -> AsyncIterator[tuple[Any, Source]]:
    """A simulator, and a source of its kind with its token or another."""
    switches = GIVEN[kind].small_pages if pages else {}
    async with serve(kind, options=Options(records=RECORDS, seed=4), **switches) as sim:
        made, secret = SOURCES[kind], token or sim.token
        upstream = Upstream(base_url=sim.url, auth=made.auth(secret), timeout_s=2)
        built = made(Account(name="acme", base_url=sim.url), upstream)
        try:
            yield sim, built
        finally:
            await built.close()


async def read(of: Source, name: str, *, since: str = "") -> list[Page]:
    """A list to its end."""
    async with aclosing(of.pages(name, size=500, ticket=FreeTicket(), since=since)) as pages:
        return [page async for page in pages]


def ids(pages: list[Page]) -> list[str]:
    """The ids of all pages, in their order."""
    return [record_id for page in pages for record_id in page.ids]


async def first_of(of: Source, name: str) -> str:
    """The id of one record of a list."""
    return ids(await read(of, name))[0]
