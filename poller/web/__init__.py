"""What the service answers over HTTP: health, metrics, API, the page."""

from .application import Web, opened
from .context import Door, Pulse, SourceFacts, WebContext
from .serving import Listener, listen

__all__ = [
    "Door",
    "Listener",
    "Pulse",
    "SourceFacts",
    "Web",
    "WebContext",
    "listen",
    "opened",
]
