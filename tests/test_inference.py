"""Rows through a fitted model: chunks, precisions, weights that change."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._compat.torch import modules_of
from skae._data import source
from skae._data.affine import AffineMap
from skae._data.source import Dense, Sparse
from skae._model.model import Model
from skae._model.portable import Copies
from skae.anomaly_scores import Neighbors
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, TopK

pytestmark = pytest.mark.filterwarnings(
    "ignore::skae.exceptions.FitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

DTYPES = [np.float32, np.float64]


def small(cls=AutoencoderTransformer, n_components=2, **params):
    defaults = {
        "architecture": MLP((8,), start="random"),
        "max_epochs": 3,
        "random_state": 0,
    }
    return cls(n_components, **defaults | params)


@pytest.fixture
def model(X):
    return small().fit(X)


# By hand


def _scaled(model, X):
    x = (X.astype(float) - model.mean_) / model.scale_
    return torch.from_numpy(x).float()


def _code(model, X):
    """Return the code of rows as the module has it, then as users see it."""
    with torch.no_grad():
        raw = model.net_.module_.encode(_scaled(model, X)).double().numpy()
    coordinates = model._model.coordinates
    return raw, coordinates(torch.from_numpy(raw)).numpy()


def _rows(model, raw):
    with torch.no_grad():
        x = model.net_.module_.decoder(torch.from_numpy(raw).float())
    return x.double().numpy() * model.scale_ + model.mean_


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_comes_out_is_what_the_module_makes_of_scaled_rows(model, X, dtype):
    rows = X.astype(dtype)
    raw, code = _code(model, X)
    back = _rows(model, raw)
    for found, expected in [
        (model.transform(rows), code),
        (model.inverse_transform(code.astype(dtype)), back),
        (model.reconstruct(rows), back),
        (model.reconstruction_error(rows), np.square(X - back).mean(axis=1)),
        (model.reconstruction_error(rows, per_feature=True), np.square(X - back)),
    ]:
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def _raw_code(model, rows):
    """Return the code in the coordinates of the network."""
    return model._model.map(lambda m, x: m.autoencoder.encode(m.scaling(x)), rows)


# Chunks


@pytest.fixture
def in_chunks(monkeypatch):
    def set_rows(n_rows):
        monkeypatch.setattr(source, "chunk_rows", lambda *args: n_rows)

    return set_rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, 7, 200])
def test_results_are_equal_whatever_the_chunk(model, X, in_chunks, n_rows, dtype):
    X = X.astype(dtype)
    weight = np.linspace(0, 2, len(X))
    code = model.transform(X)

    def results():
        return [
            model.transform(X),
            model.reconstruct(X),
            model.reconstruction_error(X),
            model.reconstruction_error(X, per_feature=True),
            model.inverse_transform(code),
            model.inverse_transform(sparse.csr_matrix(code)),
            np.array(model.score(X, sample_weight=weight)),
            np.array(model.score(X)),
            *model._model.map(Model.view, X),
        ]

    whole = results()
    in_chunks(n_rows)
    rtol, atol = (1e-9, 1e-12) if dtype == np.float64 else (1e-4, 1e-5)
    for found, expected in zip(results(), whole, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol, atol)


def test_symbols_and_sparse_codes_are_equal_whatever_the_chunk(X, in_chunks):
    discrete = small(bottleneck=FiniteScalar()).fit(X)
    dictionary = small(
        n_components=12, bottleneck=TopK(2, sparse_output=True), architecture=MLP(())
    ).fit(X)

    def results():
        symbols, code = discrete.quantize(X), dictionary.transform(X)
        assert sparse.issparse(code)
        return (
            symbols,
            discrete.dequantize(symbols),
            code.toarray(),
            dictionary.inverse_transform(code),
        )

    whole = results()
    in_chunks(7)
    for found, expected in zip(results(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_rows", [50, 1000])
def test_score_is_one_minus_what_is_left_over_the_variance(model, rng, n_rows):
    X = rng.normal(size=(n_rows, 6)).astype(np.float32) + 1000
    weight = rng.uniform(size=n_rows)
    left = np.square(X.astype(float) - model.reconstruct(X))
    total = np.square(X.astype(float) - model.mean_)
    expected = 1 - (weight @ left).sum() / (weight @ total).sum()
    np.testing.assert_allclose(model.score(X, sample_weight=weight), expected, 1e-4)


def test_sparse_codes_are_never_dense_as_a_whole(model, X, in_chunks, monkeypatch):
    def recorded(self):
        shapes.append(self.shape)
        return original(self)

    shapes, original = [], sparse.csr_array.toarray
    monkeypatch.setattr(sparse.csr_array, "toarray", recorded)
    in_chunks(100)
    model.inverse_transform(sparse.csr_array(model.transform(X)))
    assert shapes == [(100, 2), (50, 2)]


@pytest.fixture
def passes(monkeypatch):
    """Record how many numbers come as one tensor."""
    shapes = []

    for cls in (Dense, Sparse):

        def recorded(self, index, take=cls.take):
            x = take(self, index)
            shapes.append(tuple(x.shape))
            return x

        monkeypatch.setattr(cls, "take", recorded)
    return shapes


def test_chunks_cover_all_rows_once_and_are_bounded(model, rng, passes):
    X = rng.normal(size=(20_000, 6)).astype(np.float32)
    code = model.transform(X)
    calls = [
        lambda: model.transform(X),
        lambda: model.inverse_transform(code),
        lambda: model.inverse_transform(sparse.csr_array(code)),
        lambda: model.reconstruction_error(X),
        lambda: model.score(X),
    ]
    for call in calls:
        passes.clear()
        call()
        assert [n for n, _ in passes] == [8192, 8192, 3616]


@pytest.mark.parametrize(("width", "expected"), [(1024, 256), (512, 512), (5000, 256)])
def test_fewer_wide_rows_pass_at_once(rng, passes, width, expected):
    X = rng.normal(size=(600, width)).astype(np.float32)
    model = small(n_components=1, max_epochs=1, architecture=MLP((2,))).fit(X[:20])
    passes.clear()
    code = model.transform(X)
    assert passes[0] == (expected, width)
    passes.clear()
    model.inverse_transform(code)
    # What comes out is as wide.
    assert passes[0] == (expected, 1)


def test_rows_are_left_as_they_are(X):
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(2.0)

    model = small(scaling=None).fit(X)
    model.net_.module_.encoder.branch.hidden[0].layer = nn.Sequential(
        InPlace(), model.net_.module_.encoder.branch.hidden[0].layer
    )
    rows = X.astype(np.float32)
    before = rows.copy()
    model.transform(rows)
    model._model.map(lambda module, x: x.mul_(2.0), rows)
    assert np.array_equal(rows, before)


# Weights and scalings that change


def _write(module, other):
    module.load_state_dict(other.state_dict())


def _replace_parameters(module, other):
    module.load_state_dict(other.state_dict(), assign=True)


def _replace_modules(module, other):
    module.encoder, module.decoder = other.encoder, other.decoder


def _replace_data(module, other):
    for p, q in zip(module.parameters(), other.parameters(), strict=True):
        p.data = q.data.clone()
    for b, c in zip(module.buffers(), other.buffers(), strict=True):
        b.data = c.data.clone()


CHANGES = [_write, _replace_parameters, _replace_modules, _replace_data]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_the_user_changes_count(model, X, change, dtype):
    other = small(random_state=1).fit(X)
    rows = X.astype(dtype)
    before = _raw_code(model, rows)
    change(model.net_.module_, other.net_.module_)
    after = _raw_code(model, rows)
    assert not np.allclose(before, after, rtol=1e-2)
    np.testing.assert_allclose(after, _raw_code(other, rows), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("warm_start", [True, False])
def test_a_refit_is_seen(X, warm_start, dtype):
    rows = X.astype(dtype)
    model = small(warm_start=warm_start).fit(X)
    before = model.transform(rows)
    model.fit(X[::-1] * [1, 2, 3, 1, 2, 3])
    assert not np.allclose(before, model.transform(rows), rtol=1e-2)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(model.transform(rows), again.transform(rows))


def test_a_scorer_in_single_precision_follows_the_original(X):
    model = small(AutoencoderOutlierDetector, anomaly_score=Neighbors(1))
    model.fit(X, X_val=X)
    rows = X.astype(np.float32)
    before = model.score_samples(rows)
    model._ensemble.members[0].scorer.memory.add_(2.0)
    after = model.score_samples(rows)
    assert not np.allclose(after, before, rtol=1e-2)
    np.testing.assert_allclose(after, model.score_samples(X), rtol=1e-3)


def test_attributes_are_not_the_model(model, X):
    before = model.transform(X)
    model.scale_ *= 2
    model.mean_ += 1
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(model.transform(X), before)
    assert np.array_equal(again.transform(X), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_are_in_evaluation_mode_whoever_left_them_in_another(model, dtype):
    module = model.net_.module_
    for part in (module, module.encoder.branch):
        module.eval()
        part.train()
        assert not any(m.training for m in model._model.in_precision(dtype).modules())


def test_nothing_that_is_kept_is_pickled(X):
    model = small(AutoencoderOutlierDetector).fit(X, X_val=X)
    size = len(pickle.dumps(model))
    for dtype in DTYPES:
        model.score_samples(X.astype(dtype))
        model.transform(X.astype(dtype))
        model.inverse_transform(X[:, :2].astype(dtype))
    assert len(pickle.dumps(model)) == size


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_at_once_get_what_one_gets(X, dtype):
    fitted = small(AutoencoderOutlierDetector).fit(X, X_val=X)
    rows = [x.astype(dtype) for x in np.array_split(X, 20)]
    expected = [fitted.score_samples(x) for x in rows]
    again = pickle.loads(pickle.dumps(fitted))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(again.score_samples, rows))
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


# What is kept


def test_modules_of_finds_what_torch_finds(model):
    module = model.net_.module_
    module.encoder.register_module("absent", None)
    found, expected = modules_of(module), list(module.modules())
    assert {id(m) for m in found} == {id(m) for m in expected}


def test_a_copy_is_made_once_for_each_place():
    module, copies = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), Copies()

    def get(dtype=torch.float64):
        return copies.get(module, dtype, torch.device("cpu"))

    first = get()
    assert get() is first
    assert first[0].weight.dtype == torch.float64
    assert get(torch.float16)[0].weight.dtype == torch.float16
    assert get() is first
    module[1].running_mean += 1
    assert get() is not first
    assert torch.equal(get()[1].running_mean, module[1].running_mean.double())


def test_a_copy_of_what_was_made_in_inference_mode_is_one():
    with torch.inference_mode():
        module, copies = nn.Linear(2, 2), Copies()
        first = copies.get(module, torch.float64, torch.device("cpu"))
    assert copies.get(module, torch.float64, torch.device("cpu")) is first


# The affine map


@pytest.fixture
def maps(rng):
    matrix = rng.normal(size=(4, 4))
    inverse = np.linalg.inv(matrix)
    order = [2, 0, 3, 1]
    return [
        AffineMap(rng.normal(size=4), rng.uniform(1, 2, size=4)),
        AffineMap(rng.normal(size=4), rng.uniform(1, 2, size=4), order=order),
        AffineMap(rng.normal(size=4), matrix=matrix, inverse=inverse),
    ]


def test_an_affine_map_is_what_its_docstring_says(maps, rng):
    x = rng.normal(size=(7, 4))
    diagonal, ordered, turned = (m(torch.from_numpy(x)).numpy() for m in maps)
    center, scale = maps[0].center.numpy(), maps[0].scale.numpy()
    np.testing.assert_allclose(diagonal, (x - center) / scale)
    center, scale = maps[1].center.numpy(), maps[1].scale.numpy()
    np.testing.assert_allclose(ordered, (x - center)[:, [2, 0, 3, 1]] / scale)
    center, matrix = maps[2].center.numpy(), maps[2].matrix.numpy()
    np.testing.assert_allclose(turned, (x - center) @ matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_affine_map_keeps_double_precision_and_the_dtype_of_rows(maps, dtype, rng):
    x = torch.from_numpy(rng.normal(size=(7, 4))).to(dtype)
    for one in maps:
        expected = {k: t.clone() for k, t in one.state_dict().items()}
        module = nn.Sequential(nn.Linear(4, 4), one).half().float()
        assert module[0].weight.dtype == torch.float32
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, expected[name])
        assert one(x).dtype == one.inverse(x).dtype == dtype
        torch.testing.assert_close(one.inverse(one(x)), x)
        assert module.to("meta")[1].center.device.type == "meta"
