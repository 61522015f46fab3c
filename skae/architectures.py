"""Architectures: the two networks, from the widths that the other parts ask for."""

from abc import abstractmethod
from itertools import pairwise
from math import sqrt
from numbers import Integral

import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from ._component import Affine, Component

__all__ = ["MLP", "Architecture"]


class Architecture(Component):
    """Base of all architectures: builds an encoder and a decoder."""

    @abstractmethod
    def build(self, n_features, encoder_width, n_components, generator):
        """Return the two networks.

        Parameters
        ----------
        n_features : int
            Features of the data: inputs of the encoder, outputs of the decoder.
        encoder_width : int
            Outputs of the encoder, as the bottleneck asks.
        n_components : int
            Width of the code: inputs of the decoder.
        generator : torch.Generator
            On the CPU; where the initial weights come from. Global generators
            must be left alone.

        Returns
        -------
        encoder, decoder : torch.nn.Module
            They may have the hooks that :class:`skae._module.Autoencoder` lists;
            ``start(affine)`` must make the network equal to an affine map.
        """


# Gain of the hidden layers' initial weights per activation: sqrt(2) keeps the scale
# of the signal through layers that drop about half of it (He et al., 2015), 1 through
# those that are close to the identity around zero (Glorot & Bengio, 2010).
_ACTIVATIONS = {
    "elu": (nn.ELU, 1.0),
    "gelu": (nn.GELU, sqrt(2)),
    "relu": (nn.ReLU, sqrt(2)),
    "sigmoid": (nn.Sigmoid, 1.0),
    "silu": (nn.SiLU, sqrt(2)),
    "tanh": (nn.Tanh, 1.0),
}


# Share of the branch's learning rate at which the linear path beside it learns.
_PACE = 0.1


