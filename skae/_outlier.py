"""The detector: an autoencoder where IsolationForest would stand."""

from numbers import Real

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import BaseAutoencoder
from .anomaly_scores import AnomalyScore, Reconstruction

__all__ = ["AutoencoderOutlierDetector"]

# Share of normal rows that contamination="auto" is content to flag.
_FALSE_ALARMS = 0.01


class AutoencoderOutlierDetector(OutlierMixin, BaseAutoencoder):
    """doc"""

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "anomaly_score": [AnomalyScore, None],
    }

    _auto_scaling = "standard"

    def __init__(
        self,
        n_components="auto",
        *,
        contamination="auto",
        anomaly_score=None,
        architecture=None,
        bottleneck=None,
        corruption=None,
        penalty=None,
        loss=None,
        scaling="auto",
        optimizer="adamw",
        lr=5e-3,
        weight_decay=0.0,
        gradient_clip=None,
        batch_size="auto",
        max_epochs=300,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=15,
        tol=1e-3,
        warm_start=False,
        random_state=None,
        verbose=0,
        device="cpu",
        net_params=None,
    ):
        self.n_components = n_components
        self.contamination = contamination
        self.anomaly_score = anomaly_score
        self.architecture = architecture
        self.bottleneck = bottleneck
        self.corruption = corruption
        self.penalty = penalty
        self.loss = loss
        self.scaling = scaling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.net_params = net_params

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
        """
        model = self._model_of_fitted()
        return self._normality(model, self._scorer, self._check_X(X))

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
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _finish(self, fit):
        score = self.anomaly_score or Reconstruction()
        score.validate()
        scorer = score.build(fit.parts.loss)
        self._scorer = scorer
        if self.contamination == "auto":
            judges = fit.judges()
            rows, weight = (judges, None) if len(judges) else (fit.X, fit.weight)
            share = _FALSE_ALARMS
        else:
            rows, weight, share = fit.X, fit.weight, self.contamination
        normality = self._normality(fit.model, scorer, rows)
        if weight is None:
            self.offset_ = float(np.quantile(normality, share))
        else:
            self.offset_ = float(
                np.quantile(normality, share, weights=weight, method="inverted_cdf")
            )

    @staticmethod
    def _normality(model, scorer, X):
        return -model.score(X, scorer).astype(np.float64)
