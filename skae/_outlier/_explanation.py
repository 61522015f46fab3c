"""Contributions of features to anomaly scores."""

from numbers import Integral

import numpy as np
from sklearn.utils import Bunch

from .._compat.sklearn import Interval, validate_parameter_constraints

__all__ = ["Explanation"]


class Explanation(Bunch):
    """Result of `AutoencoderOutlierDetector.explain`.

    Attributes
    ----------
    value : ndarray of shape (n_samples, n_features)
        The rows, NaN where a value is missing.
    expected : ndarray of shape (n_samples, n_features)
        Their reconstruction, in the units of the training data.
    residual : ndarray of shape (n_samples, n_features)
        ``value - expected``, divided by the root mean square of the residual of the
        feature over the validation set, or over the training rows if there are fewer
        than 500. NaN where the value is missing.
    share : ndarray of shape (n_samples, n_features)
        Share of the feature in the anomaly score.
    code_share : ndarray of shape (n_samples,)
        Share of the score that is due to the code and not to a single feature. All
        shares of a row sum to one.
    feature_names : ndarray of shape (n_features,)
        Names of the features.
    index : array-like of shape (n_samples,)
        Labels of the rows: the index of a data frame, else their positions.
    """

    def to_frame(self, top_k=None):
        """Return a data frame with one line per row and feature, by falling share.

        Parameters
        ----------
        top_k : int, default=None
            Number of features to keep for each row, those with the largest shares.
            None keeps all.

        Returns
        -------
        pandas.DataFrame
            Data frame with the columns "row", "feature", "value", "expected",
            "residual", "share" and "code_share". The last one is the same for all
            features of a row. Rows are in their given order, the features of each in
            the order of decreasing share.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError, TypeError
            If ``top_k`` is not a positive integer.
        """
        validate_parameter_constraints(
            {"top_k": [Interval(Integral, 1, None, closed="left"), None]},
            {"top_k": top_k},
            "to_frame",
        )
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas.") from error
        order = np.argsort(-self.share, axis=1, kind="stable")[:, :top_k]
        n_lines = order.shape[1]
        columns = {
            name: np.take_along_axis(self[name], order, axis=1).ravel()
            for name in ("value", "expected", "residual", "share")
        }
        return pd.DataFrame(
            {
                "row": np.repeat(np.asarray(self.index), n_lines),
                "feature": np.asarray(self.feature_names)[order].ravel(),
                **columns,
                "code_share": np.repeat(self.code_share, n_lines),
            }
        )
