"""`poller check`: whether all of it will work, before the first run and after each change."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from poller.config import Settings

from .calling import look_at_source
from .checking import Step, Tell, look_at_endpoint, look_at_settings, open_store
from .output import clean, show_json
from .reach import UNWELL
from .root import ConfigOption, JsonOption, app, open_settings

_STYLES = {"ok": "green", "warning": "bold yellow", "failed": "bold red"}


@app.command()
def check(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Try everything out: settings, Redis, one call of each source, the name of each webhook.

    Publishes nothing and sends nothing to webhooks; each request to a CRM is paid from its budget.
    """
    settings = open_settings(ctx, config, level="error", quiet=True)
    steps: list[Step] = []
    show = (lambda _step: None) if as_json else _line()

    def tell(step: Step) -> None:
        steps.append(step)
        show(step)

    asyncio.run(checked(settings, tell))
    well = all(step.state != "failed" for step in steps)
    if as_json:
        show_json({"well": well, "steps": [asdict(step) for step in steps]})
    if not well:
        raise typer.Exit(UNWELL)


async def checked(settings: Settings, tell: Tell) -> None:
    """Look at everything, in the order in which it would be needed."""
    look_at_settings(settings, tell)
    async with AsyncExitStack() as stack:
        store = await open_store(settings, tell, stack)
        for name in settings.sources:
            if store is not None:
                await look_at_source(store, name, tell)
            else:
                said = "not asked: each request is paid from the budget, which Redis keeps"
                tell(Step(step=f"source {name}", state="failed", said=said, remedy="see redis above"))
    for name, given in settings.webhooks.items():
        await look_at_endpoint(name, given, tell)


def _line() -> Callable[[Step], None]:
    screen = Console(highlight=False, soft_wrap=True)

    def show(step: Step) -> None:
        line = Text.assemble((f"{step.state:<8}", _STYLES[step.state]), f"{step.step}: {clean(step.said)}")
        if step.remedy:
            line.append(f"\n        → {clean(step.remedy)}", "bold")
        screen.print(line)

    return show
