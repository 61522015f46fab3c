"""Layers and networks of which the architectures are built."""

from contextlib import contextmanager
from math import prod, sqrt

import numpy as np
import torch
from torch import nn

from .._component import Affine

__all__ = [
    "ACTIVATIONS",
    "Anchored",
    "BatchNorm",
    "Branch",
    "MixedStartNetwork",
    "Network",
    "Stage",
    "StartingNetwork",
    "Tanh",
    "check_start",
    "initialised",
    "network",
    "stages",
    "tanh",
]


def tanh(x, out=None):
    """Return the hyperbolic tangent of a tensor that needs no gradient.

    On the CPU it uses NumPy. In single precision (NumPy 2.4, torch 2.13), NumPy took a
    sixth of the time of torch on one machine, and two thirds on another, without
    AVX-512; on the latter it took twice the time in double precision. The results may
    differ in the last bit.

    Parameters
    ----------
    x : Tensor
        Of any shape, in single or double precision. On the CPU it must have memory of
        its own: NumPy cannot read fake or functional tensors.
    out : Tensor, default=None
        Tensor of the shape of ``x`` for the result. None allocates one.

    Returns
    -------
    Tensor of the shape of ``x``
    """
    if x.device.type != "cpu":
        return torch.tanh(x, out=out)
    if out is None:
        out = torch.empty_like(x)
    np.tanh(x.numpy(), out=out.numpy())
    return out


class Tanh(nn.Tanh):
    """Hyperbolic tangent as a layer; uses NumPy in inference mode.

    It falls back to torch while the module is compiled, exported or traced, which
    record only operations of torch, and for tensors that NumPy cannot read.
    """

    def forward(self, x):
        # First whether it is compiled or exported: dynamo cannot trace the other tests.
        if (
            not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and torch.is_inference_mode_enabled()
            and _has_memory(x)
        ):
            return tanh(x)
        return super().forward(x)


def _has_memory(x):
    """Return whether a tensor is one of numbers in memory, which NumPy can read.

    Fake tensors, those inside transformations of ``torch.func`` and those of other
    subclasses are not.
    """
    if type(x) is not torch.Tensor or x.dtype not in (torch.float32, torch.float64):
        return False
    try:
        return x.data_ptr() != 0
    except RuntimeError:
        return False


# Gain of the initial weights of the hidden layers, by activation. sqrt(2) keeps the
# variance of the signal if the activation sets about half of it to zero (He et al.,
# 2015), 1 if it is close to the identity around zero (Glorot & Bengio, 2010).
ACTIVATIONS = {
    "elu": (nn.ELU, 1.0),
    "gelu": (nn.GELU, sqrt(2)),
    "relu": (nn.ReLU, sqrt(2)),
    "sigmoid": (nn.Sigmoid, 1.0),
    "silu": (nn.SiLU, sqrt(2)),
    "tanh": (Tanh, 1.0),
}

# Gain of the initial weights of torch.nn.Linear, whatever the activation.
TORCH_GAIN = sqrt(1 / 3)

# Learning rate of the linear path as a share of that of the branch. The choice is
# measured in tests/benchmarks/bench_constants.py.
_PACE = 0.1
# Power of the largest number that values may have of which squares are added up.
_SQUARE_RANGE = 0.45
# Weights of a layer: 8 GiB, and training needs five times as much.
_MAX_WEIGHTS = 2**31


def initialised(cls, *args, gain, generator, **kwargs):
    """Return a layer of torch with weights of variance ``gain ** 2 / n_inputs``.

    Weights are drawn from a uniform distribution; biases are zero. The initialisation
    of torch itself is skipped: it draws from the global generator, and its numbers
    depend on the default dtype.

    Parameters
    ----------
    cls : type
        Class of the layer, a subclass of :class:`torch.nn.Module` with ``weight`` and
        ``bias``.
    *args, **kwargs : object
        Arguments of ``cls``.
    gain : float
        Factor of the standard deviation of the weights.
    generator : torch.Generator
        Generator on the CPU.

    Returns
    -------
    torch.nn.Module
        In single precision.

    Raises
    ------
    ValueError
        If it has more weights than any machine has memory to train.
    """
    n_weights = prod(map(int, args))  # at least
    if n_weights > _MAX_WEIGHTS:
        raise ValueError(
            f"The architecture is too large: a layer with {args[0]} inputs and "
            f"{args[1]} outputs has {n_weights:.0e} weights or more, and layers may "
            f"have up to {_MAX_WEIGHTS:.0e}."
        )
    layer = nn.utils.skip_init(cls, *args, **kwargs, dtype=torch.float32)
    n_inputs = prod(layer.weight.shape[1:])
    if getattr(layer, "transposed", False):
        # With stride s, each output is a sum over 1 / s of the taps of the kernel in
        # each dimension, for all input channels.
        n_inputs = layer.in_channels * prod(layer.kernel_size) / prod(layer.stride)
    _draw(layer.weight, gain, n_inputs, generator)
    nn.init.zeros_(layer.bias)
    return layer


