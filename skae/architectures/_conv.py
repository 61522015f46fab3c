"""Convolutional networks for signals, images and volumes."""

from functools import partial
from itertools import pairwise
from math import ceil, prod
from numbers import Integral

from torch import nn

from .._compat.sklearn import StrOptions
from ._base import Architecture
from ._networks import (
    ACTIVATIONS,
    BatchNorm,
    Branch,
    check_start,
    initialised,
    network,
    stages,
)

__all__ = ["Conv"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORMS = {"batch": BatchNorm, "layer": partial(nn.GroupNorm, 1)}


class Conv(Architecture):
    """Convolutional networks in one, two or three dimensions.

    Each row of the data is a signal, an image or a volume of shape ``input_shape``,
    flattened in C order. Each convolution of the encoder has stride 2: it halves every
    length, rounded up. Dense layers follow and return the code [1]_. The decoder has
    the same layers in reverse order and restores every length exactly, also if it is
    not a power of two.

    As in :class:`MLP`, a linear map is added to the output of the hidden layers, so
    that training starts at PCA.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of a row: the number of channels, followed by one, two or three lengths.
        ``(1, 28, 28)`` is a grey image, ``(3, 1000)`` a signal with three channels. Its
        product must be the number of features. Images with the channels last must be
        transposed before they are flattened.

    channels : tuple of int, default=(32, 64)
        Number of channels of each convolution of the encoder; the decoder has the same
        in reverse order.

    hidden_layer_sizes : tuple of int, default=()
        Widths of dense layers between the last convolution and the code; the decoder
        has the same in reverse order.

    kernel_size : int, default=3
        Length of the kernels in every dimension, an odd number.

    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "tanh"}, default="gelu"
        Activation after each hidden layer. Code and output layer are linear.

    norm : {"batch", "layer"} or None, default="batch"
        Normalisation before each activation, as in :class:`MLP`. "batch" normalises
        each channel over the rows of the batch and all positions [3]_, "layer" each row
        over all channels and positions (a group normalisation with one group [4]_).

    upsampling : {"transposed", "resize"}, default="transposed"
        How the decoder doubles a length: "transposed" by a transposed convolution,
        "resize" by nearest-neighbour interpolation and a convolution. The latter is
        slower and avoids checkerboard artefacts [2]_.

    linear_path : bool, default=True
        Whether to add a linear map to the output of the hidden layers; see
        :class:`MLP`.

    start : {"pca", "random"}, default="pca"
        Initial values of the linear maps; see :class:`MLP`.

    Raises
    ------
    ValueError
        On ``fit``, if the product of ``input_shape`` is not the number of features; if
        ``input_shape`` has the channels last or none, such as ``(28, 28, 1)`` and
        ``(28, 28)``; or if ``start="pca"`` is combined with ``linear_path=False``.

    References
    ----------
    .. [1] Masci, Meier, Cireşan & Schmidhuber, "Stacked Convolutional Auto-Encoders
       for Hierarchical Feature Extraction", ICANN 2011.
    .. [2] Odena, Dumoulin & Olah, "Deconvolution and Checkerboard Artifacts", Distill,
       2016.
    .. [3] Ioffe & Szegedy, "Batch Normalization", ICML 2015.
    .. [4] Wu & He, "Group Normalization", ECCV 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import Conv
    >>> X = load_digits().data
    >>> conv = AutoencoderTransformer(
    ...     8, architecture=Conv((1, 8, 8), channels=(8, 16)), max_epochs=5,
    ...     early_stopping=False, random_state=0,
    ... ).fit(X)
    >>> conv.reconstruct(X).shape
    (1797, 64)
    """

    _parameter_constraints: dict = {
        "input_shape": ["array-like"],
        "channels": ["array-like"],
        "hidden_layer_sizes": ["array-like"],
        "kernel_size": [Integral],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "norm": [StrOptions(set(_NORMS)), None],
        "upsampling": [StrOptions({"resize", "transposed"})],
        "linear_path": ["boolean"],
        "start": [StrOptions({"pca", "random"})],
    }

    def __init__(
        self,
        input_shape,
        channels=(32, 64),
        *,
        hidden_layer_sizes=(),
        kernel_size=3,
        activation="gelu",
        norm="batch",
        upsampling="transposed",
        linear_path=True,
        start="pca",
    ):
        self.input_shape = input_shape
        self.channels = channels
        self.hidden_layer_sizes = hidden_layer_sizes
        self.kernel_size = kernel_size
        self.activation = activation
        self.norm = norm
        self.upsampling = upsampling
        self.linear_path = linear_path
        self.start = start

    def validate(self):
        """Check the parameters, each alone and in combination.

        Raises
        ------
        ValueError
            If a parameter is not accepted, for example an ``input_shape`` that is not a
            tuple of two to four positive integers or an even ``kernel_size``, or if
            ``start="pca"`` is combined with ``linear_path=False``.
        """
        super().validate()
        for name, least, most in (
            ("input_shape", 2, 4),
            ("channels", 1, None),
            ("hidden_layer_sizes", 0, None),
        ):
            sizes = getattr(self, name)
            fits = least <= len(sizes) and (most is None or len(sizes) <= most)
            if not fits or not all(isinstance(s, Integral) and s >= 1 for s in sizes):
                number = f"{least} to {most} " if most else f"at least {least} "
                raise ValueError(
                    f"The {name!r} parameter of Conv must be a tuple of "
                    f"{number if least else ''}positive integers. "
                    f"Got {sizes!r} instead."
                )
        self._check_channels_first()
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                "The 'kernel_size' parameter of Conv must be a positive odd integer. "
                f"Got {self.kernel_size!r} instead."
            )
        check_start(self)

    def _check_channels_first(self):
        """Refuse shapes that are read wrongly without the channels in front."""
        shape = tuple(map(int, self.input_shape))
        *lengths, last = shape
        if last == 1 < max(shape) or (
            len(shape) == 3 and shape[0] == shape[1] > last > 2
        ):
            order = " (and rows in that order: np.moveaxis(images, -1, 1))"
            raise ValueError(
                "The 'input_shape' parameter of Conv must have the channels first: "
                f"{(last, *lengths)}{order if last > 1 else ''}. Got {shape} instead."
            )
        if len(shape) == 2 and lengths[0] == last:
            raise ValueError(
                "The 'input_shape' parameter of Conv must be the number of channels "
                f"and one to three lengths: (1, {last}, {last}) for a grey image. Got "
                f"{shape} instead, which would be a signal with {last} channels and "
                f"{last} steps: for that, pass ({last}, 1, {last})."
            )

    def build(self, n_features, encoder_width, n_components, generator):
        """Return encoder and decoder; see `Architecture.build`."""
        channels, *lengths = map(int, self.input_shape)
        if prod(self.input_shape) != n_features:
            raise ValueError(
                f"Conv(input_shape={tuple(self.input_shape)}) needs rows of "
                f"{prod(self.input_shape)} features, but X has {n_features}."
            )
        # Channels and lengths of the input and of the output of each convolution.
        widths = [channels, *map(int, self.channels)]
        shapes = [lengths]
        for _ in self.channels:
            shapes.append([ceil(length / 2) for length in shapes[-1]])
        encoder = self._encoder(widths, shapes, encoder_width, generator)
        decoder = self._decoder(widths, shapes, n_components, generator)
        return (
            self._network(n_features, encoder_width, encoder, generator),
            self._network(n_components, n_features, decoder, generator),
        )

    def _network(self, n_inputs, n_outputs, branch, generator):
        return network(
            n_inputs, n_outputs, branch, self.linear_path, self.start, generator
        )

    def _encoder(self, widths, shapes, n_outputs, generator):
        gain = ACTIVATIONS[self.activation][1]
        layers = [
            initialised(
                _CONV[len(shapes[0])],
                n_inputs,
                n_channels,
                self.kernel_size,
                stride=2,
                padding=self.kernel_size // 2,
                gain=gain,
                generator=generator,
            )
            for n_inputs, n_channels in pairwise(widths)
        ]
        layers[0] = nn.Sequential(nn.Unflatten(1, (widths[0], *shapes[0])), layers[0])
        sizes = (widths[-1] * prod(shapes[-1]), *self.hidden_layer_sizes, n_outputs)
        *hidden, last = pairwise(sizes)
        dense = [
            initialised(nn.Linear, *size, gain=gain, generator=generator)
            for size in hidden
        ]
        dense.append(initialised(nn.Linear, *last, gain=1.0, generator=generator))
        dense[0] = nn.Sequential(nn.Flatten(), dense[0])
        *layers, last = layers + dense
        return Branch(self._stages(layers, [*widths[1:], *sizes[1:-1]]), last)

    def _stages(self, layers, n_channels):
        activation, _ = ACTIVATIONS[self.activation]
        return stages(layers, n_channels, activation, _NORMS.get(self.norm))

    def _decoder(self, widths, shapes, n_inputs, generator):
        gain = ACTIVATIONS[self.activation][1]
        deepest = (widths[-1], *shapes[-1])
        sizes = (n_inputs, *reversed(self.hidden_layer_sizes), prod(deepest))
        layers = [
            initialised(nn.Linear, *size, gain=gain, generator=generator)
            for size in pairwise(sizes)
        ]
        layers[-1] = nn.Sequential(layers[-1], nn.Unflatten(1, deepest))
        for i in range(len(widths) - 1, 1, -1):
            layers.append(
                self._upward(widths[i], widths[i - 1], shapes[i - 1], gain, generator)
            )
        last = self._upward(widths[1], widths[0], shapes[0], 1.0, generator)
        n_channels = [*sizes[1:-1], *widths[:0:-1]]
        hidden = self._stages(layers, n_channels)
        return Branch(hidden, nn.Sequential(last, nn.Flatten()))

    def _upward(self, n_inputs, n_channels, shape, gain, generator):
        """Return the layer that upsamples to the given lengths from half of them."""
        padding = self.kernel_size // 2
        settings = {"padding": padding, "gain": gain, "generator": generator}
        if self.upsampling == "resize":
            layer = initialised(
                _CONV[len(shape)], n_inputs, n_channels, self.kernel_size, **settings
            )
            return nn.Sequential(nn.Upsample(size=shape), layer)
        return initialised(
            _TRANSPOSED[len(shape)],
            n_inputs,
            n_channels,
            self.kernel_size,
            stride=2,
            # Two lengths, one odd and one even, have the same half when rounded up.
            # The output padding selects the right one.
            output_padding=[(length + 1) % 2 for length in shape],
            **settings,
        )
