"""How commands speak: data on stdout as a table or as JSON, everything else on stderr."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from poller.errors import PollerError
from poller.model import pretty
from poller.web.words import line_of

WIDEST = 10_000
"""Columns of a table that is piped: nothing is cut or folded for a program."""
_STYLES = {"good": "bold green", "bad": "bold red", "new": "cyan", "plain": "blue"}


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        # What is left would be tried again when the program ends, which then has an exit code of Python's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        msg = f"what is printed cannot be written ({exc.strerror}): make room there, or print it elsewhere"
        raise PollerError(msg) from exc


@_writing()
def show_table(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, empty: str, whole: bool = False
) -> None:
    """Print rows under their columns; where there are none say so on stderr.

    `whole`: they hold what is to be copied, so where a terminal is too narrow for them nothing is folded:
    each value gets a line of its own.
    """
    if not rows:
        tell(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(words(row.get(column))) for column in columns))
    console = Console(highlight=False)
    if whole and console.is_terminal and _width_of(table) > console.width:
        for row in rows:
            _print_lines(console, columns, row)
        return
    _print(console, table)


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    say(pretty(value))


@_writing()
def say(text: str) -> None:
    """Print a line of data on stdout.

    Raises:
        BrokenPipeError: its reader is gone. PollerError: it cannot be written, as on a full disk.
    """
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Print a remark on stderr."""
    _stderr().print(Text(clean(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print what is allowed and yet deserves a word."""
    _stderr().print(Text.assemble(("warning: ", "bold yellow"), clean(text)), soft_wrap=True)


def complain(text: str) -> None:
    """Print what is wrong."""
    _stderr().print(Text.assemble(("error: ", "bold red"), clean(text)), soft_wrap=True)


def words(value: Any) -> str:
    """A value as people read it: nothing for None, true and false as settings have it, lists by commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    return clean(str(value))


def clean(text: str) -> str:
    """Make control characters visible: names come from a CRM, and a terminal obeys escape sequences."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def event_line(event: Mapping[str, Any], *tail: tuple[str, str]) -> Text:
    """Render a CloudEvent; `tail` are (text, style) that follow it."""
    told = line_of(event)
    about = filter(None, (told.subject, told.name, told.client, told.money))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{str(event['time'])[11:19]}  ", "dim")
    line.append(f"{told.type:<32} ", _STYLES[told.tone])
    line.append(_flat(" · ".join(about)))
    if told.moved:
        line.append(f"  {_flat(told.moved)}", "dim")
    for text, style in tail:
        line.append(f"  {text}", style)
    return line


def _flat(text: str) -> str:
    """On one line whatever a name holds: `clean` lets line breaks pass."""
    return clean(text).replace("\n", "\\n")


class Screen(Console):
    """Lines as wide as they are; where its reader is gone, a BrokenPipeError as `say` gives it."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(highlight=False, soft_wrap=True, stderr=stderr)

    @_writing()
    def print(self, *objects: Any, **options: Any) -> None:
        """Print; what goes wrong with it as `say` gives it."""
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Rich calls this while it handles the error, and would raise SystemExit in whoever prints."""
        raise  # noqa: PLE0704


def _stderr() -> Console:
    return Console(stderr=True, highlight=False)


def _width_of(table: Table) -> int:
    wide = Console(width=WIDEST)
    return Measurement.get(wide, wide.options, table).maximum


def _print_lines(console: Console, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Print what a row holds line by line, whatever the terminal's width, and an empty line."""
    named = max(map(len, columns))
    for column in columns:
        if told := words(row.get(column)):
            line = Text.assemble((f"{column:<{named}}  ", "bold"), told)
            console.print(line, soft_wrap=True)
    console.print()


def _print(console: Console, table: Table) -> None:
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(highlight=False, width=WIDEST)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())
