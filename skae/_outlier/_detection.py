"""What the detector does once its models are there: scores, thresholds, reasons."""

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state

from .._base import BaseAutoencoder
from .._data.arrays import check_namespace, like, on_host, sides
from .._model.export import normality
from ..anomaly_scores import Combined
from . import _thresholds
from ._explanation import Explanation
from ._scoring import N_PARTS, Ensemble, cross_fitted, few_rows

__all__ = ["BaseDetector"]


class BaseDetector(OutlierMixin, BaseAutoencoder):
    """Everything of the detector but its parameters and their manual."""

    _auto_scaling = "standard"
    _torch_parts = {
        **BaseAutoencoder._torch_parts,
        "score": lambda self: normality(self._ensemble.members, self.device_),
    }

    def score_samples(self, X):
        """Return how normal rows are: the lower, the more abnormal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
            Minus the anomaly score, float64.

        Raises
        ------
        ValueError
            If rows lie outside the domain of the loss, where it means nothing.
        """
        X = self._check_rows(X, "score_samples")
        return -self._ensemble.score(X)

    def decision_function(self, X):
        """Return how far rows are on the normal side: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        check_namespace(X, self, "decision_function")
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return +1 for normal rows and -1 for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_namespace(X, self, "predict")
        return sides(self.decision_function(X))

    def calibrate(
        self,
        X_normal=None,
        *,
        quantile=None,
        false_positive_rate=None,
        n_alerts=None,
        rule=None,
    ):
        """Set the threshold anew; the model stays as it is.

        Parameters
        ----------
        X_normal : array-like of shape (n_samples, n_features), default=None
            Normal rows that `fit` has not seen, such as the last weeks of a stream.
            From then on they are what `p_values` compares with. None takes the rows of
            an earlier call, those that ``calibration_fraction`` held back, or else
            those that the threshold of `fit` came from.

        quantile : float, default=None
            The threshold is the score below which this share of the rows lies.

        false_positive_rate : float, default=None
            A new row like these is called an outlier with at most this probability,
            averaged over the draw of both (split conformal prediction [1]_); among
            ``n`` rows the threshold is the ``floor(false_positive_rate * (n + 1))``-th
            lowest score. Without ``X_normal`` there must be calibration rows, as for
            `p_values`; sample weights do not count.

        n_alerts : int, default=None
            So many of the rows are called outliers, fewer where scores are equal: for
            a batch of the size that is looked at together. These rows need not be
            normal, and `p_values` does not compare with them.

        rule : callable, default=None
            Takes the scores of the rows, as `score_samples` gives them, and returns the
            threshold.

            At most one of the four is given; with none, the threshold is that of
            ``contamination="auto"``.

        Returns
        -------
        self : object
            The detector, with a new ``offset_``.

        Raises
        ------
        ValueError
            If more than one of the four is given or one is not accepted, or a rate is
            smaller than so few rows can promise. The detector is then as before.

        References
        ----------
        .. [1] Laxhammar & Falkman, "Conformal Prediction for Distribution-Independent
           Anomaly Detection in Streaming Vessel Data", StreamKDD 2010.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> X, X_later = rng.normal(size=(500, 5)), rng.normal(size=(400, 5))
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> int(np.sum(detector.calibrate(X_later, n_alerts=4).predict(X_later) == -1))
        4
        """
        threshold = _thresholds.given(
            quantile=quantile,
            false_positive_rate=false_positive_rate,
            n_alerts=n_alerts,
            rule=rule,
        )
        if X_normal is None:
            self._model_of_fitted()
            if false_positive_rate is not None:
                self._check_calibrated("calibrate(false_positive_rate=...)")
            scores, weight = self._reference
        else:
            scores, weight = on_host(self.score_samples(X_normal)), None
        self.offset_ = threshold(scores, weight)
        if X_normal is not None and n_alerts is None:
            self._reference = scores, None
            self.calibration_scores_ = like(scores, X_normal)
        return self

    def p_values(self, X):
        """Return how often normal rows are at least as abnormal as these.

        Conformal p-values [1]_: for a row drawn as the calibration rows were, the
        chance of a p-value of at most ``p`` is at most ``p``, whatever the model.
        Calibration rows are those given to `calibrate`, or those that
        ``calibration_fraction`` held back in `fit`: nothing else has seen them. The
        smallest possible value is one over their number plus one.

        Of many rows, :func:`scipy.stats.false_discovery_control` tells which to call
        outliers such that only a given share of these calls is false; conformal
        p-values depend on each other in a way that it allows [1]_.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        ndarray of shape (n_samples,)
            In (0, 1].

        Raises
        ------
        ValueError
            If there are no calibration rows.

        References
        ----------
        .. [1] Bates, Candès, Lei, Romano & Sesia, "Testing for Outliers with Conformal
           p-values", Annals of Statistics 51, 2023.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> detector = AutoencoderOutlierDetector(
        ...     calibration_fraction=0.4, random_state=0
        ... ).fit(rng.normal(size=(1000, 5)))
        >>> X = np.r_[rng.normal(size=(95, 5)), np.full((5, 5), 6.0)]
        >>> p = detector.p_values(X)
        >>> np.flatnonzero(false_discovery_control(p) < 0.1)
        array([95, 96, 97, 98, 99])
        """
        self._model_of_fitted()
        self._check_calibrated("p_values")
        scores, calibration = self.score_samples(X), self.calibration_scores_
        return like(_thresholds.p_values(*map(on_host, (scores, calibration))), X)

    def explain(self, X):
        """Return which features made rows abnormal, in the data's own units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the data's own units.

        Returns
        -------
        explanation : Explanation
            A :class:`~sklearn.utils.Bunch` with, for each row and feature, its
            ``value``, the value that the model ``expected``, their difference as
            ``residual`` in units of what is usual for the feature, and its ``share`` of
            the score. Arrays of shape (n_samples, n_features). ``code_share``, of
            shape (n_samples,), is the part of the score that lies in the code itself,
            in no single feature; all shares of a row add up to one.
            ``explanation.to_frame(top_k)`` is a data frame of the worst features of
            each row, by name.

        Notes
        -----
        A share is part of the score and says where the row differs from rows that are
        remembered. A wrong value also spoils the reconstruction of other columns that
        go with it, so that these have a part, if usually a smaller one.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> t = rng.normal(size=(500, 1))
        >>> X = t @ np.ones((1, 5)) + 0.1 * rng.normal(size=(500, 5))
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> fault = X[:1].copy()
        >>> fault[0, 3] += 2
        >>> explanation = detector.explain(fault)
        >>> int(explanation.share[0].argmax())
        3
        >>> round(float(explanation.share.sum() + explanation.code_share.sum()), 6)
        1.0
        """
        index = X.index if hasattr(X, "iloc") else None
        X = on_host(self._check_rows(X, "explain"))
        parts = self._ensemble.contributions(X)
        total = parts.sum(axis=1, keepdims=True)
        parts = np.divide(
            parts, total, out=np.full_like(parts, 1 / parts.shape[1]), where=total > 0
        )
        expected = self._ensemble.expected(X)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{j}" for j in range(X.shape[1])], dtype=object)
        return Explanation(
            value=X,
            expected=expected,
            residual=(X - expected) / self._ensemble.residual_spread,
            share=parts[:, :-1],
            code_share=parts[:, -1],
            feature_names=names,
            index=np.arange(len(X)) if index is None else index,
        )

    def _check_calibrated(self, name):
        if not hasattr(self, "calibration_scores_"):
            raise ValueError(
                f"{name} compares with normal rows that fit has not seen, and there "
                "are none: call calibrate(X_normal) first, or fit with "
                f"calibration_fraction, say 0.2. Got {self.calibration_fraction!r}."
            )

    def _check_rows(self, X, method):
        model = self._model_of_fitted()
        X = self._check_X(X, method)
        model.loss.check_domain(X, "X")
        return X

    def _score(self):
        return Combined() if self.anomaly_score is None else self.anomaly_score

    def _withhold(self, X, sample_weight):
        """Take calibration rows out before anything is learnt."""
        self._score().validate()
        self._withheld = None
        if not self.calibration_fraction:
            return X, sample_weight
        if self.warm_start and hasattr(self, "_ensemble"):
            raise ValueError(
                "warm_start=True continues from weights that may have seen the rows "
                f"that calibration_fraction={self.calibration_fraction} holds back: "
                "pass calibration_fraction=0, and later ones to calibrate."
            )
        n_withheld = max(1, round(self.calibration_fraction * len(X)))
        if len(X) - n_withheld < 2:
            raise ValueError(
                f"calibration_fraction={self.calibration_fraction} leaves "
                f"{len(X) - n_withheld} of {len(X)} rows to train on: at least 2 are "
                "required."
            )
        order = check_random_state(self.random_state).permutation(len(X))
        out, kept = np.sort(order[:n_withheld]), np.sort(order[n_withheld:])
        if sample_weight is None:
            self._withheld = X[out], None
            return X[kept], None
        kept_weight = sample_weight[kept]
        # In the unit that the fit gives its weights.
        self._withheld = X[out], sample_weight[out] / kept_weight.mean()
        return X[kept], kept_weight

    def _n_networks(self, training):
        return self.n_estimators * (1 + N_PARTS * self._is_cut(training))

    def _is_cut(self, training):
        return self._withheld is None and few_rows(training)

    def _finish(self, fit, alone=False):
        warm = self.warm_start and hasattr(self, "_ensemble")
        how = {
            "score": self._score(),
            "n_estimators": 1 if alone else self.n_estimators,
            "sizes": "smaller" if self.n_components == "auto" else "same",
        }
        previous = self._ensemble.members if warm else ()
        self._ensemble = Ensemble.fit(fit, **how, previous=previous)
        withheld, self._withheld = self._withheld, None
        vars(self).pop("calibration_scores_", None)
        if withheld is not None:
            X, weight = withheld
            self.calibration_scores_ = -self._ensemble.score(X)
            self._reference = self.calibration_scores_, weight
        else:
            self._reference = self._unseen_scores(fit, how, alone)
        if self.contamination == "auto":
            self.offset_ = _thresholds.automatic(*self._reference)
            return
        scores, weight = -self._ensemble.score(fit.X), fit.weight
        if withheld is not None:
            scores = np.append(scores, self.calibration_scores_)
            weight = None if weight is None else np.append(weight, withheld[1])
        self.offset_ = _thresholds.at_quantile(scores, self.contamination, weight)

    def _unseen_scores(self, fit, how, alone):
        """Return scores of rows that the weights have not seen, if it can be had."""
        if self._is_cut(fit.training) and not alone:
            return -cross_fitted(fit, self._ensemble, **how), fit.weight
        rows, weight = fit.judges()
        if len(rows) == 0:
            rows, weight = fit.X, fit.weight
        return -self._ensemble.score(rows), weight
