"""The warnings of :mod:`skae`, one name per thing that can be wrong with a fit.

All derive from :class:`FitWarning`, so that one filter silences them, or turns
them into errors, together.
"""

import sys
import warnings

__all__ = [
    "CollapsedCodeWarning",
    "DivergenceWarning",
    "FitWarning",
    "OutOfMemoryWarning",
    "OvercompleteWarning",
    "WorseThanPCAWarning",
]


class FitWarning(UserWarning):
    """A fitted model is usable, but not what one would expect of it."""


class DivergenceWarning(FitWarning):
    """The loss stopped being finite; the best weights before that were kept."""


class WorseThanPCAWarning(FitWarning):
    """The model reconstructs worse than PCA of the same size, or than the mean."""


class CollapsedCodeWarning(FitWarning):
    """Some components of the code are constant over the training rows."""


class OvercompleteWarning(FitWarning):
    """The code is wider than the data and nothing keeps it from being a copy."""


class OutOfMemoryWarning(FitWarning):
    """The device ran out of memory; training began anew with half the batch."""


def warn_user(message, category):
    """Warn at the line of the user's that led here: the last outside of libraries."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_library(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_library(frame):
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in ("skae", "sklearn", "joblib")
