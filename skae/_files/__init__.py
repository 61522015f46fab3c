"""Fitted estimators in files that hold data only, and no code."""

from .persistence import load, save

__all__ = ["load", "save"]
