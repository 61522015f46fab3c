"""Why a row is an outlier."""

from numbers import Integral

import numpy as np
from sklearn.utils import Bunch

from .._compat.sklearn import Interval, validate_parameter_constraints

__all__ = ["Explanation"]


class Explanation(Bunch):
    """What `AutoencoderOutlierDetector.explain` returns.

    Attributes
    ----------
    value : ndarray of shape (n_samples, n_features)
        The rows.
    expected : ndarray of shape (n_samples, n_features)
        What the model makes of them.
    residual : ndarray of shape (n_samples, n_features)
        Value minus expected, in units of what is usual for the feature.
    share : ndarray of shape (n_samples, n_features)
        Part of the score that the feature makes up.
    code_share : ndarray of shape (n_samples,)
        Part of the score that lies in the code itself and in no single feature.
    feature_names : ndarray of shape (n_features,)
        Names of the features.
    index : array-like of shape (n_samples,)
        Labels of the rows: those of a data frame, else their positions.
    """

    def to_frame(self, top_k=None):
        """Return a data frame with one line per row and feature, the worst first.

        Parameters
        ----------
        top_k : int, default=None
            How many features to keep for each row. None keeps all.

        Returns
        -------
        pandas.DataFrame
            With the columns "row", "feature", "value", "expected", "residual", "share"
            and "code_share", which is the same for all lines of a row.

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
