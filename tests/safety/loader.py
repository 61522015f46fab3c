"""Corruptions of a saved file, and what `skae.load` makes of them.

A small estimator is saved. Its file is then changed in every way below, and loaded.
Anything but an `InvalidFileError`, `NewerFormatError` or `UntrustedObjectError` is
counted as foreign; an estimator that comes out nevertheless, and answers otherwise than
the saved one, as changed. The time and the memory of each load are measured.

In "schemas" sizes and checksums are right again: such a file is not damaged but made
by somebody, and may well be another estimator, with another answer.

    python tests/safety/loader.py [--seed 0]
"""

import argparse
import io
import json
import struct
import time
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
from sklearn.datasets import load_iris

import skae
from skae import _archive as archive
from skae.architectures import MLP
from skae.exceptions import InvalidFileError, UntrustedObjectError

X = load_iris().data
# What a load may take: seconds of the processor, and memory as a multiple of the file
# and, as the documentation promises, for what is not an array.
MAX_SECONDS, MAX_MEMORY, SCHEMA = 1.0, 10, 200 * 2**20


def saved():
    """Return the bytes of a small file, and what the estimator answers."""
    model = skae.AutoencoderTransformer(
        1, architecture=MLP(()), max_epochs=1, early_stopping=False, random_state=0
    ).fit(X[:20])
    file = io.BytesIO()
    skae.save(model, file)
    return file.getvalue(), model.transform(X)


def container(schema, arrays):
    """Return an archive with right sizes and checksums of any members."""
    sizes = len(schema), len(arrays)
    headers, tail = archive._frame(sizes, (zlib.crc32(schema), zlib.crc32(arrays)))
    return b"".join([headers[0], schema, headers[1], arrays, tail])


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archived:
        return [archived.read(name) for name in archived.namelist()]


def flips(data, rng):
    """Every byte, one bit each."""
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def truncations(data, rng):
    """Every length, at most 4,000 of them."""
    for length in np.unique(np.linspace(0, len(data) - 1, 4000).astype(int)):
        yield data[:length]


def blocks(data, rng):
    """Blocks removed, doubled, moved, zeroed, and replaced by noise."""
    for _ in range(1500):
        a, b = sorted(rng.integers(len(data), size=2))
        c = int(rng.integers(len(data)))
        yield data[:a] + data[b:]
        yield data[:b] + data[a:]
        yield data[:a] + bytes(b - a) + data[b:]
        yield data[:a] + rng.bytes(b - a) + data[b:]
        rest = data[:a] + data[b:]
        yield rest[:c] + data[a:b] + rest[c:]


def archives(data, rng):
    """Other archives: compressed, bombs, paths, swapped and further members."""
    schema, arrays = members(data)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        for names in (
            ["schema.json", "arrays.safetensors"],
            ["arrays.safetensors", "schema.json"],
            ["../schema.json", "arrays.safetensors"],
            ["/etc/passwd", "../../arrays.safetensors"],
            ["schema.json", "schema.json"],
            ["schema.json", "arrays.safetensors", "more"],
            ["schema.json"],
            [],
        ):
            for contents in (
                [schema, arrays, b"x"],
                [arrays, schema, b"x"],
                [schema, bytes(2**27), b"x"],
                [b"[" * 2**24, arrays, b"x"],
            ):
                file = io.BytesIO()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    with zipfile.ZipFile(file, "w", method) as archived:
                        for name, content in zip(names, contents, strict=False):
                            archived.writestr(name, content)
                yield file.getvalue()


def schemas(data, rng):
    """Schemas that are changed in one value, with right checksums."""
    text, arrays = members(data)
    wrong = [
        *(None, True, -1, 0, 10**9, 2**63, 2**200, 1e308, "", "x", "../x", "os.system"),
        *([], {}, [[]], {"tuple": []}, {"object": 0}, {"object": 10**6}),
        *({"array": -1}, {"array": 10**6}, {"known": "builtins.eval"}),
        *({"trusted": "x"}, {"dtype": "V1000000000"}, {"dtype": "O"}),
        *({"float": "x"}, {"texts": ["U1000000", [1000], [""] * 1000]}),
        *({"items": [[[], 1]]}, {"slice": [1]}, {"scalar": ["float64", "x"]}),
        *("skae.AutoencoderTransformer", "posix.system", "F64", "U8"),
        *(["array", "F64", [2**40]], ["array", "F64", [2**20, 2**20, 2**20]]),
        *(["tensor", "F32", [-1]], ["tensor", "F99", [1]], ["array", "F64", [0] * 100]),
    ]
    places = list(_places(json.loads(text)))
    for _ in range(3000):
        schema = json.loads(text)
        path = places[rng.integers(len(places))]
        holder = schema
        for key in path[:-1]:
            holder = holder[key]
        match rng.integers(4):
            case 0 if type(holder) is list:
                del holder[path[-1]]
            case 1 if type(holder) is list:
                holder.append(holder[path[-1]])
            case 2:
                other = schema
                for key in places[rng.integers(len(places))]:
                    other = other[key]
                holder[path[-1]] = json.loads(json.dumps(other))
            case _:
                holder[path[-1]] = wrong[rng.integers(len(wrong))]
        changed = json.dumps(schema, separators=(",", ":")).encode()
        if changed != text:
            yield container(changed, arrays)


