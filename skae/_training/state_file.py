"""Files of the state of a training: numbers, texts, arrays, and lists of them.

A file is an archive as that of `skae.save`, without pickle: the state in JSON, and the
arrays that it refers to by their numbers.
"""

import json
import math

import numpy as np
import torch

from .. import _archive as archive
from ..exceptions import InvalidFileError

__all__ = ["holds", "read_state", "write_state"]

_OF_NUMPY = {dtype: name for name, dtype in archive.NUMPY.items()}
_OF_TORCH = {dtype: name for name, dtype in archive.TORCH.items()}
# Lists of as many numbers are arrays.
_LONG = 16


def write_state(path, state):
    """Write a state to a file, which is whole at any time.

    Parameters
    ----------
    path : path-like
    state : dict
        Of None, bool, int, float, str, arrays, tensors, and lists, tuples and
        dictionaries of these.

    Raises
    ------
    TypeError
        If there is something else; the message says where.
    """
    writer = _Writer()
    # Without a digest, which takes as long as all else: a checksum finds damage.
    schema = {"state": writer.encoded(state), "arrays": writer.table}
    text = json.dumps(schema, allow_nan=False, separators=(",", ":")).encode()
    with archive.replacing(path) as file:
        table = [entry[1:] for entry in writer.table]
        archive.write(file, text, table, writer.buffers)


def holds(value):
    """Return whether a state may have a value."""
    try:
        _Writer().encoded(value)
    except TypeError:
        return False
    return True


def read_state(path):
    """Read a state.

    Raises
    ------
    InvalidFileError
        If the file is damaged, or was not written by `write_state`.
    """
    with open(path, "rb") as file:
        text, n_bytes, crc = archive.read_schema(file)
        try:
            schema = json.loads(text)
            reader = _Reader(schema["arrays"])
            table = [entry[1:] for entry in reader.table]
            for _ in archive.read_arrays(
                file, n_bytes, crc, None, table, reader.allocate
            ):
                pass
            return reader.decoded(schema["state"])
        except (InvalidFileError, OSError):
            raise
        except Exception as error:
            raise InvalidFileError(f"The file is damaged: {error}") from error


class _Writer:
    """Collects the arrays of a state."""

    def __init__(self):
        self.table, self.buffers = [], []

    def encoded(self, value, path="state"):
        """Return what JSON has for a value: objects of one key are not dictionaries."""
        if isinstance(value, np.generic):
            value = value.item()
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return self._list(value, path)
        if kind is tuple:
            return {"tuple": self._all(value, path)}
        if isinstance(value, dict):
            keys, values = self._all(value, path), list(value.values())
            named = [self.encoded(v, f"{path}.{k}") for k, v in value.items()]
            return {"dict": [keys, named]} if values else {"dict": [[], []]}
        if kind is np.ndarray and value.dtype in _OF_NUMPY:
            data = np.ascontiguousarray(value)
            name = _OF_NUMPY[value.dtype]
        elif isinstance(value, torch.Tensor) and value.dtype in _OF_TORCH:
            data = value.detach().cpu().contiguous()
            name = _OF_TORCH[value.dtype]
            data = data.reshape(-1).view(torch.uint8).numpy()
            kind = torch.Tensor
        else:
            raise TypeError(
                f"A checkpoint cannot hold {path}: it is an instance of "
                f"{kind.__qualname__}, and no number, text or array."
            )
        kind = "tensor" if kind is torch.Tensor else "array"
        self.table.append([kind, name, list(value.shape)])
        self.buffers.append(data.reshape(-1).view(np.uint8))
        return {kind: len(self.table) - 1}

    def _all(self, values, path):
        return [self.encoded(v, f"{path}[{n}]") for n, v in enumerate(values)]

    def _list(self, values, path):
        if len(values) >= _LONG:
            if set(map(type, values)) == {float}:
                return {"floats": self.encoded(np.array(values), path)["array"]}
            keys = list(values[0]) if type(values[0]) is dict else []
            if keys and all(
                type(value) is dict and list(value) == keys for value in values
            ):
                columns = [
                    self.encoded([value[key] for value in values], f"{path}.{key}")
                    for key in keys
                ]
                return {"records": [self._all(keys, path), columns]}
        return self._all(values, path)


class _Reader:
    """Allocates the arrays of a state, and refers to them.

    Parameters
    ----------
    table : list of [str, str, list of int]
        Kind, dtype and shape of each array.
    """

    def __init__(self, table):
        for _, name, shape in table:
            fits = name in archive.TORCH and all(
                type(length) is int and 0 <= length < 2**48 for length in shape
            )
            if not fits or math.prod(shape) >= 2**48:
                raise InvalidFileError("The file has an array of an unknown kind.")
        self.table = table
        self._arrays = [None] * len(table)

    def allocate(self, number):
        """Return memory for the bytes of an array."""
        kind, name, shape = self.table[number]
        if kind == "array":
            array = self._arrays[number] = np.empty(shape, archive.NUMPY[name])
            return memoryview(array.reshape(-1).view(np.uint8))
        tensor = torch.empty(shape, dtype=archive.TORCH[name], device="cpu")
        self._arrays[number] = tensor
        return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())

    def decoded(self, value):
        """Return the value that JSON stands for."""
        if type(value) is list:
            return [self.decoded(v) for v in value]
        if type(value) is not dict:
            return value
        ((tag, content),) = value.items()
        match tag:
            case "float":
                return float(content)
            case "tuple":
                return tuple(self.decoded(content))
            case "dict":
                return dict(zip(*self.decoded(content), strict=True))
            case "array" | "tensor":
                return self._arrays[content]
            case "floats":
                return self._arrays[content].tolist()
            case "records":
                keys, columns = self.decoded(content)
                rows = zip(*columns, strict=True)
                return [dict(zip(keys, row, strict=True)) for row in rows]
        raise InvalidFileError(f"The file has a value of an unknown kind, {tag!r}.")
