"""The registry: one CRM, one file, one line."""

from collections.abc import Mapping

from .base import Account, Maker, Source
from .close import Close
from .drum import Drum

SOURCES: Mapping[str, Maker] = {
    "drum": Drum,
    "close": Close,
}

__all__ = ["SOURCES", "Account", "Source"]
