"""What training does, when it stops, what it keeps and what it says of itself."""

import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import make_swiss_roll
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.exceptions import DivergenceWarning
from skae.losses import Bernoulli, Poisson

# Most fits here end before they should.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.fixture(scope="module")
def roll():
    """Rows on a rolled-up sheet: two numbers say all, but not linearly."""
    return make_swiss_roll(300, random_state=0)[0]


@pytest.fixture(scope="module")
def fresh():
    return make_swiss_roll(100, random_state=1)[0]


def small(**params):
    """Return a transformer that trains in a moment and keeps what it learnt."""
    defaults = {
        "n_components": 2,
        "architecture": MLP((8,)),
        "early_stopping": False,
        "lr": 1e-2,
        "max_epochs": 5,
        "random_state": 0,
    }
    return AutoencoderTransformer(**defaults | params)


def objective(model, X):
    """Compute the mean loss of rows from what is public."""
    scaled = (X - model.reconstruct(X)) / model.scale_
    return 0.5 * np.square(scaled).sum(axis=1).mean()


def weights(model):
    return torch.cat([p.flatten() for p in model.net_.module_.parameters()])


# Held-out rows


def test_best_epoch_has_the_lowest_held_out_loss(roll, fresh):
    model = small(
        architecture=MLP((8,), start="random"),
        early_stopping=True,
        lr=0.3,  # too long a step: it gets worse again
        max_epochs=30,
    ).fit(roll, X_val=fresh)
    assert 0 < model.best_epoch_ < model.n_iter_
    assert model.best_epoch_ == 1 + np.argmin(model.history_["valid_loss"])


@pytest.mark.parametrize("early_stopping", [True, False])
def test_held_out_loss_is_that_of_the_weights_kept(roll, fresh, early_stopping):
    textbook = MLP((8,), start="random", linear_path=False)
    model = small(architecture=textbook, early_stopping=early_stopping)
    model.fit(roll, X_val=fresh)
    assert model.best_epoch_ > 0
    kept = model.history_["valid_loss"][model.best_epoch_ - 1]
    np.testing.assert_allclose(kept, objective(model, fresh), rtol=1e-5)


def test_initial_loss_is_that_of_pca(roll, fresh):
    few = roll[:79]
    untrained = AutoencoderTransformer(2).fit(few)
    model = small(early_stopping=True).fit(few, X_val=fresh)
    assert model.n_iter_ == 5  # few rows train where others judge
    np.testing.assert_allclose(
        model.diagnostics_["initial_loss"], objective(untrained, fresh), rtol=1e-5
    )


def test_x_val_replaces_the_split(roll, fresh):
    model = small(early_stopping=True).fit(roll, X_val=fresh)
    assert model.diagnostics_["n_held_out"] == len(fresh)
    # The share to hold out no longer matters.
    other = small(early_stopping=True, validation_fraction=0.5).fit(roll, X_val=fresh)
    np.testing.assert_array_equal(model.transform(roll), other.transform(roll))


@pytest.mark.parametrize(
    ("n_samples", "fraction", "n_held_out"),
    [
        (79, 0.1, 0),
        (80, 0.1, 20),
        (199, 0.1, 20),
        (199, 0.3, 60),
        (200, 0.1, 50),
        (300, 0.5, 150),
        (1000, 0.1, 100),
    ],
)
def test_how_many_rows_are_held_out(n_samples, fraction, n_held_out):
    X, _ = make_swiss_roll(n_samples, random_state=0)
    model = small(early_stopping=True, validation_fraction=fraction, max_epochs=1).fit(
        X
    )
    assert model.diagnostics_["n_held_out"] == n_held_out
    model.set_params(early_stopping=False).fit(X)
    assert model.diagnostics_["n_held_out"] == 0


def test_without_early_stopping_the_last_weights_are_kept(roll):
    model = small(early_stopping=False, max_epochs=7).fit(roll)
    assert model.n_iter_ == model.best_epoch_ == 7
    assert "valid_loss" not in model.history_


