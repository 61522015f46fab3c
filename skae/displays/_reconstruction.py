"""Rows and their reconstruction, as images or curves."""

import math
from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from ..metrics import _reconstructed
from . import _plotting
from ._plotting import Display, keywords

__all__ = ["ReconstructionDisplay"]

# Largest number of columns whose names are written below the curves.
_MAX_NAMES = 32
# Largest number of columns whose values are marked by points on the curves.
_MAX_MARKED = 40


class ReconstructionDisplay(Display):
    """Rows and their reconstruction, as images or as curves.

    With an ``image_shape``, rows are images: originals at the top, reconstructions
    below, all on the same colour scale. Without it, each row has a panel with two
    curves over the columns. All panels share their axes, so columns should have
    comparable units. The mean squared error over the columns is given for each row.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    original : ndarray of shape (n_rows, n_features)
        Rows to show.
    reconstruction : ndarray of shape (n_rows, n_features)
        Reconstruction of the rows.
    image_shape : tuple of int, default=None
        (height, width) of grey images or (channels, height, width) with 1 or 3
        channels, as for :class:`~skae.architectures.Conv`. None draws curves.
    feature_names : array-like of shape (n_features,), default=None
        Names of the columns, written below the curves if there are at most 32.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the images. With curves, the invisible axes that the panels divide.
    axes_ : ndarray of matplotlib Axes
        With curves, one panel for each row. With images, an array of ``ax_`` alone.
    figure_ : matplotlib Figure
        Figure of the axes.
    images_ : ndarray of matplotlib AxesImage of shape (2, n_rows)
        Originals and reconstructions. Only set with ``image_shape``.
    lines_ : ndarray of matplotlib Line2D of shape (2, n_rows)
        Originals and reconstructions. Only set without ``image_shape``.

    See Also
    --------
    skae.metrics.reconstruction_scorer : R² of the reconstruction.

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
            Fitted, with `transform` and `inverse_transform`: an estimator of skae,
            :class:`~sklearn.decomposition.PCA`, or a pipeline of such steps.
        X : array-like of shape (n_rows, n_features)
            Rows, in the units of the first step.
        n_samples : int, default=8
            Number of rows to show, from the first one. If there are fewer, all are
            shown.
        image_shape : tuple of int, default=None
            (height, width) or (channels, height, width). None draws curves.
        feature_names : array-like of shape (n_features,), default=None
            Names of the columns. None means those of ``X`` if it is a data frame.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        im_kw : dict, default=None
            Keyword arguments for ``Axes.imshow``, such as ``{"cmap": "gray_r"}``.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no `transform` or no `inverse_transform`.
        ValueError
            If ``image_shape`` or ``feature_names`` does not match the columns, or
            ``n_samples`` is not positive. Also as for `plot`.
        """
        cls._check(estimator, "transform", "inverse_transform")
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        X = X[:n_samples]
        if feature_names is None and hasattr(X, "columns"):
            feature_names = [str(name) for name in X.columns]
        original, reconstruction = _reconstructed(estimator, X)
        display = cls(
            original=original,
            reconstruction=reconstruction,
            image_shape=image_shape,
            feature_names=feature_names,
        )
        return display.plot(ax, im_kw=im_kw, line_kw=line_kw)

    def plot(self, ax=None, *, im_kw=None, line_kw=None):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure. With curves they must belong to a
            grid, such as that of ``plt.subplots``, because the panels divide them.
        im_kw : dict, default=None
            Keyword arguments for ``Axes.imshow``, such as ``{"cmap": "gray_r"}``. By
            default grey levels range from the smallest to the largest original value.
            Values of colour images range from 0 to 1 or from 0 to 255 if the originals
            are within these limits, else from their smallest to their largest value.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            The display itself.

        Raises
        ------
        ValueError
            If ``image_shape`` or ``feature_names`` does not match the columns, or the
            axes cannot be divided.
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
        ax = self._axes(ax, figsize=size)
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
                extent = (x, x + width, y, y + height)
                self.images_[line, column] = ax.imshow(image, extent=extent, **style)
        ax.set(
            xlim=(0, (n_rows - 1) * wide + width),
            ylim=(0, high + height),
            xticks=np.arange(n_rows) * wide + width / 2,
            xticklabels=[f"{error:.2g}" for error in self.errors],
            xlabel="mean squared error",
            yticks=[high + height / 2, height / 2],
            yticklabels=["original", "reconstruction"],
        )
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        self.axes_ = np.array([ax], dtype=object)

    def _plot_curves(self, ax, line_kw):
        n_rows, n_features = self.original.shape
        names = self.feature_names
        if names is not None and len(names) != n_features:
            raise ValueError(
                f"feature_names must have one name for each of the {n_features} "
                f"columns. Got {len(names)}."
            )
        if n_features > _MAX_NAMES:
            names = None
        n_across = 1 if n_rows <= 3 else math.ceil(math.sqrt(n_rows / 2))
        n_down = math.ceil(n_rows / n_across)
        letters = 0 if names is None else max(len(str(name)) for name in names)
        size = 1 + 4.2 * n_across, 1 + 1.25 * n_down + 0.07 * letters
        ax = self._axes(ax, figsize=size)
        place = ax.get_subplotspec()
        if place is None or not ax.axison:
            raise ValueError(
                "Curves divide ax, which must belong to a grid, such as that of "
                f"plt.subplots, and must not be divided yet. Got {ax!r}."
            )
        ax.set_axis_off()
        grid = place.subgridspec(n_down, n_across)
        self.axes_ = np.empty(n_rows, dtype=object)
        self.lines_ = np.empty((2, n_rows), dtype=object)
        marks = {"marker": "o", "markersize": 3.5} if n_features <= _MAX_MARKED else {}
        curves = (
            ("original", _plotting.BASELINE, self.original),
            ("reconstruction", _plotting.MODEL, self.reconstruction),
        )
        for i, error in enumerate(self.errors):
            row, column = divmod(i, n_across)
            shared = self.axes_[0] if i else None
            panel = self.figure_.add_subplot(
                grid[row, column], sharex=shared, sharey=shared
            )
            self.axes_[i] = panel
            for line, (label, colour, rows) in enumerate(curves):
                style = {"color": colour, "label": label, "linewidth": 1.6} | marks
                style = keywords("line", line_kw, **style)
                self.lines_[line, i] = panel.plot(rows[i], **style)[0]
            panel.set_title(f"error {error:.2g}", loc="right", fontsize="small", pad=2)
            panel.spines[["top", "right"]].set_visible(False)
            # Only the outermost panels have tick labels.
            panel.tick_params(labelbottom=row == n_down - 1, labelleft=column == 0)
            if names is not None:
                panel.tick_params(axis="x", rotation=90, labelsize="small")
            elif row == n_down - 1:
                panel.set_xlabel("column")
        if names is not None:
            self.axes_[0].set_xticks(range(n_features), names)
        style = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
        self.axes_[0].legend(ncols=2, frameon=False, **style)


def _checked_shape(image_shape, n_features):
    """Return (channels, height, width)."""
    shape = tuple(np.atleast_1d(image_shape).tolist())
    shape = (1, *shape) if len(shape) == 2 else shape
    positive = all(isinstance(size, Integral) and size > 0 for size in shape)
    if len(shape) != 3 or not positive or shape[0] not in {1, 3}:
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), of "
            "positive integers and with 1 or 3 channels, which come first. Got "
            f"{image_shape!r}."
        )
    if math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} is of {math.prod(shape)} values, but rows "
            f"have {n_features} columns."
        )
    return shape


def _limits(original, shape):
    """Return the values drawn as black, and as white or the full colour."""
    low, high = float(np.min(original)), float(np.max(original))
    if shape[0] == 3 and low >= 0 and high <= 255:
        return 0.0, 1.0 if high <= 1 else 255.0
    return low, high if high > low else low + 1.0