def _draw(weight, gain, n_inputs, generator):
    bound = gain * sqrt(3 / n_inputs)
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def check_start(architecture):
    """Check that an architecture has a linear path if it is to start at PCA.

    Parameters
    ----------
    architecture : Architecture
        Architecture with hidden layers and parameters ``linear_path`` and ``start``.

    Raises
    ------
    ValueError
        If ``start`` is "pca" or "mixed" and ``linear_path`` is False.
    """
    start = architecture.start
    if start in ("pca", "mixed") and not architecture.linear_path:
        name = type(architecture).__name__
        raise ValueError(
            f"{name}(start={start!r}) initialises the linear path, but "
            "linear_path=False removes it: pass start='random' or linear_path=True."
        )


def network(n_inputs, n_outputs, branch, linear_path, start, generator, gain=1.0):
    """Return a network that is a linear map, a branch, or their sum.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Widths of the network.
    branch : Branch or None
        Hidden layers. Without them, the network is a linear map.
    linear_path : bool
        Whether to add a linear map to the branch.
    start : {"pca", "mixed", "random"}
        "pca" returns a network with the hook ``start``, which sets it to an affine map;
        "mixed" returns one with the hook ``leave_start``, too; "random" returns one
        with neither.
    generator : torch.Generator
        Generator on the CPU for the initial weights of the linear map.
    gain : float, default=1.0
        Gain of the initial weights of the linear map; see `initialised`.

    Returns
    -------
    Network
    """
    linear = None
    if branch is None or linear_path:
        linear = initialised(
            nn.Linear, n_inputs, n_outputs, gain=gain, generator=generator
        )
    if start == "random":
        return Network(linear, branch)
    if branch is None:
        return StartingNetwork(linear, None)
    kind = MixedStartNetwork if start == "mixed" else StartingNetwork
    return kind(Anchored(linear), branch)


class Stage(nn.Module):
    """Hidden layer: a linear or convolutional layer, normalisation and activation.

    Parameters
    ----------
    layer : torch.nn.Module
        Linear or convolutional layer.
    activation : torch.nn.Module
        Activation.
    norm : torch.nn.Module or None
        Normalisation before the activation.
    """

    def __init__(self, layer, activation, norm=None):
        super().__init__()
        self.layer = layer
        self.norm = norm
        self.activation = activation

    def forward(self, x):
        x = self.layer(x)
        if type(self.norm) is nn.LayerNorm and not self.training:
            # Squares of what it gets must be numbers.
            limit = torch.finfo(x.dtype).max ** _SQUARE_RANGE
            x = x.clamp(-limit, limit)
        return self.activation(x if self.norm is None else self.norm(x))


