"""`poller init`: writes a first `poller.toml` and the `.env` beside it, and overwrites nothing."""

import json
import os
import secrets as chance
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from poller.config import SLACK_EVENTS, Given, compose, is_loopback, parse_dotenv, parse_name
from poller.errors import SettingsError
from poller.watch.sources import SOURCES
from poller.watch.sources.base import Api

from .output import say, tell, warn
from .root import ConfigOption, app, config_path
from .webhooks import fresh_secret

OWNER_ONLY = 0o600
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the files are made from; None is what nobody has said yet."""

    kind: str | None
    name: str | None
    token: str | None
    base_url: str | None
    slack_url: str | None
    webhook_url: str | None


@app.command()
def init(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option(help=f"One of {', '.join(SOURCES)}.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the source; else its kind.")] = None,
    token: Annotated[str | None, typer.Option(help="The API token; - reads a line of stdin.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="For Pipedrive: https://COMPANY.pipedrive.com.")
    ] = None,
    slack_url: Annotated[
        str | None, typer.Option(help="An incoming webhook of Slack for won and lost.")
    ] = None,
    webhook_url: Annotated[str | None, typer.Option(help="A receiver of signed events.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write poller.toml and .env for a first source; asks for what no option says. Overwrites nothing."""
    path = config_path(ctx, config) or Path(os.environ.get("POLLER_CONFIG") or "poller.toml")
    dotenv = path.parent / ".env"
    _refuse_existing(path, dotenv)
    given = Answers(kind, name, _from_stdin(token), base_url, slack_url, webhook_url)
    answers = _completed(given, asking=sys.stdin.isatty() and token != STDIN)
    values = _variables(answers)
    texts = {path: toml_text(answers), dotenv: dotenv_text(values)}
    _try_out(path, texts[path], texts[dotenv])
    _write_new(texts)
    _say_next(path, dotenv, values, named=config_path(ctx, config) is not None)


def _api(kind: str | None) -> Api:
    """What is known of a kind; of one that is not known, what is so of most: it is refused by its name."""
    made = SOURCES.get(str(kind))
    return made.api if made else next(iter(SOURCES.values())).api


def toml_text(answers: Answers) -> str:
    """The settings file: no secret in it, and a comment where one would ask."""
    return "\n".join(_toml_lines(answers)) + "\n"


def dotenv_text(values: Mapping[str, str]) -> str:
    """The `.env`: each variable quoted so that nothing in it is expanded."""
    lines = ["# Read by poller beside its settings file, below the real environment. Keep it to yourself."]
    return "\n".join([*lines, *(f"{name}={_quoted(value)}" for name, value in values.items())]) + "\n"


def _toml_lines(answers: Answers) -> Iterator[str]:
    kind, name = str(answers.kind), str(answers.name)
    yield from (
        "# Settings of poller. ${NAME} is a variable of the environment, or a line of the file .env beside",
        "# this one. The environment stands over this file: POLLER_SOURCES__ACME__EVERY=1m sets `every` of",
        "# [sources.acme]. `poller config show` tells what holds, and why.",
        "",
        'data_dir = ".poller"  # where the embedded, durable Redis keeps its data',
        "",
        "# [redis]",
        '# url = "redis://127.0.0.1:6379/0"  # a Redis of your own instead',
        "",
        "[web]",
        'token = "${POLLER_WEB_TOKEN}"  # what the page and its API ask for',
        "",
        f"[sources.{name}]",
        f'kind = "{kind}"',
        f'token = "${{{_api(kind).variable}}}"',
    )
    if answers.base_url:
        yield f"base_url = {_toml_string(answers.base_url)}"
    budget = f'# budget = "{_api(kind).budget}"'
    yield from (
        '# every = "30s"      # shortest time between two readings of one list',
        f"{budget:<21}# {_api(kind).unit} that the host may be sent from here",
        "",
    )
    yield from _slack_lines(answers.slack_url)
    yield from _webhook_lines(answers.webhook_url)


def _slack_lines(url: str | None) -> Iterator[str]:
    yield from _block(
        "[webhooks.slack]",
        'url = "${SLACK_WEBHOOK_URL}"',
        'format = "slack"',
        f"events = {json.dumps(SLACK_EVENTS)}",
        *_local_lines(url),
        on=bool(url),
    )


def _webhook_lines(url: str | None) -> Iterator[str]:
    yield from _block(
        "[webhooks.webhook]",
        f"url = {_toml_string(url or 'https://example.com/hooks/poller')}",
        'secret = "${WEBHOOK_SECRET}"',
        'events = ["*"]',
        *_local_lines(url),
        on=bool(url),
    )


def _local_lines(url: str | None) -> Iterator[str]:
    if is_loopback(urlsplit(url or "").hostname or ""):
        yield 'allow_private = ["127.0.0.0/8", "::1/128"]  # this receiver is on this machine'


def _block(*lines: str, on: bool) -> Iterator[str]:
    for line in lines:
        yield line if on else f"# {line}"
    yield ""


