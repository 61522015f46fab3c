"""The gradient of fully connected networks in closed form.

On a small table most of a step of autograd is overhead: building a graph, traversing
it, allocating memory. A chain of matrix products and activations needs none of this.
Its layers are bound to buffers once for every batch size; a step then runs them forward
and backward.
"""

from types import NoneType

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .._compat.torch import aten
from ..architectures._networks import (
    Anchored,
    BatchNorm,
    Branch,
    MixedStartNetwork,
    Network,
    Stage,
    StartingNetwork,
    Tanh,
    tanh,
)
from ..bottlenecks._nested import Prefixes
from ..bottlenecks._plain import Identity
from ..losses import SquaredError

__all__ = ["ClosedForm", "ClosedNetwork"]


class ClosedForm:
    """Objective and gradient of fully connected networks under the squared error.

    Parameters
    ----------
    module : Autoencoder
        One that it `suits`. The gradients of its parameters are overwritten.
    """

    name = "closed form"

    def __init__(self, module):
        self._module = module
        self._passes = {}

    @staticmethod
    def suits(module):
        """Return whether a model has a closed form here.

        It is one for networks of linear layers and activations, with or without linear
        path, batch normalisation and dropout, a plain or nested code and the squared
        error; and for any corruption, since what is done to the input has no gradient.
        """
        return (
            type(module.loss) is SquaredError
            and type(module.bottleneck) in (Identity, Prefixes)
            and module.penalty is None
            and not module.has_step_hooks
            and ClosedNetwork.suits(module)
        )

    @torch.no_grad()
    def __call__(self, batch, draws):
        """Compute the gradient of the objective of a batch.

        Parameters
        ----------
        batch : Batch
        draws : dict
            As `Autoencoder.draw` returns it.

        Returns
        -------
        objective : Tensor of shape ()
        output : None
            Nothing else is computed.
        """
        x, weight = batch.x, batch.weight
        seen = self._module.corrupted(batch.seen, draws)
        masks = draws.get("encoder", ())
        kept = draws.get("bottleneck")
        step = self._pass(len(x))
        return step(x, seen, weight, masks, batch.mask, kept), None

    def _pass(self, n_rows):
        if n_rows not in self._passes:
            self._passes[n_rows] = _Pass(self._module, n_rows)
        return self._passes[n_rows]


def _is_plain(network):
    # Subclasses may compute something else.
    if type(network) not in (Network, StartingNetwork, MixedStartNetwork):
        return False
    if type(network.linear) not in (nn.Linear, Anchored, NoneType):
        return False
    branch = network.branch
    if branch is None:
        return True
    layers = [branch.last, *(stage.layer for stage in branch.hidden)]
    return (
        type(branch) is Branch
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in layers)
        and all(
            type(stage) is Stage
            and type(stage.norm) in (BatchNorm, NoneType)
            and type(stage.activation) in _ACTIVATIONS
            for stage in branch.hidden
        )
    )


def _each_has_its_gradient(module):
    """Return whether the trained parameters, and only they, have gradients.

    Each must stand in one place only. One that a callback has frozen in training still
    has its gradient, which nothing would set to zero.
    """
    parameters = [p for _, p in module.named_parameters(remove_duplicate=False)]
    as_trained = all(p.requires_grad == (p.grad is not None) for p in parameters)
    return as_trained and len({id(p) for p in parameters}) == len(parameters)


class _Pass:
    """Forward and backward pass of a model, or of a stack, for batches of one size."""

    def __init__(self, module, n_rows):
        self._n_rows = n_rows
        self._encoder = _Chain(module.encoder, n_rows)
        code, self._prefixes = self._encoder.y, None
        if type(module.bottleneck) is Prefixes:
            self._prefixes = _Prefixes(module.bottleneck, code)
            code = self._prefixes.y
        # The objective is a mean over rows. Its gradient is the residual over their
        # number, which costs nothing if the output is computed that small.
        self._decoder = _Chain(module.decoder, n_rows, code, share=1 / n_rows)
        self._raw, self._d_raw = self._decoder.y.value, self._decoder.y.gradient
        self._flat = self._d_raw.flatten(-2)

    def __call__(self, x, seen, weight, masks, known=None, kept=None):
        """Return the objective; see `ClosedForm`."""
        self._encoder.forward(seen, masks)
        if self._prefixes is not None:
            self._prefixes.forward(kept)
        self._decoder.forward()
        torch.sub(self._raw, x, alpha=1 / self._n_rows, out=self._d_raw)
        if known is not None:
            self._d_raw.mul_(known)
        if weight is None:
            squares = torch.linalg.vecdot(self._flat, self._flat)
        else:
            # The output is not needed any more: its buffer takes the residual.
            residual = self._raw.copy_(self._d_raw)
            self._d_raw.mul_(weight[..., None])
            squares = torch.linalg.vecdot(residual.flatten(-2), self._flat)
        self._decoder.backward()
        if self._prefixes is not None:
            self._prefixes.backward()
        self._encoder.backward()
        return squares.mul_(0.5 * self._n_rows)


