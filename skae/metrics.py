"""Scorers and ``refit`` rules for model selection, also of PCA and IsolationForest."""

from functools import partial
from inspect import signature
from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_array, check_is_fitted

from ._data.arrays import on_host
from ._data.labels import outlier_labels
from ._pipelines import split_pipeline

__all__ = ["make_outlier_scorer", "one_standard_error", "reconstruction_scorer"]


def reconstruction_scorer(estimator, X, y=None):
    """Return the R² of the reconstruction, for PCA and autoencoders alike.

    ``PCA.score`` is a log-likelihood, which cannot be compared with the score of an
    autoencoder. Pass this function as ``scoring`` to a search or cross-validation in
    which both are candidates. The reconstruction nearly always improves with more
    components. To *choose* ``n_components``, score the downstream task, or pass
    `one_standard_error` as ``refit``.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted, with `transform`, `inverse_transform` and ``mean_``: an estimator of
        skae, :class:`~sklearn.decomposition.PCA`, or a pipeline that ends in one of
        them and whose other steps have `inverse_transform`. Pipelines may be nested.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples, in the units of the first step.
    y : object
        Ignored.

    Returns
    -------
    float
        One minus the ratio of two sums: the squared residuals, and the squared
        distances to the mean of the training samples, in the units of ``X``. In a
        pipeline, the mean is ``mean_`` of the last step after `inverse_transform` of
        the steps before it, which is not the mean of the training samples if one of
        these steps is not affine. If all samples equal the mean, the value is 1.0 for
        a perfect reconstruction and 0.0 otherwise.

    Raises
    ------
    TypeError
        If a step has no `inverse_transform`, or the last one has no ``mean_``.

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
    before, last, _ = split_pipeline(estimator)
    check_is_fitted(last)
    if hasattr(last, "categories_") and hasattr(last, "reconstruct"):
        # Categories have no unit that steps before could be undone in.
        return estimator.score(X)
    if not (hasattr(estimator, "inverse_transform") and hasattr(last, "mean_")):
        raise TypeError(
            "reconstruction_scorer needs an estimator with inverse_transform and "
            "mean_, or a Pipeline that ends in one and whose other steps have "
            f"inverse_transform. Got {estimator!r}."
        )
    mean = last.mean_[np.newaxis]
    for step in reversed(before):
        mean = step.inverse_transform(mean)
    values, reconstruction = _reconstructed(estimator, X)
    squares = np.square(values - reconstruction, dtype=np.float64).sum()
    total = np.square(values - np.asarray(on_host(mean)), dtype=np.float64).sum()
    if total == 0:
        return 1.0 if squares == 0 else 0.0
    return float(1 - squares / total)


def _reconstructed(estimator, X):
    """Return samples and their reconstruction, both as NumPy arrays of floats."""
    if hasattr(estimator, "categories_"):
        raise TypeError(
            "Rows with categories cannot be drawn as numbers: compare X with "
            "reconstruct(X), or draw an explanation (ExplanationDisplay)."
        )
    # As arrays: a reconstruction may lack the column names of the samples.
    values = check_array(
        on_host(X), accept_sparse="csr", dtype=[np.float64, np.float32]
    )
    values = values.toarray() if sparse.issparse(values) else values
    reconstruction = on_host(estimator.inverse_transform(estimator.transform(X)))
    return values, np.asarray(reconstruction)


def one_standard_error(parameter, score="score"):
    """Return a ``refit`` for searches: the one-standard-error rule.

    The search refits the simplest of the candidates whose mean score is within one
    standard error of the best mean score [1]_. The simplest candidate is the one with
    the smallest value of ``parameter``; ties are broken by the higher mean score. The
    standard error is that of the best candidate over the folds, and zero with a single
    fold.

    Parameters
    ----------
    parameter : str
        The parameter that measures complexity, by its name in the search, such as
        ``"autoencodertransformer__n_components"``. Candidates whose value of it is not
        a number, or whose mean score is not finite, are never chosen.
    score : str, default="score"
        Name of the metric. The default is for a search with one metric.

    Returns
    -------
    callable
        Value for the parameter ``refit`` of
        :class:`~sklearn.model_selection.GridSearchCV`; it can be pickled. In a search
        with several metrics and such a ``refit``, ``search.score`` does not know which
        metric to use: score ``search.best_estimator_`` instead.

    Raises
    ------
    ValueError
        During the search, if it has no such parameter or score, or if no scored
        candidate has a number for ``parameter``.

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
    for kind, prefix, name in (
        ("parameter", "param_", parameter),
        ("score", "mean_test_", score),
    ):
        if prefix + name not in results:
            found = [key for key in results if key.startswith(prefix)]
            known = sorted(key.removeprefix(prefix) for key in found)
            raise ValueError(
                f"one_standard_error: the search has no {kind} {name!r}. It has "
                f"{known}."
            )
    values = results[f"param_{parameter}"]
    mean = np.asarray(results[f"mean_test_{score}"], dtype=float)
    # Searches store a mask for a candidate without the parameter, which is not Real.
    is_number = np.array([isinstance(value, Real) for value in values])
    candidates = np.flatnonzero(is_number & np.isfinite(mean))
    if not len(candidates):
        raise ValueError(
            f"one_standard_error: no scored candidate has a number for {parameter!r}."
        )
    best = candidates[np.argmax(mean[candidates])]
    folds = [
        scores[best]
        for key, scores in results.items()
        if key.startswith("split") and key.endswith(f"_test_{score}")
    ]
    error = np.std(folds, ddof=1) / np.sqrt(len(folds)) if len(folds) > 1 else 0.0
    as_good = candidates[mean[candidates] >= mean[best] - error]
    return int(min(as_good, key=lambda i: (values[i], -mean[i])))


