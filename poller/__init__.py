"""poller gives webhooks to APIs that have none."""

__version__ = "0.1.0"

__all__ = ["__version__"]
