"""The result of an explanation."""

from numbers import Integral

import numpy as np
from sklearn.utils import Bunch

from .._compat.sklearn import Interval, validate_parameter_constraints
from ._card import card

__all__ = ["Explanation", "furthest"]


class Explanation(Bunch):
    """Contributions of the columns to the anomaly scores of rows.

    Returned by :func:`explain` and by :meth:`AutoencoderOutlierDetector.explain
    <skae.AutoencoderOutlierDetector.explain>`. All parameters are stored as attributes.
    In notebooks it is shown as a table of the largest shares of the first rows: with
    ``normal_rows`` the value against what was expected on the distribution of the
    column, and the values of the three nearest normal rows.

    Parameters
    ----------
    value : ndarray of shape (n_samples, n_features)
        The rows. Missing values are NaN or None. The dtype is object if there are
        categories.
    expected : ndarray of shape (n_samples, n_features)
        Their reconstruction, in the units of ``value``.
    residual : ndarray of shape (n_samples, n_features)
        Value minus expected value in the input of the detector, divided by the root
        mean square of this difference over the validation set, or over the training
        rows if there are fewer than 500. Of a column that was encoded as several, the
        one furthest from zero. NaN where the value is missing.
    share : ndarray of shape (n_samples, n_features)
        Share of the feature in the anomaly score.
    code_share : ndarray of shape (n_samples,)
        Share of the score that is due to the code and not to a single feature. All
        shares of a row sum to one.
    feature_names : ndarray of shape (n_features,)
        Names of the features.
    index : array-like of shape (n_samples,)
        Labels of the rows: the index of a data frame, else their positions.
    normal_rows : ndarray of shape (n_normal, n_features), default=None
        Training rows to compare with, those that the anomaly score has stored, with
        their missing values filled in; fewer of them in a wide table. None if the score
        stores none, or the explanation is that of a pipeline.

    See Also
    --------
    skae.displays.ExplanationDisplay : Draws one row.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderOutlierDetector
    >>> X = load_wine(as_frame=True).data
    >>> detector = AutoencoderOutlierDetector(
    ...     1, calibration_fraction=0.2, random_state=0
    ... ).fit(X)
    >>> fault = X.iloc[:1].assign(magnesium=300.0)
    >>> explanation = detector.explain(fault)
    >>> explanation.to_frame(top_k=1)[["feature", "value"]]
         feature  value
    0  magnesium  300.0
    >>> groups = {"minerals": ["magnesium", "ash"], "look": ["hue", "color_intensity"]}
    >>> explanation.to_frame(top_k=1, groups=groups)["feature"][0]
    'minerals'
    """

    def __init__(
        self,
        *,
        value,
        expected,
        residual,
        share,
        code_share,
        feature_names,
        index,
        normal_rows=None,
    ):
        super().__init__(
            value=value,
            expected=expected,
            residual=residual,
            share=share,
            code_share=code_share,
            feature_names=feature_names,
            index=index,
            normal_rows=normal_rows,
        )

    def to_frame(self, top_k=None, *, groups=None):
        """Return a data frame with one line per row and feature, by falling share.

        Parameters
        ----------
        top_k : int, default=None
            Number of features to keep for each row, those with the largest shares.
            None keeps all.

        groups : dict of str to list of str, default=None
            Names of groups, and the features of each. A group has one line in place of
            the lines of its features: its share is the sum of theirs, its residual the
            one furthest from zero, and its value and expected value are NaN. Features
            in no group keep their lines.

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
            If ``top_k`` is not a positive integer, or ``groups`` is not a dict of
            disjoint lists of features, or the name of a group is that of a feature
            outside the group.
        """
        validate_parameter_constraints(
            {
                "top_k": [Interval(Integral, 1, None, closed="left"), None],
                "groups": [dict, None],
            },
            {"top_k": top_k, "groups": groups},
            "to_frame",
        )
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas.") from error
        shown = self if groups is None else self._grouped(groups)
        order = np.argsort(-shown.share, axis=1, kind="stable")[:, :top_k]
        n_lines = order.shape[1]
        columns = {
            name: np.take_along_axis(shown[name], order, axis=1).ravel()
            for name in ("value", "expected", "residual", "share")
        }
        return pd.DataFrame(
            {
                "row": np.repeat(np.asarray(self.index), n_lines),
                "feature": np.asarray(shown.feature_names)[order].ravel(),
                **columns,
                "code_share": np.repeat(self.code_share, n_lines),
            }
        )

    def plot(self, *, row=0, top_k=10, ax=None, bar_kw=None):
        """Draw the columns that contribute most to the score of one row.

        Parameters
        ----------
        row : int, default=0
            Position of the row in the explanation.
        top_k : int, default=10
            Maximum number of columns to show.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        bar_kw : dict, default=None
            Keyword arguments for ``Axes.barh``.

        Returns
        -------
        display : ExplanationDisplay
            The result of ``ExplanationDisplay.from_explanation``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ``row`` is not a position, or ``top_k`` is not positive.
        """
        # The displays use the explanations, not the other way round.
        from ..displays import ExplanationDisplay

        return ExplanationDisplay.from_explanation(
            self, row=row, top_k=top_k, ax=ax, bar_kw=bar_kw
        )

    def _grouped(self, groups):
        """Return the explanation with one feature for each group, ahead of the rest."""
        names = list(self.feature_names)
        group_of = {}
        for group, members in groups.items():
            if not isinstance(members, (list, tuple)) or not members:
                raise TypeError(
                    f"groups must have a list of features for each group. Got "
                    f"{members!r} for {group!r}."
                )
            for name in members:
                if name not in names:
                    raise ValueError(
                        f"groups has {name!r} in {group!r}, which is not one of the "
                        f"features: {', '.join(map(str, names))}."
                    )
                if name in group_of:
                    raise ValueError(
                        f"groups must be disjoint. Got {name!r} in both "
                        f"{group_of[name]!r} and {group!r}."
                    )
                group_of[name] = group
        rest = [j for j, name in enumerate(names) if name not in group_of]
        taken = [names[j] for j in rest if names[j] in groups]
        if taken:
            raise ValueError(
                f"groups has a group {taken[0]!r}, but there is a feature of this "
                "name in no group: choose another name."
            )
        blocks = [[names.index(name) for name in groups[group]] for group in groups]
        nothing = np.full((len(self.share), len(blocks)), np.nan)

        def joined(join, matrix):
            columns = [join(matrix[:, block]) for block in blocks]
            return np.column_stack([*columns, matrix[:, rest]])

        return Explanation(
            value=np.hstack([nothing, self.value[:, rest]]),
            expected=np.hstack([nothing, self.expected[:, rest]]),
            residual=joined(furthest, self.residual),
            share=joined(lambda share: share.sum(axis=1), self.share),
            code_share=self.code_share,
            feature_names=np.array([*groups, *(names[j] for j in rest)], dtype=object),
            index=self.index,
        )

    def _repr_html_(self):
        return card(self)


def furthest(residual):
    """Return the residual furthest from zero in each row; NaN if all are."""
    largest = np.abs(np.nan_to_num(residual)).argmax(axis=1)
    return residual[np.arange(len(residual)), largest]
