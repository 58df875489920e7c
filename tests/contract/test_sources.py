"""What every source must do, whatever its API is: one suite over the registry, against its simulator."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from watching import FreeTicket

from poller.errors import BadAnswer, Refused, Unreachable, UpstreamError
from poller.model import Deal
from poller.simulators import Options, serve
from poller.watch.events import Known
from poller.watch.sources import SOURCES, Account, Source
from poller.watch.sources.base import Missing, Page, Reading, decoded
from poller.watch.upstream import Upstream

RECORDS = 40
MEANINGS = (None, "open", "won", "lost")


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


def changed(entries: Any) -> str:
    """The id of the record that an order was about."""
    (entry, *_) = entries
    record: str = entry.subject.partition("/")[2]
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
    ),
    "close": Given(
        unknown="oppo_thereisnosuch",
        small_pages={"limit_cap": 7, "rate_limit": None},
        change=lambda sim: changed(sim.orders.update(next(iter(sim.world.rows)), note="Otherwise")),
        forbid=lambda sim: sim.order("deactivate_user"),
    ),
    "pipedrive": Given(
        unknown="999999",
        small_pages={"page_most": 7},
        change=lambda sim: changed(sim.orders.update(open_deal(sim), title="Otherwise")),
        forbid=lambda sim: sim.orders.expire_token(),
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
        built = made(Account(name="acme", base_url=sim.url, token=secret), upstream)
        try:
            yield sim, built
        finally:
            await built.close()


async def read(of: Source, name: str, *, since: str = "") -> list[Page]:
    """A list to its end."""
    async with aclosing(of.pages(name, size=500, ticket=FreeTicket(), since=since)) as pages:
        return [page async for page in pages]


async def believe(of: Source, name: str) -> None:
    """Read a list to its end, and decode every row of it."""
    for page in await read(of, name):
        for raw in page.raws:
            decoded(of.kinds[name], raw)


async def exhaust(pages: AsyncIterator[Page]) -> None:
    """Read on to the end."""
    async for _ in pages:
        continue


def ids(pages: list[Page]) -> list[str]:
    """The ids of all pages, in their order."""
    return [record_id for page in pages for record_id in page.ids]


async def first_of(of: Source, name: str) -> str:
    """The id of one record of a list."""
    return ids(await read(of, name))[0]


def test_every_source_is_in_the_suite() -> None:
    """A line in the registry needs a line here."""
    assert set(SOURCES) == set(GIVEN)


@pytest.mark.parametrize("kind", HERE)
def test_the_words_of_a_source_fit_together(kind: str) -> None:
    """Lists and siblings are kinds, types begin with the source's name, verdicts are types it names."""
    made = SOURCES[kind]
    assert made.lists
    assert set(made.lists) <= set(made.kinds)
    for name, each in made.kinds.items():
        assert each.name == name
        assert each.type_prefix == f"{kind}.{name}"
        assert each.sibling in ("", *made.lists)
        assert each.listed == (name in made.lists)
        assert len(set(each.suffixes)) == len(each.suffixes)
        assert {"updated", "removed"} <= set(each.suffixes)
        assert each.listed == ({"created", "appeared"} <= set(each.suffixes))
        assert not each.judged or {"won", "lost", "reopened"} <= set(each.suffixes)
    assert sum(each.judged for each in made.kinds.values()) == 1


@pytest.mark.parametrize("kind", HERE)
async def test_a_list_is_read_to_its_end_once(kind: str) -> None:
    """At least one page; every record, none twice; the moments of its request."""
    async with source(kind) as (_, of):
        for name in of.lists:
            pages = await read(of, name)
            found = ids(pages)
            assert pages
            assert found
            assert len(set(found)) == len(found)
            assert all(len(page.ids) == len(page.raws) and page.whole for page in pages)
            assert all(page.started <= page.ended for page in pages)
            assert sorted(found) == sorted(ids(await read(of, name)))


