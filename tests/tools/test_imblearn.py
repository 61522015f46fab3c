"""imbalanced-learn: rows resampled in front of a code."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

pytest.importorskip("imblearn")


def test_pipeline_with_a_sampler():
    from imblearn.pipeline import make_pipeline
    from imblearn.under_sampling import RandomUnderSampler

    X, y = load_breast_cancer(return_X_y=True)
    sampler = RandomUnderSampler(random_state=0)
    code = AutoencoderTransformer(4, random_state=0)
    model = make_pipeline(sampler, StandardScaler(), code, LogisticRegression())
    model.fit(X[:400], y[:400])

    # The code is that of the rows that the sampler left, and of no others.
    fewer, _ = RandomUnderSampler(random_state=0).fit_resample(X[:400], y[:400])
    assert len(fewer) < 400
    by_hand = AutoencoderTransformer(4, random_state=0)
    by_hand.fit(StandardScaler().fit_transform(fewer))
    np.testing.assert_array_equal(model[-2].mean_, by_hand.mean_)
    scaled = model["standardscaler"].transform(X[400:])
    np.testing.assert_array_equal(
        model[-2].transform(scaled), by_hand.transform(scaled)
    )
    assert model.score(X[400:], y[400:]) > 0.9
