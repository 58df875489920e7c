"""`poller webhooks attempts|dead|resend|recover|enable|disable`: what became of events."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from poller.app.standing import Inspector, sources_of
from poller.config import parse_duration
from poller.errors import SettingsError
from poller.model import rfc3339
from poller.store.letters import Attempt, Letter
from poller.store.office import Office
from poller.web.words import plural, span

from .output import complain, say, show_json, show_table, warn
from .reach import UNWELL, Store, demand_known, with_store
from .root import ConfigOption, JsonOption
from .webhooks import NameArgument, app

CountOption = Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many at most.")]


@app.command()
def attempts(
    ctx: typer.Context,
    name: NameArgument,
    count: CountOption = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last attempts to deliver, newest first; the last 1,000 are kept."""

    async def look(store: Store) -> list[Attempt]:
        demand_known("webhook", name, store.settings.webhooks)
        return await Office(store.connection, store.keys).attempts(name, count=count)

    found = with_store(ctx, config, look)
    if as_json:
        show_json([_attempt(each) for each in found])
        return
    columns = ("time", "outcome", "status", "ms", "attempt", "type", "subject", "event", "next", "answer")
    show_table(columns, [_attempt_row(each) for each in found], empty=f"nothing was sent to {name} yet")


def _attempt(each: Attempt) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.structs.asdict(each)
    return {**told, "at": rfc3339(each.at), "next": rfc3339(each.next) if each.next else None}


def _attempt_row(each: Attempt) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(each),
        "time": rfc3339(each.at),
        "status": each.status if each.status is not None else each.fault,
        "ms": round(each.ms),
        "next": rfc3339(each.next) if each.next else None,
        "answer": " ".join((each.excerpt or each.detail).split())[:80],
    }


@app.command()
def dead(
    ctx: typer.Context,
    name: NameArgument,
    count: CountOption = 100,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the events that were given up, oldest first; they are kept for 14 days."""

    async def look(store: Store) -> list[tuple[str, Letter]]:
        office = Office(store.connection, store.keys)
        found = [
            (source, letter)
            for source in _sources(store, name)
            for letter in await office.dead(name, source, count=count)
        ]
        return sorted(found, key=lambda each: each[1].at)[:count]

    found = with_store(ctx, config, look)
    rows = [_dead(source, letter) for source, letter in found]
    if as_json:
        show_json(rows)
        return
    show_table(
        ("died", "source", "type", "subject", "event", "attempts", "why"),
        rows,
        empty=f"{name}: nothing was given up",
    )
    if rows:
        say(f"`poller webhooks resend {name} EVENT` sends one again, `recover {name} --dead` all of them")


def _dead(source: str, letter: Letter) -> dict[str, Any]:
    meta = letter.meta
    return {
        "died": rfc3339(letter.at),
        "source": source,
        "event": meta.id,
        "type": meta.type,
        "subject": meta.subject,
        "time": meta.time,
        "attempts": meta.attempts,
        "why": meta.why,
    }


@app.command()
def resend(
    ctx: typer.Context,
    name: NameArgument,
    event: Annotated[
        str, typer.Argument(metavar="EVENT", help="Its id (evt_…), or its place in the stream.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one event again now, with its own id, from its first attempt."""

    async def order(store: Store) -> dict[str, Any]:
        office = Office(store.connection, store.keys)
        found = await office.find(name, _sources(store, name), event)
        where = await office.resend(name, *found, now=time.time()) if found else None
        return {
            "webhook": name,
            "event": event,
            "source": found[0] if found and where else None,
            "was": where,
        }

    was = {
        "dead": "it was given up, and is tried again from its first attempt",
        "waiting": "it waited for another attempt, and is tried now",
        "stream": "it is read from the stream, and sent once more",
    }
    told = _ordered(ctx, name, config, order)
    if as_json:
        show_json(told)
    elif told["was"]:
        say(f"{event}: {was[told['was']]}")
    if not told["was"]:
        complain(f"{event} is neither in the streams that {name} takes nor among its dead: is the id right?")
        raise typer.Exit(UNWELL)


@app.command()
def recover(
    ctx: typer.Context,
    name: NameArgument,
    since: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Everything it wants and that was detected since, e.g. 2h."),
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All events that were given up.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send many events again, at the endpoint's own pace, with their own ids."""
    if bool(since) == dead:
        raise SettingsError(["name one of --since DURATION and --dead"])
    span_s = _seconds(since) if since else 0.0

    async def order(store: Store) -> dict[str, Any]:
        office, sources, now = Office(store.connection, store.keys), _sources(store, name), time.time()
        if dead:
            return {"webhook": name, "events": await office.recover_dead(name, sources, now=now)}
        return {"webhook": name, "sources": await office.recover_since(name, sources, since=now - span_s)}

    told = _ordered(ctx, name, config, order)
    if as_json:
        show_json(told)
    elif dead:
        say(f"{plural(told['events'], 'event')} given up before: sent again, oldest first")
    else:
        sources = plural(told["sources"], "source")
        say(f"what was detected in the last {span(span_s)} is sent again, from {sources}")


def _seconds(text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as exc:
        raise SettingsError([f'--since "{text}": {exc}']) from exc


@app.command()
def enable(
    ctx: typer.Context,
    name: NameArgument,
    start: Annotated[
        Literal["now"] | None, typer.Option("--from", help="Pass over what it missed, instead of sending it.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a webhook go on from its place in the stream, or --from now."""

    async def order(store: Store) -> dict[str, Any]:
        missed = await _missed(store, name)
        await Office(store.connection, store.keys).enable(name, from_now=start == "now")
        return {"webhook": name, "enabled": True, "from": start or "its place", "waiting": missed}

    told = _ordered(ctx, name, config, order)
    if as_json:
        show_json(told)
    elif start == "now":
        say(f"{name} goes on with what comes from now on; {plural(told['waiting'], 'event')} passed over")
    else:
        say(f"{name} goes on from its place; waiting for it: {plural(told['waiting'], 'event')}")


@app.command()
def disable(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Send nothing more to a webhook; it keeps its place, within the retention."""

    async def order(store: Store) -> dict[str, Any]:
        await Office(store.connection, store.keys).disable(name)
        return {
            "webhook": name,
            "enabled": False,
            "retention": span(store.settings.redis.retention.total_seconds()),
        }

    told = _ordered(ctx, name, config, order)
    if as_json:
        show_json(told)
    else:
        say(f"{name} gets nothing more; its place is kept, and what comes meanwhile for {told['retention']}")


async def _missed(store: Store, name: str) -> int:
    office = Office(store.connection, store.keys)
    counts = [await office.counts(name, source) for source in _sources(store, name)]
    return sum(each.waiting + each.lag for each in counts)


def _sources(store: Store, name: str) -> list[str]:
    """The sources whose events it takes.

    Raises:
        SettingsError: there is no such webhook.
    """
    demand_known("webhook", name, store.settings.webhooks)
    return sources_of(store.settings, store.settings.webhooks[name])


def _ordered(ctx: typer.Context, name: str, config: Path | None, order: Any) -> dict[str, Any]:
    """Give an order, and say it where nobody is there to obey."""

    async def work(store: Store) -> tuple[dict[str, Any], str | None]:
        demand_known("webhook", name, store.settings.webhooks)
        told = await order(store)
        inspector = Inspector(store.settings, store.connection, store.keys)
        holder = await inspector.endpoint_holder(name)
        return told, holder.name if holder else None

    told, holder = with_store(ctx, config, work)
    if holder is None:
        warn(f"nobody serves {name} now: it is done when `poller run` starts")
    return {**told, "served_by": holder}
