"""A service on the stream in a process of its own: notes each event it handles; hangs or fails where told.

Arguments: URL GROUP NOTES [hang]. Each event is a line of the file NOTES before it is handled. With `hang`
the first one is never done; at one named `poison` the body raises, and the service starts anew, as a
supervisor would have it.
"""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TextIO

from poller import subscribe

IDLE_S = 1.0


class Poisoned(Exception):
    """The body fails on this one every time."""


async def main(url: str, group: str, notes: Path, *, hang: bool) -> None:
    """Consume until killed."""
    with notes.open("a", buffering=1) as file:
        while True:
            try:
                await consume(url, group, file, hang=hang)
            except Poisoned:
                continue


async def consume(url: str, group: str, file: TextIO, *, hang: bool) -> None:
    """One life of the service."""
    async with aclosing(subscribe(url, group=group, start="oldest", idle_s=IDLE_S)) as messages:
        async for message in messages:
            name = message.event.data.object.name
            file.write(f"{name} {message.id}\n")
            if hang:
                await asyncio.Event().wait()
            if name == "poison":
                raise Poisoned


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), hang="hang" in sys.argv[4:]))
