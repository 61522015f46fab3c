"""The imputer: an autoencoder's `impute` as the `transform` of a pipeline."""

from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from ._compat.sklearn import HasMethods, StrOptions, fit_context
from ._transformer import AutoencoderTransformer

__all__ = ["AutoencoderImputer"]


class AutoencoderImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill missing values with the reconstruction by an autoencoder.

    `transform` returns the rows as they are, with the values that the autoencoder
    expects in the place of NaN. Categories are filled in, too. This is the method
    ``impute`` of :class:`AutoencoderTransformer` as a step of a pipeline, with the
    conventions of :class:`~sklearn.impute.KNNImputer` and
    :class:`~sklearn.impute.IterativeImputer`.

    Parameters
    ----------
    autoencoder : estimator, default=None
        The autoencoder, which is cloned and fitted: an
        :class:`AutoencoderTransformer` or :class:`AutoencoderOutlierDetector`. None is
        ``AutoencoderTransformer(0.98, scaling="standard")``: every column counts
        equally, and the code has more components than for compression, because small
        directions tell of missing values, too.

    categorical_features : "from_dtype" or array-like, default="from_dtype"
        Which features are categories, instead of those of ``autoencoder``; see
        :class:`AutoencoderTransformer`. "from_dtype" leaves what ``autoencoder`` has.

    random_state : int, RandomState instance or None, default=None
        Seed that the clone gets as its ``random_state``. None leaves that of
        ``autoencoder``.

    Attributes
    ----------
    autoencoder_ : estimator
        The fitted autoencoder.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features. Only available if all column names of ``X`` are strings.

    See Also
    --------
    AutoencoderTransformer : Codes of rows, which may have missing values.
    sklearn.impute.IterativeImputer : One regression for each column.
    sklearn.impute.KNNImputer : Means of similar rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderImputer
    >>> t = np.linspace(0, 3, 400)
    >>> X = np.c_[t, np.sin(t), np.cos(t), 2 * t]
    >>> X[::4, 0] = np.nan
    >>> imputer = AutoencoderImputer(random_state=0).fit(X)
    >>> imputer.transform([[np.nan, 1.0, 0.07, 3.0]]).round(1)
    array([[1.5, 1. , 0.1, 3. ]])
    """

    _parameter_constraints: dict = {
        "autoencoder": [HasMethods(["fit", "impute"]), None],
        "categorical_features": ["array-like", StrOptions({"from_dtype"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self, autoencoder=None, *, categorical_features="from_dtype", random_state=None
    ):
        self.autoencoder = autoencoder
        self.categorical_features = categorical_features
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows, NaN where a value is missing.
        y : object
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each row.

        Returns
        -------
        self : object
            The fitted imputer.

        Raises
        ------
        ValueError
            If a column has no value in any row, and where the autoencoder raises it.
        """
        autoencoder = self.autoencoder
        if autoencoder is None:
            autoencoder = AutoencoderTransformer(0.98, scaling="standard")
        autoencoder = clone(autoencoder)
        if not isinstance(self.categorical_features, str):
            autoencoder.set_params(categorical_features=self.categorical_features)
        if self.random_state is not None:
            autoencoder.set_params(random_state=self.random_state)
        autoencoder.fit(X, sample_weight=sample_weight)
        self.autoencoder_ = autoencoder
        self.n_features_in_ = autoencoder.n_features_in_
        vars(self).pop("feature_names_in_", None)
        if hasattr(autoencoder, "feature_names_in_"):
            self.feature_names_in_ = autoencoder.feature_names_in_
        return self

    def transform(self, X):
        """Return rows with their missing values filled in.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data, NaN where a value is missing.

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features)
            The rows without NaN. float32 if ``X`` is float32, else float64. A data
            frame if ``X`` is one and has categorical features.
        """
        check_is_fitted(self)
        return self.autoencoder_.impute(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
