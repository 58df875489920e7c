"""Formats: from an event to a request. A new kind of receiver is one file here and one line below."""

from collections.abc import Mapping

from . import cloudevents, slack
from .request import Format

FORMATS: Mapping[str, Format] = {"cloudevents": cloudevents.render, "slack": slack.render}

UNSIGNED = frozenset({"slack"})
"""Formats that need no secret."""

RATES: Mapping[str, str] = {"slack": "1/s"}
"""The rate of a format where the settings name none. Slack: one message a second for each hook
(https://docs.slack.dev/apis/web-api/rate-limits)."""

__all__ = ["FORMATS", "RATES", "UNSIGNED"]
