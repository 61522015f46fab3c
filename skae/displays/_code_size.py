"""Validation scores of the reconstruction against the size of the code."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import check_cv, cross_validate, validation_curve
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._compat.sklearn import num_samples
from .._data.categories import categorical_columns
from .._pipelines import split_pipeline
from ..metrics import reconstruction_scorer
from . import _plotting
from ._plotting import Display, keywords

__all__ = ["CodeSizeDisplay"]

# Sizes up to which each has a tick; with more, powers of two have.
_MAX_TICKS = 12


class CodeSizeDisplay(Display):
    """Cross-validated R² of the reconstruction against the size of the code.

    PCA is drawn for comparison. Lines are means over folds, and bands extend one
    standard error of the mean to either side. The reconstruction nearly always improves
    with more components: look for the bend of the curve, or score the downstream task.

    It is recommended to use `from_estimator`, or `from_curve` for a fitted estimator
    with :class:`~skae.bottlenecks.Nested`. All parameters are stored as attributes.

    Parameters
    ----------
    n_components : array-like of int of shape (n_sizes,)
        Sizes of the code, in rising order.
    scores : ndarray of shape (n_sizes, n_folds)
        R² of the model on the validation set of each fold.
    pca_scores : ndarray of shape (n_sizes, n_folds), default=None
        R² of PCA on the validation set of each fold. None draws no PCA.
    name : str, default="model"
        Name of the model in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : list of matplotlib Line2D
        Mean scores of the model, and of PCA if it is drawn.
    bands_ : list of matplotlib FillBetweenPolyCollection
        One standard error around each line. Empty with a single fold.

    See Also
    --------
    skae.metrics.reconstruction_scorer : The score.
    skae.metrics.one_standard_error : Automatic choice of the size in a search.
    sklearn.model_selection.ValidationCurveDisplay : Validation curve of any parameter.

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
        """Cross-validate clones with several sizes of the code and draw the scores.

        With :class:`~skae.bottlenecks.Nested` there is one fit for each fold, of the
        largest size, which is truncated to the others.

        Parameters
        ----------
        estimator : estimator or Pipeline
            With ``n_components``, `inverse_transform` and, once fitted, ``mean_``; or a
            pipeline that ends in such an estimator and whose other steps have
            `inverse_transform`. It is cloned, and need not be fitted. For the scores of
            PCA, :class:`~sklearn.decomposition.PCA` replaces the estimator or the last
            step; they are left out if that is PCA itself, or ``X`` has categories.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to split into folds.
        y : array-like of shape (n_samples,), default=None
            Passed to ``fit``, and to ``cv`` to make the folds.
        n_components : array-like of int, default=None
            Sizes of the code. None means 1, 2, 4, 8, ... below both the number of
            columns and that of the training rows of a fold.
        cv : int, cross-validation generator or iterable, default=None
            Folds, as in :func:`~sklearn.model_selection.cross_validate`. None means
            five folds without shuffling; use ``KFold(shuffle=True)`` for sorted rows.
        n_jobs : int, default=None
            Number of fits to run in parallel. None means 1 unless in a
            ``joblib.parallel_backend`` context, and -1 means all processors.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for all lines.
        fill_between_kw : dict, default=None
            Keyword arguments for ``Axes.fill_between``, for all bands.

        Returns
        -------
        display : CodeSizeDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no ``n_components`` or no `inverse_transform`.
        ValueError
            If ``n_components`` are not positive integers, or too large for PCA.
        """
        cls._check(estimator, "inverse_transform")
        _, last, step = split_pipeline(estimator)
        if "n_components" not in last.get_params(deep=False):
            raise TypeError(
                "CodeSizeDisplay needs an estimator with n_components, or a Pipeline "
                f"that ends in one. Got {estimator!r}."
            )
        folds = list(check_cv(cv, y).split(X, y))
        sizes = _checked_sizes(n_components, X, folds)

        options = {"cv": folds, "n_jobs": n_jobs, "error_score": "raise"}
        name = f"{step}__n_components".removeprefix("__")

        def scores(model):
            given = {"param_name": name, "param_range": sizes} | options
            given["scoring"] = reconstruction_scorer
            return validation_curve(model, X, y, **given)[1]

        def scores_of_one_fit(model):
            model = clone(model).set_params(**{name: sizes[-1]})
            scoring = partial(_scores_of_sizes, sizes)
            found = cross_validate(model, X, y, scoring=scoring, **options)
            return np.array([found[f"test_{size}"] for size in sizes])

        nested = getattr(getattr(last, "bottleneck", None), "nested", False)
        pca_scores = None
        which = None if step else getattr(last, "categorical_features", None)
        if not isinstance(last, PCA) and categorical_columns(X, which) is None:
            pca = PCA(random_state=0)
            # First, because PCA is fast and raises if a size is too large.
            pca_scores = scores(
                clone(estimator).set_params(**{step: pca}) if step else pca
            )
        display = cls(
            n_components=np.array(sizes),
            scores=(scores_of_one_fit if nested else scores)(estimator),
            pca_scores=pca_scores,
            name=type(last).__name__,
        )
        return display.plot(ax, line_kw=line_kw, fill_between_kw=fill_between_kw)

    @classmethod
    def from_curve(cls, estimator, *, ax=None, line_kw=None):
        """Draw the curve of a fitted estimator with a nested code.

        Nothing is fitted: these are the scores on the validation set of the training,
        ``reconstruction_curve_``.

        Parameters
        ----------
        estimator : AutoencoderTransformer or AutoencoderOutlierDetector
            Fitted with :class:`~skae.bottlenecks.Nested`; or a pipeline that ends in
            one, whose curve is of the rows that this step gets.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for all lines.

        Returns
        -------
        display : CodeSizeDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no ``reconstruction_curve_``.
        """
        _, last, _ = split_pipeline(estimator)
        check_is_fitted(last)
        curve = getattr(last, "reconstruction_curve_", None)
        if curve is None:
            raise TypeError(
                "CodeSizeDisplay.from_curve needs an estimator that was fitted with "
                f"bottleneck=Nested() and a validation set. Got {estimator!r}."
            )
        display = cls(
            n_components=np.arange(1, len(curve["r2"]) + 1),
            scores=curve["r2"][:, np.newaxis],
            pca_scores=curve["pca_r2"][:, np.newaxis],
            name=type(last).__name__,
        )
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax=None, *, line_kw=None, fill_between_kw=None):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for all lines.
        fill_between_kw : dict, default=None
            Keyword arguments for ``Axes.fill_between``, for all bands.

        Returns
        -------
        display : CodeSizeDisplay
            The display itself.
        """
        ax = self._axes(ax)
        self.lines_, self.bands_ = [], []
        # PCA is broader and below, so that both are visible where they coincide.
        curves = [(self.name, _plotting.MODEL, self.scores, 5, 2.2)]
        if self.pca_scores is not None:
            curves.append(("PCA", _plotting.BASELINE, self.pca_scores, 9, 2))
        for label, colour, scores, size, layer in curves:
            mean, n_folds = scores.mean(axis=1), scores.shape[1]
            style = {"color": colour, "label": label, "zorder": layer}
            style = keywords("line", line_kw, marker="o", markersize=size, **style)
            self.lines_ += ax.plot(self.n_components, mean, **style)
            if n_folds > 1:
                error = scores.std(axis=1, ddof=1) / np.sqrt(n_folds)
                limits = self.n_components, mean - error, mean + error
                style = {"color": colour, "alpha": 0.2, "linewidth": 0}
                style = keywords("collection", fill_between_kw, **style)
                self.bands_.append(ax.fill_between(*limits, **style))
        ax.set_xscale("log", base=2)
        ticks = self.n_components
        if len(ticks) > _MAX_TICKS:
            ticks = 2 ** np.arange(int(np.log2(ticks[-1])) + 1)
        ax.set_xticks(ticks, [str(size) for size in ticks])
        ax.minorticks_off()
        ax.set(xlabel="components", ylabel="held-out R²")
        ax.grid(axis="y", color="#e6e9ee")
        ax.set_axisbelow(True)
        ax.legend(loc="lower right", **_plotting.LEGEND)
        return self


def _scores_of_sizes(sizes, estimator, X, y=None):
    """Return the scores of a fitted estimator that is truncated, by size."""
    return {str(k): reconstruction_scorer(_truncated(estimator, k), X) for k in sizes}


def _truncated(estimator, k):
    if not isinstance(estimator, Pipeline):
        return estimator.truncate(k)
    *others, (name, last) = estimator.steps
    return Pipeline([*others, (name, _truncated(last, k))])


def _checked_sizes(n_components, X, folds):
    """Return the sizes of the code in rising order, without duplicates."""
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
