"""Identity bottleneck, with an optional activation."""

from math import inf

import torch
from torch import nn

from .._compat.sklearn import StrOptions
from .._component import Affine
from ._base import Bottleneck

__all__ = ["Identity", "Plain"]

# For each activation the function, the range of its values, and its slope and value at
# zero, around which it is nearly linear; None if it is not smooth there.
_ACTIVATIONS = {
    "relu": (torch.relu, (0.0, inf), None),
    "sigmoid": (torch.sigmoid, (0.0, 1.0), (0.25, 0.5)),
    "tanh": (torch.tanh, (-1.0, 1.0), (1.0, 0.0)),
}
# Standard deviation of the inputs of a saturating activation at the start. It is small
# enough for the activation to be nearly linear: for normal inputs, the tangent at zero
# explains 94 % of the variance of tanh and 99 % of that of the sigmoid (by numerical
# integration). It only sets where training starts, so it needs no tuning.
_START_SPREAD = 0.5


class Plain(Bottleneck):
    """Identity bottleneck without a cost term; used for ``bottleneck=None``.

    The code is the output of the encoder, optionally passed through an activation. With
    ``MLP(start="pca")`` and the squared error the model starts as PCA.

    Parameters
    ----------
    activation : {"relu", "sigmoid", "tanh"}, default=None
        Activation applied to the output of the encoder. With None the code is not
        changed; the model does not depend on its axes, and `fit` rotates it to
        principal axes. "sigmoid" gives codes in [0, 1], which
        :class:`~skae.penalties.KLSparsity` requires, "tanh" codes in [-1, 1], and
        "relu" codes that are not negative and often exactly zero. With "sigmoid" and
        "tanh" the model starts close to PCA, at a scale at which the activation is
        nearly linear; with "relu" it starts from random weights.

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
        """Rotation without an activation, scaling with "relu", else permutation."""
        return {None: "rotation", "relu": "scaling"}.get(self.activation, "permutation")

    @property
    def code_range(self):
        """Range of the activation."""
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
    """Return the input as the code, with a cost of zero."""

    def forward(self, h):
        return h, h.new_zeros(h.shape[0])

    def start(self, statistics):
        """Return the affine maps of PCA for encoder and decoder."""
        return statistics.pca()


class _Activated(nn.Module):
    def __init__(self, function, code_range):
        super().__init__()
        self.function = function
        self.code_range = code_range

    def forward(self, h):
        return self.function(h), h.new_zeros(h.shape[0])

    def project(self, code):
        """Return the nearest codes in the range of the activation."""
        return code.clamp(*self.code_range)


class _Saturating(_Activated):
    def __init__(self, function, code_range, slope, value):
        super().__init__(function, code_range)
        self.slope = slope
        self.value = value

    def start(self, statistics):
        """Return PCA at a scale at which the activation is nearly linear."""
        encoding, (weight, bias) = statistics.pca(_START_SPREAD)
        weight = weight / self.slope
        return encoding, Affine(weight, bias - self.value * weight.sum(dim=1))