class ClosedNetwork:
    """A fully connected network in closed form, as a function that autograd can call.

    So the rest of a model, its loss, bottleneck and penalty, may be anything. Gradients
    are added to those of the parameters, as autograd does with the network itself,
    which other parts of the objective may use too.

    Parameters
    ----------
    network : Network
        Of a model that `suits`.
    """

    def __init__(self, network):
        self._network = network
        self._chains = {}
        # Makes autograd call the backward pass of a network whose input has no
        # gradient.
        self._anchor = torch.empty(0, requires_grad=True)

    @staticmethod
    def suits(module):
        """Return whether both networks of a model have a closed form."""
        networks = (module.encoder, module.decoder)
        return all(map(_is_plain, networks)) and _each_has_its_gradient(module)

    def __call__(self, x, draw=None):
        """Return the output of the network.

        It is overwritten by the next call with as many rows.
        """
        if len(x) not in self._chains:
            x_signal = _Signal(None, torch.empty_like(x) if x.requires_grad else None)
            self._chains[len(x)] = _Chain(self._network, len(x), x_signal, adds=True)
        return _Call.apply(x, self._anchor, self._chains[len(x)], draw or ())


class _Call(torch.autograd.Function):
    """The passes of a chain, for autograd."""

    @staticmethod
    def forward(ctx, x, anchor, chain, masks):
        ctx.chain = chain
        chain.forward(x.detach(), masks)
        # Not the buffer itself, which would get a history.
        return chain.y.value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        chain = ctx.chain
        chain.y.gradient.copy_(gradient)
        chain.backward()
        return chain.x.gradient, None, None, None


class _Chain:
    """A network whose layers are bound to buffers, for batches of one size.

    Parameters
    ----------
    network : Network
    n_rows : int
    x : _Signal, default=None
        Its input. None: another tensor in each pass, without a gradient.
    share : float, default=1.0
        What the output is multiplied by.
    adds : bool, default=False
        Whether the gradients of the parameters are added to those that are there,
        instead of replacing them.
    """

    def __init__(self, network, n_rows, x=None, share=1.0, adds=False):
        self.x = _Signal(None, None) if x is None else x
        last = _last(network)
        self._like, self._stack = last.bias.detach(), last.bias.shape[:-1]
        self._n_rows, self._adds = n_rows, adds
        self._layers, self._masks = [], []
        self.y = self._bind(network, share)

    def forward(self, x=None, masks=()):
        """Compute the output, of a new input if one is given."""
        if x is not None:
            self.x.value = x
        for buffer, mask in zip(self._masks, masks, strict=True):
            buffer.copy_(mask)
        for layer in self._layers:
            layer.forward()

    def backward(self):
        """Compute all gradients from that of the output."""
        for layer in reversed(self._layers):
            layer.backward()

    def _buffer(self, width):
        return self._like.new_empty(*self._stack, self._n_rows, width)

    def _signal(self, width):
        return _Signal(self._buffer(width), self._buffer(width))

    def _bind(self, network, share):
        x, adds = self.x, self._adds
        y = self._signal(_width(_last(network)))
        both = network.linear is not None and network.branch is not None
        if network.linear is not None:
            kind = _AnchoredLinear if isinstance(network.linear, Anchored) else _Linear
            # In the forward pass the path comes first, and the branch adds to its
            # output; in the backward pass it comes second.
            self._layers.append(
                kind.of(network.linear, x, y, share=share, adds=adds, adds_back=both)
            )
        if network.branch is not None:
            for stage in network.branch.hidden:
                x = self._bind_stage(stage, x, network.branch.dropout > 0)
            self._layers.append(
                _Linear.of(
                    network.branch.last, x, y, share=share, adds=adds, adds_forth=both
                )
            )
        return y

    def _bind_stage(self, stage, x, drops):
        width = _width(stage.layer)
        z, a = self._signal(width), self._signal(width)
        self._layers.append(_Linear.of(stage.layer, x, z, adds=self._adds))
        if stage.norm is not None:
            normed = self._signal(width)
            kind = _StackedBatchNorm if self._stack else _BatchNorm
            self._layers.append(kind(stage.norm, z, normed, self._adds))
            z = normed
        self._layers.append(_Activation(stage.activation, z, a))
        if not drops:
            return a
        mask, kept = self._buffer(width), self._signal(width)
        self._masks.append(mask)
        self._layers.append(_Product(mask, a, kept))
        return kept


def _last(network):
    """Return the last layer of a network, which has a bias of its own."""
    return network.linear if network.branch is None else network.branch.last


