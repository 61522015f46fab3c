"""Inverses of single transformers, for what a model expects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_selection import SelectorMixin
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
)

from .._compat.sklearn import BaseImputer
from .._data.arrays import like, on_host
from .._data.categories import is_missing
from ._table import names_out

__all__ = ["Inverse", "inverse_of"]


@dataclass(frozen=True)
class Inverse:
    """How to go back from the output of a transformer to its input.

    Attributes
    ----------
    origin : sequence of int of length n_out
        The input column that each output column is computed from.
    expected_of : callable
        Takes what is expected of some output columns, a dict of position to ndarray of
        shape (n_samples,), and returns the same of input columns.
    """

    origin: Sequence[int]
    expected_of: Callable[[dict], dict]


def inverse_of(step, table, out):
    """Return the inverse of a transformer.

    Parameters
    ----------
    step : transformer
        Fitted; not a ColumnTransformer, a FeatureUnion or a Pipeline.
    table, out : Table
        Its input and output.

    Returns
    -------
    Inverse or None
        None if the transformer mixes columns or has no inverse.
    """
    if table.names is None:
        return None
    n_in, n_out = len(table.names), len(out.names)
    if isinstance(step, SelectorMixin):
        return _copies(step.get_support(indices=True), n_out)
    if isinstance(step, BaseImputer):
        marks = list(step.indicator_.features_) if step.add_indicator else []
        kept = names_out(step, table.names)[: n_out - len(marks)]
        return _copies([*map(table.names.index, kept), *marks], len(kept))
    is_function = isinstance(step, FunctionTransformer)
    if is_function and step.func is None:
        return _copies(range(n_in), n_out)
    if isinstance(step, (KBinsDiscretizer, OneHotEncoder, OrdinalEncoder)):
        return _decoder(step, out)
    if is_function and step.inverse_func is None:
        return None  # its inverse_transform would change nothing
    if not hasattr(step, "inverse_transform"):
        return None
    one_by_one = names_out(step, table.names) == table.names or (
        is_function and isinstance(step.func, np.ufunc)
    )
    if n_in == 1:
        origin = [0] * n_out
    elif n_out == n_in and one_by_one:
        origin = range(n_in)
    else:
        return None

    def expected_of(expected):
        rows = _rows(out, expected)
        with np.errstate(all="ignore"):
            back = step.inverse_transform(like(rows, out.rows))
        return dict(enumerate(np.asarray(on_host(back)).reshape(len(rows), n_in).T))

    return Inverse(origin, expected_of)


def _rows(out, expected):
    """Return what is expected as rows of the output of a transformer.

    Columns of which nothing is expected are those of the output: any values that the
    transformer can invert.
    """
    rows = out.numbers()
    for k, column in expected.items():
        rows[:, k] = column
    return rows


def _copies(origin, n_values):
    """Return the inverse of a transformer that copies columns.

    Output columns from ``n_values`` on only mark what is missing.
    """

    def expected_of(expected):
        return {origin[k]: e for k, e in expected.items() if k < n_values}

    return Inverse(origin, expected_of)


def _decoder(encoder, out):
    """Return the inverse of an encoder of categories or bins."""
    if isinstance(encoder, KBinsDiscretizer):
        codes = [_Codes((edges[1:] + edges[:-1]) / 2) for edges in encoder.bin_edges_]
    else:
        places = range(len(encoder.categories_))
        codes = [_Codes.of_categories(encoder, j) for j in places]
    if isinstance(encoder, OneHotEncoder) or "onehot" in getattr(encoder, "encode", ""):
        widths = [each.width for each in codes]
        decode = _Codes.likeliest
    else:
        widths = [1] * len(codes)
        decode = _Codes.nearest
    if sum(widths) != len(out.names):
        return None

    def expected_of(expected):
        blocks = np.split(_rows(out, expected), np.cumsum(widths)[:-1], axis=1)
        return {
            j: decode(each, block)
            for j, (each, block) in enumerate(zip(codes, blocks, strict=True))
        }

    return Inverse(np.repeat(np.arange(len(codes)), widths), expected_of)


@dataclass(frozen=True)
class _Codes:
    """Categories of a column or centres of its bins, by their codes.

    Attributes
    ----------
    labels : ndarray of shape (n_codes,)
        A missing category is None.
    dropped : int or None
        The label that has no indicator.
    """

    labels: np.ndarray
    dropped: int | None = None

    @classmethod
    def of_categories(cls, encoder, j):
        """Return the codes of a column of a OneHotEncoder or OrdinalEncoder."""
        keys = [None if is_missing(c) else c for c in encoder.categories_[j]]
        if isinstance(encoder, OrdinalEncoder):  # has no code for None in their order
            keys = [key for key in keys if key is not None]
        rare = getattr(encoder, "infrequent_categories_", None)
        rare = [] if rare is None or rare[j] is None else rare[j]
        rare = {None if is_missing(c) else c for c in rare}
        labels = [key for key in keys if key not in rare]
        if rare:
            labels.append("infrequent_sklearn")
        dropped = getattr(encoder, "drop_idx_", None)
        if dropped is not None and (dropped := dropped[j]) is not None:
            key = keys[dropped]
            dropped = len(labels) - 1 if key in rare else labels.index(key)
        mixed = bool(rare) or None in labels
        dtype = object if mixed else encoder.categories_[j].dtype
        return cls(np.array(labels, dtype=dtype), dropped)

    @property
    def width(self):
        """Number of indicators."""
        return len(self.labels) - (self.dropped is not None)

    def nearest(self, code):
        """Return the labels of the nearest codes, given as one column."""
        code = np.clip(np.rint(np.nan_to_num(code[:, 0])), 0, len(self.labels) - 1)
        return self.labels[code.astype(int)]

    def likeliest(self, indicators):
        """Return the labels of the largest indicators."""
        if self.dropped is not None:
            # The indicators of all labels would sum to one.
            rest = 1 - indicators.sum(axis=1)
            indicators = np.insert(indicators, self.dropped, rest, axis=1)
        return self.labels[indicators.argmax(axis=1)]
