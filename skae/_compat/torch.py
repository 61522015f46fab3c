"""Private API of PyTorch: hooks of modules, versions of tensors, pytrees, kernels."""

import torch
from torch.nn.modules import module as _nn_module
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

__all__ = [
    "aten",
    "has_hooks",
    "modules_of",
    "storage_of",
    "tensors_of",
    "tree_flatten",
    "tree_leaves",
    "tree_map",
    "tree_unflatten",
    "version_of",
]

# Backward kernels that write to a given tensor.
aten = torch.ops.aten


def modules_of(module):
    """Return a module and all its descendants.

    The same as :meth:`torch.nn.Module.modules`, but faster: that method takes longer
    than a small network takes for one row. A module that is registered twice comes
    twice.
    """
    found = [module]
    for module in found:
        found.extend(child for child in module._modules.values() if child is not None)
    return found


def tensors_of(module):
    """Return the parameters and buffers of a module and of its descendants."""
    tensors = []
    for part in modules_of(module):
        tensors += part._parameters.values()
        tensors += part._buffers.values()
    return [tensor for tensor in tensors if tensor is not None]


def storage_of(module):
    """Return the parameters, buffers and children of a module, by attribute."""
    return {
        "_parameters": module._parameters,
        "_buffers": module._buffers,
        "_modules": module._modules,
    }


def version_of(tensor):
    """Return how often torch has written to a tensor; 0 where it does not count."""
    try:
        return tensor._version
    except RuntimeError:  # a tensor made in inference mode
        return 0


def has_hooks(module):
    """Return whether a forward or backward pass of a module calls code of a user.

    That is a hook of a module, of a parameter, or of all modules (a global hook), or a
    method ``forward`` that was replaced in an instance.
    """
    return (
        _nn_module._has_any_global_hook()
        or any(
            part._forward_pre_hooks
            or part._forward_hooks
            or part._backward_pre_hooks
            or part._backward_hooks
            or "forward" in vars(part)
            for part in modules_of(module)
        )
        or any(
            p._backward_hooks or p._post_accumulate_grad_hooks
            for p in module.parameters()
        )
    )
