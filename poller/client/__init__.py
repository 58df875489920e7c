"""For other people's services: `subscribe` to the streams, `verify` what a webhook brings."""

from .subscribing import Message, subscribe
from .verifying import VerificationFailed, verify

__all__ = ["Message", "VerificationFailed", "subscribe", "verify"]
