"""Components of other packages: valid ones, and ones with a single mistake."""

import random

import numpy as np
import torch
from _scores import RIGHT_SCORES, WRONG_SCORES
from torch import nn

from skae.architectures import Architecture
from skae.bottlenecks import Bottleneck
from skae.corruptions import Corruption
from skae.losses import Loss, SquaredError
from skae.penalties import L1, Penalty

# Right


class Shift(Corruption):
    def __init__(self, size=0.1):
        self.size = size

    def draw(self, shape, generator):
        return torch.rand(shape[0], 1, generator=generator)

    def __call__(self, x, draw):
        return x + self.size * draw


class Norm(Penalty):
    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def per_sample(self, x, code, encode, draw):
        return self.alpha * code.square().sum(dim=1)


class LogCosh(Loss):
    def per_entry(self, raw, x):
        return (raw - x).cosh().log()


class Rounded(Bottleneck):
    """Divides by two, and adds the draw."""

    guards = True

    def build(self, n_components, generator):
        return _Rounded(n_components)


class _Rounded(nn.Module):
    def __init__(self, n_components):
        super().__init__()
        self.n_components = n_components

    def draw(self, n_rows, generator):
        return torch.randn(n_rows, self.n_components, generator=generator)

    def forward(self, h, draw=None):
        return (h / 2 if draw is None else h / 2 + draw), h.square().sum(dim=1)

    def prior(self, n_rows, generator):
        return self.draw(n_rows, generator)


class Affine(Architecture):
    """A linear encoder and a linear decoder."""

    def build(self, n_features, encoder_width, n_components, generator):
        return (
            self._layer(n_features, encoder_width, generator),
            self._layer(n_components, n_features, generator),
        )

    def _layer(self, n_in, n_out, generator):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
        nn.init.normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        return layer


class Named(Bottleneck):
    """Rounds to integers; ``changes`` names a wrong attribute of its module."""

    guards = discrete = True

    def __init__(self, changes=None):
        self.changes = changes

    def build(self, n_components, generator):
        if self.changes is None:
            return _Named(n_components)
        changes = {self.changes: _NAMED[self.changes]}
        return type("Changed", (_Named,), changes)(n_components)


class _Named(nn.Module):
    def __init__(self, n_components):
        super().__init__()
        self.n_components = n_components

    symbols_shape = property(lambda self: (self.n_components, 7))

    def forward(self, h):
        h = h.clamp(-3, 3)
        return h + (h.round() - h).detach(), h.new_zeros(len(h))

    def symbols(self, h):
        return h.clamp(-3, 3).round().long() + 3

    def codes(self, symbols):
        return symbols - 3.0


_NAMED = {
    "symbols": lambda self, h: torch.zeros(len(h), 1, dtype=torch.int64),
    "symbols_shape": (1, 7),
    "codes": lambda self, symbols: symbols * 1.0,
}


RIGHT = [
    Shift(),
    Norm(),
    Norm() + L1(),
    LogCosh(),
    Rounded(),
    Named(),
    Affine(),
    *RIGHT_SCORES,
]

# Wrong: each differs from a valid one in a single method or attribute


class InPlace(Shift):
    def __call__(self, x, draw):
        return x.add_(draw)


class Global(Shift):
    def draw(self, shape, generator):
        return torch.rand(shape[0], 1)


class GlobalOfNumpy(Norm):
    def per_sample(self, x, code, encode, draw):
        return super().per_sample(x, code, encode, draw) + 0 * np.random.uniform()


class Moody(Shift):
    def draw(self, shape, generator):
        return random.random()


class Narrowing(Shift):
    def __call__(self, x, draw):
        return x[:, 1:]


class Doubling(Shift):
    def __call__(self, x, draw):
        return x.double()


class Exploding(Shift):
    def __call__(self, x, draw):
        return x / 0


class Whole(Norm):
    def per_sample(self, x, code, encode, draw):
        return code.square().sum()


class Columns(Norm):
    def per_batch(self, code, weight):
        return code.mean(dim=0)


class Blind(Norm):
    def per_sample(self, x, code, encode, draw):
        return code.detach().square().sum(dim=1)


class Steep(Norm):
    def per_sample(self, x, code, encode, draw):
        return (code - code.detach()).norm(dim=1) ** 0.5


class Unfair(Norm):
    def per_batch(self, code, weight):
        weight = torch.zeros(len(code)) if weight is None else weight
        return (weight @ code).sum()


class MeanOfTheBatch(LogCosh):
    def per_entry(self, raw, x):
        return super().per_entry(raw, x).mean()


