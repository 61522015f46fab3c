"""Rows above, what the model makes of them below."""

import math
from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_scalar

from .._data.arrays import on_host
from ._plotting import (
    BASELINE,
    MODEL,
    check_matplotlib_support,
    merged,
    needs,
    prepared_axes,
    tidy,
)

__all__ = ["ReconstructionDisplay"]

# More names than this are not written below the curves.
_MAX_NAMES = 32
# Points of so few columns are marked: the line between them is only a guide.
_MAX_MARKED = 40


class ReconstructionDisplay:
    """Rows beside their reconstruction, as images or as curves.

    With an ``image_shape`` rows are images: the original above, the reconstruction
    below, all with the same colours. Without, each row has a panel with two curves over
    the columns; they share the axes, so that columns should have comparable units.
    The mean squared error over the columns is written at each row.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    original : ndarray of shape (n_rows, n_features)
        The rows.
    reconstruction : ndarray of shape (n_rows, n_features)
        What became of them.
    image_shape : tuple of int, default=None
        (height, width) of grey images or (channels, height, width) with 1 or 3
        channels, as for :class:`~skae.architectures.Conv`. None draws curves.
    feature_names : array-like of shape (n_features,), default=None
        Names of the columns, written below the curves if there are at most 32.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With images these are drawn on it; with curves it only bounds the panels.
    axes_ : ndarray of matplotlib Axes
        One per row for curves; for images that which they share.
    figure_ : matplotlib Figure
        The figure of the axes.
    images_ : ndarray of matplotlib AxesImage of shape (2, n_rows)
        Originals and reconstructions. Only there with ``image_shape``.
    lines_ : ndarray of matplotlib Line2D of shape (2, n_rows)
        Originals and reconstructions. Only there without ``image_shape``.

    See Also
    --------
    skae.metrics.reconstruction_scorer : The same in one number.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import ReconstructionDisplay
    >>> X = load_digits().data
    >>> model = AutoencoderTransformer(8, random_state=0).fit(X[:1200])
    >>> display = ReconstructionDisplay.from_estimator(
    ...     model, X[1200:], image_shape=(8, 8)
    ... )
    >>> display.images_.shape
    (2, 8)
    """

    def __init__(
        self, *, original, reconstruction, image_shape=None, feature_names=None
    ):
        self.original = original
        self.reconstruction = reconstruction
        self.image_shape = image_shape
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        n_samples=8,
        image_shape=None,
        feature_names=None,
        ax=None,
        im_kw=None,
        line_kw=None,
    ):
        """Reconstruct rows and draw them.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with `transform` and `inverse_transform`: the estimators of skae,
            :class:`~sklearn.decomposition.PCA`, or a pipeline of such steps.
        X : array-like of shape (n_rows, n_features)
            Rows, in the units of the first step.
        n_samples : int, default=8
            How many rows to show, the first ones; all where there are fewer.
        image_shape : tuple of int, default=None
            (height, width) or (channels, height, width). None draws curves.
        feature_names : array-like of shape (n_features,), default=None
            Names of the columns. None takes those of a data frame.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        im_kw : dict, default=None
            Keywords for ``Axes.imshow``, such as ``{"cmap": "gray_r"}``.
        line_kw : dict, default=None
            Keywords for ``Axes.plot``, for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If the estimator cannot be inverted.
        ValueError
            If ``image_shape`` or ``feature_names`` does not suit the rows.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        needs(cls, estimator, "transform", "inverse_transform")
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        X = X[:n_samples]
        if feature_names is None and hasattr(X, "columns"):
            feature_names = [str(name) for name in X.columns]
        display = cls(
            # A reconstruction comes without the names that the rows may have.
            original=check_array(on_host(X), dtype=[np.float64, np.float32]),
            reconstruction=np.asarray(
                on_host(estimator.inverse_transform(estimator.transform(X)))
            ),
            image_shape=image_shape,
            feature_names=feature_names,
        )
        return display.plot(ax, im_kw=im_kw, line_kw=line_kw)

    def plot(self, ax=None, *, im_kw=None, line_kw=None):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure. Curves need axes of a grid, as
            ``plt.subplots`` makes them, which they divide further.
        im_kw : dict, default=None
            Keywords for ``Axes.imshow``, such as ``{"cmap": "gray_r"}``. By default
            grey levels go from the smallest to the largest original value, and colours
            are taken to lie in [0, 1] or [0, 255] where they do.
        line_kw : dict, default=None
            Keywords for ``Axes.plot``, for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            The display itself.

        Raises
        ------
        ValueError
            If ``image_shape`` or ``feature_names`` does not suit the rows, or the axes
            cannot be divided.
        """
        if self.image_shape is None:
            self._plot_curves(ax, line_kw)
        else:
            self._plot_images(ax, im_kw)
        return self

    @property
    def errors(self):
        """Mean squared error of each row over its columns."""
        residual = np.subtract(self.original, self.reconstruction, dtype=np.float64)
        return np.square(residual).mean(axis=1)

    def _plot_images(self, ax, im_kw):
        shape = _checked_shape(self.image_shape, self.original.shape[1])
        n_rows, (_, height, width) = len(self.original), shape
        high, wide = height * 1.08, width * 1.08
        inches = min(0.95, 12 / n_rows)
        size = (n_rows * inches + 1.4, 2 * inches * high / wide + 0.7)
        ax = prepared_axes(self, ax, figsize=size)
        low, top = _limits(self.original, shape)
        style = {"cmap": "gray"} | (im_kw or {})
        if style.get("norm") is None:
            style = {"vmin": low, "vmax": top} | style
        self.images_ = np.empty((2, n_rows), dtype=object)
        for line, group in enumerate((self.original, self.reconstruction)):
            for column, row in enumerate(group):
                image = np.moveaxis(row.reshape(shape), 0, -1)
                if shape[0] == 3:
                    image = np.clip((image - low) / (top - low), 0, 1)
                x, y = column * wide, (1 - line) * high
                self.images_[line, column] = ax.imshow(
                    image, extent=(x, x + width, y, y + height), **style
                )
        middle = np.arange(n_rows) * wide + width / 2
        ax.set(
            xlim=(0, (n_rows - 1) * wide + width),
            ylim=(0, high + height),
            xticks=middle,
            xticklabels=[f"{error:.2g}" for error in self.errors],
            xlabel="mean squared error",
            yticks=[high + height / 2, height / 2],
            yticklabels=["original", "reconstruction"],
        )
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        self.axes_ = np.array([ax], dtype=object)

    def _plot_curves(self, ax, line_kw):
        n_rows, n_features = self.original.shape
        names = self.feature_names
        if names is not None and len(names) != n_features:
            raise ValueError(
                f"feature_names must have one name for each of the {n_features} "
                f"columns. Got {len(names)}."
            )
        n_across = 1 if n_rows <= 3 else math.ceil(math.sqrt(n_rows / 2))
        n_down = math.ceil(n_rows / n_across)
        if n_features > _MAX_NAMES:
            names = None
        letters = 0 if names is None else max(len(str(name)) for name in names)
        size = 1 + 4.2 * n_across, 1 + 1.25 * n_down + 0.07 * letters
        ax = prepared_axes(self, ax, size)
        from matplotlib.lines import Line2D

        place = ax.get_subplotspec()
        if place is None or not ax.axison:
            raise ValueError(
                "Curves divide ax, which must be one of a grid, as plt.subplots makes "
                f"it, and not divided yet. Got {ax!r}."
            )
        ax.set_axis_off()
        grid = place.subgridspec(n_down, n_across)
        self.ax_, self.figure_ = ax, ax.figure
        self.axes_ = np.empty(n_rows, dtype=object)
        self.lines_ = np.empty((2, n_rows), dtype=object)
        style = {"linewidth": 1.6}
        if n_features <= _MAX_MARKED:
            style |= {"marker": "o", "markersize": 3.5}
        style = merged(style, line_kw, Line2D)
        curves = (
            ("original", BASELINE, self.original),
            ("reconstruction", MODEL, self.reconstruction),
        )
        for i, error in enumerate(self.errors):
            shared = self.axes_[0] if i else None
            panel = self.figure_.add_subplot(
                grid[i // n_across, i % n_across], sharex=shared, sharey=shared
            )
            for line, (label, colour, rows) in enumerate(curves):
                (self.lines_[line, i],) = panel.plot(
                    rows[i], **{"color": colour, "label": label} | style
                )
            panel.set_title(f"error {error:.2g}", loc="right", fontsize="small", pad=2)
            tidy(panel)
            # The outermost panels are enough.
            panel.tick_params(
                labelbottom=i // n_across == n_down - 1, labelleft=i % n_across == 0
            )
            self.axes_[i] = panel
        first = self.axes_[0]
        if names is not None:
            first.set_xticks(range(n_features), names)
            for panel in self.axes_:
                panel.tick_params(axis="x", rotation=90, labelsize="small")
        else:
            for panel in self.axes_[(n_down - 1) * n_across :]:
                panel.set_xlabel("column")
        first.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.1,
            ncols=2,
            frameon=False,
        )


def _checked_shape(image_shape, n_features):
    """Return (channels, height, width)."""
    shape = tuple(np.atleast_1d(image_shape).tolist())
    if len(shape) not in {2, 3} or not all(
        isinstance(size, Integral) and size > 0 for size in shape
    ):
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), of "
            f"positive integers. Got {image_shape!r}."
        )
    shape = (1, *shape) if len(shape) == 2 else shape
    if shape[0] not in {1, 3}:
        raise ValueError(
            "image_shape must have 1 or 3 channels, which come first, as in "
            f"(3, height, width). Got {image_shape!r}."
        )
    if math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} is of {math.prod(shape)} values, but rows "
            f"have {n_features} columns."
        )
    return shape


def _limits(original, shape):
    """Return the values that are drawn as black and as full colour or white."""
    low, high = float(np.min(original)), float(np.max(original))
    if shape[0] == 3 and low >= 0 and high <= 255:
        return 0.0, 1.0 if high <= 1 else 255.0
    return low, high if high > low else low + 1.0
