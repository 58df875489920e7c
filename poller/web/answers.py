"""What the API takes and gives, as models: answers, requests, and the document made of both rests on them."""

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from poller.model import rfc3339

Moment: TypeAlias = Annotated[float, PlainSerializer(rfc3339, return_type=str)]
"""Unix seconds inside, RFC 3339 UTC outside."""
Span: TypeAlias = Annotated[float, PlainSerializer(lambda seconds: round(seconds, 3), return_type=float)]
"""Seconds, three places outside."""

SourceState: TypeAlias = Literal[
    "polling", "starting", "limited", "stale", "paused", "held", "suspended", "unattended"
]
EndpointWord: TypeAlias = Literal["ok", "failing", "paused", "probing", "disabled", "unattended"]


class _Told(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ListAnswer(_Told):
    """One list of a source."""

    list: str
    records: int
    swept_at: Moment | None = Field(description="Start of the last complete sweep.")
    age_s: Span | None
    took_s: Span | None
    pages: int
    complete: bool = Field(description="Whether the last sweep came to its end; `reason` says why not.")
    reason: str
    held: int = Field(description="Records whose removal waits for an operator; 0 when nothing is held.")
    strange: bool = Field(description="Its first page shared no id with what is known.")


class DetailsAnswer(_Told):
    """How old the detail views are."""

    records: int
    read: int
    looked_at: int
    oldest_s: Span | None


class BudgetAnswer(_Told):
    """How the budget of a source's host stands."""

    limit: int
    learned: int
    allowed: int
    used: dict[str, int] = Field(description="Requests that count now, by what they were for.")
    mood: Literal["open", "blocked", "probing", "ramping"]
    blocked_until: Moment | None
    refusals: int
    blocked_s: Span

    @property
    def share(self) -> float:
        """Of the budget, what counts now."""
        return sum(self.used.values()) / max(1, self.limit)


class SourceAnswer(_Told):
    """One source, and how it stands."""

    source: str
    kind: str
    base_url: str
    state: SourceState
    why: str
    well: bool
    held_by: str | None = Field(description="The replica that polls it.")
    every_s: Span
    period_s: Span = Field(description="Expected time between two sweeps of one list.")
    lists: list[ListAnswer]
    details: DetailsAnswer | None
    expected_delay_s: Span | None = Field(
        description="From a change to its event on average, as the schedule has it now."
    )
    observed_delay_s: Span | None = Field(
        description="The same as late events tell it, each taken as the middle of its bounds."
    )
    spent: dict[str, int] = Field(
        description="Requests that this source itself paid for in the last window, by what they were for."
    )
    budget: BudgetAnswer = Field(description="Of its host, which other sources may share.")
    window_s: Span
    unit: str = Field(description="What the budget counts: requests, or tokens of which one costs several.")
    reported_at: Moment | None

    @property
    def held(self) -> int:
        """Records whose removal waits."""
        return sum(each.records if each.strange else each.held for each in self.lists)


class EndpointAnswer(_Told):
    """One endpoint, over all its sources."""

    webhook: str
    host: str
    format: str
    state: EndpointWord
    why: str
    well: bool
    held_by: str | None = Field(description="The replica that serves it.")
    waiting: int = Field(description="Not delivered yet, for another attempt or for the first.")
    dead: int
    oldest_waiting_s: Span | None
    last_success: Moment | None
    delivered: int
    filtered: int
    unsure: int = Field(description="Events that the filter failed on, and that passed.")
    lost: int = Field(description="Events that the retention took before they were sent.")
    recovering: bool


class Overview(_Told):
    """Everything."""

    at: Moment
    well: bool
    replicas: dict[str, Span] = Field(description="Replica -> seconds since its last heartbeat.")
    sources: list[SourceAnswer]
    webhooks: list[EndpointAnswer]


class SourcesAnswer(BaseModel):
    """All sources."""

    sources: list[SourceAnswer]


class WebhooksAnswer(BaseModel):
    """All endpoints."""

    webhooks: list[EndpointAnswer]


class PlacedEvent(BaseModel):
    """An event at its place in a source's stream."""

    source: str
    place: str = Field(description="The stream's entry id.")
    event: dict[str, Any] = Field(description="The CloudEvent.")


class EventsAnswer(BaseModel):
    """Events, newest first."""

    events: list[PlacedEvent]
    next: str | None = Field(description="Give it as `before` to go on; null at the end.")
    searched_to: Moment | None = Field(description="How far back the search came, where it has not ended.")


class RecordAnswer(BaseModel):
    """A record as known, and its events that are still in the stream, oldest first."""

    source: str
    record: str
    state: Literal["listed", "gone", "nested"]
    object: dict[str, Any]
    revision: int
    detail_at: Moment | None
    amount: str | None = Field(description="Amount last known.")
    parent: str | None
    events: list[PlacedEvent]
    complete: bool = Field(description="Whether these are all of its events within the retention.")


class AttemptAnswer(_Told):
    """One attempt."""

    at: Moment
    source: str
    place: str
    event: str
    type: str
    subject: str
    attempt: int
    outcome: str = Field(
        description="delivered, later, dead, probe (failed, and cost no attempt), or gone (410)."
    )
    status: int | None
    fault: str
    detail: str
    ms: float
    excerpt: str
    next: Moment | None


class AttemptsAnswer(BaseModel):
    """An endpoint's newest attempts, newest first; the last 1,000 are kept."""

    webhook: str
    attempts: list[AttemptAnswer]


class DeadAnswer(BaseModel):
    """One dead letter."""

    source: str
    place: str
    id: str
    type: str
    subject: str
    time: str
    attempts: int
    why: str
    died_at: Moment


class DeadsAnswer(BaseModel):
    """An endpoint's dead letters, oldest first; kept for 14 days."""

    webhook: str
    dead: list[DeadAnswer]


class Done(BaseModel):
    """What an action did."""

    done: bool
    means: str = Field(description="What that means, in words.")
    touches: int | None = Field(None, description="How many events or records it concerns.")


class TestDone(Done):
    """How one example fared."""

    status: int | None
    ms: float
    headers: dict[str, str]
    body: dict[str, Any]
    excerpt: str


class Fault(BaseModel):
    """What went wrong, and what to do about it."""

    code: str
    message: str


class FaultAnswer(BaseModel):
    """An error."""

    error: Fault


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PollRequest(_Asked):
    """Read now, within the budget."""

    record: str | None = Field(None, description="This record only, e.g. opportunity/101.", max_length=200)


class NoRequest(_Asked):
    """Nothing to say."""


class TestRequest(_Asked):
    """Send one example now."""

    type: str | None = Field(None, description="Its type.", max_length=100, pattern=r"^[a-z0-9_.]+$")


class ResendRequest(_Asked):
    """Send one event again."""

    event: str = Field(description="Its id or its place in the stream.", max_length=100)
    source: str | None = Field(None, description="Whose; else all are searched.", max_length=32)


class RecoverRequest(_Asked):
    """Send several events again: those since a while ago, or all dead letters."""

    since: str | None = Field(None, description="A duration such as 2h.", max_length=20)
    dead: bool = False


class EnableRequest(_Asked):
    """Go on from the kept place, or from now."""

    start: Literal["place", "now"] = Field("place", alias="from")


def _glob(text: str) -> str:
    if _GLOB.fullmatch(text):
        return text
    msg = 'an event type or a glob over it, such as "*.won" or "drum.project.*"'
    raise ValueError(msg)


_GLOB = re.compile(r"(?:[a-z0-9_.*?]|\[!?[a-z0-9_-]+\])*")
TypeGlob: TypeAlias = Annotated[str, AfterValidator(_glob)]


class EventsQuery(_Asked):
    """Which events."""

    type: TypeGlob = Field("", description='A glob over the type, e.g. "*.won".', max_length=100)
    source: str = Field("", description="Only this source.", max_length=32)
    subject: str = Field(
        "", description="Only this record, e.g. opportunity/101; or an event's id.", max_length=200
    )
    q: str = Field("", description="A text that stands somewhere in the event.", max_length=200)
    limit: int = Field(50, ge=1, le=200)
    before: str = Field("", description="`next` of the answer before.", max_length=100)


class CountQuery(_Asked):
    """How many."""

    limit: int = Field(100, ge=1, le=1000)


class HintTaken(BaseModel):
    """What a hint led to."""

    reads: str | None = Field(description="The record that is read next; null where nothing is.")


class Probe(BaseModel):
    """Whether all is well."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] | None = Field(None, description="Why not. Only for who has web.token.")
    notes: list[str] | None = Field(
        None, description="What happened and is over. Only for who has web.token."
    )
