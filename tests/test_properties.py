"""Properties of any fit, whatever the table and the parameters: drawn by Hypothesis.

The draws are the same in each run. ``tests/safety/random_calls.py`` draws more widely,
bad input included.
"""

import io
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import skae
from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, Nested, Plain, TopK, Variational
from skae.corruptions import Gaussian, Masking
from skae.exceptions import FitWarning
from skae.losses import AbsoluteError, Huber


@st.composite
def tables(draw):
    """Draw a table: of any size, unit, dtype and layout, with ties and constants."""
    shape = draw(st.integers(2, 40)), draw(st.integers(1, 6))
    numbers = st.floats(-100, 100, width=32), st.integers(-3, 3), st.integers(0, 1)
    elements = draw(st.sampled_from(numbers)).map(float)
    X = draw(arrays(np.float64, shape, elements=elements, fill=elements))
    dtype = draw(st.sampled_from(["f8", "f8", "f4", ">f8", "i8", "?"]))
    unit = draw(st.sampled_from([1.0, 1.0, 1.0, 1e-20, 1e20]))
    X = X.astype(dtype) if unit == 1.0 else X * unit
    layout = draw(st.sampled_from(["C", "F", "reversed", "list", "sparse"]))
    if layout == "sparse":
        return sparse.csr_array(X.astype(np.float64))
    layouts = {"F": np.asfortranarray, "reversed": np.flip, "list": np.ndarray.tolist}
    return layouts.get(layout, np.asarray)(X)


COMMON = {
    "n_components": st.sampled_from([1, 2, "auto", 0.9, None]),
    "architecture": st.sampled_from(
        [None, MLP((3,)), MLP(()), MLP((4,), start="random")]
    ),
    "bottleneck": st.sampled_from(
        [None, Plain("tanh"), Variational(), FiniteScalar(3), TopK(1), Nested()]
    ),
    "corruption": st.sampled_from([None, None, Gaussian(0.1), Masking(0.2)]),
    "loss": st.sampled_from([None, None, AbsoluteError(), Huber()]),
    "scaling": st.sampled_from(["auto", "standard", "minmax", "robust", None]),
    "batch_size": st.sampled_from(["auto", 1, 7]),
    "max_epochs": st.sampled_from([1, 2]),
    "random_state": st.integers(0, 3),
}
TRANSFORMERS = st.builds(AutoencoderTransformer, **COMMON)
DETECTORS = st.builds(
    AutoencoderOutlierDetector,
    **COMMON,
    contamination=st.sampled_from(["auto", 0.1, 0.5]),
    n_estimators=st.sampled_from([1, 1, 2]),
)


def fitted(model, X):
    """Return a fitted copy; pass over what is refused by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FitWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = clone(model)
        try:
            return model.fit(X)
        except ValueError as error:
            refusal = str(error)
    assert [name for name in vars(model) if name.endswith("_")] == []
    assert any(name in refusal for name in ("n_components", "X has values"))
    assume(False)


def dense(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


def codes_are_finite_and_decode_to_the_reconstruction(model, X):
    model, X = fitted(model, X), dense(X)
    code, rows = model.transform(X), model.reconstruct(X)
    assert np.isfinite(dense(code)).all()
    assert np.isfinite(rows).all()
    assert rows.shape == X.shape
    unit = max(np.abs(rows).max(), np.abs(X.astype(np.float64)).max())
    found = model.inverse_transform(code)
    np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * unit)
    squares = (X.astype(np.float64) - rows) ** 2
    error = model.reconstruction_error(X)
    np.testing.assert_allclose(error, squares.mean(axis=1), rtol=1e-3)


def rows_do_not_depend_on_each_other(model, X):
    model, X = fitted(model, X), dense(X).astype(np.float64)
    name = "transform" if isinstance(model, AutoencoderTransformer) else "score_samples"
    query = getattr(model, name)
    whole = query(X)
    atol = 1e-9 * max(np.abs(whole).max(), np.abs(X).max()) + 1e-15
    np.testing.assert_allclose(query(X[::-1])[::-1], whole, rtol=1e-9, atol=atol)
    np.testing.assert_allclose(query(X[:1]), whole[:1], rtol=1e-9, atol=atol)


def labels_p_values_and_shares_are_those_of_scores(model, X):
    model, X = fitted(model, X), dense(X)
    scores = model.score_samples(X)
    assert not np.isnan(scores).any()
    assert not (scores == np.inf).any()
    decision = model.decision_function(X)
    np.testing.assert_array_equal(decision, scores - model.offset_)
    np.testing.assert_array_equal(model.predict(X), np.where(decision < 0, -1, 1))
    found = model.explain(X)
    shares = np.column_stack([found.share, found.code_share])
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    if hasattr(model, "calibration_scores_"):
        p = model.p_values(X)
        normal = model.calibration_scores_
        expected = [(1 + np.sum(normal <= s)) / (1 + len(normal)) for s in scores]
        np.testing.assert_allclose(p, expected)


def files_and_pickles_have_the_same_predictions(model, X):
    model, X = fitted(model, X), dense(X)
    name = "transform" if isinstance(model, AutoencoderTransformer) else "score_samples"
    file = io.BytesIO()
    skae.save(model, file)
    file.seek(0)
    for copy in (skae.load(file), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(
            dense(getattr(copy, name)(X)), dense(getattr(model, name)(X))
        )
        assert copy.get_params().keys() == model.get_params().keys()


PROPERTIES = [
    (codes_are_finite_and_decode_to_the_reconstruction, TRANSFORMERS),
    (rows_do_not_depend_on_each_other, TRANSFORMERS),
    (rows_do_not_depend_on_each_other, DETECTORS),
    (labels_p_values_and_shares_are_those_of_scores, DETECTORS),
    (files_and_pickles_have_the_same_predictions, TRANSFORMERS),
    (files_and_pickles_have_the_same_predictions, DETECTORS),
]


@pytest.mark.parametrize("n_examples", [8, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("check", "models"),
    PROPERTIES,
    ids=[f"{check.__name__}-{i}" for i, (check, _) in enumerate(PROPERTIES)],
)
def test_property(check, models, n_examples):
    @settings(
        max_examples=n_examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(models, tables())
    def holds(model, X):
        check(model, X)

    holds()
