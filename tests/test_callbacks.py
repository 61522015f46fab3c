"""Callbacks of scikit-learn: what they hear of a fit, which stays as it is."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._training import fit as _fitting
from skae.architectures import MLP
from skae.bottlenecks import Variational
from skae.corruptions import Gaussian

callback = pytest.importorskip("sklearn.callback")

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]


class Recorder:
    """Writes down what it hears; ``at_end(context, fitted)`` may answer."""

    max_propagation_depth = None

    def __init__(self, at_end=lambda context, fitted: None):
        self.at_end = at_end
        self.heard, self.fitted = [], []
        self.n_set_up = self.n_torn_down = 0

    def __getstate__(self):
        return {}  # estimators that are pickled need nothing of what was heard

    def setup(self, estimator, context):
        self.n_set_up += 1

    def teardown(self, estimator, context):
        self.n_torn_down += 1

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
        self.heard.append(("begin", context, X, y, metadata))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.heard.append(("end", context, X, y, metadata))
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)
        return self.at_end(context, fitted_estimator)

    def ended(self, name):
        return [
            c for what, c, *_ in self.heard if what == "end" and c.task_name == name
        ]


class Deaf:
    """Wants to know nothing but that something ends."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context): ...


@pytest.fixture
def X(rng):
    t = rng.uniform(-3, 3, size=(600, 1))
    return np.hstack([t, np.sin(t), np.cos(t), t**2]) + 0.1 * rng.normal(size=(600, 4))


def small(estimator=AutoencoderTransformer, **params):
    """Return a model in whose training all that is random takes part."""
    defaults = {
        "n_components": 1,
        "architecture": MLP((8,), start="random"),
        "corruption": Gaussian(),
        "max_epochs": 4,
        "random_state": 0,
    }
    return estimator(**defaults | params)


