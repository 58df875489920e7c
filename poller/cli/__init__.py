"""The command line of `poller`: runs a command and turns faults into one line each and an exit code.

Every module of this package may hang commands on `root.app`, `sources.app` or `webhooks.app`; all of
them are imported here, so a new one needs no entry anywhere.
"""

import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from poller.errors import PollerError, SettingsError, StoreError

from .output import complain
from .root import EXIT_UNAVAILABLE, EXIT_UNWELL, Session, app

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def main() -> NoReturn:
    """The entry point `poller`."""
    _open_closed_streams()
    sys.exit(run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Let what is said go nowhere where stdin, stdout or stderr is closed: a socket would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(number, "r+" if number else "r", closefd=False))


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code (contract §3); nothing but KeyboardInterrupt's like escapes."""
    session = Session()
    try:
        app(list(arguments), prog_name="poller", obj=session)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else EXIT_UNWELL
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SettingsError as exc:
        for problem in exc.problems:
            complain(session.mask(problem))
        return EXIT_USAGE
    except StoreError as exc:
        complain(session.mask(str(exc)))
        return EXIT_UNAVAILABLE
    except PollerError as exc:
        complain(session.mask(str(exc)))
        return EXIT_UNWELL
    except Exception:  # noqa: BLE001 -- the last frame: an unmasked traceback must not be printed
        sys.stderr.write(session.mask(traceback.format_exc()))
        complain("this is a fault of poller itself; please report it with the lines above")
        return EXIT_UNWELL
    return 0


__all__ = ["app", "main", "run"]
