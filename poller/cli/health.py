"""`poller health`: what a container's health check asks, answered from Redis."""

import socket

import typer

from poller.store.leases import living

from .connect import Store, with_store
from .output import complain, say, show_json
from .root import EXIT_UNWELL, ConfigOption, JsonOption, app


@app.command()
def health(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Exit 0 if a `poller run` of this host was alive within the lease, 1 if not, 69 if Redis is away."""
    host = socket.gethostname()
    alive = with_store(ctx, config, alive_here, quiet=True)
    if as_json:
        show_json({"host": host, "well": bool(alive), "replicas": alive})
    elif alive:
        say(f"alive: {', '.join(alive)}")
    else:
        complain(f"no `poller run` of host {host} is alive: see its log, or start it")
    if not alive:
        raise typer.Exit(EXIT_UNWELL)


async def alive_here(store: Store) -> list[str]:
    """The replicas of this host whose last heartbeat is younger than the lease."""
    ttl_s = store.settings.redis.lease.total_seconds()
    names = await living(store.connection, store.keys, ttl_s=ttl_s)
    host = socket.gethostname()
    return sorted(name for name in names if name.rsplit("-", 2)[0] == host)