@pytest.mark.parametrize("kind", HERE)
async def test_rows_are_what_is_documented(kind: str) -> None:
    """Every row of the simulator passes its model, has its own id, and says what it may of a deal."""
    async with source(kind) as (_, of):
        for name in of.lists:
            for page in await read(of, name):
                for record_id, raw in zip(page.ids, page.raws, strict=True):
                    row = decoded(of.kinds[name], raw)
                    assert str(row["id"]) == record_id
                    assert of.kinds[name].rank(record_id, row) > 0
                    assert of.judge(row).meaning in MEANINGS


@pytest.mark.parametrize("kind", HERE)
async def test_a_record_is_read_by_its_id(kind: str) -> None:
    """The detail view of what is listed; 404 where there is none, whatever its body."""
    async with source(kind) as (_, of):
        for name in of.lists:
            record_id = await first_of(of, name)
            reading = await of.read(name, record_id, ticket=FreeTicket())
            assert isinstance(reading, Reading)
            assert str(reading.view["id"]) == record_id
            assert reading.started <= reading.ended
            missing = await of.read(name, GIVEN[kind].unknown, ticket=FreeTicket())
            assert isinstance(missing, Missing)


@pytest.mark.parametrize("kind", HERE)
async def test_dates_that_rows_lack_are_in_the_detail_view(kind: str) -> None:
    """Where a change of status waits for the detail view, that view tells what the deal is."""
    async with source(kind) as (_, of):
        for name in (name for name in of.lists if of.kinds[name].echoes and of.kinds[name].judged):
            reading = await of.read(name, await first_of(of, name), ticket=FreeTicket())
            assert isinstance(reading, Reading)
            assert of.judge(reading.view).meaning is not None
            assert of.kinds[name].echoes <= reading.view.keys()


@pytest.mark.parametrize("kind", HERE)
async def test_nested_records_are_records_of_their_own(kind: str) -> None:
    """Each of a known kind, with an id of its own and its parent named; the rest is the parent's."""
    async with source(kind) as (_, of):
        for name in of.lists:
            for record_id in ids(await read(of, name))[:10]:
                reading = await of.read(name, record_id, ticket=FreeTicket())
                assert isinstance(reading, Reading)
                own, children = of.nested(reading.view)
                assert own.keys() <= reading.view.keys()
                assert len({(child.kind, child.id) for child in children}) == len(children)
                for child in children:
                    assert not of.kinds[child.kind].listed
                    assert str(child.view["id"]) == child.id
                    assert child.view["parent"] == f"{name}/{record_id}"


@pytest.mark.parametrize("kind", HERE)
async def test_a_person_finds_the_record(kind: str) -> None:
    """An address with the record's id in it, and no token."""
    async with source(kind) as (sim, of):
        for name in of.lists:
            record_id = await first_of(of, name)
            url = of.url(name, record_id)
            assert url.startswith(("http://", "https://"))
            assert record_id in url or kind == "close"
            assert sim.token not in url


@pytest.mark.parametrize("kind", HERE)
async def test_the_deal_is_the_same_small_view_for_every_source(kind: str) -> None:
    """Eight strings or nulls; amounts are decimals without an exponent, a deal is in one of three states."""
    async with source(kind) as (_, of):
        for name in of.lists:
            each = of.kinds[name]
            for page in await read(of, name):
                for record_id, raw in zip(page.ids, page.raws, strict=True):
                    known = Known(row=decoded(each, raw))
                    meaning = of.judge(known.row).meaning or "open"
                    assert each.deal is not None
                    deal = each.deal(known, meaning, of.url(name, record_id), page.names)
                    assert set(deal) == set(Deal.model_fields)
                    assert all(value is None or isinstance(value, str) for value in deal.values())
                    assert deal["status"] in MEANINGS[1:] if each.judged else deal["status"]
                    assert deal["name"]
                    if deal["amount"] is not None:
                        assert Decimal(deal["amount"]).is_finite()
                        assert "E" not in deal["amount"].upper()


@pytest.mark.parametrize("fault", ["html200", "truncated", "object", "wrong_types", "gzip_twice"])
@pytest.mark.parametrize("kind", HERE)
async def test_an_answer_that_cannot_be_believed_is_refused(kind: str, fault: str) -> None:
    """HTML with 200, half a JSON, the wrong shape, wrong types, a bomb: a fault, and no page of it."""
    async with source(kind) as (sim, of):
        record_id = await first_of(of, of.lists[0])
        sim.set(faults=(fault,), fault_rate=1.0, fault_size=1 << 26)
        for name in of.lists:
            with pytest.raises(BadAnswer):
                await believe(of, name)
        with pytest.raises(BadAnswer):
            await of.read(of.lists[0], record_id, ticket=FreeTicket())


