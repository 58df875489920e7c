"""`poller webhooks resend|recover|enable|disable`: orders to whoever serves it, as on the page."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from poller.errors import SettingsError
from poller.web.actions import Actions, Plan, Refused

from .output import complain, say, show_json, warn
from .reach import UNWELL, Store, demand_known, with_store
from .root import ConfigOption, JsonOption
from .webhooks import NameArgument, app

PlanOf: TypeAlias = Callable[[Actions], Awaitable[Plan]]


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
        actions = Actions(store.house)
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
        raise typer.Exit(UNWELL)
    if told["served_by"] is None:
        warn(f"nobody serves {name} now: it is done when `poller run` starts")
