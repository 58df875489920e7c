"""Metrics for Prometheus: what this replica does is counted at once, what Redis knows is read at a scrape.

Labels are names out of the settings, event types, and words of the contract: their number is bounded.
"""

import asyncio
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import get_args

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from poller._version import __version__
from poller.errors import StoreError
from poller.model import Event
from poller.store.letters import Attempt, position
from poller.watch.poll import Swept

from .answers import EndpointAnswer, EndpointWord, Overview, SourceAnswer, SourceState
from .context import WebContext
from .health import LoopWatch

LOOK_S = 3.0
"""What Redis does not tell within this time is left out of a scrape."""

SWEEP_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BOUNDS_BUCKETS = (0.5, 1, 2.5, 5, 10, 15, 30, 45, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
DELIVERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)

log = structlog.get_logger("poller.web")


class _Observed(msgspec.Struct):
    not_before: str
    not_after: str


class _Data(msgspec.Struct):
    observed: _Observed


class _Envelope(msgspec.Struct):
    data: _Data


_envelope = msgspec.json.Decoder(_Envelope)


class Meters:
    """The counters and histograms of one service, in a registry of its own."""

    def __init__(self, context: WebContext, watch: LoopWatch) -> None:
        self._context = context
        self.registry = CollectorRegistry()
        self._standing = _Standing(context, watch)
        self._count()
        ProcessCollector(registry=self.registry)
        self.registry.register(self._standing)
        Info("poller_build", "Version of poller and of Python.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )

    def _count(self) -> None:
        registry = self.registry
        self._sweeps = Histogram(
            "poller_sweep_seconds",
            "Time that one sweep of a list took.",
            ["source", "list", "outcome"],
            buckets=SWEEP_BUCKETS,
            registry=registry,
        )
        self._events = Counter(
            "poller_events", "Events committed by this replica.", ["source", "type"], registry=registry
        )
        self._bounds = Histogram(
            "poller_detection_bounds_seconds",
            "Time between the request that last saw the old and the one that first saw the new.",
            ["source"],
            buckets=BOUNDS_BUCKETS,
            registry=registry,
        )
        self._deliveries = Histogram(
            "poller_delivery_seconds",
            "Time from an event's detection to its delivery.",
            ["endpoint"],
            buckets=DELIVERY_BUCKETS,
            registry=registry,
        )
        self._attempts = Histogram(
            "poller_attempt_seconds",
            "Time that one attempt took, to the end of the answer.",
            ["endpoint", "outcome"],
            buckets=ATTEMPT_BUCKETS,
            registry=registry,
        )
        self._tries = Counter(
            "poller_webhook_attempts",
            "Attempts by outcome: delivered, later, dead, probe, gone.",
            ["endpoint", "outcome"],
            registry=registry,
        )

    # --- hearing ------------------------------------------------------------------------------

    def swept(self, source: str, told: Swept) -> None:
        """Count a sweep."""
        outcome = "complete" if told.complete else "incomplete"
        self._sweeps.labels(source, told.kind, outcome).observe(max(0.0, told.ended - told.started))

    def said(self, source: str, events: Sequence[Event]) -> None:
        """Count what was committed."""
        for event in events:
            self._events.labels(source, event.type).inc()
            if not event.type.startswith("poller."):
                self._bounds.labels(source).observe(_width_s(event.body))

    def attempted(self, endpoint: str, attempt: Attempt) -> None:
        """Count an attempt."""
        self._attempts.labels(endpoint, attempt.outcome).observe(attempt.ms / 1000)
        self._tries.labels(endpoint, attempt.outcome).inc()
        if attempt.outcome == "delivered":
            detected = position(attempt.place)[0] / 1000
            self._deliveries.labels(endpoint).observe(max(0.0, attempt.at - detected))

    # --- telling ------------------------------------------------------------------------------

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Everything as text, and its content type."""
        self._standing.seen = await self._look()
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    async def _look(self) -> Overview | None:
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._context.look()
        except (TimeoutError, StoreError) as exc:
            log.warning("metrics.incomplete", reason=str(exc) or f"Redis took over {LOOK_S:g} s")
            return None


def _width_s(body: bytes) -> float:
    observed = _envelope.decode(body).data.observed
    return max(0.0, _seconds(observed.not_after) - _seconds(observed.not_before))


def _seconds(text: str) -> float:
    return msgspec.convert(text, type=datetime).timestamp()


class _Standing(Collector):
    """What is true at the moment of a scrape."""

    def __init__(self, context: WebContext, watch: LoopWatch) -> None:
        self._context = context
        self._watch = watch
        self.seen: Overview | None = None

    def describe(self) -> list[Metric]:
        """Nothing: else registering would collect once."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        yield from self._own()
        yield _gauge(
            "poller_store_up", "Whether Redis told everything at this scrape.", self.seen is not None
        )
        if self.seen is not None:
            yield _gauge("poller_replicas", "Replicas that are alive.", len(self.seen.replicas))
            yield from _sources(self.seen.sources)
            yield from _endpoints(self.seen.webhooks)

    def _own(self) -> Iterator[Metric]:
        pulse = self._context.pulse()
        yield _gauge("poller_loop_lag_seconds", "Largest lateness of the loop in 10 s.", self._watch.lag_s)
        yield _gauge("poller_scheduler_silent_seconds", "Since the scheduler last ticked.", pulse.silent_s)
        restarts = CounterMetricFamily(
            "poller_scheduler_restarts", "Restarts of a scheduler that was silent."
        )
        restarts.add_metric([], pulse.restarts)
        yield restarts
        held = GaugeMetricFamily("poller_lease_held", "Whether this replica holds it.", labels=["unit"])
        for unit, mine in pulse.held.items():
            held.add_metric([unit], float(mine))
        yield held


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


class _Families:
    """Families by name, filled in any order."""

    def __init__(self) -> None:
        self.all: dict[str, Metric] = {}

    def gauge(self, name: str, text: str, value: float | None, **labels: str) -> None:
        """Add a sample of a gauge; None leaves it out."""
        family = self.all.setdefault(name, GaugeMetricFamily(name, text, labels=list(labels)))
        if value is not None:
            family.add_sample(name, labels, float(value))

    def counter(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a sample of a counter that is kept in Redis."""
        family = self.all.setdefault(name, CounterMetricFamily(name, text, labels=list(labels)))
        family.add_sample(f"{name}_total", labels, float(value))


def _sources(sources: Sequence[SourceAnswer]) -> Iterator[Metric]:
    found = _Families()
    for each in sources:
        for state in get_args(SourceState):
            found.gauge(
                "poller_source_state",
                "1 for the state.",
                each.state == state,
                source=each.source,
                state=state,
            )
        _source(found, each)
        _lists(found, each)
        _budget(found, each)
    yield from found.all.values()


def _source(found: _Families, each: SourceAnswer) -> None:
    name = each.source
    found.gauge("poller_source_well", "Whether nobody needs to act.", each.well, source=name)
    found.gauge(
        "poller_source_period_seconds", "Expected between two sweeps of a list.", each.period_s, source=name
    )
    oldest = each.details.oldest_s if each.details else None
    found.gauge("poller_detail_oldest_age_seconds", "Age of the oldest detail view.", oldest, source=name)
    for kind, delay_s in (("expected", each.expected_delay_s), ("observed", each.observed_delay_s)):
        text = "From a change to its event on average: as the schedule has it, and as late events tell it."
        found.gauge("poller_detection_delay_seconds", text, delay_s, source=name, kind=kind)
    for purpose, units in each.spent.items():
        text = "Requests that this source paid for in the last window, by what they were for."
        found.gauge("poller_source_spent_requests", text, units, source=name, purpose=purpose)


def _lists(found: _Families, each: SourceAnswer) -> None:
    for one in each.lists:
        labels = {"source": each.source, "list": one.list}
        found.gauge("poller_list_records", "Records that are listed.", one.records, **labels)
        found.gauge("poller_list_age_seconds", "Since the last complete sweep began.", one.age_s, **labels)
        held = one.records if one.strange else one.held
        found.gauge("poller_held_records", "Records whose removal waits for an operator.", held, **labels)


def _budget(found: _Families, each: SourceAnswer) -> None:
    name, budget = each.source, each.budget
    for purpose, units in budget.used.items():
        text = "Requests (or tokens, where the API counts those) that count now, by what they were for."
        found.gauge("poller_budget_used_requests", text, units, source=name, purpose=purpose)
    most = "Requests, or tokens, in a window at most."
    found.gauge("poller_budget_limit_requests", most, budget.limit, source=name)
    found.gauge("poller_budget_allowed_requests", "… as things stand now.", budget.allowed, source=name)
    found.gauge(
        "poller_budget_blocked", "Whether the host is left alone.", budget.mood == "blocked", source=name
    )
    found.counter("poller_budget_refusals", "429 and 503 from the host.", budget.refusals, source=name)
    found.counter("poller_budget_blocked_seconds", "Time left alone.", budget.blocked_s, source=name)


def _endpoints(webhooks: Sequence[EndpointAnswer]) -> Iterator[Metric]:
    found = _Families()
    for each in webhooks:
        name = each.webhook
        for state in get_args(EndpointWord):
            found.gauge(
                "poller_webhook_state", "1 for the state.", each.state == state, endpoint=name, state=state
            )
        found.gauge("poller_webhook_well", "Whether nobody needs to act.", each.well, endpoint=name)
        found.gauge("poller_queue_waiting_events", "Events not delivered yet.", each.waiting, endpoint=name)
        found.gauge(
            "poller_queue_oldest_waiting_seconds",
            "Age of the oldest of them, 0 where none waits.",
            each.oldest_waiting_s or 0.0,
            endpoint=name,
        )
        found.gauge("poller_queue_dead_events", "Dead letters.", each.dead, endpoint=name)
        found.counter(
            "poller_webhook_delivered_events", "Delivered, by any replica.", each.delivered, endpoint=name
        )
        found.counter("poller_webhook_filtered_events", "Not wanted.", each.filtered, endpoint=name)
        found.counter(
            "poller_webhook_unsure_events", "Passed by a filter that failed.", each.unsure, endpoint=name
        )
        found.counter(
            "poller_webhook_trimmed_unread_events", "Taken by the retention unsent.", each.lost, endpoint=name
        )
    yield from found.all.values()