@pytest.mark.parametrize("fault", ["http500", "http502", "reset", "cut"])
@pytest.mark.parametrize("kind", HERE)
async def test_no_answer_is_unreachable(kind: str, fault: str) -> None:
    """5xx and broken connections say nothing of any record."""
    async with source(kind) as (sim, of):
        record_id = await first_of(of, of.lists[0])
        sim.set(faults=(fault,), fault_rate=1.0)
        for name in of.lists:
            with pytest.raises(Unreachable):
                await read(of, name)
        with pytest.raises(Unreachable):
            await of.read(of.lists[0], record_id, ticket=FreeTicket())


@pytest.mark.parametrize("kind", HERE)
async def test_a_page_that_fails_in_the_middle_ends_the_list_with_a_fault(kind: str) -> None:
    """Never quietly: a list that was cut short must not look complete."""
    async with source(kind) as (sim, of):
        pages = of.pages(of.lists[0], size=500, ticket=FreeTicket())
        async with aclosing(pages):
            assert (await anext(pages)).ids
            sim.set(faults=("html200",), fault_rate=1.0)
            with pytest.raises(UpstreamError):
                await exhaust(pages)


@pytest.mark.parametrize("kind", HERE)
async def test_a_wrong_token_is_refused(kind: str) -> None:
    """401: the source is suspended, and no list is empty because of it."""
    async with source(kind, token="no_such_token") as (_, of):
        for name in of.lists:
            with pytest.raises(Refused) as refused:
                await read(of, name)
            assert refused.value.status in (401, 403)
            assert "no_such_token" not in str(refused.value)


@pytest.mark.parametrize("kind", HERE)
async def test_a_token_that_may_no_longer_read_is_refused(kind: str) -> None:
    """While it was read before: the list is refused, not empty."""
    async with source(kind) as (sim, of):
        await read(of, of.lists[0])
        GIVEN[kind].forbid(sim)
        with pytest.raises(Refused):
            await read(of, of.lists[0])
        with pytest.raises(Refused):
            await of.read(of.lists[0], GIVEN[kind].unknown, ticket=FreeTicket())


@pytest.mark.parametrize("kind", HERE)
async def test_a_token_is_in_the_headers_alone(kind: str) -> None:
    """Neither in an address, where logs would keep it, nor in any repr."""
    async with source(kind) as (sim, of):
        for name in of.lists:
            await read(of, name)
        assert not [asked for asked in sim.requests if sim.token in asked.query + asked.path]
        account = Account(name="acme", base_url=sim.url, token=sim.token)
        assert sim.token not in repr(account)


@pytest.mark.parametrize("kind", HERE)
async def test_a_reading_goes_on_from_its_cursor(kind: str) -> None:
    """Where the API can be asked for changes: what changed since is shown, and not all the rest."""
    async with source(kind) as (sim, of):
        name = of.lists[0]
        if not of.kinds[name].whole_every_s:
            assert all(page.cursor == "" for page in await read(of, name))
            return
        whole = await read(of, name)
        cursor = whole[-1].cursor
        assert cursor
        record_id = GIVEN[kind].change(sim)
        later = await read(of, name, since=cursor)
        assert later
        assert not any(page.whole for page in later)
        assert record_id in ids(later)
        assert later[-1].cursor
        assert ids(await read(of, name, since=cursor)) == ids(later)


@pytest.mark.parametrize("kind", HERE)
async def test_a_cursor_that_means_nothing_reads_everything(kind: str) -> None:
    """One of another version, or damaged: a whole reading, never a fault and never an empty one."""
    async with source(kind) as (_, of):
        name = of.lists[0]
        whole, found = await read(of, name), await read(of, name, since="what is this?")
        assert sorted(ids(found)) == sorted(ids(whole))
        assert all(page.whole for page in found)
