"""The same again: bit by bit wherever arithmetic allows it, and nothing left behind."""

import copy
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_low_rank_matrix, make_swiss_roll
from sklearn.model_selection import GridSearchCV, cross_val_score
from threadpoolctl import threadpool_limits

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.corruptions import Gaussian
from skae.losses import SquaredError
from skae.penalties import L1

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]
both = pytest.mark.parametrize("estimator", ESTIMATORS)


@pytest.fixture(scope="module")
def roll():
    return make_swiss_roll(300, random_state=0)[0]


def small(estimator, **params):
    """Return an estimator in whose training all sources of randomness take part.

    A detector sets its threshold on rows that it holds back. Otherwise five more
    networks are trained for it: refits, clones and copies are tried with these, too.
    """
    if estimator is AutoencoderOutlierDetector:
        params = {"calibration_fraction": 0.2} | params
    return estimator(
        **{
            "n_components": 2,
            "architecture": MLP((8,), start="random"),
            "corruption": Gaussian(),
            "penalty": L1(),
            "max_epochs": 4,
            "random_state": 0,
        }
        | params
    )


def assert_same(a, b, X):
    np.testing.assert_array_equal(a.transform(X), b.transform(X))
    np.testing.assert_array_equal(a.reconstruct(X), b.reconstruct(X))
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_array_equal(a.history_[name], b.history_[name])
    if isinstance(a, AutoencoderOutlierDetector):
        np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))


# The same fit


# Here a detector trains six networks.
six = pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (AutoencoderTransformer, {}),
        (AutoencoderOutlierDetector, {"calibration_fraction": 0.0}),
    ],
)


@six
def test_refit(roll, estimator, params):
    model = small(estimator, **params).fit(roll)
    before = copy.deepcopy(model)
    assert_same(before, model.fit(roll), roll)


@six
def test_clone(roll, estimator, params):
    model = small(estimator, **params).fit(roll)
    assert_same(model, clone(model).fit(roll), roll)


@both
def test_order_of_construction_and_fit(roll, estimator):
    one, two = small(estimator), small(estimator)
    one.fit(roll)
    two.fit(roll)
    assert_same(one, two, roll)


@both
def test_fit_transform(roll, estimator):
    model = small(estimator).fit(roll)
    np.testing.assert_array_equal(
        small(estimator).fit_transform(roll), model.transform(roll)
    )


@six
def test_copies(roll, estimator, params, tmp_path):
    model = small(estimator, **params).fit(roll)
    for twin in (
        lambda model: pickle.loads(pickle.dumps(model)),
        copy.deepcopy,
        lambda model: joblib.load(joblib.dump(model, tmp_path / "model")[0]),
    ):
        for rows in (roll, roll.astype(np.float32)):  # both precisions
            assert_same(model, twin(model), rows)
        assert twin(model).diagnostics_ == model.diagnostics_


@both
def test_copy_in_a_map_of_a_file(roll, estimator, tmp_path):
    # As joblib hands large estimators to its workers: their arrays are read-only.
    model = small(estimator).fit(roll)
    joblib.dump(model, tmp_path / "model")
    torch.set_warn_always(True)  # else torch only complains the first time
    try:
        for rows in (roll, roll.astype(np.float32)):
            twin = joblib.load(tmp_path / "model", mmap_mode="r")
            assert_same(model, twin, rows)
    finally:
        torch.set_warn_always(False)


@pytest.mark.slow
@six
def test_copy_can_be_fitted_again(roll, estimator, params):
    model = small(estimator, warm_start=True, **params).fit(roll)
    twin = pickle.loads(pickle.dumps(model))
    assert_same(model.fit(roll), twin.fit(roll), roll)


