"""From data to an estimator: what `encoding` made, checked as it is read.

No method of an object is called but `_after_loading`, of `Net`: objects are made
without their constructor, and get their attributes.
"""

import inspect
import math

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from .._model.portable import is_available
from ..exceptions import InvalidFileError
from .notation import (
    BIT_GENERATORS,
    DATES,
    DEVICE,
    DTYPE,
    EMPTY_MODULE,
    GENERATORS,
    LISTS,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_TEXTS,
    NUMPY,
    OF_TORCH,
    PARTS,
    SCALAR_NAMES,
    TEXTS,
    TORCH,
    shadows,
)
from .registry import known_objects, known_values, must_be_none

__all__ = ["Decoder"]


class Decoder:
    """Builds the objects of a file.

    Parameters
    ----------
    schema : dict
        With the layouts, objects and arrays of an `Encoder`.
    trusted : dict
        Objects and classes by name.

    Raises
    ------
    InvalidFileError
        If the schema does not describe arrays.
    """

    def __init__(self, schema, trusted):
        self._schema = schema
        self._trusted = trusted
        self._known = known_values()
        self.table = [self._checked_entry(entry) for entry in _listed(schema["arrays"])]
        self._arrays = [None] * len(self.table)
        self._objects = []
        self._text_bytes = 0

    # Arrays

    def _checked_entry(self, entry):
        kind, dtype, shape, *others = _listed(entry)
        others = others[0] if others else {}
        _require(kind in ("array", "tensor", "parameter"), "kind of array")
        _require(dtype in (NUMPY if kind == "array" else TORCH), "dtype")
        _require(type(others) is dict, "array")
        _require(len(_listed(shape)) <= 32, "shape")
        for length in shape:
            _require(type(length) is int and 0 <= length < 2**48, "shape")
        _require(math.prod(shape) < 2**48, "shape")
        order = others.get("order", list(range(len(shape))))
        _require(sorted(_listed(order)) == list(range(len(shape))), "order of axes")
        _require(type(others.get("grad", True)) is bool, "gradient")
        _require(DEVICE.fullmatch(others.get("device", "cpu")), "device")
        if "dates" in others:
            _require(DATES.fullmatch(others["dates"]) and dtype == "I64", "dates")
        return kind, dtype, shape, others

    def allocate(self, number):
        """Return memory for the bytes of an array."""
        kind, dtype, shape, _ = self.table[number]
        if kind == "array":
            array = self._arrays[number] = np.empty(shape, NUMPY[dtype])
        else:
            tensor = torch.empty(shape, dtype=TORCH[dtype], device="cpu")
            self._arrays[number] = tensor
            array = tensor.reshape(-1).view(torch.uint8).numpy()
        return memoryview(array.reshape(-1).view(np.uint8))

    def finish(self, number, memory):
        """Check the bytes of an array, and make it what it was."""
        kind, dtype, _, others = self.table[number]
        if dtype == "BOOL" and len(memory):
            _require(np.asarray(memory).max() <= 1, "truth value")
        values = self._arrays[number]
        order = others.get("order")
        if kind == "array":
            if order is not None:
                values = values.transpose(np.argsort(order))
            if "dates" in others:
                values = values.view(others["dates"])
            self._arrays[number] = values
            return
        if order is not None:
            values = values.permute(*np.argsort(order).tolist())
        device = torch.device(others.get("device", "cpu"))
        if is_available(device):
            values = values.to(device)
        grad = others.get("grad", kind == "parameter")
        _require(not grad or values.is_floating_point(), "gradient")
        if kind == "parameter":
            values = nn.Parameter(values, requires_grad=grad)
        elif grad:
            values.requires_grad_()
        self._arrays[number] = values

    # Objects

    def root(self):
        """Return the last object, the estimator."""
        layouts = _listed(self._schema["layouts"])
        layouts = [self._checked_layout(layout) for layout in layouts]
        for row in _listed(self._schema["objects"]):
            number, *values = _listed(row)
            cls, layout, names = layouts[_index(number, layouts)]
            _require(len(values) == len(names), "number of attributes")
            values = [self._value(value, 0) for value in values]
            self._objects.append(_built(cls, layout, names, values))
        _require(self._objects, "list of objects")
        return self._objects[-1]

    def _checked_layout(self, layout):
        _require(type(layout) is dict and type(layout.get("class")) is str, "layout")
        name = layout["class"]
        known_keys = {"class", "fields", "items", "transient", *PARTS}
        _require(set(layout) <= known_keys, "layout")
        names = []
        for key in ("fields", *PARTS):
            for field in _listed(layout.get(key, [])):
                _require(type(field) is str, "name of an attribute")
                names.append((key, field))
        _require(len(set(names)) == len(names), "names of attributes")
        if layout.get("items"):
            names.append(("items", "items"))
        buffers = _listed(layout.get("buffers", []))
        transient = _listed(layout.get("transient", []))
        _require(all(buffer in buffers for buffer in transient), "buffers")
        if name in GENERATORS:
            cls = GENERATORS[name]
            _require(names == [("fields", "state")], "state of a generator")
            return cls, layout, names
        known = known_objects()
        if name.startswith("trusted:"):
            cls = self._trusted[name.removeprefix("trusted:")]
            _require(isinstance(cls, type), "trusted class")
        else:
            if name not in known:
                raise InvalidFileError(
                    f"The file names {name!r}, which is no class that files may have."
                )
            cls = known[name]
        for key, field in names:
            _check_field(cls, key, field)
        return cls, layout, names

    def _value(self, value, depth):
        if value is None or type(value) in (bool, int, float, str):
            return value
        _require(depth < MAX_DEPTH, "depth")
        depth += 1
        if type(value) is list:
            return self._all(value, depth)
        _require(type(value) is dict and len(value) == 1, "value")
        ((tag, content),) = value.items()
        match tag:
            case "object":
                return self._objects[_index(content, self._objects)]
            case "array":
                return self._arrays[_index(content, self._arrays)]
            case "dict":
                _require(type(content) is dict, "dictionary")
                return {k: self._value(v, depth) for k, v in content.items()}
            case "items":
                return self._items(content, depth)
            case "tuple":
                return tuple(self._all(content, depth))
            case "set" | "frozenset":
                items = self._all(content, depth)
                _require(len(items) <= MAX_KEYS, "set")
                return {"set": set, "frozenset": frozenset}[tag](items)
            case "slice":
                _require(len(_listed(content)) == 3, "slice")
                return slice(*self._all(content, depth))
            case "floats" | "ints" | "bools":
                array = self._arrays[_index(content, self._arrays)]
                _require(isinstance(array, np.ndarray) and array.ndim == 1, "numbers")
                values = array.tolist()
                kind = LISTS[tag[:-1]]
                _require(not values or type(values[0]) is kind, "numbers")
                return values
            case "records":
                return self._records(content, depth)
            case "texts":
                return self._texts(content, depth)
            case "float":
                _require(content in ("nan", "inf", "-inf"), "number")
                return float(content)
            case "scalar":
                name, number = self._all(content, depth)
                plain = str if name == "str" else (bool, int, float)
                _require(name in SCALAR_NAMES and isinstance(number, plain), "scalar")
                return np.dtype(name).type(number)
            case "dtype":
                _require(DTYPE.fullmatch(content), "dtype")
                return np.dtype(content)
            case "torch.dtype":
                dtypes = {str(d).removeprefix("torch."): d for d in OF_TORCH}
                return dtypes[content]
            case "torch.device":
                _require(DEVICE.fullmatch(content), "device")
                return torch.device(content)
            case "trusted":
                return self._trusted[content]
            case "known":
                if content not in self._known:
                    raise InvalidFileError(
                        f"The file names {content!r}, which no file may have."
                    )
                return self._known[content]
        raise InvalidFileError(f"The file has a value of an unknown kind, {tag!r}.")

    def _all(self, values, depth):
        return [self._value(value, depth) for value in _listed(values)]

    def _items(self, pairs, depth):
        _require(len(_listed(pairs)) <= MAX_KEYS, "dictionary")
        items = [self._all(pair, depth) for pair in pairs]
        _require(all(len(item) == 2 for item in items), "dictionary")
        return dict(items)

    def _records(self, columns, depth):
        _require(type(columns) is dict and columns, "table")
        values = [self._value(column, depth) for column in columns.values()]
        _require(all(type(column) is list for column in values), "table")
        return [
            dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)
        ]

    def _texts(self, content, depth):
        dtype, shape, values = _listed(content)
        _require(type(dtype) is str and TEXTS.fullmatch(dtype), "dtype of texts")
        values = self._all(values, depth)
        for length in _listed(shape):
            _require(type(length) is int and length >= 0, "shape of texts")
        _require(math.prod(shape) == len(values), "shape of texts")
        if dtype != "O":
            _require(all(type(value) is str for value in values), "texts")
        self._text_bytes += np.dtype(dtype).itemsize * len(values)
        _require(self._text_bytes <= MAX_TEXTS, "size of texts")
        array = np.empty(len(values), dtype)
        for number, value in enumerate(values):
            array[number] = value
        return array.reshape(shape)


