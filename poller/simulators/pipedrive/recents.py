"""/v1/recents: what changed since a moment, of all kinds in one list, one month back and no further."""

from collections.abc import Iterator
from dataclasses import dataclass

from poller.model import dumps

from . import answers, legacy, v1
from .answers import Reply
from .asking import Call
from .tables import DAY_S

MONTH_S = 31 * DAY_S
"""How far back it reaches, in seconds, whatever is asked for; it does not say so."""
ITEMS = (
    "activity", "activityType", "deal", "file", "filter", "note", "person", "organization", "pipeline",
    "product", "stage", "user",
)  # fmt: skip
_TABLES = ("pipeline", "stage", "user", "person", "organization")


@dataclass(frozen=True, slots=True)
class _Item:
    at: float
    item: str
    id: int
    data: bytes

    def body(self) -> bytes:
        return b'{"item":' + dumps(self.item) + b',"id":' + dumps(self.id) + b',"data":' + self.data + b"}"


def recents(call: Call) -> Reply:
    """A page of what changed, only the latest state of each."""
    asked = call.old_moment("since_timestamp")
    since = max(asked, call.world.now() - MONTH_S)
    wanted = call.names("items", ITEMS) or list(ITEMS)
    inclusive = call.world.switches.recents_inclusive
    found = [one for one in _found(call, wanted) if one.at > since or (inclusive and one.at == since)]
    found.sort(key=lambda one: (one.at, one.item, one.id))
    if call.world.switches.recents_order == "desc":
        found.reverse()
    start, limit = v1.window(call)
    page = found[start : start + limit]
    return answers.page_v1(
        (one.body() for one in page),
        start=start,
        limit=limit,
        more=len(found) > start + limit,
        since_timestamp=legacy.moment(asked),
        last_timestamp_on_page=legacy.moment(page[-1].at) if page else None,
    )


def _found(call: Call, wanted: list[str]) -> Iterator[_Item]:
    world = call.world
    if "deal" in wanted:
        for row in world.shown.ordered("deal", "id"):
            if call.token.sees(row.values["owner_id"]):
                yield _Item(row.values["update_time"], "deal", row.id, v1.deal(call, row))
        yield from _tombstones(call)
    for table in _TABLES:
        if table in wanted:
            for named in world.tables[table].values():
                told = legacy.thing(named, world.tables)
                # Of a user there is a list, of everything else an object.
                body = dumps([told] if table == "user" else told)
                yield _Item(int(named.update_time), table, named.id, body)


def _tombstones(call: Call) -> Iterator[_Item]:
    if call.world.switches.tombstones:
        for subject, at in call.world.purged.items():
            kind, _, number = subject.partition("/")
            if kind == "deal":
                yield _Item(int(at), "deal", int(number), b"null")
