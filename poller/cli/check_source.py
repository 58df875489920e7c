"""One source as `poller check` sees it: what its token may read, how large it is, how fast it can be read."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from poller.app.forecast import HostLimit, Load, advice, reckon, requests_of
from poller.app.status import Inspector, detailed_kinds, load_of, same_host, sweeps_of, unit_of
from poller.app.wiring import limiter_of, manner_of, source_of
from poller.config import SourceSettings
from poller.errors import BadAnswer, Limited, PollerError, Refused, StoreError, Unreachable
from poller.store.snapshots import Snapshots
from poller.watch import page_size
from poller.watch.limiter import RateLimiter
from poller.watch.sources import SOURCES, Source
from poller.watch.sources.base import Day, LeftOut, Page, Reading, decoded
from poller.web.words import span

from .connect import Store, patience

WAIT_S = 60.0
"""How long one request may take to be allowed and answered."""
PROBED = 2
"""Pages of a list that is always read in whole, by which its cost is reckoned."""
DAY_S = 86_400.0
OURS = 0.75
"""Of what an account may use in a day: the rest is for whatever else asks it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was looked at."""

    step: str
    state: Literal["ok", "warning", "failed"]
    said: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


Tell: TypeAlias = Callable[[Step], None]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One list, by its first page (and its second, where that tells more) and one detail."""

    kind: str
    records: int
    exact: bool
    """False: there are more than that."""
    page: int
    """Rows of the first page."""
    asked: int
    pages: int
    sweep: int
    """What a sweep of it takes, in what the budget counts: pages, or what they cost where that is tokens."""
    day: Day | None
    """What the API said of the account's day."""
    fields: tuple[str, ...]
    hidden: tuple[str, ...]
    """Documented amounts and counters that neither view shows."""
    missed: bool
    """Whether the main amounts are among them: events would carry no money."""
    page_ms: int
    detail_ms: int | None


async def look_at_source(store: Store, name: str, tell: Tell) -> None:
    """Call one source, and reckon what reading it takes.

    Raises:
        StoreError: Redis was lost meanwhile, which is no fault of the source.
    """
    given = store.settings.sources[name]
    step = f"source {name}"
    source = source_of(name, given)
    try:
        limiter = limiter_of(name, given, store.connection, store.keys)
        seen = [
            each for kind in source.lists if (each := await _seen(store, name, source, limiter, kind, tell))
        ]
    except StoreError:
        raise
    except (PollerError, TimeoutError) as exc:
        tell(Step(step=step, state="failed", said=str(exc) or _late(), remedy=_remedy(exc, name)))
        return
    finally:
        await source.close()
    for each in seen:
        _tell_list(step, each, tell)
    await _tell_pace(store, name, seen, tell)


def _late() -> str:
    return f"no request was allowed and answered within {WAIT_S:g} s: the budget may be used up"


def _remedy(exc: BaseException, name: str) -> str:
    where = f"[sources.{name}]"
    match exc:
        case Refused(status=401):
            return f"put a valid token into {where}"
        case Refused():
            return "give the token's user the right to read the API, or use another's token"
        case Limited() | TimeoutError():
            return "wait that long; `poller status` shows the budget, and lowering it avoids this"
        case Unreachable():
            return f"check base_url and proxy of {where}, and this machine's network"
        case _:
            return f"check base_url of {where}: does it lead to the API?"


# --- one list -----------------------------------------------------------------------------------


async def _seen(
    store: Store, name: str, source: Source, limiter: RateLimiter, kind: str, tell: Tell
) -> Seen | None:
    """One list; None where the account has none, while others are read."""
    try:
        return await _list(store, name, source, limiter, kind)
    except LeftOut as exc:
        tell(Step(step=f"source {name}", state="ok", said=f"{kind}: {exc}; the other lists are read"))
        return None


async def _list(store: Store, name: str, source: Source, limiter: RateLimiter, kind: str) -> Seen:
    first, second, asked = await _largest(store, name, source, limiter, kind)
    told = source.kinds[kind]
    row = decoded(told, first.raws[0]) if first.raws else {}
    detail, detail_ms = await _detail(source, limiter, kind, first.ids) if first.ids else ({}, None)
    known = await _known(store, name, kind)
    page = len(first.ids)
    records, exact = _records(first, second, known)
    shown = {*row, *detail}
    pages = max(1, math.ceil(records / page)) if page else 1
    return Seen(
        kind=kind,
        records=records,
        exact=exact,
        page=page,
        asked=asked,
        pages=pages,
        sweep=await _sweep_cost(store, name, source, limiter, first, kind, pages, asked),
        day=first.day,
        fields=tuple(sorted(shown)),
        hidden=tuple(sorted(told.shape.numbers - shown)) if shown else (),
        missed=bool(shown) and bool((told.shape.numbers & told.model.model_fields.keys()) - shown),
        page_ms=round((first.ended - first.started) * 1000),
        detail_ms=detail_ms,
    )


