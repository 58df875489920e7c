"""What comes of every source, by the same suite: exact values, and absences that are judged rightly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from given import GIVEN, HERE, RECORDS, read, source
from watching import Watched, watching

from poller.errors import BadAnswer, Refused
from poller.model import dumps, loads
from poller.simulators import Options, serve
from poller.simulators.drum import today
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.diff import compare
from poller.watch.events import Known
from poller.watch.sources import SOURCES
from poller.watch.sources.base import MOST_NESTED, Kind, decoded

# --- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", ["1234.50", "0.10", "0.07", "98765432.01", "1.00", "0"])
@pytest.mark.parametrize("kind", HERE)
async def test_money_is_exact(kind: str, amount: str) -> None:
    """From the wire to the deal no amount ever was a float: cents and thousands stay what they are."""
    async with source(kind) as (sim, of):
        record_id = GIVEN[kind].price(sim, amount)
        each = of.kinds[of.lists[0]]
        for page in await read(of, each.name):
            for found, raw in zip(page.ids, page.raws, strict=True):
                row = decoded(each, raw)
                assert not [name for name, value in row.items() if isinstance(value, float)]
                if found == record_id:
                    assert each.deal is not None
                    deal = each.deal(Known(row=row), "open", "", page.names)
                    assert Decimal(deal["amount"] or "nan") == Decimal(amount)


@pytest.mark.parametrize("kind", HERE)
async def test_an_unknown_field_is_kept_and_compared(kind: str) -> None:
    """A revision of the API that says more is no fault, and what it says is told when it changes."""
    async with source(kind) as (_, of):
        for name in of.lists:
            (raw, *_), each = (await read(of, name))[0].raws, of.kinds[name]
            row = loads(bytes(raw))
            old, new = ({**row, "of_a_later_revision": {"level": n, "tags": ["a"]}} for n in (1, 2))
            known, seen = decoded(each, dumps(old)), decoded(each, dumps(new))
            assert known["of_a_later_revision"] == {"level": 1, "tags": ["a"]}
            assert compare(each.shape, known, seen).changed == ("of_a_later_revision",)
            assert compare(each.shape, decoded(each, raw), seen).changed == ()


@pytest.mark.parametrize("kind", HERE)
async def test_what_is_nested_too_deep_to_be_compared_is_no_answer(kind: str) -> None:
    """A record of 700 levels is a fault that says so; the deepest that is taken is compared."""
    async with source(kind) as (_, of):
        for name in of.lists:
            (raw, *_), each = (await read(of, name))[0].raws, of.kinds[name]
            row = loads(bytes(raw))

            def nested(levels: int, leaf: str, row: Any = row) -> bytes:
                return dumps(row)[:-1] + b',"deep":' + b"[" * levels + leaf.encode() + b"]" * levels + b"}"

            with pytest.raises(BadAnswer, match=f"a {name} is nested deeper than 100 levels"):
                decoded(each, nested(700, "1"))
            with pytest.raises(BadAnswer, match="nested deeper"):
                decoded(each, nested(MOST_NESTED, "1"))
            known, seen = (decoded(each, nested(MOST_NESTED - 1, leaf)) for leaf in "12")
            assert compare(each.shape, known, seen).changed == ("deep",)


@pytest.mark.parametrize("kind", HERE)
async def test_a_missing_field_is_no_fault_and_no_change(kind: str) -> None:
    """Every documented field but the id may be left out: it is unknown then, not cleared."""
    async with source(kind) as (_, of):
        for name in of.lists:
            (raw, *_), each = (await read(of, name))[0].raws, of.kinds[name]
            row = decoded(each, raw)
            for field in row.keys() - {"id"} - required(each):
                less = decoded(each, dumps({key: value for key, value in row.items() if key != field}))
                diff = compare(each.shape, row, less)
                assert (diff.changed, diff.renames) == ((), ()), field


def required(kind: Kind) -> set[str]:
    """What a record cannot be without."""
    return {name for name, field in kind.model.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("kind", HERE)
async def test_rows_of_a_list_have_the_same_keys(kind: str) -> None:
    """A key that one row lacks would be a hidden field: only the account's own are left out where empty."""
    async with source(kind) as (_, of):
        for name in of.lists:
            each = of.kinds[name]
            rows = [decoded(each, raw) for page in await read(of, name) for raw in page.raws]
            keys = {frozenset(key for key in row if not is_own(each, key)) for row in rows}
            assert len(keys) == 1
            assert required(each) <= keys.pop()


def is_own(kind: Kind, key: str) -> bool:
    """Whether a key is the account's own: a custom field, left out where it has no value."""
    return bool(kind.shape.optional) and key.startswith(kind.shape.optional)


# --- absence, told by the wing that uses the source ---------------------------------------------------


@asynccontextmanager
async def watched(kind: str, store: Connection) -> AsyncIterator[tuple[Any, Watched]]:
    """A simulator and the wing that watches it, after the baseline."""
    async with (
        serve(
            kind, options=Options(records=RECORDS, seed=4, today=today()), **GIVEN[kind].small_pages
        ) as sim,
        watching(store, Keys(), kind=kind, url=sim.url, token=sim.token) as seen,
    ):
        assert await seen.cycle() == [("poller.source.baseline_completed", "source/acme")]
        yield sim, seen


