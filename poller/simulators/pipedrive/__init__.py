"""A stand-in for Pipedrive: API v2 and what v1 still answers, its token budget, its replicas and purges.

Sources: the vendor's specifications of v1 and v2, its pages on limits and errors, and what others met.
"""

from poller.simulators.simulator import Options, Simulator

from .api import Api
from .life import life_of
from .orders import Orders
from .switches import Switches
from .world import DEMO_TOKEN, World

__all__ = ["Orders", "Switches", "World", "build", "life_of"]


def build(options: Options, world: World | None = None) -> Simulator[World, Orders, Switches]:
    """A simulated Pipedrive with a life; the world given, or one populated as the options say."""
    if world is None:
        world = World(token=options.token or DEMO_TOKEN, clock=options.clock, keep=options.keep)
        records = max(0, options.records)
        world.populate(deals=records - records // 4, projects=records // 4, seed=options.seed)
    orders = Orders(world)
    life = life_of(world, orders, seed=options.seed)
    api = Api(worlds=lambda: simulator.worlds, drift=life.steps)
    simulator: Simulator[World, Orders, Switches] = Simulator(
        kind="pipedrive", world=world, orders=orders, life=life, app=api.app(), options=options
    )
    return simulator
