"""A bad wire between a Connection and its server: replies get lost, or nobody can be reached."""

from typing import Any

from redis.exceptions import ConnectionError as Cut

from poller.store.connection import Connection


class BadWire:
    """Sits on both clients of a Connection. `down` refuses everything; `lose` replies to scripts vanish."""

    def __init__(self, connection: Connection) -> None:
        self.down = False
        self.lose = 0
        self.refused = 0
        self.lost = 0
        for client in (connection.commands, connection.blocking):
            self._sit_on(client)

    def _sit_on(self, client: Any) -> None:
        execute, pipeline = client.execute_command, client.pipeline

        async def execute_command(*args: Any, **options: Any) -> Any:
            self._refuse()
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

    def _refuse(self) -> None:
        if self.down:
            self.refused += 1
            msg = "nobody answers"
            raise Cut(msg)
