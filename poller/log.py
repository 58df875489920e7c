"""Logs on stderr: JSON lines for programs, colours for people, and no secret in either.

Ours (structlog) and other libraries' (logging) come out alike. What a line may not hold is taken
out twice: by the name of its key, and, when the line is written out, by the registered values
themselves, wherever they stand: in a nested value, a traceback, a URL, in JSON or base64.
"""

import base64
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast
from urllib.parse import quote

import msgspec
import structlog
from structlog.typing import Processor

MASK = "***"
SHORTEST_SECRET = 6
"""Characters. A shorter value would blank ordinary words; keys' names still hide it."""

_SECRET_KEY = re.compile(
    r"(^|[_-])(token|secret|secrets|password|passwd|authorization|api[_-]?key|cookie|signature|proxy)$",
    re.IGNORECASE,
)
QUIET = ("httpx", "httpcore", "aiohttp.access", "uvicorn.access", "apscheduler", "hpack", "urllib3")
"""Libraries that tell every request, its full URL included, below WARNING."""

_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access")
_DEEPEST = 8
_encoder = msgspec.json.Encoder(enc_hook=str)


class Mask:
    """Knows every secret text and takes it out of other texts; `add` may be called at any time."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets)

    def __repr__(self) -> str:
        return f"<Mask of {len(self._known)} texts>"

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these from now on, in every spelling that a log line may give them."""
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                self._known |= _spellings(secret)
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """Give the text with every secret replaced by `***`."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def configure(
    *,
    level: str = "info",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> Mask:
    """Send all logs of the process, at `level` and above, to `stream` (stderr); may be called again.

    JSON lines, but text where the stream is a terminal; coloured unless NO_COLOR is set. Gives the mask, to
    which secrets that are learned later can be added.
    """
    target = sys.stderr if stream is None else stream
    mask = Mask(secrets)
    lines = cast(TextIO, _Lines(target))  # structlog and logging write and flush, no more
    threshold = logging.getLevelNamesMapping()[level.upper()]
    render: list[Processor] = [
        structlog.processors.format_exc_info,
        _hider(mask),
        _renderer(target),
        _final(mask),
    ]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=False,
    )
    _route_stdlib(threshold=threshold, lines=lines, shared=shared, render=render)
    return mask


def _route_stdlib(*, threshold: int, lines: TextIO, shared: list[Processor], render: list[Processor]) -> None:
    """Let other libraries' records through the same processors."""
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _OWN_HANDLERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)


class _Lines:
    """A stream for log lines; a reader who went away must not stop the service."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            return self._target.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._target.flush()


def _renderer(target: TextIO) -> Processor:
    if not target.isatty():
        return structlog.processors.JSONRenderer(serializer=_json)
    # Rich's tracebacks would show local variables, secrets among them.
    return structlog.dev.ConsoleRenderer(
        colors=not os.environ.get("NO_COLOR"),
        timestamp_key="time",
        exception_formatter=structlog.dev.plain_traceback,
    )


def _json(event: MutableMapping[str, Any], **_: Any) -> str:
    first: dict[str, Any] = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    whole = {**first, **event}
    try:
        return _encoder.encode(whole).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        # A value that no JSON can hold must not cost the line.
        return _encoder.encode({str(key): _plain(value) for key, value in whole.items()}).decode()


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | bool | None) else repr(value)


def _hider(mask: Mask) -> Processor:
    def hide(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            event[key] = MASK if _is_secret_key(key) and value else _hidden(value, mask, depth=0)
        return event

    return hide


def _hidden(value: Any, mask: Mask, *, depth: int) -> Any:
    """Blank what stands under a secret's name, and secrets in texts while they are escaped once at most."""
    if isinstance(value, str):
        return mask(value)
    if depth >= _DEEPEST or not isinstance(value, Mapping | list | tuple):
        return value
    if isinstance(value, Mapping):
        return {
            key: MASK if _is_secret_key(key) and item else _hidden(item, mask, depth=depth + 1)
            for key, item in value.items()
        }
    return [_hidden(item, mask, depth=depth + 1) for item in value]


def _is_secret_key(key: Any) -> bool:
    return isinstance(key, str) and _SECRET_KEY.search(key) is not None


def _final(mask: Mask) -> Processor:
    def masked(_: Any, __: str, line: Any) -> str:
        return mask(line)

    return masked


def _spellings(secret: str) -> set[str]:
    """A secret as it stands, escaped for JSON, repr and URLs, and inside base64 (Basic authentication)."""
    whole_groups = len(secret.encode()) // 3 * 3
    encoded = base64.b64encode(secret.encode()[:whole_groups]).decode()
    forms = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        encoded,
    }
    return {form for form in forms if len(form) >= SHORTEST_SECRET}
