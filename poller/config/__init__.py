"""The settings of `poller` (contract §2): read once, judged as a whole, frozen, no secret shown."""

from .environment import read_dotenv as parse_dotenv
from .loading import Given, compose, find, load
from .models import (
    LogSettings,
    RedisSettings,
    Settings,
    SourceSettings,
    WebhookSettings,
    WebSettings,
)
from .origins import Origin
from .shown import Row, rows, secret_values
from .values import Allowance, format_duration, is_loopback, parse_duration

__all__ = [
    "Allowance",
    "Given",
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
    "is_loopback",
    "load",
    "parse_dotenv",
    "parse_duration",
    "rows",
    "secret_values",
]
