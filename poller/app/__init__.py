"""Wiring: settings become running parts, APScheduler says what is due, signals end it all."""

from .service import Ears, Service, serve

__all__ = ["Ears", "Service", "serve"]
