"""The second stage of training, in which the encoder is trained alone."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.datasets import make_s_curve
from sklearn.decomposition import PCA
from skorch.callbacks import EpochTimer
from torch import nn

from skae import AutoencoderTransformer
from skae._data.source import Resident
from skae._gradient.closed_form import ClosedForm
from skae._training import encoder_stage
from skae._training.batches import Batch, Batches, Rows
from skae._training.encoder_stage import EncoderNet, _Rounds
from skae.architectures import MLP, Custom
from skae.bottlenecks import Nested, TopK
from skae.corruptions import Gaussian
from skae.exceptions import OutOfMemoryWarning
from skae.losses import Bernoulli, Huber
from skae.model_selection import AutoencoderSearchCV
from skae.penalties import L1

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


def surface(n_rows, seed):
    """Return rows along a bent surface in eight columns, with a little noise."""
    rows, _ = make_s_curve(n_rows, random_state=seed)
    mixing = np.random.RandomState(0).normal(size=(3, 8))
    noise = np.random.RandomState(seed).normal(size=(n_rows, 8))
    return rows @ mixing + 0.3 * noise


X, NEW = surface(700, 1), surface(2000, 2)


def small(**params):
    defaults = {
        "n_components": 2,
        "architecture": MLP((32,), start="random"),
        "n_iter_no_change": 3,
        "max_encoder_steps": 1000,
        "random_state": 0,
    }
    return AutoencoderTransformer(**defaults | params)


@pytest.fixture(scope="module")
def without():
    return small(max_encoder_steps=0).fit(X)


@pytest.fixture(scope="module")
def model():
    return small(max_encoder_steps=500).fit(X)


def error(model, X):
    return model.reconstruction_error(X).mean()


def states(model):
    """Return the weights of encoder and decoder."""
    module = model.net_.module_
    return module.encoder.state_dict(), module.decoder.state_dict()


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_codes_of_new_rows_are_nearer_to_the_best_ones(model, without):
    """Gauss-Newton steps find the best codes: the stage goes a part of the way."""
    best = small(max_encoder_steps=0, n_projection_steps=4).fit(X)
    errors = [error(m, NEW) for m in (best, model, without)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[1] < errors[0] + 0.7 * (errors[2] - errors[0])
    assert error(model, NEW) < error(PCA_OF_X(), NEW)


class PCA_OF_X:
    def reconstruction_error(self, rows):
        pca = PCA(2).fit(X)
        projected = pca.inverse_transform(pca.transform(rows))
        return np.square(rows - projected).mean(axis=1)


def test_only_the_encoder_changes(model, without):
    (encoder, decoder), (encoder_0, decoder_0) = states(model), states(without)
    assert equal(decoder, decoder_0)
    assert not equal(encoder, encoder_0)
    assert model.diagnostics_["n_encoder_steps"] > 0
    assert without.diagnostics_["n_encoder_steps"] == 0
    for name in ("n_iter_", "best_epoch_"):
        assert getattr(model, name) == getattr(without, name)
    np.testing.assert_array_equal(
        model.validation_loss_curve_, without.validation_loss_curve_
    )


def test_statistics_of_batch_normalisation_do_not_change():
    architecture = MLP((32,), norm="batch", start="random")
    fits = [
        small(architecture=architecture, max_encoder_steps=n).fit(X) for n in (0, 300)
    ]
    states_of = [dict(m.net_.module_.named_buffers()) for m in fits]
    assert any(name.endswith("variance") for name in states_of[0])
    assert equal(*states_of)
    assert fits[1].diagnostics_["n_encoder_steps"] > 0
    # Such a model may be trained on, by batches again.
    assert not any(getattr(m, "fixed", False) for m in fits[1].net_.module_.modules())


def test_the_loss_of_the_kept_weights_is_reported(model, without):
    assert model.diagnostics_["best_loss"] < without.diagnostics_["best_loss"]
    assert without.diagnostics_["best_loss"] == min(without.validation_loss_curve_)


def test_weights_that_are_no_better_on_the_validation_set_are_not_kept(
    without, monkeypatch
):
    monkeypatch.setattr(encoder_stage, "_RESIDUALS", 1e6)
    model = small(max_encoder_steps=100).fit(X)
    assert model.diagnostics_["n_encoder_steps"] == 0
    assert equal(states(model)[0], states(without)[0])


@pytest.mark.parametrize("max_encoder_steps", [1, 250])
def test_so_many_steps_are_taken_at_a_rate_that_falls_to_zero(
    max_encoder_steps, monkeypatch
):
    rates, train_step = [], EncoderNet.train_step

    def step(self, batch, **params):
        found = train_step(self, batch, **params)
        rates.append(self.optimizer_.param_groups[0]["lr"])
        return found

    monkeypatch.setattr(EncoderNet, "train_step", step)
    model = small(max_encoder_steps=max_encoder_steps, lr=4e-3).fit(X)
    left = 1 - np.arange(len(rates)) / len(rates)
    np.testing.assert_allclose(rates, 4e-3 * left)
    # In equal rounds.
    assert 0.9 * max_encoder_steps <= len(rates) <= max_encoder_steps
    assert model.diagnostics_["n_encoder_steps"] <= len(rates)


def test_there_are_no_more_steps_than_in_the_first_stage(monkeypatch):
    monkeypatch.setattr(encoder_stage, "_LEAST_STEPS", 1)
    model = small(max_encoder_steps=10**9).fit(X)
    per_epoch = np.ceil(630 / model.diagnostics_["batch_size"])
    assert model.diagnostics_["n_encoder_steps"] <= model.n_iter_ * per_epoch
    # A step of a wide network takes as long as its rows.
    monkeypatch.setattr(encoder_stage, "_MOST_WORK", 1)
    model = small(max_encoder_steps=10**9).fit(X)
    assert model.diagnostics_["n_encoder_steps"] <= model.n_iter_ * 630 / 128


def test_every_second_row_is_generated_around_another_row(generator):
    """With PCA residuals are orthogonal to what is decoded, and can be told from it."""
    pca = AutoencoderTransformer(2, architecture=MLP(()), scaling=None).fit(X)
    module = pca.net_.module_
    x = torch.from_numpy(X).float()
    weight = torch.arange(1.0, 701.0)
    rounds = _Rounds(Rows(Resident(x), weight), 100, generator, 3, module)
    batches = list(rounds)
    assert [len(batch.x) for batch in batches] == [100] * 3
    rows = torch.cat([batch.x for batch in batches])
    numbers = torch.cat([batch.weight for batch in batches]).long() - 1
    assert torch.equal(rows[::2], x[numbers[::2]])
    generated = rows[1::2]
    residuals = (x - module.reconstruct(x))[numbers]
    found = generated - module.reconstruct(generated)
    found, residuals = (found / encoder_stage._RESIDUALS).detach(), residuals.detach()
    exact = "donot_use_mm_for_euclid_dist"
    nearest = torch.cdist(found, residuals, compute_mode=exact).min(dim=1)
    assert nearest.values.max() < 1e-4
    assert (nearest.indices != torch.arange(1, 300, 2)).float().mean() > 0.9
    # The codes are those of the rows in their place, and noise.
    codes = module.encode(x)
    moved = (module.encode(generated) - codes[numbers[1::2]]) / codes.std(dim=0)
    assert moved.std().item() == pytest.approx(encoder_stage._NOISE, rel=0.2)
    assert abs(moved.mean()) < 0.05


def test_a_round_of_several_passes_has_all_rows(generator):
    module = small(max_epochs=1).fit(X).net_.module_
    x = torch.arange(21.0)[:, None].expand(-1, 8)
    rounds = _Rounds(Rows(Resident(x)), 50, generator, 10, module)
    rows = rounds.shuffled()
    assert len(rows.x) == 210
    assert rows.weight is None
    assert {float(row[0]) for row in rows.x[::2]} == set(range(21))


@pytest.mark.parametrize(
    "params",
    [
        {"architecture": MLP(())},
        {"bottleneck": Nested()},
        {"bottleneck": TopK(2), "n_components": 6},
        {"corruption": Gaussian(0.1)},
        {"early_stopping": False, "max_epochs": 5},
        {"loss": Bernoulli()},
        {"loss": Huber()},
        {"max_epochs": 2},
        {"penalty": L1(0.01)},
    ],
    ids=str,
)
def test_where_there_is_no_second_stage(params, monkeypatch):
    monkeypatch.setattr(EncoderNet, "train_step", _fails)
    rows = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    small(**{"max_epochs": 8, "n_iter_no_change": 1, "tol": 0.5} | params).fit(rows)


def test_schedules_and_callbacks_belong_to_the_first_stage(monkeypatch):
    class Schedule(nn.Identity):
        def after_step(self, progress):
            """Do nothing."""

    class Scheduled(MLP):
        def build(self, *sizes):
            encoder, decoder = super().build(*sizes)
            decoder.after_step = Schedule().after_step
            return encoder, decoder

    monkeypatch.setattr(EncoderNet, "train_step", _fails)
    stops = {"n_iter_no_change": 1, "tol": 0.5}
    small(**stops, architecture=Scheduled((8,), start="random")).fit(X)
    small(**stops, net_params={"callbacks": [EpochTimer()]}).fit(X)


def test_an_optimizer_without_a_rate():
    class Signs(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {})

        def step(self, closure):
            closure()
            with torch.no_grad():
                for group in self.param_groups:
                    assert "lr" not in group
                    for p in group["params"]:
                        if p.grad is not None:
                            p -= 1e-3 * p.grad.sign()

    stops = {"n_iter_no_change": 1, "tol": 0.05}
    model = small(optimizer=Signs, max_encoder_steps=50, **stops).fit(X)
    assert "encoder" in model.kept_weights_


def test_large_batches_take_few_steps(monkeypatch):
    monkeypatch.setattr(encoder_stage, "_MOST_ROWS", 1000)
    rows = np.tile(X, (3, 1))
    stops = {"n_iter_no_change": 1, "tol": 0.5}
    model = small(max_encoder_steps=10**9, batch_size=1000, **stops).fit(rows)
    assert model.diagnostics_["n_encoder_steps"] <= 2 * model.n_iter_


def _fails(*args, **params):
    raise AssertionError("there is a second stage")


def test_missing_values_pairs_and_warm_starts_have_no_second_stage(monkeypatch):
    monkeypatch.setattr(EncoderNet, "train_step", _fails)
    stops = {"n_iter_no_change": 1, "tol": 0.5}
    missing = X.copy()
    missing[::3, 0] = np.nan
    small(**stops).fit(missing)
    small(**stops).fit(X, X_target=X)
    warm = small(**stops, max_encoder_steps=0).fit(X)
    warm.set_params(warm_start=True, max_encoder_steps=50).fit(X)


def test_decoders_with_the_weights_of_the_encoder_have_no_second_stage(monkeypatch):
    monkeypatch.setattr(EncoderNet, "train_step", _fails)

    class Transposed(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, code):
            return code @ self.layer.weight

    layers = {}

    def encoder(n_inputs, n_outputs):
        layers["first"] = nn.Linear(n_inputs, n_outputs)
        return nn.Sequential(layers["first"], nn.Tanh())

    tied = Custom(encoder, lambda *sizes: Transposed(layers["first"]))
    small(architecture=tied, tol=0.5, n_iter_no_change=1).fit(X)


def test_dropout_and_statistics_of_the_users_layers_are_those_of_inference():
    seen = []

    class Watched(nn.Dropout):
        def forward(self, x):
            seen.append(self.training)
            return super().forward(x)

    def encoder(n_inputs, n_outputs):
        return nn.Sequential(
            nn.Linear(n_inputs, 16), nn.BatchNorm1d(16), Watched(), nn.ReLU(),
            nn.Linear(16, n_outputs),
        )  # fmt: skip

    def decoder(n_inputs, n_outputs):
        return nn.Sequential(
            nn.Linear(n_inputs, 16), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Linear(16, n_outputs),
        )  # fmt: skip

    custom = Custom(encoder, decoder)
    first, both = (
        small(architecture=custom, max_epochs=60, max_encoder_steps=n).fit(X)
        for n in (0, 100)
    )
    assert both.diagnostics_["n_encoder_steps"] > 0
    assert True in seen
    assert not any(seen[-100:])
    assert equal(states(first)[1], states(both)[1])
    buffers = [dict(m.net_.module_.named_buffers()) for m in (first, both)]
    assert equal(*buffers)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_gradients_of_the_encoder_are_those_of_the_model_in_inference(norm):
    params = {"architecture": MLP((16, 8), norm=norm, start="random"), "max_epochs": 3}
    module = small(**params).fit(X).net_.module_
    x = torch.from_numpy(X[:50]).float()
    module.eval()(x)[2].mean().backward()
    expected = [p.grad.clone() for p in module.encoder.parameters()]
    frozen = deepcopy(module).train()
    frozen.freeze_all_but_encoder()
    for p in frozen.parameters():
        p.grad = torch.full_like(p, torch.nan) if p.requires_grad else None
    assert ClosedForm.suits(frozen)
    ClosedForm(frozen)(Batch(x), {})
    for p, gradient in zip(frozen.encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-4)
    assert all(p.grad is None for p in frozen.decoder.parameters())
    assert not any(p.requires_grad for p in frozen.decoder.parameters())
    module.train()  # the other one is as before
    assert all(p.requires_grad for p in module.parameters())
    assert norm is None or not torch.equal(module(x)[0], module.eval()(x)[0])


def test_closed_form_and_autograd_train_the_same(monkeypatch):
    architecture = MLP((16, 8), norm="batch", start="random")
    fits = []
    for steps in ("closed form", "autograd"):
        if steps == "autograd":
            monkeypatch.setattr(
                "skae._gradient.step.ClosedForm.suits", lambda module: False
            )
            monkeypatch.setattr(
                "skae._gradient.step.ClosedNetwork.suits", lambda module: False
            )
        params = {"architecture": architecture, "max_encoder_steps": 60}
        fits.append(small(**params, max_epochs=40).fit(X))
        assert fits[-1].diagnostics_["step"] == steps
    assert fits[0].diagnostics_["n_encoder_steps"] > 0
    np.testing.assert_allclose(*(m.transform(NEW) for m in fits), atol=0.05)


@pytest.mark.slow
def test_a_stack_trains_the_same_as_each_alone():
    grid = {"lr": [2e-3, 5e-3]}
    params = {"max_encoder_steps": 200, "architecture": MLP((16,), norm="batch")}
    search = AutoencoderSearchCV(small(**params), grid, cv=2).fit(X)
    halves = np.array_split(np.arange(len(X)), 2)
    for i, lr in enumerate(grid["lr"]):
        for j, test in enumerate(halves):
            train = np.setdiff1d(np.arange(len(X)), test)
            alone = small(**params, lr=lr).fit(X[train])
            found = search.cv_results_[f"split{j}_test_score"][i]
            assert found == pytest.approx(alone.score(X[test]), abs=1e-5)


def test_few_rows_have_a_second_stage_on_all_of_them():
    few = X[:200]
    without, model = (small(max_encoder_steps=n).fit(few) for n in (0, 500))
    assert model.diagnostics_["n_encoder_steps"] == 500
    assert equal(states(model)[1], states(without)[1])
    assert error(model, NEW) < error(without, NEW)


def test_sample_weights_and_validation_rows_of_ones_own():
    weight = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
    model = small(max_encoder_steps=100).fit(X, sample_weight=weight, X_val=NEW[:300])
    assert model.diagnostics_["n_encoder_steps"] > 0


@pytest.mark.slow
def test_rows_read_in_chunks_have_a_second_stage(monkeypatch):
    class Chunks:
        def __iter__(self):
            return iter(np.array_split(X.astype(np.float32), 5))

    monkeypatch.setattr("skae._data.readers.SMALL_TABLE", 0)
    monkeypatch.setattr("skae._data.stream._FEW_ROWS", 0)
    without, model = (small(max_encoder_steps=n).fit(Chunks()) for n in (0, 250))
    assert model.diagnostics_["n_encoder_steps"] > 0
    assert equal(states(model)[1], states(without)[1])
    assert error(model, NEW) < error(without, NEW)


def test_without_memory_the_stage_is_left_out(without, monkeypatch):
    def step(self, batch, **params):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(EncoderNet, "train_step", step)
    with pytest.warns(OutOfMemoryWarning, match="max_encoder_steps had no effect"):
        model = small(max_encoder_steps=100).fit(X)
    assert model.diagnostics_["n_encoder_steps"] == 0
    assert equal(states(model)[0], states(without)[0])


@pytest.mark.parametrize("value", [-1, 1.5, "auto", None])
def test_numbers_of_steps_that_are_refused(value):
    with pytest.raises(ValueError, match="'max_encoder_steps' parameter"):
        small(max_encoder_steps=value).fit(X)


def test_the_bar_says_how_far_the_second_stage_is(capfd):
    small(max_encoder_steps=300, verbose=1).fit(X)
    _, err = capfd.readouterr()
    assert "encoder alone: 33%" in err
    assert err.rstrip().endswith("]")
    assert "encoder" not in err.rstrip().split("\r")[-1]


def test_batches_are_drawn_as_before():
    """What `together` asks of batches, of both kinds."""
    rows = Rows(Resident(torch.zeros(103, 2)))
    assert Batches(rows, 20).least_rows == 17
    assert _Rounds(rows, 20, torch.Generator(), 5, None).least_rows == 20
    assert _Rounds(rows, 200, torch.Generator(), 5, None).least_rows == 103
