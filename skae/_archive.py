"""The container of a file: a stored zip archive of a schema and of arrays.

The archive has two members, in this order, and neither is compressed: ``schema.json``,
and ``arrays.safetensors`` in the format of the library safetensors (eight bytes with
the length of a header, the header in JSON, the bytes of the arrays one after another).
Any program that reads zip archives and safetensors can open it.

Everything that is neither the schema nor the bytes of arrays follows from sizes,
checksums and the table of arrays. So reading derives it once more and compares: there
is one archive for given contents, and nothing else to be interpreted. Names, paths,
compression, duplicates, overlaps and comments cannot be other than as written here.
"""

import hashlib
import json
import os
import secrets
import struct
import zlib
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
import torch

from .exceptions import InvalidFileError

__all__ = [
    "MAX_SCHEMA",
    "NUMPY",
    "TORCH",
    "digest",
    "read_arrays",
    "read_schema",
    "replacing",
    "write",
]

# Bytes of the schema, which is parsed as a whole.
MAX_SCHEMA = 2**24

# Dtypes by the names of safetensors.
NUMPY = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "U16": np.dtype("uint16"),
    "I16": np.dtype("int16"),
    "F16": np.dtype("float16"),
    "U32": np.dtype("uint32"),
    "I32": np.dtype("int32"),
    "F32": np.dtype("float32"),
    "U64": np.dtype("uint64"),
    "I64": np.dtype("int64"),
    "F64": np.dtype("float64"),
}
TORCH = {name: getattr(torch, dtype.name) for name, dtype in NUMPY.items()}
TORCH["BF16"] = torch.bfloat16

_NAMES = (b"schema.json", b"arrays.safetensors")
# Records of the zip format, with the fields that are the same in all files: version 4.5
# (sizes of 64 bits), no flags, stored, 1 January 1980. All sizes are in the extra field
# of 64 bits, even small ones, so that all archives have one shape.
_VERSION, _DATE, _MODE, _FULL = 45, 0x21, 0o100644 << 16, 0xFFFFFFFF
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4sHHHHIIH")
# Where sizes and checksum are in a record of the central directory.
_CRC_AT = 16
_CHUNK = 2**20


def _frame(sizes, checksums):
    """Return the header of each member, and what follows the last one."""
    headers, records, offset = [], [], 0
    for name, size, crc in zip(_NAMES, sizes, checksums, strict=True):
        extra = struct.pack("<HHQQ", 1, 16, size, size)
        header = _LOCAL.pack(
            b"PK\x03\x04",
            *(_VERSION, 0, 0, 0, _DATE, crc, _FULL, _FULL),
            *(len(name), len(extra)),
        )
        headers.append(header + name + extra)
        extra = struct.pack("<HHQQQ", 1, 24, size, size, offset)
        record = _CENTRAL.pack(
            b"PK\x01\x02",
            *(_VERSION | 3 << 8, _VERSION, 0, 0, 0, _DATE, crc, _FULL, _FULL),
            *(len(name), len(extra), 0, 0, 0, _MODE, _FULL),
        )
        records.append(record + name + extra)
        offset += len(headers[-1]) + size
    directory = b"".join(records)
    n, length, end = len(_NAMES), len(directory), offset + len(directory)
    tail = (
        directory
        + _END_64.pack(
            b"PK\x06\x06", 44, _VERSION, _VERSION, 0, 0, n, n, length, offset
        )
        + _LOCATOR.pack(b"PK\x06\x07", 0, end, 1)
        + _END.pack(b"PK\x05\x06", 0, 0, n, n, _FULL, _FULL, 0)
    )
    return headers, tail


def _arrays_header(table):
    """Return the first bytes of the member of arrays, and the length of the others.

    Parameters
    ----------
    table : list of (str, list of int)
        Dtype and shape of each array.
    """
    entries, offset = {}, 0
    for number, (dtype, shape) in enumerate(table):
        end = offset + TORCH[dtype].itemsize * prod(shape)
        entries[str(number)] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header, offset


def digest(table, buffers):
    """Return the SHA-256 digest of the member of arrays; see `write`."""
    first, _ = _arrays_header(table)
    found = hashlib.sha256(first)
    for buffer in buffers:
        found.update(buffer)
    return found.hexdigest()


