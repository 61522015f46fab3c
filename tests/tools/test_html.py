"""What a notebook shows of an estimator."""

import html
import re

import pytest
from _components import SETTINGS
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.anomaly_scores import AnomalyScore
from skae.architectures import Architecture
from skae.bottlenecks import Bottleneck, Variational
from skae.corruptions import Corruption, Masking
from skae.losses import Loss, SquaredError, Trimmed
from skae.penalties import L1, Penalty

SLOTS = {
    "architecture": Architecture,
    "bottleneck": Bottleneck,
    "corruption": Corruption,
    "loss": Loss,
    "penalty": Penalty,
    "anomaly_score": AnomalyScore,
}


both = pytest.mark.parametrize(
    "estimator", [AutoencoderTransformer, AutoencoderOutlierDetector]
)


def shown(page):
    """Return the cells of each row of the tables, by the name in front."""
    found = {}
    for row in re.findall(r"(?s)<tr.*?</tr>", page):
        cells = re.findall(r"(?s)<td.*?</td>", row)
        cells = [html.unescape(re.sub("(?s)<.*?>", "", c)).strip() for c in cells]
        cells = [cell for cell in cells if cell]
        if len(cells) > 1:
            found[cells[0]] = cells[1:]
    return found


@pytest.mark.parametrize("component", SETTINGS, ids=repr)
def test_every_component_with_its_parameters(component):
    slot = next(name for name, base in SLOTS.items() if isinstance(component, base))
    model = AutoencoderOutlierDetector(**{slot: component})
    cells = shown(model._repr_html_())
    assert cells.keys() == model.get_params().keys()
    # Long values are cut in their middle.
    assert cells[slot][0].startswith(type(component).__name__[:10])


@both
def test_fitted_pipeline(estimator):
    X = load_digits().data[:200]
    pipeline = make_pipeline(
        StandardScaler(),
        estimator(
            4,
            bottleneck=Variational(),
            corruption=Masking(0.2),
            penalty=L1(0.1) + L1(0.2),
            loss=Trimmed(SquaredError(), fraction=0.1),
            max_epochs=3,
            early_stopping=False,
            random_state=0,
        ),
    )
    assert "Not fitted" in estimator_html_repr(pipeline)
    page = estimator_html_repr(pipeline.fit(X))
    assert "Not fitted" not in page
    cells = shown(page)
    assert cells["n_components"] == ["4"]
    assert cells["penalty__right__alpha"] == ["0.2"]
    assert cells["n_components_"] == ["int", "4"]
    assert cells["mean_"][0] == "ndarray[float64](64,)"
    assert cells.keys() >= {"best_epoch_", "history_", "net_"}


@both
def test_no_link_into_the_manual_of_another_package(estimator):
    page = estimator()._repr_html_()
    page = re.sub(r"(?s)<(style|script)>.*?</\1>", "", page)
    assert "http" not in page
    # While the steps of scikit-learn keep theirs.
    page = make_pipeline(StandardScaler(), estimator())._repr_html_()
    links = set(re.findall(r'href="[^"]*generated/sklearn\.([\w.]+)\.html', page))
    assert links == {"pipeline.Pipeline", "preprocessing.StandardScaler"}
