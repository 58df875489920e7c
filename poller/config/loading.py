"""From file, environment and command line to Settings, or to every problem that stands in the way."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from poller import schemas
from poller.deliver.filters import wants_type
from poller.errors import SettingsError

from . import environment, file
from .layers import Layer, Leaf, build, flatten
from .models import Settings
from .origins import Origin, Path_, dotted
from .problems import problem
from .values import format_duration, is_loopback, split_url

FILE_NAME = "poller.toml"
DOTENV_NAME = ".env"
SHORTEST_WEB_TOKEN = 16  # characters
LARGEST_FILE = 1_048_576  # bytes
DRUM_KIND = ("sources", "drum", "kind")


@dataclass(frozen=True, slots=True)
class Given:
    """What was found to read: the settings file's text and path, the variables, and what `.env` holds."""

    text: str
    path: Path | None
    variables: environment.Variables
    problems: tuple[str, ...] = ()
    lost: bool = False
    """The settings file is there and cannot be read."""
    directory: Path = Path()
    """What relative paths in variables are relative to."""

    @classmethod
    def of(cls, text: str, *, path: Path, environ: Mapping[str, str]) -> "Given":
        """A settings file that is not written yet, with these variables and no others."""
        return cls(text, path, environment.join(environ, {}, None), directory=path.parent)


