"""Checks of few rows, which are done without scikit-learn where nothing is to do."""

import numpy as np
import pytest

from skae import AutoencoderTransformer
from skae._data import validation as _validation

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")

DTYPES = [np.float32, np.float64]


def small():
    return AutoencoderTransformer(2, max_epochs=1, random_state=0)


@pytest.fixture
def model(X):
    return small().fit(X[:79])


def test_few_plain_rows_are_not_shown_to_scikit_learn(model, X, monkeypatch):
    expected = model.transform(X.tolist())
    monkeypatch.delattr(_validation, "validate_data")
    np.testing.assert_allclose(model.transform(X), expected)
    with pytest.raises(NameError):
        model.transform(np.tile(X, (100, 1)))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_few_rows_that_are_not_finite_are_refused(model, X, value, dtype):
    row = X[:1].astype(dtype)
    row[0, 3] = value
    with pytest.raises(ValueError, match="contains infinity"):
        model.transform(row)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6,), "Expected 2D array"),
        ((1, 5), "X has 5 features"),
        ((0, 6), "0 sample"),
        ((1, 6, 1), "one flat row per sample"),
    ],
)
def test_few_rows_of_another_shape_are_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model.transform(np.zeros(shape))


def test_few_rows_without_the_names_are_warned_of(X):
    pd = pytest.importorskip("pandas")
    model = small().fit(pd.DataFrame(X[:79], columns=list("abcdef")))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.transform(X[:1])


@pytest.mark.parametrize("dtype", ["i4", "f2", ">f8", ">f4", object])
def test_few_rows_of_other_types_are_converted(model, X, dtype):
    rows = np.round(X[:3])
    found = model.transform(rows.astype(dtype))
    assert found.dtype == np.float64 or found.dtype == np.float32
    np.testing.assert_allclose(found, model.transform(rows), rtol=1e-2, atol=1e-2)
