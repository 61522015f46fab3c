"""Sparse bottlenecks: selection, dictionary and revival of dead components."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from torch import nn

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import BatchTopK, TopK

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


def _module(bottleneck, n_components=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return bottleneck.build(n_components, generator).double()


def _encoded(generator, n_rows=40, n_components=10, shift=0.0):
    shape = (n_rows, n_components)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + shift


def _fit(X, bottleneck, n_components=96, **params):
    settings = {"architecture": MLP(()), "max_epochs": 5, **params}
    return AutoencoderTransformer(
        n_components,
        bottleneck=bottleneck,
        early_stopping=False,
        random_state=0,
        **settings,
    ).fit(X)


# Selection


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 5.0])
def test_the_k_largest_are_kept_and_none_is_negative(k, shift, generator):
    h = _encoded(generator, shift=shift)
    code, cost = _module(TopK(k))(h)
    expected = np.zeros(h.shape)
    for row, values in zip(expected, h.numpy(), strict=True):
        largest = np.argsort(values)[-k:]
        row[largest] = np.maximum(values[largest], 0)
    assert np.array_equal(code, expected)
    assert not cost.any()
    n_kept = (code != 0).sum(dim=1)
    assert (n_kept == (h > 0).sum(dim=1).clamp(max=k)).all()


def test_only_kept_activations_have_a_gradient(generator):
    h = _encoded(generator).requires_grad_()
    code, _ = _module(TopK(3))(h)
    (gradient,) = torch.autograd.grad(code.sum(), h)
    assert torch.equal(gradient, (code > 0).double())


@pytest.mark.parametrize("k", [1, 3])
def test_batch_top_k_keeps_the_largest_of_the_batch(k, generator):
    h = _encoded(generator)
    code, _ = _module(BatchTopK(k)).train()(h)
    values = np.sort(h.numpy().ravel())[::-1]
    smallest = values[k * len(h) - 1]
    assert smallest > 0
    assert np.array_equal(code, np.where(h >= smallest, h, 0))
    n_kept = (code > 0).sum(dim=1)
    assert n_kept.sum() == k * len(h)
    assert n_kept.min() < k < n_kept.max()


def test_in_inference_rows_of_batch_top_k_are_independent(generator):
    module = _module(BatchTopK(2))
    for _ in range(20):
        h = _encoded(generator)
        code, _ = module.train()(h)
        module.observe(h, code, None, None)
    h = _encoded(generator, n_rows=2000)
    code, _ = module.eval()(h)
    for row in range(5):
        alone, _ = module(h[[row]])
        assert torch.equal(alone[0], code[row])
    # About as many as in training for rows of the same distribution.
    assert (code > 0).sum(dim=1).double().mean().item() == pytest.approx(2, rel=0.15)
    threshold = module.threshold
    assert torch.equal(code, torch.where(h > threshold, h, 0.0))


def test_the_threshold_is_a_moving_average_of_the_smallest_kept(generator):
    module = _module(BatchTopK(2))
    expected, n = 0.0, 0
    for _ in range(150):
        h = _encoded(generator)
        code, _ = module.train()(h)
        module.observe(h, code, None, None)
        n += 1
        smallest = code[code > 0].min().item()
        expected += max(1 / n, 0.01) * (smallest - expected)
        assert module.threshold.item() == pytest.approx(expected)


@pytest.mark.parametrize("cls", [TopK, BatchTopK])
def test_k_is_at_most_n_components(cls, X):
    with pytest.raises(ValueError, match=rf"{cls.__name__}\(k=5\) keeps 5 components"):
        _fit(X, cls(5), 4)


@pytest.mark.parametrize("cls", [TopK, BatchTopK])
def test_k_is_required(cls):
    with pytest.raises(TypeError, match="'k'"):
        cls()


# Codes and dictionary of an estimator


def test_codes_of_an_estimator_have_k_components(digits):
    code = _fit(digits, TopK(6)).transform(digits)
    assert (code >= 0).all()
    assert ((code > 0).sum(axis=1) == 6).mean() > 0.99
    assert (code > 0).sum(axis=1).max() == 6


def test_codes_of_a_batch_have_k_components_on_average(digits):
    model = _fit(digits, BatchTopK(6), max_epochs=20)
    n_kept = (model.transform(digits) > 0).sum(axis=1)
    assert n_kept.mean() == pytest.approx(6, rel=0.15)
    assert n_kept.min() < 6 < n_kept.max()


@pytest.mark.parametrize(
    ("bottleneck", "scaling"),
    [
        (TopK(6), "standard"),
        (BatchTopK(6), "global"),
        pytest.param(TopK(6), "global", marks=pytest.mark.slow),
        pytest.param(TopK(6), None, marks=pytest.mark.slow),
        pytest.param(BatchTopK(6), "standard", marks=pytest.mark.slow),
        pytest.param(BatchTopK(6), None, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_rows_are_a_constant_and_a_weighted_sum_of_atoms(bottleneck, scaling, digits):
    model = _fit(digits, bottleneck, scaling=scaling)
    code = model.transform(digits)
    constant = model.inverse_transform(np.zeros((1, 96)))
    np.testing.assert_allclose(
        model.reconstruct(digits), constant + code @ model.components_, atol=1e-8
    )
    # Of length one in the units of the data if all features have the same scale, else
    # in the units of the scaled data.
    shared = model.scale_ if scaling == "standard" else 1.0
    lengths = np.linalg.norm(model.components_ / shared, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


@pytest.mark.parametrize("bottleneck", [TopK(6), BatchTopK(6)], ids=repr)
def test_before_the_first_step_the_constant_is_the_mean_and_atoms_are_tied(
    bottleneck, digits
):
    model = _fit(digits, bottleneck, lr=1e-12, max_epochs=1)
    constant = model.inverse_transform(np.zeros((1, 96)))
    np.testing.assert_allclose(constant[0], digits.mean(axis=0), atol=1e-4)
    encoder = model.net_.module_.encoder.affine.weight.detach().numpy()
    decoder = model.net_.module_.decoder.affine.weight.detach().numpy()
    factor = np.linalg.norm(encoder, axis=1)
    np.testing.assert_allclose(encoder, factor[:, None] * decoder.T, atol=1e-5)
    np.testing.assert_allclose(factor, factor[0], rtol=1e-4)
    # One factor for all components, the least-squares one.
    x_hat = model.reconstruct(digits) - digits.mean(axis=0)
    x = digits - digits.mean(axis=0)
    assert (x * x_hat).sum() / (x_hat**2).sum() == pytest.approx(1, abs=5e-3)


def test_components_are_sorted_by_variance(digits):
    code = _fit(digits, TopK(6), 48).transform(digits)
    variances = code.var(axis=0)
    assert (np.diff(variances) <= 1e-9 * variances[0]).all()


@pytest.mark.slow
def test_a_wide_dictionary_beats_pca_of_as_many_components_per_row(digits):
    model = _fit(digits, TopK(6), max_epochs=20)
    pca_of_six = _fit(digits, None, 6, max_epochs=1, lr=1e-12)
    error, pca_error = (
        m.reconstruction_error(digits).mean() for m in (model, pca_of_six)
    )
    assert error < 0.9 * pca_error


@pytest.mark.parametrize("cls", [TopK, BatchTopK])
def test_sparse_codes_are_the_dense_ones(cls, digits):
    dense, in_csr = (
        _fit(digits, cls(6, sparse_output=flag), max_epochs=2) for flag in (False, True)
    )
    code, expected = in_csr.transform(digits), dense.transform(digits)
    assert sparse.issparse(code)
    assert code.format == "csr"
    assert np.array_equal(code.toarray(), expected)
    assert code.nnz == np.count_nonzero(expected)
    assert code.dtype == expected.dtype
    np.testing.assert_array_equal(
        in_csr.inverse_transform(code), dense.inverse_transform(expected)
    )
    np.testing.assert_array_equal(
        in_csr.inverse_transform(expected), dense.inverse_transform(expected)
    )
    narrow = in_csr.transform(digits.astype(np.float32))
    assert narrow.dtype == np.float32


def test_sparse_codes_of_many_rows_are_concatenated_in_order(digits):
    model = _fit(digits, TopK(6, sparse_output=True), max_epochs=1)
    many = np.tile(digits, (10, 1))
    code = model.transform(many)
    assert code.shape == (len(many), 96)
    expected = np.tile(model.transform(digits).toarray(), (10, 1))
    np.testing.assert_allclose(code.toarray(), expected, atol=1e-9)


# Dead components


def _after_step(module, code, progress):
    module.observe(code, code, None, None)
    module.after_step(progress)


def test_components_are_idle_since_they_were_last_used():
    module = _module(TopK(1), 3).train()
    code = torch.tensor([[1.0, 0, 0]]).double()
    _after_step(module, code, 0.1)
    _after_step(module, code, 0.25)
    _after_step(module, code.roll(1, dims=1), 0.3)
    expected = torch.tensor([0.05, 0.0, 0.3]).double()
    torch.testing.assert_close(module.idle, expected)


@pytest.fixture
def with_dead(generator):
    """Return a dictionary of ten components, three of them dead."""
    module = _module(TopK(2, revival=0.5)).train()
    code = torch.ones(1, 10).double()
    code[:, [1, 4, 7]] = 0
    _after_step(module, code, 0.1)
    decoder = nn.Linear(10, 6).double()
    h = _encoded(generator, shift=1.0).requires_grad_()
    x = torch.randn(40, 6, generator=generator).double()
    return module, decoder, h, x


def test_dead_components_predict_the_residual(with_dead):
    module, decoder, h, x = with_dead
    code, _ = module(h)
    reconstruction = decoder(code)
    cost = module.auxiliary(x, reconstruction, h, code, decoder)
    # Three components are dead, and three (half of the features) may be used.
    revived = np.zeros(h.shape)
    revived[:, [1, 4, 7]] = h.detach()[:, [1, 4, 7]].relu()
    explained = revived @ decoder.weight.detach().numpy().T
    residual = (x - reconstruction).detach().numpy() - explained
    np.testing.assert_allclose(cost.detach(), 0.5 * (residual**2).sum(axis=1) / 2)


def test_the_auxiliary_loss_moves_dead_components_only(with_dead):
    module, decoder, h, x = with_dead
    code, _ = module(h)
    reconstruction = decoder(code)
    cost = module.auxiliary(x, reconstruction, h, code, decoder).sum()
    to_h, to_weight, to_bias, to_x_hat = torch.autograd.grad(
        cost,
        [h, decoder.weight, decoder.bias, reconstruction],
        allow_unused=True,
    )
    assert to_x_hat is None  # no gradient flows through the residual
    dead = torch.zeros(10, dtype=torch.bool)
    dead[[1, 4, 7]] = True
    for gradient in (to_h, to_weight):
        assert not gradient[:, ~dead].any()
        assert gradient[:, dead].any(dim=0).all()
    assert to_bias.abs().max() < 1e-12


def test_only_the_largest_of_many_dead_components_are_used(generator):
    module = _module(TopK(2, revival=1.0)).train()
    _after_step(module, torch.zeros(1, 10).double(), 0.1)
    decoder = nn.Linear(10, 6).double()
    h = _encoded(generator, shift=1.0).requires_grad_()
    x = torch.randn(40, 6, generator=generator).double()
    cost = module.auxiliary(x, torch.zeros_like(x), h, h, decoder)
    (gradient,) = torch.autograd.grad(cost.sum(), h)
    # Half of the six features, or k if that is more.
    assert ((gradient != 0).sum(dim=1) == 3).all()


@pytest.mark.parametrize("why", ["evaluation", "no revival", "none is dead"])
def test_the_auxiliary_cost_is_zero_without_revival(why, with_dead):
    module, decoder, h, x = with_dead
    code, _ = module(h)
    if why == "evaluation":
        module.eval()
    elif why == "no revival":
        module.revival = 0
    else:
        _after_step(module, torch.ones(1, 10), 0.11)
    assert not module.auxiliary(x, decoder(code), h, code, decoder).any()


def test_dead_fraction_counts_components_that_no_row_uses(digits):
    model = _fit(digits, TopK(2), 256)
    unused = ~(model.transform(digits) > 0).any(axis=0)
    assert model.dead_fraction_ == pytest.approx(unused.mean())
    assert model.dead_fraction_ > 0


@pytest.mark.slow
def test_dead_components_are_revived(digits):
    shares = {
        revival: _fit(
            digits[:600], TopK(2, revival=revival), 128, max_epochs=40, lr=1e-2
        ).dead_fraction_
        for revival in (0, 1 / 32)
    }
    assert shares[1 / 32] < 0.5 * shares[0]
