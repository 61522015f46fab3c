"""Warnings at the line of the user's that they are about."""

import sys
import warnings

__all__ = ["warn_user"]


def warn_user(message, category):
    """Issue a warning that points to the user's code.

    Its location is the innermost calling frame outside of skae, scikit-learn and
    joblib.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_library(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_library(frame):
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in ("skae", "sklearn", "joblib")
