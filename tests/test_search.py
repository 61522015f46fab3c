"""AutoencoderSearchCV, against GridSearchCV of scikit-learn."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    StandardScaler,
)

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._training import device, together
from skae.architectures import MLP, Conv
from skae.bottlenecks import Nested
from skae.exceptions import FitWarning, LargestCodeWarning
from skae.metrics import (
    make_outlier_scorer,
    one_standard_error,
    reconstruction_scorer,
)
from skae.model_selection import AutoencoderSearchCV, _joint


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, FitWarning, LargestCodeWarning):
            warnings.simplefilter("ignore", category)
        yield


@pytest.fixture
def X(rng):
    factors = rng.uniform(-2, 2, size=(600, 3))
    X = np.sin(factors @ rng.normal(size=(3, 6)))
    return X + 0.1 * rng.normal(size=X.shape)


@pytest.fixture
def y(X):
    return (X[:, 0] + X[:, 1] > 0).astype(int)


def small(n_components=2, estimator=AutoencoderTransformer, **params):
    """Return a model whose gradients are clear of rounding in every step."""
    defaults = {
        "architecture": MLP((8,), start="random", activation="tanh"),
        "optimizer": "sgd",
        "lr": 0.1,
        "max_epochs": 4,
        "random_state": 0,
    }
    return estimator(n_components, **defaults | params)


def both(X, estimator, grid, y=None, *, fit_params=None, **params):
    """Return a search of each kind."""
    fit_params = fit_params or {}
    kinds = AutoencoderSearchCV, GridSearchCV
    return [
        kind(clone(estimator), grid, **params).fit(X, y, **fit_params) for kind in kinds
    ]


def assert_same(own, plain, atol=1e-5):
    """Check that searches have the same results, but for times."""
    expected = dict(plain.cv_results_)
    found = dict(own.cv_results_)
    assert len(found.pop("how")) == len(found["params"])
    assert found.keys() == expected.keys()
    assert found["params"] == expected["params"]
    for name, values in expected.items():
        if "_score" in name or "rank_" in name:
            if name.startswith(("mean_score_time", "std_score_time")):
                continue
            np.testing.assert_allclose(found[name], values, atol=atol, err_msg=name)
    for name in ("best_index_", "best_params_", "n_splits_", "multimetric_"):
        assert getattr(own, name, None) == getattr(plain, name, None)


def how(search):
    return search.cv_results_["how"].tolist()


# What is trained together


@pytest.mark.slow
def test_sizes_and_rates_are_one_stack(X):
    grid = {"n_components": [1, 2, 3], "lr": [0.1, 0.03]}
    own, plain = both(X, small(), grid, cv=3)
    assert_same(own, plain)
    assert how(own) == ["stack of 18"] * 6
    np.testing.assert_allclose(own.transform(X), plain.transform(X), atol=1e-5)
    np.testing.assert_allclose(own.best_score_, plain.best_score_, atol=1e-5)
    assert own.score(X) == pytest.approx(plain.score(X))
    assert (own.cv_results_["mean_fit_time"] > 0).all()


def test_folds_of_other_sizes_are_other_stacks(X):
    own, plain = both(X[:-1], small(), {"n_components": [1, 2]}, cv=3)
    assert_same(own, plain)
    assert how(own) == ["stack of 2, stack of 4"] * 2


def test_what_cannot_be_stacked_is_fitted_alone(X):
    candidates = [MLP((8,), norm="layer"), Conv((1, 6), channels=(2,))]
    own, plain = both(X, small(max_epochs=1), {"architecture": candidates}, cv=2)
    assert_same(own, plain)
    assert how(own) == ["alone", "alone"]


def test_other_components_are_in_the_same_search(X):
    grid = [
        {"architecture": [MLP((8,), start="random")], "n_components": [1, 2]},
        {"architecture": [MLP((4,), start="random")]},
    ]
    own, plain = both(X, small(), grid, cv=2)
    assert_same(own, plain)
    assert how(own) == ["stack of 4", "stack of 4", "stack of 2"]


@pytest.mark.slow
def test_detectors(X):
    y = np.arange(len(X)) % 20 == 0
    X[y] += 4 * np.eye(6)[np.arange(30) % 6]
    own, plain = both(
        X,
        small(estimator=AutoencoderOutlierDetector),
        {"n_components": [1, 2]},
        y,
        cv=2,
        scoring=make_outlier_scorer(),
    )
    assert_same(own, plain, atol=1e-3)
    # Of both candidates, with the models that set their thresholds.
    assert how(own) == ["stack of 20"] * 2
    np.testing.assert_array_equal(own.predict(X), plain.predict(X))


@pytest.mark.slow
def test_nested_codes_are_taken_from_the_largest(X):
    model = small(bottleneck=Nested())
    grid = {"n_components": [1, 2, 3], "lr": [0.1, 0.03]}
    own, plain = both(X, model, grid, cv=2)
    by_size = {params["n_components"]: [] for params in own.cv_results_["params"]}
    for params, text in zip(own.cv_results_["params"], how(own), strict=True):
        by_size[params["n_components"]].append(text)
    assert by_size == {
        1: ["first components of 3"] * 2,
        2: ["first components of 3"] * 2,
        3: ["stack of 4"] * 2,
    }
    # The scores are those of the truncated model.
    train, test = next(KFold(2).split(X))
    fitted = clone(model).set_params(n_components=3, lr=0.1).fit(X[train])
    for i, params in enumerate(own.cv_results_["params"]):
        if params["lr"] == 0.1:
            score = fitted.truncate(params["n_components"]).score(X[test])
            found = own.cv_results_["split0_test_score"][i]
            assert found == pytest.approx(score, abs=1e-5)
    assert own.cv_results_.keys() - plain.cv_results_.keys() == {"how"}


# Pipelines


class Counted(TransformerMixin, BaseEstimator):
    """Counts the fits of all its copies."""

    n_fits = 0

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None):
        Counted.n_fits += 1
        return self

    def transform(self, X):
        return self.factor * X

    def inverse_transform(self, X):
        return X / self.factor


@pytest.mark.slow
def test_first_steps_are_fitted_once_per_fold(X, y):
    Counted.n_fits = 0
    pipeline = Pipeline(
        [
            ("count", Counted()),
            ("reduce", small()),
            ("classify", LogisticRegression()),
        ]
    )
    grid = {
        "count__factor": [1.0, 2.0],
        "reduce__n_components": [1, 2],
        "classify__C": [0.1, 1.0],
    }
    own = AutoencoderSearchCV(pipeline, grid, cv=3, refit=False).fit(X, y)
    assert Counted.n_fits == 6
    assert how(own) == ["stack of 24"] * 8
    plain = GridSearchCV(pipeline, grid, cv=3, refit=False).fit(X, y)
    assert_same(own, plain, atol=1e-2)


@pytest.mark.slow
def test_pca_is_a_rival_of_the_same_step(X, y):
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("none", None), ("reduce", PCA(2))]
    )
    grid = {"reduce": [PCA(2), small(2), small(3)]}
    own, plain = both(X, pipeline, grid, cv=3, scoring=reconstruction_scorer)
    assert_same(own, plain)
    assert how(own) == ["by scikit-learn", "stack of 6", "stack of 6"]


def test_scores_of_different_meanings_are_not_compared(X):
    pipeline = Pipeline([("scale", StandardScaler()), ("code", PCA(2))])
    grid = [{"code": [small(1)]}, {"code__n_components": [1, 2]}]
    search = AutoencoderSearchCV(pipeline, grid, cv=2)
    with pytest.raises(ValueError, match=r"R² of AutoencoderTransformer .* of PCA"):
        search.fit(X)
    assert not hasattr(search, "cv_results_")


def test_nested_codes_in_a_pipeline(X, y):
    pipeline = make_pipeline(
        StandardScaler(), small(bottleneck=Nested()), LogisticRegression()
    )
    grid = {
        "autoencodertransformer__n_components": [1, 3],
        "logisticregression__C": [0.1, 1.0],
    }
    own = AutoencoderSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert sorted(set(how(own))) == ["first components of 3", "stack of 2"]
    assert how(own).count("stack of 2") == 1
    assert (own.cv_results_["mean_test_score"] > 0.5).all()


class Plain(BaseEstimator):
    """A transformer with the methods that a Pipeline needs and no others."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return 2 * X