def _width(layer):
    """Return the number of outputs of a layer, of one network or of a stack."""
    return layer.bias.shape[-1]


class _Signal:
    """The output of a layer, and the gradient with respect to it.

    The input of the model is another tensor in each step, and has no gradient.
    """

    def __init__(self, value, gradient):
        self.value = value
        self.gradient = gradient


class _Linear:
    """``share * (x @ weight.T + bias)``; gradients include the share.

    Parameters
    ----------
    weight, bias : Tensor
    d_weight, d_bias : Tensor or None
        Where their gradients go. None: they are not trained.
    x, y : _Signal
        Input and output.
    share : float
        What the output is multiplied by.
    adds : bool
        Whether to add to the gradients of weight and bias instead of replacing them.
    adds_forth, adds_back : bool
        Whether another layer has written to the output, or to the gradient of the
        input, before this one.
    """

    _pace = 1.0

    def __init__(
        self,
        weight,
        bias,
        d_weight,
        d_bias,
        x,
        y,
        share=1.0,
        adds=False,
        adds_forth=False,
        adds_back=False,
    ):
        self._weight, self._d_weight = weight, d_weight
        self._x, self._y, self._share = x, y.value, share
        self._dx, self._dy = x.gradient, y.gradient
        # Of what is there; torch ignores it where the factor is zero.
        self._past = 1.0 if adds else 0.0
        self._adds_forth, self._adds_back = adds_forth, adds_back
        # Views are cheap, but not beside products this small.
        self._weight_t, self._dy_t = weight.mT, y.gradient.mT
        self._bias_row = bias.unsqueeze(-2)
        self._d_bias_row = None if d_bias is None else d_bias.unsqueeze(-2)
        self._ones = torch.ones_like(y.gradient[..., :1]).mT
        stacked = weight.ndim == 3
        self._add_product = torch.baddbmm if stacked else torch.addmm
        self._product = torch.bmm if stacked else torch.mm

    @classmethod
    def of(cls, layer, *signals, **kwargs):
        """Bind a layer of torch."""
        weight, bias = layer.weight, layer.bias
        tensors = weight.detach(), bias.detach(), weight.grad, bias.grad
        return cls(*tensors, *signals, **kwargs)

    def forward(self):
        base, beta = self._bias_row, self._share
        if self._adds_forth:
            base, beta = self._y.add_(base, alpha=self._share), 1.0
        self._add_product(
            base,
            self._x.value,
            self._weight_t,
            beta=beta,
            alpha=self._share,
            out=self._y,
        )

    def backward(self):
        d_weight, d_bias = self._d_weight, self._d_bias_row
        how = {"beta": self._past, "alpha": self._pace}
        if d_weight is not None:
            self._add_product(d_weight, self._dy_t, self._x.value, **how, out=d_weight)
        if d_bias is not None:
            self._add_product(d_bias, self._ones, self._dy, **how, out=d_bias)
        if self._adds_back and self._dx is not None:
            self._add_product(self._dx, self._dy, self._weight, out=self._dx)
        elif self._dx is not None:
            self._product(self._dy, self._weight, out=self._dx)


class _AnchoredLinear(_Linear):
    """The same with ``start + pace * moved`` for weight and bias."""

    @classmethod
    def of(cls, layer, *signals, **kwargs):
        """Bind an `Anchored` layer."""
        moved = layer.moved_weight, layer.moved_bias
        starts = layer.start_weight, layer.start_bias
        sums = tuple(map(torch.empty_like, starts))
        bound = cls(*sums, *(p.grad for p in moved), *signals, **kwargs)
        bound._sums = list(zip(starts, (p.detach() for p in moved), sums, strict=True))
        # The same in all networks of a stack.
        bound._pace = float(layer.pace.flatten()[0])
        return bound

    def forward(self):
        for start, moved, out in self._sums:
            torch.add(start, moved, alpha=self._pace, out=out)
        super().forward()


