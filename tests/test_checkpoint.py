"""Checkpoints: a fit that is killed goes on, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from _components import SETTINGS
from numpy.testing import assert_array_equal
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

import skae
from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._training import checkpoint as module
from skae._training.net import Net
from skae._training.state_file import read_state, write_state
from skae.anomaly_scores import AnomalyScore
from skae.architectures import MLP, Architecture
from skae.bottlenecks import BatchTopK, Bottleneck, Plain, Variational, VectorQuantized
from skae.corruptions import Masking
from skae.exceptions import InvalidCheckpointWarning, InvalidFileError
from skae.losses import Loss
from skae.penalties import L1, Penalty

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::skae.exceptions.FitWarning",
)
BOTH = [AutoencoderTransformer, AutoencoderOutlierDetector]


class Cut(BaseException):
    """Ends a fit as a kill does: nothing catches it."""


class Cuts:
    """Cuts fits off after every few epochs, whichever network they are of.

    Attributes
    ----------
    trained : int
        Epochs that were trained, in all fits.
    """

    def __init__(self, patch, every):
        self.trained, self._every, self._left = 0, every, every
        # Every epoch is written.
        patch.setattr(module, "_SHARE", 1e9)
        save = module.Checkpoint.save

        def saving(checkpoint, make_state, last=False):
            save(checkpoint, make_state, last)
            self.trained += 1
            self._left -= 1
            if self._left == 0:
                self._left = self._every
                raise Cut

        patch.setattr(module.Checkpoint, "save", saving)

    def fit(self, model, *args, **kwargs):
        """Fit clones until one of them gets to the end; return it, and their number."""
        for n_fits in range(1, 1000):
            model = clone(model)
            try:
                return model.fit(*args, **kwargs), n_fits
            except Cut:
                pass
        raise AssertionError("no end")


@pytest.fixture
def cuts(monkeypatch):
    return partial(Cuts, monkeypatch)


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(700, 2))
    return np.tanh(t @ rng.normal(size=(2, 6))) + 0.1 * rng.normal(size=(700, 6))


def assert_same(model, other, X):
    """Assert that two fits have the same results and history, but for the time."""
    assert set(vars(model)) == set(vars(other))
    codes = (m.transform(X) for m in (model, other))
    assert_array_equal(*(c.toarray() if issparse(c) else c for c in codes))
    assert_array_equal(model.reconstruct(X), other.reconstruct(X))
    assert model.history_.keys() == other.history_.keys()
    for name in model.history_.keys() - {"seconds"}:
        assert_array_equal(model.history_[name], other.history_[name])
    assert model.diagnostics_ == other.diagnostics_
    assert model.kept_weights_ == other.kept_weights_
    assert model.best_epoch_ == other.best_epoch_
    assert model.net_.divergences_ == other.net_.divergences_
    expected = model.net_.module_.state_dict()
    for name, value in other.net_.module_.state_dict().items():
        assert torch.equal(value, expected[name])
    if hasattr(model, "offset_"):
        assert model.offset_ == other.offset_
        assert_array_equal(model.score_samples(X), other.score_samples(X))


def new(estimator, *args, **params):
    return estimator(*args, **{"random_state": 0, "max_epochs": 12} | params)


def slot_of(component):
    slots = {
        AnomalyScore: "anomaly_score",
        Architecture: "architecture",
        Bottleneck: "bottleneck",
        Loss: "loss",
        Penalty: "penalty",
    }
    return next(
        (n for kind, n in slots.items() if isinstance(component, kind)), "corruption"
    )


def ends_the_same(model, X, folder, cuts, every=5, **fit_params):
    """Assert that a fit that is cut off ends as one that is not; return its cuts."""
    # Also with a checkpoint: without, several networks are trained as a stack.
    whole = folder / "whole"
    expected = clone(model).set_params(checkpoint=whole).fit(X, **fit_params)
    expected.set_params(checkpoint=None)
    whole.rmdir()
    cuts = cuts(every)
    model = clone(model).set_params(checkpoint=folder)
    found, n_fits = cuts.fit(model, X, **fit_params)
    assert_same(found.set_params(checkpoint=None), expected, X)
    assert list(folder.iterdir()) == []
    return cuts, n_fits


@pytest.mark.slow
@pytest.mark.parametrize(
    "component",
    [c for c in SETTINGS if not isinstance(c, AnomalyScore)],
    ids=lambda component: repr(component)[:60],
)
def test_every_component(component, X, tmp_path, cuts):
    X = X[:100] if slot_of(component) != "loss" else np.abs(X[:100]).round()
    X = X.clip(0, 1) if isinstance(component, skae.losses.Bernoulli) else X
    parts = {slot_of(component): component}
    if "KLSparsity" in repr(component):
        parts["bottleneck"] = Plain("sigmoid")
    model = new(AutoencoderTransformer, 3, max_epochs=5, early_stopping=False, **parts)
    _, n_fits = ends_the_same(model, X, tmp_path, cuts, every=3)
    assert n_fits == 2


CASES = {
    "early stopping": {"max_epochs": 40, "n_iter_no_change": 2},
    "no validation": {"early_stopping": False, "max_epochs": 5},
    "random start": {"architecture": MLP(start="random"), "n_components": 2},
    "optimizer of one's own": {"optimizer": torch.optim.Adagrad},
    "second order": {"optimizer": torch.optim.LBFGS, "lr": 0.1, "max_epochs": 3},
    "momentum": {
        "optimizer": "sgd",
        "weight_decay": 0.01,
        "net_params": {"optimizer__momentum": 0.9},
    },
    "no average": {"net_params": {"averaging": 0.0}},
    "half precision": {"precision": "bf16"},
    "noise": {"corruption": Masking(0.3), "penalty": L1(0.01)},
    "codebook": {"bottleneck": VectorQuantized(8), "n_components": 2},
    "warm-up": {"bottleneck": Variational(warm_up=0.5)},
    "dead components": {
        "bottleneck": BatchTopK(2, dead_window=0.02),
        "n_components": 20,
        "architecture": MLP(()),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_way_to_train(case, X, tmp_path, cuts):
    model = new(AutoencoderTransformer, **{"n_components": 3} | CASES[case])
    X = X[:100] if case == "second order" else X
    _, n_fits = ends_the_same(model, X, tmp_path, cuts, every=2)
    assert n_fits >= 2


@pytest.mark.slow
@pytest.mark.parametrize("estimator", BOTH)
def test_several_networks(estimator, X, tmp_path, cuts):
    # Few rows: networks are trained on all rows, and detectors are cross-fitted.
    n_networks = {} if estimator is AutoencoderTransformer else {"n_estimators": 2}
    model = new(estimator, 2, architecture=MLP(start="random"), **n_networks)
    # Every epoch is trained once, however often the fit is cut off.
    whole = cuts(10**9)
    clone(model).set_params(checkpoint=tmp_path).fit(X[:150])
    with pytest.MonkeyPatch.context() as patch:
        found, n_fits = ends_the_same(
            model, X[:150], tmp_path, partial(Cuts, patch), every=8
        )
        assert n_fits >= 2
        # The first patch has counted this fit, the one before, and the expected one.
        assert found.trained == whole.trained / 3


@pytest.mark.slow
def test_missing_entries_and_weights(X, tmp_path, cuts):
    X = X.copy()
    X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    weight = np.random.default_rng(2).random(len(X))
    model = new(AutoencoderTransformer, 2, max_epochs=25, n_iter_no_change=30)
    # Entries are hidden anew every ten epochs.
    _, n_fits = ends_the_same(
        model, X, tmp_path, cuts, every=7, sample_weight=weight, X_val=X[:100]
    )
    assert n_fits >= 3


def test_lower_rate_after_divergence(X, tmp_path, cuts, monkeypatch):
    step = Net.train_step

    def diverging(net, batch, **kwargs):
        found = step(net, batch, **kwargs)
        if len(net.history) == 5 and not net.divergences_:
            net.weights_.flat.data.fill_(torch.nan)
        return found

    monkeypatch.setattr(Net, "train_step", diverging)
    model = new(AutoencoderTransformer, 3, early_stopping=False)
    assert clone(model).fit(X).net_.divergences_ == [5]
    ends_the_same(model, X, tmp_path, cuts, every=1)


def test_warm_start(X, tmp_path, cuts):
    first = new(AutoencoderTransformer, 3, max_epochs=3, warm_start=True)
    first.fit(X)
    again = new(AutoencoderTransformer, 3, max_epochs=3, warm_start=True).fit(X)
    again.fit(X[::-1])
    cuts = cuts(2)
    first.set_params(checkpoint=tmp_path)
    with pytest.raises(Cut):
        first.fit(X[::-1])
    first.fit(X[::-1])
    assert_same(first.set_params(checkpoint=None), again, X)


class Counts(Callback):
    """Has what a checkpoint cannot hold, and counts epochs in two ways."""

    def on_train_begin(self, net, **kwargs):
        self.seen = len(net.history)
        self.function_ = len
        self.count_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.count_ += 1


@pytest.mark.slow
def test_callbacks(X, tmp_path, cuts):
    def callbacks():
        return [
            ("rate", LRScheduler("StepLR", step_size=3, gamma=0.5)),
            ("stop", EarlyStopping("train_loss", patience=4, threshold=0.05)),
            ("counts", Counts()),
        ]

    def model(**params):
        params["net_params"] = {"callbacks": callbacks()}
        return new(AutoencoderTransformer, 3, max_epochs=40, **params)

    expected = model().fit(X)
    cuts = cuts(5)
    n_fits = 0
    while True:
        found = model(checkpoint=tmp_path)
        n_fits += 1
        try:
            found.fit(X)
            break
        except Cut:
            pass
    assert n_fits >= 2
    found.set_params(checkpoint=None, net_params=None)
    assert_same(found, expected.set_params(net_params=None), X)
    rates = [[e["event_lr"] for e in m.net_.history] for m in (found, expected)]
    assert rates[0] == rates[1]
    counts = dict(found.net_.callbacks_)["counts"]
    assert counts.count_ == found.n_iter_
    assert counts.seen == 5 * (n_fits - 1)


def test_scikit_learn_is_told_of_the_remaining_epochs(X, tmp_path, cuts):
    pytest.importorskip("sklearn.callback")
    begun = []

    class Watch:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            begun.append(context.task_name)

        def on_fit_task_end(self, estimator, context):
            pass

    cuts = cuts(8)
    model = new(AutoencoderTransformer, 3, early_stopping=False, checkpoint=tmp_path)
    with pytest.raises(Cut):
        model.fit(X)
    model.set_callbacks(Watch()).fit(X)
    assert begun.count("epoch") == 4
    assert cuts.trained == 12


def test_a_bar_begins_at_the_epoch(X, tmp_path, cuts, capfd):
    cuts(8)
    model = new(AutoencoderTransformer, 3, early_stopping=False, checkpoint=tmp_path)
    with pytest.raises(Cut):
        model.fit(X)
    capfd.readouterr()
    model.set_params(verbose=1).fit(X)
    assert "epoch 12/12" in capfd.readouterr().err


# What a training is recognised by.

CHANGES = {
    "rows": {"X": lambda X: X + 1e-9},
    "order of rows": {"X": lambda X: X[::-1]},
    "seed": {"random_state": 1},
    "rate": {"lr": 0.006},
    "component": {"penalty": L1(1e-3)},
    "parameter of a component": {"architecture": MLP(activation="tanh")},
    "parameter of the net": {"net_params": {"averaging": 0.9}},
    "number of epochs": {"max_epochs": 13},
    "size of the code": {"n_components": 2},
    "weights": {"sample_weight": lambda X: np.arange(1, len(X) + 1)},
    "validation rows": {"X_val": lambda X: X[:50]},
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_another_training_begins_anew(change, X, tmp_path, cuts):
    params = {"n_components": 3, "early_stopping": False, "checkpoint": tmp_path}
    cuts = cuts(6)
    with pytest.raises(Cut):
        new(AutoencoderTransformer, **params).fit(X)
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    changed = dict(CHANGES[change])
    given = {
        n: changed.pop(n)(X) for n in ("X", "sample_weight", "X_val") if n in changed
    }
    given.setdefault("X", X)
    cuts._left, cuts.trained = 10**9, 0
    model = new(AutoencoderTransformer, **params | changed).fit(**given)
    assert cuts.trained == model.n_iter_
    # The file of the first is left alone, and that fit goes on.
    assert list(tmp_path.iterdir()) == [kept]
    assert kept.read_bytes() == content
    cuts.trained = 0
    new(AutoencoderTransformer, **params).fit(X)
    assert cuts.trained == 6
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_change_a_training(X, tmp_path, cuts):
    cuts = cuts(7)
    params = {"n_components": 3, "early_stopping": False, "checkpoint": str(tmp_path)}
    with pytest.raises(Cut):
        new(AutoencoderTransformer, **params).fit(X)
    cuts.trained = 0
    params |= {"verbose": 1, "whiten": True, "checkpoint": tmp_path}
    new(AutoencoderTransformer, **params).fit(np.asfortranarray(X))
    assert cuts.trained == 5


@pytest.mark.slow
def test_searches_share_a_folder(X, tmp_path, cuts):
    model = new(AutoencoderTransformer, early_stopping=False, max_epochs=5)
    grid = {"n_components": [1, 2], "lr": [0.005, 0.01]}
    expected = GridSearchCV(model, grid, cv=2).fit(X)
    cuts = cuts(17)
    model.set_params(checkpoint=tmp_path)
    search = GridSearchCV(model, grid, cv=2, refit=False)
    with pytest.raises(Cut):
        search.fit(X)
    cuts._left = 10**9
    found = search.fit(X)
    # Candidates that are finished are fitted again, the one that is not goes on.
    assert cuts.trained == 15 + 8 * 5
    for name in ("mean_test_score", "std_test_score"):
        assert_array_equal(found.cv_results_[name], expected.cv_results_[name])
    assert list(tmp_path.iterdir()) == []


# The file.


def test_a_damaged_file_begins_anew(X, tmp_path, cuts):
    cuts = cuts(6)
    model = new(AutoencoderTransformer, 3, early_stopping=False)
    expected = clone(model).fit(X)
    model.set_params(checkpoint=tmp_path)
    with pytest.raises(Cut):
        model.fit(X)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    cuts.trained, cuts._left = 0, 10**9
    with pytest.warns(InvalidCheckpointWarning, match="is damaged"):
        model.fit(X)
    assert cuts.trained == 12
    assert_same(model.set_params(checkpoint=None), expected, X)


def test_a_file_is_whole_at_any_time(X, tmp_path, cuts, monkeypatch):
    cuts = cuts(6)
    model = new(AutoencoderTransformer, 3, early_stopping=False, checkpoint=tmp_path)
    with pytest.raises(Cut):
        model.fit(X)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(skae._archive.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        model.fit(X)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == content


def test_what_was_being_written_is_removed(X, tmp_path, cuts):
    cuts(7)
    model = new(AutoencoderTransformer, 3, early_stopping=False, checkpoint=tmp_path)
    with pytest.raises(Cut):
        model.fit(X)
    (file,) = tmp_path.iterdir()
    (tmp_path / f".{file.name}.0123456789abcdef").write_bytes(b"half")
    (tmp_path / "notes").write_text("of the user")
    model.fit(X)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_writing_takes_a_fiftieth_of_the_time(X, tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def writing(path, state):
        written.append(now[0])
        now[0] += 0.1

    monkeypatch.setattr(module, "write_state", writing)
    checkpoint = module.Checkpoint(tmp_path / "file")
    for number in range(100):
        now[0] += 1.0
        checkpoint.save(dict, last=number == 99)
    # At the first epoch, then five seconds after writing ended, then at the end.
    assert len(written) == pytest.approx(1 + 99 / 6 + 1, abs=2)
    assert np.diff(written)[:-1].min() >= 5.0
    assert written[-1] > now[0] - 1


def test_states_are_what_they_were(tmp_path):
    state = {
        "none": None,
        "numbers": [True, 1, 2**70, 0.1, np.inf, -np.inf],
        "long": [0.1 * n for n in range(100)] + [np.nan],
        "records": [{"a": 0.1 * n, "b": [{}], "c": n} for n in range(20)],
        "nested": {"x": (1, [2, {"y": (3,)}]), 4: "four", (5, 6): {}},
        "tensor": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "state": torch.Generator().get_state(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 2),
        "array": np.arange(6).reshape(2, 3)[::-1, ::2],
        "text": 'a"ü',
    }
    write_state(tmp_path / "file", state)
    found = read_state(tmp_path / "file")
    assert found.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value)
            assert found[name].dtype == value.dtype
        elif isinstance(value, np.ndarray):
            assert_array_equal(found[name], value, strict=True)
        else:
            assert repr(found[name]) == repr(value)


def test_states_are_data(tmp_path):
    with pytest.raises(TypeError, match=r"hold state\.history\[0\]\.x: .* object"):
        write_state(tmp_path / "file", {"history": [{"x": object()}]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", range(0, 1300, 13))
def test_no_damage_goes_unnoticed(at, tmp_path):
    file = tmp_path / "file"
    write_state(file, {"x": torch.arange(4.0), "y": [1, {"z": np.arange(3)}]})
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= 1 << at % 8
    file.write_bytes(content)
    with pytest.raises(InvalidFileError):
        read_state(file)
    file.write_bytes(content[: at % len(content)])
    with pytest.raises(InvalidFileError):
        read_state(file)


# Parameters.


@pytest.mark.parametrize("estimator", BOTH)
def test_a_seed_is_needed(estimator, X, tmp_path):
    with pytest.raises(ValueError, match="checkpoint needs a seed as random_state"):
        estimator(2, checkpoint=tmp_path).fit(X)


def test_a_generator_is_a_seed(X, tmp_path, cuts):
    model = new(AutoencoderTransformer, 3, early_stopping=False)
    expected = clone(model).set_params(random_state=np.random.RandomState(3)).fit(X)
    cuts = cuts(7)
    model.set_params(checkpoint=tmp_path)
    with pytest.raises(Cut):
        model.set_params(random_state=np.random.RandomState(3)).fit(X)
    model.set_params(random_state=np.random.RandomState(3)).fit(X)
    assert cuts.trained == 12
    model.set_params(checkpoint=None, random_state=None)
    assert_same(model, expected.set_params(random_state=None), X)


def test_a_file_is_no_folder(X, tmp_path):
    (tmp_path / "file").write_text("of the user")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="'checkpoint' parameter must be the path"):
            new(AutoencoderTransformer, 2, checkpoint=path).fit(X)
    with pytest.raises(ValueError, match="'checkpoint' parameter of Auto"):
        new(AutoencoderTransformer, 2, checkpoint=3).fit(X)


def test_folders_are_made(X, tmp_path):
    folder = tmp_path / "a" / "b"
    new(AutoencoderTransformer, 2, checkpoint=folder).fit(X)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("estimator", BOTH)
def test_files_of_estimators_have_no_folder(estimator, X, tmp_path):
    model = new(estimator, 2, checkpoint=tmp_path / "checkpoints")
    skae.save(model.fit(X), tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    assert loaded.checkpoint is None
    assert_array_equal(loaded.transform(X), model.transform(X))


# Killed in earnest.

KILLED = """if True:
    import sys
    import numpy as np
    from sklearn.datasets import load_digits
    import skae
    from skae._training import checkpoint
    checkpoint._SHARE = 1e9
    folder, result = sys.argv[1:]
    model = skae.AutoencoderOutlierDetector(
        4, n_estimators=2, max_epochs=15, random_state=0, checkpoint=folder
    )
    X = load_digits().data[:600]
    print("ready", flush=True)
    model.fit(X)
    np.save(result, model.score_samples(X))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_kill(tmp_path):
    def start(folder, name):
        code = [sys.executable, "-W", "ignore", "-c", KILLED, str(folder)]
        process = subprocess.Popen(
            [*code, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        )
        with process.stdout as output:
            assert output.readline() == "ready\n"
        return process

    begin = time.monotonic()
    assert start(tmp_path / "other", "whole.npy").wait() == 0
    seconds = time.monotonic() - begin
    rng = np.random.default_rng(0)
    for n_kills in range(40):
        process = start(tmp_path / "folder", "killed.npy")
        if n_kills < 4:
            time.sleep(rng.uniform(0, seconds / 2))
        else:
            process.wait()
        process.kill()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert n_kills >= 2
    assert_array_equal(
        np.load(tmp_path / "killed.npy"), np.load(tmp_path / "whole.npy")
    )
    assert os.listdir(tmp_path / "folder") == []
