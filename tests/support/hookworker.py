"""A process that serves one endpoint until it is killed: hookworker.py REDIS_URL HOOK_URL FENCE."""

import asyncio
import random
import sys
import time
from ipaddress import ip_network
from typing import Any

from poller.deliver.endpoint import Endpoint
from poller.deliver.settings import EndpointSettings
from poller.store.connection import Connection
from poller.store.keys import Keys


async def silent(source: str, type_: str, subject: str, object_: dict[str, Any]) -> None:
    """Nothing is announced here."""


async def main(redis_url: str, hook_url: str, fence: str) -> None:
    """Serve for ever."""
    endpoint = Endpoint(
        settings=EndpointSettings(
            name="hook",
            url=hook_url,
            secrets=(bytes(32),),
            start="oldest",
            allow_private=(ip_network("127.0.0.0/8"),),
        ),
        connection=Connection.open(redis_url),
        keys=Keys(),
        sources=["acme"],
        fence=int(fence),
        now=time.time,
        chance=random.random,
        announce=silent,
    )
    await endpoint.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
