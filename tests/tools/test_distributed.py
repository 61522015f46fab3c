"""Several processes fit one model: clusters of Dask, and torchrun."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import skae
from skae.architectures import MLP
from skae.bottlenecks import VectorQuantized
from skae.exceptions import WorkerError
from skae.model_selection import AutoencoderSearchCV

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")
joblib = pytest.importorskip("joblib")

from skae.dask import AutoencoderOutlierDetector, AutoencoderTransformer  # noqa: E402

MOVED = {"architecture": MLP((32,), start="random", norm="layer")}
SHORT = {"max_epochs": 5, "early_stopping": False, "random_state": 0}


def _rows(n_rows, seed=0):
    rng = np.random.RandomState(seed)
    t = rng.normal(size=(n_rows, 3))
    mixing = np.random.RandomState(0).normal(size=(9, 12))
    noise = 0.1 * rng.normal(size=(n_rows, 12))
    return np.hstack([t, np.sin(2 * t), t**2]) @ mixing + noise


X = _rows(1500)


def _cluster():
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    )


@pytest.fixture(scope="module")
def client():
    with _cluster() as cluster, distributed.Client(cluster) as client:
        yield client


def _on_both(client, *tables):
    """Return an array of which each worker holds some tables, by turns."""
    workers = sorted(client.nthreads())
    futures = [
        client.scatter(table, workers=[workers[i % 2]], hash=False)
        for i, table in enumerate(tables)
    ]
    return da.concatenate(
        [
            da.from_delayed(future, table.shape, table.dtype)
            for future, table in zip(futures, tables, strict=True)
        ]
    )


def _weights(model):
    return {n: t.numpy() for n, t in model.net_.module_.state_dict().items()}


def _assert_same_weights(model, other, atol):
    mine, others = _weights(model), _weights(other)
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        np.testing.assert_allclose(value, others[name], atol=atol, err_msg=name)


# The model is that of all rows


@pytest.mark.filterwarnings("ignore::skae.exceptions.WorseThanPCAWarning")
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_those_of_a_local_fit_with_equal_batches(client, weighted):
    # Not at PCA, where gradients are zero but for rounding, of which the first steps of
    # the optimiser are as large as of any other.
    parameters = SHORT | MOVED | {"n_components": 3, "batch_size": 2000}
    weight = np.random.RandomState(1).uniform(size=1500) if weighted else None
    # Unequal partitions, in the order of the workers.
    rows = _on_both(client, X[:200], X[200:])
    lazy = None if weight is None else da.from_array(weight, chunks=rows.chunks[0])
    model = AutoencoderTransformer(**parameters).fit(rows, sample_weight=lazy)
    local = skae.AutoencoderTransformer(**parameters).fit(X, sample_weight=weight)
    _assert_same_weights(model, local, 1e-5)
    np.testing.assert_allclose(model.mean_, local.mean_)
    np.testing.assert_allclose(model.scale_, local.scale_)
    np.testing.assert_allclose(model.loss_curve_, local.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(
        model.explained_variance_ratio_, local.explained_variance_ratio_, atol=1e-4
    )
    assert model.pca_reconstruction_error_ == pytest.approx(
        local.pca_reconstruction_error_
    )
    assert model.score(rows) == pytest.approx(local.score(X), abs=1e-5)


def test_batches_are_normalised_as_one(client):
    # With a single step, after which rounding has had no time to grow.
    parameters = SHORT | {"n_components": 6, "batch_size": 2000, "max_epochs": 1}
    parameters["architecture"] = MLP((16,), norm="batch", start="random")
    rows = _on_both(client, X[:200], X[200:])
    model = AutoencoderTransformer(**parameters, optimizer="sgd", lr=0.1)
    local = skae.AutoencoderTransformer(**parameters, optimizer="sgd", lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _assert_same_weights(model.fit(rows), local.fit(X), 1e-5)


@pytest.mark.slow
def test_error_is_that_of_a_local_fit(client):
    new = _rows(1000, seed=1)
    rows = _on_both(client, *np.split(X, 6))
    errors = []
    for seed in range(5):
        parameters = {"n_components": 3, "random_state": seed}
        model = AutoencoderTransformer(**parameters).fit(rows)
        local = skae.AutoencoderTransformer(**parameters).fit(X)
        errors.append([m.reconstruction_error(new).mean() for m in (model, local)])
    ratios = np.divide(*np.transpose(errors))
    # As far apart as two local fits with other orders of the rows.
    spread = np.std(np.log(ratios), ddof=1) / np.sqrt(len(ratios))
    assert abs(np.log(ratios).mean()) < max(0.01, 2 * spread)


def test_few_rows_are_fitted_as_by_one_process(client):
    rows = _on_both(client, X[:150], X[150:300])
    parameters = {"n_components": 2, "random_state": 0, "max_epochs": 10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoencoderOutlierDetector(**parameters).fit(rows)
        local = skae.AutoencoderOutlierDetector(**parameters).fit(X[:300])
    _assert_same_weights(model, local, 0)
    assert model.offset_ == local.offset_


def test_one_worker_decides_when_to_stop(client):
    rows = _on_both(client, X[:200], X[200:])
    model = AutoencoderTransformer(
        3, random_state=0, max_epochs=300, n_iter_no_change=3
    )
    model.fit(rows)
    assert model.n_iter_ < model.max_epochs
    assert len(model.validation_loss_curve_) == model.n_iter_
    assert model.diagnostics_["n_held_out"] == 150
    again = clone(model).fit(rows)
    _assert_same_weights(again, model, 0)


def test_validation_set_of_the_user(client):
    rows = _on_both(client, X[:200], X[200:1200])
    model = AutoencoderTransformer(3, random_state=0, max_epochs=3, batch_size=2000)
    with pytest.warns(Warning, match="max_epochs=3"):
        model.fit(rows, X_val=X[1200:])
    local = skae.AutoencoderTransformer(**model.to_local().get_params())
    with pytest.warns(Warning, match="max_epochs=3"):
        local.fit(X[:1200], X_val=X[1200:])
    np.testing.assert_allclose(
        model.validation_loss_curve_, local.validation_loss_curve_, rtol=1e-5
    )


def test_detector(client):
    clean = X[:1200]
    rows = _on_both(client, clean[:300], clean[300:])
    detector = AutoencoderOutlierDetector(3, random_state=0, max_epochs=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(rows)
    new = np.vstack([X[1200:], 8 * X[1200:1210]])
    called = detector.to_local().predict(new)
    assert (called[-10:] == -1).all()
    assert (called[:-10] == -1).mean() < 0.1


# Partitions


def test_worker_without_rows(client):
    workers = sorted(client.nthreads())
    table = client.scatter(X, workers=workers[:1])
    rows = da.from_delayed(table, X.shape, X.dtype)
    model = AutoencoderTransformer(3, **SHORT).fit(rows)
    local = skae.AutoencoderTransformer(3, **SHORT).fit(X)
    assert model.score(rows) == pytest.approx(local.score(X), abs=0.05)


@pytest.mark.filterwarnings("ignore::skae.exceptions.WorseThanPCAWarning")
def test_empty_partitions(client):
    rows = _on_both(client, X, X[:0])
    parameters = SHORT | MOVED | {"batch_size": 2000}
    model = AutoencoderTransformer(3, **parameters).fit(rows)
    local = skae.AutoencoderTransformer(3, **parameters).fit(X)
    _assert_same_weights(model, local, 1e-5)
    assert model.transform(rows).compute().shape == (1500, 3)


def test_frames(client):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(12)])
    rows = dd.from_pandas(frame, npartitions=4)
    rows = rows[rows.c0 < frame.c0.quantile(0.9)]
    weight = rows.c1.abs()
    model = AutoencoderTransformer(3, **SHORT).fit(rows, sample_weight=weight)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    code = model.transform(rows)
    expected = model.to_local().transform(rows.compute())
    assert isinstance(code, da.Array)
    np.testing.assert_allclose(code.compute(), expected, atol=1e-9)
    model.set_output(transform="pandas")
    code = model.transform(rows)
    assert list(code.columns) == model.get_feature_names_out().tolist()
    np.testing.assert_allclose(code.compute(), expected, atol=1e-9)


# Methods of collections


def test_methods_are_lazy_and_know_their_shapes(client):
    lazy = da.from_array(X, chunks=(400, 5))
    detector = AutoencoderOutlierDetector(3, random_state=0, max_epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(lazy)
    local = detector.to_local()
    assert type(local) is skae.AutoencoderOutlierDetector
    code = detector.transform(lazy)
    for found, expected in (
        (code, local.transform(X)),
        (detector.transform(lazy.astype(np.float32)), local.transform(X.astype("f4"))),
        (detector.inverse_transform(code), local.reconstruct(X)),
        (detector.reconstruct(lazy), local.reconstruct(X)),
        (detector.impute(lazy), local.impute(X)),
        (detector.reconstruction_error(lazy), local.reconstruction_error(X)),
        (
            detector.reconstruction_error(lazy, per_feature=True),
            local.reconstruction_error(X, per_feature=True),
        ),
        (detector.score_samples(lazy), local.score_samples(X)),
        (detector.decision_function(lazy), local.decision_function(X)),
        (detector.predict(lazy), local.predict(X)),
    ):
        assert isinstance(found, da.Array)
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        # No more than a block at a time.
        assert found.chunks[0] == lazy.chunks[0]
        np.testing.assert_allclose(found.compute(), expected, rtol=1e-4, atol=1e-6)
    explanation, expected = detector.explain(lazy), local.explain(X)
    for name in ("value", "expected", "residual", "share", "code_share"):
        assert isinstance(explanation[name], da.Array)
        np.testing.assert_allclose(explanation[name].compute(), expected[name])
    np.testing.assert_array_equal(detector.predict(X), local.predict(X))
    detector.calibrate(X, quantile=0.1)
    share = (detector.predict(lazy) == -1).mean().compute()
    assert share == pytest.approx(0.1, abs=0.01)
    assert detector.p_values(lazy).compute().min() > 0


def test_estimator_as_an_object(client):
    model = AutoencoderTransformer(3, client=client, timeout=60, **SHORT)
    assert model.get_params()["client"] is client
    assert clone(model).client is client
    model.fit(da.from_array(X, chunks=(500, 12)))
    copy = pickle.loads(pickle.dumps(model))
    assert copy.client is None
    np.testing.assert_array_equal(copy.transform(X), model.transform(X))
    local = model.to_local()
    assert not hasattr(local, "client")
    local.partial_fit(X)


# What is refused


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"validation_split": "last"}, "validation_split='last'"),
        ({"optimizer": torch.optim.SGD}, "optimizer"),
        ({"checkpoint": "folder"}, "checkpoint='folder'"),
        ({"bottleneck": VectorQuantized()}, "bottleneck=VectorQuantized"),
        ({"n_components": -1}, "n_components"),
        ({"timeout": -1}, "timeout"),
    ],
    ids=str,
)
def test_unsupported_parameters_are_named(client, parameters, named):
    model = AutoencoderTransformer(**SHORT | parameters)
    before = set(vars(model))
    with pytest.raises(ValueError, match=named):
        model.fit(_on_both(client, X[:500], X[500:]))
    assert set(vars(model)) == before


@pytest.mark.parametrize(
    ("fault", "message"), [(np.inf, "infinity"), (np.nan, "missing values")], ids=str
)
def test_what_one_worker_finds_is_raised(client, fault, message):
    wrong = X[500:].copy()
    wrong[3, 4] = fault
    model = AutoencoderTransformer(**SHORT)
    with pytest.raises(ValueError, match=message):
        model.fit(_on_both(client, X[:500], wrong))
    assert not hasattr(model, "n_features_in_")


def test_other_tables_are_refused(client):
    model = AutoencoderTransformer(**SHORT)
    with pytest.raises(ValueError, match="4097: at most 4096"):
        model.fit(da.zeros((1000, 4097), chunks=(500, 4097)))
    with pytest.raises(TypeError, match="X must be an array or a data frame of Dask"):
        model.fit(X)
    lazy = da.from_array(X, chunks=(500, 12))
    with pytest.raises(TypeError, match="sample_weight must be"):
        model.fit(lazy, sample_weight=np.ones(1500))
    with pytest.raises(ValueError, match="sample_weight has 1 partitions"):
        model.fit(lazy, sample_weight=da.ones(3))
    with pytest.raises(ZeroDivisionError):
        model.fit(lazy.map_blocks(lambda block: block / (1 // 0), meta=X[:0]))


# What may go wrong


def test_two_fits_at_once(client):
    rows = _on_both(client, X[:700], X[700:])
    models = [AutoencoderTransformer(3, **SHORT | {"random_state": i}) for i in (0, 1)]
    threads = [threading.Thread(target=m.fit, args=(rows,)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        alone = clone(model).fit(rows)
        _assert_same_weights(model, alone, 0)


ENDLESS = {"max_epochs": 10**6, "early_stopping": False, "random_state": 0}


def _fit_and_do(client, model, rows, action):
    """Fit, and do something when both workers train; return the error."""
    errors = []

    def fit():
        try:
            model.fit(rows)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    name = "skae.dask._cluster"

    def trains():
        return name in sys.modules and bool(sys.modules[name]._running)

    while not all(client.run(trains).values()):
        time.sleep(0.2)
    time.sleep(1)
    action()
    thread.join()
    return errors[0]


@pytest.mark.slow
def test_worker_that_dies():
    with _cluster() as cluster, distributed.Client(cluster) as client:
        rows = _on_both(client, X[:700], X[700:])
        model = AutoencoderTransformer(3, **ENDLESS)
        pids = client.run(os.getpid)
        error = _fit_and_do(
            client, model, rows, lambda: os.kill(pids[sorted(pids)[1]], signal.SIGKILL)
        )
        assert isinstance(error, WorkerError)
        assert not hasattr(model, "n_features_in_")
        # The one that is left goes on.
        client.wait_for_workers(2)
        model.set_params(**SHORT).fit(da.from_array(X, chunks=(500, 12)))


@pytest.mark.slow
def test_worker_that_does_not_answer():
    with _cluster() as cluster, distributed.Client(cluster) as client:
        rows = _on_both(client, X[:700], X[700:])
        pids = client.run(os.getpid)
        stopped = pids[sorted(pids)[1]]
        model = AutoencoderTransformer(3, timeout=5, **ENDLESS)
        try:
            error = _fit_and_do(
                client, model, rows, lambda: os.kill(stopped, signal.SIGSTOP)
            )
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert isinstance(error, WorkerError)
        assert not hasattr(model, "n_features_in_")


# Searches


@pytest.mark.parametrize("search_class", [GridSearchCV, AutoencoderSearchCV])
def test_search_on_worker_processes(client, search_class):
    model = skae.AutoencoderTransformer(**SHORT)
    search = search_class(model, {"lr": [1e-6, 1e-2]}, cv=2, n_jobs=2)
    here = search.fit(X[:300]).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="dask"):
        there = search.fit(X[:300]).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(there, here)
    assert here[1] > here[0]


# Without Dask

SCRIPT = """
import sys
import numpy as np
import torch
import skae

