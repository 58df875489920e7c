"""How every source and endpoint stands, read from Redis: what `poller status` shows. Changes nothing."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from poller.config import Settings, SourceSettings, WebhookSettings
from poller.deliver.filters import wants_source
from poller.model import loads
from poller.store import snapshots
from poller.store.budget import Usage
from poller.store.connection import Connection
from poller.store.endpoint_stats import EndpointStanding, census
from poller.store.keys import Keys
from poller.store.leases import Leases, living
from poller.store.letters import Counts, EndpointState
from poller.store.snapshots import Snapshots
from poller.watch.batch import Memory, remembered
from poller.watch.sources import SOURCES
from poller.web.answers import (
    BudgetAnswer,
    DetailsAnswer,
    EndpointAnswer,
    EndpointWord,
    ListAnswer,
    Overview,
    SourceAnswer,
    SourceState,
)
from poller.web.words import span

from .forecast import HostLimit, Load, reckon, requests_of
from .wiring import limiter_of

STALE_AFTER = 3.0
"""Periods without a complete sweep that are too many."""
SHORTEST_STALE_S = 15.0
"""… but never less: what is asked every second may take a moment."""


class Inspector:
    """Looks at what is kept, for whoever asks. Every method raises StoreUnavailable or StoreRefused."""

    def __init__(
        self, settings: Settings, connection: Connection, keys: Keys, *, now: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._keys = keys
        self._now = now
        self._leases = Leases(connection, holder="nobody", ttl_s=settings.redis.lease.total_seconds())

    async def everything(self) -> Overview:
        """Look at all of it."""
        ttl_s = self._settings.redis.lease.total_seconds()
        replicas = await living(self._connection, self._keys, ttl_s=ttl_s)
        sources, webhooks = await self.sources(), await self.webhooks()
        well = all(each.well for each in sources) and all(each.well for each in webhooks)
        return Overview(at=self._now(), well=well, replicas=replicas, sources=sources, webhooks=webhooks)

    # --- sources ------------------------------------------------------------------------------

    async def sources(self) -> list[SourceAnswer]:
        """Look at each source of the settings."""
        memories = {name: await self.memory(name) for name in self._settings.sources}
        return [await self._source(name, memories) for name in self._settings.sources]

    async def memory(self, name: str) -> Memory:
        """What a source of the settings remembers."""
        stored = await self._snapshots(name).open()
        return remembered(stored, SOURCES[self._settings.sources[name].kind].lists)

    def _snapshots(self, name: str) -> Snapshots:
        return Snapshots(self._connection, self._keys, name, fence=0)

    async def _source(self, name: str, memories: Mapping[str, Memory]) -> SourceAnswer:
        given, memory = self._settings.sources[name], memories[name]
        told = await snapshots.reported(self._connection, self._keys, name)
        report = loads(told) if told else {}
        lists = [await self._list(name, kind, memory, report) for kind in memory.lists]
        usage = await limiter_of(name, given, self._connection, self._keys).budget.usage()
        told_s, delay = report.get("period_s"), report.get("delay") or {}
        found = SourceAnswer(
            source=name,
            kind=given.kind,
            base_url=given.base_url,
            state="polling",
            why="",
            well=True,
            held_by=await self._leases.holder(self._keys.source_lease(name)),
            every_s=given.every.total_seconds(),
            period_s=float(told_s) if told_s else self._period_s(name, memories, usage),
            lists=lists,
            details=self._details(given, report),
            expected_delay_s=_seconds(delay.get("expected_s")),
            observed_delay_s=_seconds(delay.get("observed_s")),
            spent=self._spent(given, report),
            budget=BudgetAnswer.model_validate(usage),
            window_s=given.budget.window.total_seconds(),
            unit=unit_of(given),
            reported_at=float(report["at"]) if "at" in report else None,
        )
        limited = str(report.get("limited") or "the host asked to be left alone")
        state, why = self._judged(found, memory, limited)
        # What was never read to its end has no age, and would not grow stale.
        failed = state == "starting" and any(each.reason for each in lists)
        well = state in ("polling", "starting", "limited") and not failed
        return found.model_copy(update={"state": state, "why": why, "well": well})

    async def _list(self, name: str, kind: str, memory: Memory, report: Mapping[str, Any]) -> ListAnswer:
        mine = memory.lists[kind]
        last = (report.get("lists") or {}).get(kind) or {}
        return ListAnswer(
            list=kind,
            records=await self._snapshots(name).listed(kind),
            swept_at=mine.swept_at or None,
            age_s=max(0.0, self._now() - mine.swept_at) if mine.swept_at else None,
            took_s=float(last["took_s"]) if "took_s" in last else None,
            pages=int(last.get("pages") or mine.pages),
            complete=bool(last.get("complete", bool(mine.swept_at))),
            reason=str(last.get("reason") or ""),
            held=mine.held,
            strange=mine.strange,
        )

    def _period_s(self, name: str, memories: Mapping[str, Memory], usage: Usage) -> float:
        mine = self._settings.sources[name]
        loads_ = {
            each: load_of(each, given, requests=sweeps_of(memories[each]), records=0)
            for each, given in self._settings.sources.items()
            if same_host(given, mine)
        }
        window_s = mine.budget.window.total_seconds()
        host_limit = HostLimit(limit=max(1, usage.allowed), window_s=window_s)
        return reckon(loads_.pop(name), [*loads_.values()], host_limit).period_s

    def _judged(self, found: SourceAnswer, memory: Memory, limited: str) -> tuple[SourceState, str]:
        if found.held_by is None:
            return "unattended", "nobody polls it: is `poller run` running, with these settings?"
        if memory.suspended:
            return "suspended", memory.suspended
        if memory.paused:
            return "paused", f"an operator paused it; `poller sources resume {found.source}` goes on"
        if held := [each for each in found.lists if each.held or each.strange]:
            return "held", "; ".join(map(held_words, held))
        return self._fresh(found, memory, limited)

    def _fresh(self, found: SourceAnswer, memory: Memory, limited: str) -> tuple[SourceState, str]:
        late_s = max(STALE_AFTER * found.period_s, SHORTEST_STALE_S)
        failed = "; ".join(f"{each.list}: {each.reason}" for each in found.lists if each.reason)
        until = found.budget.blocked_until
        blocked = f"{limited}, for {span(until - self._now())} more" if until else ""
        stale = [each for each in found.lists if each.age_s is not None and each.age_s > late_s]
        if stale:
            oldest = max(each.age_s or 0.0 for each in stale)
            lists = ", ".join(each.list for each in stale)
            return "stale", blocked or failed or f"{lists}: not read to the end for {oldest:.0f} s"
        if blocked:
            return "limited", blocked
        if not memory.baselined:
            return "starting", failed or "the first reading of its lists is not complete yet"
        return "polling", failed

    def _spent(self, given: SourceSettings, report: Mapping[str, Any]) -> dict[str, int]:
        """What it paid for in the last window; nothing where it last told of itself before that began."""
        if self._now() - float(report.get("at", 0.0)) > given.budget.window.total_seconds():
            return {}
        return {str(cls): int(count) for cls, count in (report.get("spent") or {}).items()}

    def _details(self, given: SourceSettings, report: Mapping[str, Any]) -> DetailsAnswer | None:
        """As the replica that polls last told; nobody counts them for a look."""
        told = report.get("details")
        if not told or not detailed_kinds(given):
            return None
        records, oldest_at = int(told["records"]), _seconds(told["oldest_at"])
        return DetailsAnswer(
            records=records,
            read=records - int(told["unread"]),
            looked_at=records,
            oldest_s=max(0.0, self._now() - oldest_at) if oldest_at else None,
        )

    # --- endpoints ------------------------------------------------------------------------------

    async def webhooks(self) -> list[EndpointAnswer]:
        """Look at each endpoint of the settings."""
        webhooks = self._settings.webhooks
        wanted = {name: sources_of(self._settings, given) for name, given in webhooks.items()}
        found = await census(self._connection, self._keys, wanted)
        return [self._endpoint(name, given, found[name]) for name, given in webhooks.items()]

    def _endpoint(self, name: str, given: WebhookSettings, found: EndpointStanding) -> EndpointAnswer:
        state, holder, counts = found.state, found.holder, found.counts
        oldest = [each.oldest_waiting for each in counts if each.oldest_waiting is not None]
        word, why = self._endpoint_word(name, state, holder)
        return EndpointAnswer(
            webhook=name,
            host=urlsplit(given.url.get_secret_value()).hostname or "",
            format=given.format,
            state=word,
            why=why,
            well=word in ("ok", "paused") or (word == "failing" and state.said != "failing"),
            held_by=holder,
            waiting=_sum(counts, "waiting") + _sum(counts, "lag"),
            dead=_sum(counts, "dead"),
            oldest_waiting_s=max(0.0, self._now() - min(oldest)) if oldest else None,
            last_success=state.last_success or None,
            delivered=_sum(counts, "delivered"),
            filtered=_sum(counts, "filtered"),
            unsure=_sum(counts, "unsure"),
            lost=_sum(counts, "lost"),
            recovering=any(each.recovering for each in counts),
        )

    def _endpoint_word(self, name: str, state: EndpointState, holder: str | None) -> tuple[EndpointWord, str]:
        now = self._now()
        word = state.word(now=now)
        enable = f"`poller webhooks enable {name}` goes on from its place"
        reasons = {
            "gone": f"it answered 410; {enable}",
            "silent": f"no success for 72 h; {enable}",
            "operator": f"an operator disabled it; {enable}",
        }
        if word == "disabled":
            return word, reasons.get(state.disabled, state.disabled)
        if holder is None:
            return "unattended", "nobody serves it: is `poller run` running, with these settings?"
        if word == "paused":
            return word, f"it asked to be left alone, for {state.paused_until - now:.0f} s more"
        if word == "probing":
            return word, f"{state.failures} failures in a row; one event at a time is tried"
        if word == "failing":
            return word, f"{state.failures} failures in a row, for {now - state.failing_since:.0f} s"
        return word, ""


def _seconds(told: object) -> float | None:
    return float(str(told)) if told is not None else None


def _sum(counts: Sequence[Counts], name: str) -> int:
    return sum(int(getattr(each, name)) for each in counts)


def held_words(of: ListAnswer) -> str:
    """Why removals wait, and who ends it."""
    if of.strange:
        return f"{of.list}: its first page shares no id with what is known: another account's token?"
    return f"{of.list}: {of.held} records are missing at once, removals wait"


def sources_of(settings: Settings, given: WebhookSettings) -> list[str]:
    """The sources whose events an endpoint takes."""
    return [name for name in settings.sources if wants_source(given.sources, name)]


def same_host(one: SourceSettings, other: SourceSettings) -> bool:
    """Whether two sources draw on one budget."""
    return (urlsplit(one.base_url).netloc, one.egress) == (urlsplit(other.base_url).netloc, other.egress)


def unit_of(given: SourceSettings) -> str:
    """What the budget of its host counts."""
    return SOURCES[given.kind].api.unit


def detailed_kinds(given: SourceSettings) -> list[str]:
    """The kinds whose records are read by id in turn."""
    made = SOURCES[given.kind]
    return [name for name in made.lists if given.details and made.kinds[name].detailed]


def sweeps_of(memory: Memory) -> int:
    """What a sweep of every list takes, in what the budget counts, as the last ones did."""
    return sum(at.cost or requests_of([at.pages]) for at in memory.lists.values())


def load_of(name: str, given: SourceSettings, *, requests: int, records: int) -> Load:
    """What a source asks of its budget; `records` are those whose details are read."""
    return Load(
        source=name,
        requests=requests,
        records=records,
        every_s=given.every.total_seconds(),
        max_age_s=given.max_age.total_seconds(),
    )
