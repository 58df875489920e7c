"""The settings of `poller` (contract §2): read once, judged as a whole, frozen, no secret shown."""

from .loading import Given, compose, find, load
from .models import (
    BASE_URLS,
    TOKEN_NAMES,
    Kind,
    LogSettings,
    RedisSettings,
    Settings,
    SourceSettings,
    WebhookSettings,
    WebSettings,
)
from .origins import Origin
from .shown import Row, rows, secret_values
from .values import Allowance, format_duration, parse_duration

__all__ = [
    "BASE_URLS",
    "TOKEN_NAMES",
    "Allowance",
    "Given",
    "Kind",
    "LogSettings",
    "Origin",
    "RedisSettings",
    "Row",
    "Settings",
    "SourceSettings",
    "WebSettings",
    "WebhookSettings",
    "compose",
    "find",
    "format_duration",
    "load",
    "parse_duration",
    "rows",
    "secret_values",
]
