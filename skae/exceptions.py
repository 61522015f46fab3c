"""Warnings of :mod:`skae`, one class for each problem that a fit can have.

All derive from :class:`FitWarning`, so that a single filter ignores them or turns them
into errors.
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
    """Base of all warnings: the fitted model is usable, but may not be as expected."""


class DivergenceWarning(FitWarning):
    """The loss became infinite or NaN; the best weights before that were kept."""


class WorseThanPCAWarning(FitWarning):
    """The model reconstructs worse than PCA with as many components, or the mean."""


class CollapsedCodeWarning(FitWarning):
    """Some components of the code are constant over the training rows."""


class OvercompleteWarning(FitWarning):
    """The code is wider than the data and not regularised: it can be a copy."""


class OutOfMemoryWarning(FitWarning):
    """The device ran out of memory; training restarted with half the batch size."""


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
