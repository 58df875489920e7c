"""Noticing what changed: polls a source and commits what is new."""
