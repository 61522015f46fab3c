"""Discrete bottlenecks: symbols, codebooks and levels."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

from skae import AutoencoderTransformer
from skae._data.principal_axes import PrincipalAxes
from skae._data.source import Dense, Resident
from skae._model.autoencoder import Parts
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, Plain, TopK, Variational, VectorQuantized
from skae.losses import SquaredError

pytestmark = pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")

DISCRETE = [VectorQuantized(7), VectorQuantized(5, n_groups=2), FiniteScalar(4)]
all_discrete = pytest.mark.parametrize("bottleneck", DISCRETE, ids=repr)


def _fit(X, bottleneck, n_components=4, sample_weight=None, **params):
    settings = {"architecture": MLP((16,)), "max_epochs": 5, **params}
    return AutoencoderTransformer(
        n_components,
        bottleneck=bottleneck,
        early_stopping=False,
        random_state=0,
        **settings,
    ).fit(X, sample_weight=sample_weight)


def _vq(codebook, commitment=0.25, decay=0.99):
    n_groups, n_codes, size = codebook.shape
    bottleneck = VectorQuantized(
        n_codes, n_groups=n_groups, commitment=commitment, decay=decay
    )
    module = bottleneck.build(n_groups * size, torch.Generator()).double()
    module.codebook.copy_(codebook)
    return module


def _codebook(generator, n_groups=2, n_codes=5, size=3):
    shape = (n_groups, n_codes, size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _encoded(generator, n_rows=40, width=6):
    return torch.randn(n_rows, width, generator=generator, dtype=torch.float64)


def _nearest(codebook, h):
    """Return the nearest codebook row of each group, by exhaustive search."""
    pieces = np.split(h.numpy(), len(codebook), axis=1)
    return np.stack(
        [
            ((piece[:, None] - rows) ** 2).sum(axis=2).argmin(axis=1)
            for piece, rows in zip(pieces, codebook.numpy(), strict=True)
        ],
        axis=1,
    )


# Symbols


@all_discrete
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_symbols_name_the_code_bit_for_bit(bottleneck, dtype, X):
    X = X.astype(dtype)
    model = _fit(X, bottleneck)
    symbols, code = model.quantize(X), model.transform(X)
    assert code.dtype == dtype
    assert np.issubdtype(symbols.dtype, np.integer)
    module = model._model.in_precision(
        torch.float64 if dtype == np.float64 else torch.float32
    ).autoencoder
    if isinstance(bottleneck, FiniteScalar):
        assert symbols.shape == code.shape
        levels = np.linspace(-1, 1, bottleneck.levels)
        np.testing.assert_allclose(code, levels[symbols], atol=1e-7)
        return
    assert symbols.shape == (len(X), bottleneck.n_groups)
    codebook = module.bottleneck.codebook.numpy()
    pieces = [codebook[g, symbols[:, g]] for g in range(bottleneck.n_groups)]
    assert np.array_equal(np.concatenate(pieces, axis=1), code)


@all_discrete
def test_symbols_are_counted_from_zero(bottleneck, X):
    symbols = _fit(X, bottleneck).quantize(X)
    n_values = getattr(bottleneck, "levels", getattr(bottleneck, "n_codes", None))
    assert symbols.min() >= 0
    assert symbols.max() < n_values
    assert len(np.unique(symbols)) > 1


@all_discrete
def test_equal_symbols_are_equal_reconstructions(bottleneck, X):
    model = _fit(X, bottleneck)
    _, first, inverse = np.unique(
        model.quantize(X), axis=0, return_index=True, return_inverse=True
    )
    reconstruction = model.reconstruct(X)
    np.testing.assert_allclose(
        reconstruction[first][inverse.ravel()], reconstruction, atol=1e-9
    )


@all_discrete
@pytest.mark.parametrize("weighted", [False, True])
def test_perplexity_is_the_exponential_of_the_entropy(bottleneck, weighted, X, rng):
    weight = rng.uniform(size=len(X)) if weighted else None
    model = _fit(X, bottleneck, sample_weight=weight)
    perplexities = []
    for symbols in model.quantize(X).T:
        share = np.bincount(symbols, weights=weight)
        share = share[share > 0] / share.sum()
        perplexities.append(np.exp(-np.sum(share * np.log(share))))
    assert model.perplexity_ == pytest.approx(np.mean(perplexities))


@pytest.mark.parametrize(
    "bottleneck", [None, Plain("tanh"), Variational(), TopK(2)], ids=repr
)
def test_other_codes_have_no_symbols(bottleneck, X):
    model = _fit(X, bottleneck)
    assert not hasattr(model, "quantize")
    assert not hasattr(model, "dequantize")
    with pytest.raises(AttributeError, match="quantize") as error:
        _ = model.quantize
    assert "VectorQuantized" in str(error.value.__cause__ or error.value)


def test_the_methods_for_symbols_exist_before_fit():
    model = AutoencoderTransformer(bottleneck=FiniteScalar())
    assert hasattr(model, "quantize")
    assert hasattr(model, "dequantize")


@all_discrete
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, list])
def test_dequantize_returns_the_reconstruction(bottleneck, dtype, X):
    model = _fit(X, bottleneck)
    symbols = model.quantize(X)
    symbols = symbols.tolist() if dtype is list else symbols.astype(dtype)
    assert np.array_equal(model.dequantize(symbols), model.reconstruct(X))


@all_discrete
def test_invalid_symbols_are_rejected(bottleneck, X):
    model = _fit(X, bottleneck)
    symbols = model.quantize(X)
    n_values = getattr(bottleneck, "levels", getattr(bottleneck, "n_codes", None))
    n_symbols = symbols.shape[1]
    message = rf"takes {n_symbols} symbols per row, from 0 to {n_values - 1}"
    for wrong in (
        np.c_[symbols, symbols],
        symbols - symbols.max() - 1,
        np.full_like(symbols, n_values),
    ):
        with pytest.raises(ValueError, match=message):
            model.dequantize(wrong)
    with pytest.raises(ValueError, match="dequantize takes integers"):
        model.dequantize(symbols.astype(float))


# Codebooks


def test_each_group_becomes_the_nearest_row(generator):
    codebook, h = _codebook(generator), _encoded(generator)
    module = _vq(codebook)
    expected = _nearest(codebook, h)
    assert np.array_equal(module.symbols(h), expected)
    code, _ = module(h)
    for g, piece in enumerate(code.split(3, dim=1)):
        assert torch.equal(piece, codebook[g, expected[:, g]])


def test_the_cost_is_the_distance_to_the_codebook_row(generator):
    codebook, h = _codebook(generator), _encoded(generator).requires_grad_()
    module = _vq(codebook, commitment=0.7)
    code, cost = module(h)
    distance = (h - code.detach()).square().sum(dim=1)
    torch.testing.assert_close(cost, 0.7 * distance)
    (gradient,) = torch.autograd.grad(cost.sum(), h)
    torch.testing.assert_close(gradient, 1.4 * (h - code).detach())


def test_without_commitment_the_cost_is_zero(generator):
    _, cost = _vq(_codebook(generator), commitment=0)(_encoded(generator))
    assert not cost.any()


@pytest.mark.parametrize("bottleneck", [VectorQuantized(5), FiniteScalar(5)], ids=repr)
def test_gradients_are_passed_straight_through(bottleneck, generator):
    module = bottleneck.build(6, generator).double()
    h = _encoded(generator).requires_grad_()
    code, _ = module(h)
    given = _encoded(generator)
    (gradient,) = torch.autograd.grad((given * code).sum(), h)
    if isinstance(bottleneck, FiniteScalar):
        given = given * (1 - h.detach().tanh() ** 2)
    torch.testing.assert_close(gradient, given)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_codebook_rows_are_moving_averages(weighted, decay, generator, rng):
    codebook = _codebook(generator)
    module = _vq(codebook, decay=decay)
    # The formulas of van den Oord et al.: separate averages of counts and sums.
    counts, sums = np.ones((2, 5)), codebook.numpy().copy()
    for _ in range(4):
        h = _encoded(generator, n_rows=100)
        weight = rng.uniform(size=100) if weighted else np.ones(100)
        symbols = _nearest(torch.from_numpy(sums / counts[..., None]), h)
        draw = module.draw(100, generator)
        code, _ = module(h)
        given = torch.from_numpy(weight) if weighted else None
        module.observe(h, code, draw, given)
        for g in range(2):
            piece = h.numpy()[:, 3 * g : 3 * g + 3]
            for c in range(5):
                # The count is 1 if all codebook rows are used equally.
                chosen = weight * (symbols[:, g] == c) * 5 / 100
                counts[g, c] = decay * counts[g, c] + (1 - decay) * chosen.sum()
                sums[g, c] = decay * sums[g, c] + (1 - decay) * chosen @ piece
        # No row is replaced.
        assert (counts > 0.03).all()
        np.testing.assert_allclose(module.codebook, sums / counts[..., None])
        np.testing.assert_allclose(module.use, counts)


def test_unused_codebook_rows_are_replaced_by_codes_of_the_batch(generator):
    codebook = _codebook(generator, n_codes=8)
    codebook[0, [2, 5]] = 1e3
    codebook[1, 7] = -1e3
    module = _vq(codebook, decay=0.5)
    n_steps = 0
    while module.codebook.abs().max() > 100 and n_steps < 20:
        h = _encoded(generator)
        code, _ = module(h)
        module.observe(h, code, module.draw(len(h), generator), None)
        n_steps += 1
    assert 1 < n_steps < 20  # not after a single batch
    first, second = h.split(3, dim=1)
    for piece, row in [(first, (0, 2)), (first, (0, 5)), (second, (1, 7))]:
        assert (piece == module.codebook[row]).all(dim=1).any()
    assert not torch.equal(module.codebook[0, 2], module.codebook[0, 5])
    assert module.use[0, 2] == 1


def test_a_start_takes_codes_of_training_rows(X):
    parts = Parts(MLP((8,)), VectorQuantized(20, n_groups=2), SquaredError())
    module = parts.build(6, 4, seed=0).double()
    x = torch.from_numpy(X)
    assert module.start(PrincipalAxes(Dense(X), None, 4, None).statistics(Resident(x)))
    codes = module.encoder(x).detach()
    for piece, rows in zip(
        codes.split(2, dim=1), module.bottleneck.codebook, strict=True
    ):
        distances = (rows[:, None] - piece).norm(dim=2)
        assert distances.amin(dim=1).max() < 1e-9
        assert len(distances.argmin(dim=1).unique()) == 20


def test_a_codebook_may_have_more_rows_than_the_training_data(X):
    model = _fit(X[:40], VectorQuantized(64), max_epochs=2)
    assert np.isfinite(model.transform(X)).all()
    assert model.perplexity_ <= 40


def test_one_codebook_is_about_as_good_as_k_means(rng, seed):
    X, _ = make_blobs(600, 6, centers=8, cluster_std=0.5, random_state=seed)
    kmeans = KMeans(8, n_init=10, random_state=0).fit(X)
    model = _fit(X, VectorQuantized(8), 6, max_epochs=60, architecture=MLP(()))
    error = model.reconstruction_error(X).mean()
    assert len(np.unique(model.quantize(X))) == 8
    assert error < 1.1 * kmeans.inertia_ / X.size


@pytest.mark.slow
def test_more_groups_have_a_smaller_error():
    X = load_digits().data
    errors = [
        _fit(X, VectorQuantized(16, n_groups=g), 8, max_epochs=15)
        .reconstruction_error(X)
        .mean()
        for g in (1, 2, 4)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("n_groups", [3, 8])
def test_groups_are_of_equal_size(n_groups, X):
    with pytest.raises(ValueError, match="n_components=4 is not a multiple"):
        _fit(X, VectorQuantized(n_groups=n_groups))


# Levels


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_levels_are_evenly_spaced(levels, generator):
    module = FiniteScalar(levels).build(6, generator).double()
    h = 3 * _encoded(generator, n_rows=500)
    code, cost = module(h)
    expected = torch.linspace(-1, 1, levels, dtype=torch.float64)
    torch.testing.assert_close(code.unique(), expected)
    assert not cost.any()
    # The level nearest to the hyperbolic tangent.
    distance = (h.tanh()[..., None] - expected).abs()
    torch.testing.assert_close(code, expected[distance.argmin(dim=2)])
    assert torch.equal(module.symbols(h), distance.argmin(dim=2))


def test_levels_start_with_the_least_squares_decoder(X):
    module = Parts(MLP((8,)), FiniteScalar(5), SquaredError()).build(6, 2, 0).double()
    x = torch.from_numpy(X)
    statistics = PrincipalAxes(Dense(X), None, 2, None).statistics(Resident(x))
    assert module.start(statistics)
    code = module.encode(x)
    left = x - module.decode(code)
    # The residual along an axis is orthogonal to its level.
    for levels, axis in zip(code.T, statistics.axes, strict=True):
        assert len(levels.unique()) == 5
        scores = (x - statistics.mean) @ axis
        assert abs(levels @ (left @ axis)) < 1e-9 * levels.norm() * scores.norm()
        assert torch.corrcoef(torch.stack([levels, scores]))[0, 1] > 0.9


@pytest.mark.parametrize(
    "bottleneck", [FiniteScalar(4), VectorQuantized(4, n_groups=6)]
)
def test_rounding_noise_beyond_the_rank_has_no_symbols(bottleneck, rng):
    X = rng.normal(size=(90, 3)) @ rng.normal(size=(3, 6)) + 1.0
    module = Parts(MLP(()), bottleneck, SquaredError()).build(6, 6, 0)
    x = torch.from_numpy(X)
    assert module.start(PrincipalAxes(Dense(X), None, 6, None).statistics(Resident(x)))
    n_symbols = [len(np.unique(column)) for column in module.symbols(x.float()).T]
    assert n_symbols == [4, 4, 4, 1, 1, 1]


@pytest.mark.parametrize("bottleneck", [FiniteScalar(5), VectorQuantized(5)], ids=repr)
def test_projected_codes_are_possible_and_stay(bottleneck, generator):
    module = bottleneck.build(6, generator).double()
    projected = module.project(3 * _encoded(generator))
    assert torch.equal(module.project(projected), projected)
    if isinstance(bottleneck, FiniteScalar):
        assert set(projected.unique().tolist()) <= {-1, -0.5, 0, 0.5, 1}
    else:
        matches = (projected[:, None] == module.codebook[0]).all(dim=2)
        assert matches.any(dim=1).all()


def test_symbols_are_those_of_the_fitted_bottleneck(X):
    model = _fit(X, FiniteScalar())
    expected = model.quantize(X)
    model.set_params(bottleneck=None)
    assert np.array_equal(model.quantize(X), expected)
    plain = _fit(X, None)
    plain.set_params(bottleneck=FiniteScalar())
    assert not hasattr(plain, "quantize")
