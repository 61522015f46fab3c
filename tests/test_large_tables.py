"""Tables too large to copy: small ones that are taken for such by lowered limits."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.utils.extmath import randomized_svd

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._data import principal_axes as _pca
from skae._data import source
from skae._data.principal_axes import PrincipalAxes
from skae._data.scaling import fit_scaling
from skae._data.source import Dense, Scaled, scaled_rows
from skae._training import final_pass
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar
from skae.exceptions import WorseThanPCAWarning


@pytest.fixture
def nothing_is_small(monkeypatch):
    monkeypatch.setattr(_pca, "_FEW_ENTRIES", 0)
    monkeypatch.setattr(source, "_SMALL", 0)
    monkeypatch.setattr(source, "_BUDGET", 2000)


def _table(rng, shape, spectrum):
    """Return float32 rows off the origin with these standard deviations."""
    left, _ = np.linalg.qr(rng.normal(size=(shape[0], len(spectrum))))
    right, _ = np.linalg.qr(rng.normal(size=(shape[1], len(spectrum))))
    X = np.sqrt(shape[0]) * left * spectrum @ right.T
    return (X + rng.normal(size=shape[1])).astype(np.float32)


def _axes(X, *args):
    return PrincipalAxes(Dense(X), *args)


def _residual(axes, X):
    """Return the residual of PCA with these axes, in double precision."""
    X = X.astype(float) - axes.mean
    return X - X @ axes._axes[: axes.n_components].T @ axes._axes[: axes.n_components]


def _pca_of(X, k, weight=None):
    """Return variances, axes and squared residual, in double precision."""
    X = X.astype(np.float64)
    weight = np.ones(len(X)) if weight is None else weight
    X = (X - np.average(X, axis=0, weights=weight)) * np.sqrt(weight)[:, np.newaxis]
    _, singular, axes = np.linalg.svd(X, full_matrices=False)
    return singular[:k] ** 2 / len(X), axes[:k], np.square(singular[k:]).sum() / len(X)


SHAPES = {"tall": (300, 40), "wide": (40, 300), "square": (60, 60)}
SPECTRUM = 3.0 / np.arange(1, 31)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_components", [4, 0.9])
@pytest.mark.usefixtures("nothing_is_small")
def test_axes_are_those_of_a_whole_decomposition(
    n_components, shape, weighted, single, rng
):
    X = _table(rng, SHAPES[shape], SPECTRUM).astype(np.float32 if single else float)
    weight = rng.uniform(0.5, 2, size=len(X)) if weighted else None
    weight = weight / weight.mean() if weighted else None
    axes = _axes(X, weight, n_components, None)
    k = axes.n_components
    variances, expected, left = _pca_of(X, k, weight)
    found = axes.statistics(Dense(X))
    tolerance = 1e-5 if single else 1e-9
    np.testing.assert_allclose(found.variances, variances, rtol=tolerance)
    cosines = np.abs(np.sum(found.axes.numpy() * expected, axis=1))
    np.testing.assert_allclose(cosines, 1, atol=tolerance)
    residual = _residual(axes, X)
    residual = (np.ones(len(X)) if weight is None else weight) @ residual**2 / len(X)
    assert residual.sum() == pytest.approx(left, rel=tolerance)
    np.testing.assert_allclose(
        axes.residual_variance, residual, atol=tolerance * axes.total_variance
    )
    if n_components == 0.9:
        share = np.cumsum(_pca_of(X, 30, weight)[0]) / (variances.sum() + left)
        assert k == np.searchsorted(share, 0.9, side="right") + 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(400, 300), (300, 400)])
@pytest.mark.usefixtures("nothing_is_small")
def test_iteration_comes_as_near_as_the_randomised_decomposition(
    shape, weighted, seed, rng, monkeypatch
):
    monkeypatch.setattr(_pca, "_MAX_EXACT", 100)
    # Falling so slowly that neither is exact.
    X = _table(rng, shape, 1 / np.sqrt(np.arange(1, 299))).astype(float)
    weight = rng.uniform(0.5, 2, size=len(X)) if weighted else None
    weight = weight / weight.mean() if weighted else None
    _, _, best = _pca_of(X, 3, weight)
    axes = _axes(X, weight, 3, np.random.RandomState(seed))
    monkeypatch.setattr(_pca, "_axes_from", None)  # not called
    monkeypatch.setattr(_pca, "_largest", None)
    roots = np.sqrt(np.ones(len(X)) if weight is None else weight)[:, np.newaxis]
    rows = (X - np.average(X, axis=0, weights=weight)) * roots
    _, _, other = randomized_svd(rows, 3, random_state=seed)
    left = np.square(roots * _residual(axes, X)).sum() / len(X)
    others = np.square(rows - rows @ other.T @ other).sum() / len(X)
    assert best <= left * (1 + 1e-12)
    assert left / best - 1 <= max(others / best - 1, 1e-7)


@pytest.mark.usefixtures("nothing_is_small")
def test_iteration_ends_where_there_is_nothing_more_to_find(rng, monkeypatch):
    monkeypatch.setattr(_pca, "_MAX_EXACT", 100)
    X = _table(rng, (400, 300), np.array([4.0, 2.0, 1.0])).astype(float)
    axes = _axes(X, None, 4, np.random.RandomState(0))
    assert axes.rank == 3
    np.testing.assert_allclose(_residual(axes, X), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("noise", "dtypes"),
    [(0.3, [np.float32]), (1e-4, [np.float32, np.float64])],
    ids=["enough", "not enough"],
)
@pytest.mark.parametrize("shape", [(3000, 30), (30, 3000)])
@pytest.mark.usefixtures("nothing_is_small")
def test_single_precision_is_left_where_it_would_show(
    shape, noise, dtypes, rng, monkeypatch
):
    X = _table(rng, shape, np.r_[9.0, 3.0, 0.2, np.full(25, noise)])
    used, spectrum = [], _pca._spectrum
    monkeypatch.setattr(
        _pca, "_spectrum", lambda *args: used.append(args[1]) or spectrum(*args)
    )
    axes = _axes(X, None, 3, None)
    assert used == dtypes
    _, _, left = _pca_of(X, 3)
    found = np.square(_residual(axes, X)).sum() / len(X)
    assert found == pytest.approx(left, rel=1e-4)


@pytest.mark.parametrize("kind", ["global", "standard", None])
def test_streamed_rows_have_the_axes_of_those_in_memory(
    kind, nothing_is_small, rng, monkeypatch
):
    X = _table(rng, (300, 20), SPECTRUM[:15])
    scaling, _ = fit_scaling(kind, Dense(X))
    streamed = scaled_rows(Dense(X), scaling)
    assert isinstance(streamed, Scaled)
    one, other = (
        PrincipalAxes(x, None, 3, None).statistics(x)
        for x in (streamed, streamed.resident())
    )
    for name in ("mean", "axes", "variances", "rows"):
        assert torch.equal(getattr(one, name), getattr(other, name))


FITS = {
    "default": AutoencoderTransformer(3, max_epochs=5),
    "detector": AutoencoderOutlierDetector(3, max_epochs=5),
    # Normalised: codes that are larger lie between two levels more often.
    "discrete": AutoencoderTransformer(
        3, architecture=MLP(norm="batch"), bottleneck=FiniteScalar(), max_epochs=5
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "weighted"), [(np.float32, True), (np.float64, False)]
)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fit_from_streams_and_chunks_is_that_from_memory(
    fit, dtype, weighted, rng, request
):
    X = _table(rng, (900, 20), SPECTRUM[:15]).astype(dtype)
    weight = rng.uniform(0.5, 2, size=len(X)) if weighted else None
    model = FITS[fit].set_params(random_state=0)
    expected = model.fit(X, sample_weight=weight)
    expected = {**vars(expected), "code": expected.transform(X)}
    request.getfixturevalue("nothing_is_small")
    model.fit(X, sample_weight=weight)
    for name in ("mean_", "scale_"):
        np.testing.assert_allclose(getattr(model, name), expected[name], rtol=1e-5)
    # A number that is rounded to a level may lie between two of them.
    assert np.mean(np.abs(model.transform(X) - expected["code"]) > 1e-2) < 0.01
    assert model.pca_reconstruction_error_ == pytest.approx(
        expected["pca_reconstruction_error_"], rel=1e-4
    )
    np.testing.assert_allclose(
        model.explained_variance_ratio_,
        expected["explained_variance_ratio_"],
        atol=1e-3,
    )
    for name in ("r2", "pca_r2"):
        assert model.diagnostics_[name] == pytest.approx(
            expected["diagnostics_"][name], abs=1e-3
        )


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
@pytest.mark.parametrize("size", [1e-24, 1e24])
def test_squares_beyond_single_precision_are_taken_in_double(size, rng):
    X = _table(rng, (79, 6), SPECTRUM[:6])
    pca = PCA(2).fit(X.astype(float))
    model = AutoencoderTransformer(2, scaling=None).fit(X * np.float32(size))
    assert model.n_iter_ == 0
    share = pca.explained_variance_ratio_.sum()
    assert model.diagnostics_["pca_r2"] == pytest.approx(share, rel=1e-4)
    assert model.explained_variance_ratio_.sum() == pytest.approx(share, rel=1e-4)
    X_far = (X * np.float32(size)).astype(float)
    np.testing.assert_allclose(model.scale_, 1)
    np.testing.assert_allclose(model.mean_, X_far.mean(axis=0), rtol=1e-4)


def test_the_residual_of_an_almost_perfect_pca_is_not_lost_to_cancellation(rng):
    X = _table(rng, (600, 10), np.r_[9.0, 3.0, np.full(6, 1e-5)]).astype(float)
    pca = PCA(2).fit(X)
    expected = np.square(X - pca.inverse_transform(pca.transform(X))).mean()
    model = AutoencoderTransformer(2, early_stopping=False, max_epochs=1)
    with pytest.warns(WorseThanPCAWarning):
        model.fit(X)
    assert model.pca_reconstruction_error_ == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_there_is_no_second_copy_of_the_rows(
    early_stopping, nothing_is_small, tmp_path, rng, monkeypatch
):
    # NumPy tells tracemalloc of its arrays; a map of a file is none.
    monkeypatch.setattr(source, "_BUDGET", 2**14)
    monkeypatch.setattr(final_pass, "_MAX_HELD", 2**14)
    np.save(tmp_path / "X.npy", _table(rng, (20_000, 100), SPECTRUM))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    model = AutoencoderTransformer(
        4,
        architecture=MLP((8,), start="random"),
        max_epochs=1,
        early_stopping=early_stopping,
        random_state=0,
    )
    model.fit(X[:500])  # what is imported on the way is not counted
    tracemalloc.start()
    try:
        model.fit(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is read")
def test_a_map_of_a_file_stays_where_it_is(tmp_path):
    # 256 MB of rows in a process of their own; what it has for itself is sampled.
    code = """if True:
        import sys, threading, time, warnings
        import numpy as np
        from skae import AutoencoderTransformer

        def own():
            with open("/proc/self/status") as status:
                lines = dict(line.split(":", 1) for line in status)
            return int(lines["RssAnon"].split()[0]) * 1024

        rng = np.random.RandomState(0)
        X = np.lib.format.open_memmap(sys.argv[1], "w+", np.float32, (2**17, 500))
        mixing = rng.normal(size=(20, 500))
        for i in range(0, len(X), 2**13):
            X[i : i + 2**13] = rng.normal(size=(2**13, 20)) @ mixing
            X[i : i + 2**13] += rng.normal(size=(2**13, 500))
        X = np.load(sys.argv[1], mmap_mode="r")
        warnings.simplefilter("ignore")
        model = AutoencoderTransformer(16, max_epochs=1, random_state=0)
        model.fit(np.asarray(X[:1000]))
        before, peak, done = own(), 0, False

        def watch():
            global peak
            while not done:
                peak = max(peak, own())
                time.sleep(0.002)

        thread = threading.Thread(target=watch)
        thread.start()
        model.fit(X)
        done = True
        thread.join()
        print((peak - before) / X.nbytes)
    """
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "X.npy"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(run.stdout) < 0.7


@pytest.mark.parametrize(
    ("n_informative", "dtype"),
    [(1, np.float64), (3, np.float32), (8, np.float64), (20, np.float32)],
)
def test_constant_columns_add_no_directions_to_the_iteration(n_informative, dtype, rng):
    X = np.zeros((1300, 1200), dtype)
    spreads = np.linspace(1, 3, n_informative)
    X[:, :n_informative] = rng.normal(size=(1300, n_informative)) * spreads
    k = 5
    axes = _axes(X, None, k, rng)
    found = axes._axes
    # As many directions as the iteration looks for, at most.
    assert axes.rank == min(n_informative, k + _pca._N_MORE)
    assert len(found) == k
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-6)
    centered = X[:, :n_informative] - X[:, :n_informative].mean(
        axis=0, dtype=np.float64
    )
    singular = np.linalg.svd(centered, compute_uv=False)
    left = np.square(_residual(axes, X), dtype=np.float64).sum()
    everything = np.square(singular).sum()
    assert left == pytest.approx(np.square(singular[k:]).sum(), abs=1e-5 * everything)


def test_squares_too_large_for_single_precision_are_taken_in_double(
    nothing_is_small, rng
):
    X = _table(rng, (300, 40), SPECTRUM)
    axes, larger = (_axes(rows, None, 5, rng) for rows in (X, X * np.float32(1e25)))
    np.testing.assert_allclose(np.abs(larger._axes), np.abs(axes._axes), atol=1e-4)


STEPS = np.arange(240)
SPECTRA = {
    "power": 1 / (1.0 + STEPS) ** 2,
    "exponential": np.exp(-STEPS / 5),
    "spikes": np.r_[np.full(7, 3.0), np.full(233, 0.005)],
    "equal": np.ones(240),
    "slow": 1 / np.sqrt(1.0 + STEPS),
}


def _rows_of(spectrum, rng):
    rotation, _ = np.linalg.qr(rng.normal(size=(240, 240)))
    return rng.normal(size=(300, 240)) * np.sqrt(spectrum) @ rotation


@pytest.fixture
def by_share(nothing_is_small, monkeypatch):
    """Find numbers by iteration, and return a list of whether they were found so."""
    monkeypatch.setattr(_pca, "_MAX_EXACT", 0)
    monkeypatch.setattr(_pca, "_N_DIRECTIONS", 8)
    found, function = [], _pca._by_share

    def spy(*args):
        result = function(*args)
        found.append(result is not None)
        return result

    monkeypatch.setattr(_pca, "_by_share", spy)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "weighted", "transposed"),
    [
        (np.float32, False, False),
        (np.float64, True, False),
        (np.float32, True, True),
        (np.float64, False, True),
    ],
)
@pytest.mark.parametrize("share", ["auto", 0.5, 0.9])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_share_takes_as_many_components_as_the_whole_spectrum(
    spectrum, share, dtype, weighted, transposed, by_share, rng
):
    X = _rows_of(SPECTRA[spectrum], rng).astype(dtype)
    X = np.ascontiguousarray(X.T) if transposed else X
    weight = rng.uniform(0.5, 2, size=len(X)) if weighted else np.ones(len(X))
    weight /= weight.mean()
    axes = _axes(X, weight if weighted else None, share, None)
    covariance = np.cov(X.astype(float).T, aweights=weight, bias=True)
    variances = np.linalg.eigvalsh(covariance)[::-1]
    explained = np.cumsum(variances) / variances.sum()
    expected = np.count_nonzero(explained <= (0.9 if share == "auto" else share)) + 1
    if share == "auto":
        expected = min(expected, 120)
    assert axes.n_components == expected
    if spectrum in ("power", "exponential", "spikes"):
        assert by_share[-1]
        left = np.square(_residual(axes, X))
        left = (weight @ left).sum() / len(X)
        assert left == pytest.approx(variances[expected:].sum(), rel=1e-3)
        again = _axes(X, weight if weighted else None, share, None)
        np.testing.assert_array_equal(again._axes, axes._axes)
    else:
        assert not any(by_share)


def test_a_number_in_doubt_is_found_from_the_whole_spectrum(by_share, rng):
    X = _rows_of(SPECTRA["exponential"], rng)
    variances = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    share = variances[:6].sum() / variances.sum()
    for tiny, expected in ((-1e-12, 6), (1e-12, 7)):
        assert _axes(X, None, share + tiny, None).n_components == expected
    assert not any(by_share)
    assert _axes(X, None, share + 1e-3, None).n_components == 7
    assert by_share[-1]