def _toml_string(text: str) -> str:
    # JSON's strings are TOML's, but for DEL; a ${ of the user's own is no variable.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f").replace("${", "$${")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _variables(answers: Answers) -> dict[str, str]:
    values = {_api(answers.kind).variable: str(answers.token)}
    if answers.slack_url:
        values["SLACK_WEBHOOK_URL"] = answers.slack_url
    values["WEBHOOK_SECRET"] = fresh_secret()
    values["POLLER_WEB_TOKEN"] = chance.token_urlsafe(32)
    return values


def _completed(given: Answers, *, asking: bool) -> Answers:
    """Ask for what is missing where somebody can answer; else name the options.

    Raises:
        SettingsError: something is missing and there is no terminal to ask on, or kind or name are no good.
    """
    answers = _asked(given) if asking else given
    missing = [flag for flag, value in (("--kind", answers.kind), ("--token", answers.token)) if not value]
    if answers.kind and not (answers.base_url or _api(answers.kind).base_url):
        missing.append("--base-url")
    problems = [f"{flag} is missing, and there is no terminal to ask on; give {flag}" for flag in missing]
    if answers.kind and answers.kind not in SOURCES:
        problems.append(f'--kind = "{answers.kind}": must be one of {", ".join(SOURCES)}')
    if answers.name and (wrong := _wrong_name(answers.name)):
        problems.append(f"--name = {json.dumps(answers.name, ensure_ascii=False)}: {wrong}")
    if problems:
        raise SettingsError(problems)
    return replace(answers, name=answers.name or answers.kind)


def _wrong_name(name: str) -> str:
    """What is wrong with a source's name, which is put into the file's text unquoted."""
    try:
        parse_name(name)
    except ValueError as exc:
        return str(exc)
    return ""


def _asked(given: Answers) -> Answers:
    kind = given.kind or _ask(
        f"Which CRM ({', '.join(SOURCES)})?", default=next(iter(SOURCES)), accept=SOURCES.__contains__
    )
    return Answers(
        kind=kind,
        name=given.name
        or _ask("What shall the source be called?", default=kind, accept=lambda name: not _wrong_name(name)),
        token=given.token or _ask("Its API token (not shown)?", hidden=True),
        base_url=given.base_url
        or (None if _api(kind).base_url else _ask(f"Its address ({_api(kind).base_url_like})?")),
        slack_url=_optional(given.slack_url, "A Slack webhook for won and lost deals (Enter for none)?"),
        webhook_url=_optional(
            given.webhook_url, "A URL that shall receive all events, signed (Enter for none)?"
        ),
    )


def _optional(given: str | None, question: str) -> str | None:
    return _ask(question, default="") or None if given is None else given


def _ask(
    question: str, *, default: str | None = None, hidden: bool = False, accept: Callable[[str], bool] = bool
) -> str:
    while True:
        try:
            answer = str(
                typer.prompt(
                    question,
                    default=default,
                    hide_input=hidden,
                    show_default=bool(default),
                    prompt_suffix=" ",
                    err=True,
                )
            )
        except typer.Abort as exc:
            raise KeyboardInterrupt from exc
        if accept(answer) or (default == "" and not answer):
            return answer
        tell("That will not do.")


def _from_stdin(token: str | None) -> str | None:
    return sys.stdin.readline().strip() if token == STDIN else token


def _try_out(path: Path, text: str, dotenv: str) -> None:
    """Judge both files before they are written.

    Raises:
        SettingsError: an answer is no good.
    """
    variables, _ = parse_dotenv(dotenv, path.parent / ".env")
    compose(Given.of(text, path=path, environ=variables), overrides={})


def _refuse_existing(*paths: Path) -> None:
    problems = [
        f"{path} is there already and is not overwritten; move it away, or name another place with --config"
        for path in paths
        if os.path.lexists(path)
    ]
    if problems:
        raise SettingsError(problems)


def _write_new(texts: Mapping[Path, str]) -> None:
    """Write all of the files, readable by their owner alone, or none.

    Raises:
        SettingsError: one cannot be made, or has appeared meanwhile.
    """
    made: list[Path] = []
    try:
        for path, text in texts.items():
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY), "w") as file:
                made.append(path)
                file.write(text)
    except OSError as exc:
        _take_back(made)
        msg = f"{exc.filename or path} cannot be written ({exc.strerror}), so nothing was"
        raise SettingsError([f"{msg}; name another place with --config"]) from exc
    except BaseException:
        _take_back(made)
        raise


def _take_back(made: Sequence[Path]) -> None:
    for path in made:
        with suppress(OSError):  # the fault that led here is the one to tell
            path.unlink()


def _say_next(path: Path, dotenv: Path, values: Mapping[str, str], *, named: bool) -> None:
    option = f" --config {path}" if named else ""
    say(f"Wrote {path} and {dotenv} (only you can read them; keep .env out of version control).")
    say(f"Next:  poller check{option}   says whether all of it works")
    say(f"       poller run{option}     goes to work, with a page at http://127.0.0.1:8080")
    say("The page asks for POLLER_WEB_TOKEN of .env before it acts.")
    for name in values:
        if os.environ.get(name) not in (None, values[name]):
            warn(f"{name} is set in the environment and stands over the one in {dotenv}; unset it")