async def told(seen: Watched, cycles: int = 3) -> list[str]:
    """Suffixes of the events of records that some cycles tell."""
    found = [each for _ in range(cycles) for each in await seen.cycle()]
    return [kind.rpartition(".")[2] for kind, subject in found if not subject.startswith("source/")]


@pytest.mark.parametrize("kind", HERE)
async def test_what_is_here_is_not_gone(kind: str, fakestore: Connection) -> None:
    """A record that a reading did not show answers by its id: nothing is said of it."""
    async with watched(kind, fakestore) as (sim, seen):
        sim.fail_next("empty", times=1)
        assert await told(seen) == []


@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("kind", HERE)
async def test_an_empty_page_amid_the_first_reading_makes_nobody_new(
    kind: str, nth: int, fakestore: Connection
) -> None:
    """One answer that says it is the end: what lies behind was there all the time, and is no news later."""
    options, switches = Options(records=RECORDS, seed=4, today=today()), GIVEN[kind].small_pages
    async with (
        serve(kind, options=options, **switches) as sim,
        watching(fakestore, Keys(), kind=kind, url=sim.url, token=sim.token) as seen,
    ):
        pages = list[str]()

        async def spoil(asked: Any) -> None:
            pages.extend([asked.path] if not pages or asked.path == pages[0] else [])
            if asked.path == pages[0] and len(pages) == nth:
                sim.fail_next("empty")

        sim.between(before=spoil)
        await seen.cycle_quietly()
        sim.between()
        for _ in range(2):
            await seen.cycle_quietly()
        (event,) = await seen.events()
        assert event["type"] == "poller.source.baseline_completed"
        listed = {each: len(await seen.session.snapshots.listed_ids(each)) for each in SOURCES[kind].lists}
        assert event["data"]["object"]["counts"] == listed
        assert len(pages) > nth


@pytest.mark.parametrize("kind", HERE)
async def test_what_is_gone_is_removed_once(kind: str, fakestore: Connection) -> None:
    """By 404, by a tombstone, by a log: each API says it in its way."""
    async with watched(kind, fakestore) as (sim, seen):
        GIVEN[kind].remove(sim)
        assert await told(seen) == ["removed"]


@pytest.mark.parametrize("kind", HERE)
async def test_what_may_not_be_read_is_not_gone(kind: str, fakestore: Connection) -> None:
    """401 and 403, for the lists or by id, remove nothing; when the token is good again all is as it was."""
    async with watched(kind, fakestore) as (sim, seen):
        GIVEN[kind].forbid(sim)
        for _ in range(2):
            with pytest.raises(Refused):
                await seen.sweep()
        assert await seen.told() == []
        GIVEN[kind].allow(sim)
        assert await told(seen) == []


@pytest.mark.parametrize("fault", ["http500", "html200", "truncated", "reset"])
@pytest.mark.parametrize("kind", HERE)
async def test_what_cannot_be_known_is_not_gone(kind: str, fault: str, fakestore: Connection) -> None:
    """While nothing but faults answers nothing is said; then what is gone is removed, once."""
    async with watched(kind, fakestore) as (sim, seen):
        GIVEN[kind].remove(sim)
        sim.set(faults=(fault,), fault_rate=1.0)
        assert await told(seen) == []
        sim.set(fault_rate=0.0)
        assert await told(seen) == ["removed"]


@pytest.mark.parametrize("kind", HERE)
async def test_what_moved_to_the_sibling_list_is_told_so(kind: str, fakestore: Connection) -> None:
    """Where a record changes its list on being won, it is won and created there, and never removed."""
    siblings = [each for each in SOURCES[kind].kinds.values() if each.sibling and each.judged]
    async with watched(kind, fakestore) as (sim, seen):
        for _ in siblings:
            sim.orders.win(101)
            assert await told(seen) == ["won", "created"]
        assert bool(siblings) == (kind == "drum")


@pytest.mark.parametrize("kind", HERE)
async def test_a_change_is_told_once_with_both_values(kind: str, fakestore: Connection) -> None:
    """The amount before and after, exact, and between the two requests that saw them."""
    async with watched(kind, fakestore) as (sim, seen):
        GIVEN[kind].price(sim, "10.10")
        await seen.cycle_quietly()
        await seen.events()
        record_id = GIVEN[kind].price(sim, "20.20")
        await seen.cycle_quietly()
        (event,) = await seen.events()
        assert event["subject"].endswith(f"/{record_id}")
        assert Decimal(event["data"]["deal"]["amount"]) == Decimal("20.20")
        field = GIVEN[kind].money
        assert field in event["data"]["changed"]
        scale = Decimal(str(event["data"]["object"][field])) / Decimal("20.20")
        assert Decimal(str(event["data"]["previous"][field])) == Decimal("10.10") * scale
        observed = event["data"]["observed"]
        assert observed["not_before"] < observed["not_after"]


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("kind", HERE)
async def test_what_was_entered_and_won_in_a_gap_is_told_both(
    kind: str, count: int, fakestore: Connection
) -> None:
    """However many came at once: each is created and won, and neither is told twice."""
    async with watched(kind, fakestore) as (sim, seen):
        made = {GIVEN[kind].won(sim) for _ in range(count)}
        await seen.restart()
        for _ in range(3):
            await seen.cycle_quietly()
        found = await seen.told()
        assert len(found) == len(set(found)) == 2 * count
        for suffix in ("created", "won"):
            ids = {subject.partition("/")[2] for what, subject in found if what.endswith(f".{suffix}")}
            assert ids == made
