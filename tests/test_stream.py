"""Rows that are read in chunks: arrays with slices, Parquet files, iterables."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data.holdout import HoldoutOfMany
from skae._data.readers import Chunks, Slices, ahead, reader_of
from skae._data.stream import Stream
from skae._data.winsorizing import Winsorized, winsorized
from skae.architectures import MLP
from skae.bottlenecks import Nested, VectorQuantized
from skae.losses import Bernoulli

N_ROWS, N_COLUMNS = 6000, 8


class OnDisk:
    """An array as of Zarr or h5py: only slices of it can be had."""

    def __init__(self, X, chunks=None):
        self._X = X
        self.shape, self.dtype, self.chunks = X.shape, X.dtype, chunks
        self.longest = self.n_reads = 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        part = self._X[rows]
        self.longest = max(self.longest, len(part))
        self.n_reads += 1
        return part.copy()

    def __array__(self, *args, **kwargs):
        raise MemoryError("All rows at once.")


class Again:
    """An iterable of chunks that begins anew with every loop."""

    def __init__(self, X, step=777, made=lambda chunk: chunk):
        self._X, self._step, self._made = X, step, made

    def __iter__(self):
        for start in range(0, len(self._X), self._step):
            yield self._made(self._X[start : start + self._step])


@pytest.fixture
def X():
    rng = np.random.RandomState(0)
    t = rng.uniform(-2, 2, size=(N_ROWS, 2))
    X = np.column_stack([t, t**2, np.sin(2 * t), np.tanh(t)])
    return (X + 0.05 * rng.normal(size=X.shape) + np.arange(8)).astype(np.float32)


@pytest.fixture
def streamed(monkeypatch):
    """No table is small enough to be read into memory; parts and buffer are small."""
    monkeypatch.setattr("skae._data.readers.SMALL_TABLE", 0)
    monkeypatch.setattr("skae._data.readers._PART", 2**13)
    monkeypatch.setattr("skae._data.stream._FEW_ROWS", 0)
    monkeypatch.setattr("skae._data.stream._BUFFER", 2**16)


def _parquet(path, X, **kwargs):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {f"c{j}": column for j, column in enumerate(X.T)}
    pq.write_table(pa.table(columns), path, **kwargs)
    return Path(path)


def _memmap(path, X):
    X.tofile(path)
    return np.memmap(path, X.dtype, "r", shape=X.shape)


def _kinds(tmp_path, X):
    return {
        "array": OnDisk(X),
        "array in chunks": OnDisk(X, (500, 8)),
        "memmap": _memmap(tmp_path / "x", X),
        "parquet": _parquet(tmp_path / "x.parquet", X, row_group_size=700),
        "iterable": Again(X),
        "tensors": Again(X, made=lambda chunk: [torch.from_numpy(chunk.copy())]),
    }


def _stream(X):
    return Stream(reader_of(X), np.asarray)


def _quietly(estimator, X, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(X, **kwargs)


# The source


def test_chunks_and_rows_by_index_are_those_of_the_array(X, tmp_path, streamed, rng):
    for kind, table in _kinds(tmp_path, X).items():
        stream = _stream(table)
        assert stream.shape == X.shape, kind
        assert stream.dtype == torch.float32
        for rows, chunk in stream.chunks():
            np.testing.assert_array_equal(chunk.numpy(), X[rows])
        assert rows.stop == N_ROWS
        index = rng.randint(N_ROWS, size=200)  # in no order, and with repetitions
        for which in (index, torch.from_numpy(index), slice(10, 20), slice(None)):
            np.testing.assert_array_equal(stream.take(which).numpy(), X[which])
        out = np.unique(index)
        others = np.delete(X, out, axis=0)
        rest = stream.without(out)
        assert rest.shape == others.shape
        np.testing.assert_array_equal(rest.take(slice(None)).numpy(), others)
        np.testing.assert_array_equal(rest.take([0, 7, 5000]), others[[0, 7, 5000]])
        less = rest.without(np.array([0, 3, 99])).take(slice(None))
        np.testing.assert_array_equal(less, np.delete(others, [0, 3, 99], axis=0))


def test_only_the_parts_with_the_rows_are_read(X, streamed):
    table = OnDisk(X)
    stream = _stream(table)
    stream.take(np.array([5000, 5001]))
    assert table.n_reads <= 2 + 4  # what the thread read in advance


def test_each_row_comes_once_in_equal_batches(X, tmp_path, streamed):
    X[:, 0] = np.arange(N_ROWS)
    for kind, table in _kinds(tmp_path, X).items():
        stream = _stream(table)
        for rows, n_batches in (stream, 23), (stream.without(np.arange(100)), 7):
            generator = torch.Generator().manual_seed(0)
            first, second = (list(rows.shuffled(n_batches, generator)) for _ in "ab")
            sizes = [len(x) for x in first]
            assert len(sizes) == n_batches
            assert max(sizes) - min(sizes) <= 1
            number = torch.cat(first)[:, 0].numpy()
            np.testing.assert_array_equal(np.sort(number), rows.take(slice(None))[:, 0])
            assert not np.array_equal(number, torch.cat(second)[:, 0].numpy()), kind


def test_every_order_is_equally_likely_where_the_buffer_holds_all(monkeypatch):
    X = np.arange(4.0)[:, np.newaxis]
    stream = _stream(OnDisk(X))
    generator = torch.Generator().manual_seed(0)
    counts = np.zeros((4, 4))
    for _ in range(1000):
        order = torch.cat(list(stream.shuffled(2, generator)))[:, 0].long()
        counts[np.arange(4), order.numpy()] += 1
    # Binomial, of 1000 draws with a chance of 1/4.
    assert np.abs(counts - 250).max() < 5 * np.sqrt(1000 * 3 / 16)


def test_batches_of_sorted_rows_come_from_all_over_the_table(streamed):
    X = np.repeat(np.arange(50_000.0), 4).reshape(-1, 4).astype(np.float32)
    batches = list(_stream(OnDisk(X)).shuffled(200, torch.Generator().manual_seed(0)))
    # Half of the buffer, 2048 rows, are 4 parts of 98.
    spread = np.mean([x[:, 0].std() for x in batches]) / X[:, 0].std()
    assert spread > 0.8


def test_validation_rows_are_drawn_from_the_whole_once_each():
    draw = HoldoutOfMany(most=1000).draw
    index = draw(10**12, 10**11, np.random.RandomState(0))
    assert len(np.unique(index)) == 1000
    assert abs(index.mean() / 10**12 - 0.5) < 0.05
    last = HoldoutOfMany("last").draw(1000, 10, np.random.RandomState(0))
    np.testing.assert_array_equal(last, np.arange(990, 1000))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_rows():
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _FIT, str(n_rows)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for n_rows in (110_000, 440_000)
    ]
    # In kB: the further rows have 53 MB. The rows that are kept for the diagnosis are
    # already as many as there may be.
    assert peaks[1] - peaks[0] < 20_000


_FIT = """
import sys, threading
import numpy as np
from skae import AutoencoderTransformer
from skae._data import readers, stream

