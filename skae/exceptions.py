"""The warnings of :mod:`skae`, one name per thing that can be wrong with a fit.

All derive from :class:`FitWarning`, so that one filter silences them, or turns
them into errors, together.
"""

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