def answers(model, X):
    names = ["transform", "reconstruct", "score", "score_samples", "predict"]
    return {name: getattr(model, name)(X) for name in names if hasattr(model, name)}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.mark.parametrize(
    ("estimator", "n_rows", "params"),
    [
        (AutoencoderTransformer, 150, {}),
        (AutoencoderTransformer, 600, {}),
        (AutoencoderOutlierDetector, 150, {"max_epochs": 2}),
        (AutoencoderOutlierDetector, 600, {"n_estimators": 2}),
        pytest.param(
            AutoencoderOutlierDetector,
            150,
            {"n_estimators": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_fit_is_the_same_bit_by_bit(X, estimator, n_rows, params):
    X = X[:n_rows]
    model = small(estimator, **params).fit(X)
    heard = small(estimator, **params).set_callbacks(Recorder()).fit(X)
    assert_same(answers(heard, X), answers(model, X))
    np.testing.assert_array_equal(
        heard.history_["train_loss"], model.history_["train_loss"]
    )


@pytest.mark.parametrize("refit", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_epoch_comes_with_the_estimator_that_stopped_there(X, estimator, refit):
    # Without early stopping the last weights are kept: a fit of k epochs is the oracle.
    model = small(estimator, early_stopping=False)
    if refit:
        model.fit(X[::-1] + 1)
    seen = []
    recorder = Recorder(
        lambda context, fitted: seen.append(answers(fitted, X)) if fitted else None
    )
    model.set_callbacks(recorder).fit(X)
    for k, fitted in enumerate(recorder.fitted, start=1):
        alone = small(estimator, early_stopping=False, max_epochs=k).fit(X)
        assert_same(answers(fitted, X), answers(alone, X))
        # What it said in the fit it says still: its weights are its own.
        assert_same(answers(fitted, X), seen[k - 1])
        assert fitted.n_iter_ == fitted.best_epoch_ == k
        assert_same(answers(pickle.loads(pickle.dumps(fitted)), X), seen[k - 1])
        if estimator is AutoencoderTransformer:
            np.testing.assert_array_equal(fitted.sample(3, 0), alone.sample(3, 0))
        else:
            assert fitted.offset_ == alone.offset_
    assert k == 4


def test_an_epoch_has_nothing_of_an_earlier_fit(X):
    recorder = Recorder()
    model = small(bottleneck=Variational()).fit(X)
    assert model.active_units_ == 1
    model.set_params(bottleneck=None).set_callbacks(recorder).fit(X)
    stale = ["active_units_", "diagnostics_", "explained_variance_ratio_"]
    assert not any(hasattr(recorder.fitted[0], name) for name in stale)


def test_nothing_is_made_that_no_callback_asks_for(X, monkeypatch):
    def snapshot(*args):
        raise AssertionError

    monkeypatch.setattr(AutoencoderTransformer, "_attributes_of", snapshot)
    small().set_callbacks(Deaf()).fit(X)
    with pytest.raises(AssertionError):
        small().set_callbacks(Recorder()).fit(X)


def test_epochs_are_tasks_of_the_fit(X):
    recorder = Recorder()
    model = small(max_epochs=60, n_iter_no_change=2).set_callbacks(recorder).fit(X)
    epochs = recorder.ended("epoch")
    assert 0 < model.n_iter_ < 60
    assert [c.task_id for c in epochs] == list(range(model.n_iter_))
    assert all(c.max_subtasks == 0 and c.parent.task_name == "fit" for c in epochs)
    assert epochs[0].parent.max_subtasks == 60
    kinds = [what for what, *_ in recorder.heard]
    assert kinds == ["begin", *model.n_iter_ * ["begin", "end"], "end"]
    assert recorder.n_set_up == recorder.n_torn_down == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_rows", "params", "n_networks"),
    [
        (600, {}, 1),
        (600, {"n_estimators": 3}, 3),
        (150, {}, 6),
        (300, {"n_estimators": 2}, 12),
        (300, {"calibration_fraction": 0.2}, 1),
        (8, {"n_estimators": 2}, 2),
    ],
)
def test_networks_are_tasks_where_there_are_several(X, n_rows, params, n_networks):
    recorder = Recorder()
    detector = small(AutoencoderOutlierDetector, **params).set_callbacks(recorder)
    detector.fit(X[:n_rows])
    (fit,) = recorder.ended("fit")
    networks = recorder.ended("network")
    if n_networks == 1:
        assert not networks
        assert fit.max_subtasks == 4
        return
    assert len(networks) == fit.max_subtasks == n_networks
    for network in networks:
        assert len(network._children_map) <= network.max_subtasks <= 4
    assert len(networks[0]._children_map) == detector.n_iter_


@pytest.mark.slow
@pytest.mark.parametrize(("n_rows", "params"), [(600, {"n_estimators": 2}), (150, {})])
def test_every_network_comes_with_a_detector_that_scores(X, n_rows, params):
    scores = []

    def at_end(context, fitted):
        if context.task_name == "network":
            scores.append(fitted.score_samples(X) - fitted.offset_)

    detector = small(AutoencoderOutlierDetector, **params)
    detector.set_callbacks(Recorder(at_end)).fit(X[:n_rows])
    assert len(scores) == (2 if params else 6)
    assert all(np.isfinite(s).all() for s in scores)
    assert not np.array_equal(*scores[:2])


def test_rows_given_to_judge_need_no_more_networks(X):
    recorder = Recorder()
    detector = small(AutoencoderOutlierDetector).set_callbacks(recorder)
    detector.fit(X[:300], X_val=X[300:])
    assert not recorder.ended("network")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_fit_that_stays_pca_has_no_epochs(X, estimator):
    recorder = Recorder()
    model = estimator(1, random_state=0).set_callbacks(recorder).fit(X[:79])
    assert model.n_iter_ == 0
    assert not recorder.ended("epoch")
    assert len(recorder.ended("fit")) == recorder.n_torn_down == 1


def test_training_that_begins_anew_has_the_same_epochs(X, monkeypatch):
    failed = []

    def train_step(net, batch):
        if len(net.history) == 3 and not failed:
            failed.append(net)
            raise torch.cuda.OutOfMemoryError
        return original(net, batch)

    original = _fitting.Net.train_step
    monkeypatch.setattr(_fitting.Net, "train_step", train_step)
    recorder = Recorder()
    model = small(early_stopping=False).set_callbacks(recorder).fit(X)
    assert failed
    assert [c.task_id for c in recorder.ended("epoch")] == [0, 1, 0, 1, 2, 3]
    assert_same(answers(recorder.fitted[-1], X), answers(model, X))


def test_an_answer_of_true_is_early_stopping(X):
    params = {"max_epochs": 3, "architecture": None}
    recorder = Recorder(lambda context, fitted: context.task_id == 2)
    stopped = small(**params | {"max_epochs": 60}).set_callbacks(recorder)
    short = small(**params).fit(X)
    assert stopped.fit(X).n_iter_ == 3
    assert stopped.best_epoch_ == short.best_epoch_
    assert_same(answers(stopped, X), answers(short, X))


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_who_asked_to_stop_is_not_told_to_train_longer(X):
    recorder = Recorder(lambda context, fitted: context.task_name == "epoch")
    assert small().set_callbacks(recorder).fit(X).n_iter_ == 1


def test_every_network_can_be_stopped(X):
    recorder = Recorder(lambda context, fitted: context.task_name == "epoch")
    detector = small(AutoencoderOutlierDetector).set_callbacks(recorder).fit(X[:150])
    networks = recorder.ended("network")
    assert [len(n._children_map) for n in networks] == 6 * [1]
    assert detector.n_iter_ == 1


def test_the_rows_are_what_is_learnt_from(X, rng):
    recorder = Recorder()
    weight = rng.randint(3, size=len(X)).astype(float)
    small().set_callbacks(recorder).fit(X, sample_weight=weight)
    for _, _, rows, y, metadata in recorder.heard:
        np.testing.assert_array_equal(rows, X[weight > 0])
        assert y is rows
        share = metadata["sample_weight"] / metadata["sample_weight"].sum()
        np.testing.assert_allclose(share, weight[weight > 0] / weight.sum())
    recorder = Recorder()
    small().set_callbacks(recorder).fit(X)
    assert all(metadata is None for *_, metadata in recorder.heard)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("task", ["fit", "epoch"])
@pytest.mark.parametrize("fitted", [False, True])
def test_a_callback_that_fails_leaves_no_trace(X, error, task, fitted):
    def at_end(context, fitted):
        if context.task_name == task:
            raise error

    recorder = Recorder(at_end)
    model = small(max_epochs=2)
    if fitted:
        model.fit(X)
    model.set_callbacks(recorder)
    before = vars(model).copy()
    with pytest.raises(error):
        model.fit(X + 1)
    assert vars(model) == before
    assert recorder.n_set_up == recorder.n_torn_down == 1
    model.set_callbacks().fit(X)


def test_clones_pickles_and_fits_again(X):
    recorder = Recorder()
    model = clone(small().set_callbacks(recorder))
    first = answers(model.fit(X), X)
    assert_same(answers(model.fit(X), X), first)
    assert recorder.n_set_up == recorder.n_torn_down == 2
    model.set_callbacks(callback.ScoringMonitor(scoring={"r2": type(model).score}))
    copy = pickle.loads(pickle.dumps(model.fit(X)))
    assert_same(answers(copy, X), first)
    assert_same(answers(copy.fit(X), X), first)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_score_for_every_epoch(X, estimator):
    monitor = callback.ScoringMonitor(scoring={"r2": estimator.score})
    weight = np.ones(len(X))
    model = small(estimator).set_callbacks(monitor).fit(X, sample_weight=weight)
    frame = monitor.get_logs(select="most_recent").data_as_pandas
    scores = frame[frame.task_name == "epoch"].r2.to_numpy()
    assert len(scores) == model.n_iter_ == 4
    assert scores[model.best_epoch_ - 1] == pytest.approx(model.score(X), abs=1e-12)
    assert frame[frame.task_name == "fit"].r2.item() == model.score(X)


def test_inside_a_pipeline(X):
    monitor = callback.ScoringMonitor(scoring={"r2": lambda model, X, y: 0.5})
    recorder = Recorder()
    pipeline = make_pipeline(StandardScaler(), small()).set_callbacks(recorder)
    pipeline[-1].set_callbacks(monitor)
    pipeline.fit(X)
    epochs = recorder.ended("epoch")
    assert [c.task_id for c in epochs] == [0, 1, 2, 3]
    assert epochs[0].parent.source_estimator_name == "Pipeline"
    frame = monitor.get_logs(select="most_recent").data_as_pandas
    assert (frame.task_name == "epoch").sum() == 4


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_inside_a_search(X, n_jobs):
    monitor = callback.ScoringMonitor(scoring={"r2": AutoencoderTransformer.score})
    model = small(max_epochs=2).set_callbacks(monitor)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=n_jobs).fit(X)
    log = [row for log in monitor.get_logs(select="all") for row in log.data]
    epochs = [row["r2"] for row in log if row["task_name"] == "epoch"]
    # Two candidates, two folds, and the best one on all rows.
    assert len(epochs) == 2 * (2 * 2 + 1)
    best = search.best_estimator_
    assert best.score(X) in [row["r2"] for row in log if row["task_name"] == "fit"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_bars_of_scikit_learn(X, estimator, capfd):
    pytest.importorskip("rich")
    small(estimator).set_callbacks(callback.ProgressBar()).fit(X[:150])
    out = capfd.readouterr().out
    assert f"{estimator.__name__} - fit" in out
    bars = [line for line in out.splitlines() if estimator.__name__ in line]
    assert len(bars) == (1 if estimator is AutoencoderTransformer else 7)
    assert all("100%" in bar for bar in bars)


@pytest.mark.slow
def test_without_the_protocol_all_else_is_there():
    code = """if True:
        import sklearn.callback
        import sklearn.metrics, sklearn.mixture, sklearn.pipeline, skorch
        del sklearn.callback.CallbackSupportMixin  # as before scikit-learn 1.9
        import numpy as np
        from sklearn.base import clone
        from skae import AutoencoderOutlierDetector, AutoencoderTransformer

        X = np.random.RandomState(0).normal(size=(60, 3))
        for estimator in (AutoencoderTransformer, AutoencoderOutlierDetector):
            assert not hasattr(estimator, "set_callbacks")
            model = clone(estimator(1, verbose=1, random_state=0)).fit(X)
            assert model.transform(X).shape == (60, 1)
    """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
