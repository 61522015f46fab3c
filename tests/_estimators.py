"""Estimators that several tests make."""

from skae import AutoencoderOutlierDetector


def new(estimator, *args, **params):
    """Return an estimator with a seed that trains one network.

    A detector sets its threshold on rows that it holds back. Otherwise it trains five
    more networks for that, which is tried where thresholds are.
    """
    params.setdefault("random_state", 0)
    if estimator is AutoencoderOutlierDetector:
        params.setdefault("calibration_fraction", 0.2)
    return estimator(*args, **params)