def test_steps_may_lack_fit_transform_and_a_pickle(X, y):
    pipeline = Pipeline(
        [
            ("double", FunctionTransformer(lambda X: 2 * X)),
            ("plain", Plain()),
            ("reduce", small()),
            ("again", Plain()),
            ("classify", LogisticRegression()),
        ]
    )
    own, plain = both(X, pipeline, {"reduce__n_components": [1, 2]}, y, cv=2)
    assert_same(own, plain, atol=1e-2)
    assert how(own) == ["stack of 4"] * 2


def test_steps_that_write_into_their_rows_do_not_meet(X):
    pipeline = Pipeline([("scale", StandardScaler()), ("reduce", small())])
    scalers = [
        MinMaxScaler(copy=False, feature_range=(5, 9)),
        MaxAbsScaler(copy=False),
        StandardScaler(copy=False),
    ]
    # A refit would write into the rows of the next search.
    own, plain = both(X, pipeline, {"scale": scalers}, cv=2, refit=False)
    assert_same(own, plain)


class Multiplied(AutoencoderTransformer):
    """A subclass that fits other rows."""

    def fit(self, X, y=None):
        return super().fit(X * np.arange(1, 7))


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        small(estimator=Multiplied),
        Pipeline([("reduce", small())], verbose=True),
        Pipeline([("reduce", small(estimator=Multiplied))]),
        small(warm_start=True),
    ],
    ids=["subclass", "verbose", "step", "warm"],
)
def test_what_is_not_known_is_for_scikit_learn(X, estimator):
    whole = isinstance(estimator, Pipeline)
    grid = {"reduce__lr" if whole else "lr": [0.1, 0.03]}
    own, plain = both(X, estimator, grid, cv=2)
    assert_same(own, plain)
    assert how(own) == ["by scikit-learn"] * 2


