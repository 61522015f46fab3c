"""SHAP: scores and classifiers explained from outside."""

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

pytest.importorskip("shap")

pytestmark = pytest.mark.filterwarnings(
    # Colour maps that SHAP builds when it is imported, with matplotlib 3.11.
    "ignore:The set_.* function will be deprecated:PendingDeprecationWarning",
)


@pytest.fixture(scope="module")
def data():
    bunch = load_breast_cancer(as_frame=True)
    return bunch.data, bunch.target


def permutation(function, background, rows):
    import shap

    explainer = shap.Explainer(function, background, algorithm="permutation", seed=0)
    return explainer(rows)


def test_both_find_the_column_that_was_spoilt(data):
    X, y = data
    benign = X[y == 1]
    train, rows = benign[:250], benign[250:258].copy()
    detector = AutoencoderOutlierDetector(random_state=0).fit(train)
    columns = np.random.RandomState(0).permutation(X.shape[1])[: len(rows)]
    for i, j in enumerate(columns):
        rows.iloc[i, j] += 6 * train.iloc[:, j].std()

    def abnormality(rows):
        return -detector.score_samples(rows)

    explained = permutation(abnormality, train[:20], rows)
    assert explained.feature_names == X.columns.tolist()
    # Shapley values add up to the score, so they are of this score.
    np.testing.assert_allclose(
        explained.values.sum(axis=1) + explained.base_values, abnormality(rows)
    )
    own = detector.explain(rows)
    assert (explained.values.argmax(axis=1) == columns).mean() > 0.8
    assert (own.share.argmax(axis=1) == columns).mean() > 0.8


def test_classifier_behind_a_code(data):
    X, y = data
    used = X.columns[:10].tolist()
    model = make_pipeline(
        make_column_transformer(
            (
                make_pipeline(
                    StandardScaler(), AutoencoderTransformer(4, random_state=0)
                ),
                used,
            )
        ),
        LogisticRegression(),
    ).fit(X[:400], y[:400])
    rows = X[400:404]

    def benign(rows):
        return model.predict_proba(rows)[:, 1]

    explained = permutation(benign, X[:20], rows)
    np.testing.assert_allclose(
        explained.values.sum(axis=1) + explained.base_values, benign(rows)
    )
    assert np.abs(explained.values[:, 10:]).max() < 1e-12  # dropped before the code
    assert np.abs(explained.values[:, :10]).max() > 0.01
