"""Histogram of anomaly scores, with the threshold of a detector."""

from numbers import Integral

import numpy as np
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    check_scalar,
    column_or_1d,
)

from .._data.arrays import on_host
from .._data.labels import outlier_labels
from .._pipelines import split_pipeline
from . import _plotting
from ._plotting import Display, keywords

__all__ = ["AnomalyScoreDisplay"]

# Ratio of the largest to the smallest score from which the axis is logarithmic.
_LOG_FROM = 30


class AnomalyScoreDisplay(Display):
    """Histogram of anomaly scores, with the threshold of a detector.

    The score shown is abnormality, which is minus `score_samples`: higher is more
    abnormal. With labels, normal rows and outliers have one histogram each. Heights are
    shares of the rows of a histogram, so that a few outliers remain visible beside many
    normal rows. The legend gives the share of them that is above the threshold.

    It is recommended to use `from_estimator` or `from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    abnormality : ndarray of shape (n_samples,)
        Score of each row; higher is more abnormal.
    is_outlier : ndarray of bool of shape (n_samples,), default=None
        Whether each row is an outlier. None if that is not known.
    threshold : float, default=None
        Rows with a higher score are flagged. None if there is no threshold.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    stairs_ : list of matplotlib StepPatch
        Histogram of all rows, or those of normal rows and of outliers.
    line_ : matplotlib Line2D or None
        Line at the threshold, if there is one.

    See Also
    --------
    skae.metrics.make_outlier_scorer : Score for how well a detector ranks rows.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.displays import AnomalyScoreDisplay
    >>> X, is_benign = load_breast_cancer(return_X_y=True)
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X[is_benign == 1])
    >>> display = AnomalyScoreDisplay.from_estimator(detector, X, is_benign == 0)
    >>> bool(display.threshold == -detector.offset_)
    True
    """

    def __init__(self, *, abnormality, is_outlier=None, threshold=None):
        self.abnormality = abnormality
        self.is_outlier = is_outlier
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls, detector, X, y=None, *, bins=40, log_scale="auto", ax=None, stairs_kw=None
    ):
        """Compute the scores of rows and draw their histogram.

        Parameters
        ----------
        detector : estimator or Pipeline
            Fitted, with `score_samples` and ``offset_``, such as
            :class:`~skae.AutoencoderOutlierDetector`,
            :class:`~sklearn.ensemble.IsolationForest`, or
            :class:`~sklearn.neighbors.LocalOutlierFactor` with ``novelty=True``. The
            threshold is minus ``offset_``. Without ``offset_`` there is no threshold.
            If the detector has only `decision_function`, that is the score, and the
            threshold is 0.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score.
        y : array-like of shape (n_samples,), default=None
            Labels. Outliers are marked by True (others False), by 1 (others 0) or by -1
            (others 1), as for :func:`~skae.metrics.make_outlier_scorer`.
        bins : int or array-like, default=40
            Number of bins, or their edges in rising order.
        log_scale : bool or "auto", default="auto"
            Whether the axis is logarithmic. "auto" means yes if all scores and the
            threshold are positive and the largest of these numbers is at least 30 times
            the smallest.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        stairs_kw : dict, default=None
            Keyword arguments for ``Axes.stairs``, for all histograms.

        Returns
        -------
        display : AnomalyScoreDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the detector cannot score new rows.
        ValueError
            If the labels are not coded in one of these ways, if not both classes are
            present, or if scores are not finite. Also as for `plot`.
        """
        cls._check()
        abnormality, threshold = _abnormality(detector, X)
        style = {"bins": bins, "log_scale": log_scale, "stairs_kw": stairs_kw}
        return cls.from_predictions(y, abnormality, threshold=threshold, ax=ax, **style)

    @classmethod
    def from_predictions(
        cls,
        y_true,
        abnormality,
        *,
        threshold=None,
        bins=40,
        log_scale="auto",
        ax=None,
        stairs_kw=None,
    ):
        """Draw the histogram of given scores.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or None
            Labels. Outliers are marked by True (others False), by 1 (others 0) or by -1
            (others 1). None if they are not known.
        abnormality : array-like of shape (n_samples,)
            Score of each row, such as minus `score_samples`; higher is more abnormal.
        threshold : float, default=None
            Rows with a higher score are flagged. It is minus ``offset_`` of a detector.
        bins : int or array-like, default=40
            Number of bins, or their edges in rising order.
        log_scale : bool or "auto", default="auto"
            Whether the axis is logarithmic. "auto" is as for `from_estimator`.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        stairs_kw : dict, default=None
            Keyword arguments for ``Axes.stairs``, for all histograms.

        Returns
        -------
        display : AnomalyScoreDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the labels are not coded in one of these ways, if not both classes are
            present, or if scores are not finite. Also as for `plot`.
        """
        cls._check(caller="from_predictions")
        abnormality = column_or_1d(on_host(abnormality), dtype=np.float64)
        assert_all_finite(abnormality, input_name="abnormality")
        is_outlier = None if y_true is None else outlier_labels(y_true)
        check_consistent_length(abnormality, is_outlier)
        display = cls(
            abnormality=abnormality, is_outlier=is_outlier, threshold=threshold
        )
        return display.plot(ax, bins=bins, log_scale=log_scale, stairs_kw=stairs_kw)

    def plot(self, ax=None, *, bins=40, log_scale="auto", stairs_kw=None):
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        bins : int or array-like, default=40
            Number of bins, or their edges in rising order.
        log_scale : bool or "auto", default="auto"
            Whether the axis is logarithmic. "auto" is as for `from_estimator`.
        stairs_kw : dict, default=None
            Keyword arguments for ``Axes.stairs``, for all histograms.

        Returns
        -------
        display : AnomalyScoreDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are no scores, if ``log_scale=True`` and scores or the threshold
            are not positive, or if ``bins`` is neither a positive integer nor a rising
            sequence of at least two edges.
        """
        if not len(self.abnormality):
            raise ValueError("abnormality must have at least one row. Got none.")
        log_scale = self._is_logarithmic(log_scale)
        edges = self._edges(bins, log_scale)
        ax = self._axes(ax)
        if self.is_outlier is None:
            groups = [("rows", _plotting.NORMAL, np.full(len(self.abnormality), True))]
        else:
            groups = [
                ("normal", _plotting.NORMAL, ~self.is_outlier),
                ("outliers", _plotting.OUTLIERS, self.is_outlier),
            ]
        self.stairs_, self.line_ = [], None
        for label, colour, members in groups:
            scores = self.abnormality[members]
            if self.threshold is not None:
                label += f": {np.mean(scores > self.threshold):.1%} flagged"
            shares = np.histogram(scores, edges)[0] / len(scores)
            style = {"color": colour, "label": label, "fill": True, "alpha": 0.7}
            style = keywords("patch", stairs_kw, **style)
            self.stairs_.append(ax.stairs(shares, edges, **style))
        if self.threshold is not None:
            style = {"color": _plotting.INK, "label": "threshold"} | _plotting.DASHED
            self.line_ = ax.axvline(self.threshold, **style)
        if log_scale:
            ax.set_xscale("log")
        _plotting.percent(ax.yaxis)
        whose = "of the rows" if self.is_outlier is None else "of the rows of a kind"
        ax.set(xlabel="abnormality", ylabel=f"share {whose}")
        ax.legend(**_plotting.LEGEND)
        return self

    def _is_logarithmic(self, log_scale):
        if log_scale not in (True, False, "auto"):
            raise ValueError(
                f"log_scale must be True, False or 'auto'. Got {log_scale!r}."
            )
        threshold = [] if self.threshold is None else [self.threshold]
        values = np.append(self.abnormality, threshold)
        if log_scale == "auto":
            return _plotting.spans_decades(values, _LOG_FROM)
        if log_scale and values.min() <= 0:
            raise ValueError(
                "log_scale=True needs positive scores and a positive threshold. Got "
                f"{values.min():.3g}."
            )
        return bool(log_scale)

    def _edges(self, bins, log_scale):
        """Return the edges of the bins, which are rising and include all scores."""
        if np.ndim(bins):
            edges = np.asarray(bins)
            if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
                raise ValueError(
                    "bins must be a number of bins, or two or more edges in rising "
                    f"order. Got {bins!r}."
                )
            return edges
        check_scalar(bins, "bins", Integral, min_val=1)
        scores = np.log(self.abnormality) if log_scale else self.abnormality
        low, high = scores.min(), scores.max()
        # Scores that differ only by rounding errors are too close for so many edges.
        size = max(abs(low), abs(high), 1.0 if log_scale else 0.0)
        room = 4 * bins * np.spacing(size)
        if high - low < room:
            low, high = low - max(room, 0.5), high + max(room, 0.5)
        edges = np.histogram_bin_edges(scores, bins, (low, high))
        if log_scale:
            edges = np.exp(edges)
            # Rounding may leave out the smallest and the largest score.
            edges[0] = min(edges[0], self.abnormality.min())
            edges[-1] = max(edges[-1], self.abnormality.max())
        return edges


def _abnormality(detector, X):
    """Return the scores of rows, and the threshold or None."""
    if hasattr(detector, "score_samples"):
        offset = getattr(split_pipeline(detector)[1], "offset_", None)
        # It is an array of one element in OneClassSVM.
        offset = offset.item() if hasattr(offset, "item") else offset
        return -detector.score_samples(X), None if offset is None else -offset
    if hasattr(detector, "decision_function"):
        return -detector.decision_function(X), 0.0
    raise TypeError(
        "AnomalyScoreDisplay needs a detector with score_samples or "
        "decision_function, such as LocalOutlierFactor with novelty=True. Got "
        f"{detector!r}."
    )
