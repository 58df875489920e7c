"""A bad wire between a Connection and its server: replies get lost, commands held, or nobody is reached."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ConnectionError as Cut

from poller.store.connection import Connection


@dataclass
class Stop:
    """Holds what comes by all of these names (a command's, a script's hash, a key) until `go_on`."""

    names: tuple[str, ...]
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """A command stands still, and was not executed."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def go_on(self) -> None:
        """Let everything through from here on."""
        self.opened.set()


class BadWire:
    """Sits on both clients of a Connection. `down` refuses everything; `lose` replies to scripts vanish."""

    def __init__(self, connection: Connection) -> None:
        self.down = False
        self.lose = 0
        self.refused = 0
        self.lost = 0
        self.stops: list[Stop] = []
        for client in (connection.commands, connection.blocking):
            self._sit_on(client)

    def _sit_on(self, client: Any) -> None:
        execute, pipeline = client.execute_command, client.pipeline

        async def execute_command(*args: Any, **options: Any) -> Any:
            self._refuse()
            await self._hold(args)
            reply = await execute(*args, **options)
            if self.lose and args[0] in {"EVALSHA", "EVAL"}:
                self.lose -= 1
                self.lost += 1
                msg = "the reply got lost"
                raise Cut(msg)
            return reply

        def make_pipeline(*args: Any, **options: Any) -> Any:
            made = pipeline(*args, **options)
            send = made.execute

            async def execute_all(*args: Any, **options: Any) -> Any:
                self._refuse()
                return await send(*args, **options)

            made.execute = execute_all
            return made

        client.execute_command = execute_command
        client.pipeline = make_pipeline

    def stop(self, *names: str) -> Stop:
        """Hold the commands with all of these among their arguments."""
        self.stops.append(Stop(names))
        return self.stops[-1]

    def go_on(self) -> None:
        """Let everything through again."""
        for stop in self.stops:
            stop.go_on()

    async def _hold(self, args: tuple[Any, ...]) -> None:
        for stop in self.stops:
            if not stop.opened.is_set() and all(name in args for name in stop.names):
                stop.held.set()
                await stop.opened.wait()
                self._refuse()

    def _refuse(self) -> None:
        if self.down:
            self.refused += 1
            msg = "nobody answers"
            raise Cut(msg)
