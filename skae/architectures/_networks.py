"""What the networks are made of."""

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
    "Network",
    "Stage",
    "StartingNetwork",
    "Tanh",
    "check_start",
    "initialised",
    "network",
    "tanh",
]


def tanh(x, out=None):
    """Return the hyperbolic tangent of a tensor without a gradient.

    On a processor NumPy's takes a sixth of the time of torch's (NumPy 2.4, torch
    2.13, single precision), and may differ from it in the last bit.
    """
    if x.device.type != "cpu":
        return torch.tanh(x, out=out)
    if out is None:
        out = torch.empty_like(x)
    np.tanh(x.numpy(), out=out.numpy())
    return out


class Tanh(nn.Tanh):
    """The hyperbolic tangent, faster where nothing is differentiated."""

    def forward(self, x):
        # Not where gradients are only off: transformations of torch.func, whose tensors
        # NumPy cannot read, may be under way there. Nor where somebody traces.
        readable = x.dtype in (torch.float32, torch.float64)
        if (
            torch.is_inference_mode_enabled()
            and readable
            and not torch.jit.is_tracing()
        ):
            return tanh(x)
        return super().forward(x)


# Gain of the hidden layers' initial weights per activation: sqrt(2) keeps the scale
# of the signal through layers that drop about half of it (He et al., 2015), 1 through
# those that are close to the identity around zero (Glorot & Bengio, 2010).
ACTIVATIONS = {
    "elu": (nn.ELU, 1.0),
    "gelu": (nn.GELU, sqrt(2)),
    "relu": (nn.ReLU, sqrt(2)),
    "sigmoid": (nn.Sigmoid, 1.0),
    "silu": (nn.SiLU, sqrt(2)),
    "tanh": (Tanh, 1.0),
}

# Of the linear layers of torch itself, whatever follows them.
TORCH_GAIN = sqrt(1 / 3)

# Share of the branch's learning rate at which the linear path beside it learns.
_PACE = 0.1
# Weight of a batch in the running statistics of batch normalisation, torch's default.
_MOMENTUM = 0.1


