"""A simulated account that lives, a service in processes of its own that watches it, and what was told.

What is told is held against the simulator's truth log window by window, and, at the end, against itself
(ids, revisions, chains old -> new) and against the account as it stands.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from processes import Home
from receiver import Receiver
from redis.exceptions import RedisError
from waiting import wait_until

from poller.model import canonical, dumps, loads
from poller.simulators.drum import Agency
from poller.simulators.drum.fields import DELIVERABLE_NOISE, RECORD_NOISE, TASK_NOISE
from poller.simulators.life import Life
from poller.store.cluster import Client
from poller.store.keys import Keys

SETTLE_S = 30.0
"""How long a window may take on a busy machine, restarts included."""
QUIET = RECORD_NOISE | DELIVERABLE_NOISE | TASK_NOISE | {"position"}
"""Fields that may move without a word."""
ECHOES = {"completed_date", "deal_won_date", "deal_lost_date"}
"""Dates that only the detail view has, and that a change of status sets: the list tells without them."""
_PATHS = {"opportunity": "/api/v1/opportunities", "project": "/api/v1/projects"}

Told = tuple[str, str]
"""Type and subject."""


class Careful:
    """Orders of a simulated Drum that refuse, by doing nothing, to move a record twice in one window.

    Two transitions of one record between two readings are one change to any observer; so each of them
    stands through a reading, and each is due as an event of its own.
    """

    def __init__(self, sim: Any) -> None:
        self.moved: set[int] = set()
        self.work = _CarefulWork(self, sim)
        self._orders, self._world = sim.orders, sim.world

    def __getattr__(self, name: str) -> Any:
        order = getattr(self._orders, name)
        if name in ("rename", "in_use", "due"):
            return order
        return self.guarded(order, lambda subject, *_: getattr(subject, "id", subject))

    def guarded(self, order: Any, record_of: Any) -> Any:
        """The order, unless its record has moved in this window."""

        def give(*given: Any, **fields: Any) -> Any:
            record = record_of(*given) if given else None
            if record in self.moved:
                return ()
            entries = order(*given, **fields)
            if record is None and entries:
                record = int(entries[0].subject.partition("/")[2])
            if record is not None and entries:
                self.moved.add(record)
            return entries

        return give


class _CarefulWork:
    def __init__(self, careful: Careful, sim: Any) -> None:
        self._careful, self._work, self._world = careful, sim.orders.work, sim.world

    def __getattr__(self, name: str) -> Any:
        what = "task" if name in ("update_task", "move_task", "remove_task", "track_time") else "deliverable"

        def record_of(subject: Any, *_: Any) -> int:
            return subject.id if name == "insert" else self._world.homes[what, subject]

        return self._careful.guarded(getattr(self._work, name), record_of)


@dataclass
class Window:
    """Some transitions, and what is due for them."""

    entries: list[Any]
    records: set[int]

    @property
    def arrived(self) -> set[int]:
        """Records that came into a list: what is nested in them is due only after their first reading."""
        came = ("created", "appeared", "restored", "opportunity.reopened")
        return {int(each.subject.partition("/")[2]) for each in self.entries if each.type.endswith(came)}

    @property
    def due(self) -> list[Told]:
        """What an ideal observer would publish of them, the source's own events apart."""
        return [
            (each.type, each.subject)
            for each in self.entries
            if each.seen and not each.noise and not each.type.startswith("poller.")
        ]


