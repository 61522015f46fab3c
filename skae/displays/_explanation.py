"""Which columns made a row abnormal."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import check_scalar

from .._compat.sklearn import get_feature_names
from .._data.arrays import like, on_host
from .._outlier._explanation import Explanation
from ._plotting import (
    BASELINE,
    INK,
    MODEL,
    check_matplotlib_support,
    last_step,
    merged,
    needs,
    percent,
    prepared_axes,
    tidy,
)

__all__ = ["ExplanationDisplay"]

# Share of the code below which it has no bar.
_NEGLIGIBLE = 0.005


class ExplanationDisplay:
    """The columns that made a row abnormal, by their share of the score.

    Beside each bar stands the value that the row has and the one that the model
    expected. What lies in the code itself and in no single column has a bar of its own,
    where it is half a percent or more.

    It is recommended to use `from_estimator` or `from_explanation`. All parameters are
    stored as attributes.

    Parameters
    ----------
    feature_names : array-like of shape (n_features,)
        Names of the columns.
    value : ndarray of shape (n_features,)
        The row.
    expected : ndarray of shape (n_features,)
        What the model makes of it.
    share : ndarray of shape (n_features,)
        Part of the score that each column makes up.
    code_share : float, default=0.0
        Part of the score that lies in the code.
    row_name : str, default=None
        What the row is called, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        Their figure.
    bars_ : matplotlib BarContainer
        The columns, the largest share first, and then the code if it has a bar.
    texts_ : list of matplotlib Text
        What stands beside the bars.

    See Also
    --------
    skae.AutoencoderOutlierDetector.explain : Where the numbers come from.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.displays import ExplanationDisplay
    >>> X = load_wine(as_frame=True).data
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
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
        """Explain one row and draw it.

        Parameters
        ----------
        detector : estimator or Pipeline
            Fitted, with `explain`: :class:`~skae.AutoencoderOutlierDetector`, or a
            pipeline that ends in one. Where the steps before only change the units of
            the columns and can be undone, as
            :class:`~sklearn.preprocessing.StandardScaler` can, values are those of
            ``X``; else they are what the detector gets to see.
        X : array-like of shape (n_samples, n_features)
            Rows.
        row : int, default=0
            Position in ``X`` of the row to explain.
        top_k : int, default=10
            How many columns to show.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        bar_kw : dict, default=None
            Keywords for ``Axes.barh``.

        Returns
        -------
        display : ExplanationDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If the detector cannot explain.
        ValueError
            If there is no such row, or ``top_k`` is not positive.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        needs(cls, last_step(detector), "explain")
        _check_row(row, X.shape[0] if hasattr(X, "shape") else len(X))
        X = X[row : row + 1]
        explanation = _explain(detector, X)
        explanation["index"] = X.index if hasattr(X, "iloc") else [row]
        return cls.from_explanation(explanation, top_k=top_k, ax=ax, bar_kw=bar_kw)

    @classmethod
    def from_explanation(cls, explanation, *, row=0, top_k=10, ax=None, bar_kw=None):
        """Draw one row of an explanation that is there already.

        Parameters
        ----------
        explanation : Explanation
            What :meth:`~skae.AutoencoderOutlierDetector.explain` returned.
        row : int, default=0
            Position of the row in it.
        top_k : int, default=10
            How many columns to show.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        bar_kw : dict, default=None
            Keywords for ``Axes.barh``.

        Returns
        -------
        display : ExplanationDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If it is not such an explanation.
        ValueError
            If there is no such row, or ``top_k`` is not positive.
        """
        check_matplotlib_support(f"{cls.__name__}.from_explanation")
        if not isinstance(explanation, Explanation):
            raise TypeError(
                "explanation must be what explain of AutoencoderOutlierDetector "
                f"returns. Got {explanation!r}."
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
            Where to draw. None makes a new figure.
        top_k : int, default=10
            How many columns to show.
        bar_kw : dict, default=None
            Keywords for ``Axes.barh``.

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
        order = np.argsort(-np.asarray(self.share), kind="stable")[:top_k]
        names = [str(self.feature_names[k]) for k in order]
        lengths = [float(self.share[k]) for k in order]
        texts = [
            f"{_number(self.value[k])}, expected {_number(self.expected[k])}"
            for k in order
        ]
        colours = [MODEL] * len(order)
        if self.code_share >= _NEGLIGIBLE:
            names.append("code")
            lengths.append(self.code_share)
            texts.append("in no single column")
            colours.append(BASELINE)
        ax = prepared_axes(self, ax, figsize=(6.8, 1.1 + 0.32 * len(names)))
        from matplotlib.patches import Rectangle

        places = np.arange(len(names))
        style = merged({"color": colours, "height": 0.7}, bar_kw, Rectangle)
        self.bars_ = ax.barh(places, lengths, **style)
        self.texts_ = ax.bar_label(
            self.bars_, texts, padding=4, fontsize="small", color=INK
        )
        ax.set_yticks(places, names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        # Room for what stands beside the longest bar.
        ax.set_xlim(0, 1.45 * max(lengths))
        percent(ax.xaxis)
        ax.set_xlabel("share of the score")
        if self.row_name is not None:
            ax.set_title(f"row {self.row_name}", loc="left", fontsize="medium")
        ax.tick_params(axis="y", length=0)
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _number(value):
    """Return three digits of a number, and all those before its decimal point."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _check_row(row, n_rows):
    if not isinstance(row, Integral) or not 0 <= row < n_rows:
        raise ValueError(
            f"row must be the position of one of {n_rows} rows, counted from 0. Got "
            f"{row!r}."
        )


def _explain(detector, X):
    """Return an explanation, in the units of ``X`` if its columns are still there."""
    steps = []
    while isinstance(detector, Pipeline):
        steps += [step for _, step in detector.steps[:-1]]
        detector = detector[-1]
    if not steps:
        return detector.explain(X)
    before = make_pipeline(*steps)
    seen = before.transform(X)
    explanation = detector.explain(seen)
    given = get_feature_names(X)
    if given is None:
        given = getattr(before, "feature_names_in_", None)
    if given is None:
        given = [f"x{k}" for k in range(np.shape(X)[1])]
    try:
        names = before.get_feature_names_out(given)
    except (AttributeError, ValueError):
        return explanation
    explanation["feature_names"] = names
    if list(given) != list(names) or not hasattr(before, "inverse_transform"):
        return explanation
    try:
        back = before.inverse_transform(like(explanation.expected, seen))
        value = X.toarray() if sparse.issparse(X) else on_host(X)
        value = np.asarray(value, dtype=np.float64)
    except (ValueError, IndexError):
        # There is no way back, as from SimpleImputer, or not to numbers.
        return explanation
    explanation["value"], explanation["expected"] = value, np.asarray(on_host(back))
    return explanation