class Counting:
    """A callback of scikit-learn that counts the tasks that begin."""

    n_tasks = 0

    def setup(self, *args, **kwargs):
        """Do nothing."""

    teardown = on_fit_task_end = setup

    def on_fit_task_begin(self, *args, **kwargs):
        Counting.n_tasks += 1


@pytest.mark.parametrize("on", ["pipeline", "reduce"])
def test_callbacks_of_a_pipeline_or_its_step(X, on):
    pytest.importorskip("sklearn.callback")
    pipeline = Pipeline([("reduce", small())])
    (pipeline if on == "pipeline" else pipeline[0]).set_callbacks(Counting())
    counts = []
    for kind in (AutoencoderSearchCV, GridSearchCV):
        Counting.n_tasks = 0
        search = kind(pipeline, {"reduce__lr": [0.1]}, cv=2, refit=False).fit(X)
        counts.append(Counting.n_tasks)
        if kind is AutoencoderSearchCV:
            assert how(search) == ["by scikit-learn"]
    assert counts[0] == counts[1] > 0


def test_fit_parameters_of_a_pipeline_are_for_scikit_learn(X, y):
    pipeline = make_pipeline(small(), LogisticRegression())
    grid = {"autoencodertransformer__n_components": [1, 2]}
    weight = {"logisticregression__sample_weight": np.ones(len(X))}
    own, plain = both(X, pipeline, grid, y, cv=2, fit_params=weight)
    assert_same(own, plain)
    assert how(own) == ["by scikit-learn"] * 2


# The interface


def test_several_scores_and_training_scores(X, y):
    pipeline = make_pipeline(small(), LogisticRegression())
    own, plain = both(
        X,
        pipeline,
        {"autoencodertransformer__n_components": [1, 2]},
        y,
        cv=2,
        scoring=["accuracy", "neg_log_loss"],
        refit="neg_log_loss",
        return_train_score=True,
    )
    assert_same(own, plain, atol=1e-2)
    assert own.multimetric_


@pytest.mark.slow
def test_one_standard_error_chooses(X):
    rule = one_standard_error("n_components")
    own, plain = both(X, small(), {"n_components": [1, 2, 3]}, cv=4, refit=rule)
    assert_same(own, plain)
    assert own.best_estimator_.n_components_ == own.best_params_["n_components"]


@pytest.mark.slow
def test_weights_are_split_with_the_rows(X, rng):
    weight = {"sample_weight": rng.uniform(0.5, 2, size=len(X))}
    own, plain = both(X, small(), {"n_components": [1, 2]}, cv=2, fit_params=weight)
    assert_same(own, plain)
    unweighted = AutoencoderSearchCV(small(), {"n_components": [1, 2]}, cv=2).fit(X)
    scores = (s.cv_results_["mean_test_score"] for s in (own, unweighted))
    assert not np.allclose(*scores, atol=1e-5)


def test_groups_are_for_the_splitter(X):
    groups = {"groups": np.arange(len(X)) % 7}
    own, plain = both(
        X, small(), {"n_components": [1, 2]}, cv=GroupKFold(3), fit_params=groups
    )
    assert_same(own, plain)


@pytest.mark.parametrize("error_score", [np.nan, -1.0])
def test_a_candidate_that_fails_has_the_score_of_errors(X, error_score):
    grid = {"scaling": ["standard", "nonsense"]}
    search = AutoencoderSearchCV(small(), grid, cv=2, error_score=error_score)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the test scores are non-fi")
        with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 4"):
            own = search.fit(X)
    np.testing.assert_equal(own.cv_results_["split1_test_score"][1], error_score)
    assert own.best_params_ == {"scaling": "standard"}


