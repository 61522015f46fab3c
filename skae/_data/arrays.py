"""Arrays of other libraries than NumPy, by scikit-learn's array API dispatch.

What is fitted follows the rows that it was fitted to, as in scikit-learn; the model
itself is PyTorch's, and goes where rows come from.
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
]


def foreign(X):
    """Return namespace and device of an array of another library, None for NumPy's.

    None, too, where dispatch is off, and for lists, data frames and sparse matrices.
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
            "A tensor requires a gradient, and the methods of estimators give none: "
            "pass what its detach() returns, or rows to the module of to_torch."
        )


def check_namespace(X, estimator, method):
    """Check that rows come from the library and the device of those of `fit`.

    Raises
    ------
    ValueError
        If they do not, and dispatch is on.
    """
    if HAS_ARRAY_API and hasattr(estimator, "mean_"):
        array_api.check_same_namespace(X, estimator, attribute="mean_", method=method)


def float_dtypes(X, dtypes):
    """Return the floating types that rows may have; those of NumPy are given."""
    place = foreign(X)
    if place is None:
        return dtypes
    xp, _ = place
    supported = array_api.supported_float_dtypes(*place)
    return [dtype for dtype in supported if dtype in (xp.float64, xp.float32)]


def on_host(array):
    """Return a foreign array, or a tensor on any device, as NumPy's; others as is."""
    if isinstance(array, torch.Tensor):
        _check_no_gradient(array)
        if array.dtype == torch.bfloat16:  # which NumPy does not have
            array = array.float()
        return array.cpu().numpy()
    if isinstance(array, np.ndarray) or foreign(array) is None:
        return array
    return array_api.move_to(array, xp=array_api.np_compat, device="cpu")


def tensor_of(X, device):
    """Return a foreign array as a tensor: where it is, if PyTorch can get there."""
    if isinstance(X, torch.Tensor):
        return X
    xp, _ = array_api.get_namespace(torch.empty(0))
    return array_api.move_to(X, xp=xp, device=device)


def like(array, X):
    """Return an array or a tensor in the library and on the device of a foreign one."""
    place = foreign(X)
    if place is None:
        return array
    return array_api.move_to(array, xp=place[0], device=place[1])


def as_double(X):
    """Return an array in the highest precision that its device has."""
    place = foreign(X)
    if place is None:
        return X.astype(np.float64)
    xp, device = place
    return xp.astype(X, array_api.supported_float_dtypes(xp, device)[0])


def sides(decision):
    """Return -1 where an array is negative and +1 elsewhere."""
    place = foreign(decision)
    if place is None:
        return np.where(decision < 0, -1, 1)
    xp, _ = place
    return 1 - 2 * xp.astype(decision < 0, xp.int64)


class ArraysMixin:
    """What lets the fitted arrays of an estimator be those of another library."""

    def __sklearn_array_api_convert__(self, converter):
        """Return a copy with converted arrays; scikit-learn's protocol."""
        converted = copy(self)
        for name, value in vars(self).items():
            if hasattr(value, "__dlpack__") and name != "feature_names_in_":
                setattr(converted, name, converter(value))
        return converted

    def _follow(self, X):
        """Bring the fitted arrays to where rows are."""
        if foreign(X) is not None:
            for name, value in vars(self).items():
                if isinstance(value, np.ndarray):
                    vars(self)[name] = like(value, X)
