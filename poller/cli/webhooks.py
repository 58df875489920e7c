"""`poller webhooks`: endpoints and how they stand, fresh secrets, what became of events, and orders.

Orders go to whoever serves the endpoint, as those of the page do.
"""

import secrets as chance
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import typer

from poller.deliver.signing import encode_secret
from poller.errors import SettingsError
from poller.model import rfc3339
from poller.store.letters import Attempt
from poller.store.operators import EndpointAdmin
from poller.web.actions import Actions, Plan, Refused
from poller.web.answers import DeadAnswer
from poller.web.words import span

from .completing import webhook_names
from .connect import Store, demand_known, with_store
from .output import complain, say, show_json, show_table, tell, warn
from .root import EXIT_UNWELL, ConfigOption, JsonOption
from .root import app as root
from .status import look

PlanOf: TypeAlias = Callable[[Actions], Awaitable[Plan]]

SECRET_BYTES = 32
"""Standard Webhooks allows 24 to 64."""

app = typer.Typer(no_args_is_help=True)
root.add_typer(app, name="webhooks", help="Look at endpoints, and ask things of them.")

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The webhook's name in the settings.", autocompletion=webhook_names),
]
CountOption = Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many at most.")]


@app.callback()
def _webhooks() -> None:
    """Look at endpoints, and ask things of them."""


def fresh_secret() -> str:
    """Make a new signing secret: `whsec_` and the base64 of 32 random bytes."""
    return encode_secret(chance.token_bytes(SECRET_BYTES))


@app.command("list")
def list_(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the webhooks and how each stands."""
    found = with_store(ctx, config, look).webhooks
    if as_json:
        show_json([each.model_dump(mode="json") for each in found])
        return
    columns = ("webhook", "host", "state", "waiting", "oldest", "dead", "delivered", "served by", "why")
    rows = [
        {
            **each.model_dump(),
            "oldest": span(each.oldest_waiting_s) if each.waiting else None,
            "served by": each.held_by,
        }
        for each in found
    ]
    show_table(columns, rows, empty="no webhook is set up: events go to Redis Streams alone")


@app.command()
def secret(
    config: ConfigOption = None,  # noqa: ARG001 -- every command takes --config
    as_json: JsonOption = False,
) -> None:
    """Print a fresh signing secret. To rotate: secrets = ["NEW", "OLD"], and drop the old one after a day."""
    fresh = fresh_secret()
    if as_json:
        show_json({"secret": fresh})
        return
    say(fresh)


# --- what became of events ------------------------------------------------------------------------


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
        return await EndpointAdmin(store.connection, store.keys).attempts(name, count=count)

    found = with_store(ctx, config, look)
    if as_json:
        show_json([_attempt(each) for each in found])
        return
    columns = ("time", "outcome", "status", "ms", "attempt", "type", "subject", "event", "next", "answer")
    rows = [_attempt_row(each) for each in found]
    show_table(columns, rows, empty=f"nothing was sent to {name} yet", whole=True)


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

    async def look(store: Store) -> list[DeadAnswer]:
        demand_known("webhook", name, store.settings.webhooks)
        return await Actions(store.context).dead(name, count=count)

    rows = [_dead(each) for each in with_store(ctx, config, look)]
    if as_json:
        show_json(rows)
        return
    show_table(
        ("died", "source", "type", "subject", "event", "attempts", "why"),
        rows,
        empty=f"{name}: nothing was given up",
        whole=True,
    )
    if rows:
        tell(f"`poller webhooks resend {name} EVENT` sends one again, `recover {name} --dead` all of them")


def _dead(each: DeadAnswer) -> dict[str, Any]:
    return {
        "died": rfc3339(each.died_at),
        "source": each.source,
        "event": each.id,
        "type": each.type,
        "subject": each.subject,
        "time": each.time,
        "attempts": each.attempts,
        "why": each.why,
    }


# --- orders ----------------------------------------------------------------------------------------


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
    _order(ctx, name, lambda actions: actions.resend(name, event), config=config, as_json=as_json)


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

    def plan(actions: Actions) -> Awaitable[Plan]:
        return actions.recover_since(name, since) if since else actions.recover_dead(name)

    _order(ctx, name, plan, config=config, as_json=as_json)


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
    from_now = start == "now"
    _order(ctx, name, lambda actions: actions.enable(name, from_now=from_now), config=config, as_json=as_json)


@app.command()
def disable(
    ctx: typer.Context, name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Send nothing more to a webhook; it keeps its place, within the retention."""
    _order(ctx, name, lambda actions: actions.disable(name), config=config, as_json=as_json)


def _order(ctx: typer.Context, name: str, plan_of: PlanOf, *, config: Path | None, as_json: bool) -> None:
    """Give an order, tell what it means, and say it where nobody is there to obey."""

    async def work(store: Store) -> dict[str, Any]:
        demand_known("webhook", name, store.settings.webhooks)
        actions = Actions(store.context)
        holder = (await actions.endpoint_standing(name)).held_by
        try:
            done = await (await plan_of(actions)).perform()
        except Refused as exc:
            if exc.code == "invalid":
                raise SettingsError([str(exc)]) from exc
            return {"webhook": name, "done": False, "means": str(exc), "served_by": holder}
        return {"webhook": name, **done.model_dump(), "served_by": holder}

    told = with_store(ctx, config, work)
    if as_json:
        show_json(told)
    elif told["done"]:
        say(f"{name}: {told['means']}")
    else:
        complain(told["means"])
    if not told["done"]:
        raise typer.Exit(EXIT_UNWELL)
    if told["served_by"] is None:
        warn(f"nobody serves {name} now: it is done when `poller run` starts")
