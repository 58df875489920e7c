"""What the web room is given by whoever starts it: small values, and a few questions to the service."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from poller.deliver.settings import EndpointSettings
from poller.store.connection import Connection
from poller.store.keys import Keys

from .answers import Overview

FRESH_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Door:
    """`[web]` as values. Its repr holds no secret."""

    host: str
    loopback: bool
    """Only this machine can reach `host`."""
    token: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    metrics_token: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What `[sources.NAME]` says, as far as it is asked for here. Its repr holds no secret."""

    kind: str
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
class WebContext:
    """Everything that pages, API and metrics show and touch."""

    door: Door
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


class Recent:
    """Looks, and remembers for a second; who asks while somebody looks waits for the same answer."""

    def __init__(self, look: Callable[[], Awaitable[Overview]]) -> None:
        self._look = look
        self._lock = asyncio.Lock()
        self._seen: Overview | None = None
        self._at = 0.0

    async def __call__(self) -> Overview:
        """How everything stands.

        Raises:
            StoreUnavailable, StoreRefused: Redis cannot tell.
        """
        async with self._lock:
            # Judged by when the look began: what was asked for before that may not show yet.
            began = time.monotonic()
            if self._seen is None or began - self._at >= FRESH_S:
                self._seen = None
                self._seen = await self._look()
                self._at = began
            return self._seen
