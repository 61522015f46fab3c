"""How the gradient of a batch is computed: one way for a whole training."""

import torch

from ._closed_form import ClosedForm
from .architectures._networks import Network

__all__ = ["Autograd", "CudaGraph", "choose_step"]


def choose_step(net):
    """Return the fastest way to the gradient of a net that is ready to train.

    Parameters
    ----------
    net : Net

    Returns
    -------
    Autograd, ClosedForm or CudaGraph
        A callable, with a ``name``: it takes rows, their weights or None, and what was
        drawn for them, leaves gradients in the weights, and returns the objective and
        what the module returned, or None if it only computed the objective.
    """
    module = net.module_
    if net.precision == "float32" and not net.listens_ and ClosedForm.suits(module):
        step = ClosedForm(module)
    else:
        step = Autograd(net)
    if torch.device(net.device).type == "cuda" and CudaGraph.suits(net):
        return CudaGraph(step, net.weights_.flat.grad)
    return step


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
        self.name = f"{step.name} in a CUDA graph"

    @staticmethod
    def suits(net):
        """Return whether a step can be recorded.

        A recording repeats kernels, not Python: between two steps nothing may change
        but numbers in tensors. So nothing is recorded where something has a schedule,
        or learns from the steps, or is a network of the user's.
        """
        module = net.module_
        ours = (isinstance(n, Network) for n in (module.encoder, module.decoder))
        flat = net.weights_.flat.grad is not None
        return flat and all(ours) and not (net.listens_ or module.listens)

    def __call__(self, x, weight, draws):
        """Compute the gradient of the objective of a batch; see `choose_step`."""
        given = x, weight, draws
        if len(x) not in self._recorded:
            self._recorded[len(x)] = self._record(given)
        recorded = self._recorded[len(x)]
        if recorded is None:
            return self._step(*given)
        kept, replay, outputs = recorded
        for old, new in zip(_tensors(kept), _tensors(given), strict=True):
            old.copy_(new)
        replay()
        return outputs

    def _record(self, given):
        """Return buffers, what replays a step on them, and what it returns.

        None if it cannot be recorded, or if what is replayed is not what is computed:
        then all steps are computed.
        """
        kept = _copy(given)
        expected = self._step(*kept)[0].clone(), self._gradient.clone()
        try:
            replay, outputs = record(lambda: self._step(*kept))
            replay()
        except RuntimeError:
            return None
        replayed = outputs[0], self._gradient
        same = (
            torch.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True)
            for a, b in zip(expected, replayed, strict=True)
        )
        return (kept, replay, outputs) if all(same) else None


def record(function):
    """Record the kernels that a function starts.

    Returns
    -------
    replay : callable
        Starts them again.
    outputs : object
        What the function returned; a replay writes to its tensors.
    """
    # What torch sets up when something runs for the first time must not be recorded.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function()
    return graph.replay, outputs


def _tensors(tree):
    """Yield the tensors of nested tuples, lists and dicts, in their order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))
    elif isinstance(tree, tuple | list):
        for branch in tree:
            yield from _tensors(branch)


def _copy(tree):
    """Copy nested tuples, lists and dicts with their tensors."""
    if isinstance(tree, torch.Tensor):
        return tree.clone()
    if isinstance(tree, dict):
        return {name: _copy(branch) for name, branch in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_copy(branch) for branch in tree)
    return tree
