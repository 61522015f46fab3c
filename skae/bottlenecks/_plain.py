"""The code of the textbooks."""

from math import inf

import torch
from torch import nn

from .._compat.sklearn import StrOptions
from .._component import Affine
from ._base import Bottleneck

__all__ = ["Identity", "Plain"]

# Of each activation: the function, the range of its values, and slope and value at
# zero, where it starts close to a line; None for one that is not smooth there.
_ACTIVATIONS = {
    "relu": (torch.relu, (0.0, inf), None),
    "sigmoid": (torch.sigmoid, (0.0, 1.0), (0.25, 0.5)),
    "tanh": (torch.tanh, (-1.0, 1.0), (1.0, 0.0)),
}
# Standard deviation of what enters a saturating activation at the start: in most rows
# it is then within a few per cent of a line.
_START_SPREAD = 0.5


class Plain(Bottleneck):
    """The encoder's output is the code, free of charge; what ``None`` stands for.

    With ``MLP(start="pca")`` and the squared error the model starts as PCA.

    Parameters
    ----------
    activation : {"relu", "sigmoid", "tanh"}, default=None
        What the encoder's output goes through. None leaves it as it is, so that
        nothing depends on the axes and `fit` turns the code to principal axes.
        "sigmoid" gives codes in [0, 1], as :class:`~skae.penalties.KLSparsity` needs
        them, "tanh" in [-1, 1], "relu" codes that are not negative and often exactly
        zero. With "sigmoid" and "tanh" the model still starts close to PCA, within
        what bends the activation there; with "relu" it starts at random.

    Examples
    --------
    >>> import torch
    >>> from skae.bottlenecks import Plain
    >>> code, cost = Plain().build(2, None)(torch.ones(3, 2))
    >>> code.shape, cost
    (torch.Size([3, 2]), tensor([0., 0., 0.]))
    >>> code, cost = Plain("sigmoid").build(2, None)(torch.tensor([[-9.0, 0.0]]))
    >>> code
    tensor([[1.2339e-04, 5.0000e-01]])
    """

    _parameter_constraints: dict = {"activation": [StrOptions(set(_ACTIVATIONS)), None]}

    def __init__(self, activation=None):
        self.activation = activation

    @property
    def symmetry(self):
        """Any rotation of a linear code; a new order of one with an activation."""
        return {None: "rotation", "relu": "scaling"}.get(self.activation, "permutation")

    @property
    def code_range(self):
        """The range of the activation."""
        if self.activation is None:
            return (-inf, inf)
        return _ACTIVATIONS[self.activation][1]

    def build(self, n_components, generator):
        """Return a module that applies the activation; see `Bottleneck.build`."""
        if self.activation is None:
            return Identity()
        function, code_range, line = _ACTIVATIONS[self.activation]
        if line is None:
            return _Activated(function, code_range)
        return _Saturating(function, code_range, *line)


class Identity(nn.Module):
    """The code is what the encoder says."""

    def forward(self, h):
        return h, h.new_zeros(h.shape[0])

    def start(self, statistics):
        """Return the affine maps that encoder and decoder should start from: PCA."""
        return statistics.pca()


class _Activated(nn.Module):
    def __init__(self, function, code_range):
        super().__init__()
        self.function = function
        self.code_range = code_range

    def forward(self, h):
        return self.function(h), h.new_zeros(h.shape[0])

    def project(self, code):
        """Return the nearest possible codes."""
        return code.clamp(*self.code_range)


class _Saturating(_Activated):
    def __init__(self, function, code_range, slope, value):
        super().__init__(function, code_range)
        self.slope = slope
        self.value = value

    def start(self, statistics):
        """Return PCA of a size at which the activation is nearly a line."""
        encoding, (weight, bias) = statistics.pca(_START_SPREAD)
        weight = weight / self.slope
        return encoding, Affine(weight, bias - self.value * weight.sum(dim=1))
