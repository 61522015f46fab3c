"""Warnings that point to the line of the user's that they are about."""

import sys
import warnings

__all__ = ["warn_user"]


def warn_user(message, category):
    """Warn at the line of the user's that led here: the last outside of libraries."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_library(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_library(frame):
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in ("skae", "sklearn", "joblib")