def test_errors_can_be_raised(X):
    search = AutoencoderSearchCV(
        small(), {"scaling": ["nonsense"]}, cv=2, error_score="raise"
    )
    with pytest.raises(ValueError, match="'scaling' parameter"):
        search.fit(X)
    assert not hasattr(search, "cv_results_")


def test_a_wrong_parameter_is_named(X):
    search = AutoencoderSearchCV(small(), {"nonsense": [1]}, cv=2)
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        search.fit(X)


def test_estimators_of_others(X, y):
    own, plain = both(X, LogisticRegression(), {"C": [0.1, 1]}, y, cv=3)
    assert_same(own, plain)
    own = AutoencoderSearchCV(
        IsolationForest(random_state=0),
        {"n_estimators": [5, 10]},
        scoring=make_outlier_scorer(),
        cv=2,
    ).fit(X, y)
    assert how(own) == ["by scikit-learn"] * 2


@pytest.mark.slow
def test_processes_share_the_fits(X, y):
    pipeline = Pipeline([("reduce", PCA(2)), ("classify", LogisticRegression())])
    nested = small(bottleneck=Nested())
    grid = [
        {"reduce": [PCA(1), small(1), small(2)]},
        {"reduce": [nested], "reduce__n_components": [1, 2]},
    ]
    own, plain = both(X, pipeline, grid[:1], y, cv=2, n_jobs=2)
    assert_same(own, plain)
    assert how(own) == ["by scikit-learn", "stack of 2", "stack of 2"]
    own = AutoencoderSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    assert how(own)[3:] == ["first components of 2", "alone"]


@pytest.mark.slow
def test_errors_of_processes_are_raised(X):
    search = AutoencoderSearchCV(
        small(), {"scaling": ["nonsense"]}, cv=2, error_score="raise", n_jobs=2
    )
    with pytest.raises(ValueError, match="'scaling' parameter"):
        search.fit(X)


def test_verbose_models_are_fitted_one_by_one(X, capfd):
    own = AutoencoderSearchCV(small(verbose=1), {"n_components": [1]}, cv=2).fit(X)
    assert how(own) == ["by scikit-learn"]
    assert capfd.readouterr().err.count("epoch 4/4") >= 3


def test_the_search_is_silent_or_has_one_bar(X, capfd):
    search = AutoencoderSearchCV(small(), {"n_components": [1, 2]}, cv=2)
    search.fit(X)
    assert capfd.readouterr() == ("", "")
    search.set_params(verbose=1).fit(X)
    shown = capfd.readouterr()
    assert "Fitting 2 folds for each of 2 candidates" in shown.out
    assert "4/4" in shown.err
    assert "candidate 1/2, fold 1/2: epoch 1" in shown.err
    assert shown.err.count("\n") == 1


def test_callbacks_leave_the_search_to_scikit_learn(X):
    callback = pytest.importorskip("sklearn.callback")
    search = AutoencoderSearchCV(small(), {"n_components": [1]}, cv=2)
    search.set_callbacks(callback.ProgressBar())
    assert how(search.fit(X)) == ["by scikit-learn"]


def test_clone_pickle_and_nesting(X):
    search = AutoencoderSearchCV(small(), {"n_components": [1, 2]}, cv=2)
    assert clone(search).get_params().keys() == search.get_params().keys()
    assert "pre_dispatch" not in search.get_params()
    again = pickle.loads(pickle.dumps(search.fit(X)))
    np.testing.assert_array_equal(again.transform(X), search.transform(X))
    whole = make_pipeline(StandardScaler(), clone(search)).fit(X)
    assert whole.transform(X).shape == (600, 2)


