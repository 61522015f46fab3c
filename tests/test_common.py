"""Scikit-learn's own checks, on both estimators in several configurations."""

import inspect

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, TopK, Variational, VectorQuantized
from skae.corruptions import Gaussian, SaltAndPepper, Swap
from skae.losses import AbsoluteError, Huber, Trimmed
from skae.penalties import L1, Contractive

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]

# The checks ask for one component or few epochs where they please, and set random_state
# themselves. All configurations but the first take few epochs: what is checked is how
# they behave, not how good they are.
CONFIGURATIONS = [
    {},
    {"architecture": MLP(()), "max_epochs": 5},
    {
        "architecture": MLP((8,), start="random", linear_path=False),
        "max_epochs": 20,
    },
    {
        "corruption": Gaussian(),
        "penalty": L1() + L1(1e-2),
        "max_epochs": 5,
    },
    {
        "architecture": MLP((8,), activation="relu"),
        "scaling": "minmax",
        "n_components": 0.5,
        "early_stopping": False,
        "max_epochs": 5,
    },
    {
        "scaling": "standard",
        "optimizer": "sgd",
        "lr": 1e-2,
        "gradient_clip": 1.0,
        "early_stopping": False,
        "batch_size": 16,
        "max_epochs": 3,
    },
    {"scaling": None, "warm_start": True, "weight_decay": 1e-2, "max_epochs": 3},
    {
        "architecture": MLP((8,), norm="batch", dropout=0.1),
        "bottleneck": Variational(),
        "corruption": Swap(),
        "max_epochs": 3,
    },
    {
        "architecture": MLP(()),
        "bottleneck": TopK(1),
        "loss": Trimmed(Huber()),
        "max_epochs": 3,
    },
    {
        "architecture": MLP((8,)),
        "bottleneck": VectorQuantized(8),
        "penalty": Contractive(),
        "max_epochs": 3,
    },
    {
        "architecture": MLP((8,), norm="layer"),
        "bottleneck": FiniteScalar(),
        "loss": AbsoluteError(),
        "corruption": SaltAndPepper(),
        "max_epochs": 3,
    },
]


def expected_failed_checks(estimator):
    """Name what no training by gradient steps can do.

    Repeating a row changes which rows share a batch, and so every step that follows.
    """
    return {
        "check_sample_weight_equivalence_on_dense_data": (
            "rows of weight two and rows given twice make other batches; the centre, "
            "the scale, the start and the objective are equal (test_sample_weight)"
        )
    }


# Few epochs, one component or a handful of rows are what these warnings are for.
@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [estimator(**params) for params in CONFIGURATIONS for estimator in ESTIMATORS],
    expected_failed_checks=expected_failed_checks,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_all_parameters_are_constrained(estimator):
    assert set(estimator().get_params(deep=False)) == set(
        estimator._parameter_constraints
    )


def test_both_estimators_share_their_parameters():
    transformer, detector = (inspect.signature(e).parameters for e in ESTIMATORS)
    own = {"contamination", "anomaly_score", "n_estimators", "calibration_fraction"}
    assert set(detector) - set(transformer) == own
    shared = [name for name in detector if name in transformer]
    assert shared == list(transformer)
    for name in shared:
        assert detector[name] == transformer[name]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_n_components_is_positional(estimator):
    first, *others = inspect.signature(estimator).parameters.values()
    assert first.name == "n_components"
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}
