"""Both estimators with rows on a cluster of Dask."""

import inspect
from numbers import Real

import numpy as np
from dask import array as da
from dask import compute, delayed
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._compat.sklearn import Interval, fit_context
from .._outlier import AutoencoderOutlierDetector as LocalDetector
from .._transformer import AutoencoderTransformer as LocalTransformer
from ._cluster import cluster_of, fit_on_cluster, is_frame, is_lazy, whole_rows

__all__ = ["AutoencoderOutlierDetector", "AutoencoderTransformer"]

_OWN = {"client": None, "timeout": 300.0}


def _with_own_parameters(cls):
    """Give ``__init__`` the signature of the local estimator, with further parameters.

    scikit-learn asks the signature for the names of parameters.
    """
    signature = inspect.signature(cls._local.__init__)
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in _OWN.items()
    ]

    def __init__(self, *args, client=None, timeout=300.0, **parameters):
        cls._local.__init__(self, *args, **parameters)
        self.client = client
        self.timeout = timeout

    parameters = [*signature.parameters.values(), *own]
    __init__.__signature__ = signature.replace(parameters=parameters)
    __init__.__qualname__ = f"{cls.__name__}.__init__"
    cls.__init__ = __init__
    cls._parameter_constraints = cls._local._parameter_constraints | {
        "client": "no_validation",
        "timeout": [Interval(Real, 0, None, closed="neither")],
    }
    return cls


