"""Few rows: validation chooses the epoch, and all of them are trained on."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skae import AutoencoderTransformer, load, save
from skae._training import few_rows
from skae._training.outcome import why_unchanged
from skae.architectures import MLP
from skae.bottlenecks import TopK, Variational, VectorQuantized
from skae.corruptions import Gaussian
from skae.exceptions import InitialWeightsWarning
from skae.losses import Bernoulli, Poisson
from skae.penalties import Contractive

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


def curve(n, seed):
    rng = np.random.RandomState(seed)
    t = rng.uniform(-1, 1, (n, 1))
    X = np.hstack([t, np.cos(3 * t), np.sin(3 * t), t**2])
    return X + rng.normal(scale=0.05, size=X.shape)


def fitted(X, max_epochs=40, **parameters):
    model = AutoencoderTransformer(
        1, max_epochs=max_epochs, random_state=0, **parameters
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)


@pytest.mark.slow
def test_every_row_is_trained_on(monkeypatch):
    X = curve(120, 0)
    held_out = fitted(X).net_
    rows = []
    data = few_rows.make_net

    def recorded(plan, *args):
        rows.append(len(plan.data().train))
        return data(plan, *args)

    monkeypatch.setattr(few_rows, "make_net", recorded)
    model = fitted(X)
    assert rows[-1] == len(X)
    assert model.best_epoch_ == held_out.best_epoch_ > 0


def test_the_weights_are_those_of_so_many_epochs_on_all_rows():
    X = curve(150, 1)
    network = MLP((16,), start="random")
    chosen = fitted(X, architecture=network)
    assert 0 < chosen.best_epoch_
    again = fitted(
        X,
        architecture=network,
        early_stopping=False,
        max_epochs=chosen.best_epoch_,
        n_iter_no_change=10**6,
    )
    np.testing.assert_allclose(chosen.transform(X), again.transform(X), rtol=1e-6)


def test_callbacks_see_one_training_only():
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, net, **_):
            epochs.append(len(net.history))

    X = curve(120, 0)
    model = fitted(X, net_params={"callbacks": [Count()]})
    assert epochs == list(range(1, model.n_iter_ + 1))


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 180])
def test_a_curve_is_found_with_few_rows(n, seed):
    X, new = curve(n, seed), curve(2000, seed + 1)
    pca = PCA(1).fit(X)
    error = np.square(new - pca.inverse_transform(pca.transform(new))).sum()
    model = fitted(X, max_epochs=200)
    assert np.square(new - model.reconstruct(new)).sum() < 0.5 * error


def test_unclear_gains_are_cross_validated(monkeypatch):
    """On wine, 20 validation rows cannot tell; all 133 can."""
    X = StandardScaler().fit_transform(load_wine().data)
    X = X[np.random.RandomState(0).permutation(len(X))[:133]]
    judged = []
    decide = few_rows.is_clear_gain

    def recorded(gains, *args):
        judged.append(gains)
        return decide(gains, *args)

    monkeypatch.setattr(few_rows, "is_clear_gain", recorded)
    model = AutoencoderTransformer(2, random_state=0).fit(X)
    of_validation_rows, gains = judged
    assert len(of_validation_rows) == 20
    assert not decide(of_validation_rows, None, 3.0)
    assert gains.shape == (133,)
    # Zero only where no epoch of a fold gained anything.
    assert (gains != 0).mean() >= 0.6
    assert (model.best_epoch_ > 0) == decide(gains, None, 3.0)


# Too few rows for a validation set

CLOSE_TO_PCA = [
    {"loss": Bernoulli()},
    {"loss": Poisson()},
    {"corruption": Gaussian(0.1)},
    {"penalty": Contractive(0.01)},
    {"bottleneck": Variational()},
]


def ones(rng, n):
    return (rng.rand(n, 8) < 0.5).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("parts", CLOSE_TO_PCA)
@pytest.mark.parametrize("n", [12, 40])
def test_the_start_is_kept_where_nothing_can_be_learnt(parts, n, rng):
    X, new = ones(rng, n), ones(rng, 2000)
    model = AutoencoderTransformer(2, random_state=0, **parts)
    if n < 20:
        with pytest.warns(InitialWeightsWarning, match="too few rows"):
            model.fit(X)
    else:
        why = "no gain clear of noise"
        assert model.fit(X).kept_weights_ == f"initial weights: {why}"
    assert model.best_epoch_ == 0
    # With a loss alone, training ends further from new rows.
    trained = clone(model).set_params(early_stopping=False).fit(X)
    assert trained.best_epoch_ > 0
    if n == 40 and "loss" in parts:
        error = [np.square(new - m.reconstruct(new)).mean() for m in (model, trained)]
        assert error[0] < error[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts", [{"corruption": Gaussian(0.05)}, {"loss": Bernoulli()}]
)
def test_a_clear_gain_of_few_rows_is_taken(parts):
    X, new = curve(70, 0) / 6 + 0.5, curve(1000, 1) / 6 + 0.5
    model = fitted(X, max_epochs=100, **parts)
    assert model.best_epoch_ == model.n_iter_ > 0
    assert model.diagnostics_["n_held_out"] == 0
    pca = PCA(1).fit(X)
    error = np.square(new - pca.inverse_transform(pca.transform(new))).sum()
    assert np.square(new - model.reconstruct(new)).sum() < 0.7 * error


def test_rows_are_judged_by_networks_that_have_not_seen_them(monkeypatch, rng):
    seen, training = [], few_rows.Training

    def recorded(net, data, *args, **kwargs):
        seen.append(data)
        return training(net, data, *args, **kwargs)

    monkeypatch.setattr(few_rows, "Training", recorded)
    X = rng.rand(41, 8)
    model = fitted(X, loss=Bernoulli())
    assert model.kept_weights_ == "initial weights: no gain clear of noise"
    assert len(seen) == 5
    for data in seen:
        parts = [
            part.source.take(slice(None)) for part in (data.train, data.validation)
        ]
        train, judges = (set(map(bytes, np.asarray(part))) for part in parts)
        assert not train & judges
        assert len(train) + len(judges) == len(X)


@pytest.mark.parametrize("max_epochs", [1, 30])
def test_folds_that_were_not_finished_are_told(max_epochs):
    X = curve(70, 0) / 6 + 0.5
    model = AutoencoderTransformer(
        1, corruption=Gaussian(0.05), max_epochs=max_epochs, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match=f"max_epochs={max_epochs} .*change=45"):
        model.fit(X)
    assert (model.best_epoch_ > 0) == (max_epochs > 1)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"lr": 1e-9}, "lr too low"),
        ({"lr": 1e30, "optimizer": "sgd", "gradient_clip": None}, "loss not finite"),
    ],
)
def test_folds_that_could_not_train_say_why(params, why, tmp_path):
    model = AutoencoderTransformer(
        1, loss=Bernoulli(), n_iter_no_change=1, random_state=0, **params
    )
    with pytest.warns(InitialWeightsWarning, match=f"{why}.* (Raise|Lower) lr"):
        model.fit(curve(40, 0) / 6 + 0.5)
    assert model.kept_weights_ == f"initial weights: {why}"
    # The net has the reason in files, too.
    save(model, tmp_path / "model.skae")
    assert why_unchanged(load(tmp_path / "model.skae").net_) is why_unchanged(
        model.net_
    )


def test_folds_take_the_epochs_of_the_whole_table():
    # Folds of 56 rows have two steps an epoch, all 70 rows have three.
    model = AutoencoderTransformer(
        1, corruption=Gaussian(0.05), n_iter_no_change=10_000, random_state=0
    )
    model.set_params(batch_size=5)  # 14 steps: 493 epochs; of folds it were 575
    with pytest.warns(ConvergenceWarning, match="max_epochs=493 "):
        model.fit(curve(70, 0) / 6 + 0.5)
    assert model.best_epoch_ <= 493


@pytest.mark.parametrize(
    "parts",
    [
        {"bottleneck": TopK(1)},
        {"bottleneck": VectorQuantized(4)},
        {"architecture": MLP((8,), start="random"), "loss": Bernoulli()},
        {"early_stopping": False, "loss": Bernoulli()},
        {"early_stopping": False, "corruption": Gaussian(0.1)},
    ],
)
@pytest.mark.parametrize("n", [12, 40])
def test_what_needs_training_or_is_asked_for_is_trained(parts, n, rng):
    assert fitted(ones(rng, n), max_epochs=3, **parts).best_epoch_ > 0