@pytest.mark.parametrize("early_stopping", [True, False])
def test_stops_after_epochs_without_change(roll, early_stopping):
    # No epoch can improve by the whole objective, the first counts as one that waits.
    model = small(
        early_stopping=early_stopping, tol=1.0, n_iter_no_change=3, max_epochs=50
    ).fit(roll)
    assert 3 <= model.n_iter_ <= 4


@pytest.mark.parametrize("with_validation", [True, False])
def test_history_has_an_entry_per_epoch(roll, fresh, with_validation):
    model = small(early_stopping=with_validation).fit(roll)
    assert len(model.history_["train_loss"]) == model.n_iter_ == 5
    assert len(model.history_["seconds"]) == 5
    assert ("valid_loss" in model.history_) == with_validation
    assert len(model.history_.get("valid_loss", range(5))) == 5
    for values in model.history_.values():
        assert values.dtype == np.float64
        assert np.isfinite(values).all()


# What is said


def test_convergence_warning_while_improving(roll):
    with pytest.warns(ConvergenceWarning, match="max_epochs=2 was reached"):
        small(early_stopping=True, max_epochs=2, lr=2e-2).fit(roll)


@pytest.mark.parametrize(
    "params",
    [
        {"max_epochs": 300, "tol": 0.1, "n_iter_no_change": 2},  # it stops by itself
        {"max_epochs": 5, "early_stopping": False},  # as many epochs as asked for
    ],
)
def test_no_warning_where_nothing_is_wrong(roll, params):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = small(**{"early_stopping": True} | params).fit(roll)
    assert model.n_iter_ < 300


