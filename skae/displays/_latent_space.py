"""Scatter plot of two components of the latent code."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from .._data.arrays import on_host
from .._pipelines import split_pipeline
from . import _plotting
from ._plotting import Display, keywords

__all__ = ["LatentSpaceDisplay"]


class LatentSpaceDisplay(Display):
    """Scatter plot of two components of the latent code, coloured by a target.

    The target has a legend with one colour for each label if it consists of strings,
    booleans or at most ten different whole numbers. With more than ten labels, the
    rarest ones share a grey. Other numbers have a colour bar.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    code : ndarray of shape (n_samples, 2)
        Two components of the code of each row.
    y : array-like of shape (n_samples,), default=None
        Labels or numbers that define the colours.
    components : tuple of int, default=(0, 1)
        Positions of the two components in the code, for the labels of the axes.
    explained_variance_ratio : array-like of shape (2,), default=None
        Shares of the variance that the components explain, for the labels of the axes.
    target_name : str, default=None
        Name of ``y``: the title of the legend or the label of the colour bar.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    scatter_ : matplotlib PathCollection
        Points in the order of the rows.
    legend_ : matplotlib Legend or None
        Legend, if ``y`` has labels.
    colorbar_ : matplotlib Colorbar or None
        Colour bar, if ``y`` has other numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import LatentSpaceDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = AutoencoderTransformer(8, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(model, X, y)
    >>> len(display.legend_.get_texts())
    10
    """

    def __init__(
        self,
        *,
        code,
        y=None,
        components=(0, 1),
        explained_variance_ratio=None,
        target_name=None,
    ):
        self.code = code
        self.y = y
        self.components = components
        self.explained_variance_ratio = explained_variance_ratio
        self.target_name = target_name

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, components=(0, 1), ax=None, scatter_kw=None
    ):
        """Transform rows and draw two components of their code.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with `transform`. If it, or the last step of the pipeline, has
            ``explained_variance_ratio_``, the labels of the axes contain the shares.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to transform.
        y : array-like of shape (n_samples,), default=None
            Labels or numbers that define the colours. The name of a pandas Series is
            the title of the legend or the label of the colour bar.
        components : tuple of int, default=(0, 1)
            Components of the horizontal and of the vertical axis, counted from 0.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        scatter_kw : dict, default=None
            Keyword arguments for ``Axes.scatter``.

        Returns
        -------
        display : LatentSpaceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no `transform`.
        ValueError
            If ``components`` are not two components of the code, or ``y`` does not have
            one label or finite number for each row.
        """
        cls._check(estimator, "transform")
        code = on_host(estimator.transform(X))
        # As objects: an array of a bool and an int would hold two ints.
        components = np.atleast_1d(np.array(components, dtype=object)).tolist()
        width = code.shape[1]
        valid = [
            isinstance(k, Integral) and not isinstance(k, bool) and 0 <= k < width
            for k in components
        ]
        if len(valid) != 2 or not all(valid):
            raise ValueError(
                f"components must be two of the {width} components of the code, "
                f"counted from 0. Got {components}."
            )
        code = code if sparse.issparse(code) else np.asarray(code)
        code = code[:, components]
        shares = getattr(
            split_pipeline(estimator)[1], "explained_variance_ratio_", None
        )
        name = getattr(y, "name", None)
        display = cls(
            code=code.toarray() if sparse.issparse(code) else code,
            y=y,
            components=tuple(components),
            explained_variance_ratio=(
                None if shares is None else on_host(shares)[components]
            ),
            target_name=None if name is None else str(name),
        )
        return display.plot(ax, scatter_kw=scatter_kw)

    def plot(self, ax=None, *, scatter_kw=None):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        scatter_kw : dict, default=None
            Keyword arguments for ``Axes.scatter``, such as ``{"s": 4}`` or
            ``{"cmap": "magma"}``.

        Returns
        -------
        display : LatentSpaceDisplay
            The display itself.

        Raises
        ------
        ValueError
            If ``y`` does not have one label or finite number for each row.
        """
        colours, labels, is_number = self._colours()
        ax = self._axes(ax, figsize=(6.4, 5))
        from matplotlib.lines import Line2D

        size = float(np.clip(16000 / max(len(self.code), 1), 6, 28))
        style = {"s": size, "alpha": 0.8, "linewidths": 0}
        if not {"color", "c"} & set(scatter_kw or {}):
            style["c"] = colours
        if is_number:
            style["cmap"] = "viridis"
        self.scatter_ = ax.scatter(
            *self.code.T, **keywords("collection", scatter_kw, **style)
        )
        self.legend_ = self.colorbar_ = None
        if is_number:
            self.colorbar_ = self.figure_.colorbar(self.scatter_, ax=ax)
            self.colorbar_.outline.set_visible(False)
            self.colorbar_.solids.set_alpha(1)
            if self.target_name is not None:
                self.colorbar_.set_label(self.target_name)
        elif labels:
            self.legend_ = ax.legend(
                handles=[
                    Line2D([], [], color=colour, label=label, marker="o", linestyle="")
                    for label, colour in labels
                ],
                title=self.target_name,
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                frameon=False,
                handletextpad=0.2,
            )
        names = [f"component {k}" for k in self.components]
        if self.explained_variance_ratio is not None:
            shares = [f"{share:.1%}" for share in self.explained_variance_ratio]
            names = [f"{names[k]} ({shares[k]} of the variance)" for k in (0, 1)]
        ax.set(xlabel=names[0], ylabel=names[1])
        return self

    def _colours(self):
        """Return colours of the rows, those of the labels, and if ``y`` is numeric.

        Colours of the rows are ``y`` itself if it is numeric. Those of the labels are
        pairs of label and colour.
        """
        if self.y is None:
            return [_plotting.NORMAL], [], False
        y = column_or_1d(on_host(self.y))
        check_consistent_length(self.code, y)
        colours = np.array(_plotting.CATEGORIES, dtype=object)
        if y.dtype.kind in "fiu":
            assert_all_finite(y, input_name="y")
            values = np.unique(y)
            if len(values) > len(colours) or (values != np.round(values)).any():
                return y, [], True
            y = y.astype(int)
        elif y.dtype.kind != "b":
            y = y.astype(str)
        labels, positions, counts = np.unique(
            y, return_inverse=True, return_counts=True
        )
        frequent = np.sort(np.argsort(-counts, kind="stable")[: len(colours)])
        palette = np.full(len(labels), _plotting.PALE, dtype=object)
        palette[frequent] = colours[: len(frequent)]
        handles = [(str(labels[k]), palette[k]) for k in frequent]
        if len(labels) > len(frequent):
            n_others = len(labels) - len(frequent)
            handles.append((f"{n_others} others", _plotting.PALE))
        return list(palette[positions]), handles, False
