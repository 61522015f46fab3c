"""Bar chart of the columns that contribute most to the score of a row."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from .._pipelines import split_pipeline
from ..inspection import explain
from ..inspection._card import NEGLIGIBLE, expected_text, value_text
from ..inspection._explanation import Explanation
from . import _plotting
from ._plotting import Display, keywords

__all__ = ["ExplanationDisplay"]


class ExplanationDisplay(Display):
    """Bar chart of the columns that contribute most to the score of a row.

    Bars are shares of the score. The text beside a bar gives the value of the row and
    the value that the model expected. The share of the code, which belongs to no single
    column, has its own bar if it is at least half a percent.

    It is recommended to use `from_estimator` or `from_explanation`. All parameters are
    stored as attributes.

    Parameters
    ----------
    feature_names : array-like of shape (n_features,)
        Names of the columns.
    value : ndarray of shape (n_features,)
        Values of the row.
    expected : ndarray of shape (n_features,)
        Values that the model expected: the reconstruction of the row.
    share : ndarray of shape (n_features,)
        Share of the score that is due to each column.
    code_share : float, default=0.0
        Share of the score that is due to the latent code.
    row_name : str, default=None
        Name of the row in the title. None draws no title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    bars_ : matplotlib BarContainer
        Bars of the columns, largest share first, then that of the code if it has one.
    texts_ : list of matplotlib Text
        Texts beside the bars.

    See Also
    --------
    skae.inspection.explain : Computes the explanation.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.displays import ExplanationDisplay
    >>> X = load_wine(as_frame=True).data
    >>> detector = AutoencoderOutlierDetector(1, random_state=0).fit(X)
    >>> fault = X.iloc[:1].assign(magnesium=300.0)
    >>> display = ExplanationDisplay.from_estimator(detector, fault, top_k=3)
    >>> display.texts_[0].get_text().partition(",")[0]
    '300'
    """

    def __init__(
        self, *, feature_names, value, expected, share, code_share=0.0, row_name=None
    ):
        self.feature_names = feature_names
        self.value = value
        self.expected = expected
        self.share = share
        self.code_share = code_share
        self.row_name = row_name

    @classmethod
    def from_estimator(cls, detector, X, *, row=0, top_k=10, ax=None, bar_kw=None):
        """Explain one row and draw the explanation.

        Parameters
        ----------
        detector : estimator or Pipeline
            Fitted, with `explain`: :class:`~skae.AutoencoderOutlierDetector`, or a
            pipeline that ends in one, for which columns and values are those of
            :func:`skae.inspection.explain`.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, of which one is explained.
        row : int, default=0
            Position in ``X`` of the row to explain.
        top_k : int, default=10
            Maximum number of columns to show.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        bar_kw : dict, default=None
            Keyword arguments for ``Axes.barh``.

        Returns
        -------
        display : ExplanationDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the detector has no `explain`.
        ValueError
            If ``row`` is not a position in ``X``, or ``top_k`` is not positive.
        """
        cls._check(split_pipeline(detector)[1], "explain")
        _check_row(row, X.shape[0] if hasattr(X, "shape") else len(X))
        X = X[row : row + 1]
        explanation = explain(detector, X)
        explanation["index"] = X.index if hasattr(X, "iloc") else [row]
        return cls.from_explanation(explanation, top_k=top_k, ax=ax, bar_kw=bar_kw)

    @classmethod
    def from_explanation(cls, explanation, *, row=0, top_k=10, ax=None, bar_kw=None):
        """Draw one row of an explanation.

        Parameters
        ----------
        explanation : Explanation
            Returned by :func:`skae.inspection.explain` or by
            :meth:`~skae.AutoencoderOutlierDetector.explain`.
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
            The display, drawn.

        Raises
        ------
        TypeError
            If ``explanation`` is not an explanation.
        ValueError
            If ``row`` is not a position in it, or ``top_k`` is not positive.
        """
        cls._check(caller="from_explanation")
        if not isinstance(explanation, Explanation):
            raise TypeError(
                "explanation must be returned by AutoencoderOutlierDetector.explain. "
                f"Got {explanation!r}."
            )
        _check_row(row, len(explanation.share))
        display = cls(
            feature_names=np.asarray(explanation.feature_names),
            value=explanation.value[row],
            expected=explanation.expected[row],
            share=explanation.share[row],
            code_share=float(explanation.code_share[row]),
            row_name=str(explanation.index[row]),
        )
        return display.plot(ax, top_k=top_k, bar_kw=bar_kw)

    def plot(self, ax=None, *, top_k=10, bar_kw=None):
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        top_k : int, default=10
            Maximum number of columns to show.
        bar_kw : dict, default=None
            Keyword arguments for ``Axes.barh``.

        Returns
        -------
        display : ExplanationDisplay
            The display itself.

        Raises
        ------
        ValueError
            If ``top_k`` is not positive.
        """
        check_scalar(top_k, "top_k", Integral, min_val=1)
        bars = [
            (
                str(self.feature_names[k]),
                float(self.share[k]),
                f"{value_text(self.value[k])}, expected "
                f"{expected_text(self.expected[k])}",
                _plotting.MODEL,
            )
            for k in np.argsort(-np.asarray(self.share), kind="stable")[:top_k]
        ]
        if self.code_share >= NEGLIGIBLE:
            text = "in no single column"
            bars.append(("code", self.code_share, text, _plotting.BASELINE))
        names, shares, texts, colours = zip(*bars, strict=True)
        ax = self._axes(ax, figsize=(6.8, 1.1 + 0.32 * len(names)))
        places = np.arange(len(names))
        style = keywords("patch", bar_kw, color=colours, height=0.7)
        self.bars_ = ax.barh(places, shares, **style)
        style = {"padding": 4, "fontsize": "small", "color": _plotting.INK}
        self.texts_ = ax.bar_label(self.bars_, texts, **style)
        ax.set_yticks(places, names)
        # Leave space for the text beside the longest bar.
        ax.set(xlim=(0, 1.45 * max(shares)), ylim=(len(names) - 0.5, -0.5))
        _plotting.percent(ax.xaxis)
        ax.set_xlabel("share of the score")
        if self.row_name is not None:
            ax.set_title(f"row {self.row_name}", loc="left", fontsize="medium")
        ax.tick_params(axis="y", length=0)
        return self


def _check_row(row, n_rows):
    if not isinstance(row, Integral) or not 0 <= row < n_rows:
        raise ValueError(
            f"row must be the position of one of {n_rows} rows, counted from 0. Got "
            f"{row!r}."
        )
