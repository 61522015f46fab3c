"""How the gradient of a batch is computed."""

import torch

from .._compat.torch import has_hooks
from .closed_form import ClosedForm, ClosedNetwork
from .cuda_graph import CudaGraph

__all__ = ["Autograd", "choose_step"]


def choose_step(net, watched, current=None):
    """Return the fastest step function for a net that is ready to train.

    Parameters
    ----------
    net : Net
    watched : bool
        Whether callbacks look at single batches, or the optimiser is the user's.
    current : object, default=None
        The step of the last epoch, which is kept while it is the one to choose.

    Returns
    -------
    Autograd, ClosedForm or CudaGraph
        A callable, with a ``name``: it takes a batch and its random draws, leaves
        gradients in the weights, and returns the objective and the output of the
        module, or None if it only computed the objective.
    """
    module = net.module_
    watched = watched or has_hooks(module)
    unseen = not watched and net.precision == "float32"
    closed = unseen and ClosedForm.suits(module)
    on_gpu = torch.device(net.device).type == "cuda"
    captured = not watched and on_gpu and CudaGraph.suits(module)
    # On a GPU a captured graph does more.
    networks = unseen and not closed and not on_gpu and ClosedNetwork.suits(module)
    kind = closed, captured, networks
    if current is not None and current.kind == kind:
        return current
    step = ClosedForm(module) if closed else Autograd(net, networks)
    if captured:
        step = CudaGraph(step, net.weights_.flat.grad)
    step.kind = kind
    return step


class Autograd:
    """Reverse-mode differentiation by torch: right for every model.

    Parameters
    ----------
    net : Net
    closed : bool, default=False
        Whether both networks are computed in closed form; see `ClosedNetwork`.
    """

    def __init__(self, net, closed=False):
        module = net.module_
        self._networks = None
        self.name = "autograd"
        if closed:
            self._networks = tuple(map(ClosedNetwork, (module.encoder, module.decoder)))
            self.name = "autograd, with networks in closed form"
        self._module, self._objective = net.module_, net.criterion_
        self._weights, self._optimizer = net.weights_, net.optimizer_
        self._autocast = {
            "device_type": torch.device(net.device).type,
            "dtype": torch.bfloat16,
            "enabled": net.precision == "bf16",
            # torch empties the cache only at the end of the outermost autocast.
            "cache_enabled": False,
        }

    def __call__(self, batch, draws):
        """Compute the gradient of the objective of a batch; see `choose_step`."""
        self._weights.zero_gradient(self._optimizer)
        with torch.autocast(**self._autocast):
            output = self._module(
                batch.x, draws, batch.mask, batch.input, self._networks
            )
            loss = self._objective(output, batch.weight)
        loss.backward()
        return loss.detach(), output
