"""`poller status`: how every source and endpoint stands, and whether somebody must act."""

from collections.abc import Iterator, Sequence

import typer

from poller.web.answers import EndpointAnswer, Overview, SourceAnswer
from poller.web.words import delay_sentence, many, number, plural, source_sentence, span

from .connect import Store, with_store
from .output import say, show_json, show_table, warn
from .root import EXIT_UNWELL, ConfigOption, JsonOption, app

NO_SOURCE = "no source is set up: `poller init` writes a first settings file"


@app.command()
def status(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how every source and webhook stands; exit 1 if one is not well."""
    seen, server = with_store(ctx, config, _look)
    well = seen.well and bool(seen.sources)
    if as_json:
        show_json({**seen.model_dump(mode="json"), "well": well, "redis": server})
    else:
        _show(seen, server)
    if not well:
        raise typer.Exit(EXIT_UNWELL)


async def _look(store: Store) -> tuple[Overview, str]:
    return await look(store), store.server


async def look(store: Store) -> Overview:
    """How everything stands, as page and API tell it."""
    return await store.context.look()


def _show(seen: Overview, server: str) -> None:
    say(f"redis      {server}")
    names = ", ".join(f"{name} ({span(silent)} ago)" for name, silent in seen.replicas.items())
    say(f"replicas   {names or 'none is alive: start one with `poller run`'}")
    for source in seen.sources:
        said = source_sentence(source)
        say(f"\nsource {source.source}   {said if source.state == 'polling' else f'{source.state}: {said}'}")
        for line in _source_lines(source):
            say(f"  {line}")
    for webhook in seen.webhooks:
        say(f"\nwebhook {webhook.webhook}   {webhook.state}{f': {webhook.why}' if webhook.why else ''}")
        for line in _endpoint_lines(webhook, seen.at):
            say(f"  {line}")
    if not seen.sources:
        warn(NO_SOURCE)


def _source_lines(source: SourceAnswer) -> Iterator[str]:
    for each in source.lists:
        took = f", {plural(each.pages, 'page')} in {span(each.took_s)}" if each.took_s is not None else ""
        age = f"read {span(each.age_s)} ago" if each.age_s is not None else "not read to its end yet"
        yield f"{many(each.list):<14} {plural(each.records, 'record')}, {age}{took}"
    if delay := delay_sentence(source):
        yield f"{'delay':<14} {delay}"
    yield f"{'budget':<14} {_spent(source)}"
    yield f"{'polled by':<14} {source.held_by or 'nobody'}"


def _spent(source: SourceAnswer) -> str:
    """What counts now in the budget of its host, of how much, and how often the host refused."""
    budget, own = source.budget, sum(source.spent.values())
    used = (
        ", ".join(f"{number(count)} {name}" for name, count in sorted(budget.used.items()) if count)
        or "nothing"
    )
    said = f"{used} of {number(budget.limit)} {source.unit} in {span(source.window_s)}"
    if 0 < own < sum(budget.used.values()):
        said += f", {number(own)} of them by this source"
    if budget.allowed < budget.limit:
        said += f", {number(budget.allowed)} allowed now"
    if budget.refusals:
        said += f"; refused {plural(budget.refusals, 'time')}, blocked {span(budget.blocked_s)}"
    return said


def _endpoint_lines(webhook: EndpointAnswer, at: float) -> Iterator[str]:
    oldest = f", the oldest for {span(webhook.oldest_waiting_s)}" if webhook.waiting else ""
    waiting = f"{number(webhook.waiting)} waiting{oldest}"
    yield f"{'events':<14} {number(webhook.delivered)} delivered, {waiting}, {number(webhook.dead)} dead"
    ago = at - webhook.last_success if webhook.last_success else None
    yield f"{'last success':<14} {span(ago)}{' ago' if ago is not None else ''}"
    for count, text in (
        (webhook.lost, "taken by the retention before they were sent"),
        (webhook.unsure, "passed because the filter failed on them"),
    ):
        if count:
            yield f"{'attention':<14} {plural(count, 'event')} {text}"
    yield f"{'served by':<14} {webhook.held_by or 'nobody'}"


def show_sources(sources: Sequence[SourceAnswer], *, as_json: bool) -> None:
    """Print the sources, one line each."""
    if as_json:
        show_json([each.model_dump(mode="json") for each in sources])
        return
    rows = [
        {
            "source": each.source,
            "kind": each.kind,
            "state": each.state,
            "why": each.why,
            "records": number(sum(one.records for one in each.lists)),
            "every": span(each.period_s),
            "budget": f"{sum(each.budget.used.values())}/{each.budget.limit}",
            "polled by": each.held_by,
        }
        for each in sources
    ]
    show_table(
        ("source", "kind", "state", "records", "every", "budget", "polled by", "why"),
        rows,
        empty=NO_SOURCE,
    )
