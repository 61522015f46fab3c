"""What all displays share: axes, colours, keywords for artists, steps of pipelines."""

from sklearn.pipeline import Pipeline

from .._compat.sklearn import check_matplotlib_support

__all__ = [
    "BASELINE",
    "CATEGORIES",
    "INK",
    "MODEL",
    "NORMAL",
    "OUTLIERS",
    "PALE",
    "check_matplotlib_support",
    "last_step",
    "legend",
    "merged",
    "needs",
    "percent",
    "prepared_axes",
    "tidy",
]

MODEL = "#d1495b"
BASELINE = "#8a8f98"
NORMAL = "#30638e"
OUTLIERS = "#edae49"
INK = "#22223b"
PALE = "#c9ced6"
# The first ones are told apart by most people with a colour vision deficiency, too.
CATEGORIES = (
    "#30638e",
    "#edae49",
    "#d1495b",
    "#3a9d6e",
    "#7b5ea7",
    "#5bb5d6",
    "#8c5e3c",
    "#e893b4",
    "#22223b",
    "#a3b84c",
)


def prepared_axes(display, ax, figsize=None):
    """Return axes to draw on: those that were given, or those of a new figure."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None. Got {ax!r}.")
    return ax


def tidy(ax):
    """Take away the two spines that say nothing."""
    ax.spines[["top", "right"]].set_visible(False)


def percent(axis):
    """Write shares along an axis as percent, at round numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")


def legend(ax, **kwargs):
    """Draw a legend that can be read where it lies on a line."""
    return ax.legend(framealpha=0.85, edgecolor="none", **kwargs)


def merged(defaults, given, artist):
    """Return keywords for an artist; what the user gave, by any alias, goes first."""
    from matplotlib.cbook import normalize_kwargs

    return normalize_kwargs(defaults, artist) | normalize_kwargs(given, artist)


def last_step(estimator):
    """Return the estimator itself, or the one that a pipeline ends in."""
    while isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    return estimator


def needs(display, estimator, *methods):
    """Check that an estimator has methods.

    Raises
    ------
    TypeError
        If one is not there.
    """
    for method in methods:
        if not hasattr(estimator, method):
            raise TypeError(
                f"{display.__name__} needs an estimator with {' and '.join(methods)}, "
                f"or a Pipeline that has them. Got {estimator!r}, without {method}."
            )
