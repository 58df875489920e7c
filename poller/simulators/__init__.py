"""Faithful stand-ins for the CRMs, served over real HTTP."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from poller.simulators import close, drum, pipedrive
from poller.simulators.admin import admin_app
from poller.simulators.simulator import Options, Simulator, served

SIMULATORS: Mapping[str, Callable[..., Simulator[Any, Any, Any]]] = MappingProxyType(
    {"drum": drum.build, "close": close.build, "pipedrive": pipedrive.build}
)
"""How to build each, by the kind of source it stands in for."""

PORTS: Mapping[str, int] = MappingProxyType({kind: 8310 + 10 * at for at, kind in enumerate(SIMULATORS)})
"""Where each listens unless told otherwise; its admin port is the next."""

__all__ = ["PORTS", "SIMULATORS", "Options", "serve", "simulate"]


@asynccontextmanager
async def serve(
    kind: str,
    world: Any = None,
    *,
    options: Options | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    admin_port: int = 0,
    pace: float = 0.0,
    **switches: Any,
) -> AsyncIterator[Simulator[Any, Any, Any]]:
    """Serve a simulator in this loop while the block runs; `pace` in transitions per second, 0: by hand.

    Raises:
        ValueError: there is no such kind or switch.
        OSError: a port is taken.
    """
    if kind not in SIMULATORS:
        msg = f"there is no simulator {kind}. There are: {', '.join(SIMULATORS)}."
        raise ValueError(msg)
    simulator = SIMULATORS[kind](options or Options(), world)
    if switches:
        simulator.set(**switches)
    async with served(
        simulator, admin_app(simulator), host=host, port=port, admin_port=admin_port, pace=pace
    ) as running:
        yield running


def simulate(
    kind: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    admin_port: int | None = None,
    seed: int = 1,
    pace: float = 1.0,
    records: int = 200,
) -> None:
    """Run a simulator until SIGINT or SIGTERM; its first line says where it is and with which token.

    Raises:
        ValueError: there is no such kind.
        OSError: a port is taken.
    """
    main = PORTS.get(kind, 0) if port is None else port
    admin = (main + 1 if main else 0) if admin_port is None else admin_port
    options = Options(records=records, seed=seed, keep=100_000, today=drum.today())
    asyncio.run(_until_told(kind, options=options, host=host, port=main, admin_port=admin, pace=pace))


async def _until_told(kind: str, **how: Any) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with serve(kind, **how) as running:
        sys.stdout.write(
            f"{kind} at {running.url}  token {running.token}  admin {running.admin_url}  "
            f"{how['pace']:g} changes a second  Ctrl-C ends it\n"
        )
        sys.stdout.flush()
        await told.wait()
