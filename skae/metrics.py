"""Scores and choices for model selection next to PCA and IsolationForest."""

from functools import partial
from numbers import Real

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from ._data.arrays import on_host

__all__ = ["make_outlier_scorer", "one_standard_error", "reconstruction_scorer"]


def reconstruction_scorer(estimator, X, y=None):
    """Return the R² of the reconstruction, the same for PCA and autoencoders.

    ``PCA.score`` is a log-likelihood and cannot be compared with anything; this can.
    Pass it as ``scoring`` wherever both are candidates. Reconstruction nearly always
    gets better with more components: to *choose* ``n_components``, score what the
    code is for, or pass `one_standard_error` as ``refit``.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted, with `transform`, `inverse_transform` and ``mean_``: the estimators of
        skae, :class:`~sklearn.decomposition.PCA`, or a pipeline that ends in one and
        whose other steps can be inverted.
    X : array-like of shape (n_samples, n_features)
        Rows, in the units of the first step.
    y : object
        Ignored.

    Returns
    -------
    float
        One minus the squared residuals over the squared distances to the mean of the
        training rows, in the units of ``X``. For steps that do not keep the mean, it
        is what they make of the mean that the last step saw.

    Raises
    ------
    TypeError
        If a step cannot be inverted, or the last one has no ``mean_``.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skae.metrics import reconstruction_scorer
    >>> X = load_wine().data
    >>> pipeline = make_pipeline(StandardScaler(), PCA(13)).fit(X)
    >>> round(reconstruction_scorer(pipeline, X), 6)
    1.0
    """
    last, before = estimator, []
    while isinstance(last, Pipeline):
        before += [last[:-1]] if len(last) > 1 else []
        last = last[-1]
    check_is_fitted(last)
    if not (hasattr(estimator, "inverse_transform") and hasattr(last, "mean_")):
        raise TypeError(
            "reconstruction_scorer needs an estimator with inverse_transform and "
            "mean_, or a Pipeline of steps that can be inverted and that ends in one. "
            f"Got {estimator!r}."
        )
    mean = last.mean_[np.newaxis]
    for steps in reversed(before):
        mean = steps.inverse_transform(mean)
    # A reconstruction comes without the names that the rows may have.
    values = check_array(on_host(X), dtype=[np.float64, np.float32])
    back = on_host(estimator.inverse_transform(estimator.transform(X)))
    residual = values - np.asarray(back)
    left = np.square(residual, dtype=np.float64).sum()
    total = np.square(values - np.asarray(on_host(mean)), dtype=np.float64).sum()
    if total == 0:
        return 1.0 if left == 0 else 0.0
    return float(1 - left / total)


def one_standard_error(parameter, score="score"):
    """Return a ``refit`` for searches: the simplest candidate that is as good.

    Of all candidates whose mean score is within one standard error of the best one
    [1]_, the one with the smallest value of ``parameter`` is refitted, and of those
    the one with the best score.

    Parameters
    ----------
    parameter : str
        The parameter that means complexity, as it is named in the search:
        ``"autoencodertransformer__n_components"``. Candidates that have no number
        for it are left out of the choice.
    score : str, default="score"
        Name of the metric, where the search has several.

    Returns
    -------
    callable
        For the argument ``refit`` of :class:`~sklearn.model_selection.GridSearchCV`.
        With several metrics, scikit-learn then does not know which one
        ``search.score`` means: ask ``search.best_estimator_``.

    Raises
    ------
    ValueError
        In the search, if no candidate has ``parameter`` or there is no such score.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees",
       1984, section 3.4.3.

    Examples
    --------
    >>> from skae.metrics import one_standard_error
    >>> results = {
    ...     "param_n_components": [2, 4, 8],
    ...     "mean_test_score": [0.5, 0.89, 0.90],
    ...     "split0_test_score": [0.4, 0.86, 0.87],
    ...     "split1_test_score": [0.6, 0.92, 0.93],
    ... }
    >>> one_standard_error("n_components")(results)
    1
    """
    return partial(_one_standard_error, parameter=parameter, score=score)


def _one_standard_error(results, parameter, score):
    key, mean_key = f"param_{parameter}", f"mean_test_{score}"
    for needed, kind in ((key, "parameter"), (mean_key, "score")):
        if needed not in results:
            prefix = needed[: -len(parameter if kind == "parameter" else score)]
            known = sorted(k[len(prefix) :] for k in results if k.startswith(prefix))
            given = parameter if kind == "parameter" else score
            raise ValueError(
                f"one_standard_error: the search has no {kind} {given!r}. It has "
                f"{known}."
            )
    mean = np.asarray(results[mean_key], dtype=float)
    splits = np.array(
        [
            results[name]
            for name in results
            if name.startswith("split") and name.endswith(f"_test_{score}")
        ]
    )
    # A candidate without the parameter is masked, and a mask is no number either.
    is_number = [isinstance(value, Real) for value in results[key]]
    has_it = np.array(is_number) & np.isfinite(mean)
    if not has_it.any():
        raise ValueError(
            f"one_standard_error: no scored candidate has a number for {parameter!r}."
        )
    best = np.flatnonzero(has_it)[np.argmax(mean[has_it])]
    error = (
        splits[:, best].std(ddof=1) / np.sqrt(len(splits)) if len(splits) > 1 else 0.0
    )
    as_good = np.flatnonzero(has_it & (mean >= mean[best] - error))
    return int(min(as_good, key=lambda i: (results[key][i], -mean[i])))


def make_outlier_scorer(score_func=roc_auc_score):
    """Return a scorer of outlier detectors that takes labels as people have them.

    Scikit-learn's detectors call outliers -1 and give them *low* scores, tables call
    them 1 or True, and a metric such as the area under the ROC curve wants the class
    that it looks for to score *high*: three chances to get it upside down.

    Parameters
    ----------
    score_func : callable, default=roc_auc_score
        ``score_func(is_outlier, abnormality)``, the higher the better, such as
        :func:`~sklearn.metrics.average_precision_score`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)`` for any detector with `score_samples` or
        `decision_function`, also at the end of a pipeline. ``y`` says what is an
        outlier: True, 1 beside 0, or -1 beside 1.

    Raises
    ------
    ValueError
        When scoring, if the labels are of no such kind or all alike.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skae.metrics import make_outlier_scorer
    >>> rng = np.random.RandomState(0)
    >>> X = np.r_[rng.normal(size=(200, 2)), [[9.0, 9.0], [-9.0, 9.0]]]
    >>> forest = IsolationForest(random_state=0).fit(X)
    >>> scorer = make_outlier_scorer()
    >>> scorer(forest, X, [0] * 200 + [1] * 2), scorer(forest, X, [1] * 200 + [-1] * 2)
    (1.0, 1.0)
    """
    return partial(_outlier_score, score_func=score_func)


def _outlier_score(estimator, X, y, score_func):
    is_outlier = _is_outlier(y)
    method = (
        "score_samples" if hasattr(estimator, "score_samples") else "decision_function"
    )
    return float(score_func(is_outlier, -on_host(getattr(estimator, method)(X))))


def _is_outlier(y):
    y = column_or_1d(on_host(y))
    labels = set(np.unique(y).tolist())
    if labels == {False, True}:  # 0 and 1 are equal to them
        return y.astype(bool)
    if labels == {-1, 1}:
        return y == -1
    raise ValueError(
        "The labels of outliers must be True beside False, 1 beside 0 or -1 beside 1, "
        f"with both present. Got {sorted(labels, key=str)[:5]}."
    )
