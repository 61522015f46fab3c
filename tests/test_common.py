"""Scikit-learn's own checks, on both estimators in several configurations."""

import inspect

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import FiniteScalar, TopK, Variational, VectorQuantized
from skae.corruptions import Gaussian, SaltAndPepper, Swap
from skae.losses import AbsoluteError, Huber, Trimmed
from skae.penalties import L1, Contractive

ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]

# The checks ask for one component or few epochs where they please, and set random_state
# themselves. All configurations but the default take few epochs: what is checked is how
# they behave, not how good they are. All but the first are slow: training to the end
# takes long, and the others take other paths through validation, fit and inference, of
# which each has tests of its own.
CONFIGURATIONS = {
    "few epochs": {"max_epochs": 5},
    "default": {},
    "linear": {"architecture": MLP(()), "max_epochs": 5},
    "variational": {
        "architecture": MLP((8,), norm="batch", dropout=0.1),
        "bottleneck": Variational(),
        "corruption": Swap(),
        "max_epochs": 3,
    },
    "top k": {
        "architecture": MLP(()),
        "bottleneck": TopK(1),
        "loss": Trimmed(Huber()),
        "max_epochs": 3,
    },
    "random start": {
        "architecture": MLP((8,), start="random", linear_path=False),
        "max_epochs": 20,
    },
    "denoising": {
        "corruption": Gaussian(),
        "penalty": L1() + L1(1e-2),
        "max_epochs": 5,
    },
    "minmax": {
        "architecture": MLP((8,), activation="relu"),
        "scaling": "minmax",
        "n_components": 0.5,
        "early_stopping": False,
        "max_epochs": 5,
    },
    "sgd": {
        "scaling": "standard",
        "optimizer": "sgd",
        "lr": 1e-2,
        "gradient_clip": 1.0,
        "early_stopping": False,
        "batch_size": 16,
        "max_epochs": 3,
    },
    "warm start": {
        "scaling": None,
        "warm_start": True,
        "weight_decay": 1e-2,
        "max_epochs": 3,
    },
    "vector quantized": {
        "architecture": MLP((8,)),
        "bottleneck": VectorQuantized(8),
        "penalty": Contractive(),
        "max_epochs": 3,
    },
    "finite scalar": {
        "architecture": MLP((8,), norm="layer"),
        "bottleneck": FiniteScalar(),
        "loss": AbsoluteError(),
        "corruption": SaltAndPepper(),
        "max_epochs": 3,
    },
}


# These train many networks. The linear one is tried instead of the first.
OUTLIERS = {"check_outliers_train", "check_outliers_fit_predict"}


# Here a detector sets its threshold on rows that it holds back. In the other
# configurations it trains five more networks for that.
HOLDS_BACK = {"variational"}


def expected_failed_checks(estimator):
    """Name what no training by gradient steps can do.

    Repeating a row changes which rows share a batch, and so every step that follows.
    """
    reason = (
        "rows of weight two and rows given twice make other batches; the centre, "
        "the scale, the start and the objective are equal (test_sample_weight)"
    )
    return {
        f"check_sample_weight_equivalence_on_{kind}_data": reason
        for kind in ("dense", "sparse")
    }


def _name(check):
    keywords = [f"{key}={value}" for key, value in check.keywords.items()]
    return "-".join([check.func.__name__, *keywords])


def _cases():
    """Yield a case for each configuration, estimator and check."""
    for name, params in CONFIGURATIONS.items():
        for cls in ESTIMATORS:
            estimator = cls(**params)
            if name in HOLDS_BACK and cls is AutoencoderOutlierDetector:
                estimator.set_params(calibration_fraction=0.2)
            reasons = expected_failed_checks(estimator)
            for instance, check in estimator_checks_generator(estimator):
                function = check.func.__name__
                # These skip themselves unless SCIPY_ARRAY_API is set before SciPy is
                # imported, and for array libraries that are not installed.
                # test_array_api runs them in a process where it is set.
                if function.startswith("check_array_api"):
                    continue
                usual = "linear" if function in OUTLIERS else "few epochs"
                marks = [] if name == usual else [pytest.mark.slow]
                if function in reasons:
                    marks.append(pytest.mark.xfail(reason=reasons[function]))
                yield pytest.param(
                    instance,
                    check,
                    marks=marks,
                    id=f"{name}-{cls.__name__}-{_name(check)}",
                )


# Few epochs, one component or a handful of rows are what these warnings are for.
@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("estimator", "check"), list(_cases()))
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
    own = {"whiten", "n_projection_steps", "max_encoder_steps"}
    assert set(transformer) - set(detector) == own
    shared = [name for name in detector if name in transformer]
    assert shared == [name for name in transformer if name in detector]
    for name in shared:
        assert detector[name] == transformer[name]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_n_components_is_positional(estimator):
    first, *others = inspect.signature(estimator).parameters.values()
    assert first.name == "n_components"
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}
