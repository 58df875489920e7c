"""poller gives webhooks to APIs that have none."""

from ._version import __version__
from .client import Message, VerificationFailed, subscribe, verify

__all__ = ["Message", "VerificationFailed", "__version__", "subscribe", "verify"]
