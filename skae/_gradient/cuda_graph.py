"""Captured CUDA graphs of a training step."""

import torch

from .._compat.torch import tree_leaves, tree_map
from ..architectures._networks import Network

__all__ = ["CudaGraph"]


class CudaGraph:
    """Wraps a step function in CUDA graphs, one captured per batch size.

    A small network keeps a GPU waiting: starting its kernels one by one takes longer
    than running them. A captured step starts all of them at once.

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
        self._captured = {}

    @property
    def name(self):
        """Name of the step, and whether it was captured: some steps cannot be."""
        captured = any(graph is not None for graph in self._captured.values())
        return f"{self._step.name} in a CUDA graph" if captured else self._step.name

    @staticmethod
    def suits(module):
        """Return whether the steps of a model can be captured.

        A graph repeats kernels, not Python: between two steps nothing may change but
        numbers in tensors. So nothing is captured where a part has a schedule, or
        learns from the steps, or is a network of the user's.
        """
        networks = module.encoder, module.decoder
        return all(isinstance(n, Network) for n in networks) and (
            not module.has_step_hooks
        )

    def __call__(self, batch, draws):
        """Compute the gradient of the objective of a batch; see `choose_step`."""
        given = tuple(batch), draws
        size = len(batch.x)
        if size not in self._captured:
            self._captured[size] = self._capture(type(batch), given)
        captured = self._captured[size]
        if captured is None:
            return self._step(batch, draws)
        inputs, replay, loss = captured
        for old, new in zip(tree_leaves(inputs), tree_leaves(given), strict=True):
            if old is not None:
                old.copy_(new)
        replay()
        return loss, None

    def _capture(self, kind, given):
        """Return buffers, what replays a step on them, and the objective it writes.

        None if it cannot be captured, or if what is replayed is not what is computed:
        then all steps are computed.
        """
        if not all(
            isinstance(leaf, torch.Tensor | None) for leaf in tree_leaves(given)
        ):
            return None  # a number that was drawn would be the same for ever
        inputs = tree_map(lambda leaf: None if leaf is None else leaf.clone(), given)

        def step():
            batch, draws = inputs
            return self._step(kind(*batch), draws)[0]

        expected = step().clone(), self._gradient.clone()
        with torch.cuda.device(self._gradient.device):
            try:
                replay, loss = capture(step)
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
        return (inputs, replay, loss) if all(same) else None


def capture(function):
    """Capture the kernels that a function starts.

    Returns
    -------
    replay : callable
        Starts them again.
    result : Tensor
        What the function returned; a replay writes to it.
    """
    # What torch sets up when something runs for the first time must not be captured.
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
