"""Fully connected networks."""

from functools import partial
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
    check_start,
    initialised,
    network,
    stages,
)

__all__ = ["MLP"]

_NORMS = {"batch": BatchNorm, "layer": nn.LayerNorm}
# Largest code for which activation="auto" is "relu", norm="auto" None and start="auto"
# "mixed". This choice and the learning rate of the estimators:
# tests/benchmarks/search_default.py.
_FEW_COMPONENTS = 5
# Smallest and largest width of the hidden layers with hidden_layer_sizes="auto". The
# upper limit bounds the number of weights on wide tables; the choice is measured in
# tests/benchmarks/bench_constants.py.
_WIDTHS = (128, 512)


class MLP(Architecture):
    """Fully connected networks with a linear skip connection.

    Encoder and decoder are each the sum of a linear map and a branch of hidden layers,
    ``linear(x) + branch(x)``. The last layer of the branch is initialised with zeros
    and the linear maps with the principal axes of the training rows [1]_, so that an
    autoencoder with the plain bottleneck and the squared error is PCA before its first
    step. A randomly initialised network needs thousands of steps to find these axes,
    and may not find them.

    Parameters
    ----------
    hidden_layer_sizes : "auto" or tuple of int, default="auto"
        Widths of the hidden layers of the encoder; the decoder has the same in reverse
        order. ``()`` is the linear autoencoder. ``"auto"`` means two layers whose width
        is the power of two nearest to the number of features, at least 128 and at most
        512. Because of the upper limit the number of weights grows linearly with the
        number of features on wide tables.

    activation : {"auto", "elu", "gelu", "relu", "sigmoid", "silu", "tanh"}, \
            default="auto"
        Activation after each hidden layer. Code and output layer are linear. ``"auto"``
        means "relu" for codes of up to 5 components and "elu" for larger ones, which
        had the lowest error on tables. "tanh" is bounded: see ``linear_path``.

    linear_path : bool, default=True
        Whether to add the linear map to the output of the hidden layers [2]_. If it is
        initialised with PCA, its learning rate is a tenth of that of the other layers.
        With "tanh" or "sigmoid", which are bounded, the linear map alone determines the
        reconstruction of extreme rows; the low rate keeps it close to PCA.

    norm : {"auto", "batch", "layer"} or None, default="auto"
        Normalisation before each activation: batch normalisation over the rows of the
        batch [3]_ or layer normalisation over the units of the layer [4]_. ``"auto"``
        means none for codes of up to 5 components and "batch" for larger ones. In
        inference, and for a training batch of one row, batch normalisation uses
        statistics of up to 1,024 training rows, which are estimated after each epoch
        for the weights that are kept [6]_. With "batch" an epoch takes about 1.3 times
        as long as without normalisation and more epochs lower the error, so that fits
        take two to three times as long.

    dropout : float, default=0.0
        Probability, in [0, 1), with which each output of a hidden layer of the
        *encoder* is set to zero in training [5]_; the other outputs are divided by
        ``1 - dropout``. There is no dropout on the validation set and in inference.

    start : {"auto", "pca", "mixed", "random"}, default="auto"
        Initial values of the linear maps. ``"pca"`` uses the principal axes. It needs a
        bottleneck with a linear start, such as :class:`~skae.bottlenecks.Plain`; with
        other bottlenecks the linear maps are drawn at random. ``"mixed"`` is the same,
        but once PCA has been evaluated on the validation set, all layers are drawn
        anew as with ``"random"``. Codes of few components find lower errors from there;
        PCA is kept if training does not. Without a validation set it is "pca".
        ``"auto"`` means "mixed" for codes of up to 5 components and "pca" for larger
        ones, or "random" without a linear path. ``"random"`` draws all layers from
        ``random_state``, the last layer of the branch included.
        ``linear_path=False, start="random"`` is the textbook network, with the
        distribution of initial weights that torch uses.

    Raises
    ------
    ValueError
        On ``fit``, if ``start`` is "pca" or "mixed" and the networks have no linear map
        (``linear_path=False`` with hidden layers).

    Notes
    -----
    Initial weights are uniform with variance ``gain ** 2 / n_inputs`` (LeCun, 1998;
    Glorot & Bengio, 2010; He et al., 2015). The gain of hidden layers is the square
    root of 2 for "gelu", "relu" and "silu", and 1 for the others. Biases are zero. With
    ``start="random"`` and ``start="mixed"`` the variance is ``1 / (3 * n_inputs)`` in
    all layers, that of :class:`torch.nn.Linear`.

    References
    ----------
    .. [1] Bourlard & Kamp, "Auto-association by multilayer perceptrons and singular
       value decomposition", Biological Cybernetics 59, 1988.
    .. [2] He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, for the skip connection.
    .. [3] Ioffe & Szegedy, "Batch Normalization", ICML 2015.
    .. [4] Ba, Kiros & Hinton, "Layer Normalization", 2016.
    .. [5] Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout",
       JMLR 15, 2014.
    .. [6] Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021.

    Examples
    --------
    Without hidden layers the fitted model is PCA:

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
        "activation": [StrOptions({"auto", *ACTIVATIONS})],
        "linear_path": ["boolean"],
        "norm": [StrOptions({"auto", *_NORMS}), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "start": [StrOptions({"auto", "pca", "mixed", "random"})],
    }

    def __init__(
        self,
        hidden_layer_sizes="auto",
        *,
        activation="auto",
        linear_path=True,
        norm="auto",
        dropout=0.0,
        start="auto",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.linear_path = linear_path
        self.norm = norm
        self.dropout = dropout
        self.start = start

    def validate(self):
        """Check the parameters, each alone and in combination.

        Raises
        ------
        ValueError
            If a parameter is not accepted, for example a width that is not a positive
            integer, or if ``start`` is "pca" or "mixed" and ``linear_path`` is False,
            with hidden layers.
        """
        super().validate()
        hidden = self.hidden_layer_sizes
        for size in () if isinstance(hidden, str) else hidden:
            if not (isinstance(size, Integral) and size >= 1):
                raise ValueError(
                    "The 'hidden_layer_sizes' parameter of MLP must be 'auto' or a "
                    f"tuple of positive integers. Got {hidden!r} instead."
                )
        if len(hidden):
            check_start(self)

    def build(self, n_features, encoder_width, n_components, generator):
        """Return encoder and decoder; see `Architecture.build`."""
        if isinstance(self.hidden_layer_sizes, str):
            low, high = _WIDTHS
            hidden = (min(max(2 ** round(log2(n_features)), low), high),) * 2
        else:
            hidden = tuple(self.hidden_layer_sizes)
        few = n_components <= _FEW_COMPONENTS
        activation, norm, start = self.activation, self.norm, self.start
        if activation == "auto":
            activation = "relu" if few else "elu"
        if norm == "auto":
            norm = None if few else "batch"
        if start == "auto" and not self.linear_path:
            start = "random"
        elif start == "auto":
            start = "mixed" if few else "pca"
        encoder_sizes = (n_features, *hidden, encoder_width)
        decoder_sizes = (n_components, *reversed(hidden), n_features)
        build = partial(
            _network,
            activation=activation,
            norm=norm,
            linear_path=self.linear_path,
            start=start,
            generator=generator,
        )
        return (
            build(encoder_sizes, dropout=self.dropout),
            build(decoder_sizes, dropout=0.0),
        )


def _network(sizes, *, activation, norm, linear_path, start, dropout, generator):
    activation, gain = ACTIVATIONS[activation]
    last_gain = 1.0
    if start in ("mixed", "random"):
        gain = last_gain = TORCH_GAIN
    *hidden, last = pairwise(sizes)
    layers = [
        initialised(nn.Linear, *size, gain=gain, generator=generator) for size in hidden
    ]
    branch = None
    if hidden:
        layer = initialised(nn.Linear, *last, gain=last_gain, generator=generator)
        hidden_stages = stages(layers, sizes[1:-1], activation, _NORMS.get(norm))
        branch = Branch(hidden_stages, layer, dropout)
    return network(
        sizes[0], sizes[-1], branch, linear_path, start, generator, gain=last_gain
    )
