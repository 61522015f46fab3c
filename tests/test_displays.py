"""Displays: compare numbers with independent ones, and artists with the numbers."""

import inspect
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize, to_rgba
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC, OneClassSVM

from skae import AutoencoderOutlierDetector, AutoencoderTransformer, displays
from skae.architectures import MLP
from skae.bottlenecks import Plain, TopK, Variational
from skae.corruptions import Gaussian
from skae.displays import (
    AnomalyScoreDisplay,
    CodeSizeDisplay,
    ExplanationDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)
from skae.inspection import explain
from skae.losses import Bernoulli

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

NAMES = ["pressure", "temperature", "flow", "level", "current", "noise"]


@pytest.fixture(autouse=True)
def figures():
    """Draw without a screen, check that the settings stay, and close all figures."""
    plt.close("all")
    backend = mpl.get_backend()
    plt.switch_backend("agg")
    settings = mpl.rcParams.copy()
    yield
    assert mpl.rcParams == settings
    plt.close("all")
    plt.switch_backend(backend)


@pytest.fixture
def table(X):
    return pd.DataFrame(X, columns=NAMES, index=[f"day {i}" for i in range(len(X))])


def small(cls=AutoencoderTransformer, **params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "max_epochs": 3,
        "early_stopping": False,
        "random_state": 0,
    }
    return cls(**defaults | params)


def detector(**params):
    return small(AutoencoderOutlierDetector, **params)


@pytest.fixture(scope="module")
def fitted_by_seed():
    return {}


@pytest.fixture
def fitted(X, seed, fitted_by_seed):
    """Return a function that fits an estimator to ``X`` once for all tests.

    Tests must not change the estimators.
    """

    def fit(make):
        if (make, seed) not in fitted_by_seed:
            fitted_by_seed[make, seed] = make().fit(X)
        return fitted_by_seed[make, seed]

    return fit


def pca():
    return PCA(2)


def scaled(model):
    return make_pipeline(StandardScaler(), model)


# All displays


def drawn(name, ax=None):
    """Return a display of the named class, drawn from a few numbers."""
    rng = np.random.RandomState(0)
    rows = rng.normal(size=(3, 4))
    made = {
        "AnomalyScoreDisplay": lambda cls: cls(abnormality=rng.normal(size=20)),
        "CodeSizeDisplay": lambda cls: cls(n_components=[1, 2], scores=rows[:2]),
        "ExplanationDisplay": lambda cls: cls(
            feature_names="abcd", value=rows[0], expected=rows[1], share=rows[2] ** 2
        ),
        "LatentSpaceDisplay": lambda cls: cls(code=rows[:, :2]),
        "LossCurveDisplay": lambda cls: cls(train_loss=[3.0, 2.0]),
        "ReconstructionDisplay": lambda cls: cls(
            original=rows, reconstruction=rows, image_shape=(2, 2)
        ),
    }
    return made[name](getattr(displays, name)).plot(ax=ax)