async def _largest(
    store: Store, name: str, source: Source, limiter: RateLimiter, kind: str
) -> tuple[Page, Page | None, int]:
    """The first pages at the largest size that the server honours, and that size: found as a sweep does."""
    given = store.settings.sources[name]
    largest = manner_of(given).page_size
    known = (await Inspector(store.settings, store.connection, store.keys).memory(name)).lists[kind].sizing
    best: tuple[Page, Page | None, int] | None = None
    while True:
        asked = known.size or largest
        try:
            first, second = await _pages(source, limiter, kind, asked)
        except BadAnswer as exc:
            less = page_size.refused(known, asked) if exc.status in page_size.TOO_MUCH else None
            if less is None:
                raise
            known = less
            continue
        if best is None or len(first.ids) > len(best[0].ids):
            best = first, second, asked
        goes_on = bool(second and second.ids) or (first.total or 0) > len(first.ids)
        found = page_size.read(known, size=asked, longest=len(first.ids), pages=2 if goes_on else 1)
        # What is paid in tokens is dear, and the first sweep finds out all the same.
        if found.settled or found == known or unit_of(given) != "requests":
            return best
        known = found


async def _pages(source: Source, limiter: RateLimiter, kind: str, asked: int) -> tuple[Page, Page | None]:
    """The first page, and the second where only that tells whether the first was all."""
    async with asyncio.timeout(WAIT_S), patience(f"{source.name}: reading the first page of {kind}"):
        ticket = await limiter.ticket("confirm", 1)
        try:
            async with aclosing(source.pages(kind, size=asked, ticket=ticket)) as pages:
                first = await anext(pages, None) or Page((), (), time.time(), time.time())
                enough = not first.ids or first.total is not None
                return first, None if enough else await anext(pages, None)
        finally:
            await ticket.close()


