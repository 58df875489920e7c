"""How an endpoint fares: changed by attempts, time and operators, kept in Redis, announced once.

An announcement is kept together with the change that it tells of, so a crash between the two repeats it
under the same id.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

import msgspec
import structlog

from poller.errors import Conflict
from poller.model import rfc3339
from poller.store.letters import EndpointState, Notice
from poller.store.queue import Orders, Queue

from . import retry
from .retry import Health
from .settings import EndpointSettings

Announce = Callable[[str, str, str, dict[str, Any]], Awaitable[None]]
"""(source, type, subject, object): writes an operational event, once for each `object["id"]`."""


class Breaker:
    """The health of one endpoint, and the orders given to it."""

    def __init__(
        self,
        *,
        queue: Queue,
        settings: EndpointSettings,
        announce: Announce,
        concerned: Callable[[], list[str]],
        changed: Callable[[], None],
    ) -> None:
        self.health = Health()
        self.loaded = False
        self._queue, self._settings, self._announce = queue, settings, announce
        self._concerned, self._changed = concerned, changed
        self._notices: list[Notice] = []
        self._turn = 0
        self._dirty = False
        self._log = structlog.get_logger().bind(endpoint=settings.name, host=settings.host)

    @property
    def state(self) -> EndpointState:
        """The health as it is kept and shown."""
        return EndpointState(**asdict(self.health))

    async def load(self, *, now: float) -> Orders:
        """Read what was kept, and what operators asked since.

        An order that is found is heeded here; what else it means (what to skip, what to read again) is for
        the caller, who sees it by `turn` being ahead of `obeyed`.
        """
        orders = await self._queue.orders()
        if not self.loaded:
            self.health = Health(**msgspec.structs.asdict(orders.state)).sane(now=now)
            self._notices = list(orders.notices)
            self.loaded = True
        return orders

    def obey(self, orders: Orders, *, now: float) -> None:
        """Do what was asked of the endpoint as a whole."""
        self._turn, self._dirty = orders.turn, True
        if orders.want == "disabled" and not self.health.disabled:
            off = replace(self.health, disabled="operator", disabled_at=now, said="disabled")
            self.heed(off, "disabled", now=now)
        if orders.want == "enabled":
            self.health = self.health.enabled(now=now)
            self._log.info("endpoint.enabled")

    def has_obeyed(self, orders: Orders) -> bool:
        """Tell whether there is nothing new among the orders."""
        return orders.turn == self._turn and orders.turn == orders.obeyed

    def heed(self, health: Health, notice: retry.NoticeType | None, *, now: float) -> None:
        """Take over a new health, and remember what is to be said of it."""
        if health.probing and not self.health.probing:
            self._log.warning("endpoint.probing", failures=health.failures)
        self.health, self._dirty = health, True
        if notice is None:
            return
        self._log.warning(f"endpoint.{notice}", reason=health.disabled or None, failures=health.failures)
        told = self._told(notice, now=now)
        self._notices += [
            Notice(
                id=f"{told['id']}.{source}", source=source, type=f"poller.webhook.{notice}", object=dict(told)
            )
            for source in self._concerned()
        ]
        self._changed()

    def _told(self, notice: retry.NoticeType, *, now: float) -> dict[str, Any]:
        health, name = self.health, self._settings.name
        return {
            "id": f"webhook.{name}.{notice}.{int(now * 1000)}",
            "endpoint": name,
            "host": self._settings.host,
            "reason": health.disabled or None,
            "failures": health.failures,
            "failing_since": rfc3339(health.failing_since) if health.failing_since else None,
            "last_success": rfc3339(health.last_success) if health.last_success else None,
        }

    def clock_went_back(self, *, now: float) -> None:
        """Mend what a jump of the clock has left in the future."""
        self.heed(self.health.sane(now=now), None, now=now)

    async def save(self) -> None:
        """Keep what has changed; an order that came in between is left for the next look.

        Raises:
            Fenced, StoreUnavailable, StoreRefused: as Queue.
        """
        if self._dirty:
            self._dirty = False
            try:
                kept = await self._queue.save(self.state, self._notices, turn=self._turn)
            except BaseException:
                self._dirty = True
                raise
            self._dirty = self._dirty or not kept

    async def announce(self) -> None:
        """Say what is to be said, after it was kept and before it is forgotten."""
        while self._notices and not self._dirty:
            notice = self._notices[0]
            subject = f"webhook/{self._settings.name}"
            try:
                await self._announce(notice.source, notice.type, subject, {**notice.object, "id": notice.id})
            except Conflict as exc:
                self._log.info("endpoint.announcing_later", reason=str(exc))
                return
            self._notices.remove(notice)
            self._dirty = True
            await self.save()
