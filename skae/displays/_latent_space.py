"""Where rows lie in the code."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from .._data.arrays import on_host
from ._plotting import (
    CATEGORIES,
    NORMAL,
    PALE,
    check_matplotlib_support,
    last_step,
    merged,
    needs,
    prepared_axes,
    tidy,
)

__all__ = ["LatentSpaceDisplay"]


class LatentSpaceDisplay:
    """Rows by two components of their code, coloured by a target.

    Labels, such as strings or at most ten different whole numbers, get one colour each
    and a legend; beyond ten the rarest ones share a grey. Other numbers get a colour
    bar.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    code : ndarray of shape (n_samples, 2)
        The two components.
    y : array-like of shape (n_samples,), default=None
        Labels or numbers.
    components : tuple of int, default=(0, 1)
        Which components these are, for the labels of the axes.
    explained_variance_ratio : array-like of shape (2,), default=None
        Shares of the variance that they explain, for the labels of the axes.
    target_name : str, default=None
        What ``y`` is: the title of the legend or the label of the colour bar.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        Their figure.
    scatter_ : matplotlib PathCollection
        The points, in the order of the rows.
    legend_ : matplotlib Legend or None
        Of the labels.
    colorbar_ : matplotlib Colorbar or None
        Of the numbers.

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
        """Transform rows and draw two components.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with `transform`. Where it, or the last step, has
            ``explained_variance_ratio_``, the labels of the axes say the shares.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Labels or numbers. The name of a series becomes the title of the legend.
        components : tuple of int, default=(0, 1)
            The component of the horizontal axis and that of the vertical one, counted
            from 0.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        scatter_kw : dict, default=None
            Keywords for ``Axes.scatter``.

        Returns
        -------
        display : LatentSpaceDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If the estimator has no `transform`.
        ValueError
            If ``components`` are not two of the code, or ``y`` does not suit ``X``.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        needs(cls, estimator, "transform")
        code = on_host(estimator.transform(X))
        # As objects, so that a bool beside a number stays one.
        components = np.atleast_1d(np.array(components, dtype=object)).tolist()
        width = code.shape[1]
        known = all(
            isinstance(k, Integral) and not isinstance(k, bool) and 0 <= k < width
            for k in components
        )
        if len(components) != 2 or not known:
            raise ValueError(
                f"components must be two of the {width} components of the code, "
                f"counted from 0. Got {components}."
            )
        if sparse.issparse(code):
            code = code[:, components].toarray()
        else:
            code = np.asarray(code)[:, components]
        shares = getattr(last_step(estimator), "explained_variance_ratio_", None)
        shares = None if shares is None else on_host(shares)[components]
        name = getattr(y, "name", None)
        display = cls(
            code=code,
            y=y,
            components=tuple(components),
            explained_variance_ratio=shares,
            target_name=None if name is None else str(name),
        )
        return display.plot(ax, scatter_kw=scatter_kw)

    def plot(self, ax=None, *, scatter_kw=None):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        scatter_kw : dict, default=None
            Keywords for ``Axes.scatter``, such as ``{"s": 4}`` or ``{"cmap": ...}``.

        Returns
        -------
        display : LatentSpaceDisplay
            The display itself.

        Raises
        ------
        ValueError
            If ``y`` does not have one finite number or label for each row.
        """
        colours, legend, is_number = self._colours()
        ax = prepared_axes(self, ax, figsize=(6.4, 5))
        from matplotlib.collections import PathCollection
        from matplotlib.lines import Line2D

        n_rows = len(self.code)
        style = {
            "s": float(np.clip(16000 / max(n_rows, 1), 6, 28)),
            "alpha": 0.8,
            "linewidths": 0,
        }
        given = scatter_kw or {}
        if "color" not in given and "c" not in given:
            style["c"] = colours
        if is_number:
            style["cmap"] = "viridis"
        self.scatter_ = ax.scatter(
            self.code[:, 0], self.code[:, 1], **merged(style, given, PathCollection)
        )
        self.ax_, self.figure_ = ax, ax.figure
        self.legend_ = self.colorbar_ = None
        if is_number:
            self.colorbar_ = self.figure_.colorbar(self.scatter_, ax=ax)
            self.colorbar_.outline.set_visible(False)
            self.colorbar_.solids.set_alpha(1)
            if self.target_name is not None:
                self.colorbar_.set_label(self.target_name)
        elif legend:
            self.legend_ = ax.legend(
                handles=[
                    Line2D([], [], color=colour, label=label, marker="o", linestyle="")
                    for label, colour in legend
                ],
                title=self.target_name,
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                frameon=False,
                handletextpad=0.2,
            )
        ax.set(xlabel=self._axis_label(0), ylabel=self._axis_label(1))
        tidy(ax)
        return self

    def _axis_label(self, axis):
        label = f"component {self.components[axis]}"
        if self.explained_variance_ratio is not None:
            share = self.explained_variance_ratio[axis]
            label += f" ({share:.1%} of the variance)"
        return label

    def _colours(self):
        """Return colours of the rows, pairs of label and colour, and what ``y`` is."""
        if self.y is None:
            return [NORMAL], [], False
        y = column_or_1d(on_host(self.y))
        check_consistent_length(self.code, y)
        if y.dtype.kind in "fiu":
            assert_all_finite(y, input_name="y")
            values = np.unique(y)
            whole = bool((values == np.round(values)).all())
            if len(values) > len(CATEGORIES) or not whole:
                return y, [], True
            y = y.astype(int)
        elif y.dtype.kind != "b":
            y = y.astype(str)
        labels, positions, counts = np.unique(
            y, return_inverse=True, return_counts=True
        )
        frequent = np.sort(np.argsort(-counts, kind="stable")[: len(CATEGORIES)])
        palette = np.full(len(labels), PALE, dtype=object)
        palette[frequent] = CATEGORIES[: len(frequent)]
        legend = [(str(labels[k]), palette[k]) for k in frequent]
        if len(labels) > len(frequent):
            legend.append((f"{len(labels) - len(frequent)} others", PALE))
        return list(palette[positions]), legend, False