def stages(layers, n_units, activation, norm):
    """Return a hidden layer for each linear or convolutional layer.

    Parameters
    ----------
    layers : list of torch.nn.Module
    n_units : list of int
        Numbers of units or channels of their outputs.
    activation : callable
        Returns an activation.
    norm : callable or None
        Returns the normalisation of so many units or channels.

    Returns
    -------
    list of Stage
    """
    return [
        Stage(layer, activation(), None if norm is None else norm(n))
        for layer, n in zip(layers, n_units, strict=True)
    ]


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy, 2015), per unit or channel.

    A training step leaves the statistics for inference as they are: they belong to the
    weights that are evaluated and kept, which are averages over many steps. They are
    computed for these weights when rows are passed with "estimate" (Wu & Johnson,
    "Rethinking 'Batch' in BatchNorm", 2021). A batch of one row has no variance and is
    normalised as in inference.

    Parameters
    ----------
    n_features : int
        Number of units or channels.

    Attributes
    ----------
    workers : Workers or None
        Processes that a batch of a training step is divided among: its statistics are
        those of all parts. None: there is one.
    fixed : bool
        Whether training steps use the statistics for inference, too.
    """

    eps = 1e-5  # that of torch.nn.BatchNorm1d
    workers = None
    fixed = False

    def __init__(self, n_features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("variance", torch.ones(n_features))
        self._mode = None

    def forward(self, x):
        others = [i for i in range(x.ndim) if i != 1]
        batch = self.training and self.by_batch(len(x))
        if self.training and self._mode is None and self.workers is not None:
            return _OverWorkers.apply(x, self.weight, self.bias, self)
        if self._mode == "estimate" and len(x) > 1:
            # Faster than torch.var_mean: with this momentum the kernel replaces the
            # statistics by those of the rows, with the unbiased variance.
            nn.functional.batch_norm(
                x, self.mean, self.variance, training=True, momentum=1.0
            )
        elif self._mode == "constant" and batch:
            return self._by_constants(x, others)
        return nn.functional.batch_norm(
            x,
            None if batch else self.mean,
            None if batch else self.variance,
            self.weight,
            self.bias,
            training=batch,
            eps=self.eps,
        )

    def by_batch(self, n_rows):
        """Return whether a training batch is normalised by its own statistics."""
        return n_rows > 1 and not self.fixed

    def _by_constants(self, x, others):
        rows = x.detach().to(self.weight.dtype)
        variance, mean = torch.var_mean(rows, dim=others, correction=0, keepdim=True)
        weight, bias = (p.view(mean.shape) for p in (self.weight, self.bias))
        # Not the kernel: it has no derivative for rows in half precision.
        return (x - mean) * (weight * (variance + self.eps).rsqrt()) + bias

    @contextmanager
    def mode(self, mode):
        """Change what is done with the statistics of the rows that are passed.

        Parameters
        ----------
        mode : {"estimate", "constant"}
            "estimate" stores them for inference. "constant" has no gradient with
            respect to them, so that each row has a derivative of its own.
        """
        self._mode = mode
        try:
            yield
        finally:
            self._mode = None


class _OverWorkers(torch.autograd.Function):
    """Batch normalisation over the parts of a batch that several processes have.

    Each has the gradient of the mean over its own part, which may have no rows. These
    are averaged later, by the number of rows.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, norm):
        """Return normalised rows."""
        others = [i for i in range(x.ndim) if i != 1]
        shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
        rows = x.double()
        n_here = rows.numel() // len(weight)
        sums = rows.new_tensor([n_here])
        sums = torch.cat([sums, rows.sum(others), rows.square().sum(others)])
        n_all, sums, squares = norm.workers.add(sums).split([1, *[len(weight)] * 2])
        if n_all > 1:
            mean = sums / n_all
            variance = (squares / n_all - mean.square()).clamp_min(0)
        else:
            mean, variance = norm.mean.double(), norm.variance.double()
        scale = (variance + norm.eps).rsqrt()
        normed = ((rows - mean.view(shape)) * scale.view(shape)).to(x.dtype)
        ctx.save_for_backward(normed, weight, scale.to(x.dtype))
        ctx.workers, ctx.others, ctx.shape = norm.workers, others, shape
        ctx.n_here, ctx.n_all = n_here, float(n_all)
        return normed * weight.view(shape) + bias.view(shape)

    @staticmethod
    def backward(ctx, gradient):
        """Return the gradients of rows, weight and bias."""
        normed, weight, scale = ctx.saved_tensors
        d_bias = gradient.sum(ctx.others)
        d_weight = (gradient * normed).sum(ctx.others)
        factor = (weight * scale).view(ctx.shape)
        if ctx.n_all > 1:
            sums = torch.stack([d_bias, d_weight]) * (ctx.n_here / ctx.n_all)
            of_mean, of_scale = ctx.workers.add(sums) / max(ctx.n_here, 1)
            of_mean, of_scale = of_mean.view(ctx.shape), of_scale.view(ctx.shape)
            gradient = gradient - of_mean - normed * of_scale
        return factor * gradient, d_weight, d_bias, None


