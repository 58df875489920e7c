"""What every source must do, whatever its API is: one suite over the registry, against its simulator."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal

import pytest
from given import GIVEN, HERE, first_of, ids, read, source
from watching import FreeTicket

from poller.errors import BadAnswer, Refused, Unreachable, UpstreamError
from poller.model import Deal
from poller.watch.events import Known
from poller.watch.sources import SOURCES, Account, Source
from poller.watch.sources.base import Missing, Page, Reading, decoded

MEANINGS = (None, "open", "won", "lost")


async def believe(of: Source, name: str) -> None:
    """Read a list to its end, and decode every row of it."""
    for page in await read(of, name):
        for raw in page.raws:
            decoded(of.kinds[name], raw)


async def exhaust(pages: AsyncIterator[Page]) -> None:
    """Read on to the end."""
    async for _ in pages:
        continue


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
        assert len(set(each.suffixes)) == len(each.suffixes)
        assert {"updated", "removed"} <= set(each.suffixes)
        assert (name in made.lists) == ({"created", "appeared"} <= set(each.suffixes))
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
                own, children, hidden = of.nested(reading.view)
                assert own.keys() <= reading.view.keys()
                assert not hidden
                assert len({(child.kind, child.id) for child in children}) == len(children)
                for child in children:
                    assert child.kind not in of.lists
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
        account = Account(name="acme", base_url=sim.url)
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


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["one page", "the last page full", "the last page of one", "one a page"])
@pytest.mark.parametrize("kind", HERE)
async def test_wherever_a_page_ends_the_list_is_whole(kind: str, rows: str) -> None:
    """First page, last page, past the end: the same records however the server cuts them."""
    async with source(kind, pages=False) as (sim, of):
        for name in of.lists:
            sim.set(**{GIVEN[kind].cap: 100})
            found = sorted(ids(await read(of, name)))
            half = len(found) // 2
            cuts = {"one page": len(found), "the last page full": half, "one a page": 1}
            sim.set(**{GIVEN[kind].cap: cuts.get(rows, len(found) - 1)})
            assert len(found) == 2 * half or rows != "the last page full"
            pages = await read(of, name)
            assert sorted(ids(pages)) == found
            assert all(page.ids for page in pages[:1])


@pytest.mark.parametrize("kind", HERE)
async def test_an_empty_list_is_a_page_without_records(kind: str) -> None:
    """Not a fault, and not nothing: the sweep was complete."""
    async with source(kind) as (sim, of):
        sim.set(faults=("empty",), fault_rate=1.0)
        for name in of.lists:
            pages = await read(of, name)
            assert pages
            assert ids(pages) == []
            assert all(page.whole for page in pages)


# --- what is paid -----------------------------------------------------------------------------------


class CountedTicket(FreeTicket):
    """Counts how often it was used, whatever that cost."""

    uses = 0

    async def use(self, cost: int = 1) -> None:
        """Always allowed, and noted."""
        assert cost >= 1
        self.uses += 1
        await super().use(cost)


@pytest.mark.parametrize("kind", HERE)
async def test_every_request_is_paid_from_its_ticket(kind: str) -> None:
    """Names, logs, pages past the end, refusals and faults too: the host counts them all."""
    async with source(kind) as (sim, of):
        ticket = CountedTicket()
        for name in of.lists:
            async with aclosing(of.pages(name, size=500, ticket=ticket)) as pages:
                record_id = ids([page async for page in pages])[0]
            await of.read(name, record_id, ticket=ticket)
            await of.read(name, GIVEN[kind].unknown, ticket=ticket)
            assert ticket.uses == len(sim.requests)
        for fault in ("http502", "reset", "html200"):
            sim.fail_next(fault)
            with pytest.raises(UpstreamError):
                await of.read(of.lists[0], record_id, ticket=ticket)
        GIVEN[kind].forbid(sim)
        with pytest.raises(Refused):
            await of.read(of.lists[0], record_id, ticket=ticket)
        assert ticket.uses == len(sim.requests)
        assert ticket.spent >= ticket.uses
