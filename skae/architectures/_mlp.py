"""Fully connected networks."""

from itertools import pairwise
from math import log2
from numbers import Integral, Real

from torch import nn

from .._compat.sklearn import Interval, StrOptions
from ._base import Architecture
from ._networks import (
    ACTIVATIONS,
    TORCH_GAIN,
    BatchNorm,
    Branch,
    Stage,
    check_start,
    initialised,
    network,
)

__all__ = ["MLP"]

_NORMS = {"batch": BatchNorm, "layer": nn.LayerNorm}
# Widths of hidden layers where none are given.
_WIDTHS = (128, 512)


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
        the linear autoencoder. ``"auto"`` is two layers, of the power of two nearest
        to the number of features, at least 128 and at most 512: the number of weights
        grows linearly with the columns once they are many.

    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "tanh"}, default="tanh"
        What follows each hidden layer. Code and output are always linear.

    linear_path : bool, default=True
        Whether a linear map stands beside the hidden layers. Where it starts at PCA,
        it learns at a tenth of the rate of the layers: it decides what becomes of rows
        far out, and stays close to what is known to be right for them.

    norm : {"batch", "layer"}, default=None
        Normalisation before each activation: over the rows of the batch [3]_, with
        running statistics in inference, or over the units of the layer [4]_. A batch
        of one row passes batch normalisation as in inference.

    dropout : float, default=0.0
        Share of the outputs of each hidden layer of the *encoder* that is dropped in
        training [5]_; the others are scaled up. Held-out rows are judged without.

    start : {"pca", "random"}, default="pca"
        Where the linear maps come from. With ``"pca"`` the bottleneck must have a
        linear start, as :class:`~skae.bottlenecks.Plain` has; with one that has none
        they are drawn at random too. ``"random"``: like the hidden layers, from
        ``random_state``; the branch's last layer is then not zero.
        ``linear_path=False, start="random"`` is the textbook net, with the weights that
        torch would draw.

    Raises
    ------
    ValueError
        On ``fit``, if ``start="pca"`` and there is no linear map that could start
        there (``linear_path=False`` with hidden layers).

    Notes
    -----
    Initial weights are uniform with variance ``gain ** 2 / n_inputs`` (LeCun, 1998;
    Glorot & Bengio, 2010; He et al., 2015), biases are zero. With ``start="random"``
    the variance is ``1 / (3 * n_inputs)`` in all layers, that of
    :class:`torch.nn.Linear`.

    References
    ----------
    .. [1] Bourlard & Kamp, "Auto-association by multilayer perceptrons and singular
       value decomposition", Biological Cybernetics 59, 1988.
    .. [2] He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, for the path beside the hidden layers.
    .. [3] Ioffe & Szegedy, "Batch Normalization", ICML 2015.
    .. [4] Ba, Kiros & Hinton, "Layer Normalization", 2016.
    .. [5] Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout",
       JMLR 15, 2014.

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
        "activation": [StrOptions(set(ACTIVATIONS))],
        "linear_path": ["boolean"],
        "norm": [StrOptions(set(_NORMS)), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "start": [StrOptions({"pca", "random"})],
    }

    def __init__(
        self,
        hidden_layer_sizes="auto",
        *,
        activation="tanh",
        linear_path=True,
        norm=None,
        dropout=0.0,
        start="pca",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.linear_path = linear_path
        self.norm = norm
        self.dropout = dropout
        self.start = start

    def validate(self):
        """Check the parameters, alone and together; see `Component.validate`."""
        super().validate()
        hidden = self.hidden_layer_sizes
        for size in () if isinstance(hidden, str) else hidden:
            if not (isinstance(size, Integral) and size >= 1):
                raise ValueError(
                    "The 'hidden_layer_sizes' parameter of MLP must be 'auto' or a "
                    f"tuple of integers of at least 1. Got {hidden!r} instead."
                )
        if len(hidden):
            check_start(self)

    def build(self, n_features, encoder_width, n_components, generator):
        """Return both networks; see `Architecture.build`."""
        if isinstance(self.hidden_layer_sizes, str):
            low, high = _WIDTHS
            hidden = (min(max(2 ** round(log2(n_features)), low), high),) * 2
        else:
            hidden = tuple(self.hidden_layer_sizes)
        encoder_sizes = (n_features, *hidden, encoder_width)
        decoder_sizes = (n_components, *reversed(hidden), n_features)
        return (
            self._network(encoder_sizes, self.dropout, generator),
            self._network(decoder_sizes, 0.0, generator),
        )

    def _network(self, sizes, dropout, generator):
        activation, gain = ACTIVATIONS[self.activation]
        last_gain = 1.0
        if self.start == "random":
            gain = last_gain = TORCH_GAIN
        *hidden, last = pairwise(sizes)
        stages = []
        for n_inputs, width in hidden:
            layer = initialised(
                nn.Linear, n_inputs, width, gain=gain, generator=generator
            )
            norm = None if self.norm is None else _NORMS[self.norm](width)
            stages.append(Stage(layer, activation(), norm))
        branch = None
        if hidden:
            layer = initialised(nn.Linear, *last, gain=last_gain, generator=generator)
            branch = Branch(stages, layer, dropout)
        ends = sizes[0], sizes[-1]
        return network(
            *ends, branch, self.linear_path, self.start, generator, gain=last_gain
        )
