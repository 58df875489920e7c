"""`poller simulate`: a stand-in for a CRM, over real HTTP, for whoever has no account."""

from typing import Annotated

import typer

from poller import simulators
from poller.errors import SettingsError

from . import completing
from .root import ConfigOption, app


@app.command()
def simulate(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"One of {', '.join(simulators.SIMULATORS)}.",
            autocompletion=completing.simulators,
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = None,
    admin_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port that takes orders; else the next one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same life.")] = 1,
    pace: Annotated[
        float, typer.Option(min=0, help="Changes a second; 0 leaves them to the admin port.")
    ] = 1.0,
    records: Annotated[int, typer.Option(min=0, help="How many records there are at first.")] = 200,
    config: ConfigOption = None,  # noqa: ARG001 -- every command takes --config
) -> None:
    """Run a simulated CRM until Ctrl-C; its first line says where it is and with which token."""
    try:
        simulators.simulate(
            kind, host=host, port=port, admin_port=admin_port, seed=seed, pace=pace, records=records
        )
    except ValueError as exc:
        raise SettingsError([f"poller simulate {kind}: {exc}"]) from exc
    except OSError as exc:
        msg = f"poller simulate {kind}: cannot listen ({exc.strerror or exc}); name another --port"
        raise SettingsError([msg]) from exc
