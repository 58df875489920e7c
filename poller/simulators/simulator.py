"""What every simulator is made of, whatever API it serves: a world, its life, its wire, its two ports."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

from starlette.types import ASGIApp

from poller.simulators.life import Life
from poller.simulators.serving import listening
from poller.simulators.truth import Entry, TruthLog
from poller.simulators.wire import Asked, Hook, Wire, WireSwitches

Order = Callable[..., tuple[Entry, ...]]
SwitchesT = TypeVar("SwitchesT", bound=WireSwitches)


class Account(Protocol):
    """What any simulated account has."""

    log: TruthLog
    account: str

    @property
    def main_token(self) -> str: ...
    @property
    def switches(self) -> Any: ...
    @switches.setter
    def switches(self, switches: Any) -> None: ...


class Desk(Protocol):
    """What takes the orders of any simulated account."""

    def named(self) -> Mapping[str, Order]: ...
    def due(self) -> tuple[Entry, ...]: ...


WorldT = TypeVar("WorldT", bound=Account)
OrdersT = TypeVar("OrdersT", bound=Desk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a simulator is made."""

    records: int = 4
    """Records at the start, those of the API's own documents included."""
    seed: int = 1
    token: str = ""
    """What the caller has to show; empty: the kind's own demo token."""
    today: date = date(2025, 11, 3)
    keep: int | None = None
    """Truth entries and requests that are kept at least; None: all."""
    clock: Callable[[], float] = time.time


class Simulator(Generic[WorldT, OrdersT, SwitchesT]):
    """One API that answers on a port, and what a test or a demo needs of it."""

    def __init__(
        self,
        *,
        kind: str,
        world: WorldT,
        orders: OrdersT,
        life: Life,
        app: ASGIApp,
        options: Options,
    ) -> None:
        self.kind = kind
        self.world = world
        self.worlds = [world]
        """The accounts it serves: append one to have a token of another account."""
        self.life = life
        self.orders = orders
        """What can be done in the first account: `sim.orders.win(101)`."""
        self.url = self.admin_url = ""
        """Where it is served, while it is."""
        self.wire = Wire(
            app,
            switches=lambda: self.switches,
            seq=lambda: world.log.seq,
            seed=options.seed,
            clock=options.clock,
            keep=options.keep,
        )

    @property
    def token(self) -> str:
        """The main token of the first account: the log is written from its point of view."""
        return self.world.main_token

    @property
    def log(self) -> TruthLog:
        """What truly happened."""
        return self.world.log

    @property
    def requests(self) -> Iterable[Asked]:
        """What was asked over the API, oldest first."""
        return self.wire.requests

    @property
    def switches(self) -> SwitchesT:
        """How it behaves now."""
        switches: SwitchesT = self.world.switches
        return switches

    def set(self, **changes: Any) -> SwitchesT:
        """Change some switches from the next request on.

        Raises:
            ValueError: there is no such switch, or the value is not one of its.
        """
        kind = type(self.switches)
        switches = kind.model_validate(self.switches.model_dump() | changes)
        for world in self.worlds:
            world.switches = switches
        return switches

    def fail_next(self, fault: str, *, times: int = 1, path: str = "") -> None:
        """Let the next requests (whose path holds `path`) meet a fault.

        Raises:
            ValueError: there is no such fault.
        """
        self.wire.fail_next(fault, times=times, path=path)

    def between(self, *, before: Hook | None = None, after: Hook | None = None) -> None:
        """Call these before each answer is made, and after each was sent."""
        self.wire.before, self.wire.after = before, after

    def order(self, name: str, /, **arguments: Any) -> tuple[Entry, ...]:
        """Give an order by its name, and let happen what is due by then.

        Raises:
            ValueError: there is no such order, or it cannot be carried out.
        """
        named = self.orders.named()
        if name not in named:
            msg = f"there is no order {name}. There are: {', '.join(sorted(named))}."
            raise ValueError(msg)
        try:
            entries = named[name](**arguments)
        except TypeError as exc:
            msg = f"the order {name} does not take that: {exc}"
            raise ValueError(msg) from exc
        return entries + self.orders.due()


@asynccontextmanager
async def served(
    simulator: Simulator[WorldT, OrdersT, SwitchesT],
    admin: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    admin_port: int = 0,
    pace: float = 0.0,
) -> AsyncIterator[Simulator[WorldT, OrdersT, SwitchesT]]:
    """Serve a simulator and its admin port (loopback only) while the block runs; `pace` is per second."""
    async with (
        listening(simulator.wire, host=host, port=port) as simulator.url,
        listening(admin, port=admin_port) as simulator.admin_url,
    ):
        living = asyncio.create_task(simulator.life.run(pace=pace)) if pace > 0 else None
        try:
            yield simulator
        finally:
            await _ended(living)


async def _ended(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