def _require(condition, what):
    if not condition:
        raise InvalidFileError(f"The file is invalid: wrong {what}.")


def _listed(values):
    _require(type(values) is list, "list")
    return values


def _index(number, of):
    """Return a number, checked to be that of an entry."""
    _require(type(number) is int and 0 <= number < len(of), "reference")
    return number


def _check_field(cls, key, name):
    """Check that an attribute may be set in instances of a class."""
    if key in PARTS:
        _require(issubclass(cls, nn.Module), "module")
        # Lists of modules have numbers as names.
        _require(name not in EMPTY_MODULE and "." not in name and name, "attribute")
        return
    if key == "items":
        _require(issubclass(cls, list), "list")
        return
    _require(name.isidentifier() and not name.startswith("__"), "attribute")
    if issubclass(cls, nn.Module):
        _require(name == "training" or name not in EMPTY_MODULE, "attribute")


def _built(cls, layout, names, values):
    """Return an object with attributes; neither is it called nor is its class."""
    name = layout["class"]
    if name in GENERATORS:
        return _generator(cls, *values)
    fields = {
        n: v for (key, n), v in zip(names, values, strict=True) if key == "fields"
    }
    if issubclass(cls, tuple):
        _require(tuple(fields) == getattr(cls, "_fields", None), "tuple")
        return tuple.__new__(cls, fields.values())
    for field, value in fields.items():
        _require(value is None or not shadows(cls, field), "attribute")
    for field in must_be_none(name):
        _require(fields.get(field) is None, field)
    obj = cls.__new__(cls)
    if issubclass(cls, nn.Module):
        nn.Module.__init__(obj)
        _fill(obj, layout, names, values)
    vars(obj).update(fields)
    if issubclass(cls, BaseEstimator):
        # Parameters that were added since have their defaults.
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.default is not parameter.empty:
                vars(obj).setdefault(parameter.name, parameter.default)
    if issubclass(cls, list):
        (items,) = (
            v for (key, _), v in zip(names, values, strict=True) if key == "items"
        )
        list.extend(obj, items)
    if hasattr(cls, "_after_loading"):
        obj._after_loading()
    return obj


def _fill(module, layout, names, values):
    """Set parameters, buffers and children of a module."""
    stores = {key: vars(module)[f"_{key}"] for key in PARTS}
    for (key, name), value in zip(names, values, strict=True):
        if key in stores:
            _require(value is None or isinstance(value, PARTS[key]), key)
            stores[key][name] = value
    module._non_persistent_buffers_set.update(layout.get("transient", ()))


def _generator(cls, state):
    """Return a generator of random numbers in a state."""
    _require(type(state) is dict, "state of a generator")
    kind = BIT_GENERATORS.get(state.get("bit_generator"))
    _require(kind is not None, "generator")
    if cls is np.random.RandomState:
        _require(kind is np.random.MT19937, "generator")
        generator = np.random.RandomState(0)
        generator.set_state(state)
        return generator
    bits = kind(0)
    bits.state = state
    return np.random.Generator(bits)
