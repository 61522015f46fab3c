"""The hint at another loss than the default."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.exceptions import FitWarning
from skae.losses import Bernoulli, Poisson, SquaredError

# The hint is about the data and PCA of them is enough for it.
LINEAR = MLP(hidden_layer_sizes=())


def hint(X, estimator=AutoencoderTransformer, **passed):
    """Return the hint; nothing else is said."""
    model = estimator(2, architecture=LINEAR, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(X, **passed).diagnostics_["hint"]


def counts(rng, n_rows, n_columns, rate):
    rates = rate * rng.rand(n_rows, 2) @ rng.rand(2, n_columns)
    return rng.poisson(rates).astype(float)


@pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grey_values_are_for_bernoulli(estimator, dtype):
    X = (load_digits().data[:79] / 16).astype(dtype)
    said = hint(X, estimator)
    assert "loss=Bernoulli()" in said
    # In a place that is looked at, too.
    model = estimator(2, architecture=LINEAR).fit(X)
    assert "Hint: loss=Bernoulli()" in model._repr_html_()
    assert "Hint" not in model.set_params(loss=SquaredError()).fit(X)._repr_html_()


def test_binary_values_are_for_bernoulli(rng):
    share = np.linspace(0.1, 0.9, 8)
    X = (rng.rand(79, 8) < share).astype(float)
    assert "loss=Bernoulli()" in hint(X)
    X[:, 0] = 0.0  # a column that does not vary
    assert "loss=Bernoulli()" in hint(X)


@pytest.mark.parametrize("rate", [2, 10, 100, 1000])
@pytest.mark.parametrize("n_rows", [40, 500])
def test_draws_of_poisson_are_for_poisson(rate, n_rows, rng):
    assert "loss=Poisson()" in hint(counts(rng, n_rows, 10, rate))


@pytest.mark.parametrize("has_target", [False, True])
def test_missing_entries_say_nothing(has_target, rng):
    tables = {"Bernoulli": rng.rand(79, 8) < 0.5, "Poisson": counts(rng, 79, 10, 10)}
    for name, X in tables.items():
        X = np.where(rng.rand(*X.shape) < 0.1, np.nan, X)
        target = {"X_target": X.copy()} if has_target else {}
        assert f"loss={name}()" in hint(X, **target), name


@pytest.mark.parametrize("loss", [Bernoulli(), SquaredError(), Poisson()])
def test_a_loss_that_was_chosen_is_not_questioned(loss):
    X = np.round(load_digits().data[:100] / 16)
    assert hint(X) is not None
    model = AutoencoderTransformer(
        2, loss=loss, architecture=LINEAR, early_stopping=False, max_epochs=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.fit(X).diagnostics_["hint"] is None


def test_nothing_is_said_of_other_data(rng):
    cancer = load_breast_cancer().data[:79]
    digits = load_digits().data[:79]
    tables = {
        "normal": rng.normal(size=(79, 5)),
        "positive": np.exp(rng.normal(size=(79, 5))),
        "uniform": rng.rand(79, 5),
        "standardised": StandardScaler().fit_transform(digits),
        "scaled to a range": MinMaxScaler().fit_transform(cancer),
        "grey values": digits,  # integers with a bound
        "years": rng.randint(1990, 2020, (79, 4)).astype(float),
        "ratings": rng.randint(1, 6, (79, 8)).astype(float),
        "money": np.round(rng.lognormal(10, 0.5, (79, 4))),
        "signed integers": counts(rng, 79, 6, 10) - 1,
        "halves": counts(rng, 79, 6, 10) / 2,
        "constant": np.ones((30, 4)),
    }
    for name, X in tables.items():
        model = AutoencoderTransformer(2, architecture=LINEAR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constant rows
            assert model.fit(X).diagnostics_["hint"] is None, name


def test_a_column_of_zeros_may_vary_at_a_warm_start(rng):
    X = counts(rng, 60, 10, 10)
    first = np.where(np.arange(10) == 3, 0.0, X)
    model = AutoencoderTransformer(2, warm_start=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FitWarning)  # of so few rows
        for rows in (first, X):
            assert "Poisson()" in model.fit(rows).diagnostics_["hint"]


def test_categories_are_not_taken_for_binary_values(rng):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"colour": pd.Categorical(rng.choice(["a", "b", "c"], 79))})
    X["on"] = (rng.rand(79) < 0.5).astype(float)
    model = AutoencoderOutlierDetector(1, early_stopping=False, max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so short a training
        assert model.fit(X).diagnostics_["hint"] is None
