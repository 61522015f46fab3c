"""Why a row is an outlier."""

import numpy as np
from sklearn.utils import Bunch

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
            How many lines to keep for each row. None keeps all.

        Returns
        -------
        pandas.DataFrame
            With the columns "row", "feature", "value", "expected", "residual" and
            "share". The code has a line of its own, named "(code)", with a share only.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas.") from error
        blank = np.full((len(self.value), 1), np.nan)
        share = np.column_stack([self.share, self.code_share])
        order = np.argsort(-share, axis=1, kind="stable")[:, :top_k]
        columns = {
            name: np.take_along_axis(np.hstack([values, blank]), order, axis=1).ravel()
            for name, values in (
                ("value", self.value),
                ("expected", self.expected),
                ("residual", self.residual),
            )
        }
        names = np.append(np.asarray(self.feature_names, dtype=object), "(code)")
        return pd.DataFrame(
            {
                "row": np.repeat(np.asarray(self.index), order.shape[1]),
                "feature": names[order].ravel(),
                **columns,
                "share": np.take_along_axis(share, order, axis=1).ravel(),
            }
        )
