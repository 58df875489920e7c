"""Commands beside a service, each in a process of its own, and what they printed."""

import json
from dataclasses import dataclass
from typing import Any

from processes import Home, Running
from waiting import wait_until

TIMEOUT_S = 40


@dataclass(frozen=True)
class Ended:
    """What a command printed, stdout and stderr together, and its exit code."""

    code: int
    text: str

    @property
    def json(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.text)


class Shell:
    """Runs commands beside the service of a home."""

    def __init__(self, at: Home) -> None:
        self._home = at
        self._count = 0

    async def start(self, *arguments: str) -> Running:
        """Start a command in a process of its own."""
        self._count += 1
        log = self._home.settings.with_name(f"command-{self._count}.txt")
        log.touch()
        config = ("--config", str(self._home.settings))
        return await self._home.forks.start(*arguments, *config, log=log)

    async def __call__(self, *arguments: str) -> Ended:
        """Run a command to its end."""
        started = await self.start(*arguments)
        code = await started.end(within_s=TIMEOUT_S)
        return Ended(code, started.log.read_text())

    async def until(self, code: int, *arguments: str, saying: str = "") -> Ended:
        """Run a command again and again until it ends with this code, and says this."""

        async def ended_so() -> Ended | None:
            ended = await self(*arguments)
            return ended if ended.code == code and saying in ended.text else None

        found: Ended = await wait_until(
            ended_so, f"{' '.join(arguments)} to exit {code} saying {saying!r}", TIMEOUT_S
        )
        return found
