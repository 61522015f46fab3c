"""The same rows as float32 and as float64."""

import numpy as np
import pytest

from skae import AutoencoderOutlierDetector, AutoencoderTransformer


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("estimator", "methods"),
    [
        (AutoencoderTransformer, ["transform", "reconstruction_error"]),
        (
            AutoencoderOutlierDetector,
            ["transform", "reconstruction_error", "score_samples"],
        ),
    ],
)
def test_results_are_equal_to_float32_rounding(estimator, methods, rng):
    # A curve has a small distance between neighbours and small residuals, which lose
    # most to rounding. The rows are float32 numbers: as float64 they have the same
    # values.
    t = rng.uniform(-1, 1, size=(300, 1))
    single = np.hstack([t, t**2, t**3, np.sin(3 * t)]).astype(np.float32)
    double = single.astype(np.float64)
    model = estimator(2, max_epochs=20, random_state=0).fit(double[:200])
    for name in methods:
        expected = getattr(model, name)(double)
        found = getattr(model, name)(single)
        np.testing.assert_allclose(
            found, expected, rtol=5e-3, atol=1e-3 * expected.std(), err_msg=name
        )