def _places(value, path=()):
    items = value.items() if type(value) is dict else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if type(item) in (dict, list):
            yield from _places(item, (*path, key))


def bombs(data, rng):
    """Deep, long and repeated values, and sizes that the file does not have."""
    text, arrays = members(data)
    schema = json.loads(text)
    for depth in (10, 1000, 10**5, 10**6):
        yield container(b"[" * depth + b"]" * depth, arrays)
        yield container(b'{"a":' * depth + b"1" + b"}" * depth, arrays)
    for n in (10**5, 10**6, 10**7):
        yield container(b"[" + b"0," * n + b"0]", arrays)
        yield container(b"[" + b"[]," * (n // 2) + b"0]", arrays)
        yield container(b"1" * n, arrays)
        changed = schema | {"objects": [[0]] * (n // 10)}
        yield container(json.dumps(changed).encode(), arrays)
    for size in (2**20, 2**31, 2**40, 2**62):
        yield container(text, struct.pack("<Q", size) + arrays[8:])
        changed = schema | {"arrays": [["array", "U8", [size]]]}
        yield container(json.dumps(changed).encode(), arrays)
    nested = {"tuple": [1]}
    for _ in range(90):
        nested = {"tuple": [nested, nested]}
        changed = schema | {"objects": [*schema["objects"][:-1], [0, nested]]}
        changed = json.dumps(changed)[: archive.MAX_SCHEMA]
        yield container(changed.encode(), arrays)
        if len(changed) > 10**6:
            break


KINDS = {
    "one bit of every byte": flips,
    "every truncation": truncations,
    "blocks": blocks,
    "archives": archives,
    "schemas, checksums right": schemas,
    "bombs": bombs,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, help="at most as many of each kind")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(args.seed)
    data, expected = saved()
    print(f"a file of {len(data):,} bytes")
    names = ["files", "refused", "same", "changed", "foreign", "slow", "large"]
    print(f"{'':25}" + "".join(f"{n:>8}" for n in names) + "   s, most  MB, most")
    sums, longest, largest = np.zeros(len(names), dtype=int), 0.0, 0.0
    for kind, corrupted in KINDS.items():
        counts = dict.fromkeys(names, 0)
        most, memory = 0.0, 0.0
        for number, changed in enumerate(corrupted(data, rng)):
            if args.each is not None and number >= args.each:
                break
            counts["files"] += 1
            file = io.BytesIO(changed)
            # Measuring memory makes a load slower: of every tenth, and of the large.
            measured = number % 10 == 0 or len(changed) > 10 * len(data)
            if measured:
                tracemalloc.start()
            begin = time.process_time()
            try:
                loaded = skae.load(file)
                try:
                    same = np.array_equal(loaded.transform(X), expected)
                except Exception:
                    same = None  # an estimator that refuses rows
                counts["changed" if same is False else "same"] += 1
            except (InvalidFileError, UntrustedObjectError):
                counts["refused"] += 1
            except Exception as error:
                counts["foreign"] += 1
                print(f"{kind} {number}: {type(error).__name__}: {error}"[:200])
            seconds = time.process_time() - begin
            if measured:
                used = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                memory = max(memory, used)
                counts["large"] += used > MAX_MEMORY * len(changed) + SCHEMA
            else:
                most = max(most, seconds)
                counts["slow"] += seconds > MAX_SECONDS
        row = np.array(list(counts.values()))
        sums, longest, largest = sums + row, max(longest, most), max(largest, memory)
        _print(kind, row, most, memory)
    _print("all", sums, longest, largest)
    bad = dict(zip(names, sums, strict=True))
    raise SystemExit(any(bool(bad[n]) for n in ("foreign", "slow", "large")))


def _print(kind, row, seconds, memory):
    counts = "".join(f"{n:8,}" for n in row)
    print(f"{kind:25}{counts}{seconds:10.3f}{memory / 1e6:10.1f}", flush=True)


if __name__ == "__main__":
    main()