@pytest.mark.slow
def test_predictions_in_another_process(roll, tmp_path):
    # The reader has not imported anything: all that is needed must come with the file.
    np.save(tmp_path / "X.npy", roll)
    model = small(AutoencoderOutlierDetector).fit(roll)
    joblib.dump(model, tmp_path / "model")
    program = (
        "import joblib, numpy as np, sys; path = sys.argv[1]; "
        "model = joblib.load(path + '/model'); "
        "np.save(path + '/scores', model.score_samples(np.load(path + '/X.npy')))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    scores = np.load(tmp_path / "scores.npy")
    np.testing.assert_allclose(scores, model.score_samples(roll), rtol=1e-12)


@pytest.mark.parametrize("n_threads", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_threads_gives_the_same_bits(n_threads):
    # Large enough for NumPy to divide its sums among its threads.
    X = make_low_rank_matrix(3000, 150, effective_rank=20, random_state=0) * 100
    codes = []
    for limit in (1, n_threads):
        with threadpool_limits(limit, "blas"):
            model = AutoencoderTransformer(10, max_epochs=1, random_state=0).fit(X)
        codes.append(model.transform(X))
    np.testing.assert_array_equal(*codes)


def test_threads(roll):
    alone = [small(AutoencoderTransformer, random_state=s).fit(roll) for s in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(
            pool.map(
                lambda s: small(AutoencoderTransformer, random_state=s).fit(roll),
                range(4),
            )
        )
    for a, b in zip(alone, together, strict=True):
        assert_same(a, b, roll)


def test_queries_in_threads(roll):
    model = small(AutoencoderTransformer).fit(roll)
    twin = copy.deepcopy(model)
    expected = twin.transform(roll)
    with ThreadPoolExecutor(4) as pool:
        for code in pool.map(model.transform, [roll] * 8):
            np.testing.assert_array_equal(code, expected)


@pytest.mark.slow
def test_cross_validation_in_processes(roll):
    model = small(AutoencoderTransformer)
    one, two = (cross_val_score(model, roll, cv=2, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_search_in_processes(roll):
    grid = {"n_components": [1, 2], "penalty__alpha": [1e-3, 1e-1]}
    one, two = (
        GridSearchCV(small(AutoencoderTransformer), grid, cv=2, n_jobs=n).fit(roll)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    assert_same(one.best_estimator_, two.best_estimator_, roll)


# Where randomness comes from


# At random: the weights at the start and the order of the rows; their order only.
@pytest.mark.parametrize("architecture", [MLP((8,), start="random"), MLP(())])
def test_none_is_random(roll, architecture):
    def fit(seed):
        model = small(
            AutoencoderTransformer,
            architecture=architecture,
            corruption=None,
            early_stopping=False,
            random_state=seed,
        )
        return model.fit(roll)

    a, b = fit(None), fit(None)
    assert not np.array_equal(a.history_["train_loss"], b.history_["train_loss"])
    assert not np.array_equal(fit(0).transform(roll), fit(1).transform(roll))
    assert not np.array_equal(a.fit(roll).transform(roll), fit(0).transform(roll))


def test_random_state_instance(roll):
    def fit(random_state):
        return small(AutoencoderTransformer, random_state=random_state).fit(roll)

    assert_same(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)), roll)
    # As everywhere in scikit-learn: it goes on where it stopped.
    shared = np.random.RandomState(3)
    a, b = fit(shared), fit(shared)
    assert not np.array_equal(a.transform(roll), b.transform(roll))


def global_states():
    numpy = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (numpy[0], numpy[1].tolist(), *numpy[2:]),
        "torch": torch.get_rng_state().tolist(),
    }


@both
@pytest.mark.parametrize("seed", [None, 0])
def test_global_generators_are_left_alone(roll, estimator, seed):
    before = global_states()
    model = small(estimator, random_state=seed).fit(roll)
    model.inverse_transform(model.transform(roll))
    model.reconstruction_error(roll.astype(np.float32))
    # For scikit-learn, None stands for the global generator of NumPy.
    for name, state in global_states().items():
        assert state == before[name] or (seed is None and name == "numpy")


def test_seeding_globally_changes_nothing(roll):
    model = small(AutoencoderTransformer).fit(roll)
    torch.manual_seed(5)
    other = small(AutoencoderTransformer).fit(roll)
    assert_same(model, other, roll)


@both
def test_threads_of_torch_are_given_back(roll, estimator):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        small(estimator).fit(roll).transform(roll)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


# Rows do not know of each other


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (AutoencoderTransformer, "transform"),
        (AutoencoderTransformer, "reconstruct"),
        (AutoencoderOutlierDetector, "transform"),
        (AutoencoderOutlierDetector, "reconstruct"),
        (AutoencoderOutlierDetector, "score_samples"),
    ],
)
def test_row_has_the_same_result_in_any_batch(roll, estimator, method):
    model = small(estimator).fit(roll)
    query = getattr(model, method)
    many = np.tile(roll, (60, 1))  # more than pass at once
    together = query(many)
    for part in (slice(0, 1), slice(7, 20), slice(8000, 8300), slice(17999, None)):
        np.testing.assert_allclose(
            query(many[part]), together[part], rtol=1e-12, atol=1e-12
        )
    order = np.random.RandomState(0).permutation(len(many))
    np.testing.assert_allclose(query(many[order]), together[order], 1e-12, 1e-12)


@both
def test_queries_with_more_threads_of_torch(roll, estimator):
    model = small(estimator).fit(roll)
    many = np.tile(roll, (60, 1))
    method = getattr(model, "score_samples", model.transform)
    expected = method(many)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.testing.assert_allclose(method(many), expected, rtol=1e-12, atol=1e-12)
    finally:
        torch.set_num_threads(before)


@both
def test_queries_repeat(roll, estimator):
    model = small(estimator).fit(roll)
    np.testing.assert_array_equal(model.transform(roll), model.transform(roll))
    np.testing.assert_array_equal(
        model.reconstruction_error(roll), model.reconstruction_error(roll)
    )


# Nothing left behind


@both
def test_set_params_after_fit_does_not_change_queries(roll, estimator):
    model = small(estimator).fit(roll)
    before = copy.deepcopy(model)
    model.set_params(
        n_components=1,
        architecture=MLP((3,)),
        scaling="minmax",
        loss=SquaredError(),
        corruption=None,
        penalty=None,
        device="no such device",
    )
    assert_same(before, model, roll)
    assert_same(before, pickle.loads(pickle.dumps(model)), roll)


def test_changing_a_part_after_fit_does_not_change_the_model(roll):
    parts = {"architecture": MLP((8,)), "loss": SquaredError(), "penalty": L1()}
    model = small(AutoencoderTransformer, **parts).fit(roll)
    before = copy.deepcopy(model)
    parts["architecture"].set_params(hidden_layer_sizes=(3,), activation="relu")
    parts["penalty"].set_params(alpha=1e3)
    assert_same(before, model, roll)
    # The double precision copy of the weights is not pickled but made anew.
    assert_same(before, pickle.loads(pickle.dumps(model)), roll)


def test_parts_are_not_changed_and_can_be_shared(roll):
    parts = {
        "architecture": MLP((8,), start="random"),
        "corruption": Gaussian(0.2),
        "penalty": L1(0.1) + L1(0.2),
        "loss": SquaredError(),
    }
    before = {name: copy.deepcopy(vars(part)) for name, part in parts.items()}
    one = small(AutoencoderTransformer, **parts).fit(roll)
    two = small(AutoencoderTransformer, **parts).fit(roll)
    assert_same(one, two, roll)
    for name, part in parts.items():
        assert one.get_params()[name] is part
        assert repr(vars(part)) == repr(before[name])


@both
def test_queries_leave_the_estimator_as_it_is(roll, estimator):
    model = small(estimator).fit(roll)
    before = dict(vars(model))
    model.score(roll)
    model.inverse_transform(model.transform(roll))
    model.transform(roll.astype(np.float32))
    assert vars(model).keys() == before.keys()
    for name, value in before.items():
        assert vars(model)[name] is value


@both
@pytest.mark.parametrize("hidden", [(8,), "auto"])
def test_pickle_is_little_more_than_the_weights(roll, estimator, hidden):
    model = small(estimator, architecture=MLP(hidden, norm=None)).fit(roll)
    model.transform(roll)  # a copy of the weights in double precision is not kept
    n_bytes = sum(p.nbytes for p in model.net_.module_.state_dict().values())
    remembered = 10 * roll.nbytes * (estimator is AutoencoderOutlierDetector)
    assert len(pickle.dumps(model)) < 1.5 * n_bytes + remembered + 21_000
