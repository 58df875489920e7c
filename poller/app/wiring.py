"""From one section of the settings to what runs by it: a source, its limiter and its plan, an endpoint."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from poller.config import Settings, SourceSettings, WebhookSettings
from poller.deliver.settings import EndpointSettings
from poller.store.budget import Budget, Granted
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.driver import Plan
from poller.watch.limiter import RateLimiter
from poller.watch.session import Manner
from poller.watch.sources import SOURCES, Account, Source
from poller.watch.token_bucket import Demand
from poller.watch.upstream import REQUEST_TIMEOUT_S, Upstream


def limiter_of(
    name: str,
    given: SourceSettings,
    connection: Connection,
    keys: Keys,
    granted: dict[tuple[str, str], Granted] | None = None,
) -> RateLimiter:
    """Where a source pays: the budget of its host and egress; `granted` knows what this process had of it."""
    host = urlsplit(given.base_url).netloc
    limit, window_s = given.budget.count, given.budget.window.total_seconds()
    budget = Budget(
        connection,
        keys,
        host=host,
        egress=given.egress,
        limit=limit,
        window_s=window_s,
        source=name,
        granted=None if granted is None else granted.setdefault((host, given.egress), Granted()),
    )
    return RateLimiter(budget, host=host, limit=limit, window_s=window_s, timeout_s=REQUEST_TIMEOUT_S)


def source_of(name: str, given: SourceSettings) -> Source:
    """One source with its connections; close it after use."""
    made = SOURCES[given.kind]
    upstream = Upstream(
        base_url=given.base_url,
        auth=made.auth(given.token.get_secret_value()),
        proxy=given.proxy.get_secret_value() if given.proxy else "",
    )
    account = Account(
        name=name,
        base_url=given.base_url,
        won_statuses=frozenset(given.won_statuses),
        lost_statuses=frozenset(given.lost_statuses),
        recents=given.recents,
    )
    return made(account, upstream)


def manner_of(given: SourceSettings) -> Manner:
    """How the source is to be read."""
    return Manner(details=given.details, emit_baseline=given.baseline == "emit", noise=given.noise)


def plan_of(given: SourceSettings, part: Callable[[Demand, float], Awaitable[float]]) -> Plan:
    """How often the source is to be read."""
    every_s, max_age_s = given.every.total_seconds(), given.max_age.total_seconds()
    return Plan(every_s=every_s, max_age_s=max_age_s, part=part)


def endpoint_of(name: str, given: WebhookSettings) -> EndpointSettings:
    """One endpoint as the delivering wing knows it."""
    rate = given.rate
    return EndpointSettings(
        name=name,
        url=given.url.get_secret_value(),
        secrets=given.keys,
        events=given.events,
        sources=given.sources,
        start=given.start,
        format=given.format,
        content_type=given.content_type,
        filter=given.filter,
        headers={key: value.get_secret_value() for key, value in given.headers.items()},
        order=given.order,
        concurrency=given.concurrency,
        rate_per_s=rate.per_second if rate else None,
        schedule_s=tuple(each.total_seconds() for each in given.schedule),
        allow_private=given.allow_private,
    )


def redis_url(settings: Settings) -> str | None:
    """The server that is named, or None for the embedded one."""
    return settings.redis.url.get_secret_value() if settings.redis.url else None
