"""Dask: rows in pieces, and searches on a cluster."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

dask_array = pytest.importorskip("dask.array")

DIGITS = load_digits().data


@pytest.fixture(scope="module")
def model():
    return AutoencoderTransformer(
        4, max_epochs=5, early_stopping=False, random_state=0
    ).fit(DIGITS)


def test_fit_brings_an_array_to_memory(model):
    rows = dask_array.from_array(DIGITS, chunks=(500, 64))
    of_dask = AutoencoderTransformer(**model.get_params()).fit(rows)
    code = of_dask.transform(rows)
    assert isinstance(code, np.ndarray)
    np.testing.assert_array_equal(code, model.transform(DIGITS))


def test_blocks_are_transformed_one_by_one(model):
    rows = dask_array.from_array(DIGITS, chunks=(500, 64))
    seen = []

    def transform(block):
        seen.append(len(block))
        return model.transform(block)

    code = rows.map_blocks(
        transform, chunks=(rows.chunks[0], (4,)), meta=np.empty((0, 4))
    )
    assert code.shape == (1797, 4)
    assert not seen  # lazy
    np.testing.assert_allclose(
        code.compute(scheduler="synchronous"), model.transform(DIGITS), atol=1e-9
    )
    assert sorted(seen) == [297, 500, 500, 500]


def test_partitions_of_a_data_frame():
    dask_frame = pytest.importorskip("dask.dataframe")
    frame = load_wine(as_frame=True).data
    partitions = dask_frame.from_pandas(frame, npartitions=3)
    detector = AutoencoderOutlierDetector(2, random_state=0).fit(frame)
    scores = partitions.map_partitions(detector.score_samples, meta=(None, "f8"))
    np.testing.assert_allclose(
        scores.compute(), detector.score_samples(frame), rtol=1e-9
    )
    # With frames as output even the names of the code are known before.
    detector.set_output(transform="pandas")
    code = partitions.map_partitions(detector.transform)
    assert list(code.columns) == detector.get_feature_names_out().tolist()
    expected = detector.transform(frame)
    code = code.compute()
    assert code.index.equals(frame.index)
    np.testing.assert_allclose(code, expected, atol=1e-9)


def test_names_of_a_lazy_data_frame_are_not_seen():
    # scikit-learn asks pandas and polars only: fit on .compute() to have names.
    dask_frame = pytest.importorskip("dask.dataframe")
    frame = load_wine(as_frame=True).data
    partitions = dask_frame.from_pandas(frame, npartitions=3)
    lazy = AutoencoderTransformer(2, random_state=0).fit(partitions)
    assert not hasattr(lazy, "feature_names_in_")
    array = AutoencoderTransformer(2, random_state=0).fit(frame.to_numpy())
    np.testing.assert_array_equal(
        lazy.transform(partitions), array.transform(frame.to_numpy())
    )


def test_search_on_a_cluster():
    distributed = pytest.importorskip("distributed")
    joblib = pytest.importorskip("joblib")
    model = AutoencoderTransformer(max_epochs=5, early_stopping=False, random_state=0)
    search = GridSearchCV(model, {"n_components": [1, 4]}, cv=2, n_jobs=2)
    here = search.fit(DIGITS[:300]).cv_results_["mean_test_score"]
    with (
        distributed.Client(
            processes=False,
            n_workers=1,
            threads_per_worker=2,
            dashboard_address=None,
        ) as client,
        distributed.get_task_stream(client) as stream,
        joblib.parallel_config(backend="dask"),
    ):
        there = search.fit(DIGITS[:300]).cv_results_["mean_test_score"]
    assert len(stream.data) >= 4  # two candidates, two folds
    np.testing.assert_array_equal(there, here)
    assert here[1] > here[0]