class Branch(nn.Module):
    """Hidden stages and a last layer, with dropout after each stage.

    Parameters
    ----------
    hidden : list of Stage
        Hidden layers.
    last : torch.nn.Module
        Output layer, without normalisation and activation.
    dropout : float
        Probability with which each output of a stage is set to zero in training
        (Srivastava et al., 2014). If it is not zero, the layers of all stages must have
        an attribute ``out_features``.
    """

    def __init__(self, hidden, last, dropout=0.0):
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.last = last
        self.dropout = dropout

    def draw(self, n_rows, generator):
        """Draw dropout masks.

        Parameters
        ----------
        n_rows : int
            Number of rows of the batch.
        generator : torch.Generator
            Generator on the device of the network.

        Returns
        -------
        list of Tensor of shape (n_rows, out_features), or None
            For each stage the factors of its outputs, 0 or ``1 / (1 - dropout)``. None
            without dropout.
        """
        if self.dropout == 0:
            return None
        kept = 1 - self.dropout
        masks = []
        for stage in self.hidden:
            shape = (n_rows, stage.layer.out_features)
            uniform = torch.rand(
                shape, generator=generator, device=generator.device, dtype=torch.float32
            )
            masks.append((uniform < kept) / kept)
        return masks

    def forward(self, x, draw=None):
        for i, stage in enumerate(self.hidden):
            x = self._dropped(stage(x), i, draw)
        return self.last(x)

    def _dropped(self, x, i, draw):
        return x if draw is None or not self.training else x * draw[i]


class Network(nn.Module):
    """Network ``linear(x) + branch(x)``; one of the two may be None.

    Parameters
    ----------
    linear : torch.nn.Linear, Anchored or None
        Linear map.
    branch : Branch or None
        Hidden layers.
    """

    def __init__(self, linear, branch):
        super().__init__()
        self.linear = linear
        self.branch = branch

    def draw(self, n_rows, generator):
        """Draw dropout masks; see `Branch.draw`."""
        return None if self.branch is None else self.branch.draw(n_rows, generator)

    def forward(self, x, draw=None):
        if self.branch is None:
            return self.linear(x)
        if self.linear is None:
            return self.branch(x, draw)
        return self.linear(x) + self.branch(x, draw)

    @property
    def affine(self):
        """The affine map that the network is equal to; None if it is not affine.

        A network with hidden layers is affine if it has a linear path and the weights
        of the last layer of its branch are zero.
        """
        if self.linear is None:
            return None
        weight, bias = self.linear.weight, self.linear.bias
        if self.branch is not None:
            parameters = self.branch.last.named_parameters()
            if any(p.any() for name, p in parameters if name.endswith("weight")):
                return None
            bias = bias + self.branch(weight.new_zeros(1, weight.shape[1]))[0]
        return Affine(weight, bias)


class StartingNetwork(Network):
    """Network that can be set to an affine map."""

    @torch.no_grad()
    def start(self, affine):
        """Set the linear map to an `Affine` and the output of the branch to zero."""
        if self.branch is None:
            self.linear.weight.copy_(affine.weight)
            self.linear.bias.copy_(affine.bias)
        else:
            self.linear.start(affine)
            for p in self.branch.last.parameters():
                p.zero_()


class MixedStartNetwork(StartingNetwork):
    """Network that can be set to an affine map, and is trained from random weights."""

    @torch.no_grad()
    def leave_start(self, generator):
        """Draw the linear map and the last layer of the branch at random."""
        for layer, draw in (
            (self.branch.last, self.branch.last.weight.copy_),
            (self.linear, self.linear.begin),
        ):
            # On the CPU and in single precision, wherever the weight is.
            drawn = torch.empty(layer.weight.shape, dtype=torch.float32)
            _draw(drawn, TORCH_GAIN, drawn.shape[1], generator)
            draw(drawn)


class Anchored(nn.Module):
    """Linear map that is learnt as a difference from its initial value.

    After `start` the difference is multiplied by a small factor, so that the map learns
    at a lower rate than other layers. Extreme rows are reconstructed by the linear path
    alone, because bounded activations saturate. At the full learning rate the path
    would be fitted to a few such rows and be arbitrary for others. Weight decay pulls
    the map to its initial value instead of zero.

    Parameters
    ----------
    linear : torch.nn.Linear
        Layer with the initial weights.
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
        """Tensor of shape (n_outputs, n_inputs)."""
        return self.start_weight + self.pace * self.moved_weight

    @property
    def bias(self):
        """Tensor of shape (n_outputs,)."""
        return self.start_bias + self.pace * self.moved_bias

    def start(self, affine):
        """Set the map to an `Affine`, and lower its learning rate."""
        self.start_weight.copy_(affine.weight)
        self.start_bias.copy_(affine.bias)
        self.pace.fill_(_PACE)
        self.moved_weight.zero_()
        self.moved_bias.zero_()

    def begin(self, weight):
        """Set the map to a weight without bias; it learns at the full rate."""
        self.start_weight.zero_()
        self.start_bias.zero_()
        self.pace.fill_(1.0)
        self.moved_weight.copy_(weight)
        self.moved_bias.zero_()

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)
