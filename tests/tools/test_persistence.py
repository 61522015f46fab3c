"""Fitted estimators in files: pickle, joblib, cloudpickle, skops."""

import pickle
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from sklearn.datasets import load_wine

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.losses import SquaredError

X = load_wine().data

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


def transformer(**params):
    defaults = {"max_epochs": 20, "early_stopping": False, "random_state": 0}
    return AutoencoderTransformer(2, **defaults | params).fit(X)


def detector():
    return AutoencoderOutlierDetector(
        2, n_estimators=2, calibration_fraction=0.2, random_state=0
    ).fit(X)


def assert_same_transformer(loaded, model):
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    np.testing.assert_array_equal(
        loaded.sample(5, random_state=0), model.sample(5, random_state=0)
    )
    assert loaded.get_params().keys() == model.get_params().keys()


def assert_same_detector(loaded, model):
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(loaded.p_values(X), model.p_values(X))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def in_another_process(path, tmp_path):
    """Return what an estimator that another Python loads makes of the rows."""
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, sys, numpy as np\n"
        "model = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.save(sys.argv[3], model.transform(np.load(sys.argv[2])))\n"
    )
    out = tmp_path / "code.npy"
    subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "X.npy"), str(out)],
        check=True,
        timeout=120,
    )
    return np.load(out)


@pytest.mark.slow
def test_pickle_in_another_process(tmp_path):
    model = transformer()
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    np.testing.assert_array_equal(
        in_another_process(path, tmp_path), model.transform(X)
    )


@pytest.mark.parametrize("how", [{}, {"compress": 3}], ids=["plain", "compressed"])
def test_joblib(how, tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump((transformer(), detector()), tmp_path / "models.joblib", **how)
    loaded = joblib.load(tmp_path / "models.joblib")
    assert_same_transformer(loaded[0], transformer())
    assert_same_detector(loaded[1], detector())


def test_joblib_with_arrays_left_in_the_file(tmp_path):
    joblib = pytest.importorskip("joblib")
    model = detector()
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert isinstance(loaded.calibration_scores_, np.memmap)
    assert_same_detector(loaded, model)
    loaded.calibrate(X, quantile=0.1)
    loaded.fit(X)  # the file is read, not written to
    assert_same_detector(joblib.load(tmp_path / "model.joblib"), model)


def test_training_goes_on_after_loading():
    model = transformer(warm_start=True)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.fit(X).transform(X), model.fit(X).transform(X))


def local_loss():
    class Mine(SquaredError):
        """A class that no module has, as in a notebook."""

    return Mine()


def test_cloudpickle_takes_parameters_from_a_notebook():
    model = AutoencoderTransformer(2, loss=local_loss(), random_state=0)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(model)
    copy = pickle.loads(cloudpickle.dumps(model))
    np.testing.assert_array_equal(copy.fit(X).transform(X), model.fit(X).transform(X))


@pytest.mark.slow
def test_cloudpickle_takes_what_was_fitted_in_a_notebook(tmp_path):
    model = transformer(loss=local_loss())
    path = tmp_path / "model.pkl"
    path.write_bytes(cloudpickle.dumps(model))
    np.testing.assert_array_equal(
        in_another_process(path, tmp_path), model.transform(X)
    )


@pytest.mark.xfail(
    raises=RuntimeError, reason="models keep tensors, which skops does not know"
)
def test_skops_transformer(tmp_path):
    sio = pytest.importorskip("skops.io")
    model = transformer()
    path = tmp_path / "model.skops"
    sio.dump(model, path)
    unknown = sio.get_untrusted_types(file=path)
    # All that has to be trusted is ours, skorch's or torch's, and partial.
    owners = {name.partition(".")[0] for name in unknown}
    assert owners <= {"skae", "skorch", "torch", "functools"}
    with pytest.raises(TypeError, match="Untrusted types found"):
        sio.load(path, trusted=[name for name in unknown if "Net" not in name])
    assert_same_transformer(sio.load(path, trusted=unknown), model)


@pytest.mark.xfail(
    raises=RuntimeError, reason="scorers keep tensors, which skops does not know"
)
def test_skops_detector():
    sio = pytest.importorskip("skops.io")
    data = sio.dumps(detector())
    loaded = sio.loads(data, trusted=sio.get_untrusted_types(data=data))
    assert_same_detector(loaded, detector())


@pytest.mark.slow
def test_what_no_other_process_can_take_is_pickled_as_ever(tmp_path):
    # Its network uses a lock that its script has, which cloudpickle would take along.
    script = """if True:
        import pickle, threading
        from sklearn.datasets import load_wine
        from torch import nn
        from skae import AutoencoderTransformer
        from skae.architectures import Custom

        LOCK = threading.Lock()

        class Locked(nn.Linear):
            def forward(self, x):
                with LOCK:
                    return super().forward(x)

        X = load_wine().data
        model = AutoencoderTransformer(
            2, architecture=Custom(Locked, Locked), max_epochs=1, early_stopping=False
        ).fit(X)
        copy = pickle.loads(pickle.dumps(model))
        assert (copy.transform(X) == model.transform(X)).all()
    """
    file = tmp_path / "script.py"
    file.write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, file], check=True)
