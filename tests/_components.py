"""Every public component, in several settings."""

from functools import update_wrapper

from torch import nn

from skae import (
    anomaly_scores,
    architectures,
    bottlenecks,
    corruptions,
    losses,
    penalties,
)
from skae._component import Component
from skae.anomaly_scores import (
    Combined,
    Mahalanobis,
    NegativeELBO,
    Neighbors,
    Reconstruction,
)
from skae.architectures import MLP, Conv, Custom
from skae.bottlenecks import (
    BatchTopK,
    FiniteScalar,
    Nested,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Dropout, Gaussian, Masking, SaltAndPepper, Swap
from skae.losses import (
    AbsoluteError,
    Bernoulli,
    Huber,
    Poisson,
    SquaredError,
    Trimmed,
)
from skae.penalties import L1, Contractive, Decorrelation, KLSparsity, Sum

MODULES = [anomaly_scores, architectures, bottlenecks, corruptions, losses, penalties]
CLASSES = {name: getattr(module, name) for module in MODULES for name in module.__all__}
# Base classes, and classes that are no components: listed by name, as they have no
# common attribute.
BASES = {
    "AnomalyScore",
    "Architecture",
    "Bottleneck",
    "Corruption",
    "Loss",
    "Penalty",
    "Scorer",
    "View",
}


class named:
    """A function whose repr, in names of tests, is the same in all processes."""

    def __init__(self, function):
        update_wrapper(self, function)
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __repr__(self):
        return self.__name__

    def __reduce__(self):
        return self.__qualname__  # where pickle finds it in its module


@named
def small(n_in, n_out):
    """Return a network for `Custom`."""
    return nn.Sequential(nn.Linear(n_in, 8), nn.ELU(), nn.Linear(8, n_out))


@named
def forgetful(n_in, n_out):
    """Return one with dropout, which is random in training."""
    return nn.Sequential(
        nn.Linear(n_in, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, n_out)
    )


# For rows of six features and codes of three components.
SETTINGS = [
    Reconstruction(),
    NegativeELBO(),
    Mahalanobis(),
    Neighbors(),
    Neighbors(space="data"),
    Neighbors(1),
    Neighbors(1000, space="data"),
    Combined(),
    Combined([Reconstruction()]),
    Combined((Mahalanobis(), Combined([NegativeELBO(), Neighbors(5)]))),
    MLP(),
    MLP(()),
    MLP((), start="random"),
    MLP((5, 4), activation="relu", linear_path=False, start="random"),
    MLP((5,), norm="batch", dropout=0.2),
    MLP((5, 4), norm="layer", start="random"),
    Conv((1, 6)),
    Conv((1, 6), (3, 2), hidden_layer_sizes=(5, 4)),
    Conv((2, 3), channels=(4,), kernel_size=5, upsampling="resize"),
    Conv((1, 2, 3), channels=(4, 3), linear_path=False, start="random"),
    Conv((1, 1, 2, 3), channels=(4,), activation="tanh"),
    Custom(small, small),
    Custom(forgetful, small),
    Plain(),
    Plain("relu"),
    Plain("sigmoid"),
    Plain("tanh"),
    Variational(),
    Variational(0.0),
    Variational(4.0, warm_up=0.5, free_bits=0.1, decoder_variance=0.5),
    TopK(2),
    TopK(1, revival=0.5, dead_window=0.1, sparse_output=True),
    TopK(3, revival=0),
    BatchTopK(2),
    BatchTopK(1, sparse_output=True),
    VectorQuantized(),
    VectorQuantized(5, n_groups=3, commitment=1.0, decay=0.5),
    FiniteScalar(),
    FiniteScalar(2),
    FiniteScalar(5),
    Nested(),
    Gaussian(),
    Gaussian(0.0),
    Masking(),
    Masking(1.0),
    SaltAndPepper(),
    SaltAndPepper(1.0, low=-1, high=2),
    Dropout(),
    Swap(),
    Swap(1.0),
    SquaredError(),
    AbsoluteError(),
    Huber(),
    Huber(0.1),
    Bernoulli(),
    Poisson(),
    Trimmed(SquaredError()),
    Trimmed(Bernoulli(), 0.5),
    L1(),
    L1(0.0),
    KLSparsity(),
    KLSparsity(0.3, alpha=0.1),
    Contractive(),
    Decorrelation(),
    Sum(L1(0.1), L1(0.2)),
    Contractive() + (Decorrelation() + L1()),
    Sum(Contractive(), KLSparsity()),
]
# One of each class.
CONCRETE = {type(component).__name__: component for component in reversed(SETTINGS)}


def of_kind(kind, settings=None):
    """Return one component per class of a kind, or every setting of it."""
    given = CONCRETE.values() if settings is None else settings
    return [component for component in given if isinstance(component, kind)]


__all__ = [
    "BASES",
    "CLASSES",
    "CONCRETE",
    "SETTINGS",
    "Component",
    "forgetful",
    "of_kind",
    "small",
]
