"""What operators may do, what that will mean and touch, and doing it: for the page and the API alike."""

import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from poller import schemas
from poller.deliver import trial
from poller.deliver.filters import wanted_by, wants_source
from poller.model import Event, dumps, loads, rfc3339
from poller.store import snapshots
from poller.store.letters import Letter, before_ms
from poller.store.operators import EndpointAdmin
from poller.store.streams import Streams

from .answers import DeadAnswer, Done, EndpointAnswer, SourceAnswer, TestDone
from .context import WebContext
from .search import valid_place
from .words import plural, span, unknown, unknown_type

SourceDo: TypeAlias = Literal["poll", "pause", "resume", "resync", "release"]
HookDo: TypeAlias = Literal["test", "resend", "recover", "enable", "disable"]
SOURCE_DOS: tuple[SourceDo, ...] = ("poll", "pause", "resume", "resync", "release")
HOOK_DOS: tuple[HookDo, ...] = ("test", "resend", "recover", "enable", "disable")
COUNTED = 5_000
"""Events that are counted before something is sent again; of more it is said that they are more."""
COUNT_S = 0.05
FIND_S = 0.5
"""An event's id is looked for among some 100,000 in this time; by its place it is found at once."""
_ID = re.compile(r"[A-Za-z0-9_-]+")


