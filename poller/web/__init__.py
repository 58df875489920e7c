"""What the service answers over HTTP: health, metrics, API, the page."""

from .answers import Overview
from .application import Web, opened
from .house import Door, House, Pulse, SourceFacts
from .serving import Listener, listen

__all__ = [
    "Door",
    "House",
    "Listener",
    "Overview",
    "Pulse",
    "SourceFacts",
    "Web",
    "listen",
    "opened",
]
