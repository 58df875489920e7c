"""`poller status`: how every source and endpoint stands, and whether somebody must act."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import typer

from poller.app.standing import DetailsStanding, EndpointStanding, Inspector, SourceStanding, Standing
from poller.model import rfc3339
from poller.store.budget import Usage

from .output import say, show_json, show_table, warn
from .reach import UNWELL, Store, with_store
from .root import ConfigOption, JsonOption, app

MOMENTS = ("at", "swept_at", "reported_at", "last_success", "blocked_until")
"""Unix seconds inside; RFC 3339 for programs."""
_STEPS = ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"), (float("inf"), 86400, "days"))


@app.command()
def status(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how every source and webhook stands; exit 1 if one is not well."""
    standing = with_store(ctx, config, _everything)
    if as_json:
        show_json(moments(asdict(standing)))
    else:
        _show(standing)
    if not standing.well:
        raise typer.Exit(UNWELL)


async def _everything(store: Store) -> Standing:
    standing = await Inspector(store.settings, store.connection, store.keys).everything()
    return replace(standing, well=standing.well and bool(standing.sources))


def moments(value: Any, name: str = "") -> Any:
    """Write every moment inside as RFC 3339, and every other number with three places at most."""
    if isinstance(value, dict):
        return {key: moments(item, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [moments(item) for item in value]
    if isinstance(value, float):
        return rfc3339(value) if name in MOMENTS else round(value, 3)
    return value


def span(seconds: float | None) -> str:
    """A time span as people say it."""
    if seconds is None:
        return "never"
    _, unit, name = next(step for step in _STEPS if seconds < step[0])
    number = seconds / unit
    return f"{number:.0f} {name}" if number >= 10 or unit > 1 else f"{number:.1f} {name}"


def sentence(source: SourceStanding) -> str:
    """A source's state in words."""
    if source.state not in ("polling", "starting"):
        return f"{source.state}: {source.why}"
    parts = [f"polling every {span(source.period_s)}"]
    if source.details:
        parts.append(_details(source.details))
    parts.append(f"{used_share(source.budget):.0%} of the budget")
    if source.why:
        parts.append(source.why)
    return ("starting: " if source.state == "starting" else "") + "; ".join(parts)


def _details(details: DetailsStanding) -> str:
    if details.read < details.looked_at or details.oldest_s is None:
        return f"details read of {details.read} in {details.looked_at} records"
    return f"details at most {span(details.oldest_s)} old"


def used_share(usage: Usage) -> float:
    """Of what may be sent in one window now."""
    return sum(usage.used.values()) / max(1, usage.limit)


def _show(standing: Standing) -> None:
    names = ", ".join(f"{name} ({span(silent)} ago)" for name, silent in standing.replicas.items())
    say(f"replicas   {names or 'none is alive: start one with `poller run`'}")
    for source in standing.sources:
        say(f"\nsource {source.source}   {sentence(source)}")
        for line in _source_lines(source):
            say(f"  {line}")
    for webhook in standing.webhooks:
        say(f"\nwebhook {webhook.webhook}   {webhook.state}{f': {webhook.why}' if webhook.why else ''}")
        for line in _endpoint_lines(webhook, standing.at):
            say(f"  {line}")
    if not standing.sources:
        warn("no source is set up: `poller init` writes a first settings file")


def _source_lines(source: SourceStanding) -> Iterator[str]:
    for each in source.lists:
        took = f", {each.pages} pages in {span(each.took_s)}" if each.took_s is not None else ""
        age = f"read {span(each.age_s)} ago" if each.age_s is not None else "not read to its end yet"
        yield f"{each.list + 's':<14} {each.records} records, {age}{took}"
    if source.expected_delay_s is not None:
        lately = f", lately {span(source.observed_delay_s)}" if source.observed_delay_s is not None else ""
        yield f"{'delay':<14} a change is told after {span(source.expected_delay_s)} on average{lately}"
    budget = source.budget
    used, own = _units(budget.used), _units(source.spent)
    learned = f", {budget.allowed} allowed now" if budget.allowed < budget.limit else ""
    refused = (
        f"; refused {budget.refusals} times, blocked {span(budget.blocked_s)}" if budget.refusals else ""
    )
    yield f"{'budget':<14} {used} of {budget.limit} in {span(source.window_s)}{learned}{refused}"
    if own != used and source.spent:
        yield f"{'its own part':<14} {own} in {span(source.window_s)}"
    yield f"{'polled by':<14} {source.held_by or 'nobody'}"


def _units(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count) or "nothing"


def _endpoint_lines(webhook: EndpointStanding, at: float) -> Iterator[str]:
    oldest = f", the oldest for {span(webhook.oldest_waiting_s)}" if webhook.waiting else ""
    waiting = f"{webhook.waiting} waiting{oldest}"
    yield f"{'events':<14} {webhook.delivered} delivered, {waiting}, {webhook.dead} dead"
    ago = at - webhook.last_success if webhook.last_success else None
    yield f"{'last success':<14} {span(ago)}{' ago' if ago is not None else ''}"
    for count, text in (
        (webhook.lost, "taken by the retention before they were sent"),
        (webhook.unsure, "passed because the filter failed on them"),
    ):
        if count:
            yield f"{'attention':<14} {count} events {text}"
    yield f"{'served by':<14} {webhook.held_by or 'nobody'}"


def show_sources(sources: Sequence[SourceStanding], *, as_json: bool) -> None:
    """Print the sources, one line each."""
    rows = [
        {
            "source": each.source,
            "kind": each.kind,
            "state": each.state,
            "why": each.why,
            "records": sum(one.records for one in each.lists),
            "every": span(each.period_s),
            "budget": f"{sum(each.budget.used.values())}/{each.budget.limit}",
            "polled by": each.held_by,
        }
        for each in sources
    ]
    if as_json:
        show_json([moments(asdict(each)) for each in sources])
        return
    show_table(
        ("source", "kind", "state", "records", "every", "budget", "polled by", "why"), rows, as_json=False
    )
