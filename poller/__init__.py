"""poller gives webhooks to APIs that have none."""

__version__ = "0.1.0"

from .client import VerificationFailed, verify

__all__ = ["VerificationFailed", "__version__", "verify"]
