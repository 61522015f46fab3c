"""Fitted models as plain modules of PyTorch, with all that lies around the networks."""

from copy import deepcopy

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from ..anomaly_scores import View
from ..anomaly_scores._neighbors import _Neighbors
from ..architectures._networks import Tanh

__all__ = ["ExportMixin", "normality"]


class ExportMixin:
    """What gives estimators ``to_torch``."""

    # Parts, and from a fitted estimator to the module of each.
    _torch_parts = {
        "encoder": lambda self: _part(self, _way_in, _coordinates),
        "decoder": lambda self: _part(self, _from_coordinates, _way_out),
        "autoencoder": lambda self: _part(self, _way_in, _way_out),
    }

    def to_torch(self, part="encoder"):
        """Return a part of the fitted model as a plain module of PyTorch.

        Scaling, inverse link of the loss and coordinates of the code are layers of it.
        It takes and gives tensors in the data's own units, needs no estimator, and can
        be trained further, composed, or written with :func:`torch.export.export` and
        :func:`torch.onnx.export`.

        Parameters
        ----------
        part : {"encoder", "decoder", "autoencoder", "score"}, default="encoder"
            Which method the module stands for.

            - "encoder": `transform`, always dense.
            - "decoder": `inverse_transform`.
            - "autoencoder": `reconstruct`.
            - "score": `score_samples`, of the detector only. Rows outside the domain
              of the loss have a meaningless score instead of an error. With
              :class:`~skae.anomaly_scores.Neighbors`, as by default, all distances
              between the rows and at most 1,024 remembered ones are held at once.

        Returns
        -------
        torch.nn.Module
            In evaluation mode and single precision, on the device of the network, with
            weights of its own: neither a later `fit` nor its own training reaches the
            other. Maps tensors of shape (n_samples, n_columns) to (n_samples,
            n_outputs), or to (n_samples,) for "score". What is not a weight of the
            networks is a buffer, which training leaves as it is. ``module.double()``
            has the precision that the estimator has for float64.

        Raises
        ------
        ValueError
            If the estimator has no such part, or a score of somebody's own computes
            with something else than PyTorch.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> from sklearn.datasets import load_digits
        >>> from skae import AutoencoderTransformer
        >>> X = load_digits().data
        >>> model = AutoencoderTransformer(8, random_state=0).fit(X[:200])
        >>> module = model.to_torch("encoder").double()
        >>> with torch.no_grad():
        ...     code = module(torch.from_numpy(X)).numpy()
        >>> bool(np.allclose(code, model.transform(X)))
        True
        """
        self._model_of_fitted()
        make = self._torch_parts.get(part) if isinstance(part, str) else None
        if make is None:
            accepted = ", ".join(map(repr, self._torch_parts))
            raise ValueError(
                f"The 'part' parameter of {type(self).__name__}.to_torch must be one "
                f"of {accepted}. Got {part!r} instead."
            )
        return make(self)


def _part(estimator, *ways):
    model = estimator._model
    layers = nn.Sequential()
    for way in ways:
        for name, layer in way(model):
            layers.add_module(name, layer)
    return layers.to(model.net.device).eval()


def normality(members, device):
    """Return minus the score of an ensemble as a module.

    Parameters
    ----------
    members : list of Member
        Each has a ``model``, a ``scorer`` and a ``scale``.
    device : str

    Raises
    ------
    ValueError
        If a scorer or a network computes with something else than PyTorch.
    """
    module = Normality([Abnormality(m.model, m.scorer, m.scale) for m in members])
    width = len(members[0].model.scaling.center)
    try:
        # Tensors without data: only PyTorch can compute with them.
        deepcopy(module).to("meta")(torch.empty(2, width, device="meta"))
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            "to_torch(part='score') takes networks and anomaly scores that compute "
            "with PyTorch alone, do not look at the numbers to decide how, and keep "
            "tensors as parameters or buffers. That did not work for the scorer "
            f"{type(members[0].scorer).__name__}, or for the networks: {error}"
        ) from error
    return module.to(device).eval()


# From the model to the named layers of each stretch of the way.


def _scaling(model):
    scaling = model.scaling
    if not (np.any(scaling.center) or np.any(scaling.scale != 1)):
        return []
    return [("scaling", Standardize(scaling.center, scaling.scale))]


def _way_in(model):
    module = _copy(model.net.module_)
    layers = _scaling(model)
    if module.center is not None:
        center, spread = (t.double().numpy() for t in (module.center, module.spread))
        layers.append(("standardization", Standardize(center, spread)))
    layers += [("encoder", module.encoder), ("bottleneck", Code(module.bottleneck))]
    return layers


def _coordinates(model):
    at = model.coordinates
    if at.turn is not None:
        return [("coordinates", Rotate(at.center, at.turn))]
    if _is_identity(at):
        return []
    scale = 1 / at.lengths
    return [
        ("order", Reorder(at.order)),
        ("coordinates", Standardize(at.center[at.order], scale)),
    ]


def _from_coordinates(model):
    at = model.coordinates
    if at.turn is not None:
        return [("coordinates", RotateBack(at.center, at.turn_back))]
    if _is_identity(at):
        return []
    back = np.argsort(at.order)
    scale = 1 / at.lengths[back]
    return [
        ("order", Reorder(back)),
        ("coordinates", Unstandardize(at.center, scale)),
    ]


