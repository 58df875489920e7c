"""Faithful stand-ins for the CRMs, served over real HTTP."""