def test_data_frames_keep_their_names(X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    search = AutoencoderSearchCV(small(), {"n_components": [1, 2]}, cv=2).fit(frame)
    assert search.feature_names_in_.tolist() == list("abcdef")
    assert how(search) == ["stack of 4"] * 2


@pytest.mark.slow
def test_random_numbers_are_those_of_separate_fits(X):
    grid = {"n_components": [1, 2], "random_state": [0, 1]}
    own, plain = both(X, small(), grid, cv=2)
    assert_same(own, plain)
    by_seed = own.cv_results_["mean_test_score"].reshape(2, 2)
    assert (by_seed[:, 0] != by_seed[:, 1]).all()


def test_splits_may_be_lists(X):
    folds = [
        (list(range(300)), list(range(300, 600))),
        (range(300, 600), range(300)),
    ]
    for model in (small(), small(bottleneck=Nested())):
        own = AutoencoderSearchCV(model, {"n_components": [1, 2]}, cv=folds).fit(X)
        plain = GridSearchCV(model, {"n_components": [2]}, cv=folds).fit(X)
        scores = (s.cv_results_["mean_test_score"][-1] for s in (own, plain))
        assert next(scores) == pytest.approx(next(scores), abs=1e-5)


def test_sizes_may_be_numbers_of_numpy(X):
    grid = {"n_components": np.arange(1, 4)}
    own = AutoencoderSearchCV(small(bottleneck=Nested()), grid, cv=2).fit(X)
    assert how(own)[:2] == ["first components of 3"] * 2


def test_rates_of_the_optimizer_come_first(X):
    model = small(net_params={"optimizer__lr": 0.01})
    own, plain = both(X, model, {"n_components": [1, 2]}, cv=2)
    assert_same(own, plain)


def test_batches_of_one_row_are_normalised_as_alone(X):
    model = small(
        architecture=MLP((8,), norm="batch"),
        batch_size=1,
        early_stopping=False,
        max_epochs=2,
        lr=0.01,
    )
    own, plain = both(X[:80], model, {"n_components": [1, 2]}, cv=2)
    assert_same(own, plain)


class InProcess(BaseEstimator):
    """Records the processes in which joblib runs its tasks."""

    seen = ()

    def fit(self, X, y=None):
        InProcess.seen = set(Parallel()(delayed(os.getpid)() for _ in range(2)))
        self.fitted_ = True
        return self

    def score(self, X, y=None):
        return 0.0


def test_the_refit_is_an_ordinary_one(X):
    pipeline = Pipeline([("reduce", small()), ("last", InProcess())])
    search = AutoencoderSearchCV(pipeline, {"reduce__lr": [0.1]}, cv=2)
    search.fit(X)
    assert InProcess.seen == {os.getpid()}


class Dtypes(BaseEstimator):
    """Scores the default dtype of torch."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def score(self, X, y=None):
        return float(torch.get_default_dtype() == torch.float64)


def test_steps_of_others_see_the_settings_of_the_caller(X):
    pipeline = Pipeline([("reduce", small()), ("last", Dtypes())])
    search = AutoencoderSearchCV(pipeline, {"reduce__lr": [0.1]}, cv=2, refit=False)
    torch.set_default_dtype(torch.float64)
    try:
        search.fit(X)
    finally:
        torch.set_default_dtype(torch.float32)
    assert search.cv_results_["mean_test_score"].tolist() == [1.0]
    assert how(search) == ["stack of 2"]


def test_a_stack_that_fails_is_a_fit_that_fails(X, monkeypatch):
    def fail(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(together._Stack, "pass_once", fail)
    grid = {"architecture": [MLP((8,)), MLP((8,), norm="layer")]}
    search = AutoencoderSearchCV(small(), grid, cv=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the test scores are non-fi")
        with pytest.warns(FitFailedWarning, match="no room"):
            search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_an_interrupt_leaves_nothing_behind(X, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    search = AutoencoderSearchCV(small(), {"lr": [0.1, 0.03]}, cv=2)
    monkeypatch.setattr(together._Stack, "pass_once", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        search.fit(X)
    assert caught.value is not None  # and with it all frames
    assert device._of_blas._running == {}
    monkeypatch.undo()
    assert how(search.fit(X)) == ["stack of 4"] * 2


@pytest.mark.parametrize("most", [500, 4000])
def test_fits_come_in_portions_where_rows_are_many(X, monkeypatch, most):
    monkeypatch.setattr(_joint, "_MAX_NUMBERS", most)
    own, plain = both(X, small(), {"n_components": [1, 2]}, cv=2)
    assert_same(own, plain)
    assert how(own) == [{500: "alone", 4000: "stack of 2"}[most]] * 2


# Advice


def test_the_largest_code_is_said_to_be_no_choice(X):
    search = AutoencoderSearchCV(small(), {"n_components": [1, 2]}, cv=2)
    with pytest.warns(LargestCodeWarning, match="one_standard_error"):
        search.fit(X)


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {"refit": one_standard_error("n_components")},
        {"scoring": make_outlier_scorer()},
        {"param_grid": {"n_components": [2]}},
        {"param_grid": {"lr": [0.1, 0.03]}},
    ],
)
def test_no_advice_where_the_size_is_a_choice(X, y, params):
    defaults = {"param_grid": {"n_components": [1, 2]}, "cv": 2}
    model = small(estimator=AutoencoderOutlierDetector)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LargestCodeWarning)
        AutoencoderSearchCV(model, **defaults | params).fit(X, y)
