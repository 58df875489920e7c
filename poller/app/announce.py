"""Events about endpoints, in the streams of the sources they concern, each of them once."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from poller.errors import Conflict
from poller.model import Event, dumps
from poller.store import snapshots
from poller.store.connection import Connection
from poller.store.keys import Keys
from poller.watch.events import Bounds, Known, make

REMEMBERED = 50
"""Notices that a subject remembers, so that one that is repeated after a crash is not said twice."""
TRIES = 5


class _Spoken(msgspec.Struct):
    known: Known = msgspec.field(default_factory=Known)
    notices: list[str] = []


_decoder = msgspec.json.Decoder(_Spoken)


class Announcer:
    """Writes `poller.webhook.*` events; kinds maps a source's name to its kind."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        kinds: Mapping[str, str],
        *,
        said: Callable[[str, Sequence[Event]], None] | None = None,
    ) -> None:
        """`said` hears of each event, with its source, once it stands."""
        self._said = said
        self._connection = connection
        self._keys = keys
        self._kinds = kinds

    async def __call__(self, source: str, type_: str, subject: str, object_: dict[str, Any]) -> None:
        """Say it once for each `object["id"]`.

        Raises:
            StoreUnavailable: it may or may not be said; call again with the same object.
        """
        name = subject.partition("/")[2]
        for _ in range(TRIES):
            read = await snapshots.subject(self._connection, self._keys, source, name)
            spoken = _decoder.decode(read) if read else _Spoken()
            if object_.get("id") in spoken.notices:
                return
            now = time.time()
            event = make(
                spoken.known,
                source=f"/{self._kinds.get(source, 'drum')}/{source}",
                subject=subject,
                type_=type_,
                bounds=Bounds(now, now),
                object_=object_,
                detected_at=now,
            )
            spoken.notices = [*spoken.notices, str(object_.get("id"))][-REMEMBERED:]
            if await snapshots.say(self._connection, self._keys, source, name, read, dumps(spoken), event):
                if self._said is not None:
                    self._said(source, [event])
                return
        msg = f"{subject} in the stream of {source!r}: others speak of it at the same time"
        raise Conflict(msg)