@dataclass
class Tale:
    """One account under watch."""

    sim: Any
    home: Home
    url: str = ""
    """Of an external Redis; empty: the embedded one."""
    source: str = "acme"
    seed: int = 5
    transitions: int = 0
    due: list[Told] = field(default_factory=list)
    truths: list[Any] = field(default_factory=list)
    started_as: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The account at the baseline, by subject."""
    _last: str = "-"
    _events: list[dict[str, Any]] = field(default_factory=list)
    _told: Counter[Told] = field(default_factory=Counter)
    _careful: Any = None
    _life: Any = None

    def __post_init__(self) -> None:
        self._careful = Careful(self.sim)
        actions = Agency(self.sim.world, self._careful, seed=self.seed).actions()
        self._life = Life(actions, seed=self.seed)

    # --- what happens ---------------------------------------------------------------------------
    def live(self, steps: int) -> Window:
        """Let so many transitions happen at once, no two of them to one record."""
        self._careful.moved.clear()
        entries = [entry for step in self._life.steps(steps) for entry in step.entries]
        self.transitions += steps
        window = Window(entries, set(self._careful.moved))
        self.due += window.due
        self.truths += entries
        return window

    def asked(self) -> int:
        """Number of the last request that reached the simulator."""
        return self.sim.requests[-1].number if self.sim.requests else 0

    def account(self) -> dict[str, dict[str, Any]]:
        """The account as it stands, by subject."""
        found: dict[str, dict[str, Any]] = {}
        for record in self.sim.world.rows:
            state = self.sim.world.state(record)
            if state is not None:
                found[state.subject] = _read(state.known)
                found |= {subject: _read(part.values) for subject, part in state.parts.items()}
        return found

    # --- what is told -----------------------------------------------------------------------------
    async def events(self) -> list[dict[str, Any]]:
        """The whole stream, decoded; what is new is read, the rest remembered."""
        url = self.url or self.home.server_url()
        if url is None:
            return self._events
        start = "-" if self._last == "-" else f"({self._last}"
        client: Any = Client(url, timeout_s=2, most=1)
        try:
            found = await client.xrange(Keys().events(self.source), start, "+")
        except (RedisError, OSError):
            return self._events
        finally:
            await client.disconnect()
        if found:
            self._last = found[-1][0].decode()
        for _, fields in found:
            event = loads(fields[b"event"])
            self._events.append(event)
            self._told[event["type"], event["subject"]] += not event["type"].startswith("poller.")
        return self._events

    def forget(self) -> None:
        """The server was killed: its stream may have lost its tail, so read all of it again."""
        self._last, self._events, self._told = "-", [], Counter()

    async def ask(self, request: Mapping[str, Any]) -> None:
        """Leave an operator's request, as the commands do; lost where the server is away."""
        client: Any = Client(self.url or self.home.server_url() or "", timeout_s=2, most=1)
        try:
            await client.rpush(Keys().requests(self.source), dumps(request))
        except (RedisError, OSError):
            return
        finally:
            await client.disconnect()

    async def told(self) -> Counter[Told]:
        """How often each type was told of each subject, the source's own events apart."""
        await self.events()
        return +self._told

    # --- waiting ------------------------------------------------------------------------------------
    async def baseline(self) -> None:
        """Wait until every list and every record was read once."""
        await wait_until(self._is_baselined, "the baseline", SETTLE_S)
        await self._read_since(0, set(self.sim.world.rows))
        self.started_as = self.account()

    async def _is_baselined(self) -> bool:
        return any(event["type"] == "poller.source.baseline_completed" for event in await self.events())

    async def settle(self, window: Window) -> None:
        """Wait until what is due was told, and what came into a list was read by its id and listed once more.

        A reading by id is dropped while the list has not shown the record, so only later ones count.
        """
        await wait_until(lambda: self.url or self.home.server_url(), "a server", SETTLE_S)
        await self._ask_for(window.records)
        await self._until_told()
        told = self.asked()
        await self._ask_for(window.arrived)
        await self._read_since(told, window.arrived)
        await wait_until(lambda: self._are_listed_since(told), "both lists once more", SETTLE_S)

    def _are_listed_since(self, after: int) -> bool:
        """A record that moved to the other list is told before that list showed its row: so wait for it."""
        done: set[str] = set()
        later: set[str] = set()
        for each in _newest_first(self.sim.requests, after):
            if later - {each.path} and "page=1&" in f"{each.query}&" and each.status == 200:
                done.add(each.path)
            later.add(each.path)
        return done >= set(_PATHS.values())

    async def _ask_for(self, records: set[int]) -> None:
        """Have these read by their id before all others."""
        for record in sorted(records):
            row = self.sim.world.rows[record]
            if not row.archived:
                await self.ask({"do": "poll", "record": f"{row.kind}/{record}"})

    async def _until_told(self) -> None:
        due = Counter(self.due)

        async def told() -> bool:
            return not due - await self.told()

        try:
            await wait_until(told, "what is due", SETTLE_S)
        except BaseException as exc:
            exc.add_note(f"missing: {due - await self.told()}; too much: {await self.told() - due}")
            raise

    async def _read_since(self, after: int, records: set[int]) -> None:
        """The detail of each was read, and another request followed: so it was committed."""
        rows = self.sim.world.rows
        wanted = {f"{_PATHS[rows[record].kind]}/{record}" for record in records if not rows[record].archived}

        def read() -> bool:
            asked = list(_newest_first(self.sim.requests, after))
            done = {each.path for each in asked[1:] if each.end and each.status == 200}
            return wanted <= done

        await wait_until(read, f"the details of {len(wanted)} records", SETTLE_S)

    # --- judging -------------------------------------------------------------------------------------
    async def verdict(self) -> "Verdict":
        """Hold what was told against what happened."""
        self.forget()
        events = await self.events()
        told, due = await self.told(), Counter(self.due)
        return Verdict(
            events=events,
            missing=sorted((due - told).elements()),
            invented=sorted((told - due).elements()),
            broken=[
                *broken(events, self.started_as),
                *unlike(events, self.started_as, self.account()),
                *otherwise(events, self.truths),
            ],
        )


