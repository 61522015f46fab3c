"""Labels of outliers, in any of the usual codings."""

from sklearn.utils import column_or_1d

from .arrays import on_host

__all__ = ["outlier_labels"]


def outlier_labels(y):
    """Return labels in any of the accepted codings as booleans.

    Raises
    ------
    ValueError
        If they are not coded in one of these ways, or not both are present.
    """
    y = column_or_1d(on_host(y))
    labels = set(y.tolist())
    if labels == {False, True}:  # which also equals {0, 1}
        return y.astype(bool)
    if labels == {-1, 1}:
        return y == -1
    raise ValueError(
        "The labels of outliers must be True (others False), 1 (others 0) or -1 "
        f"(others 1), with both present. Got {sorted(labels, key=str)[:5]}."
    )