class Refused(Exception):
    """It cannot be done as things stand; the message says why, and what to do. `status` is the HTTP one."""

    def __init__(self, message: str, *, status: int = 409, code: str = "conflict") -> None:
        self.status, self.code = status, code
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an action is about to do."""

    title: str
    button: str
    means: str
    touches: int | None = None
    """Events or records that it concerns."""
    perform: Callable[[], Awaitable[Done]]
    grave: bool = False
    """Whether it cannot be taken back."""


class Actions:
    """Plans and performs."""

    def __init__(self, context: WebContext, *, now: Callable[[], float] = time.time) -> None:
        self._context = context
        self._now = now
        self._admin = EndpointAdmin(context.connection, context.keys)
        self._streams = Streams(context.connection, context.keys)

    # --- sources ------------------------------------------------------------------------------

    async def source(self, name: str, do: SourceDo, *, record: str = "") -> Plan:
        """Plan one.

        Raises:
            Refused: there is no such source or record, or it makes no sense now.
        """
        standing = await self.source_standing(name)
        if record:
            self._demand_readable(name, record)
        if standing.state == "paused" and do in ("poll", "resync"):
            msg = f"{name} is paused, and nothing of it is read: `poller sources resume {name}` first"
            raise Refused(msg)
        if do == "release" and not standing.held:
            msg = f"{name}: nothing is held, so there is nothing to release"
            raise Refused(msg)
        title, button, means = source_words(standing, do, record)
        touches = standing.held if do == "release" else None
        waits = "" if standing.held_by else " Nobody polls it now: it is done when `poller run` does."

        async def perform() -> Done:
            request = {"do": do, **({"record": record} if record else {})}
            await snapshots.ask(self._context.connection, self._context.keys, name, dumps(request))
            return Done(done=True, means=means + waits, touches=touches)

        return Plan(
            title=title,
            button=button,
            means=means + waits,
            touches=touches,
            perform=perform,
            grave=do == "release",
        )

    async def source_standing(self, name: str) -> SourceAnswer:
        """How a source stands.

        Raises:
            Refused: there is no such source.
        """
        found = next((each for each in (await self._context.look()).sources if each.source == name), None)
        if found is None:
            raise Refused(unknown("source", name, self._context.sources), status=404, code="not_found")
        return found

    def _demand_readable(self, name: str, record: str) -> None:
        kind, _, record_id = record.partition("/")
        lists = self._context.sources[name].lists
        # It becomes a part of the CRM's URL: with a `/` or a `?` in it, of another one.
        if kind not in lists or not _ID.fullmatch(record_id):
            known = " or ".join(f"{each}/ID" for each in lists)
            msg = f"{record!r} cannot be read by itself; name a record as {known}"
            raise Refused(msg, status=422, code="invalid")

    # --- endpoints ------------------------------------------------------------------------------

    async def endpoint_standing(self, name: str) -> EndpointAnswer:
        """How an endpoint stands.

        Raises:
            Refused: there is no such endpoint.
        """
        found = next((each for each in (await self._context.look()).webhooks if each.webhook == name), None)
        if found is None:
            raise Refused(unknown("webhook", name, self._context.endpoints), status=404, code="not_found")
        return found

    async def endpoint(self, name: str, do: HookDo, given: Mapping[str, Any]) -> Plan:
        """Plan one; `given` is what a request or a form says, by the API's names.

        Raises:
            Refused: there is no such endpoint or event, or it makes no sense now.
        """
        match do:
            case "test":
                return await self.test(name, type_=given.get("type", ""))
            case "resend":
                return await self.resend(name, given.get("event", ""), source=given.get("source", ""))
            case "recover" if given.get("dead"):
                return await self.recover_dead(name)
            case "recover":
                return await self.recover_since(name, given.get("since", ""))
            case "enable":
                return await self.enable(name, from_now=given.get("from") == "now")
            case "disable":
                return await self.disable(name)

    def sources_of(self, name: str) -> list[str]:
        """The sources whose events an endpoint takes."""
        globs = self._context.endpoints[name].sources
        return [source for source in self._context.sources if wants_source(globs, source)]

    async def dead(self, name: str, *, count: int) -> list[DeadAnswer]:
        """The oldest dead letters of an endpoint, over all its sources."""
        found = [
            _dead(source, letter)
            for source in self.sources_of(name)
            for letter in await self._admin.dead(name, source, count=count)
        ]
        return sorted(found, key=lambda each: each.died_at)[:count]

    async def enable(self, name: str, *, from_now: bool = False) -> Plan:
        """Plan to let an endpoint go on."""
        standing = await self.endpoint_standing(name)
        waiting = plural(standing.waiting, "event")
        means = (
            f"It goes on from now, and passes over what it has not taken: {waiting}. Those that were tried "
            "already become dead letters and can be resent, the others can be recovered."
            if from_now
            else f"It goes on from its place, oldest first; waiting for it: {waiting}."
        )

        async def perform() -> Done:
            await self._admin.enable(name, from_now=from_now)
            return Done(done=True, means=means, touches=standing.waiting)

        return Plan(
            title=f"Enable {name}{' from now' if from_now else ''}",
            button="Enable from now" if from_now else "Enable",
            means=means,
            touches=standing.waiting,
            perform=perform,
            grave=from_now,
        )

    async def disable(self, name: str) -> Plan:
        """Plan to send nothing more to an endpoint."""
        standing = await self.endpoint_standing(name)
        means = (
            "Nothing more is sent to it until it is enabled. It keeps its place, and what comes is kept "
            f"within the retention; waiting for it now: {plural(standing.waiting, 'event')}."
        )

        async def perform() -> Done:
            await self._admin.disable(name)
            return Done(done=True, means=means, touches=standing.waiting)

        return Plan(
            title=f"Disable {name}", button="Disable", means=means, touches=standing.waiting, perform=perform
        )

    async def test(self, name: str, *, type_: str = "") -> Plan:
        """Plan to send one example."""
        await self.endpoint_standing(name)
        wanted = type_ or trial.TEST_TYPE
        event = example_of(wanted, endpoint=name, now=self._now())
        means = f"One made-up {wanted} is sent now, signed, outside of the queue. No real event is touched."

        async def perform() -> Done:
            return await self._try(name, event)

        return Plan(title=f"Test {name}", button="Send a test", means=means, touches=0, perform=perform)

    async def _try(self, name: str, event: Event) -> TestDone:
        told = await trial.send(self._context.endpoints[name], event, now=self._now())
        return TestDone(
            done=told.ok,
            means=told.verdict,
            touches=0,
            status=told.answer.status,
            ms=round(told.answer.ms, 1),
            headers=dict(told.headers),
            body=loads(told.body),
            excerpt=told.answer.excerpt.decode("utf-8", "replace"),
        )

    async def resend(self, name: str, event: str, *, source: str = "") -> Plan:
        """Plan to send one event again."""
        await self.endpoint_standing(name)
        theirs = self.sources_of(name)
        if source and source not in theirs:
            msg = f"{name} takes no events of it: {unknown('source', source, theirs)}"
            raise Refused(msg, status=404, code="not_found")
        asked = [source] if source else theirs
        known = event.startswith("evt_") or valid_place(event)
        try:
            found = await self._admin.find(name, asked, event, within_s=FIND_S) if known else None
        except TimeoutError as exc:
            msg = (
                f"{event[:80]} was not found within {FIND_S:g} s, and there are older events: name its place "
                f"in the stream (`poller webhooks attempts {name} --json` has it, and its page's address)"
                f"{'' if source or len(theirs) == 1 else ', or its source'}"
            )
            raise Refused(msg) from exc
        if found is None:
            msg = f"{event[:80]!r} is no event that {name} can be sent: is it older than the retention?"
            raise Refused(msg, status=404, code="not_found")
        where, place = found
        means = f"It is sent to {name} again from its first attempt, under its own id."

        async def perform() -> Done:
            if await self._admin.resend(name, where, place) is None:
                msg = f"{event} was taken by the retention meanwhile"
                raise Refused(msg)
            return Done(done=True, means=means, touches=1)

        return Plan(
            title=f"Send one event to {name} again",
            button="Send it again",
            means=means,
            touches=1,
            perform=perform,
        )

    async def recover_dead(self, name: str) -> Plan:
        """Plan to send all dead letters again."""
        standing = await self.endpoint_standing(name)
        means = (
            "Sent again from the first attempt, oldest first, at the endpoint's own pace and under their "
            f"own ids: {plural(standing.dead, 'dead letter')}."
        )

        async def perform() -> Done:
            count = await self._admin.recover_dead(name, self.sources_of(name))
            return Done(done=True, means=means, touches=count)

        return Plan(
            title=f"Send the dead letters of {name} again",
            button="Send them again",
            means=means,
            touches=standing.dead,
            perform=perform,
        )

    async def recover_since(self, name: str, since: str) -> Plan:
        """Plan to send everything again that was detected since a while ago."""
        await self.endpoint_standing(name)
        try:
            seconds = self._context.duration(since).total_seconds()
        except ValueError as exc:
            msg = f'since "{since[:40]}": {exc}'
            raise Refused(msg, status=422, code="invalid") from exc
        at = self._now() - seconds
        count, exact = await self._count_since(name, at)
        about = plural(count, "event") if exact else f"more than {plural(count, 'event')}"
        means = (
            f"Sent again, oldest first, at its own pace and under their own ids: {about} that it wants, "
            f"detected in the last {span(seconds)} (since {rfc3339(at)}). A receiver that keeps the ids "
            "it has seen takes none twice."
        )

        async def perform() -> Done:
            await self._admin.recover_since(name, self.sources_of(name), since=at)
            return Done(done=True, means=means, touches=count if exact else None)

        return Plan(
            title=f"Send events to {name} again",
            button="Send them again",
            means=means,
            touches=count if exact else None,
            perform=perform,
        )

    async def _count_since(self, name: str, at: float) -> tuple[int, bool]:
        """How many events of that time the endpoint wants, and whether that is all of them."""
        settings = self._context.endpoints[name]
        wants = wanted_by(settings.events, settings.filter)
        end, count, walked = time.monotonic() + COUNT_S, 0, 0
        entries = self._streams.merged(self.sources_of(name), after=before_ms(int(at * 1000)))
        async with aclosing(entries):
            async for entry in entries:
                count += wants(entry.event)[0]
                walked += 1
                if walked == COUNTED or time.monotonic() > end:
                    return count, False
        return count, True


def _dead(source: str, letter: Letter) -> DeadAnswer:
    meta = letter.meta
    return DeadAnswer(
        source=source,
        place=letter.place,
        id=meta.id,
        type=meta.type,
        subject=meta.subject,
        time=meta.time,
        attempts=meta.attempts,
        why=meta.why,
        died_at=letter.at,
    )


def example_of(type_: str, *, endpoint: str, now: float) -> Event:
    """An example of any type of the contract, with an id and a time of its own.

    Raises:
        Refused: there is no such type.
    """
    fresh = trial.example(endpoint, now=now, chance=random.random, type_=type_)
    if type_ == trial.TEST_TYPE:
        return fresh
    known = schemas.TYPES.get(type_)
    if known is None:
        raise Refused(unknown_type(type_, schemas.TYPES), status=422, code="invalid")
    made = schemas.example(known)
    body = {**loads(made.body), "id": fresh.id, "time": fresh.time}
    return msgspec.structs.replace(made, id=fresh.id, time=fresh.time, body=dumps(body))


_SOURCE_WORDS: dict[str, tuple[str, str, str]] = {
    "poll": (
        "Read {name} now",
        "Read now",
        "All its lists are read now and not at their next turn: about {pages} requests of the budget.",
    ),
    "pause": (
        "Pause {name}",
        "Pause",
        "Nothing more is read until it is resumed. What changes meanwhile is found then.",
    ),
    "resume": (
        "Resume {name}",
        "Resume",
        "Reading goes on at once, and what changed meanwhile is published. A refused token is tried.",
    ),
    "resync": (
        "Read all of {name} again",
        "Read everything",
        "All lists are read again now, then all details as the budget allows; differences are published.",
    ),
    "release": (
        "Release {name}",
        "They are really gone",
        "{held} missing at once are taken for gone: what answers 404 by its id is published as removed.",
    ),
}


def source_words(source: SourceAnswer, do: str, record: str) -> tuple[str, str, str]:
    """Title, button, and what it means."""
    if do == "poll" and record:
        return f"Read {record} now", "Read it", f"{record} is read next, as soon as the budget allows it."
    facts = {
        "name": source.source,
        "pages": sum(max(2, each.pages + 1) for each in source.lists),
        "held": plural(source.held, "record"),
    }
    title, button, means = (text.format(**facts) for text in _SOURCE_WORDS[do])
    return title, button, means
