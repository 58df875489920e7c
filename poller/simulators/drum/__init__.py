"""A stand-in for Drum: one table of records with a type flag, four GETs, all that the documents leave open.

It offers no updated_since, no order that could be relied on, no timestamps, as Drum offers none.
"""

from poller.simulators.simulator import Options, Simulator

from .api import Api
from .fields import ROLES
from .life import Agency, life_of
from .orders import Orders
from .populate import Population
from .switches import Switches
from .world import DEMO_TOKEN, World, today

__all__ = [
    "DEMO_TOKEN",
    "ROLES",
    "Agency",
    "Orders",
    "Population",
    "Switches",
    "World",
    "build",
    "life_of",
    "today",
]


def build(options: Options, world: World | None = None) -> Simulator[World, Orders, Switches]:
    """A simulated Drum with a life; the world given, or one populated as the options say."""
    if world is None:
        world = World(token=options.token or DEMO_TOKEN, today=options.today, clock=options.clock)
        half = max(0, options.records - len(world.rows))
        world.populate(opportunities=half - half // 3, projects=half // 3, seed=options.seed)
        world.log.keep(options.keep)
    orders = Orders(world)
    life = life_of(world, orders, seed=options.seed)
    api = Api(worlds=lambda: simulator.worlds, drift=life.steps)
    simulator: Simulator[World, Orders, Switches] = Simulator(
        kind="drum", world=world, orders=orders, life=life, app=api.app(), options=options
    )
    return simulator
