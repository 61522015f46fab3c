"""Arrays of other libraries than NumPy, by scikit-learn's array API dispatch.

As in scikit-learn, fitted arrays are of the library and on the device of the training
rows. The model is a PyTorch module; for inference a copy on the device of the rows is
used.

An array is called foreign if it is of another library than NumPy and dispatch is on.
"""

from copy import copy

import numpy as np
import torch
from sklearn import get_config

from .._compat.sklearn import HAS_ARRAY_API, array_api

__all__ = [
    "ArraysMixin",
    "as_double",
    "check_namespace",
    "float_dtypes",
    "foreign",
    "like",
    "on_host",
    "sides",
    "tensor_of",
    "unwrapped",
]


def foreign(X):
    """Return the namespace and the device of a foreign array.

    Returns
    -------
    tuple or None
        None for NumPy arrays, lists, data frames and sparse matrices, and for any array
        if dispatch is off.

    Raises
    ------
    ValueError
        If the array is a tensor that requires a gradient.
    """
    if not HAS_ARRAY_API or not get_config()["array_api_dispatch"]:
        return None
    xp, compliant, device = array_api.get_namespace_and_device(X)
    if not compliant or array_api._is_numpy_namespace(xp):
        return None
    _check_no_gradient(X)
    return xp, device


def _check_no_gradient(X):
    if getattr(X, "requires_grad", False):
        raise ValueError(
            "A tensor requires a gradient, but methods of estimators do not compute "
            "gradients: pass its detach(), or use the module returned by to_torch."
        )


def check_namespace(X, estimator, method):
    """Check that rows are of the library and on the device of the training rows.

    Raises
    ------
    ValueError
        If they are not, and dispatch is on.
    """
    if HAS_ARRAY_API and hasattr(estimator, "mean_"):
        array_api.check_same_namespace(X, estimator, attribute="mean_", method=method)


def float_dtypes(X, dtypes):
    """Return the accepted dtypes of rows; ``dtypes`` are those of NumPy arrays.

    For a foreign array they are float64, if its device supports it, and float32.
    """
    place = foreign(X)
    if place is None:
        return dtypes
    xp, _ = place
    supported = array_api.supported_float_dtypes(*place)
    return [dtype for dtype in supported if dtype in (xp.float64, xp.float32)]


def on_host(array):
    """Return a foreign array or a tensor as a NumPy array; others unchanged."""
    if isinstance(array, torch.Tensor):
        _check_no_gradient(array)
        if array.device.type == "meta":
            raise ValueError("A tensor on the device 'meta' has no values.")
        if array.dtype == torch.bfloat16:  # NumPy has no such dtype
            array = array.float()
        return array.cpu().numpy()
    if isinstance(array, np.ndarray) or foreign(array) is None:
        return array
    return array_api.move_to(array, xp=array_api.np_compat, device="cpu")


def unwrapped(X):
    """Return a tensor as a NumPy array where dispatch is off; others unchanged."""
    if isinstance(X, torch.Tensor) and foreign(X) is None:
        return on_host(X)
    return X


def tensor_of(X, device):
    """Return a foreign array as a tensor; arrays of other libraries on ``device``."""
    if isinstance(X, torch.Tensor):
        return X
    xp, _ = array_api.get_namespace(torch.empty(0))
    return array_api.move_to(X, xp=xp, device=device)


def like(array, X):
    """Return an array or a tensor in the library and on the device of ``X``.

    It is returned unchanged if ``X`` is not foreign.
    """
    place = foreign(X)
    if place is None:
        return array
    return array_api.move_to(array, xp=place[0], device=place[1])


def as_double(X):
    """Return an array in the highest precision that its device supports."""
    place = foreign(X)
    if place is None:
        return X.astype(np.float64)
    xp, device = place
    return xp.astype(X, array_api.supported_float_dtypes(xp, device)[0])


def sides(decision):
    """Return -1 where an array is negative and +1 elsewhere, as int64."""
    place = foreign(decision)
    if place is None:
        return np.where(decision < 0, -1, 1)
    xp, _ = place
    return 1 - 2 * xp.astype(decision < 0, xp.int64)


class ArraysMixin:
    """Conversion of the fitted arrays of an estimator to another library."""

    def __sklearn_array_api_convert__(self, converter):
        """Return a copy with converted arrays (a protocol of scikit-learn)."""
        converted = copy(self)
        for name, value in vars(self).items():
            if hasattr(value, "__dlpack__") and name != "feature_names_in_":
                setattr(converted, name, converter(value))
        return converted

    def _follow(self, X):
        """Move the fitted arrays to the library and the device of ``X``."""
        if foreign(X) is not None:
            for name, value in vars(self).items():
                if isinstance(value, np.ndarray):
                    vars(self)[name] = like(value, X)
