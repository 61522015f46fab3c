"""Exhaustive search whose autoencoders are trained together."""

from contextlib import ExitStack
from contextvars import ContextVar
from numbers import Integral

import numpy as np
from joblib import parallel_backend
from sklearn.model_selection import GridSearchCV, ParameterGrid

from .._base import BaseAutoencoder
from .._compat.sklearn import has_callbacks
from .._pipelines import split_pipeline
from .._training.workers import current_workers
from .._warning import warn_user
from ..exceptions import LargestCodeWarning
from ..metrics import reconstruction_scorer
from ._joint import JointBackend

__all__ = ["AutoencoderSearchCV"]

# The context in which a search evaluates its candidates.
_back_end: ContextVar[ExitStack | None] = ContextVar("back_end", default=None)


class AutoencoderSearchCV(GridSearchCV):
    """Exhaustive search over parameters, in which autoencoders are trained together.

    It does what :class:`~sklearn.model_selection.GridSearchCV` does, and takes less
    time for it where networks are small:

    - Networks with the same layers and the same number of training rows are trained as
      a stack: their weights lie in one tensor, and every operation of a step is one for
      all of them. Each has its own rows, batches, random numbers, learning rate, number
      of epochs and validation set. Codes may differ in size.
    - With :class:`~skae.bottlenecks.Nested`, candidates of a transformer that differ in
      ``n_components`` alone are the first components of the largest one, and so are
      their scores. The best one is fitted with its own size in the end.
    - The first steps of a pipeline are fitted once per fold for all candidates that
      have them in common.

    Everything else is fitted as usual: estimators of other libraries, networks that do
    not suit a stack, because they are convolutional, large, or have another loss or
    bottleneck, and all networks on a GPU.

    Parameters
    ----------
    estimator : estimator object
        An estimator of skae, or a pipeline with one among its steps.
    param_grid : dict or list of dict
        Parameters by name, with the values to try.
    scoring : str, callable, list, tuple or dict, default=None
        One or several scores, as in :class:`~sklearn.model_selection.GridSearchCV`.
        None is the method `score` of the estimator. For a candidate that is PCA, pass
        :func:`~skae.metrics.reconstruction_scorer`; for detectors,
        :func:`~skae.metrics.make_outlier_scorer`.
    n_jobs : int, default=None
        Number of processes, each of which trains its share of the fits together. None
        is one, or as many as in a :func:`joblib.parallel_backend` context, whose
        workers may be other machines.
    refit : bool, str or callable, default=True
        Whether, or by which score or rule, the best candidate is fitted to all rows.
        :func:`~skae.metrics.one_standard_error` chooses the smallest code that is as
        good as the best.
    cv : int, cross-validation generator or iterable, default=None
        Splits of the rows. None is 5-fold cross-validation.
    verbose : int, default=0
        With 1 or more, a progress bar shows the fits that are done, and the candidate,
        fold and epoch that training has come to; one in each process. Fits of a stack
        end at nearly the same time.
    error_score : "raise" or float, default=np.nan
        Score of a fit that fails.
    return_train_score : bool, default=False
        Whether ``cv_results_`` has scores of the training rows, too.

    Attributes
    ----------
    cv_results_ : dict of numpy (masked) ndarrays
        Scores and times of all candidates, as in
        :class:`~sklearn.model_selection.GridSearchCV`. The time of a fit in a stack is
        its share of that of the stack. ``cv_results_["how"]`` says how a candidate was
        fitted, as a string:

        - "stack of 10": its networks were trained with those of other candidates and
          folds. With "stack of 4, stack of 6", folds differ in their number of rows.
        - "first components of 16": taken from the nested code of another candidate.
        - "alone": its networks were trained one after the other.
        - "by scikit-learn": everything was.

    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, \
refit_time_, multimetric_, n_features_in_, feature_names_in_
        As in :class:`~sklearn.model_selection.GridSearchCV`.

    Raises
    ------
    ValueError
        On `fit`, if a parameter does not exist or is not accepted, or if all fits fail.

    Warns
    -----
    skae.exceptions.LargestCodeWarning
        On `fit`, if the best of several ``n_components`` by the R² of the
        reconstruction is the largest, as it nearly always is.
    sklearn.exceptions.FitFailedWarning
        If some fits fail.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Has the same methods, where they are
        documented.
    skae.metrics.one_standard_error : The smallest code that is as good as the best.
    skae.displays.CodeSizeDisplay : Draws R² over the size of the code.

    Notes
    -----
    A network in a stack computes the same sums as alone, in another order: weights
    differ by rounding. Long training amplifies it: R² of two components of digits
    differed by up to 0.01. ``tests/benchmarks/bench_search.py`` prints the differences.

    The rows of all fits that go on together are in memory at once, about 1 GiB of them.
    Fits beyond that come after them. scikit-learn fits pipelines with ``memory``,
    ``verbose=True`` or parameters of `fit`, subclasses of the estimators, and whatever
    has callbacks.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.metrics import one_standard_error
    >>> from skae.model_selection import AutoencoderSearchCV
    >>> X = load_digits().data[:600]
    >>> search = AutoencoderSearchCV(
    ...     AutoencoderTransformer(max_epochs=5, early_stopping=False, random_state=0),
    ...     {"n_components": [2, 4], "lr": [5e-3, 1e-3]},
    ...     refit=one_standard_error("n_components"),
    ...     cv=3,
    ... ).fit(X)
    >>> search.best_params_
    {'lr': 0.005, 'n_components': 4}
    >>> search.cv_results_["how"].tolist()
    ['stack of 12', 'stack of 12', 'stack of 12', 'stack of 12']
    """

    # All fits must be known before the first one begins.
    pre_dispatch = "all"

    def __init__(
        self,
        estimator,
        param_grid,
        *,
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        error_score=np.nan,
        return_train_score=False,
    ):
        self.estimator = estimator
        self.param_grid = param_grid
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.cv = cv
        self.verbose = verbose
        self.error_score = error_score
        self.return_train_score = return_train_score

    def fit(self, X, y=None, **params):
        """Fit and score all candidates, then fit the best one to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} or data frame of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Targets or labels, for later steps of a pipeline and for scores.
        **params : dict
            Passed to the method `fit` of the estimator, to the scorer and to the
            splitter, such as ``sample_weight`` and ``groups``. Those of the length of
            ``X`` are split with it.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            As by :class:`~sklearn.model_selection.GridSearchCV`; and if ``scoring`` is
            None where last steps of other packages, such as PCA, are candidates: their
            method ``score`` may be something else than R².
        """
        if current_workers() is not None:
            raise ValueError(
                "A search inside of skae.distributed() is not supported: its processes "
                "may choose different candidates. Search outside of it, on some rows."
            )
        self._check_scores()
        if has_callbacks(self):
            return super().fit(X, y, **params)
        with ExitStack() as back_end:
            joint = JointBackend(self.n_jobs)
            back_end.enter_context(parallel_backend(joint, n_jobs=1))
            before = _back_end.set(back_end)
            try:
                super().fit(X, y, **params)
            finally:
                _back_end.reset(before)
        self._warn_of_largest_code()
        return self

    def _check_scores(self):
        """Check that candidates are not compared by scores of different meanings."""
        _, last, name = split_pipeline(self.estimator)
        if self.scoring is not None or not name:
            return
        models = {params.get(name, last) for params in ParameterGrid(self.param_grid)}
        ours = [model for model in models if isinstance(model, BaseAutoencoder)]
        others = [m for m in models if not isinstance(m, BaseAutoencoder | str | None)]
        if ours and others:
            ours, other = (type(each[0]).__name__ for each in (ours, others))
            raise ValueError(
                f"scoring=None would compare the R² of {ours} with the score of "
                f"{other}, which may mean something else: pass "
                "scoring=reconstruction_scorer of skae.metrics, or another one."
            )

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        given = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        super()._run_search(evaluate_candidates, **given)
        if (back_end := _back_end.get()) is not None:
            back_end.close()  # not for the refit

    def _format_results(self, candidate_params, n_splits, out, more_results=None):
        found = [result.pop("how", "by scikit-learn") for result in out]
        results = super()._format_results(candidate_params, n_splits, out, more_results)
        by_candidate = np.reshape(found, (len(candidate_params), n_splits))
        how = [", ".join(dict.fromkeys(sorted(each))) for each in by_candidate]
        return results | {"how": np.array(how)}

    def _warn_of_largest_code(self):
        if callable(self.refit) or not hasattr(self, "best_params_"):
            return
        scorer = self.scorer_
        scorer = scorer[self.refit] if isinstance(scorer, dict) else scorer
        if self.scoring is not None and scorer is not reconstruction_scorer:
            return
        last = split_pipeline(getattr(self, "best_estimator_", self.estimator))[1]
        if not isinstance(last, BaseAutoencoder):
            return
        for name, value in self.best_params_.items():
            others = [params.get(name) for params in self.cv_results_["params"]]
            sizes = {size for size in others if isinstance(size, Integral)}
            if name.split("__")[-1] != "n_components" or len(sizes) < 2:
                continue
            if value == max(sizes):
                warn_user(
                    f"The best {name} is {value}, the largest that was tried, as it "
                    "nearly always is by the R² of the reconstruction. Pass "
                    f"refit=one_standard_error({name!r}) for the smallest that is as "
                    "good, or score the task that the code is for.",
                    LargestCodeWarning,
                )