class _OnCluster:
    """What both estimators share: fit where the rows are, the rest block by block.

    The methods of the local estimators are those of a block. A subclass has the class
    of these in ``_local``.
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, X_val=None):
        """Fit the model to the rows of all workers, each of which trains on its own.

        Partitions are computed, and stay on their workers while the model is trained.
        The model is that of a local fit to the same rows, but for which of them are
        held out, and in which order they come.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Training rows. Partitions may have any number of rows, also none. All
            columns are numbers, without missing values; at most 4,096.
        y : object
            Ignored.
        sample_weight : dask Array or Series of shape (n_samples,), default=None
            Non-negative weight of each row, in partitions like those of ``X``.
        X_val : array-like of shape (n_validation, n_features), default=None
            Validation set, in memory, to be used instead of rows that are held out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError
            If ``X`` is not a collection of Dask.
        ValueError
            As by the local estimator, and if a parameter is not supported with several
            processes. The estimator is then unchanged.
        skae.exceptions.WorkerError
            If a worker died, or did not answer within ``timeout``. The estimator is
            then unchanged.
        """
        if not is_lazy(X):
            raise TypeError(
                f"X must be an array or a data frame of Dask. Got {type(X).__name__}: "
                f"use skae.{type(self).__name__} for rows that are in memory."
            )
        client = cluster_of(self.client)
        local = self._unfitted()
        if self.warm_start and hasattr(self, "_model"):
            local = self.to_local()
        fitted = fit_on_cluster(local, client, self.timeout, X, sample_weight, X_val)
        parameters = self.get_params(deep=False)
        for name in vars(self).keys() - parameters.keys():
            delattr(self, name)
        state = vars(fitted).items()
        vars(self).update({n: value for n, value in state if n not in parameters})
        return self

    def to_local(self):
        """Return the fitted estimator for rows in memory, without a client.

        Returns
        -------
        estimator : object
            An instance of the class of the same name in :mod:`skae`, which needs no
            Dask. It shares the fitted model.
        """
        check_is_fitted(self)
        local, parameters = self._unfitted(), self.get_params(deep=False)
        state = vars(self).items()
        vars(local).update({n: value for n, value in state if n not in parameters})
        return local

    def _unfitted(self):
        parameters = self.get_params(deep=False)
        return self._local(**{n: v for n, v in parameters.items() if n not in _OWN})

    def __getstate__(self):
        # A client belongs to its process.
        return super().__getstate__() | {"client": None}

    def __sklearn_clone__(self):
        client, self.client = self.client, None
        try:
            made = super().__sklearn_clone__()
        finally:
            self.client = client
        made.client = client
        return made

    def transform(self, X):
        """Return the latent code of rows.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array or DataFrame of shape (n_samples, n_components_)
            Computed block by block. A data frame for data frames, if ``set_output``
            asks for one. As by the local estimator for rows in memory.
        """
        return self._by_blocks("transform", X, "n_components_")

    def inverse_transform(self, X):
        """Return the rows that are decoded from latent codes.

        Parameters
        ----------
        X : dask Array of shape (n_samples, n_components_)
            Latent codes; or an array in memory.

        Returns
        -------
        dask Array of shape (n_samples, n_features_in_)
            Computed block by block.
        """
        return self._by_blocks("inverse_transform", X, "n_features_in_")

    def reconstruct(self, X):
        """Return the reconstruction of rows: ``inverse_transform(transform(X))``.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array of shape (n_samples, n_features)
            Computed block by block.
        """
        return self._by_blocks("reconstruct", X, "n_features_in_")

    def impute(self, X):
        """Return rows with their missing values filled in.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array of shape (n_samples, n_features)
            Computed block by block.
        """
        return self._by_blocks("impute", X, "n_features_in_")

    def reconstruction_error(self, X, per_feature=False):
        """Return the squared reconstruction error of rows.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.
        per_feature : bool, default=False
            Whether to return the error of each feature instead of the mean.

        Returns
        -------
        dask Array of shape (n_samples,) or (n_samples, n_features)
            Computed block by block.
        """
        columns = "n_features_in_" if per_feature else None
        name = "reconstruction_error"
        return self._by_blocks(name, X, columns, per_feature=bool(per_feature))

    def score(self, X, y=None, sample_weight=None, *, X_target=None):
        """Return R², the share of the variance explained by the reconstruction.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.
        y : object
            Ignored.
        sample_weight, X_target : array-like, default=None
            For rows in memory only, as the local estimator takes them.

        Returns
        -------
        float
            As by the local estimator; it is computed, on the cluster.
        """
        if not is_lazy(X):
            return self._local.score(self, X, y, sample_weight, X_target=X_target)
        if sample_weight is not None or X_target is not None:
            raise ValueError(
                "sample_weight and X_target are not supported for collections of Dask."
            )
        residual = self.reconstruction_error(X, per_feature=True).sum()
        X = X.to_dask_array() if is_frame(X) else X
        distance = X.astype(np.float64) - self.mean_
        left, total = map(float, compute(residual, (distance**2).sum()))
        if total == 0:
            return 1.0 if left == 0 else 0.0
        return 1 - left / total

    def _by_blocks(self, method, X, columns=None, dtype=None, **arguments):
        """Return what a method returns for rows, lazily if they are.

        Parameters
        ----------
        method : str
        X : object
        columns : str or int, default=None
            Number of columns of the result, or the attribute that has it. None: one
            number for each row.
        dtype : dtype, default=None
            None: float32 for rows in float32, else float64.
        **arguments
            Of the method.
        """
        if not is_lazy(X):
            return getattr(self._local, method)(self, X, **arguments)
        local = self.to_local()
        if columns == "n_components_" and getattr(
            self.bottleneck, "sparse_output", False
        ):
            raise ValueError(
                "A bottleneck with sparse_output=True has no code for collections of "
                "Dask: use to_local() for each block, or sparse_output=False."
            )
        columns = getattr(self, columns) if isinstance(columns, str) else columns
        call = _call if callable(getattr(local, method, None)) else None
        model = delayed(local, pure=False)
        if is_frame(X):
            meta = call(X._meta_nonempty, local, method, arguments, None)[:0]
            how = {"meta": meta, "enforce_metadata": False}
            return X.map_partitions(call, model, method, arguments, meta, **how)
        if X.ndim != 2:
            raise ValueError(f"X must have two dimensions. Got shape {X.shape}.")
        if dtype is None:
            dtype = np.float32 if X.dtype == np.float32 else np.float64
        X = whole_rows(X)
        shape = (0,) if columns is None else (0, columns)
        meta = np.empty(shape, dtype)
        call(np.zeros((1, X.shape[1]), X.dtype), local, method, arguments, meta)
        return da.map_blocks(
            call,
            X,
            model,
            method,
            arguments,
            meta,
            meta=meta,
            chunks=X.chunks[:1] if columns is None else (X.chunks[0], (columns,)),
            drop_axis=1 if columns is None else None,
        )


def _call(rows, model, method, arguments, empty):
    """Return what a method of a local estimator returns for a block."""
    if not len(rows):
        return empty
    result = getattr(model, method)(rows, **arguments)
    return _stacked(result) if method == "explain" else result


def _stacked(explanation):
    parts = explanation.expected, explanation.residual, explanation.share
    return np.column_stack([*parts, explanation.code_share])


@_with_own_parameters
class AutoencoderTransformer(_OnCluster, LocalTransformer):
    """The transformer on a cluster of Dask: see :class:`skae.AutoencoderTransformer`.

    `fit` takes arrays and data frames of Dask, and trains on the workers that hold
    their partitions. Other methods return such collections, computed block by block.
    For rows in memory they are those of the local estimator, which `to_local` returns.

    Parameters
    ----------
    client : distributed.Client, default=None
        The cluster. None is the client that Dask uses at the time.
    timeout : float, default=300.0
        Seconds after which a worker that waits for another one gives up. It must be
        longer than what one worker may need more than another for a pass over its
        rows. A worker whose process ends is noticed at once.
    *args, **parameters
        All parameters of the local estimator, by the same names.

    See Also
    --------
    skae.distributed : The same without Dask, by ``torchrun``.

    Notes
    -----
    A batch of ``batch_size`` rows is that of all workers together, and every worker has
    a part of it. Batch normalisation and penalties that depend on the whole batch see
    this part.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from skae.dask import AutoencoderTransformer
    >>> client = Client(processes=False, n_workers=1, dashboard_address=":0")
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> model = AutoencoderTransformer(2, random_state=0).fit(X)
    >>> model.transform(X)
    dask.array<_call, shape=(1000, 2), dtype=float64, chunksize=(250, 2), ...>
    >>> type(model.to_local())
    <class 'skae._transformer.AutoencoderTransformer'>
    >>> client.close()
    """

    _local = LocalTransformer


@_with_own_parameters
class AutoencoderOutlierDetector(_OnCluster, LocalDetector):
    """The detector on a cluster of Dask: see :class:`skae.AutoencoderOutlierDetector`.

    `fit` takes arrays and data frames of Dask, and trains on the workers that hold
    their partitions. Other methods return such collections, computed block by block.
    For rows in memory they are those of the local estimator, which `to_local` returns.

    Parameters
    ----------
    client : distributed.Client, default=None
        The cluster. None is the client that Dask uses at the time.
    timeout : float, default=300.0
        Seconds after which a worker that waits for another one gives up. It must be
        longer than what one worker may need more than another for a pass over its
        rows. A worker whose process ends is noticed at once.
    *args, **parameters
        All parameters of the local estimator, by the same names.

    See Also
    --------
    skae.distributed : The same without Dask, by ``torchrun``.

    Notes
    -----
    The memory of the score and the threshold are those of a sample of the rows of all
    workers. Wild values are told within the rows of a worker.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from skae.dask import AutoencoderOutlierDetector
    >>> client = Client(processes=False, n_workers=1, dashboard_address=":0")
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> detector = AutoencoderOutlierDetector(2, random_state=0).fit(X)
    >>> detector.score_samples(X)
    dask.array<_call, shape=(1000,), dtype=float64, chunksize=(250,), ...>
    >>> client.close()
    """

    _local = LocalDetector

    def score_samples(self, X):
        """Return the scores of rows: the lower, the more abnormal.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array of shape (n_samples,), float64
            Computed block by block.
        """
        return self._by_blocks("score_samples", X, dtype=np.float64)

    def decision_function(self, X):
        """Return the scores of rows minus the threshold: negative for outliers.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array of shape (n_samples,), float64
            Computed block by block.
        """
        return self._by_blocks("decision_function", X, dtype=np.float64)

    def predict(self, X):
        """Return +1 for normal rows and -1 for outliers.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array of shape (n_samples,), int64
            Computed block by block.
        """
        return self._by_blocks("predict", X, dtype=np.int64)

    def p_values(self, X):
        """Return conformal p-values: the share of normal rows at least as abnormal.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        dask Array of shape (n_samples,), float64
            Computed block by block.
        """
        return self._by_blocks("p_values", X, dtype=np.float64)

    def explain(self, X):
        """Return the contribution of each feature to the anomaly score of rows.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows in the units of the training data; or rows in memory.

        Returns
        -------
        Bunch
            ``value``, ``expected``, ``residual``, ``share`` and ``code_share`` as
            arrays of Dask, computed block by block, and ``feature_names``; see
            :class:`~skae.inspection.Explanation`. For rows in memory that class itself.
        """
        if not is_lazy(X):
            return self._local.explain(self, X)
        width = self.n_features_in_
        parts = self._by_blocks("explain", X, 3 * width + 1, np.float64)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{j}" for j in range(width)], dtype=object)
        return Bunch(
            value=X.to_dask_array() if is_frame(X) else X,
            expected=parts[:, :width],
            residual=parts[:, width : 2 * width],
            share=parts[:, 2 * width : -1],
            code_share=parts[:, -1],
            feature_names=names,
        )

    def calibrate(self, X=None, y=None, **rules):
        """Set another threshold without fitting the model again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Rows in memory. Of a collection of Dask, pass some rows.
        y, **rules
            As :meth:`skae.AutoencoderOutlierDetector.calibrate` takes them.

        Returns
        -------
        self : object
            The detector, with a new ``offset_``.
        """
        if is_lazy(X):
            raise TypeError(
                "X must be in memory to calibrate: pass X.compute(), or some rows of "
                f"it. Got {type(X).__name__}."
            )
        return self._local.calibrate(self, X, y, **rules)
