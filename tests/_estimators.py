"""Estimators that several tests make."""

from skae import AutoencoderOutlierDetector


def new(estimator, *args, **params):
    """Return an estimator that trains one network.

    A detector sets its threshold on rows that it holds back. Otherwise it trains five
    more networks for that, which is tried where thresholds are.
    """
    if estimator is AutoencoderOutlierDetector:
        params = {"calibration_fraction": 0.2, "random_state": 0} | params
    return estimator(*args, **params)
