"""Settings from the environment: `POLLER_A__B`, the few names that need no file, and `.env`."""

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

from poller.watch.sources import SOURCES

from .layers import Layer, Leaf, build, merge_into
from .models import known_keys
from .origins import PREFIX, Origin, Path_, is_secret, variable

SHORT: dict[str, Path_] = {
    "POLLER_DRUM_TOKEN": ("sources", "drum", "token"),
    "POLLER_DRUM_BASE_URL": ("sources", "drum", "base_url"),
    "POLLER_WEBHOOK_URL": ("webhooks", "webhook", "url"),
    "POLLER_WEBHOOK_SECRET": ("webhooks", "webhook", "secret"),
    "POLLER_WEBHOOK_ALLOW_PRIVATE": ("webhooks", "webhook", "allow_private"),
    "POLLER_SLACK_URL": ("webhooks", "slack", "url"),
    "POLLER_REDIS_URL": ("redis", "url"),
    "POLLER_DRUM_TOKEN_FILE": ("sources", "drum", "token_file"),
    "POLLER_WEBHOOK_URL_FILE": ("webhooks", "webhook", "url_file"),
    "POLLER_WEBHOOK_SECRET_FILE": ("webhooks", "webhook", "secret_file"),
    "POLLER_SLACK_URL_FILE": ("webhooks", "slack", "url_file"),
    "POLLER_REDIS_URL_FILE": ("redis", "url_file"),
}
"""What makes a source or an endpoint without a file (contract §2)."""

FALLBACKS: dict[str, Path_] = {"REDIS_URL": ("redis", "url"), "LOG_LEVEL": ("log", "level")}
"""Names that others use too: read from the real environment alone, and below all names of ours."""

SLACK_EVENTS = ("*.won", "*.lost", "poller.source.suspended", "poller.source.held", "poller.source.resumed")

CONFIG = "POLLER_CONFIG"
DATA_DIR = "POLLER_DATA_DIR"

# Kubernetes sets these in every container beside a Service named `poller` or `poller-…`.
_SERVICE_LINK = re.compile(
    r"POLLER(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)(_.*)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)"
)
_SECTIONS = {"POLLER_REDIS", "POLLER_WEB", "POLLER_LOG", "POLLER_SOURCES", "POLLER_WEBHOOKS"}


@dataclass(frozen=True, slots=True)
class Variables:
    """All variables by name, and those that `.env` gave because the environment did not."""

    all: Mapping[str, str]
    dotenv: frozenset[str] = frozenset()
    dotenv_path: Path | None = None

    def origin(self, name: str) -> Origin:
        """Where a variable's value came from."""
        place = f"{name} ({self.dotenv_path})" if name in self.dotenv else name
        return Origin("env", place, name)


@dataclass
class Environment:
    """The environment as three layers, highest first, and what in it deserves a word."""

    named: Layer
    implied: Layer
    fallback: Layer
    warnings: list[str]


def join(environ: Mapping[str, str], dotenv: Mapping[str, str], path: Path | None) -> Variables:
    """Let the environment stand over `.env`."""
    return Variables({**dotenv, **environ}, frozenset(dotenv.keys() - environ.keys()), path)


def read_dotenv(text: str, path: Path) -> tuple[dict[str, str], list[str]]:
    """Read the lines of a `.env`, without expanding anything in them; and what is wrong with it."""
    found: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            problems.append(
                f"{path}: line {binding.original.line} is not NAME=value; mend it or begin it with #"
            )
        elif binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found, problems


def read(variables: Variables, *, referenced: frozenset[str], directory: Path) -> Environment:
    """Turn variables into layers. A short name that the file asks for by `${…}` is the file's alone."""
    ours = {name: value for name, value in variables.all.items() if _speaks(name, value, referenced)}
    long, problems, warnings = _long(ours, variables)
    short = [Leaf(path, ours[name], variables.origin(name)) for name, path in SHORT.items() if name in ours]
    named = build(long, directory=directory)
    said_long = {leaf.path for leaf in long}
    merge_into(named, build([leaf for leaf in short if leaf.path not in said_long], directory=directory))
    named.problems[:0] = problems
    return Environment(named, build(_implied(short), directory=directory), _fallback(variables), warnings)


def _speaks(name: str, value: str, referenced: frozenset[str]) -> bool:
    """An empty variable says nothing: compose files pass `${X:-}` on."""
    return bool(value) and name.startswith(PREFIX) and not (name in referenced and "__" not in name)


def _long(ours: Mapping[str, str], variables: Variables) -> tuple[list[Leaf], list[str], list[str]]:
    leaves: list[Leaf] = []
    problems: list[str] = []
    warnings: list[str] = []
    for name in sorted(ours):
        if "__" in name or name == DATA_DIR:
            leaves.append(Leaf(_path(name), ours[name], variables.origin(name)))
        elif name in _SECTIONS:
            problems.append(f"{name}: is a section; write one setting of it, such as {_example(name)}")
        elif name not in SHORT and name != CONFIG and not _is_service_link(name, ours[name]):
            _judge_unknown(name, problems, warnings)
    return leaves, problems, warnings


