"""How files denote what JSON has no notation for: names, tags and limits.

An object of JSON has one key, its tag. These are for values of Python: ``tuple``,
``dict`` (keys are texts), ``items`` (they are not), ``set``, ``frozenset``, ``slice``
and ``float`` (not finite); ``floats``, ``ints`` and ``bools``, long lists as the number
of an array, and ``records``, long lists of dictionaries, by columns. For NumPy and
torch: ``array``, the number of an array or tensor; ``texts``, an array of objects or
texts; ``scalar``, ``dtype``, ``torch.dtype`` and ``torch.device``. ``object`` is the
number of an object, ``known`` the name of a function or type of the registry, and
``trusted`` one that the user gave.
"""

import inspect
import re

import numpy as np
import torch
from torch import nn

from .._archive import NUMPY, TORCH

__all__ = [
    "BIT_GENERATORS",
    "DATES",
    "DEVICE",
    "DTYPE",
    "EMPTY_MODULE",
    "GENERATORS",
    "LISTS",
    "MAX_DEPTH",
    "MAX_KEYS",
    "MAX_TEXTS",
    "NUMPY",
    "OF_NUMPY",
    "OF_TORCH",
    "PARTS",
    "SCALARS",
    "SCALAR_NAMES",
    "STORED",
    "TEXTS",
    "TORCH",
    "shadows",
]

# Nesting of lists, and of objects while they are saved.
MAX_DEPTH = 100
# Of dictionaries whose keys are no texts: their hashes may be made to collide.
MAX_KEYS = 10_000
# Bytes of all arrays of texts, which have as many per entry as the longest.
MAX_TEXTS = 2**26

OF_NUMPY = {dtype: name for name, dtype in NUMPY.items()}
OF_TORCH = {dtype: name for name, dtype in TORCH.items()}
DTYPE = re.compile(r"[<>|=]?[?biufcmMOSU][0-9]{0,6}(\[[0-9]*[a-zA-Z]+\])?")
# Dates are saved as integers.
DATES = re.compile(r"[Mm]8\[[0-9]*[a-zA-Z]+\]")
DEVICE = re.compile(r"(cpu|cuda|mps)(:[0-9]{1,3})?")
TEXTS = re.compile(r"O|U[0-9]{1,6}")
LISTS = {"float": float, "int": int, "bool": bool}
SCALARS = (np.bool_, np.integer, np.floating)
SCALAR_NAMES = {dtype.name for dtype in NUMPY.values()} | {"str"}

# Generators, whose state is not in attributes.
GENERATORS = {
    "numpy.random.RandomState": np.random.RandomState,
    "numpy.random.Generator": np.random.Generator,
}
BIT_GENERATORS = {
    cls.__name__: cls
    for cls in (
        np.random.MT19937,
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.Philox,
        np.random.SFC64,
    )
}

# Attributes that every module has. The first are saved; hooks must be empty.
STORED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
EMPTY_MODULE = vars(nn.Module())
# Attributes of modules that are not in their dictionary, with the types that they have.
PARTS = {
    "parameters": nn.Parameter,
    "buffers": torch.Tensor,
    "modules": nn.Module,
}


def shadows(cls, name):
    """Return whether an attribute would replace a method or property of a class."""
    return hasattr(inspect.getattr_static(cls, name, None), "__get__")
