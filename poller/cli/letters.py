"""`poller webhooks attempts|dead`: what became of events."""

from typing import Annotated, Any

import msgspec
import typer

from poller.app.standing import sources_of
from poller.model import rfc3339
from poller.store.letters import Attempt, Letter
from poller.store.office import Office

from .output import say, show_json, show_table
from .reach import Store, demand_known, with_store
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
        "answer": " ".join(each.excerpt.split())[:80]
        or each.detail,  # our own words name the remedy at the end
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


def _sources(store: Store, name: str) -> list[str]:
    """The sources whose events it takes.

    Raises:
        SettingsError: there is no such webhook.
    """
    demand_known("webhook", name, store.settings.webhooks)
    return sources_of(store.settings, store.settings.webhooks[name])
