"""`save` and `load`: estimators in files that hold data only."""

import json
import sys
from importlib.metadata import version
from warnings import warn

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from .. import _archive as archive
from .._global_state import in_default_state
from ..exceptions import InvalidFileError, NewerFormatError, UntrustedObjectError
from .decoding import Decoder
from .encoding import Encoder
from .registry import version_sensitive

__all__ = ["load", "save"]

# The format that is written. Raise it when what is in a file changes its meaning, and
# let `load` accept the formats before: tests/files has a file of each.
FORMAT = 1
# Values in a schema, of which lists and dictionaries take the most memory.
_MAX_VALUES = 2**20
_FIELDS = {
    *("format", "estimator", "versions", "trusted"),
    *("layouts", "objects", "arrays", "sha256"),
}


@in_default_state
def save(estimator, file, *, trusted=None):
    """Save an estimator to a file that holds data only, and no code.

    Unlike a pickle, the file can be opened safely, whoever made it: :func:`load` runs
    nothing that the file says. It does not depend on where classes are defined either,
    and later versions of skae read it.

    Parameters
    ----------
    estimator : estimator
        An estimator of skae, fitted or not, with any components of skae; or one of
        common estimators of scikit-learn, such as a
        :class:`~sklearn.pipeline.Pipeline` of them. Of a search save
        ``best_estimator_``. The parameter ``checkpoint``, a folder of this machine, is
        None in the file.
    file : path-like or binary file
        Where to save it, or a file that is open for writing. By convention the name
        ends with ``.skae``. What has a path is written to another file in the same
        folder first, which then replaces it: an existing file is whole at any time.
    trusted : dict, default=None
        Functions, classes and other objects that a file cannot hold, by names of your
        choice: the networks of :class:`~skae.architectures.Custom`, components of your
        own, optimiser classes, callbacks. The file contains the names, and
        :func:`load` needs a dictionary with the same ones. Of a class, instances are
        saved, with their attributes. By default there are none.

    Raises
    ------
    UntrustedObjectError
        If a part of the estimator is neither known nor in ``trusted``. It is also a
        ``TypeError``; the message names the part.
    TypeError
        If this is no estimator, or ``trusted`` is no dictionary of objects by names.
    ValueError
        If parameters, names and lists, that is all but arrays, have more than 16 MiB
        or a million entries.

    See Also
    --------
    load : Load an estimator from a file.

    Notes
    -----
    The file is a zip archive of two files that are not compressed: ``schema.json``, and
    ``arrays.safetensors``, for the library safetensors. The first has the number of the
    format, the versions of all packages, names of classes, their attributes, shape and
    dtype of each array, and the SHA-256 digest of the second.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import skae
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> model = skae.AutoencoderTransformer(2, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     skae.save(model, Path(folder) / "model.skae")
    ...     loaded = skae.load(Path(folder) / "model.skae")
    >>> bool(np.array_equal(loaded.transform(X), model.transform(X)))
    True
    """
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(f"save takes an estimator. Got {estimator!r} instead.")
    encoder = Encoder(_checked(trusted))
    encoder.root(estimator)
    table = [(dtype, shape) for _, dtype, shape, *_ in encoder.arrays]
    schema = {
        "format": FORMAT,
        "estimator": encoder.layouts[encoder.objects[-1][0]]["class"],
        "versions": _versions(),
        "trusted": sorted(encoder.used),
        "layouts": encoder.layouts,
        "objects": encoder.objects,
        "arrays": encoder.arrays,
        "sha256": archive.digest(table, encoder.buffers),
    }
    text = json.dumps(schema, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > archive.MAX_SCHEMA or _n_values(text) > _MAX_VALUES:
        raise ValueError(
            f"The estimator has {len(text) / 2**20:.1f} MiB of parameters, names and "
            f"lists, with about {_n_values(text):,} entries: a file has at most "
            f"{archive.MAX_SCHEMA / 2**20:.0f} MiB, with {_MAX_VALUES:,}, of what is "
            "not an array."
        )
    if hasattr(file, "write"):
        archive.write(file, text, table, encoder.buffers)
        return
    with archive.replacing(file) as opened:
        archive.write(opened, text, table, encoder.buffers)


@in_default_state
def load(file, *, trusted=None):
    """Load an estimator from a file of :func:`save`.

    Nothing that the file says is run or imported: it can name known classes of skae,
    torch and scikit-learn, and what you pass as ``trusted``. So it is safe to open a
    file from anyone. What its model returns is another matter: whoever made the file
    chose the numbers.

    Parameters
    ----------
    file : path-like or binary file
        What :func:`save` has written, or a file of it that is open for reading and can
        be read in any order.
    trusted : dict, default=None
        Functions, classes and other objects by the names that :func:`save` was given.
        The file decides where they are used, and with which attributes: pass what you
        would let its author call. By default there are none.

    Returns
    -------
    estimator
        It returns the same results as the one that was saved, bit for bit, on the same
        machine and with the same versions of all packages. It is on the device of
        that one if there is such a device here, else on the CPU.

    Raises
    ------
    InvalidFileError
        If the file is damaged, was cut short, or was not written by :func:`save`. It is
        also a ``ValueError``.
    NewerFormatError
        If it was written by a later version of skae, in a format that this one does not
        know.
    UntrustedObjectError
        If the file needs objects that are not in ``trusted``; the message names them.
        It is also a ``TypeError``.
    OSError
        If the file cannot be read.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If the file contains fitted estimators of another version of scikit-learn, as in
        a pipeline.

    See Also
    --------
    save : Save an estimator to a file.

    Notes
    -----
    Time and memory are bounded by the size of the file: sizes are compared with it
    before anything is allocated, arrays are read into their final memory, and what is
    not an array is limited in length and number, so that it takes less than 200 MiB.

    Examples
    --------
    A network of your own is a function, which is not in the file:

    >>> from io import BytesIO
    >>> import skae
    >>> from skae.architectures import Custom
    >>> from torch.nn import Linear
    >>> def encoder(n_inputs, n_outputs):
    ...     return Linear(n_inputs, n_outputs)
    >>> model = skae.AutoencoderTransformer(architecture=Custom(encoder, Linear))
    >>> file = BytesIO()
    >>> skae.save(model, file, trusted={"encoder": encoder})
    >>> skae.load(file)
    Traceback (most recent call last):
        ...
    skae.exceptions.UntrustedObjectError: The file needs objects that it cannot hold: \
pass load(..., trusted={'encoder': ...}).
    >>> skae.load(file, trusted={"encoder": encoder}).architecture.decoder
    <class 'torch.nn.modules.linear.Linear'>
    """
    trusted = _checked(trusted)
    if hasattr(file, "read"):
        return _load(file, trusted)
    with open(file, "rb") as opened:
        return _load(opened, trusted)


def _load(file, trusted):
    text, n_bytes, crc = archive.read_schema(file)
    try:
        with np.errstate(over="raise"):
            schema = _parsed(text)
            missing = sorted(set(schema["trusted"]) - set(trusted))
            if missing:
                names = ", ".join(f"{name!r}: ..." for name in missing)
                raise UntrustedObjectError(
                    "The file needs objects that it cannot hold: pass "
                    f"load(..., trusted={{{names}}})."
                )
            decoder = Decoder(schema, trusted)
            table = [(dtype, shape) for _, dtype, shape, *_ in decoder.table]
            memories = archive.read_arrays(
                file, n_bytes, crc, schema["sha256"], table, decoder.allocate
            )
            for number, memory in enumerate(memories):
                decoder.finish(number, memory)
            estimator = decoder.root()
    except (InvalidFileError, UntrustedObjectError, OSError):
        raise
    except Exception as error:
        # Whatever a file holds in the place of what is expected there.
        raise InvalidFileError(
            "The file is damaged, or was not written by skae.save: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(estimator, BaseEstimator):
        raise InvalidFileError("The file holds no estimator.")
    _warn_of_versions(schema)
    return estimator


def _n_values(text):
    """Return about how many values a text in JSON has, and four times for lists."""
    return text.count(b",") + 4 * (text.count(b"[") + text.count(b"{"))


def _parsed(text):
    """Return the schema, of which the format is known."""
    if _n_values(text) > _MAX_VALUES:
        raise InvalidFileError("The schema of the file has too many values.")
    schema = json.loads(
        text,
        object_pairs_hook=_without_duplicates,
        parse_constant=_refuse_constant,
        parse_float=_finite,
    )
    number = schema["format"] if type(schema) is dict and "format" in schema else None
    if type(number) is not int or number < 1:
        raise InvalidFileError("The schema of the file has no number of a format.")
    if number > FORMAT:
        raise NewerFormatError(
            f"The file has format {number}, but skae {_versions()['skae']} knows the "
            f"formats up to {FORMAT}: load it with a later version of skae."
        )
    if set(schema) != _FIELDS or type(schema["trusted"]) is not list:
        raise InvalidFileError("The schema of the file does not have its parts.")
    return schema


def _without_duplicates(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidFileError("The schema of the file has a name twice.")
    return found


def _refuse_constant(name):
    raise InvalidFileError(
        f"The schema of the file has {name} in the place of a number."
    )


def _finite(text):
    number = float(text)
    if not np.isfinite(number):
        raise InvalidFileError(
            f"The schema of the file has a number too large: {text}."
        )
    return number


def _checked(trusted):
    if trusted is None:
        return {}
    plain = (bool, int, float, str, type(None))
    if not isinstance(trusted, dict) or any(
        not isinstance(name, str) or isinstance(value, plain)
        for name, value in trusted.items()
    ):
        raise TypeError(
            "trusted must be a dictionary from names to functions, classes or other "
            f"objects. Got {trusted!r} instead."
        )
    return trusted


def _versions():
    # The package itself imports this module: it is found by its name.
    return {
        "skae": sys.modules[__name__.partition(".")[0]].__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "skorch": version("skorch"),
        "torch": str(torch.__version__),
    }


def _warn_of_versions(schema):
    """Warn if the file has estimators of another version of scikit-learn."""
    versions = schema["versions"]
    written = versions.get("scikit-learn") if type(versions) is dict else None
    if written == sklearn.__version__:
        return
    for layout in schema["layouts"]:
        if version_sensitive(layout["class"]):
            warn(
                InconsistentVersionWarning(
                    estimator_name=layout["class"].rpartition(".")[2],
                    current_sklearn_version=sklearn.__version__,
                    original_sklearn_version=str(written),
                ),
                stacklevel=4,
            )
