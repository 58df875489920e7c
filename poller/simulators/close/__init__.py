"""A stand-in for Close: opportunities in pipelines, an event log, limits by endpoint group, its hazards."""

from poller.simulators.simulator import Options, Simulator

from .api import Api
from .life import life_of
from .orders import Orders
from .switches import Switches
from .world import DEMO_TOKEN, EXAMPLE, World

__all__ = ["EXAMPLE", "Orders", "Switches", "World", "build", "life_of"]


def build(options: Options, world: World | None = None) -> Simulator[World, Orders, Switches]:
    """A simulated Close with a life; the world given, or one populated as the options say."""
    if world is None:
        world = World(token=options.token or DEMO_TOKEN, clock=options.clock)
        world.populate(opportunities=max(0, options.records - len(world.rows)), seed=options.seed)
        world.log.keep(options.keep)
    orders = Orders(world)
    life = life_of(world, orders, seed=options.seed)
    api = Api(worlds=lambda: simulator.worlds, drift=life.steps, clock=options.clock)
    simulator: Simulator[World, Orders, Switches] = Simulator(
        kind="close", world=world, orders=orders, life=life, app=api.app(), options=options
    )
    return simulator