async def _sweep_cost(
    store: Store,
    name: str,
    source: Source,
    limiter: RateLimiter,
    first: Page,
    kind: str,
    pages: int,
    size: int,
) -> int:
    """What a usual sweep takes: its pages; where the host counts tokens, by one that is made and paid.

    It begins where the first page was read, as most sweeps do, and asks for no more names: those are known.
    A list that is always read in whole is read on a page, and reckoned.
    """
    given = store.settings.sources[name]
    if unit_of(given) == "requests":
        return requests_of([pages])
    async with asyncio.timeout(WAIT_S), patience(f"{source.name}: sweeping {kind}"):
        ticket, count = await limiter.ticket("confirm", 1), 0
        try:
            async with aclosing(source.pages(kind, size=size, ticket=ticket, since=first.cursor)) as found:
                async for page in found:
                    count += 1
                    if page.whole and count == PROBED:
                        break
        finally:
            await ticket.close()
    return ticket.spent if count < PROBED else max(ticket.spent, ticket.spent * (pages + 1) // PROBED)


async def _detail(
    source: Source, limiter: RateLimiter, kind: str, ids: Sequence[str]
) -> tuple[Mapping[str, Any], int | None]:
    async with asyncio.timeout(WAIT_S), patience(f"{source.name}: reading {kind}/{ids[0]}"):
        ticket = await limiter.ticket("confirm", 1)
        try:
            found = await source.read(kind, ids[0], ticket=ticket)
        finally:
            await ticket.close()
    if not isinstance(found, Reading):
        return {}, None
    return found.view, round((found.ended - found.started) * 1000)


async def _known(store: Store, name: str, kind: str) -> int | None:
    """How many records the last complete reading of this list found, if there was one."""
    memory = await Inspector(store.settings, store.connection, store.keys).memory(name)
    if not memory.lists[kind].swept_at:
        return None
    return await Snapshots(store.connection, store.keys, name, fence=0).listed(kind)


def _records(first: Page, second: Page | None, known: int | None) -> tuple[int, bool]:
    """(records, whether that is all of them)."""
    seen = len({*first.ids, *(second.ids if second else ())})
    if first.total is not None:
        return first.total, True
    if known is not None:
        return max(known, seen), True
    # A server that cuts pages at what the first one shows cuts the second one there too.
    return seen, second is None or len(second.ids) < len(first.ids) or set(second.ids) <= set(first.ids)


def _tell_list(step: str, seen: Seen, tell: Tell) -> None:
    tell(Step(step=step, state="ok", said=_words(seen), facts=asdict(seen)))
    if seen.missed:
        remedy = "give the token's user the right to see them, if events shall carry them"
        told = f"{seen.kind}: the token does not show {', '.join(seen.hidden)}"
        tell(Step(step=step, state="warning", said=told, remedy=remedy))


def _words(seen: Seen) -> str:
    if not seen.records:
        return f"{seen.kind}: no records; the list is empty, or the token sees none of it"
    parts = [f"{'' if seen.exact else 'more than '}{seen.records} records"]
    if seen.pages > 1 or not seen.exact:
        parts.append(f"{seen.page} a page ({seen.asked} asked)")
    parts.append(f"a page in {seen.page_ms} ms")
    if seen.detail_ms is not None:
        parts.append(f"a detail in {seen.detail_ms} ms")
    return f"{seen.kind}: {', '.join(parts)}, {len(seen.fields)} fields"


# --- how fast -------------------------------------------------------------------------------------


async def _tell_pace(store: Store, name: str, seen: Sequence[Seen], tell: Tell) -> None:
    """What a sweep and a round of details take within the budget, shared with the host's other sources."""
    given, step = store.settings.sources[name], f"source {name}"
    detailed = detailed_kinds(given)
    records = sum(each.records for each in seen if each.kind in detailed)
    load = load_of(name, given, requests=sum(each.sweep for each in seen), records=records)
    mine = replace(load, listed=sum(each.records for each in seen))
    others = await _others(store, name)
    named = [each.budget for each in store.settings.sources.values() if same_host(each, given)]
    budget = min(named, key=lambda each: each.per_second)
    host_limit = HostLimit(limit=budget.count, window_s=budget.window.total_seconds())
    reckoned = reckon(mine, others, host_limit)
    exact = all(each.exact for each in seen)
    unit = unit_of(given)
    counted = "" if unit == "requests" else f", in {unit}"
    takes = f"{'' if exact else 'more than '}{mine.requests} {unit}"
    sweep = f"a sweep takes {takes}, every {span(reckoned.period_s)}"
    shared = f", with {len(others)} more on this host" if others else ""
    share = f"sweeps use {reckoned.sweeps_share:.0%} of the budget {budget}{counted}{shared}"
    facts = {**asdict(mine), "exact": exact, **asdict(reckoned)}
    said = f"{sweep}; {share}; {_round(mine, reckoned.round_s, exact=exact)}"
    if reckoned.delay_s is not None and exact:
        said += f"; a change is told after {span(reckoned.delay_s)} on average"
    day = next((each.day for each in seen if each.day), None)
    most_per_s = day.limit * OURS / DAY_S if day else math.inf
    remedy = advice(mine, [mine, *others], host_limit, most_per_s=most_per_s)
    tell(Step(step=step, state="warning" if remedy else "ok", said=said, remedy=remedy, facts=facts))
    if plans := SOURCES[given.kind].api.plans:
        _tell_day(step, given, plans, day, tell)


def _tell_day(step: str, given: SourceSettings, plans: str, day: Day | None, tell: Tell) -> None:
    """What the budget comes to in a day, and what the account's day has, which others use as well."""
    ours = round(given.budget.per_second * DAY_S)
    said = f"the budget comes to {ours:,} {unit_of(given)} a day"
    if day is None:
        tell(Step(step=step, state="ok", said=f"{said}; {plans}", facts={"day": ours}))
        return
    left = "" if day.left is None else f", {day.left:,} of them left today"
    most = math.floor(day.limit * OURS / 24)
    remedy = f'set budget = "{most}/1h", which leaves others a quarter of it' if ours > day.limit else ""
    if not remedy and ours < day.limit * OURS / 2:
        said += f'; budget = "{most}/1h" would use three quarters of what the account has'
    tell(
        Step(
            step=step,
            state="warning" if remedy else "ok",
            said=f"{said}; the account's day has {day.limit:,}{left}",
            remedy=remedy,
            facts={"day": ours, "limit": day.limit, "left": day.left},
        )
    )


def _round(load: Load, round_s: float, *, exact: bool) -> str:
    if not load.records:
        return "no details are read"
    if exact:
        return f"each of the {load.records} details is read every {span(round_s)}"
    return f"each of more than {load.records} details is read every {span(round_s)}, or less often"


async def _others(store: Store, name: str) -> list[Load]:
    """The other sources that draw on the same budget, as far as they are known."""
    inspector, found = Inspector(store.settings, store.connection, store.keys), []
    for each, given in store.settings.sources.items():
        if each == name or not same_host(given, store.settings.sources[name]):
            continue
        memory = await inspector.memory(each)
        known = Snapshots(store.connection, store.keys, each, fence=0)
        records = sum([await known.listed(kind) for kind in detailed_kinds(given)])
        found.append(load_of(each, given, requests=sweeps_of(memory), records=records))
    return found
