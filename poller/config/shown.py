"""The effective settings as people may see them, each with its origin; and the secrets that logs hide."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from poller.deliver.settings import LONG_SEGMENT

from .models import Settings, WebhookSettings
from .origins import Origin, Path_, dotted
from .problems import origin_of
from .values import MASK, format_duration, is_slack, mask_url

Shown = str | int | bool | list[str] | None


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its name, its value as it may be shown, and where the value came from."""

    setting: str
    value: Shown
    origin: Origin


def rows(settings: Settings) -> list[Row]:
    """Every effective setting, in the contract's order, secrets masked."""
    return [
        Row(dotted(path), _shown(path, value, settings), origin_of(path, settings.origins))
        for path, value in _leaves(settings, ())
    ]


def secret_values(settings: Settings) -> frozenset[str]:
    """Every secret text in the settings, for the log to hide wherever it turns up."""
    found: set[str] = set()
    for path, value in _leaves(settings, ()):
        for secret in value if isinstance(value, tuple) else (value,):
            if isinstance(secret, SecretStr):
                found.update(_parts(path, secret.get_secret_value()))
    return frozenset(found - {""})


def _leaves(model: BaseModel, path: Path_) -> Iterator[tuple[Path_, Any]]:
    for name, field in type(model).model_fields.items():
        yield from _walk(getattr(model, name), (*path, field.alias or name))


def _walk(value: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    if isinstance(value, BaseModel):
        yield from _leaves(value, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, key))
    else:
        yield path, value


def _shown(path: Path_, value: Any, settings: Settings) -> Shown:
    if isinstance(value, SecretStr):
        return _masked(path, value.get_secret_value(), settings)
    if isinstance(value, tuple | list):
        return [str(_shown(path, item, settings)) for item in value]
    if isinstance(value, timedelta):
        return format_duration(value)
    return value if value is None or isinstance(value, bool | int) else str(value)


def _masked(path: Path_, text: str, settings: Settings) -> str:
    if path[-1] not in ("url", "proxy"):
        return MASK
    webhook = settings.webhooks.get(path[1]) if path[0] == "webhooks" else None
    return webhook.shown_url if isinstance(webhook, WebhookSettings) else mask_url(text, path=False)


def _parts(path: Path_, text: str) -> set[str]:
    """What in a secret proves something: of a URL its user information, query and (Slack) path."""
    if path[-1] in ("url", "proxy"):
        return _url_parts(path, text)
    if path[-2:-1] == ("headers",):
        return {text, *re.split(r"[\s,;]+", text.partition(" ")[2])}
    return {text, text.removeprefix("whsec_")}


def _url_parts(path: Path_, text: str) -> set[str]:
    parts = urlsplit(text)
    query = {value for key, value in parse_qsl(parts.query) if path[0] == "webhooks" or key == "password"}
    found = {parts.password or "", *query}
    if parts.password is None and path[-1] == "proxy":
        found.add(parts.username or "")
    if path[0] == "webhooks":
        found |= {segment for segment in parts.path.split("/") if len(segment) >= LONG_SEGMENT}
        found |= {parts.path} if is_slack(text) else set()
    return found | {unquote(part) for part in found}
