"""What a notebook shows of a fit: its scores, which weights, warnings, and losses."""

import html
import inspect
import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.exceptions import InitialWeightsWarning

X = load_digits().data[:400]
both = pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)


def fitted(estimator=AutoencoderTransformer, rows=X, **params):
    """Return a fitted model and the texts of the warnings of its fit."""
    params = {"n_components": 3, "max_epochs": 12, "random_state": 0} | params
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = estimator(**params).fit(rows)
    return model, [str(warning.message) for warning in caught]


def card_of(model):
    """Return the card as a tree; it is well-formed."""
    page = model._repr_html_()
    return ElementTree.fromstring(page[page.index('<div class="skae-card"') :])


def text_of(model):
    return " ".join("".join(card_of(model).itertext()).split())


def points_of(line):
    pairs = [pair.split(",") for pair in line.get("points").split()]
    return np.array(pairs, dtype=float).T


@both
def test_scores_weights_and_warnings(estimator):
    model, said = fitted(estimator)
    text = text_of(model)
    facts = model.diagnostics_
    assert f"R² {facts['r2']:.3f}, PCA {facts['pca_r2']:.3f}" in text
    assert f"Kept {model.kept_weights_}" in text
    assert f"{facts['n_held_out']} validation rows" in text
    assert facts["warnings"] == said
    assert len(said) == 1
    assert said[0] in text
    assert ("Outliers" in text) == hasattr(model, "offset_")


def test_no_warnings():
    model, said = fitted(early_stopping=False)
    assert said == model.diagnostics_["warnings"] == []
    assert "Warning" not in text_of(model)


def test_a_model_that_is_pca_says_why():
    model, said = fitted(rows=X[:40])
    assert "too few rows to validate, so that the model is PCA" in text_of(model)
    assert model.diagnostics_["warnings"] == said
    assert card_of(model).find(".//svg") is None  # there were no epochs


def test_weights_kept_at_random_are_not_called_pca():
    architecture = MLP((4,), linear_path=False, start="random")
    model, _ = fitted(rows=X[:40], architecture=architecture, lr=1e-12)
    assert "the model is PCA" not in text_of(model)


def test_the_curves_are_those_of_the_history():
    model, _ = fitted()
    lines = card_of(model).findall(".//polyline")
    assert [line.find("title").text for line in lines] == [
        "training loss",
        "validation loss",
    ]
    drawn = np.concatenate([points_of(line)[1] for line in lines])
    losses = np.concatenate([model.loss_curve_, model.validation_loss_curve_])
    # Pixels are an affine map of the losses, upwards.
    slope, offset = np.polyfit(losses, drawn, 1)
    assert slope < 0
    np.testing.assert_allclose(slope * losses + offset, drawn, atol=0.1)
    (dot,) = card_of(model).findall(".//circle")
    best = points_of(lines[1])[:, model.best_epoch_ - 1]
    assert [float(dot.get("cx")), float(dot.get("cy"))] == list(best)
    (start,) = card_of(model).findall(".//line")
    expected = slope * model.diagnostics_["initial_loss"] + offset
    assert float(start.get("y1")) == pytest.approx(expected, abs=0.2)


def test_many_epochs_need_no_more_points_than_there_are_pixels():
    model, _ = fitted(rows=X[:100], max_epochs=700, early_stopping=False)
    (line,) = card_of(model).findall(".//polyline")
    assert 100 < len(points_of(line)[0]) <= 260


def test_losses_that_are_not_finite():
    model, _ = fitted()
    model.history_["train_loss"] = np.full(12, np.nan)
    model.history_["valid_loss"][3:] = np.inf
    (line,) = card_of(model).findall(".//polyline")
    assert len(points_of(line)[0]) == 3
    assert "nan" not in ElementTree.tostring(card_of(model), "unicode")


@pytest.mark.slow
@both
def test_no_card_before_a_fit_and_a_caption_in_a_pipeline(estimator):
    model, _ = fitted(estimator)
    assert "skae-card" not in clone(model)._repr_html_()
    assert "http" not in ElementTree.tostring(card_of(model), "unicode")
    pipeline = make_pipeline(StandardScaler(), clone(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = html.unescape(pipeline.fit(X)._repr_html_())
    facts = pipeline[-1].diagnostics_
    assert f"R² {facts['r2']:.3f}, PCA {facts['pca_r2']:.3f}" in page


def test_a_problem_is_a_warning_at_the_line_of_the_user():
    with pytest.warns(InitialWeightsWarning) as caught:
        AutoencoderTransformer(3).fit(X[:40])
    assert [warning.filename for warning in caught] == [__file__]


@both
def test_parameters_have_tooltips(estimator):
    page = estimator()._repr_html_()
    shown = re.findall(r'<td class="param"(?: title="([^"]*)")?>(\w+)', page)
    if not shown:
        pytest.skip("this version of scikit-learn has no table of parameters")
    assert {name for _, name in shown} == set(estimator().get_params())
    documented = inspect.getdoc(estimator)
    for title, name in shown:
        kind, _, text = html.unescape(title).partition("\n\n")
        first, *_ = text.split("\n")
        assert f"\n{name} : {kind}\n    {first}\n" in documented