with skae.distributed(timeout=60):
    rank = torch.distributed.get_rank()
    X = np.load(sys.argv[1])
    X = X[:200] if rank == 0 else X[200:]
    model = skae.AutoencoderTransformer(
        3, max_epochs=5, early_stopping=False, random_state=0, batch_size=2000,
        architecture=skae.architectures.MLP((32,), start="random", norm="layer"),
    ).fit(X)
skae.save(model, f"{sys.argv[2]}/{rank}.skae")
"""


@pytest.mark.filterwarnings("ignore::skae.exceptions.WorseThanPCAWarning")
def test_torchrun(tmp_path):
    np.save(tmp_path / "X.npy", X)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    run += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    subprocess.run([*run, script, tmp_path / "X.npy", tmp_path], check=True)
    models = [skae.load(tmp_path / f"{rank}.skae") for rank in (0, 1)]
    local = skae.AutoencoderTransformer(3, **SHORT | MOVED, batch_size=2000).fit(X)
    for model in models:
        _assert_same_weights(model, local, 1e-5)
    np.testing.assert_array_equal(*(model.transform(X) for model in models))


def test_context_without_processes():
    with pytest.raises(RuntimeError, match="torchrun"), skae.distributed():
        pass


def test_search_inside_of_the_context():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    search = AutoencoderSearchCV(skae.AutoencoderTransformer(), {"lr": [1e-3]})
    try:
        with skae.distributed(), pytest.raises(ValueError, match="A search inside"):
            search.fit(X)
    finally:
        torch.distributed.destroy_process_group()