readers.SMALL_TABLE, stream._FEW_ROWS, stream._BUFFER = 0, 0, 2**20

class Made:
    dtype = np.dtype(np.float32)
    shape = int(sys.argv[1]), 40
    def __getitem__(self, rows):
        t = np.arange(rows.start, rows.stop)[:, None] * np.arange(1, 41)
        return np.sin(t).astype(np.float32)

def memory():
    with open("/proc/self/status") as status:
        return int(next(l for l in status if l.startswith("RssAnon")).split()[1])

peak, ended = 0, threading.Event()
def watch():
    global peak
    while not ended.wait(0.005):
        peak = max(peak, memory())
before = memory()
watcher = threading.Thread(target=watch)
watcher.start()
X_val = Made()[slice(0, 1000)]
AutoencoderTransformer(2, max_epochs=1, random_state=0).fit(Made(), X_val=X_val)
ended.set()
watcher.join()
print(peak - before)
"""


def test_a_thread_reads_ahead_and_ends_with_the_iteration():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    before = threading.active_count()
    iteration = ahead(items())
    assert next(iteration) == 0
    iteration.close()
    assert 1 <= len(made) < 10
    assert threading.active_count() == before
    assert list(ahead(items())) == list(range(100))


def test_what_the_reader_raises_reaches_the_caller():
    def items():
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(ahead(items()))


@pytest.mark.parametrize(
    "X",
    [
        np.ones((2, 2)),
        [[1.0, 2.0]],
        pd.DataFrame({"a": [1.0]}),
        torch.ones(2, 2),
        {"a": 1},
        None,
    ],
    ids=lambda X: type(X).__name__,
)
def test_what_is_in_memory_is_left_to_others(X):
    assert reader_of(X) is None


def test_slices_follow_the_chunks_of_the_array():
    sizes = Slices(OnDisk(np.zeros((10_000, 100)), (300, 100))).sizes
    assert set(sizes[:-1]) == {300}  # a quarter of a mebibyte has 327 rows
    assert sum(sizes) == 10_000
    # As of Dask, which computes a whole chunk for each slice.
    table = OnDisk(np.arange(20.0).reshape(10, 2), ((3, 3, 4), (2,)))
    reader = Slices(table)
    assert reader.sizes == [3, 3, 4]
    np.testing.assert_array_equal(
        next(reader.read(2)), [[12, 13], [14, 15], [16, 17], [18, 19]]
    )


# Estimators


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_statistics_and_methods_are_those_of_the_array(
    estimator, X, tmp_path, streamed
):
    inside = _quietly(estimator(2, max_epochs=3, random_state=0), X)
    for kind, table in _kinds(tmp_path, X).items():
        fitted = _quietly(estimator(2, max_epochs=3, random_state=0), table)
        for name in ("mean_", "scale_"):
            np.testing.assert_allclose(
                getattr(fitted, name),
                getattr(inside, name),
                rtol=1e-6,
                atol=1e-6,
                err_msg=kind,
            )
        assert fitted.pca_reconstruction_error_ == pytest.approx(
            inside.pca_reconstruction_error_, rel=1e-5
        )
        assert fitted.diagnostics_["n_held_out"] == 600
        whole = (
            table
            if kind != "parquet"
            else pd.DataFrame(X, columns=fitted.feature_names_in_)
        )
        if kind not in ("memmap", "parquet"):
            whole = X
        methods = ["transform", "reconstruct", "impute", "reconstruction_error"]
        if estimator is AutoencoderOutlierDetector:
            methods += ["score_samples", "predict", "decision_function"]
        for method in methods:
            of_chunks, of_array = (getattr(fitted, method)(T) for T in (table, whole))
            assert of_chunks.dtype == of_array.dtype
            np.testing.assert_allclose(
                of_chunks, of_array, rtol=1e-4, atol=1e-5, err_msg=f"{kind} {method}"
            )
        assert fitted.score(table) == pytest.approx(fitted.score(whole), rel=1e-5)


@pytest.mark.slow
def test_training_on_chunks_beats_pca_as_training_on_the_array_does(X, streamed):
    new = X[-1000:]
    tables = X[:-1000], OnDisk(X[:-1000]), Again(X[:-1000])
    errors = []
    for table in tables:
        model = AutoencoderTransformer(2, random_state=0, max_epochs=60)
        _quietly(model, table)
        assert model.best_epoch_ > 0
        errors.append(model.reconstruction_error(new).mean())
    assert max(errors) < 0.5 * PCA(2).fit(X).fit(X).noise_variance_
    assert max(errors) < 1.15 * min(errors)


def test_fits_of_one_seed_are_equal(X, streamed):
    codes = [
        _quietly(
            AutoencoderTransformer(2, max_epochs=3, random_state=0), OnDisk(X)
        ).transform(X)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*codes)


def test_no_read_is_longer_than_a_part(X, streamed):
    table = OnDisk(X)
    model = _quietly(AutoencoderTransformer(2, max_epochs=2), table)
    model.transform(table)
    assert table.longest == 2**13 // 32


def test_small_tables_are_read_into_memory_and_take_everything(X, tmp_path):
    weight = np.random.RandomState(0).randint(3, size=len(X))
    how = {"sample_weight": weight, "groups": np.arange(len(X)) // 10}
    inside = _quietly(AutoencoderTransformer(2, max_epochs=2, random_state=0), X, **how)
    for kind, table in _kinds(tmp_path, X).items():
        model = AutoencoderTransformer(2, max_epochs=2, random_state=0)
        _quietly(model, table, **how)
        np.testing.assert_array_equal(
            model._model.map(type(model._model).encode, X),
            inside.transform(X),
            err_msg=kind,
        )


def test_columns_of_parquet_files_keep_their_names(X, tmp_path, streamed):
    path = _parquet(tmp_path / "x.parquet", X, row_group_size=1000)
    model = _quietly(AutoencoderTransformer(2, max_epochs=1), path)
    assert model.feature_names_in_.tolist() == [f"c{j}" for j in range(8)]
    other = X.copy()
    renamed = Again(other, made=lambda x: pd.DataFrame(x, columns=list("abcdefgh")))
    with pytest.raises(ValueError, match="feature names"):
        model.transform(renamed)
    names = model.feature_names_in_
    frames = Again(other, made=lambda x: pd.DataFrame(x, columns=names))
    np.testing.assert_array_equal(model.transform(frames), model.transform(path))


def test_data_sets_of_several_files_and_some_columns(X, tmp_path, streamed):
    ds = pytest.importorskip("pyarrow.dataset")
    for i, part in enumerate(np.array_split(X, 3)):
        _parquet(tmp_path / f"{i}.parquet", part, row_group_size=500)
    whole = ds.dataset(tmp_path)
    np.testing.assert_array_equal(_stream(whole).take(slice(None)), X)
    some = whole.replace_schema(whole.schema.remove(3).remove(0))
    model = _quietly(AutoencoderTransformer(2, max_epochs=1), some)
    assert model.feature_names_in_.tolist() == ["c1", "c2", "c4", "c5", "c6", "c7"]


def test_columns_that_are_no_numbers_are_refused_by_name(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": [1.0, 2.0], "city": ["Bonn", "Ulm"]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(TypeError, match="'city' of type string"):
        AutoencoderTransformer(1).fit(tmp_path / "x.parquet")


def test_integers_and_bools_of_parquet_files_are_numbers(tmp_path, streamed):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = np.arange(100)
    table = pa.table({"a": n, "b": n % 2 == 0, "c": [None, *n[1:]]})
    pq.write_table(table, tmp_path / "x.parquet")
    rows = _stream(tmp_path / "x.parquet").take(slice(None))
    np.testing.assert_array_equal(rows, np.c_[n, n % 2 == 0, [np.nan, *n[1:]]])


def test_iterators_are_refused(X):
    with pytest.raises(ValueError, match=r"read only once.*__iter__"):
        AutoencoderTransformer(2).fit(iter(Again(X)))


def test_a_table_that_changes_between_passes_is_refused(X, streamed):
    class Growing:
        n_passes = 0

        def __iter__(self):
            self.n_passes += 1
            return iter([X, X[: self.n_passes]])

    with pytest.raises(ValueError, match="the same rows"):
        AutoencoderTransformer(2).fit(Growing())
    model = AutoencoderTransformer(2)
    with pytest.raises(ValueError, match="no chunk"):
        model.fit(Again(X[:0]))


@pytest.mark.parametrize(
    ("parameters", "arguments", "named"),
    [
        ({}, {"sample_weight": np.ones(N_ROWS)}, "sample_weight"),
        ({}, {"groups": np.arange(N_ROWS)}, "groups"),
        ({}, {"X_target": np.zeros((N_ROWS, N_COLUMNS))}, "X_target"),
        ({"categorical_features": [0]}, {}, "categories"),
    ],
)
def test_what_needs_rows_in_memory_is_refused_by_name(
    parameters, arguments, named, X, tmp_path, streamed
):
    model = AutoencoderTransformer(2, max_epochs=1, **parameters)
    with pytest.raises(ValueError, match=f"read in chunks.*{named}"):
        model.fit(OnDisk(X), **arguments)
    # A map of a file is an array, too.
    table = _memmap(tmp_path / "x", np.round(X))
    _quietly(model, table, **arguments).transform(table)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.2])
@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
def test_missing_values_have_no_part_in_the_fit(estimator, share, X, streamed):
    complete = X.copy()
    X[np.random.RandomState(0).uniform(size=X.shape) < share] = np.nan
    models = [
        _quietly(estimator(2, max_epochs=20, random_state=0), table)
        for table in (X, OnDisk(X))
    ]
    inside, outside = models
    for name in ("mean_", "scale_"):
        np.testing.assert_allclose(
            getattr(outside, name), getattr(inside, name), rtol=1e-5, atol=1e-5
        )
    assert outside.pca_reconstruction_error_ == pytest.approx(
        inside.pca_reconstruction_error_, rel=1e-3
    )
    missing = np.isnan(X)
    guessed = [
        np.square(model.impute(X) - complete)[missing].mean() for model in models
    ]
    assert guessed[1] < 1.2 * guessed[0]
    assert outside.diagnostics_["r2"] == pytest.approx(
        1
        - np.nanmean(outside.reconstruction_error(X, per_feature=True), axis=0).sum()
        / np.nanvar(X, axis=0).sum(),
        abs=0.01,
    )


def test_columns_without_any_value_are_refused(X, streamed):
    X[:, 3] = np.nan
    with pytest.raises(ValueError, match=r"without any value: \[3\]"):
        AutoencoderTransformer(2).fit(OnDisk(X))


@pytest.mark.slow
def test_wild_values_are_replaced_as_in_memory(X, streamed):
    rng = np.random.RandomState(0)
    X = X.astype(np.float64)
    X[rng.choice(N_ROWS, 40, replace=False), 1] = -9999
    X[7, 2] = 1e100
    X[rng.choice(N_ROWS, 20, replace=False), 5] = np.nan
    X[8, 5] = 1e6
    X[::50, 4] = 1e4  # too many to be wild
    X[:, 6] = rng.standard_cauchy(N_ROWS)
    X[:, 7] = rng.uniform(size=N_ROWS) < 0.001  # a rare category
    rows = Winsorized(_stream(OnDisk(X))).take(slice(None)).numpy()
    np.testing.assert_array_equal(rows, winsorized(X))
    assert np.nanmax(np.abs(rows[:, [0, 1, 2, 3, 5]])) < 100
    scales = [
        _quietly(AutoencoderOutlierDetector(2, max_epochs=1), T).scale_
        for T in (OnDisk(X), X)
    ]
    np.testing.assert_allclose(*scales, rtol=1e-6)


def test_infinity_and_what_is_outside_of_the_domain_are_refused(X, streamed):
    X[3000, 4] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        AutoencoderTransformer(2).fit(OnDisk(X))
    with pytest.raises(ValueError, match=r"Bernoulli is a loss for data in \[0"):
        AutoencoderTransformer(2, loss=Bernoulli()).fit(OnDisk(X[:3000]))


def test_methods_complete_missing_values_of_chunks(X, streamed):
    model = _quietly(AutoencoderTransformer(2, max_epochs=2), OnDisk(X))
    X[::7, 3] = np.nan
    np.testing.assert_allclose(
        model.impute(OnDisk(X)), model.impute(X), rtol=1e-4, atol=1e-5
    )


def test_an_estimator_is_left_as_it_was_if_reading_fails(X, streamed):
    class Broken(Again):
        n_passes = 0

        def __iter__(self):
            self.n_passes += 1
            for i, chunk in enumerate(super().__iter__()):
                if self.n_passes == 5 and i == 3:
                    raise OSError("disk")
                yield chunk

    model = _quietly(AutoencoderTransformer(2, max_epochs=2), X)
    before = model.transform(X)
    n_threads = threading.active_count()
    with pytest.raises(OSError, match="disk"):
        model.fit(Broken(X))
    assert threading.active_count() == n_threads
    np.testing.assert_array_equal(model.transform(X), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"bottleneck": Nested()},
        {"bottleneck": VectorQuantized(16)},
        {"architecture": MLP((8,), start="random"), "scaling": "robust"},
        {"whiten": True},
        {"early_stopping": False},
        {"validation_split": "last"},
    ],
    ids=str,
)
def test_parameters_work_with_chunks(parameters, X, streamed):
    model = AutoencoderTransformer(2, max_epochs=3, random_state=0, **parameters)
    _quietly(model, OnDisk(X), X_val=X[:200])
    _quietly(model, OnDisk(X))
    code = model.transform(X)
    if model.whiten:
        np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(code.std(axis=0), 1, rtol=1e-3)
    assert model.sample(3).shape == (3, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"contamination": 0.05},
        {"calibration_fraction": 0.2},
        {"n_estimators": 2},
    ],
    ids=str,
)
def test_detectors_calibrate_on_chunks(parameters, X, streamed):
    detector = AutoencoderOutlierDetector(2, max_epochs=3, random_state=0, **parameters)
    table = OnDisk(X)
    _quietly(detector, table)
    share = np.mean(detector.predict(table) == -1)
    expected = parameters.get("contamination", 0.01)
    assert 0.5 * expected < share < 2 * expected
    far = X[:5].copy()
    far[:, 2] += 50
    assert (detector.predict(far) == -1).all()
    if "calibration_fraction" in parameters:
        assert len(detector.calibration_scores_) == 1200
        assert detector.p_values(Again(far)).max() < 0.01
    explanation = detector.explain(OnDisk(far))
    np.testing.assert_array_equal(explanation.share.argmax(axis=1), 2)


def test_warm_start_goes_on_with_chunks(X, streamed):
    model = AutoencoderTransformer(2, max_epochs=3, random_state=0, warm_start=True)
    _quietly(model, X)
    scale = model.scale_
    _quietly(model, OnDisk(X + 1))
    np.testing.assert_array_equal(model.scale_, scale)


def test_validation_rows_may_be_given_in_chunks(X, streamed):
    model = AutoencoderTransformer(2, max_epochs=2)
    with pytest.raises(ValueError, match="X_val has 6000 rows, too many"):
        model.fit(OnDisk(X), X_val=OnDisk(X))
    _quietly(model, OnDisk(X), X_val=X[:100])
    assert model.diagnostics_["n_held_out"] == 100


def test_pipelines_take_what_their_first_step_takes(X, streamed):
    pipeline = make_pipeline(AutoencoderTransformer(2, max_epochs=1), StandardScaler())
    code = _quietly(pipeline, OnDisk(X)).transform(OnDisk(X))
    np.testing.assert_allclose(code.std(axis=0), 1, rtol=1e-4)


def test_the_bar_shows_rows_per_second(X, streamed, capsys):
    _quietly(AutoencoderTransformer(2, max_epochs=2, verbose=1), OnDisk(X))
    assert "rows/s" in capsys.readouterr().err


def test_chunks_are_what_the_iterable_yields(X):
    reader = Chunks(Again(X, step=1000))
    assert [len(chunk) for chunk in reader.read(0)] == [1000] * 6
