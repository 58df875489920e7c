"""`poller webhooks test`: one example event now, outside of every queue, and what to think of the answer."""

import asyncio
import time
from typing import Annotated, Any

import typer

from poller.app.wiring import endpoint_of
from poller.config import Settings
from poller.deliver.filters import wants_type
from poller.deliver.settings import EndpointSettings
from poller.deliver.trial import TEST_TYPE, Trial, send
from poller.errors import SettingsError
from poller.model import Event
from poller.web.actions import Refused, example_of

from .completing import event_types
from .connect import demand_known, patience
from .output import clean, complain, say, show_json, warn
from .root import EXIT_UNWELL, ConfigOption, JsonOption, open_settings
from .webhooks import NameArgument, app

SHOWN = 500
"""Characters of the answer; all that was read is in --json."""


@app.command("test")
def try_out(
    ctx: typer.Context,
    name: NameArgument,
    type_: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="What to send an example of, e.g. drum.opportunity.won.",
            autocompletion=event_types,
        ),
    ] = TEST_TYPE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one example event now and show request, answer, timing and a verdict; needs no Redis."""
    settings = open_settings(ctx, config)
    told = asyncio.run(tried(settings, name, type_, now=time.time()))
    if as_json:
        show_json(told)
    else:
        _show(told)
    if not told["ok"]:
        raise typer.Exit(EXIT_UNWELL)


async def tried(settings: Settings, name: str, type_: str, *, now: float) -> dict[str, Any]:
    """Send the example; everything that is to be shown of it.

    Raises:
        SettingsError: there is no such endpoint or type.
    """
    demand_known("webhook", name, settings.webhooks)
    endpoint = endpoint_of(name, settings.webhooks[name])
    try:
        event = example_of(type_, endpoint=name, now=now)
    except Refused as exc:
        raise SettingsError([str(exc)]) from exc
    async with patience(f"waiting for {endpoint.host}"):
        trial = await send(endpoint, event, now=now)
    return _told(endpoint, event, trial)


def _told(endpoint: EndpointSettings, event: Event, trial: Trial) -> dict[str, Any]:
    answer = trial.answer
    return {
        "webhook": endpoint.name,
        "type": event.type,
        "ok": trial.ok,
        "verdict": trial.verdict,
        "wanted": wants_type(endpoint.events, event.type),
        "request": {
            "host": endpoint.host,
            "headers": dict(trial.headers),
            "body": trial.body.decode("utf-8", "replace"),
        },
        "answer": {
            "status": answer.status,
            "fault": answer.fault,
            "ms": round(answer.ms, 1),
            "body": answer.excerpt.decode("utf-8", "replace"),
        },
    }


def _show(told: dict[str, Any]) -> None:
    request, answer = told["request"], told["answer"]
    say(f"POST to {request['host']}: an example of {told['type']}, {len(request['body'].encode())} bytes")
    for header, value in request["headers"].items():
        say(f"  {header}: {value}")
    for line in answer["body"][:SHOWN].splitlines():
        say(f"  {clean(line)}")
    if told["ok"]:
        say(told["verdict"])
    else:
        complain(told["verdict"])
    if not told["wanted"] and told["type"] != TEST_TYPE:
        warn(f"this was a test: `events` of {told['webhook']} let no {told['type']} pass otherwise")