class _BatchNorm:
    """Batch normalisation; a batch of one row is normalised as in inference."""

    def __init__(self, norm, x, y, adds):
        self._x, self._y, self._dx, self._dy = x.value, y.value, x.gradient, y.gradient
        # Of all networks of a stack, one after the other.
        self._weight, bias = (p.detach().flatten() for p in (norm.weight, norm.bias))
        self._gradients = [
            None if p.grad is None else p.grad.flatten()
            for p in (norm.weight, norm.bias)
        ]
        self._computed = self._gradients
        if adds or any(gradient is None for gradient in self._gradients):
            # The kernel computes both.
            self._computed = [torch.empty_like(bias) for _ in range(2)]
        self._adds = adds
        many = norm.by_batch(len(x.value))
        moments = norm.mean.flatten(), norm.variance.flatten()
        self._inference = (None, None) if many else moments
        # Of the batch: its means, and the reciprocals of its standard deviations.
        n_units = len(bias) if many else 0
        self._batch = bias.new_empty(n_units), bias.new_empty(n_units)
        self._how = many, norm.eps
        self._bias = bias

    def forward(self):
        training, eps = self._how
        torch.native_batch_norm(
            self._x,
            self._weight,
            self._bias,
            *self._inference,
            training,
            0.0,
            eps,
            out=(self._y, *self._batch),
        )

    def backward(self):
        d_weight, d_bias = self._computed
        aten.native_batch_norm_backward.out(
            self._dy,
            self._x,
            self._weight,
            *self._inference,
            *self._batch,
            *self._how,
            [True, True, True],
            out0=self._dx,
            out1=d_weight,
            out2=d_bias,
        )
        if self._computed is self._gradients:
            return
        for gradient, computed in zip(self._gradients, self._computed, strict=True):
            if gradient is not None and self._adds:
                gradient.add_(computed)
            elif gradient is not None:
                gradient.copy_(computed)


class _StackedBatchNorm(_BatchNorm):
    """Batch normalisation of a stack of networks, as of one with the units of all."""

    def __init__(self, norm, x, y, adds):
        self._stacked = x, y
        # The kernel needs the units of a row side by side.
        super().__init__(norm, *map(_side_by_side, self._stacked), adds)

    def forward(self):
        x, y = self._stacked
        _copy_rows(x.value, self._x)
        super().forward()
        _copy_rows(self._y, y.value)

    def backward(self):
        x, y = self._stacked
        _copy_rows(y.gradient, self._dy)
        super().backward()
        _copy_rows(self._dx, x.gradient)


def _side_by_side(signal):
    n_networks, n_rows, n_units = signal.value.shape
    rows = [signal.value.new_empty(n_rows, n_networks, n_units) for _ in range(2)]
    return _Signal(*(part.flatten(1) for part in rows))


def _copy_rows(values, out):
    """Copy rows of a stack to those of all units side by side, or back."""
    if values.ndim == 3:
        out.view(values.shape[1], len(values), -1).copy_(values.transpose(0, 1))
    else:
        out.copy_(values.view(out.shape[1], len(out), -1).transpose(0, 1))


class _Activation:
    """An activation, one of those in the table."""

    def __init__(self, activation, x, y):
        self._function, self._derivative, by_output = _ACTIVATIONS[type(activation)]
        self._x, self._y = x.value, y.value
        self._dx, self._dy = x.gradient, y.gradient
        self._known = self._y if by_output else self._x

    def forward(self):
        self._function(self._x, out=self._y)

    def backward(self):
        self._derivative(self._dy, self._known, grad_input=self._dx)


class _Product:
    """Dropout: a product with a mask that is drawn for every step."""

    def __init__(self, mask, x, y):
        self._mask = mask
        self._x, self._y = x.value, y.value
        self._dx, self._dy = x.gradient, y.gradient

    def forward(self):
        torch.mul(self._x, self._mask, out=self._y)

    def backward(self):
        torch.mul(self._dy, self._mask, out=self._dx)


class _Prefixes:
    """Codes of which a prefix is kept, and the input of the decoder that they are."""

    def __init__(self, bottleneck, x):
        self._bottleneck, self._x = bottleneck, x
        self._mask, self._code = map(torch.empty_like, (x.value, x.value))
        value = bottleneck.expand(x.value)
        self.y = _Signal(value, torch.empty_like(value))

    def forward(self, kept):
        self._mask.copy_(kept)
        torch.mul(self._x.value, self._mask, out=self._code)
        self.y.value.copy_(self._bottleneck.expand(self._code))

    def backward(self):
        # Which components are absent does not depend on the weights.
        gradient = self.y.gradient[..., : self._mask.shape[-1]]
        torch.mul(gradient, self._mask, out=self._x.gradient)


def _relu(x, out):
    return torch.clamp_min(x, 0, out=out)


def _relu_backward(d, a, grad_input):
    return aten.threshold_backward.grad_input(d, a, 0, grad_input=grad_input)


def _elu_backward(d, a, grad_input):
    return aten.elu_backward.grad_input(d, 1, 1, 1, True, a, grad_input=grad_input)


# Of each activation: the function; its backward kernel; and whether that takes the
# output of the activation, or else its input.
_ACTIVATIONS = {
    nn.ELU: (aten.elu.out, _elu_backward, True),
    nn.GELU: (aten.gelu.out, aten.gelu_backward.grad_input, False),
    nn.ReLU: (_relu, _relu_backward, True),
    nn.Sigmoid: (torch.sigmoid, aten.sigmoid_backward.grad_input, True),
    nn.SiLU: (aten.silu.out, aten.silu_backward.grad_input, False),
    Tanh: (tanh, aten.tanh_backward.grad_input, True),
}
