"""Conditions in CEL."""

from upshotd.adapters.cel.conditions import CelConditions

__all__ = ["CelConditions"]