class MeanOfTheEntries(LogCosh):
    def __call__(self, raw, x, mask=None):
        return self.per_entry(raw, x).mean(dim=1)


class Mixed(LogCosh):
    def per_entry(self, raw, x):
        terms = super().per_entry(raw, x)
        return terms * terms.sum(dim=1, keepdim=True)


class OutOfItsDomain(LogCosh):
    domain = (0.0, 1.0)


class StartsNowhere(LogCosh):
    def start(self, reconstruction):
        return SquaredError().start((torch.full((6, 60), torch.nan), torch.ones(6)))


class LosesRows(LogCosh):
    def trusted(self, terms):
        return terms[:-1]


class Wrong(Rounded):
    """A bottleneck whose module has the mistake that ``changes`` names."""

    def __init__(self, changes):
        self.changes = changes

    def build(self, n_components, generator):
        module = _Rounded(n_components)
        if self.changes == "loose":
            module.loose = torch.randn(n_components, generator=generator)
        cls = type(self.changes, (_Rounded,), {"forward": _FORWARDS[self.changes]})
        if self.changes == "prior":
            cls.prior = lambda self, n, generator: torch.zeros(n, 1)
        if self.changes == "project":
            cls.project = lambda self, code: code + 1
        module.__class__ = cls
        return module


def _right(self, h, draw=None):
    return _Rounded.forward(self, h, draw)


def _wide(self, h, draw=None):
    return torch.cat([h, h], dim=1), h.sum(dim=1)


def _one_cost(self, h, draw=None):
    return h, h.sum()


def _detached(self, h, draw=None):
    return h.detach(), h.square().sum(dim=1)


def _root(self, h, draw=None):
    return h, (h - h.detach()).norm(dim=1).sqrt()


def _remembering(self, h, draw=None):
    self.calls = getattr(self, "calls", 0) + 1
    return h + self.calls, h.sum(dim=1)


def _remembering_draws(self, h, draw=None):
    if draw is None:
        return h, h.sum(dim=1)
    return _remembering(self, h)


def _loose(self, h, draw=None):
    return h * self.loose, h.sum(dim=1)


_FORWARDS = {
    "wide": _wide,
    "cost": _one_cost,
    "detached": _detached,
    "root": _root,
    "random": _remembering,
    "remembering": _remembering_draws,
    "loose": _loose,
    "prior": _right,
    "project": _right,
}


class OutOfItsRange(Rounded):
    code_range = (0.0, 1.0)


class Swapped(Affine):
    def build(self, n_features, encoder_width, n_components, generator):
        widths = n_features, n_components, encoder_width, generator
        return super().build(*widths)


class GlobalWeights(Affine):
    def _layer(self, n_in, n_out, generator):
        return nn.Linear(n_in, n_out)


class Forgetful(Shift):
    def __init__(self, size=0.1):
        self.size = [size]


class Careless(Shift):
    _parameter_constraints: dict = {"size": [str]}


WRONG = {
    "the rows are changed in place": InPlace(),
    "corrupted rows have another shape": Narrowing(),
    "corrupted rows have another dtype": Doubling(),
    "corrupted rows are not finite": Exploding(),
    "the same draw gives other rows": Moody(),
    "per_sample must give one number per row": Whole(),
    "per_batch must give one number": Columns(),
    "the cost does not depend on the encoder": Blind(),
    "the gradient of the cost is not finite": Steep(),
    "weights of one are not the same as none": Unfair(),
    "per_entry must give one number per entry": MeanOfTheBatch(),
    "the loss of a row must be the sum of its entries": MeanOfTheEntries(),
    "entries that are masked have a gradient": Mixed(),
    "inverse_link leaves the domain": OutOfItsDomain(),
    "start is not finite": StartsNowhere(),
    "trusted changes the shape": LosesRows(),
    "the code has the wrong shape": Wrong("wide"),
    "the cost must be one number per row": Wrong("cost"),
    "a code leaves code_range": OutOfItsRange(),
    "it is random without a draw": Wrong("random"),
    "no gradient reaches the encoder": Wrong("detached"),
    "code, cost or gradient are not finite": Wrong("root"),
    "symbols and codes do not name each other": Named("symbols"),
    "symbols_shape is another one": Named("symbols_shape"),
    "codes does not invert symbols": Named("codes"),
    "project moves a code that is possible": Wrong("project"),
    "prior must give one code per row": Wrong("prior"),
    "two runs with the same draws differ": Wrong("remembering"),
    "stacked models differ from the same ones alone": Wrong("loose"),
    "the encoder gives the wrong shape": Swapped(),
    "weights are not drawn from the generator": GlobalWeights(),
} | WRONG_SCORES