@pytest.mark.parametrize("name", displays.__all__)
def test_plot_makes_axes_or_takes_them(name):
    display = drawn(name)
    assert display.ax_.figure is display.figure_
    assert len(plt.get_fignums()) == 1
    _, axes = plt.subplots(1, 2)
    display.plot(ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is axes[1].figure
    assert len(plt.get_fignums()) == 2
    assert not axes[0].has_data()
    display.figure_.draw_without_rendering()


@pytest.mark.parametrize("name", displays.__all__)
def test_ax_must_be_axes(name):
    with pytest.raises(TypeError, match=r"ax must be matplotlib Axes or None\. Got 3"):
        drawn(name, ax=3)


@pytest.mark.parametrize("name", displays.__all__)
def test_parameters_are_attributes_and_keyword_only(name):
    display = drawn(name)
    parameters = inspect.signature(type(display)).parameters
    assert all(hasattr(display, parameter) for parameter in parameters)
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.slow
def test_matplotlib_is_imported_late_and_its_absence_reported():
    code = """if True:
        import sys
        import skae
        assert "matplotlib" not in sys.modules
        sys.modules["matplotlib"] = None
        for name in skae.displays.__all__:
            try:
                getattr(skae.displays, name).from_estimator(*[None] * (1 + (
                    name != "LossCurveDisplay")))
            except ImportError as error:
                assert "from_estimator requires matplotlib" in str(error)
            else:
                raise AssertionError(name)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


# Reconstruction


@pytest.mark.parametrize(
    "make", [small, pca, lambda: scaled(small()), detector], ids=range(4)
)
def test_reconstruction_is_that_of_the_estimator(make, X, fitted):
    model = fitted(make)
    expected = model.inverse_transform(model.transform(X[:5]))
    for image_shape in (None, (2, 3)):
        display = ReconstructionDisplay.from_estimator(
            model, X, n_samples=5, image_shape=image_shape
        )
        np.testing.assert_array_equal(display.original, X[:5])
        np.testing.assert_allclose(display.reconstruction, expected)
        errors = ((X[:5] - expected) ** 2).mean(axis=1)
        np.testing.assert_allclose(display.errors, errors)
        for line, rows in enumerate((X[:5], expected)):
            for i, row in enumerate(rows):
                if image_shape is None:
                    seen = display.lines_[line, i].get_ydata()
                else:
                    seen = display.images_[line, i].get_array().data.ravel()
                np.testing.assert_allclose(seen, row)


def test_images_have_the_same_grey_levels_and_do_not_overlap(X):
    display = ReconstructionDisplay.from_estimator(
        PCA(2).fit(X), X, n_samples=3, image_shape=(1, 3, 2), im_kw={"cmap": "bone"}
    )
    boxes = []
    for image in display.images_.ravel():
        assert image.get_clim() == (X[:3].min(), X[:3].max())
        assert image.get_cmap().name == "bone"
        left, right, low, high = image.get_extent()
        assert (right - left, high - low) == pytest.approx((2, 3))
        assert not any(
            left < box[1] and box[0] < right and low < box[3] and box[2] < high
            for box in boxes
        )
        boxes.append((left, right, low, high))
    originals, reconstructions = display.images_
    assert originals[0].get_extent()[2] > reconstructions[0].get_extent()[3]
    labels = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    np.testing.assert_allclose(np.array(labels, float), display.errors, rtol=0.05)


def test_a_norm_of_colours_replaces_the_limits(X):
    display = ReconstructionDisplay.from_estimator(
        PCA(2).fit(X), X, image_shape=(2, 3), im_kw={"norm": Normalize(-1, 7)}
    )
    assert {image.get_clim() for image in display.images_.ravel()} == {(-1, 7)}


@pytest.mark.parametrize(
    ("top", "unit"), [(1.0, 1.0), (255.0, 255.0), (None, None)], ids=str
)
def test_colours_come_first_and_keep_their_scale(rng, top, unit):
    rows = rng.uniform(size=(4, 3 * 2 * 5)) * (top or 1)
    if top is None:
        rows = rows * 1000 - 500
        low, unit = rows.min(), np.ptp(rows)
    else:
        low = 0
    display = ReconstructionDisplay(
        original=rows, reconstruction=rows + unit, image_shape=(3, 2, 5)
    ).plot()
    seen = display.images_[0, 1].get_array()
    assert seen.shape == (2, 5, 3)
    blue = rows[1].reshape(3, 2, 5)[2]
    np.testing.assert_allclose(seen[..., 2], (blue - low) / unit, atol=1e-9)
    # Values out of range are clipped.
    assert (display.images_[1, 1].get_array() == 1).all()


# A single panel, and two columns of panels of which one is not full.
@pytest.mark.parametrize("n_samples", [1, 5])
def test_every_curve_has_a_panel(table, n_samples):
    display = ReconstructionDisplay.from_estimator(
        PCA(2).fit(table), table, n_samples=n_samples, line_kw={"lw": 5}
    )
    assert len(set(display.axes_)) == n_samples
    display.figure_.draw_without_rendering()
    ticks = [tick.get_text() for tick in display.axes_[-1].get_xticklabels()]
    assert ticks == NAMES
    assert display.lines_[0, 0].get_linewidth() == 5
    with pytest.raises(ValueError, match="must not be divided yet"):
        display.plot(ax=display.ax_)


def test_curves_need_axes_of_a_grid(X):
    ax = plt.figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="must belong to a grid"):
        ReconstructionDisplay.from_estimator(PCA(2).fit(X), X, ax=ax)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": (2, 2)}, r"\(2, 2\) is of 4 values, but rows have 6 columns"),
        ({"image_shape": (1, 2, 3, 1)}, r"Got \(1, 2, 3, 1\)"),
        ({"image_shape": 6}, "must be .height, width. or"),
        ({"image_shape": (2, 3.0)}, "positive integers"),
        ({"image_shape": (2, 1, 3)}, "1 or 3 channels, which come first"),
        ({"n_samples": 0}, "n_samples"),
        ({"feature_names": ["a"]}, "one name for each of the 6 columns. Got 1"),
    ],
    ids=str,
)
def test_bad_reconstruction(X, params, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_estimator(PCA(2).fit(X), X, **params)


def test_reconstruction_needs_an_inverse(X):
    with pytest.raises(TypeError, match=r"ReconstructionDisplay .* without transform"):
        ReconstructionDisplay.from_estimator(IsolationForest(), X)
    with pytest.raises(NotFittedError):
        ReconstructionDisplay.from_estimator(small(), X)


# Latent space


@pytest.mark.parametrize(
    "model",
    [small(n_components=3), make_pipeline(StandardScaler(), PCA(3)), TruncatedSVD(3)],
    ids=str,
)
def test_points_are_the_code(model, X):
    model.fit(X)
    display = LatentSpaceDisplay.from_estimator(
        model, X, components=(2, 0), scatter_kw={"s": 3}
    )
    code = model.transform(X)[:, [2, 0]]
    np.testing.assert_allclose(display.code, code)
    np.testing.assert_allclose(display.scatter_.get_offsets(), code)
    assert display.scatter_.get_sizes() == [3]
    last = model[-1] if hasattr(model, "steps") else model
    share = last.explained_variance_ratio_[2]
    label = f"component 2 ({share:.1%} of the variance)"
    assert display.ax_.get_xlabel() == label
    assert display.legend_ is display.colorbar_ is None


@pytest.mark.parametrize("name", ["linewidth", "linewidths", "lw"])
def test_keywords_may_be_aliases(X, name):
    display = LatentSpaceDisplay.from_estimator(
        PCA(2).fit(X), X, scatter_kw={name: 1.5}
    )
    assert display.scatter_.get_linewidth() == [1.5]


def test_codes_without_shares_or_in_sparse_form(X):
    model = small(
        n_components=4, bottleneck=TopK(2, sparse_output=True), max_epochs=1
    ).fit(X)
    display = LatentSpaceDisplay.from_estimator(model, X, components=(1, 3))
    np.testing.assert_allclose(display.code, model.transform(X).toarray()[:, [1, 3]])
    scaled = LatentSpaceDisplay.from_estimator(StandardScaler().fit(X), X)
    assert scaled.ax_.get_ylabel() == "component 1"


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: rng.choice(["b", "a", "c"], 150),
        lambda rng: rng.choice([7, -1], 150),
        lambda rng: rng.choice([0.0, 3.0], 150),
        lambda rng: rng.choice([True, False], 150),
        lambda rng: np.array(["x", None], dtype=object)[rng.choice(2, 150)],
    ],
)
def test_labels_have_one_colour_each(X, rng, make):
    y = make(rng)
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, y)
    colours = display.scatter_.get_facecolors()
    names = [text.get_text() for text in display.legend_.get_texts()]
    handles = dict(zip(names, display.legend_.legend_handles, strict=True))
    assert len({handle.get_color() for handle in handles.values()}) == len(names)
    for label in set(y):
        name = str(int(label)) if isinstance(label, float) else str(label)
        expected = to_rgba(handles[name].get_color(), alpha=0.8)
        seen = colours[np.array([value == label for value in y])]
        np.testing.assert_allclose(seen, np.tile(expected, (len(seen), 1)))


def test_rare_labels_share_a_grey(X):
    y = np.array([f"kind {min(i, 12):02d}" for i in range(150)])
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, y)
    names = [text.get_text() for text in display.legend_.get_texts()]
    assert names == [*[f"kind {k:02d}" for k in range(9)], "kind 12", "3 others"]
    assert len(np.unique(display.scatter_.get_facecolors(), axis=0)) == 11


@pytest.mark.parametrize(
    "y", [np.arange(150), np.arange(150) / 7, np.arange(150) % 2 / 2]
)
def test_numbers_have_a_colour_bar(X, y):
    y = pd.Series(y, name="age")
    display = LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, y)
    np.testing.assert_allclose(display.scatter_.get_array(), y)
    assert display.colorbar_.ax.get_ylabel() == "age"
    assert display.legend_ is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"components": (0, 2)}, r"two of the 2 components .* Got \[0, 2\]"),
        ({"components": (0,)}, "two of the 2 components"),
        ({"components": 0}, "two of the 2 components"),
        ({"components": (True, False)}, "two of the 2 components"),
        ({"components": (True, 0)}, "two of the 2 components"),
        ({"components": (-1, 0)}, "counted from 0"),
        ({"y": [1, 2]}, "inconsistent numbers of samples"),
        ({"y": np.r_[np.nan, np.arange(149.0)]}, "y contains NaN"),
    ],
    ids=str,
)
def test_bad_latent_space(X, params, message):
    with pytest.raises(ValueError, match=message):
        LatentSpaceDisplay.from_estimator(PCA(2).fit(X), X, **params)


def test_latent_space_needs_a_code(X):
    with pytest.raises(TypeError, match=r"LatentSpaceDisplay needs .* with transform"):
        LatentSpaceDisplay.from_estimator(IsolationForest(), X)


# Loss curve


@pytest.fixture
def trained(rng, X):
    """Return a model with a validation set that keeps the weights of an epoch."""
    curved = np.c_[X[:, 0], X[:, 0] ** 2, X[:, 1], X[:, 1] * X[:, 0]]
    model = small(max_epochs=20, early_stopping=True, validation_fraction=0.3)
    model.set_params(architecture__start="pca")
    return model.fit(np.repeat(curved, 3, axis=0))


def test_losses_are_those_of_the_history(trained):
    display = LossCurveDisplay.from_estimator(trained, line_kw={"ls": ":"})
    train, valid = display.lines_
    np.testing.assert_array_equal(train.get_ydata(), trained.history_["train_loss"])
    np.testing.assert_array_equal(valid.get_ydata(), trained.history_["valid_loss"])
    np.testing.assert_array_equal(valid.get_xdata(), np.arange(trained.n_iter_) + 1)
    assert valid.get_linestyle() == ":"
    assert f"({trained.diagnostics_['n_held_out']} rows)" in valid.get_label()
    start = trained.diagnostics_["initial_loss"]
    assert set(display.start_.get_ydata()) == {start}
    assert trained.best_epoch_ > 0
    assert display.best_.get_xdata() == [trained.best_epoch_]
    assert display.best_.get_ydata() == valid.get_ydata()[trained.best_epoch_ - 1]


def fitted_from(start, model, *args, **kwargs):
    """Fit a model and say whether it starts at PCA, if its diagnostics do not."""
    model.fit(*args, **kwargs).diagnostics_.setdefault("starts_at_pca", start == "PCA")
    return model


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({}, "PCA"),
        ({"corruption": Gaussian(0.1), "bottleneck": Plain()}, "PCA"),
        ({"bottleneck": Plain("tanh")}, None),
        ({"bottleneck": Variational()}, None),
        ({"architecture": MLP((8,), linear_path=False, start="random")}, None),
        ({"loss": Bernoulli()}, None),
    ],
    ids=str,
)
def test_the_start_is_called_pca_only_where_it_is(X, params, name):
    X = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    model = small(early_stopping=True, **params)
    model = fitted_from(name, model, X, X_val=X[:60])
    display = LossCurveDisplay.from_estimator(model)
    assert display.start_name == name
    label = "start" if name is None else f"start: {name}"
    assert display.start_.get_label() == label


def test_the_start_is_that_of_the_fit_not_of_the_parameters(X):
    model = fitted_from("PCA", small(early_stopping=True), X, X_val=X[:60])
    model.set_params(warm_start=True, bottleneck=Variational(), loss=Bernoulli())
    display = LossCurveDisplay.from_estimator(model)
    assert display.start_.get_label() == "start: PCA"
    model.set_params(bottleneck=None, loss=None)
    fitted_from(None, model, X, X_val=X[:60])
    for warm_start in (True, False):
        model.set_params(warm_start=warm_start)
        display = LossCurveDisplay.from_estimator(model)
        assert display.start_.get_label() == "start"


def test_a_start_that_is_kept_is_marked(rng):
    X = rng.normal(size=(300, 6))  # nothing to learn
    model = AutoencoderTransformer(2, random_state=0).fit(X)
    assert model.best_epoch_ == 0
    pipeline = make_pipeline(scaled(model), LinearSVC())  # neither last nor outermost
    display = LossCurveDisplay.from_estimator(pipeline)
    point = display.best_.get_xdata()[0], display.best_.get_ydata()[0]
    assert point == (0, model.diagnostics_["initial_loss"])


def test_no_step_is_drawn_as_text(X):
    model = fitted_from("PCA", AutoencoderTransformer(2, random_state=0), X[:79])
    assert model.n_iter_ == 0
    display = LossCurveDisplay.from_estimator(model)
    assert display.lines_ == []
    assert display.start_ is display.best_ is None
    (text,) = display.ax_.texts
    assert text.get_text() == "no step was taken\nthe model is PCA"
    display.figure_.draw_without_rendering()


def test_without_a_validation_set_there_is_one_curve(fitted):
    display = LossCurveDisplay.from_estimator(fitted(small))
    (line,) = display.lines_
    assert display.start_ is None
    assert display.best_.get_ydata() == line.get_ydata()[-1]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([20.0, 1.0], "log"),
        ([10.0, 1.0], "log"),
        ([9.0, 1.0], "linear"),
        ([20.0, -1.0], "linear"),
        ([20.0, np.nan], "linear"),
    ],
    ids=str,
)
def test_losses_that_span_decades_are_on_a_logarithmic_axis(losses, scale):
    display = LossCurveDisplay(train_loss=losses).plot()
    assert display.ax_.get_yscale() == scale


def test_loss_curve_needs_one_estimator_of_skae(X):
    with pytest.raises(TypeError, match=r"estimator of skae.* Got 0"):
        LossCurveDisplay.from_estimator(PCA(2).fit(X))
    with pytest.raises(TypeError, match="Got 2"):
        LossCurveDisplay.from_estimator(make_pipeline(small(), small()))
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(small())


# Anomaly scores


@pytest.mark.parametrize(
    "make",
    [
        detector,
        lambda: IsolationForest(n_estimators=10, random_state=0),
        lambda: LocalOutlierFactor(novelty=True),
        OneClassSVM,
        lambda: scaled(make_pipeline(PCA(5), OneClassSVM())),
    ],
    ids=range(5),
)
def test_flagged_rows_are_those_predicted_as_outliers(make, X, rng, fitted):
    model = fitted(make)
    rows = np.r_[X, 3 * rng.normal(size=(30, 6))]
    y = np.repeat([0, 1], [150, 30])
    display = AnomalyScoreDisplay.from_estimator(model, rows, y)
    flagged = model.predict(rows) == -1
    np.testing.assert_allclose(display.abnormality, -model.score_samples(rows))
    np.testing.assert_array_equal(display.abnormality > display.threshold, flagged)
    assert set(display.line_.get_xdata()) == {display.threshold}
    labels = [stairs.get_label() for stairs in display.stairs_]
    assert labels == [
        f"normal: {flagged[:150].mean():.1%} flagged",
        f"outliers: {flagged[150:].mean():.1%} flagged",
    ]
    for stairs, kind in zip(display.stairs_, (0, 1), strict=True):
        values, edges, _ = stairs.get_data()
        scores = display.abnormality[y == kind]
        places = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, 39)
        np.testing.assert_allclose(
            values, np.bincount(places, minlength=40) / len(scores)
        )


@pytest.mark.parametrize("labels", [(0, 1), (False, True), (1, -1)], ids=str)
def test_labels_are_those_of_the_scorer(labels):
    scores = np.r_[np.zeros(5), np.ones(3)]
    display = AnomalyScoreDisplay.from_predictions(np.repeat(labels, [5, 3]), scores)
    np.testing.assert_array_equal(display.is_outlier, scores == 1)
    assert [s.get_label() for s in display.stairs_] == ["normal", "outliers"]
    assert display.line_ is None


@pytest.mark.parametrize(
    ("scores", "threshold", "scale"),
    [
        ([1.0, 40.0], None, "log"),
        ([1.0, 20.0], None, "linear"),
        ([1.0, 20.0], 50.0, "log"),
        ([0.0, 40.0], None, "linear"),
        ([1.0, 40.0], 0.0, "linear"),
        ([2.0, 2.0], None, "linear"),
    ],
    ids=str,
)
def test_scores_that_span_decades_are_on_a_logarithmic_axis(scores, threshold, scale):
    display = AnomalyScoreDisplay.from_predictions(None, scores, threshold=threshold)
    assert display.ax_.get_xscale() == scale
    (stairs,) = display.stairs_
    assert stairs.get_data().values.sum() == pytest.approx(1)
    display.plot(log_scale=False, stairs_kw={"fc": "black"})
    assert display.ax_.get_xscale() == "linear"
    assert display.stairs_[0].get_facecolor() == to_rgba("black", 0.7)


@pytest.mark.parametrize("bins", [7, [0.5, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("log_scale", [True, False])
def test_every_score_is_in_a_bin(rng, bins, log_scale):
    scores = rng.uniform(1, 4, size=100)
    display = AnomalyScoreDisplay.from_predictions(
        None, scores, bins=bins, log_scale=log_scale
    )
    values, edges, _ = display.stairs_[0].get_data()
    assert values.sum() == pytest.approx(1)
    assert len(values) == (7 if bins == 7 else 3)
    if log_scale and bins == 7:
        np.testing.assert_allclose(edges[1:] / edges[:-1], edges[1] / edges[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y_true": [0, 0, 0]}, "with both present"),
        ({"y_true": [0, 1]}, "inconsistent numbers of samples"),
        ({"abnormality": [0.0, np.inf, 1.0]}, "abnormality contains infinity"),
        ({"log_scale": True, "threshold": -1}, "needs positive scores"),
        ({"log_scale": "yes"}, "Got 'yes'"),
        ({"bins": 0}, "bins"),
        ({"bins": [3]}, r"two or more edges in rising order. Got \[3\]"),
        ({"bins": [3, 1]}, "two or more edges in rising order"),
        ({"bins": [[1, 3]]}, "two or more edges in rising order"),
        ({"abnormality": []}, "at least one row"),
    ],
    ids=str,
)
def test_bad_scores(given, message):
    given = {"y_true": None, "abnormality": [1.0, 2.0, 3.0]} | given
    with pytest.raises(ValueError, match=message):
        AnomalyScoreDisplay.from_predictions(**given)
    assert not plt.get_fignums()


@pytest.mark.parametrize("log_scale", [True, False])
@pytest.mark.parametrize(
    "scores",
    [
        [1, 1 + 2.3e-16],
        [1e300] * 10,
        [1e-20, 1.0000001e-20],
        [3e-9] * 2,
        [7, 7 + 1e-14],
    ],
    ids=str,
)
def test_scores_equal_up_to_rounding_are_drawn(scores, log_scale):
    display = AnomalyScoreDisplay.from_predictions(None, scores, log_scale=log_scale)
    values, edges, _ = display.stairs_[0].get_data()
    assert values.sum() == pytest.approx(1)
    assert len(values) == 40
    assert (np.diff(edges) > 0).all()


def test_detectors_with_other_methods(X):
    y = X[:, 0] > X[:, 0].mean()
    margin = LinearSVC(random_state=0).fit(X, y)
    display = AnomalyScoreDisplay.from_estimator(margin, X)
    np.testing.assert_allclose(display.abnormality, -margin.decision_function(X))
    assert display.threshold == 0
    assert AnomalyScoreDisplay.from_estimator(PCA(2).fit(X), X).threshold is None
    with pytest.raises(TypeError, match="novelty=True"):
        AnomalyScoreDisplay.from_estimator(LocalOutlierFactor().fit(X), X)


# Explanations


@pytest.fixture
def frozen(fitted):
    """Return a detector as the last step of pipelines, which do not fit it again."""
    return FrozenEstimator(fitted(detector))


def test_bars_are_the_largest_shares(table, rng):
    model = detector().fit(table)
    rows = table.iloc[:4] + rng.normal(size=(4, 6))
    display = ExplanationDisplay.from_estimator(model, rows, row=2, top_k=3)
    explanation = model.explain(rows)
    frame = explanation.to_frame(3)
    frame = frame[frame["row"] == "day 2"]
    code_share = explanation.code_share[2]
    assert code_share > 0.005
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_allclose(widths, [*frame["share"], code_share])
    names = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert names == [*frame["feature"], "code"]
    for text, line in zip(display.texts_, frame.itertuples(), strict=False):
        value, expected = text.get_text().split(", expected ")
        assert float(value) == pytest.approx(line.value, rel=0.01)
        assert float(expected) == pytest.approx(line.expected, rel=0.01)
    assert display.ax_.get_title(loc="left") == "row day 2"
    tops = [bar.get_y() for bar in display.bars_]
    assert display.ax_.yaxis_inverted()
    assert tops == sorted(tops)
    same = ExplanationDisplay.from_explanation(explanation, row=2, top_k=3)
    np.testing.assert_allclose([bar.get_width() for bar in same.bars_], widths)
    texts = [text.get_text() for text in display.texts_]
    assert [text.get_text() for text in same.texts_] == texts


def test_a_negligible_share_of_the_code_has_no_bar():
    display = ExplanationDisplay(
        feature_names=["a", "b"],
        value=np.array([1234.5, 0.00123456]),
        expected=np.array([-1e9, 1.0]),
        share=np.array([0.4, 0.597]),
        code_share=0.003,
    ).plot(bar_kw={"fc": "black"})
    assert [bar.get_width() for bar in display.bars_] == [0.597, 0.4]
    texts = [text.get_text() for text in display.texts_]
    assert texts == ["0.00123, expected 1", "1,234, expected -1e+09"]
    assert display.bars_[0].get_facecolor() == to_rgba("black")


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "steps",
    [
        lambda last: (StandardScaler(), last),
        lambda last: (StandardScaler(), make_pipeline(MinMaxScaler(), last)),
        lambda last: ("passthrough", detector()),
        lambda last: ("passthrough", StandardScaler(), last),
        lambda last: (make_pipeline(StandardScaler()), make_pipeline(last)),
    ],
    ids=range(5),
)
def test_scaled_columns_are_explained_in_their_own_units(steps, named, table, frozen):
    rows = table if named else table.to_numpy()
    pipeline = make_pipeline(*steps(frozen)).fit(rows)
    display = ExplanationDisplay.from_estimator(pipeline, rows, row=7)
    np.testing.assert_allclose(display.value, table.iloc[7])
    before, last = pipeline[:-1], pipeline[-1]
    if isinstance(last, Pipeline):
        before, last = make_pipeline(before, *last[:-1]), last[-1]
    inner = last.explain(before.transform(rows)[7:8])
    np.testing.assert_allclose(display.share, inner.share[0])
    # The detector has an inverse, as the steps before it.
    expected = pipeline.inverse_transform(pipeline.transform(rows))[7]
    np.testing.assert_allclose(display.expected, expected, rtol=1e-5, atol=1e-5)
    names = NAMES if named else [f"x{k}" for k in range(6)]
    assert list(display.feature_names) == names
    assert display.row_name == ("day 7" if named else "7")


def test_a_pipeline_is_explained_in_the_columns_of_the_data(rng):
    words = pd.DataFrame(rng.choice(["a", "b", "c"], (60, 3)), columns=["p", "q", "r"])
    pipeline = make_pipeline(OrdinalEncoder(), detector()).fit(words)
    display = ExplanationDisplay.from_estimator(pipeline, words, row=7)
    explanation = explain(pipeline, words[7:8])
    assert list(display.feature_names) == ["p", "q", "r"]
    texts = [
        f"{words.iloc[7, k]}, expected {explanation.expected[0, k]}"
        for k in np.argsort(-explanation.share[0])
    ]
    assert [text.get_text() for text in display.texts_][:3] == texts


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"row": 150}, "one of 150 rows, counted from 0. Got 150"),
        ({"row": -1}, "Got -1"),
        ({"row": "a"}, "Got 'a'"),
        ({"top_k": 0}, "top_k"),
    ],
    ids=str,
)
def test_bad_row(X, fitted, params, message):
    with pytest.raises(ValueError, match=message):
        ExplanationDisplay.from_estimator(fitted(detector), X, **params)


def test_explanations_come_from_explain(X):
    with pytest.raises(TypeError, match="without explain"):
        ExplanationDisplay.from_estimator(IsolationForest(), X)
    with pytest.raises(TypeError, match=r"AutoencoderOutlierDetector\.explain"):
        ExplanationDisplay.from_explanation({"share": X})


# Code sizes


@pytest.mark.parametrize("scaled", [False, True])
def test_scores_are_those_of_folds_fitted_by_hand(X, scaled):
    folds = KFold(2, shuffle=True, random_state=0)
    model = small()
    pipeline = make_pipeline(StandardScaler(), model) if scaled else model
    display = CodeSizeDisplay.from_estimator(
        pipeline, X, n_components=[3, 1], cv=folds, line_kw={"lw": 4}
    )
    np.testing.assert_array_equal(display.n_components, [1, 3])
    for scores, reducer in (
        (display.scores, small),
        (display.pca_scores, lambda n_components: PCA(n_components)),
    ):
        by_hand = np.empty((2, 2))
        for i, size in enumerate((1, 3)):
            for j, (train, test) in enumerate(folds.split(X)):
                units = X[train].std(axis=0) if scaled else 1.0
                mean = X[train].mean(axis=0)
                fitted = reducer(n_components=size).fit((X[train] - mean) / units)
                code = fitted.transform((X[test] - mean) / units)
                back = fitted.inverse_transform(code) * units + mean
                residual = ((X[test] - back) ** 2).sum()
                by_hand[i, j] = 1 - residual / ((X[test] - mean) ** 2).sum()
        np.testing.assert_allclose(scores, by_hand, rtol=1e-3, atol=1e-3)
    for line, band, scores in zip(
        display.lines_,
        display.bands_,
        (display.scores, display.pca_scores),
        strict=True,
    ):
        assert line.get_linewidth() == 4
        np.testing.assert_allclose(line.get_ydata(), scores.mean(axis=1))
        error = scores.std(axis=1, ddof=1) / np.sqrt(2)
        corners = band.get_paths()[0].vertices
        for x, mean, half in zip((1, 3), scores.mean(axis=1), error, strict=True):
            heights = corners[corners[:, 0] == x, 1]
            assert heights.min() == pytest.approx(mean - half)
            assert heights.max() == pytest.approx(mean + half)
    assert not hasattr(model, "components_")  # clones were fitted


def test_default_sizes_are_powers_of_two_below_the_rank(X):
    wide = np.c_[X, X[:, :3] ** 2]
    assert wide.shape[1] == 9
    display = CodeSizeDisplay.from_estimator(PCA(), wide)
    np.testing.assert_array_equal(display.n_components, [1, 2, 4, 8])
    assert display.scores.shape == (4, 5)
    assert display.pca_scores is None
    few = CodeSizeDisplay.from_estimator(PCA(), wide[:6], cv=3)
    np.testing.assert_array_equal(few.n_components, [1, 2])
    split = [(np.arange(100), np.arange(100, 150))]
    once = CodeSizeDisplay.from_estimator(PCA(), wide, cv=split)
    assert once.bands_ == []


def test_sizes_of_a_pipeline_in_a_pipeline(X):
    inner = make_pipeline(StandardScaler(with_std=False), small())
    display, expected = (
        CodeSizeDisplay.from_estimator(model, X, n_components=[1, 2], cv=2)
        for model in (make_pipeline(StandardScaler(), inner), inner)
    )
    assert display.name == "AutoencoderTransformer"
    assert display.scores.shape == expected.scores.shape
    assert not np.allclose(display.pca_scores, expected.pca_scores)


@pytest.mark.parametrize("sizes", [[], [0, 1], [1.5], "ab"], ids=str)
def test_bad_sizes(X, sizes):
    with pytest.raises(ValueError, match="positive integers"):
        CodeSizeDisplay.from_estimator(small(), X, n_components=sizes)


def test_bad_candidates(X):
    with pytest.raises(ValueError, match="n_components=7 must be between"):
        CodeSizeDisplay.from_estimator(small(), X, n_components=[7])
    with pytest.raises(TypeError, match="with n_components, or a Pipeline"):
        CodeSizeDisplay.from_estimator(StandardScaler(), X)
    with pytest.raises(TypeError, match="without inverse_transform"):
        CodeSizeDisplay.from_estimator(IsolationForest(), X)


def test_the_live_curve_of_the_guide(X, monkeypatch):
    guide = Path(__file__).parent.parent / "docs/guide/progress.rst"
    code = guide.read_text(encoding="utf-8").partition(".. _live-curve:")[2]
    code = code.partition(".. code-block:: python\n")[2]
    lines = takewhile(lambda line: line.startswith(" ") or not line, code.split("\n"))
    shown = []

    class Place:
        def update(self, figure):
            shown.append([line.get_ydata() for line in figure.axes[0].lines])

    ipython = ModuleType("IPython.display")
    ipython.display = lambda text, display_id: Place()
    package = ModuleType("IPython")
    package.version_info, package.get_ipython = (9, 0), lambda: None  # for Matplotlib
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    X = np.tile(X, (4, 1))  # 600 rows: fewer would train without a validation set
    few = "Transformer(2, max_epochs=3, random_state=0,"
    exec(dedent("\n".join(lines)).replace("Transformer(8,", few), {"X": X})
    assert [len(train) for train, _ in shown] == [1, 2, 3]
    assert all(len(valid) == len(train) for train, valid in shown)
    assert not plt.get_fignums()