def initialised(cls, *args, gain, generator, **kwargs):
    """Return a layer of torch with weights of variance ``gain ** 2 / n_inputs``.

    torch's own initialisation would draw from the global generator, and in its default
    type, in which other numbers come out. Biases are zero.
    """
    layer = nn.utils.skip_init(cls, *args, **kwargs, dtype=torch.float32)
    n_inputs = prod(layer.weight.shape[1:])
    if getattr(layer, "transposed", False):
        # Each output has a share of the strided kernel's taps, of all input channels.
        n_inputs = layer.in_channels * prod(layer.kernel_size) / prod(layer.stride)
    bound = gain * sqrt(3 / n_inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def check_start(architecture):
    """Check that there is a linear path if it is what the start should set.

    Parameters
    ----------
    architecture : Architecture
        With parameters ``linear_path`` and ``start``, and hidden layers.
    """
    if architecture.start == "pca" and not architecture.linear_path:
        name = type(architecture).__name__
        raise ValueError(
            f"{name}(start='pca') sets the linear path, and linear_path=False leaves "
            "none: pass start='random' or linear_path=True."
        )


def network(n_inputs, n_outputs, branch, linear_path, start, generator, gain=1.0):
    """Return a linear map, a branch, or their sum, which may start at a given map.

    Parameters
    ----------
    n_inputs, n_outputs : int
    branch : Branch or None
        None leaves the linear map alone.
    linear_path : bool
        Whether a linear map stands beside the branch.
    start : {"pca", "random"}
        Whether the network can be set to a given map at the start.
    generator : torch.Generator
    gain : float, default=1.0
        Of the initial weights of the linear map.
    """
    linear = None
    if branch is None or linear_path:
        linear = initialised(
            nn.Linear, n_inputs, n_outputs, gain=gain, generator=generator
        )
    if start == "random":
        return Network(linear, branch)
    return StartingNetwork(linear if branch is None else Anchored(linear), branch)


class Stage(nn.Module):
    """A layer with what follows it.

    Parameters
    ----------
    layer : torch.nn.Module
    activation : torch.nn.Module
    norm : torch.nn.Module or None
        Between the two.
    """

    def __init__(self, layer, activation, norm=None):
        super().__init__()
        self.layer = layer
        self.norm = norm
        self.activation = activation

    def forward(self, x):
        x = self.layer(x)
        return self.activation(x if self.norm is None else self.norm(x))

    def observe(self, x):
        """Let batch normalisation see what reaches it."""
        if isinstance(self.norm, BatchNorm):
            self.norm.observe(self.layer(x))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy, 2015) whose forward pass only computes.

    The running statistics are learnt by `observe`, so that the same rows may pass any
    number of times, and inside transformations of ``torch.func``, in one step. A batch
    of one row, which has no variance, passes as in inference.

    Parameters
    ----------
    n_features : int
    """

    def __init__(self, n_features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))

    def forward(self, x):
        batch = self.training and len(x) > 1
        return nn.functional.batch_norm(
            x,
            None if batch else self.running_mean,
            None if batch else self.running_var,
            self.weight,
            self.bias,
            training=batch,
        )

    def observe(self, x):
        """Take a batch into the running statistics."""
        if len(x) > 1:
            self.running_mean.lerp_(x.mean(dim=0), _MOMENTUM)
            self.running_var.lerp_(x.var(dim=0), _MOMENTUM)


class Branch(nn.Module):
    """Hidden stages and a last layer, with dropout after each stage.

    Parameters
    ----------
    hidden : list of Stage
    last : torch.nn.Module
        Without what follows hidden layers.
    dropout : float
        Share of the outputs of every stage that is dropped in training (Srivastava et
        al., 2014); then each has a layer with ``out_features``.
    """

    def __init__(self, hidden, last, dropout=0.0):
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.last = last
        self.dropout = dropout

    def draw(self, n_rows, generator):
        """Draw what each output is multiplied by; None without dropout."""
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

    def observe(self, x, draw):
        """Let batch normalisation see what reaches it."""
        for i, stage in enumerate(self.hidden):
            stage.observe(x)
            x = self._dropped(stage(x), i, draw)

    def _dropped(self, x, i, draw):
        return x if draw is None or not self.training else x * draw[i]

    @property
    def normalises_batches(self):
        """Whether any stage has batch normalisation."""
        return any(isinstance(stage.norm, BatchNorm) for stage in self.hidden)


class Network(nn.Module):
    """``linear(x) + branch(x)``, either of which may be absent.

    Parameters
    ----------
    linear : torch.nn.Linear, Anchored or None
    branch : Branch or None
    """

    def __init__(self, linear, branch):
        super().__init__()
        self.linear = linear
        self.branch = branch

    def draw(self, n_rows, generator):
        return None if self.branch is None else self.branch.draw(n_rows, generator)

    def forward(self, x, draw=None):
        if self.branch is None:
            return self.linear(x)
        if self.linear is None:
            return self.branch(x, draw)
        return self.linear(x) + self.branch(x, draw)

    @property
    def observe(self):
        """What lets batch normalisation see what reaches it; None without it."""
        if self.branch is None or not self.branch.normalises_batches:
            return None
        return self.branch.observe

    @property
    def affine(self):
        """The map that the network is, if it is affine, or its branch at rest."""
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
    """A network that can be made equal to an affine map."""

    @torch.no_grad()
    def start(self, affine):
        if self.branch is None:
            self.linear.weight.copy_(affine.weight)
            self.linear.bias.copy_(affine.bias)
        else:
            self.linear.start(affine)
            for p in self.branch.last.parameters():
                p.zero_()


class Anchored(nn.Module):
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
