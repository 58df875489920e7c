"""What the overview shows: what needs somebody first, then how everything stands. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from .answers import EndpointAnswer, Overview, SourceAnswer
from .words import plural, span


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs somebody, and the page where it is done."""

    title: str
    why: str
    href: str
    button: str


def needs(seen: Overview) -> list[Need]:
    """What needs somebody, the gravest first."""
    found = [*_replicas(seen)]
    for source in seen.sources:
        found += _source(source)
    for webhook in seen.webhooks:
        found += _endpoint(webhook)
    return found


def _replicas(seen: Overview) -> Iterator[Need]:
    unattended = [each.source for each in seen.sources if each.state == "unattended"]
    if unattended and not seen.replicas:
        yield Need("Nothing is polled", "no replica is alive: start `poller run`", "/", "Look again")


def _source(source: SourceAnswer) -> Iterator[Need]:
    name = source.source
    home = f"/sources/{name}"
    match source.state:
        case "held":
            yield Need(
                f"{name} is held: {plural(source.held, 'record')} went missing at once",
                f"{source.why} until they show up again, or until somebody says that they are gone.",
                f"{home}/release",
                "Release…",
            )
        case "suspended":
            yield Need(f"{name} is suspended", source.why, f"{home}/resume", "Try again…")
        case "paused":
            yield Need(f"{name} is paused", "An operator paused it.", f"{home}/resume", "Resume…")
        case "starting" if not source.well:
            yield Need(f"{name} was never read to its end", source.why, home, "Look")
        case "stale" | "unattended":
            yield Need(f"{name} is {source.state}", source.why, home, "Look")
        case _:
            return


def _endpoint(webhook: EndpointAnswer) -> Iterator[Need]:
    name = webhook.webhook
    home = f"/webhooks/{name}"
    if webhook.state == "disabled":
        why = f"{webhook.why}. Waiting for it: {plural(webhook.waiting, 'event')}."
        yield Need(f"{name} is disabled", why, f"{home}/enable", "Enable…")
    elif not webhook.well:
        waits = f", the oldest event waits for {span(webhook.oldest_waiting_s)}" if webhook.waiting else ""
        yield Need(f"{name} is {webhook.state}", f"{webhook.why}{waits}", home, "Look")
    if webhook.dead:
        letters = plural(webhook.dead, "dead letter")
        why = "Every attempt at them failed. They are kept for 14 days and can be sent again."
        yield Need(f"{name} has {letters}", why, f"{home}/recover?dead=true", "Send again…")
    if webhook.lost:
        why = "It was away for longer than the retention; the loss is final."
        yield Need(f"{name} lost {plural(webhook.lost, 'event')}", why, home, "Look")
