"""How abnormal rows are, and where the threshold lies."""

from numbers import Integral

import numpy as np
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    check_scalar,
    column_or_1d,
)

from .._data.arrays import on_host
from ..metrics import _is_outlier
from ._plotting import (
    INK,
    NORMAL,
    OUTLIERS,
    check_matplotlib_support,
    last_step,
    legend,
    merged,
    percent,
    prepared_axes,
    tidy,
)

__all__ = ["AnomalyScoreDisplay"]

# Largest score over smallest from which a logarithmic axis shows more.
_LOG_FROM = 30


class AnomalyScoreDisplay:
    """A histogram of abnormality, with the threshold of a detector.

    Abnormality is minus `score_samples`: the higher, the more abnormal. With labels
    there is one histogram of normal rows and one of outliers. Heights are shares of
    the rows of a kind, so that few outliers are seen beside many normal rows, and the
    legend says which share of them is beyond the threshold.

    It is recommended to use `from_estimator` or `from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    abnormality : ndarray of shape (n_samples,)
        The higher, the more abnormal.
    is_outlier : ndarray of bool of shape (n_samples,), default=None
        What the rows are. None if that is not known.
    threshold : float, default=None
        Rows beyond it are flagged. None if there is none.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        Their figure.
    stairs_ : list of matplotlib StepPatch
        The histograms: of all rows, or of normal rows and outliers.
    line_ : matplotlib Line2D or None
        The threshold.

    See Also
    --------
    skae.metrics.make_outlier_scorer : One number for how well a detector ranks rows.

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
        cls,
        detector,
        X,
        y=None,
        *,
        bins=40,
        log_scale="auto",
        ax=None,
        stairs_kw=None,
    ):
        """Score rows and draw the scores.

        Parameters
        ----------
        detector : estimator or Pipeline
            Fitted, with `score_samples` and ``offset_``, as
            :class:`~skae.AutoencoderOutlierDetector`,
            :class:`~sklearn.ensemble.IsolationForest`, or
            :class:`~sklearn.neighbors.LocalOutlierFactor` with ``novelty=True``. One
            that has only `decision_function` has its threshold at 0; one without
            ``offset_`` has none.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Which rows are outliers: True, 1 beside 0, or -1 beside 1, as for
            :func:`~skae.metrics.make_outlier_scorer`.
        bins : int or array-like, default=40
            How many bins, or their edges.
        log_scale : bool or "auto", default="auto"
            Whether the axis is logarithmic. "auto" is where all scores and the
            threshold are positive and the largest of these numbers is at least thirty
            times the smallest.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        stairs_kw : dict, default=None
            Keywords for ``Axes.stairs``, for all histograms.

        Returns
        -------
        display : AnomalyScoreDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If the detector cannot score new rows.
        ValueError
            If the labels are of no such kind or all alike, or scores are not finite.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        abnormality, threshold = _abnormality(detector, X)
        return cls.from_predictions(
            y,
            abnormality,
            threshold=threshold,
            bins=bins,
            log_scale=log_scale,
            ax=ax,
            stairs_kw=stairs_kw,
        )

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
        """Draw scores that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or None
            Which rows are outliers: True, 1 beside 0, or -1 beside 1.
        abnormality : array-like of shape (n_samples,)
            The higher, the more abnormal: minus what `score_samples` returns.
        threshold : float, default=None
            Rows beyond it are flagged: minus ``offset_``.
        bins : int or array-like, default=40
            How many bins, or their edges.
        log_scale : bool or "auto", default="auto"
            Whether the axis is logarithmic.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        stairs_kw : dict, default=None
            Keywords for ``Axes.stairs``, for all histograms.

        Returns
        -------
        display : AnomalyScoreDisplay
            Has what was drawn.

        Raises
        ------
        ValueError
            If the labels are of no such kind or all alike, or scores are not finite.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        abnormality = column_or_1d(on_host(abnormality), dtype=np.float64)
        assert_all_finite(abnormality, input_name="abnormality")
        is_outlier = None
        if y_true is not None:
            is_outlier = _is_outlier(y_true)
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
            Where to draw. None makes a new figure.
        bins : int or array-like, default=40
            How many bins, or their edges.
        log_scale : bool or "auto", default="auto"
            Whether the axis is logarithmic.
        stairs_kw : dict, default=None
            Keywords for ``Axes.stairs``, for all histograms.

        Returns
        -------
        display : AnomalyScoreDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are no scores, if ``log_scale=True`` with scores that are not
            positive, or if ``bins`` are no number of bins and no rising edges.
        """
        if not len(self.abnormality):
            raise ValueError("abnormality must have at least one row. Got none.")
        log_scale = self._is_logarithmic(log_scale)
        edges = self._edges(bins, log_scale)
        ax = prepared_axes(self, ax)
        from matplotlib.patches import StepPatch

        if self.is_outlier is None:
            kinds = [("rows", NORMAL, np.full(len(self.abnormality), True))]
        else:
            kinds = [
                ("normal", NORMAL, ~self.is_outlier),
                ("outliers", OUTLIERS, self.is_outlier),
            ]
        self.ax_, self.figure_ = ax, ax.figure
        self.stairs_, self.line_ = [], None
        style = merged({"fill": True, "alpha": 0.7}, stairs_kw, StepPatch)
        for name, colour, members in kinds:
            scores = self.abnormality[members]
            label = name
            if self.threshold is not None:
                label += f": {np.mean(scores > self.threshold):.1%} flagged"
            counts, _ = np.histogram(scores, edges)
            self.stairs_.append(
                ax.stairs(
                    counts / len(scores),
                    edges,
                    **{"color": colour, "label": label} | style,
                )
            )
        if self.threshold is not None:
            self.line_ = ax.axvline(
                self.threshold,
                color=INK,
                linestyle=(0, (4, 3)),
                linewidth=1.2,
                label="threshold",
            )
        if log_scale:
            ax.set_xscale("log")
        percent(ax.yaxis)
        whose = "of the rows" if self.is_outlier is None else "of the rows of a kind"
        ax.set(xlabel="abnormality", ylabel=f"share {whose}")
        legend(ax)
        tidy(ax)
        return self

    def _is_logarithmic(self, log_scale):
        if log_scale not in (True, False, "auto"):
            raise ValueError(
                f"log_scale must be True, False or 'auto'. Got {log_scale!r}."
            )
        values = np.append(
            self.abnormality, [] if self.threshold is None else self.threshold
        )
        positive = values.min() > 0
        if log_scale == "auto":
            return bool(positive and values.max() >= _LOG_FROM * values.min())
        if log_scale and not positive:
            raise ValueError(
                "log_scale=True needs positive scores and a positive threshold. Got "
                f"{values.min():.3g}."
            )
        return bool(log_scale)

    def _edges(self, bins, log_scale):
        if np.ndim(bins):
            edges = np.asarray(bins)
            if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
                raise ValueError(
                    "bins must be how many there are, or two or more edges in rising "
                    f"order. Got {bins!r}."
                )
            return edges
        check_scalar(bins, "bins", Integral, min_val=1)
        scores = np.log(self.abnormality) if log_scale else self.abnormality
        low, high = scores.min(), scores.max()
        # Scores that are equal but for rounding leave no room for so many edges.
        size = max(abs(low), abs(high), 1.0 if log_scale else 0.0)
        room = 4 * bins * np.spacing(size)
        if high - low < room:
            low, high = low - max(room, 0.5), high + max(room, 0.5)
        edges = np.histogram_bin_edges(scores, bins, (low, high))
        if not log_scale:
            return edges
        edges = np.exp(edges)
        # What rounding would leave out belongs to the outermost bins.
        edges[0] = min(edges[0], self.abnormality.min())
        edges[-1] = max(edges[-1], self.abnormality.max())
        return edges


def _abnormality(detector, X):
    """Return scores of rows, and the threshold if there is one."""
    if hasattr(detector, "score_samples"):
        offset = getattr(last_step(detector), "offset_", None)
        # OneClassSVM has it in an array.
        offset = offset.item() if hasattr(offset, "item") else offset
        threshold = None if offset is None else -offset
        return -detector.score_samples(X), threshold
    if hasattr(detector, "decision_function"):
        return -detector.decision_function(X), 0.0
    raise TypeError(
        "AnomalyScoreDisplay needs a detector with score_samples or "
        "decision_function, as LocalOutlierFactor has with novelty=True. Got "
        f"{detector!r}."
    )