@dataclass
class Verdict:
    """What a tale came to."""

    events: list[dict[str, Any]]
    missing: list[Told]
    invented: list[Told]
    broken: list[str]
    """Ids twice, revisions with gaps, chains that do not hold, a fold that is not the account."""

    @property
    def told(self) -> list[dict[str, Any]]:
        """The events of records, the source's own apart."""
        return [event for event in self.events if not event["type"].startswith("poller.")]

    def check(self, receiver: Receiver | None = None) -> None:
        """Fail with all that is wrong."""
        wrong = {"missing": self.missing, "invented": self.invented, "broken": self.broken}
        if receiver is not None:
            here, there = {event["id"] for event in self.events}, set(receiver.counts)
            names: dict[tuple[str, int], set[str]] = {}
            for each in receiver.got:
                names.setdefault((each.subject, each.revision), set()).add(each.id)
            wrong["refused"] = receiver.refused
            wrong["undelivered"] = sorted(here - there)
            wrong["delivered, and not in the stream"] = sorted(there - here)
            wrong["two ids for one revision"] = sorted(key for key, ids in names.items() if len(ids) > 1)
        found = [f"{what} ({len(items)}): {items[:10]}" for what, items in wrong.items() if items]
        if found:
            pytest.fail("\n".join(found))


def broken(events: Iterable[Mapping[str, Any]], start: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What does not hold within a stream: ids, revisions, and each old value being the last known one."""
    found: list[str] = []
    ids: set[str] = set()
    revisions: Counter[str] = Counter()
    known = {subject: dict(fields) for subject, fields in start.items()}
    for event in events:
        subject, data = event["subject"], event["data"]
        name = f"{event['type']} {subject} revision {data['revision']}"
        if event["id"] in ids:
            found.append(f"{name}: the id {event['id']} is there twice")
        ids.add(event["id"])
        revisions[subject] += 1
        if data["revision"] != revisions[subject]:
            found.append(f"{name}: revision {revisions[subject]} was expected")
            revisions[subject] = data["revision"]
        mine = known.setdefault(subject, {})
        names = data["previous"].keys() & mine.keys() - QUIET - ECHOES
        found += [
            f"{name}: {key} was {mine[key]!r}, not {data['previous'][key]!r}"
            for key in names
            if not subject.startswith("source/") and plain(mine[key]) != plain(data["previous"][key])
        ]
        mine.update(data["object"])
    return found


def unlike(
    events: Iterable[Mapping[str, Any]],
    start: Mapping[str, Mapping[str, Any]],
    end: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Where the stream, folded over the account as it was, is not the account as it is."""
    fold: dict[str, dict[str, Any]] = {subject: dict(fields) for subject, fields in start.items()}
    for event in events:
        subject, verb = event["subject"], event["type"].rpartition(".")[2]
        if verb == "removed":
            fold.pop(subject, None)
        else:
            fold[subject] = {**fold.get(subject, {}), **event["data"]["object"]}
        if verb == "won":
            fold.pop(subject)
    found = []
    for subject, fields in end.items():
        mine = fold.get(subject)
        if mine is None:
            if subject.partition("/")[0] in _PATHS:
                found.append(f"{subject} is there, and the stream does not know it")
            continue
        found += [
            f"{subject}: {key} is {fields[key]!r}, the stream ends with {mine[key]!r}"
            for key in (fields.keys() & mine.keys()) - QUIET - ECHOES
            if plain(mine[key]) != plain(fields[key])
        ]
    gone = [key for key in fold.keys() - end.keys() if key.partition("/")[0] in _PATHS]
    return found + [f"{subject} is gone, and the stream does not know it" for subject in gone]


def otherwise(events: Iterable[Mapping[str, Any]], truths: Iterable[Any]) -> list[str]:
    """Where an event of changed fields names others than truly changed, in the order of its subject."""
    told: dict[Told, list[Any]] = {}
    for event in events:
        told.setdefault((event["type"], event["subject"]), []).append(event["data"])
    found = []
    for truth in truths:
        mine = told.get((truth.type, truth.subject))
        if not truth.seen or truth.noise or not mine or truth.type.endswith((".won", "opportunity.reopened")):
            continue
        changed, true = set(mine.pop(0)["changed"]) - QUIET, set(truth.changed) - QUIET
        if not changed <= true <= changed | ECHOES:
            found.append(f"{truth.type} {truth.subject}: {sorted(changed)} are said, {sorted(true)} are true")
    return found


def plain(value: Any) -> bytes:
    """A value without what may differ: how a number is written, the order of a set, a thing's name."""
    return canonical(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        named = "id" in value and "name" in value
        return {key: _plain(item) for key, item in value.items() if not (named and key == "name")}
    if isinstance(value, list):
        return sorted((_plain(item) for item in value), key=canonical)
    if isinstance(value, bool) or value is None:
        return value
    try:
        return str(Decimal(str(value)).normalize())
    except InvalidOperation:
        return value


def show(*rows: Iterable[Any]) -> None:
    """Print a small table; pytest shows it with -s or -rP."""
    lines = ["".join(f"{cell!s:>13}" for cell in row) for row in rows]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def _read(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As a caller reads it from the wire."""
    found: dict[str, Any] = loads(dumps(dict(fields)))
    return found


def _newest_first(requests: Any, after: int) -> Iterator[Any]:
    for each in reversed(requests):
        if each.number <= after:
            return
        yield each
