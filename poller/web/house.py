"""What the web room is given by whoever starts it: small values, and a few questions to the service."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from poller.deliver.endpoint import EndpointSettings
from poller.store.connection import Connection
from poller.store.keys import Keys

from .answers import Overview


@dataclass(frozen=True, kw_only=True)
class Door:
    """`[web]` as values. Its repr holds no secret."""

    host: str
    port: int
    loopback: bool
    """Only this machine can reach `host`."""
    token: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    metrics_token: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What `[sources.NAME]` says, as far as it is shown or asked for here. Its repr holds no secret."""

    name: str
    kind: str
    base_url: str
    details: bool
    lists: tuple[str, ...]
    """Kinds of records that can be read by themselves."""
    hook_secret: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """How the service itself is, without asking anybody else."""

    ticking: bool
    silent_s: float
    """Since the scheduler last ticked."""
    restarts: int
    """Of the scheduler, by the watchdog."""
    reasons: Sequence[str]
    """Why it is not ready, as it knows itself."""
    held: Mapping[str, bool]
    """`source/NAME` or `webhook/NAME` -> whether this replica holds its lease."""


@dataclass(frozen=True, kw_only=True)
class House:
    """Everything that pages, API and metrics show and touch."""

    door: Door
    me: str
    """This replica."""
    connection: Connection
    keys: Keys
    sources: Mapping[str, SourceFacts]
    endpoints: Mapping[str, EndpointSettings]
    shown_urls: Mapping[str, str]
    """An endpoint's URL without what proves anything."""
    look: Callable[[], Awaitable[Overview]]
    """How every source and endpoint stands. Raises StoreUnavailable or StoreRefused."""
    pulse: Callable[[], Pulse]
    duration: Callable[[str], timedelta]
    """Reads `2h`. Raises ValueError."""
