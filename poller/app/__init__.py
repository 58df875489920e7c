"""Wiring: settings become running parts, APScheduler says what is due, signals end it all."""

from .service import Service, serve

__all__ = ["Service", "serve"]
