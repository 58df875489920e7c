"""Fields that the token may no longer read, or may read again: said once for the source, not per record.

A key that vanishes from many rows or detail views at once is the token's doing (facts.md §1.10). What the
lists show first is asked of a few detail views too, so that one change of a role is one event.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from .batch import ListMemory
from .details import Details
from .diff import Diff
from .events import Bounds
from .session import SourceSession
from .sources.base import Child, Kind, Reading

MANY_ROWS = 0.2
FEW = 5
"""A field that a fifth of the rows lost, or five of them, or all where there are fewer, is hidden."""
DETAILS = 3
"""As many detail views have to agree."""
View = tuple[str, Mapping[str, Any], list[Child]]
"""Of which kind, its own fields, what is nested in it."""
SIGNS = {"-": ("fields_hidden", False), "+": ("fields_shown", True)}


class Visibility:
    """What the token may read of one source's records."""

    def __init__(self, session: SourceSession, details: Details) -> None:
        self._session = session
        self._details = details

    def count(self, kind: Kind, diff: Diff) -> None:
        """Note which fields a row lost or has again."""
        visible, mine = self._session.memory.visible, self._session.memory.lists[kind.name]
        for names, told in ((diff.hidden, False), (diff.shown, True)):
            for name in names:
                if visible.get(f"{kind.name}.{name}") is not told:
                    self._add(mine, name, shown=told)

    @staticmethod
    def _add(mine: ListMemory, name: str, *, shown: bool) -> None:
        if shown:
            mine.shown = {**mine.shown, name: mine.shown.get(name, 0) + 1}
        else:
            mine.hidden = {**mine.hidden, name: mine.hidden.get(name, 0) + 1}

    async def settle(self, kind: Kind, listed: int) -> None:
        """After a complete sweep: say what many records lost or have again."""
        memory, mine = self._session.memory, self._session.memory.lists[kind.name]
        many = max(listed * MANY_ROWS, min(FEW, listed))
        rows = {f"-{kind.name}.{name}" for name, count in mine.hidden.items() if count >= many}
        rows |= {f"+{kind.name}.{name}" for name, count in mine.shown.items() if count >= many}
        mine.hidden, mine.shown = {}, {}
        ripe = {name for name, count in memory.noticed.items() if count >= await self._enough(name)}
        if not (rows or ripe):
            return
        views = await self._survey() if self._session.manner.details else []
        seen = {name for name in memory.noticed if self._agreed(name, views)}
        told = {name: memory.noticed_since.get(name, mine.whole_at) for name in seen}
        told |= dict.fromkeys(rows, mine.whole_at)
        memory.noticed = {name: n for name, n in memory.noticed.items() if name not in seen | ripe}
        memory.noticed_since = {n: at for n, at in memory.noticed_since.items() if n in memory.noticed}
        await self._tell(told)

    async def _enough(self, name: str) -> int:
        """How many detail views have to have noticed it: a few, or all where there are fewer."""
        kind = name[1:].partition(".")[0]
        listed = kind in self._session.source.lists
        return min(DETAILS, await self._session.snapshots.listed(kind)) if listed else DETAILS

    async def _survey(self) -> list[View]:
        """A few detail views of each list, taken in like any other."""
        session, views = self._session, list[View]()
        for name in session.source.lists:
            ids = sorted(await session.snapshots.listed_ids(name))
            for record_id in ids[:: max(1, len(ids) // DETAILS)][:DETAILS]:
                reading = await session.read(name, record_id)
                if isinstance(reading, Reading):
                    await self._details.take(session.source.kinds[name], record_id, reading)
                    views.append((name, *session.source.nested(reading.view)[:2]))
        return views

    @staticmethod
    def _agreed(name: str, views: Iterable[View]) -> bool:
        """Whether the views just read bear out what was noticed."""
        kind, _, field = name[1:].partition(".")
        found = [field in own for of, own, _ in views if of == kind]
        found += [field in child.view for *_, children in views for child in children if child.kind == kind]
        return bool(found) and all(has == (name[0] == "+") for has in found)

    async def _tell(self, names: Mapping[str, float]) -> None:
        """Say what is hidden or shown; `names` has when each was last seen to be otherwise."""
        session = self._session
        batch = session.batch()
        for sign, (suffix, visible) in SIGNS.items():
            fields = [
                name
                for name in sorted(each[1:] for each in names if each[0] == sign)
                if session.memory.visible.get(name) is not visible
            ]
            session.memory.visible |= dict.fromkeys(fields, visible)
            if fields:
                bounds = Bounds(min(names[sign + name] for name in fields), session.now())
                batch.say_source(session.memory, suffix, {"fields": fields}, bounds=bounds)
        await session.commit(batch)
