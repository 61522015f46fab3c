"""How much of new rows survives codes of several sizes."""

from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import check_cv, validation_curve
from sklearn.pipeline import Pipeline

from .._compat.sklearn import num_samples
from ..metrics import reconstruction_scorer
from ._plotting import (
    BASELINE,
    MODEL,
    check_matplotlib_support,
    legend,
    merged,
    needs,
    prepared_axes,
    tidy,
)

__all__ = ["CodeSizeDisplay"]


class CodeSizeDisplay:
    """Held-out R² of the reconstruction against the size of the code, beside PCA.

    Lines are means over folds, bands are one standard error of the mean to either
    side. Reconstruction nearly always gets better with more components: look for where
    the curve bends, or score what the code is for.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    n_components : array-like of int of shape (n_sizes,)
        Sizes of the code.
    scores : ndarray of shape (n_sizes, n_folds)
        Held-out R² of the model.
    pca_scores : ndarray of shape (n_sizes, n_folds), default=None
        Held-out R² of PCA.
    name : str, default="model"
        What the model is called in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : list of matplotlib Line2D
        Means of the model, and of PCA where it is there.
    bands_ : list of matplotlib FillBetweenPolyCollection
        One standard error around each; empty for a single fold.

    See Also
    --------
    skae.metrics.reconstruction_scorer : The score.
    skae.metrics.one_standard_error : A choice that does without looking.
    sklearn.model_selection.ValidationCurveDisplay : The same for any parameter.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import CodeSizeDisplay
    >>> display = CodeSizeDisplay.from_estimator(
    ...     AutoencoderTransformer(random_state=0),
    ...     load_digits().data,
    ...     n_components=[2, 8],
    ...     cv=2,
    ... )
    >>> (display.scores > display.pca_scores).all()
    np.True_
    """

    def __init__(self, *, n_components, scores, pca_scores=None, name="model"):
        self.n_components = n_components
        self.scores = scores
        self.pca_scores = pca_scores
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        n_components=None,
        cv=None,
        n_jobs=None,
        ax=None,
        line_kw=None,
        fill_between_kw=None,
    ):
        """Fit clones with several sizes of the code to folds, and draw what they keep.

        Parameters
        ----------
        estimator : estimator or Pipeline
            With ``n_components``, `inverse_transform` and, once fitted, ``mean_``; or a
            pipeline that ends in such a one and whose other steps can be inverted. It
            is cloned, and need not be fitted. PCA takes its place, or that of the last
            step.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Passed to ``fit``, and to ``cv`` for its folds.
        n_components : array-like of int, default=None
            Sizes of the code. None is 1, 2, 4, 8, ... as long as they are less than
            the number of columns and that of training rows.
        cv : int, cross-validation generator or iterable, default=None
            How to make folds, as in :func:`~sklearn.model_selection.cross_validate`.
            None is five folds, not shuffled: rows that are sorted need
            ``KFold(shuffle=True)``.
        n_jobs : int, default=None
            How many fits to run at the same time.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        line_kw : dict, default=None
            Keywords for ``Axes.plot``, for all lines.
        fill_between_kw : dict, default=None
            Keywords for ``Axes.fill_between``, for all bands.

        Returns
        -------
        display : CodeSizeDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If there is no ``n_components``, or the estimator cannot be inverted.
        ValueError
            If ``n_components`` are not positive integers, or too many for PCA.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        needs(cls, estimator, "inverse_transform")
        last, prefix = estimator, ""
        while isinstance(last, Pipeline):
            name, last = last.steps[-1]
            prefix += f"{name}__"
        if "n_components" not in last.get_params(deep=False):
            raise TypeError(
                "CodeSizeDisplay needs an estimator with n_components, or a Pipeline "
                f"that ends in one. Got {estimator!r}."
            )
        folds = list(check_cv(cv, y).split(X, y))
        sizes = _checked_sizes(n_components, X, folds)

        def scored(candidate):
            _, scores = validation_curve(
                candidate,
                X,
                y,
                param_name=f"{prefix}n_components",
                param_range=sizes,
                cv=folds,
                scoring=reconstruction_scorer,
                n_jobs=n_jobs,
                error_score="raise",
            )
            return scores

        pca_scores = None
        if not isinstance(last, PCA):
            pca = PCA(random_state=0)
            if prefix:
                name = prefix.removesuffix("__")
                pca = clone(estimator).set_params(**{name: pca})
            # First: it is done at once, and says which sizes are too many.
            pca_scores = scored(pca)
        display = cls(
            n_components=np.array(sizes),
            scores=scored(estimator),
            pca_scores=pca_scores,
            name=type(last).__name__,
        )
        return display.plot(ax, line_kw=line_kw, fill_between_kw=fill_between_kw)

    def plot(self, ax=None, *, line_kw=None, fill_between_kw=None):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        line_kw : dict, default=None
            Keywords for ``Axes.plot``, for all lines.
        fill_between_kw : dict, default=None
            Keywords for ``Axes.fill_between``, for all bands.

        Returns
        -------
        display : CodeSizeDisplay
            The display itself.
        """
        ax = prepared_axes(self, ax)
        from matplotlib.collections import PolyCollection
        from matplotlib.lines import Line2D

        line_style = merged({"marker": "o"}, line_kw, Line2D)
        band_style = merged(
            {"alpha": 0.2, "linewidth": 0}, fill_between_kw, PolyCollection
        )
        self.lines_, self.bands_ = [], []
        # PCA is broader and below, so that both are seen where they are the same.
        curves = [(self.name, MODEL, self.scores, 5, 2.2)]
        if self.pca_scores is not None:
            curves.append(("PCA", BASELINE, self.pca_scores, 9, 2))
        for label, colour, scores, size, layer in curves:
            mean, n_folds = scores.mean(axis=1), scores.shape[1]
            self.lines_ += ax.plot(
                self.n_components,
                mean,
                **{
                    "color": colour,
                    "label": label,
                    "markersize": size,
                    "zorder": layer,
                }
                | line_style,
            )
            if n_folds > 1:
                error = scores.std(axis=1, ddof=1) / np.sqrt(n_folds)
                band = ax.fill_between(
                    self.n_components,
                    mean - error,
                    mean + error,
                    **{"color": colour} | band_style,
                )
                self.bands_.append(band)
        ax.set_xscale("log", base=2)
        ax.set_xticks(self.n_components, [str(size) for size in self.n_components])
        ax.minorticks_off()
        ax.set(xlabel="components", ylabel="held-out R²")
        ax.grid(axis="y", color="#e6e9ee")
        ax.set_axisbelow(True)
        legend(ax, loc="lower right")
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _checked_sizes(n_components, X, folds):
    """Return the sizes in rising order."""
    if n_components is None:
        n_training = min(num_samples(train) for train, _ in folds)
        limit = min(n_training, np.shape(X)[1])
        return [2**k for k in range(max(1, (limit - 1).bit_length()))]
    sizes = np.ravel(n_components).tolist()
    if not sizes or not all(isinstance(k, Integral) and k >= 1 for k in sizes):
        raise ValueError(
            f"n_components must be one or more positive integers. Got {n_components!r}."
        )
    return sorted(set(sizes))