def _is_identity(at):
    ordered = np.array_equal(at.order, np.arange(len(at.order)))
    return ordered and not at.center.any() and bool((at.lengths == 1).all())


def _way_out(model):
    layers = [("decoder", _copy(model.net.module_.decoder))]
    layers.append(("inverse_link", InverseLink(model.loss)))
    if _scaling(model):
        back = Unstandardize(model.scaling.center, model.scaling.scale)
        layers.append(("inverse_scaling", back))
    return layers


def _copy(module):
    """Return a copy in which only PyTorch computes, the same whatever the rows."""
    module = deepcopy(module).cpu()
    for part in module.modules():
        part.__class__ = _TRACEABLE.get(type(part), type(part))
    return module


class _TracedNeighbors(_Neighbors):
    """The same without NumPy, and without branches and pieces that depend on rows."""

    def _terms(self, u):
        lengths, remembered = (
            rows.square().sum(dim=1, keepdim=True) for rows in (u, self.memory)
        )
        distances = remembered.T - 2 * u @ self.memory.T
        least, nearest = distances.min(dim=1, keepdim=True)
        tolerance = max(1e-9, 8 * torch.finfo(u.dtype).eps)
        is_copy = least + lengths <= tolerance * (lengths + remembered[nearest[:, 0]])
        without = torch.where(is_copy, torch.inf, least)
        distances = distances.scatter(1, nearest, without)
        smallest, order = distances.topk(max(self.sizes), dim=1, largest=False)
        smallest = (smallest + lengths).clamp_min(0)
        terms = [smallest[:, :k].mean(dim=1) for k in self.sizes]
        if self.n_neighbors is None:
            terms[0] = terms[0] / self.radii[order[:, 0]]
        return torch.stack(terms, dim=1)


_TRACEABLE = {Tanh: nn.Tanh, _Neighbors: _TracedNeighbors}


# The layers


def _register(module, name, value):
    """Register a constant in two parts: the nearest number, and what that leaves.

    In single precision their sum is the first; after ``module.double()`` it has both.
    """
    value = torch.as_tensor(value, dtype=torch.float64).contiguous()
    near = value.float()
    module.register_buffer(name, near)
    module.register_buffer(f"{name}_rest", (value - near).float())


def _constant(module, name):
    return module.get_buffer(name) + module.get_buffer(f"{name}_rest")


class Standardize(nn.Module):
    """``(x - center) / scale``."""

    def __init__(self, center, scale):
        super().__init__()
        _register(self, "center", center)
        _register(self, "scale", scale)

    def forward(self, x):
        return (x - _constant(self, "center")) / _constant(self, "scale")


class Unstandardize(Standardize):
    """``x * scale + center``."""

    def forward(self, x):
        return x * _constant(self, "scale") + _constant(self, "center")


class Rotate(nn.Module):
    """``(x - center) @ matrix``."""

    def __init__(self, center, matrix):
        super().__init__()
        _register(self, "center", center)
        _register(self, "matrix", matrix)

    def forward(self, x):
        return (x - _constant(self, "center")) @ _constant(self, "matrix")


class RotateBack(Rotate):
    """``x @ matrix + center``."""

    def forward(self, x):
        return x @ _constant(self, "matrix") + _constant(self, "center")


class Reorder(nn.Module):
    """``x[:, order]``."""

    def __init__(self, order):
        super().__init__()
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x):
        return x[:, self.order]


class Code(nn.Module):
    """The code of a bottleneck, without its price."""

    def __init__(self, bottleneck):
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, h):
        code, _ = self.bottleneck(h)
        return code


class InverseLink(nn.Module):
    """From the output of a decoder to the data, as a loss has it."""

    def __init__(self, loss):
        super().__init__()
        self.loss = deepcopy(loss)

    def forward(self, raw):
        return self.loss.inverse_link(raw)


class Abnormality(nn.Module):
    """What a scorer says of what a model makes of rows, in units of its spread."""

    def __init__(self, model, scorer, scale):
        super().__init__()
        self.scaling = nn.Sequential(*(layer for _, layer in _scaling(model)))
        self.autoencoder = _copy(model.net.module_)
        # They are there for training only.
        self.autoencoder.corruption = self.autoencoder.penalty = None
        self.coordinates = nn.Sequential(*(layer for _, layer in _coordinates(model)))
        self.scorer = _copy(scorer)
        self.constants = [
            name for name, b in scorer.named_buffers() if b.dtype == torch.float64
        ]
        for name in self.constants:
            owner, _, own_name = name.rpartition(".")
            owner = self.scorer.get_submodule(owner)
            _register(owner, own_name, owner.get_buffer(own_name))
        _register(self, "scale", scale)

    def forward(self, x):
        x = self.scaling(x)
        raw, code, objective, _ = self.autoencoder(x)
        residual = x - self.autoencoder.loss.inverse_link(raw)
        view = View(x, raw, residual, self.coordinates(code), objective)
        constants = {name: _constant(self.scorer, name) for name in self.constants}
        score = functional_call(self.scorer, constants, (view,))
        return score / _constant(self, "scale")


class Normality(nn.Module):
    """Minus the mean over the members of an ensemble."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x):
        return -torch.stack([member(x) for member in self.members]).mean(dim=0)
