"""The promise itself: on rows that were not trained on, never worse than PCA."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

TABLES = [load_breast_cancer, load_diabetes, load_digits, load_wine]
# The others are slow.
USUAL = [(load_breast_cancer, 0), (load_diabetes, 0)]


@pytest.mark.parametrize(
    ("load", "split"),
    [
        pytest.param(
            load,
            split,
            marks=[] if (load, split) in USUAL else pytest.mark.slow,
            id=f"{load.__name__}-{split}",
        )
        for load in TABLES
        for split in (0, 1, 2)
    ],
)
def test_held_out_error_is_not_above_that_of_pca(load, split):
    train, test = train_test_split(load().data, test_size=0.3, random_state=split)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    for n_components in (2, train.shape[1] // 2):
        pca = PCA(n_components).fit(train)
        error = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
        model = AutoencoderTransformer(n_components, random_state=split).fit(train)
        assert model.reconstruction_error(test).mean() <= 1.005 * error
