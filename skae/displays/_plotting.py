"""What the displays share: a base class, colours, styles and keywords for artists."""

import numpy as np

from .._compat.sklearn import check_matplotlib_support

__all__ = ["Display", "keywords", "percent", "spans_decades"]

# The first colours can be told apart with most colour vision deficiencies.
CATEGORIES = (
    "#30638e #edae49 #d1495b #3a9d6e #7b5ea7 #5bb5d6 #8c5e3c #e893b4 #22223b #a3b84c"
).split()
NORMAL, OUTLIERS, MODEL = CATEGORIES[:3]
BASELINE, INK, PALE = "#8a8f98", "#22223b", "#c9ced6"

DASHED = {"linestyle": (0, (4, 3)), "linewidth": 1.2}
# A legend that stays readable where it covers a line.
LEGEND = {"framealpha": 0.85, "edgecolor": "none"}


class Display:
    """Base of all displays: checks, and axes to draw on."""

    @classmethod
    def _check(cls, estimator=None, *methods, caller="from_estimator"):
        """Check that matplotlib is installed and that an estimator has methods.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator lacks a method.
        """
        check_matplotlib_support(f"{cls.__name__}.{caller}")
        for method in methods:
            if not hasattr(estimator, method):
                raise TypeError(
                    f"{cls.__name__} needs an estimator with {' and '.join(methods)}, "
                    f"or a Pipeline that has them. Got {estimator!r}, without {method}."
                )

    def _axes(self, ax, figsize=None):
        """Set ``ax_`` and ``figure_``; None makes axes on a new figure."""
        self._check(caller="plot")
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes

        if ax is None:
            _, ax = plt.subplots(figsize=figsize, layout="constrained")
        elif not isinstance(ax, Axes):
            raise TypeError(f"ax must be matplotlib Axes or None. Got {ax!r}.")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def keywords(artist, given, **defaults):
    """Return keyword arguments for an artist; given ones override the defaults.

    Parameters
    ----------
    artist : {"line", "patch", "collection"}
        Kind of the artist. It defines the aliases, such as ``lw`` for ``linewidth``.
    given : dict or None
        Keyword arguments of the user, by any alias.
    **defaults : object
        Keyword arguments for those that are not given.

    Returns
    -------
    dict
        Keyword arguments by their full names.
    """
    from matplotlib import cbook, collections, lines, patches

    aliases = {
        "line": lines.Line2D,
        "patch": patches.Patch,
        "collection": collections.Collection,
    }[artist]
    defaults, given = (cbook.normalize_kwargs(kw, aliases) for kw in (defaults, given))
    return defaults | given


def percent(axis):
    """Write the tick labels of shares in percent, at round numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")


def spans_decades(values, ratio):
    """Return whether values need a logarithmic axis.

    They do if all finite values are positive and the largest is at least ``ratio``
    times the smallest.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    return bool(
        len(values) and 0 < values.min() and ratio * values.min() <= values.max()
    )