def _example(section: str) -> str:
    return {
        "POLLER_REDIS": variable(("redis", "url")),
        "POLLER_WEB": variable(("web", "port")),
        "POLLER_LOG": variable(("log", "level")),
        "POLLER_SOURCES": variable(("sources", "acme", "token")),
        "POLLER_WEBHOOKS": variable(("webhooks", "billing", "url")),
    }[section]


_KEYS = {section: known_keys([section]) for section in ("redis", "web", "log")}
_HEADS: dict[str, Path_] = {
    **{kind.upper(): ("sources", kind) for kind in SOURCES},
    **{name.split("_")[1]: path[:-1] for name, path in SHORT.items()},
    **{section.upper(): (section,) for section in _KEYS},
}
"""What the first word of a name is about."""
_MEANT: dict[str, Path_] = {
    **{f"{section.upper()}_{key}".upper(): (section, key) for section, keys in _KEYS.items() for key in keys},
    **{name.removeprefix(PREFIX): path for name, path in SHORT.items()},
    "CONFIG": (),
    "DATA_DIR": ("data_dir",),
}
"""Every name that needs no section of a name's own, with one `_` between its words."""
_SPELLED = {path: name for name, path in SHORT.items()} | {(): CONFIG}
_NAMED = (
    f"a setting of one source is written {variable(('sources', 'acme', 'token'))}, "
    f"of one endpoint {variable(('webhooks', 'billing', 'url'))}"
)


def _is_service_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("_PORT") and "://" in value)


def _judge_unknown(name: str, problems: list[str], warnings: list[str]) -> None:
    flat = name.removeprefix(PREFIX)
    head, _, rest = flat.partition("_")
    if head in _HEADS:
        problems.append(f"{name}: no such setting; {_of_head(head, rest)}")
    elif head in ("SOURCES", "WEBHOOKS"):
        problems.append(f"{name}: no such setting; {_NAMED}")
    elif near := get_close_matches(name, [PREFIX + each for each in _MEANT], n=1, cutoff=0.8):
        path = _MEANT[near[0].removeprefix(PREFIX)]
        # What one CRM's token is called is near to what another secret is called: no guess is made.
        known = path and is_secret(path) and not get_close_matches(head, [near[0].split("_")[1]], cutoff=0.8)
        problems.append(f"{name}: no such setting; {_NAMED if known else _nearest(path)}")
    else:
        warnings.append(f"{name} is no setting of poller and is not read; unset it, or give it another name")


def _of_head(head: str, rest: str) -> str:
    """What a name means whose first word is known: a key near to it, else what follows as a key."""
    place = _HEADS[head]
    keys = {flat.removeprefix(f"{head}_"): path for flat, path in _MEANT.items() if path[:-1] == place}
    if near := get_close_matches(rest, keys, n=1):
        return _nearest(keys[near[0]])
    if place[0] in _KEYS:
        return f"known here: {', '.join(variable((*place, key)) for key in _KEYS[place[0]])}"
    hint = _nearest((*place, rest.lower() or "token"))
    if place in {path[:-1] for path in SHORT.values()}:
        return hint
    return f"{hint}, beside {variable((*place, 'kind'))}={place[1]}"


def _nearest(path: Path_) -> str:
    return f"the nearest is {_SPELLED.get(path) or variable(path)}"


def _path(name: str) -> Path_:
    parts = name.removeprefix(PREFIX).split("__")
    path = [part.lower() for part in parts]
    if path[0] in ("sources", "webhooks"):
        path[1] = path[1].replace("_", "-") if len(path) > 1 else ""
    if path[0] == "webhooks" and len(path) > 3 and path[2] == "headers":
        path[3:] = ["__".join(path[3:]).replace("_", "-")]
    return tuple(path)


def _implied(short: Iterable[Leaf]) -> list[Leaf]:
    """What goes without saying about a short name, unless the file says otherwise."""
    leaves = []
    origins = {leaf.path[:2]: leaf.origin for leaf in short}
    if origin := origins.get(("sources", "drum")):
        leaves.append(Leaf(("sources", "drum", "kind"), "drum", origin))
    if origin := origins.get(("webhooks", "slack")):
        leaves.append(Leaf(("webhooks", "slack", "format"), "slack", origin))
        leaves.append(Leaf(("webhooks", "slack", "events"), list(SLACK_EVENTS), origin))
    return leaves


def _fallback(variables: Variables) -> Layer:
    leaves = []
    for name, path in FALLBACKS.items():
        value = variables.all.get(name, "")
        if value and name not in variables.dotenv:
            leaves.append(Leaf(path, value, variables.origin(name)))
    return build(leaves, directory=Path())