def make_outlier_scorer(score_func=roc_auc_score):
    """Return a scorer for outlier detectors that accepts any usual coding of labels.

    Detectors of scikit-learn label outliers -1 and give them *low* scores. Data sets
    often label them 1 or True. Metrics such as the area under the ROC curve expect
    *high* scores for the positive class. The scorer converts the labels and the sign of
    the scores.

    Parameters
    ----------
    score_func : callable, default=roc_auc_score
        ``score_func(is_outlier, abnormality)`` returns a number; higher is better.
        ``is_outlier`` is a boolean array, and ``abnormality`` is higher for more
        abnormal samples. An example is
        :func:`~sklearn.metrics.average_precision_score`. If its second parameter is
        named ``y_pred``, as in scikit-learn's metrics of labels such as
        :func:`~sklearn.metrics.f1_score`, it gets whether `predict` returns -1 instead.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)`` returns a float. The estimator is a detector with
        `score_samples`, or else `decision_function`, or a pipeline that ends in one.
        Outliers are marked in ``y`` by True (others False), by 1 (others 0) or by -1
        (others 1). The scorer can be pickled.

    Raises
    ------
    ValueError
        When scoring, if the labels are not coded in one of these ways, or if not both
        classes are present.

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

    Of the labels that `predict` returns:

    >>> from sklearn.metrics import recall_score
    >>> make_outlier_scorer(recall_score)(forest, X, [0] * 200 + [1] * 2)
    1.0
    """
    return partial(_outlier_score, score_func=score_func)


def _outlier_score(estimator, X, y, score_func):
    is_outlier = outlier_labels(y)
    if _takes_labels(score_func):
        return float(score_func(is_outlier, on_host(estimator.predict(X)) == -1))
    method = (
        "score_samples" if hasattr(estimator, "score_samples") else "decision_function"
    )
    return float(score_func(is_outlier, -on_host(getattr(estimator, method)(X))))


def _takes_labels(score_func):
    """Return whether a metric compares labels, by the names of scikit-learn."""
    try:
        names = list(signature(score_func).parameters)
    except ValueError:  # of some builtins
        return False
    return names[1:2] == ["y_pred"]