class MLP(Architecture):
    """Fully connected networks, with a linear path beside the hidden layers.

    Encoder and decoder are each ``linear(x) + branch(x)``. At the start the branch's
    last layer is zero and the linear maps are the principal axes of all training
    rows, so that an autoencoder with the plain bottleneck and the squared error
    *is* PCA before its first step, and training only adds to it. A net that starts
    at random needs thousands of steps to find these axes, and may not.

    Parameters
    ----------
    hidden_layer_sizes : "auto" or tuple of int, default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. ``()`` is
        the linear autoencoder. ``"auto"`` is two layers of 128. The first layer is
        as wide for 10 columns as for 10,000, so that the number of weights grows
        linearly with the columns.

    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "tanh"}, default="tanh"
        What follows each hidden layer. Code and output are always linear.

    linear_path : bool, default=True
        Whether a linear map stands beside the hidden layers. Where it starts at PCA,
        it learns at a tenth of the rate of the layers: it decides what becomes of rows
        far out, and stays close to what is known to be right for them.

    start : {"pca", "random"}, default="pca"
        Where the linear maps come from. With ``"pca"`` the bottleneck must have a
        linear start, as :class:`~skae.bottlenecks.Plain` has; with one that has none
        they are drawn at random too. ``"random"``: like the hidden layers, from
        ``random_state``; the branch's last layer is then not zero.
        ``linear_path=False, start="random"`` is the textbook net.

    Raises
    ------
    ValueError
        On ``fit``, if ``start="pca"`` and there is no linear map that could start
        there (``linear_path=False`` with hidden layers).

    Notes
    -----
    Initial weights are uniform with variance ``gain ** 2 / n_inputs`` (LeCun, 1998;
    Glorot & Bengio, 2010; He et al., 2015), biases are zero.

    References
    ----------
    .. [1] Bourlard & Kamp, "Auto-association by multilayer perceptrons and singular
       value decomposition", Biological Cybernetics 59, 1988.
    .. [2] He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, for the path beside the hidden layers.

    Examples
    --------
    With no hidden layer the model is PCA, whatever happens in training:

    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import MLP
    >>> X = load_wine().data
    >>> linear = AutoencoderTransformer(2, architecture=MLP(()), random_state=0).fit(X)
    >>> bool(np.allclose(linear.transform(X), PCA(2).fit_transform(X), rtol=1e-3))
    True
    """

    _parameter_constraints: dict = {
        "hidden_layer_sizes": ["array-like", StrOptions({"auto"})],
        "activation": [StrOptions(set(_ACTIVATIONS))],
        "linear_path": ["boolean"],
        "start": [StrOptions({"pca", "random"})],
    }

    def __init__(
        self,
        hidden_layer_sizes="auto",
        *,
        activation="tanh",
        linear_path=True,
        start="pca",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.linear_path = linear_path
        self.start = start

    def validate(self):
        """Check the parameters, alone and together; see `Component.validate`."""
        super().validate()
        for size in self._hidden_layer_sizes():
            if not (isinstance(size, Integral) and size >= 1):
                raise ValueError(
                    "The 'hidden_layer_sizes' parameter of MLP must be 'auto' or a "
                    f"tuple of integers of at least 1. Got {self.hidden_layer_sizes!r} "
                    "instead."
                )
        if self.start == "pca" and not self.linear_path and self._hidden_layer_sizes():
            raise ValueError(
                "MLP(start='pca') sets the linear path, and linear_path=False leaves "
                "none: pass start='random' or linear_path=True."
            )

    def _hidden_layer_sizes(self):
        if isinstance(self.hidden_layer_sizes, str):
            return (128, 128)
        return tuple(self.hidden_layer_sizes)

    def build(self, n_features, encoder_width, n_components, generator):
        """Return both networks; see `Architecture.build`."""
        hidden = self._hidden_layer_sizes()
        return (
            self._network((n_features, *hidden, encoder_width), generator),
            self._network((n_components, *reversed(hidden), n_features), generator),
        )

    def _network(self, sizes, generator):
        activation, gain = _ACTIVATIONS[self.activation]
        *hidden, (n_last, n_outputs) = pairwise(sizes)
        layers = []
        for n_inputs, width in hidden:
            layers += [_linear(n_inputs, width, gain, generator), activation()]
        branch = nn.Sequential(*layers, _linear(n_last, n_outputs, 1.0, generator))
        if not hidden:
            linear, branch = branch[0], None
        elif self.linear_path:
            linear = _linear(sizes[0], n_outputs, 1.0, generator)
        else:
            linear = None
        if self.start == "random":
            return _Network(linear, branch)
        return _StartingNetwork(linear if branch is None else _Anchored(linear), branch)


class _Network(nn.Module):
    """``linear(x) + branch(x)``, either of which may be absent."""

    def __init__(self, linear, branch):
        super().__init__()
        self.linear = linear
        self.branch = branch

    def forward(self, x):
        if self.branch is None:
            return self.linear(x)
        if self.linear is None:
            return self.branch(x)
        return self.linear(x) + self.branch(x)

    @property
    def affine(self):
        """The map that the network is, if it is affine, or its branch at rest."""
        if self.linear is None:
            return None
        if self.branch is None:
            return Affine(self.linear.weight, self.linear.bias)
        last = self.branch[-1]
        if last.weight.any():
            return None
        return Affine(self.linear.weight, self.linear.bias + last.bias)


class _StartingNetwork(_Network):
    """A network that can be made equal to an affine map."""

    @torch.no_grad()
    def start(self, affine):
        if self.branch is None:
            self.linear.weight.copy_(affine.weight)
            self.linear.bias.copy_(affine.bias)
        else:
            self.linear.start(affine)
            self.branch[-1].weight.zero_()
            self.branch[-1].bias.zero_()


class _Anchored(nn.Module):
    """A linear map that is learnt slowly once started, as its distance from there.

    A row far out is reconstructed by the linear path alone, since bounded activations
    saturate. Left to learn as fast as the branch, that path bends to a few such rows,
    and where other ones then go is a matter of luck. Weight decay pulls it back to
    the start, not to zero.
    """

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("start_weight", linear.weight.detach())
        self.register_buffer("start_bias", linear.bias.detach())
        self.register_buffer("pace", torch.ones(()))
        self.moved_weight = nn.Parameter(torch.zeros_like(linear.weight))
        self.moved_bias = nn.Parameter(torch.zeros_like(linear.bias))

    @property
    def weight(self):
        return self.start_weight + self.pace * self.moved_weight

    @property
    def bias(self):
        return self.start_bias + self.pace * self.moved_bias

    def start(self, affine):
        self.start_weight.copy_(affine.weight)
        self.start_bias.copy_(affine.bias)
        self.pace.fill_(_PACE)
        self.moved_weight.zero_()
        self.moved_bias.zero_()

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def _linear(n_inputs, n_outputs, gain, generator):
    # torch's own initialisation would draw from the global generator, and in its
    # default type, in which other numbers come out.
    layer = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs, dtype=torch.float32)
    bound = gain * sqrt(3 / n_inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
