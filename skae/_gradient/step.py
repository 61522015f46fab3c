"""How the gradient of a batch is computed."""

import torch

from .._compat.torch import has_hooks
from ..architectures._networks import Network
from .closed_form import ClosedForm

__all__ = ["Autograd", "CudaGraph", "choose_step"]


def choose_step(net, current=None):
    """Return the fastest way to the gradient of a net that is ready to train.

    Parameters
    ----------
    net : Net
    current : object, default=None
        The way of the last epoch, which is kept while it is the one to choose.

    Returns
    -------
    Autograd, ClosedForm or CudaGraph
        A callable, with a ``name``: it takes rows, their weights or None, and what was
        drawn for them, leaves gradients in the weights, and returns the objective and
        what the module returned, or None if it only computed the objective.
    """
    watched = _is_watched(net)
    closed = (
        not watched and net.precision == "float32" and ClosedForm.suits(net.module_)
    )
    on_gpu = torch.device(net.device).type == "cuda"
    recorded = not watched and on_gpu and CudaGraph.suits(net.module_)
    kind = closed, recorded
    if current is not None and current.kind == kind:
        return current
    step = ClosedForm(net.module_) if closed else Autograd(net)
    if recorded:
        step = CudaGraph(step, net.weights_.flat.grad)
    step.kind = kind
    return step


def _is_watched(net):
    """Return whether anybody looks into a step, or has a say in it.

    That are callbacks with hooks for batches, optimisers of the user's, and hooks of
    modules and of parameters.
    """
    return net.listens_ or net.weights_.flat.grad is None or has_hooks(net.module_)


class Autograd:
    """Reverse-mode differentiation by torch: right for every model.

    Parameters
    ----------
    net : Net
    """

    name = "autograd"

    def __init__(self, net):
        self._module, self._objective = net.module_, net.criterion_
        self._weights, self._optimizer = net.weights_, net.optimizer_
        self._autocast = {
            "device_type": torch.device(net.device).type,
            "dtype": torch.bfloat16,
            "enabled": net.precision == "bf16",
        }

    def __call__(self, x, weight, draws):
        """Compute the gradient of the objective of a batch; see `choose_step`."""
        self._weights.zero_gradient(self._optimizer)
        with torch.autocast(**self._autocast):
            output = self._module(x, draws)
            loss = self._objective(output, weight)
        loss.backward()
        return loss.detach(), output


class CudaGraph:
    """Another way, recorded once for every size of batch and then replayed.

    A small network keeps a GPU waiting: starting its kernels one by one takes longer
    than running them. A recorded step starts all of them at once.

    Parameters
    ----------
    step : callable
        Computes the gradient; see `choose_step`.
    gradient : Tensor
        Where it leaves it.
    """

    def __init__(self, step, gradient):
        self._step = step
        self._gradient = gradient
        self._recorded = {}

    @property
    def name(self):
        """What it came to: some ways cannot be recorded."""
        recorded = any(r is not None for r in self._recorded.values())
        return f"{self._step.name} in a CUDA graph" if recorded else self._step.name

    @staticmethod
    def suits(module):
        """Return whether a step can be recorded.

        A recording repeats kernels, not Python: between two steps nothing may change
        but numbers in tensors. So nothing is recorded where something has a schedule,
        or learns from the steps, or is a network of the user's.
        """
        networks = module.encoder, module.decoder
        return all(isinstance(n, Network) for n in networks) and not module.listens

    def __call__(self, x, weight, draws):
        """Compute the gradient of the objective of a batch; see `choose_step`."""
        given = x, weight, draws
        if len(x) not in self._recorded:
            self._recorded[len(x)] = self._record(given)
        recorded = self._recorded[len(x)]
        if recorded is None:
            return self._step(*given)
        kept, replay, loss = recorded
        for old, new in zip(_tensors(kept), _tensors(given), strict=True):
            old.copy_(new)
        replay()
        return loss, None

    def _record(self, given):
        """Return buffers, what replays a step on them, and the objective it writes.

        None if it cannot be recorded, or if what is replayed is not what is computed:
        then all steps are computed.
        """
        if not all(isinstance(leaf, torch.Tensor | None) for leaf in _leaves(given)):
            return None  # a number that was drawn would be the same for ever
        kept = _copy(given)
        expected = self._step(*kept)[0].clone(), self._gradient.clone()
        with torch.cuda.device(self._gradient.device):
            try:
                replay, loss = record(lambda: self._step(*kept)[0])
            except RuntimeError:
                return None
        found = loss, self._gradient
        for tensor in found:
            tensor.fill_(torch.nan)  # so that a replay that does nothing is seen
        replay()
        same = (
            torch.linalg.vector_norm(a - b) <= 0.01 * torch.linalg.vector_norm(a)
            for a, b in zip(expected, found, strict=True)
        )
        return (kept, replay, loss) if all(same) else None


def record(function):
    """Record the kernels that a function starts.

    Returns
    -------
    replay : callable
        Starts them again.
    result : Tensor
        What the function returned; a replay writes to it.
    """
    # What torch sets up when something runs for the first time must not be recorded.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may do what they like meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result


def _leaves(tree):
    """Yield what is in nested tuples, lists and dicts, in its order."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple | list):
        for branch in tree:
            yield from _leaves(branch)
    else:
        yield tree


def _tensors(tree):
    return (leaf for leaf in _leaves(tree) if leaf is not None)


def _copy(tree):
    """Copy nested tuples, lists and dicts with their tensors."""
    if isinstance(tree, dict):
        return {name: _copy(branch) for name, branch in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(map(_copy, tree))
    return None if tree is None else tree.clone()
