"""Warnings at the line of the user's that they are about."""

import sys
import warnings

__all__ = ["warn_user"]

# Text, category and location of the warnings that were shown.
_shown: set[tuple] = set()


def warn_user(message, category):
    """Issue a warning that points to the user's code.

    Its location is the innermost calling frame outside of skae, scikit-learn and
    joblib. As Python does by default, a text is shown once per location: Python itself
    forgets what was shown as soon as any code uses `warnings.catch_warnings`, as
    scikit-learn does in every fit of a search.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_library(frame):
        level, frame = level + 1, frame.f_back
    code = frame.f_code
    warning = (message, category, code.co_filename, frame.f_lineno)
    once = _action(*warning[:2], frame) == "default"
    if not (once and warning in _shown):
        warnings.warn(message, category, stacklevel=level)
    if once:
        _shown.add(warning)


def _action(message, category, frame):
    """Return what the filters of the user say is to be done with a warning."""
    module = frame.f_globals.get("__name__", "")
    for action, text, kind, where, line in warnings.filters:
        if (
            issubclass(category, kind)
            and line in (0, frame.f_lineno)
            and (text is None or text.match(message))
            and (where is None or where.match(module))
        ):
            return action
    return warnings.defaultaction


def _is_library(frame):
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in ("skae", "sklearn", "joblib")