def load(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings: command line over environment over file over default (contract §2).

    The file is `config`, else POLLER_CONFIG, else `poller.toml` in `directory` (the current one)
    if it is there. A `.env` beside it gives what the environment does not set. `overrides` is what
    the command line says, as a nested table.

    Raises:
        SettingsError: with every problem there is, none of them showing a secret.
    """
    given = find(config, environ=os.environ if environ is None else environ, directory=directory or Path())
    settings = compose(given, overrides=overrides or {})
    settings._warnings += _permissions(given)
    return settings


def find(config: Path | None, *, environ: Mapping[str, str], directory: Path) -> Given:
    """Read the settings file and the `.env` beside it."""
    path = _config_path(config, environ, directory)
    text, problems = "", list[str]()
    if path is not None:
        text, problems = _text(path, "name a file that can be read with --config or POLLER_CONFIG")
    lost = bool(problems)
    beside = (path.parent if path else directory) / DOTENV_NAME
    dotenv: dict[str, str] = {}
    if beside.is_file():
        lines, unread = _text(beside, "give yourself the right to read it, or take it away")
        dotenv, bad = environment.read_dotenv(lines, beside)
        problems += unread + bad
    variables = environment.join(environ, dotenv, beside if dotenv else None)
    return Given(text, path, variables, tuple(problems), lost, directory)


def compose(given: Given, *, overrides: Mapping[str, Any]) -> Settings:
    """Put the layers over each other and judge the whole.

    Raises:
        SettingsError: with every problem there is.
    """
    layers, warnings = _layers(given, overrides)
    problems = [*given.problems, *(line for layer in reversed(layers) for line in layer.problems)]
    origins: dict[Path_, Origin] = {}
    for layer in reversed(layers):
        origins.update(layer.origins)
    failed = {path for layer in layers for path in layer.failed}
    problems += _contradictions(layers)
    lost = given.lost or any(layer.lost for layer in layers)
    try:
        settings = Settings.model_validate(reduce(_over, (layer.values for layer in layers)))
    except ValidationError as exc:
        found = [problem(error, origins) for error in exc.errors(include_url=False)]
        problems += [line for path, line in found if not lost and not _under(path, failed)]
        raise SettingsError(list(dict.fromkeys(problems))) from None  # the cause may quote a secret
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    settings._origins = origins
    settings._warnings = (*warnings, *_judge(settings))
    return settings


def _config_path(config: Path | None, environ: Mapping[str, str], directory: Path) -> Path | None:
    named = config or (Path(environ[environment.CONFIG]) if environ.get(environment.CONFIG) else None)
    path = directory / (named.expanduser() if named else FILE_NAME)
    return path if named is not None or path.exists() else None


def _text(path: Path, remedy: str) -> tuple[str, list[str]]:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            return "", [f"{path} is larger than {LARGEST_FILE} bytes; {remedy}"]
        return data.decode("utf-8-sig"), []
    except OSError as exc:
        return "", [f"{path} cannot be read ({exc.strerror}); {remedy}"]
    except UnicodeDecodeError as exc:
        return "", [f"{path} is not UTF-8 (at byte {exc.start}); save it as UTF-8"]


def _layers(given: Given, overrides: Mapping[str, Any]) -> tuple[list[Layer], list[str]]:
    """Highest first: command line, environment, names that others use too, file, what goes without saying."""
    origin = Origin("command line")
    leaves = [Leaf(path, value, Origin(origin.kind, "", dotted(path))) for path, value in flatten(overrides)]
    path = given.path or Path(FILE_NAME)
    written = file.read(given.text, path=path, variables=given.variables)
    # Of a file that cannot be read nobody knows which variables it asks for by ${…}.
    lost = given.lost or written.lost
    referenced = frozenset(given.variables.all) if lost else file.references(given.text)
    found = environment.read(given.variables, referenced=referenced, directory=given.directory)
    layers = [build(leaves, directory=given.directory), found.named, found.fallback, written, found.implied]
    return layers, found.warnings


def _over(high: Mapping[str, Any], low: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one layer's values over another's, table by table."""
    laid = {**low, **high}
    for key in high.keys() & low.keys():
        if isinstance(high[key], Mapping) and isinstance(low[key], Mapping):
            laid[key] = _over(high[key], low[key])
    return laid


def _under(path: Path_, failed: set[Path_]) -> bool:
    return any(path[: len(known)] == known or known[: len(path)] == path for known in failed)


def _contradictions(layers: Sequence[Layer]) -> list[str]:
    """A variable that makes a Drum source, where another place says that it is something else."""
    *said, implied = layers
    maker = implied.origins.get(DRUM_KIND)
    kind = next((found for layer in said if (found := _value(layer.values, DRUM_KIND))), "drum")
    if kind == "drum" or maker is None:
        return []
    contradiction = f'{maker.written} is for a source of kind drum, but {dotted(DRUM_KIND)} = "{kind}"'
    return [f"{contradiction}; give that source another name"]


def _value(table: Any, path: Path_) -> Any:
    for part in path:
        table = table.get(part) if isinstance(table, dict) else None
    return table


def _judge(settings: Settings) -> list[str]:
    """What is allowed and yet deserves a word."""
    return [*_judge_web(settings), *_judge_sources(settings), *_judge_webhooks(settings)]


def _judge_web(settings: Settings) -> list[str]:
    token = settings.web.token
    if token is None or len(token.get_secret_value()) >= SHORTEST_WEB_TOKEN:
        return []
    return [
        f"web.token is shorter than {SHORTEST_WEB_TOKEN} characters and can be guessed; take a longer one"
    ]


def _judge_sources(settings: Settings) -> list[str]:
    warnings = []
    for (one, left), (two, right) in combinations(settings.sources.items(), 2):
        if (left.base_url, left.token) == (right.base_url, right.token):
            warnings.append(
                f"sources.{one} and sources.{two} read the same account with the same token: "
                "each change would be published twice; keep one of them"
            )
    for name, source in settings.sources.items():
        if _is_clear(source.base_url):
            warnings.append(
                f"sources.{name}.base_url begins with http://: the token travels unencrypted; use https"
            )
    return warnings


def _judge_webhooks(settings: Settings) -> list[str]:
    warnings = []
    kept = settings.redis.retention
    for name, webhook in settings.webhooks.items():
        span = sum(webhook.schedule[1:], start=webhook.schedule[0])
        if span > kept:
            longer = (
                f"{span / timedelta(hours=1):.1f}h, longer than redis.retention = {format_duration(kept)}"
            )
            loss = "its last attempts may find nothing; lengthen retention"
            warnings.append(f"webhooks.{name}.schedule goes on for {longer}: {loss}")
        if _is_clear(webhook.url.get_secret_value()):
            warnings.append(f"webhooks.{name}.url begins with http://: events travel unencrypted; use https")
        warnings += [
            f'webhooks.{name}.sources = "{pattern}" matches no source; there is {", ".join(settings.sources)}'
            for pattern in webhook.sources
            if settings.sources and not any(fnmatchcase(source, pattern) for source in settings.sources)
        ]
        warnings += [
            f'webhooks.{name}.events = "{glob}" matches no event type; {_nearest_type(glob)}'
            for glob in webhook.events
            if not any(wants_type([glob], known) for known in schemas.TYPES)
        ]
    return warnings


def _nearest_type(glob: str) -> str:
    near = get_close_matches(glob, schemas.TYPES, n=1, cutoff=0.5)
    return f'the nearest is "{near[0]}"' if near else "`poller schema` lists them"


def _is_clear(url: str) -> bool:
    parts = split_url(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _permissions(given: Given) -> tuple[str, ...]:
    """A file that others can read and that holds a secret."""
    warnings = []
    literal = file.literal_secrets(given.text)
    if given.path is not None and literal and (mode := _open_to_others(given.path)):
        warnings.append(
            f"{given.path} can be read by others (mode {mode}) and holds {', '.join(literal)}: "
            f"chmod 600 it, or write ${{NAME}} and keep the value elsewhere"
        )
    if given.variables.dotenv_path is not None and (mode := _open_to_others(given.variables.dotenv_path)):
        warnings.append(f"{given.variables.dotenv_path} can be read by others (mode {mode}): chmod 600 it")
    return tuple(warnings)


def _open_to_others(path: Path) -> str:
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & (stat.S_IRGRP | stat.S_IROTH) else ""
