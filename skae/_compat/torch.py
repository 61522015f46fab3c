"""Private API of PyTorch: hooks of modules, versions of tensors, modes, kernels."""

from datetime import timedelta

import torch
from torch.nn.modules import module as _nn_module
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

__all__ = [
    "InferenceMode",
    "aten",
    "disable_function_modes",
    "function_state",
    "gloo_group",
    "has_function_modes",
    "has_hooks",
    "has_own_backend",
    "is_any_autocast_enabled",
    "is_traced",
    "modules_of",
    "set_function_state",
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

# As torch.inference_mode, but entered and left in C, which Ctrl-C does not interrupt.
# Off, it also lets gradients be computed; at its end both are as they were before.
InferenceMode = torch._C._InferenceMode
# Whether there is autocast on any kind of device.
is_any_autocast_enabled = torch._C._is_any_autocast_enabled
# Whether functions of torch go through modes: among others, that of a default device.
has_function_modes = torch._C._is_torch_function_mode_enabled
# Whether classes of tensors, and modes, may replace functions of torch.
function_state = torch._C._get_torch_function_state  # type: ignore[attr-defined]
set_function_state = torch._C._set_torch_function_state  # type: ignore[attr-defined]


def disable_function_modes():
    """Let functions of torch be those of torch alone."""
    set_function_state(torch._C._TorchFunctionState.ALL_DISABLED)


def is_traced():
    """Return whether PyTorch records the operations, for an export."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


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


def has_own_backend(group, device):
    """Return whether a group of processes sends tensors on a device by themselves."""
    return device in getattr(group, "_device_types", ())


def gloo_group(store, host, rank, size, timeout):
    """Return a group of processes that does not belong to the global state of torch.

    Parameters
    ----------
    store : torch.distributed.Store
        Where they meet.
    host : str
        Address of this process.
    rank, size : int
    timeout : float
        In seconds.
    """
    # Not all builds of torch have it.
    from torch.distributed import ProcessGroupGloo

    options = ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=timeout)
    options._devices = [ProcessGroupGloo.create_device(hostname=host)]
    return ProcessGroupGloo(store, rank, size, options)
