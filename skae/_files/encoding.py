"""From an estimator to data: a schema and arrays.

An object is a class of the `registry` and its attributes, one by one. Objects are in
one list, each after those that it refers to, so that nothing refers to itself, and
what occurs twice is saved once. Names of class and attributes are in a second list, the
layouts, which all objects of one kind share.
"""

import math

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..exceptions import UntrustedObjectError
from .notation import (
    EMPTY_MODULE,
    GENERATORS,
    LISTS,
    MAX_DEPTH,
    MAX_TEXTS,
    OF_NUMPY,
    OF_TORCH,
    PARTS,
    SCALARS,
    STORED,
    shadows,
)
from .registry import known_objects, known_values, must_be_none

__all__ = ["Encoder"]

# Modules whose objects are values, as categories may be, and not made of attributes.
_OF_VALUES = ("datetime", "decimal", "fractions", "pandas", "uuid")
# Lists of as many numbers are saved as an array, and of dictionaries by columns.
_LONG = 16


def _full_name(obj):
    kind = obj if isinstance(obj, type) or hasattr(obj, "__qualname__") else type(obj)
    return f"{kind.__module__}.{kind.__qualname__}"


class Encoder:
    """Collects what a file holds of an estimator.

    Parameters
    ----------
    trusted : dict
        Objects and classes that the reader of the file has, too, by name.

    Attributes
    ----------
    layouts : list of dict
        Class and names of attributes.
    objects : list of list
        The number of a layout, and the values of the attributes.
    arrays : list of list
        What `Decoder` needs to know of each array.
    buffers : list of ndarray of uint8
        Their bytes.
    used : set of str
        The names in ``trusted`` that the estimator needs.
    """

    def __init__(self, trusted):
        self.layouts, self.objects = [], []
        self.arrays, self.buffers = [], []
        self.used = set()
        self._trusted = {id(obj): name for name, obj in trusted.items()}
        self._registered = {cls: name for name, cls in known_objects().items()}
        # Functions may be equal without being hashable, types may not: by identity.
        self._values = {id(value): name for name, value in known_values().items()}
        self._numbers = {}
        self._text_bytes = 0
        self._references = {}
        self._kept = []
        self._path = []

    def root(self, estimator):
        """Encode an estimator; it is the last object."""
        self._path.append(type(estimator).__name__)
        return self._value(estimator)

    def _refuse(self, what, remedy):
        path = ".".join(self._path)
        raise UntrustedObjectError(f"A file cannot hold {path}: {what}. {remedy}")

    def _at(self, name, value):
        """Encode an attribute or item."""
        if len(self._path) > MAX_DEPTH:
            self._refuse("it is nested too deeply, or in itself", "Make it flatter.")
        self._path.append(str(name))
        encoded = self._value(value)
        self._path.pop()
        return encoded

    def _all(self, values):
        return [self._at(number, value) for number, value in enumerate(values)]

    def _value(self, value):
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if id(value) in self._trusted:
            name = self._trusted[id(value)]
            self.used.add(name)
            return {"trusted": name}
        if id(value) in self._references:
            return self._references[id(value)]
        if kind is list:
            return self._list(value)
        if kind is tuple or kind is torch.Size:
            return {"tuple": self._all(value)}
        if kind is dict:
            return self._dict(value)
        if kind in (set, frozenset):
            tag = kind.__name__
            return {tag: [self._at("item", v) for v in sorted(value, key=repr)]}
        if kind is slice:
            return {"slice": self._all((value.start, value.stop, value.step))}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if isinstance(value, np.str_):
            return {"scalar": ["str", str(value)]}
        if isinstance(value, SCALARS) and value.dtype in OF_NUMPY:
            return {"scalar": [value.dtype.name, self._value(value.item())]}
        if isinstance(value, torch.dtype):
            return {"torch.dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"torch.device": str(value)}
        if id(value) in self._values:
            return {"known": self._values[id(value)]}
        if kind in (np.ndarray, np.memmap):
            reference = self._array(value)
        elif kind in (torch.Tensor, nn.Parameter):
            reference = self._tensor(value)
        else:
            reference = {"object": self._object(value)}
        # Two objects must not have one id: none is freed.
        self._kept.append(value)
        self._references[id(value)] = reference
        return reference

    def _list(self, values):
        kinds = set(map(type, values))
        if len(values) >= _LONG and len(kinds) == 1:
            (kind,) = kinds
            if kind in LISTS.values() and not (
                kind is int and max(map(abs, values)) >= 2**63
            ):
                array = np.array(values, dtype={int: np.int64}.get(kind, kind))
                return {kind.__name__ + "s": self._array(array)["array"]}
            keys = list(values[0]) if kind is dict else []
            if (
                keys
                and all(type(key) is str for key in keys)
                and all(list(value) == keys for value in values)
            ):
                columns = {key: [value[key] for value in values] for key in keys}
                return {
                    "records": {key: self._at(key, columns[key]) for key in keys},
                }
        return self._all(values)

    def _dict(self, values):
        if all(type(key) is str for key in values):
            return {"dict": {key: self._at(key, v) for key, v in values.items()}}
        return {
            "items": [
                [self._at(key, key), self._at(key, v)] for key, v in values.items()
            ]
        }

    # Arrays

    def _store(self, kind, dtype, shape, data, **others):
        """Keep the bytes of an array; return the reference to it."""
        entry = [kind, dtype, list(shape)]
        self.arrays.append([*entry, others] if others else entry)
        self.buffers.append(data)
        return {"array": len(self.arrays) - 1}

    def _array(self, array):
        others, values = {}, np.asarray(array)
        if values.dtype.kind in "OU":
            dtype = values.dtype.str.lstrip("<>|=")
            self._text_bytes += values.nbytes
            if self._text_bytes > MAX_TEXTS:
                self._refuse("it has texts of more than 64 MiB", "Shorten them.")
            texts = self._all(values.ravel().tolist())
            return {"texts": [dtype, list(values.shape), texts]}
        if values.dtype.kind in "Mm":
            others["dates"] = values.dtype.newbyteorder("=").str.lstrip("<>|=")
            values = values.astype(values.dtype.newbyteorder("=")).view(np.int64)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype not in OF_NUMPY:
            self._refuse(f"it has the dtype {array.dtype}", "Use numbers or texts.")
        order = _order(values.shape, values.strides)
        values = values.transpose(order)
        if values.flags.c_contiguous and order != sorted(order):
            others["order"] = order
        else:
            values = values.transpose(np.argsort(order))
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        dtype = OF_NUMPY[values.dtype]
        return self._store("array", dtype, values.shape, data, **others)

    def _tensor(self, tensor):
        if tensor.layout != torch.strided or tensor.dtype not in OF_TORCH:
            self._refuse(
                f"it is a tensor of {tensor.dtype}, {tensor.layout}",
                "Use a dense one of real numbers.",
            )
        others = {}
        kind = "parameter" if type(tensor) is nn.Parameter else "tensor"
        if tensor.requires_grad != (kind == "parameter"):
            others["grad"] = tensor.requires_grad
        if tensor.device.type != "cpu":
            others["device"] = str(tensor.device)
        values = tensor.detach()
        order = _order(values.shape, values.stride())
        if order != sorted(order) and values.permute(order).is_contiguous():
            values = values.permute(order)
            others["order"] = order
        data = values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        dtype = OF_TORCH[tensor.dtype]
        return self._store(kind, dtype, values.shape, data, **others)

    # Objects

    def _object(self, obj):
        """Append an object to the list, and return its number."""
        cls = type(obj)
        for name, generator in GENERATORS.items():
            if cls is generator:
                state = (
                    obj.get_state(legacy=False)
                    if cls is np.random.RandomState
                    else obj.bit_generator.state
                )
                return self._row({"class": name, "fields": ["state"]}, [state])
        layout = {"class": self._class_name(obj)}
        fields = dict(vars(obj)) if hasattr(obj, "__dict__") else {}
        if isinstance(obj, tuple):
            fields = obj._asdict()
        for name in getattr(cls, "_transient", ()):
            fields.pop(name, None)
        for name in must_be_none(layout["class"]):
            if fields.get(name) is not None:
                self._path.append(name)
                self._refuse(f"it is {fields[name]!r}", "Set it to None.")
        parts, transient = {}, []
        if isinstance(obj, nn.Module):
            parts, transient = self._parts(fields)
        for name in () if isinstance(obj, tuple) else fields:
            if fields[name] is not None and shadows(cls, name):
                self._refuse(
                    f"its method {name!r} was replaced in the instance",
                    "Write a class instead.",
                )
        layout["fields"] = list(fields)
        values = list(fields.values())
        for key, entries in parts.items():
            if entries:
                layout[key] = list(entries)
                values += entries.values()
        if transient:
            layout["transient"] = transient
        if isinstance(obj, list):
            layout["items"] = True
            values.append(list(obj))
        return self._row(layout, values)

    def _row(self, layout, values):
        names = [
            *(name for key in ("fields", *PARTS) for name in layout.get(key, ())),
            *(["items"] if layout.get("items") else []),
        ]
        row = [self._at(n, v) for n, v in zip(names, values, strict=True)]
        key = repr(layout)
        if key not in self._numbers:
            self._numbers[key] = len(self.layouts)
            self.layouts.append(layout)
        self.objects.append([self._numbers[key], *row])
        return len(self.objects) - 1

    def _class_name(self, obj):
        cls = type(obj)
        if id(cls) in self._trusted:
            name = self._trusted[id(cls)]
            self.used.add(name)
            return f"trusted:{name}"
        if cls in self._registered:
            return self._registered[cls]
        name = _full_name(obj)
        short = name.rpartition(".")[2].strip("<>")
        what = f"it is {name}"
        if hasattr(obj, "best_estimator_"):
            self._refuse(what, "Save its best_estimator_.")
        if name == _full_name(cls):
            what = f"it is an instance of {name}"
        if hasattr(obj, "iloc"):
            self._refuse(what, "Use an array instead, such as its to_numpy().")
        if name.partition(".")[0] in _OF_VALUES:
            self._refuse(what, "Use numbers or texts instead.")
        first = "Give"
        if name.startswith("sklearn.") and isinstance(obj, BaseEstimator):
            first = (
                "Save the steps before it, such as pipeline[:-1], and it with joblib. "
                "Or give"
            )
        self._refuse(
            f"{what}, which is not among the known classes and functions",
            f"{first} it a name, in save(..., trusted={{{short!r}: {short}}}) and, so "
            "that the file can be read, in load(..., trusted=...) with the same name; "
            "or use pickle.",
        )

    def _parts(self, fields):
        """Return and remove parameters, buffers and children, and names of buffers.

        The names are of those that are not persistent.
        """
        hooks = [
            name
            for name, empty in EMPTY_MODULE.items()
            if name not in (*STORED, "training") and fields.pop(name, empty) != empty
        ]
        if hooks:
            self._refuse(f"it has hooks ({hooks[0]})", "Remove them.")
        stored = {name: fields.pop(name) for name in STORED}
        parts = {key: stored[f"_{key}"] for key in PARTS}
        return parts, sorted(stored["_non_persistent_buffers_set"])


def _order(shape, strides):
    """Return the axes from the longest stride to the shortest."""
    return sorted(range(len(shape)), key=lambda axis: -strides[axis])
