"""The settings of `poller` (contract §2): read once, judged as a whole, frozen, no secret shown."""

from .environment import SLACK_EVENTS
from .environment import read_dotenv as parse_dotenv
from .loading import Given, compose, load
from .models import Settings, SourceSettings, WebhookSettings
from .shown import rows, secret_values
from .values import Allowance, is_loopback, parse_duration, parse_name

__all__ = [
    "SLACK_EVENTS",
    "Allowance",
    "Given",
    "Settings",
    "SourceSettings",
    "WebhookSettings",
    "compose",
    "is_loopback",
    "load",
    "parse_dotenv",
    "parse_duration",
    "parse_name",
    "rows",
    "secret_values",
]