@pytest.mark.parametrize("start", ["pca", "random"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("lr", [1e10, 1e38])
def test_divergence_warns_and_leaves_finite_weights(
    roll, lr, early_stopping, optimizer, start
):
    model = small(
        architecture=MLP((8,), start=start),
        optimizer=optimizer,
        early_stopping=early_stopping,
        lr=lr,
        gradient_clip=None,
        batch_size=len(roll),  # one step per epoch: its loss is that before the step
    )
    with pytest.warns(DivergenceWarning, match="Lower lr"):
        model.fit(roll)
    assert model.diagnostics_["diverged"]
    assert torch.isfinite(weights(model)).all()
    assert np.isfinite(model.transform(roll)).all()


def test_divergence_keeps_pca(roll):
    model = small(early_stopping=True, lr=1e10)
    with pytest.warns(DivergenceWarning, match="epoch 0 were kept"):
        model.fit(roll)
    np.testing.assert_allclose(
        model.reconstruction_error(roll).mean(),
        model.pca_reconstruction_error_,
        rtol=1e-5,
    )


def test_a_rate_that_is_too_high_is_lowered_once(roll):
    params = {"optimizer": "sgd", "gradient_clip": None, "early_stopping": True}
    network = MLP((16,), activation="relu", start="random")
    model = small(architecture=network, lr=1.0, max_epochs=60, **params)
    with pytest.warns(DivergenceWarning, match="with a tenth of lr"):
        model.fit(roll)
    assert model.diagnostics_["diverged"]
    assert model.best_epoch_ > 1
    assert model.score(roll) > 0.5


def test_divergence_names_the_columns_with_the_largest_values(roll):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.c_[roll, roll[:, ::-1] / 7], columns=list("abcdef"))
    X.loc[7, "e"], X.loc[8, "b"] = 1e7, -1e5
    largest = ((X - X.mean()) / X.std(ddof=0)).abs().max()
    model = small(lr=1e10, gradient_clip=None, scaling="standard")
    named = rf"values: 'e' \({largest['e']:.3g}\), 'b' \({largest['b']:.3g}\), "
    with pytest.warns(DivergenceWarning, match=named.replace("'", "")):
        model.fit(X)


def test_silent_by_default(roll, capfd):
    small().fit(roll).transform(roll)
    sys.stdout.flush()
    assert capfd.readouterr() == ("", "")


def test_verbose_shows_a_bar(roll, capfd):
    small(verbose=1).fit(roll)
    out, err = capfd.readouterr()
    assert out == ""
    assert "5/5" in err
    assert "train_loss" in err


# warm_start


def test_warm_start_continues(roll):
    model = small(warm_start=True).fit(roll)
    before = model.transform(roll)
    # A step of no length: what is left is what was there.
    model.set_params(lr=1e-30, max_epochs=1).fit(roll)
    np.testing.assert_allclose(model.transform(roll), before, atol=1e-4)
    assert model.n_iter_ == 1


def test_warm_start_goes_further(roll):
    model = small(
        warm_start=True, architecture=MLP((8,), start="random", linear_path=False)
    ).fit(roll)
    first = model.history_["train_loss"]
    model.fit(roll)
    assert model.history_["train_loss"].max() < first.min()


def test_warm_start_goes_further_on_few_rows_too(roll):
    # So few that nothing is held out: no reason to take what there is for the best.
    textbook = MLP((8,), start="random", linear_path=False)
    model = small(warm_start=True, architecture=textbook, early_stopping=True)
    scores = [model.fit(roll[:100]).score(roll[:100]) for _ in range(3)]
    assert model.n_iter_ == 5
    assert scores == sorted(scores)


@pytest.mark.parametrize("optimizer", [torch.optim.Rprop, torch.optim.Adagrad])
def test_optimizers_of_torch_need_not_know_weight_decay(roll, optimizer):
    model = small(optimizer=optimizer).fit(roll)
    assert model.history_["train_loss"][-1] < model.history_["train_loss"][0]


def test_without_warm_start_training_begins_anew(roll):
    model = small().fit(roll)
    before = model.transform(roll)
    np.testing.assert_array_equal(model.fit(roll).transform(roll), before)


def test_warm_start_keeps_scaling_and_size(roll, fresh):
    model = small(warm_start=True).fit(roll)
    mean, scale = model.mean_, model.scale_
    model.set_params(n_components=1).fit(fresh + 100.0)
    np.testing.assert_array_equal(model.mean_, mean)
    np.testing.assert_array_equal(model.scale_, scale)
    assert model.n_components_ == 2


@pytest.mark.parametrize(
    "changed",
    [MLP((9,)), MLP(()), MLP((8, 8)), MLP((8,), linear_path=False, start="random")],
)
def test_warm_start_refuses_another_architecture(roll, changed):
    model = small(warm_start=True).fit(roll)
    before = model.transform(roll)
    with pytest.raises(ValueError, match=r"warm_start=True .* architecture"):
        model.set_params(architecture=changed).fit(roll)
    np.testing.assert_array_equal(model.transform(roll), before)


def test_warm_start_refuses_another_width(roll):
    model = small(warm_start=True).fit(roll)
    before = model.transform(roll)
    with pytest.raises(ValueError, match="features"):
        model.fit(roll[:, :2])
    np.testing.assert_array_equal(model.transform(roll), before)


def test_warm_start_of_an_unfitted_estimator_is_a_first_fit(roll):
    warm, cold = small(warm_start=True).fit(roll), small().fit(roll)
    np.testing.assert_array_equal(warm.transform(roll), cold.transform(roll))


# Ctrl-C


class Interrupt(Callback):
    """The user loses patience in the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def interrupted(**params):
    return small(net_params={"callbacks": [("interrupt", Interrupt())]}, **params)


def test_keyboard_interrupt_reaches_the_caller(roll):
    with pytest.raises(KeyboardInterrupt):
        interrupted().fit(roll)


def test_keyboard_interrupt_ends_a_search(roll):
    # skorch would take it for the end of one fit, and the search would go on.
    search = GridSearchCV(interrupted(), {"lr": [1e-3, 1e-2]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(roll)


@pytest.mark.parametrize("before", [None, Bernoulli()], ids=repr)
def test_a_warm_start_with_another_loss_says_so(before, X):
    X = (X - X.min()) / np.ptp(X)
    other = Bernoulli() if before is None else None
    model = AutoencoderTransformer(2, loss=before, warm_start=True, max_epochs=1)
    model.fit(X)
    with pytest.raises(ValueError, match="the loss was changed since"):
        model.set_params(loss=other).fit(X)
    if before is not None:
        with pytest.raises(ValueError, match="the loss was changed since"):
            model.set_params(loss=Poisson()).fit(X)
    model.set_params(loss=before, architecture=MLP((3,)))
    with pytest.raises(ValueError, match="architecture or bottleneck were changed"):
        model.fit(X)
