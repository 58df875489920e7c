"""poller gives webhooks to APIs that have none."""

from ._version import __version__
from .client import VerificationFailed, verify

__all__ = ["VerificationFailed", "__version__", "verify"]
