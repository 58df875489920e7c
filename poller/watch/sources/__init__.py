"""The registry: one CRM, one file, one line."""

from collections.abc import Mapping

from .base import Account, Maker, Source
from .drum import Drum

SOURCES: Mapping[str, Maker] = {
    "drum": Drum,
}

__all__ = ["SOURCES", "Account", "Source"]
