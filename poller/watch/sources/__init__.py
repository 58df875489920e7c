"""The registry: one CRM, one file, one line."""

from collections.abc import Mapping

from .base import Account, Maker, Source
from .close import Close
from .drum import Drum
from .pipedrive import Pipedrive

SOURCES: Mapping[str, Maker] = {
    "drum": Drum,
    "close": Close,
    "pipedrive": Pipedrive,
}

__all__ = ["SOURCES", "Account", "Source"]
