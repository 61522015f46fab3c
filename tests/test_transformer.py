"""The transformer in the place of PCA."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine, make_swiss_roll
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.corruptions import Gaussian
from skae.metrics import reconstruction_scorer
from skae.penalties import L1

# Few rows, or nothing to learn: what is tested here does not depend on training.
pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")

MODELS = {
    "default": {},
    "detector": {},
    "random": {"architecture": MLP((16,), start="random")},
    "textbook": {"architecture": MLP((16,), start="random", linear_path=False)},
    "linear": {"architecture": MLP((), start="random")},
    "standard": {"architecture": MLP((16,)), "scaling": "standard"},
    "minmax": {"architecture": MLP((16,)), "scaling": "minmax"},
    "unscaled": {"architecture": MLP((16,)), "scaling": None},
    "sparse": {"architecture": MLP((16,)), "penalty": L1(0.1)},
    "denoising": {"architecture": MLP((16,)), "corruption": Gaussian(0.3)},
}
# Those whose code has the axes of PCA: an L1 penalty depends on the axes.
ORDERED = sorted(set(MODELS) - {"sparse"})


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(300, random_state=0)[0] + [3.0, 0.0, -50.0]


@pytest.fixture(scope="module")
def models(roll):
    """Every model, trained for a moment."""
    fitted = {}
    for name, params in MODELS.items():
        estimator = (
            AutoencoderOutlierDetector if name == "detector" else AutoencoderTransformer
        )
        defaults = {"early_stopping": False, "max_epochs": 10, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted[name] = estimator(2, **defaults | params).fit(roll)
    return fitted


@pytest.fixture(params=MODELS)
def model(request, models):
    return models[request.param]


@pytest.fixture(params=ORDERED)
def ordered(request, models):
    return models[request.param]


# Reconstruction


def test_reconstruct_is_there_and_back(model, roll):
    np.testing.assert_allclose(
        model.reconstruct(roll), model.inverse_transform(model.transform(roll)), 1e-9
    )


def test_shapes(model, roll):
    assert model.transform(roll[:7]).shape == (7, 2)
    assert model.reconstruct(roll[:7]).shape == (7, 3)
    assert model.reconstruction_error(roll[:7]).shape == (7,)
    assert model.reconstruction_error(roll[:7], per_feature=True).shape == (7, 3)


def test_reconstruction_error_is_in_units_of_the_data(model, roll):
    reconstruction = model.inverse_transform(model.transform(roll))
    residual = (roll - reconstruction) ** 2
    per_feature = model.reconstruction_error(roll, per_feature=True)
    np.testing.assert_allclose(per_feature, residual, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        model.reconstruction_error(roll).mean(),
        mean_squared_error(roll, reconstruction),
    )
    np.testing.assert_allclose(
        model.reconstruction_error(roll), per_feature.mean(axis=1)
    )


def test_score_is_the_variance_weighted_r2(model, roll):
    reconstruction = model.reconstruct(roll)
    expected = r2_score(roll, reconstruction, multioutput="variance_weighted")
    assert model.score(roll) == pytest.approx(expected)
    assert model.diagnostics_["r2"] == pytest.approx(expected)
    assert model.explained_variance_ratio_.sum() == pytest.approx(expected)


def test_score_is_against_the_mean_of_the_training_rows(model):
    rows, _ = make_swiss_roll(50, random_state=1)
    left = np.square(rows - model.reconstruct(rows)).sum()
    total = np.square(rows - model.mean_).sum()
    assert model.score(rows) == pytest.approx(1 - left / total)


def test_mean_is_that_of_the_training_rows(model, roll):
    np.testing.assert_allclose(model.mean_, roll.mean(axis=0))


def test_score_of_rows_that_do_not_vary_is_a_number(X):
    model = AutoencoderTransformer(2, random_state=0).fit(X)
    assert np.isfinite(model.score(model.mean_[np.newaxis]))
    assert np.isfinite(model.score(np.tile(X[0], (5, 1))))


# Coordinates of the code


def test_code_is_centred_and_uncorrelated(ordered, roll):
    code = ordered.transform(roll)
    spread = code.std(axis=0)
    assert np.abs(code.mean(axis=0)).max() < 1e-5 * spread.max()
    correlation = np.corrcoef(code, rowvar=False)
    np.testing.assert_allclose(correlation, np.eye(2), atol=1e-4)


def test_code_is_ordered_by_variance(ordered, roll):
    variance = ordered.transform(roll).var(axis=0)
    assert (np.diff(variance) <= 0).all()


def test_largest_loading_is_positive(ordered, roll):
    code = ordered.transform(roll)
    # The loadings of a component: how the scaled reconstruction changes with it, on
    # average over rows.
    for step in 1e-3 * np.eye(2):
        moves = ordered.inverse_transform(code + step) - ordered.reconstruct(roll)
        loadings = moves.mean(axis=0) / ordered.scale_
        assert loadings.max() > 0.99 * np.abs(loadings).max()


def test_code_is_in_units_of_the_data(roll):
    # A decoder that keeps lengths: a step in the code is a step among the rows.
    small, large = (
        AutoencoderTransformer(2, random_state=0, early_stopping=False, max_epochs=20)
        .fit(factor * roll)
        .transform(factor * roll)
        for factor in (1.0, 1000.0)
    )
    np.testing.assert_allclose(large, 1000 * small, rtol=1e-2, atol=10.0)


def test_sparse_code_is_ordered_by_importance(roll):
    # Importance of a component: by how much rows move if it is taken away.
    model = AutoencoderTransformer(
        3,
        architecture=MLP(()),
        penalty=L1(1e-2),
        early_stopping=False,
        max_epochs=20,
        random_state=0,
    ).fit(roll)
    code = model.transform(roll)
    moves = []
    for component in range(3):
        without = code.copy()
        without[:, component] = code[:, component].mean()
        moves.append(
            np.square(
                (model.inverse_transform(without) - model.reconstruct(roll))
                / model.scale_
            ).sum()
        )
    assert (np.diff(moves) < 0).all()


def test_few_components_say_most():
    X = load_digits().data[:79]
    model, pca = AutoencoderTransformer(8).fit(X), PCA(8).fit(X)
    for k in (1, 4):
        code = np.zeros((len(X), 8))
        code[:, :k] = model.transform(X)[:, :k]
        r2 = r2_score(X, model.inverse_transform(code), multioutput="variance_weighted")
        assert r2 == pytest.approx(pca.explained_variance_ratio_[:k].sum(), abs=1e-6)


# Columns with names


@pytest.mark.parametrize(
    ("estimator", "prefix"),
    [
        (AutoencoderTransformer, "autoencodertransformer"),
        (AutoencoderOutlierDetector, "autoencoderoutlierdetector"),
    ],
)
def test_feature_names_out(X, estimator, prefix):
    model = estimator(3).fit(X)
    assert model.get_feature_names_out().tolist() == [f"{prefix}{i}" for i in range(3)]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(X, library):
    frames = pytest.importorskip(library)
    names = list("abcdef")
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    model = AutoencoderTransformer(2, early_stopping=False, max_epochs=2)
    model.set_params(random_state=0).set_output(transform=library)
    out = model.fit_transform(frame)
    assert isinstance(out, frames.DataFrame)
    assert list(out.columns) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert model.feature_names_in_.tolist() == names
    expected = clone(model).set_output(transform="default").fit_transform(X)
    np.testing.assert_allclose(out.to_numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(model.transform(frame).to_numpy(), expected, atol=1e-6)


def test_index_of_rows_is_kept(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(len(X)) + 1000)
    model = AutoencoderTransformer(2, early_stopping=False, max_epochs=2)
    out = model.set_output(transform="pandas").fit_transform(frame)
    assert out.index.equals(frame.index)


# How it looks


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_html(X, estimator, fitted):
    model = estimator(2, architecture=MLP((8,)), max_epochs=5, random_state=0)
    if fitted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X)
    html = model._repr_html_()
    assert estimator.__name__ in html
    assert "hidden_layer_sizes" in html


def test_repr_shows_what_was_changed():
    model = AutoencoderTransformer(2, corruption=Gaussian(0.3), lr=1e-3)
    assert repr(model) == (
        "AutoencoderTransformer(corruption=Gaussian(scale=0.3), lr=0.001, "
        "n_components=2)"
    )


def test_tags():
    tags = get_tags(AutoencoderTransformer())
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
    assert tags.requires_fit
    assert not tags.non_deterministic
    assert not tags.target_tags.required
    assert tags.input_tags.sparse
    assert tags.input_tags.allow_nan


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_rows_come_back_as_the_frames_that_set_output_asks_for(estimator, library):
    frames = pytest.importorskip(library)
    X = load_wine(as_frame=True).data
    X.index = [f"wine {i}" for i in range(len(X))]
    params = {"max_epochs": 3, "early_stopping": False, "random_state": 0}
    if estimator is AutoencoderOutlierDetector:
        params["calibration_fraction"] = 0.2  # else it trains five more networks
    model = estimator(2, **params)
    of_array = model.fit(X)
    code = of_array.transform(X)
    holes = X.mask(X > 100)
    arrays = {
        "reconstruct": (of_array.reconstruct(X), X),
        "inverse_transform": (of_array.inverse_transform(code), code),
        "impute": (of_array.impute(holes), holes),
    }
    model.set_output(transform=library)
    for method, (array, given) in arrays.items():
        assert isinstance(array, np.ndarray)
        frame = getattr(model, method)(given)
        assert isinstance(frame, frames.DataFrame)
        assert list(frame.columns) == list(X.columns)
        np.testing.assert_array_equal(frame.to_numpy(), array)
        if library == "pandas" and given is not code:
            assert frame.index.equals(X.index)
    if estimator is AutoencoderTransformer:
        drawn = model.sample(5, random_state=0)
        assert list(drawn.columns) == list(X.columns)
        assert drawn.shape == (5, 13)
    # A pipeline goes back through frames, and the score is of rows.
    pipeline = make_pipeline(StandardScaler(), clone(model)).set_output(
        transform=library
    )
    back = pipeline.fit(X).inverse_transform(pipeline.transform(X))
    plain = clone(pipeline).set_output(transform="default").fit(X)
    np.testing.assert_allclose(
        back, plain.inverse_transform(plain.transform(X)), rtol=1e-6
    )
    assert reconstruction_scorer(pipeline, X) == pytest.approx(
        reconstruction_scorer(plain, X), abs=1e-6
    )
    # Without names, as those of the code that scikit-learn makes up.
    numbered = clone(model).fit(X.to_numpy()).reconstruct(X.to_numpy())
    assert list(numbered.columns)[:2] == ["x0", "x1"]
    score = model.score(X)
    assert score == model.set_output(transform="default").score(X)