def write(file, schema, table, buffers):
    """Write an archive.

    Parameters
    ----------
    file : binary file
    schema : bytes
    table : list of (str, list of int)
        Dtype and shape of each array.
    buffers : list of bytes-like
        The bytes of each array, little-endian, in C order.
    """
    first, length = _arrays_header(table)
    crc = zlib.crc32(first)
    for buffer in buffers:
        crc = zlib.crc32(buffer, crc)
    sizes = len(schema), len(first) + length
    headers, tail = _frame(sizes, (zlib.crc32(schema), crc))
    for part in (headers[0], schema, headers[1], first, *buffers, tail):
        file.write(part)


def read_schema(file):
    """Check the frame of an archive, and return its schema.

    Parameters
    ----------
    file : binary file
        It is left at the beginning of the arrays.

    Returns
    -------
    schema : bytes
    n_bytes : int
        Length of the member of arrays.
    crc : int
        Its checksum.

    Raises
    ------
    InvalidFileError
        If this is not an archive as `write` writes it.
    """
    headers, tail = _frame((0, 0), (0, 0))
    length = file.seek(0, 2)
    frame = sum(map(len, headers)) + len(tail)
    if length < frame:
        raise InvalidFileError("The file is not one of skae.save, or was cut short.")
    file.seek(length - len(tail))
    found = _exactly(file, len(tail))
    sizes, checksums, at = [], [], 0
    for name in _NAMES:
        (crc,) = struct.unpack_from("<I", found, at + _CRC_AT)
        at += _CENTRAL.size + len(name)
        (size,) = struct.unpack_from("<Q", found, at + 4)
        at += 28
        sizes.append(size)
        checksums.append(crc)
    if sum(sizes) + frame != length:
        raise InvalidFileError("The file is not one of skae.save, or was cut short.")
    if sizes[0] > MAX_SCHEMA:
        raise InvalidFileError(f"The schema has {sizes[0]} bytes, more than any file.")
    headers, tail = _frame(sizes, checksums)
    file.seek(0)
    same = _exactly(file, len(headers[0])) == headers[0]
    schema = _exactly(file, sizes[0])
    same = same and _exactly(file, len(headers[1])) == headers[1] and found == tail
    if not same or zlib.crc32(schema) != checksums[0]:
        raise InvalidFileError("The file is damaged, or was not written by skae.save.")
    return schema, sizes[1], checksums[1]


def read_arrays(file, n_bytes, crc, sha256, table, allocate):
    """Read arrays, each into memory that is allocated for it.

    Parameters
    ----------
    file : binary file
        At the beginning of the arrays.
    n_bytes, crc : int
        As `read_schema` returned them.
    sha256 : str or None
        As `digest` returned it. With None the checksum has to do.
    table : list of (str, list of int)
        Dtype and shape of each array.
    allocate : callable
        From the number of an array to a writable memoryview of bytes.

    Yields
    ------
    memoryview
        The bytes of each array.

    Raises
    ------
    InvalidFileError
        If the arrays are not those of the table, or are damaged.
    """
    first, length = _arrays_header(table)
    if n_bytes != len(first) + length or _exactly(file, len(first)) != first:
        raise InvalidFileError("The arrays of the file are not those of its schema.")
    found = zlib.crc32(first)
    sha = None if sha256 is None else hashlib.sha256(first)
    for number in range(len(table)):
        memory = allocate(number)
        _read_into(file, memory)
        found = zlib.crc32(memory, found)
        if sha is not None:
            sha.update(memory)
        yield memory
    if found != crc or (sha is not None and sha.hexdigest() != sha256):
        raise InvalidFileError("The arrays of the file are damaged.")


def _exactly(file, n_bytes):
    data = file.read(n_bytes)
    if len(data) != n_bytes:
        raise InvalidFileError("The file ended while it was read.")
    return data


def _read_into(file, memory):
    at = 0
    while at < len(memory):
        n_read = file.readinto(memory[at : at + _CHUNK])
        if not n_read:
            raise InvalidFileError("The file ended while it was read.")
        at += n_read


@contextmanager
def replacing(path):
    """Open a file that takes the place of another one once it is written.

    What is written when the program is killed stays, beside the other file: its name is
    that of the other one between a point and sixteen letters.

    Parameters
    ----------
    path : path-like
    """
    path = Path(os.path.realpath(path))
    # Made anew, with the rights that any new file gets.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
