"""What estimators take: rows of a fit and of a query, checked."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ._compat.sklearn import check_feature_names, has_callbacks
from ._data.arrays import unwrapped
from ._data.categories import (
    Categories,
    categorical_columns,
    explain_refusal,
    refuse_dates,
)
from ._data.holdout import Holdout, HoldoutOfMany, group_codes, most_held_out
from ._data.readers import reader_of
from ._data.source import Source, source_of
from ._data.sparse_table import canonical
from ._data.stream import Stream
from ._data.validation import (
    DTYPES,
    are_missing,
    check_flat,
    checked_rows,
    has_missing,
    weighted_rows,
)
from ._training.plan import Settings
from ._warning import warn_user
from .exceptions import IgnoredTargetWarning

__all__ = ["InputMixin", "named_columns", "warn_of_target"]


class _Rows(NamedTuple):
    """The rows of a fit, checked, and the settings that follow from them.

    Sources, or None where there are none; see `prepare`. ``given`` has the rows of
    ``X`` as they were, None where no value of them is replaced.
    """

    settings: Settings
    X: Source
    weight: np.ndarray | None
    X_val: Source | None
    target: Source | None
    X_val_target: Source | None
    holdout: Holdout
    given: Source | None


class InputMixin:
    """The checks of input, as methods of both estimators."""

    def _rows_in_memory(
        self,
        X,
        read,
        X_val,
        y,
        previous,
        sample_weight,
        X_target,
        X_val_target,
        groups,
    ):
        """Return the rows of a fit, checked and without those held back.

        Parameters
        ----------
        X, X_val, y, sample_weight, X_target, X_val_target, groups
            As `fit` takes them.
        read : ndarray or None
            The rows of ``X``, where they were read in chunks.
        previous : Model or None
            The model to continue from.
        """
        table = X
        if read is None:
            X = self._checked_training_rows(X, X_target, previous)
        else:
            X = read
            self._categories = None
        if X_val is not None:
            X_val = self._check_width(X_val, "X_val", X.dtype)
        if X_target is None:
            warn_of_target(X if self._categories is None else table, y)
        X_target = self._check_target(X_target, "X_target", X, "X")
        X_val_target = self._check_target(X_val_target, "X_val_target", X_val, "X_val")
        if X_val is not None and (X_target is None) != (X_val_target is None):
            raise ValueError(
                "X_target and X_val_target go together: pass both, or neither."
            )
        holdout = Holdout(self.validation_split, group_codes(groups, X))
        kept, sample_weight = weighted_rows(X, sample_weight)
        X, X_target, holdout = _selected(kept, X, X_target, holdout)
        # Rows for calibration are drawn among those with weight.
        kept, sample_weight = self._withhold_of(X, sample_weight, holdout)
        X, X_target, holdout = _selected(kept, X, X_target, holdout)
        if self._categories is not None:
            if previous is None:
                self._categories.keep(X if X_target is None else X_target)
            X, X_val, X_target, X_val_target = (
                None if rows is None else self._categories.encode(rows)
                for rows in (X, X_val, X_target, X_val_target)
            )
        settings = self._settings()
        learnt = "X" if X_target is None else "X_target"
        for name, rows in (
            (learnt, X if X_target is None else X_target),
            ("X_val", X_val if X_target is None else None),
            ("X_val_target", X_val_target),
        ):
            if rows is not None:
                settings.parts.loss.check_domain(rows, name)
        given = X, X_target, X_val, X_val_target
        if any(has_missing(rows) for rows in given if rows is not None):
            settings = replace(settings, has_missing=True)
            whole = X if X_target is None else X_target
            self._check_columns(are_missing(whole), learnt)
        cleaned, *others = (
            None if rows is None else self._cleaned(rows)
            for rows in (X, X_val, X_target, X_val_target)
        )
        X_val, X_target, X_val_target = map(source_of, others)
        return _Rows(
            settings,
            source_of(cleaned),
            sample_weight,
            X_val,
            X_target,
            X_val_target,
            holdout,
            given=None if cleaned is X else source_of(X),
        )

    def _withhold_of(self, X, sample_weight, holdout):
        """Hold rows back for calibration; return which are kept, and their weights."""
        out = self._withhold(X.shape[0], holdout)
        if out is None:
            return slice(None), sample_weight
        kept, weight = np.setdiff1d(np.arange(X.shape[0]), out), None
        if sample_weight is not None:
            # `fit` divides the weights by their mean over the rows that it is given.
            weight = sample_weight[out] / sample_weight[kept].mean()
            sample_weight = sample_weight[kept]
        self._withheld = X[out], weight, holdout.of(out).groups
        return kept, sample_weight

    def _training_stream(self, X, others):
        """Return training rows that are not in memory, checked.

        Parameters
        ----------
        X : object
            As `fit` takes it.
        others : dict
            Further arguments of `fit`, by name, which need rows in memory.

        Returns
        -------
        Stream, ndarray or None
            An ndarray of few rows; None where the rows are in memory already.
        """
        unsupported = [name for name, value in others.items() if value is not None]
        if not isinstance(self.validation_split, str):
            unsupported.append("a splitter as validation_split")
        if not isinstance(self.categorical_features, str | None):
            unsupported.append("a list of categorical_features")
        if has_callbacks(self):
            unsupported.append("callbacks of scikit-learn")
        is_map = isinstance(X, np.memmap)
        if is_map and unsupported:
            return None
        stream = self._stream_of(X, reset=True)
        if stream is None:
            return None
        stream.survey()
        array = stream.array()
        if array is not None:
            check_array(array, ensure_all_finite="allow-nan", ensure_min_samples=2)
            return array
        if not unsupported:
            return stream
        if is_map:
            return None
        raise ValueError(
            f"Not supported for rows that are read in chunks: {', '.join(unsupported)}."
            " Pass rows that are in memory, or do without."
        )

    def _rows_of(self, stream, X_val):
        """Return the rows of a fit that are read in chunks."""
        self._categories = None
        settings = self._settings()
        stream = stream.checked_by(partial(settings.parts.loss.check_domain, name="X"))
        if X_val is not None:
            double = stream.dtype == torch.float64
            dtype = np.float64 if double else np.float32
            X_val = self._check_width(X_val, "X_val", dtype)
            settings.parts.loss.check_domain(X_val, "X_val")
            if has_missing(X_val):
                settings = replace(settings, has_missing=True)
            X_val = source_of(self._cleaned(X_val))
        if stream.missing.any():
            settings = replace(settings, has_missing=True)
            self._check_columns(stream.missing == len(stream), "X")
        most = most_held_out(stream.shape[1])
        holdout = HoldoutOfMany(self.validation_split, most=most)
        out = self._withhold(len(stream), holdout)
        if out is not None:
            self._withheld = stream.take(out).numpy(), None, None
            stream = stream.without(out)
        rows = self._cleaned(stream)
        given = None if rows is stream else stream
        return _Rows(settings, rows, None, X_val, None, None, holdout, given)

    def _stream_of(self, X, reset=False):
        """Return rows that are read in chunks; None where they are in memory.

        Parameters
        ----------
        X : object
            As `fit` takes it.
        reset : bool, default=False
            Whether names and number of the columns are learnt, not checked.
        """
        reader = reader_of(X)
        if reader is None:
            return None
        validate_data(self, reader.head, reset=reset, skip_check_array=True)
        return Stream(reader, partial(self._checked_chunk, named=reader.named))

    def _checked_chunk(self, chunk, named):
        """Return a chunk of rows as an ndarray of numbers.

        Parameters
        ----------
        chunk : array-like or data frame
        named : bool
            Whether the names of the columns are known to be right.
        """
        chunk = unwrapped(chunk)
        if categorical_columns(chunk, self.categorical_features) is not None:
            raise ValueError(
                "Not supported for rows that are read in chunks: categories. Pass "
                "categorical_features=None and encode them, or rows that are in memory."
            )
        how = {"dtype": DTYPES, "ensure_all_finite": "allow-nan"}
        with named_columns(chunk, None):
            if named:
                return check_array(chunk, input_name="X", estimator=self, **how)
            return validate_data(self, chunk, reset=False, **how)

    def _checked_training_rows(self, X, X_target, previous):
        """Return rows for `fit`: categories as their positions among all of them."""
        checks = {"ensure_min_samples": 2, "ensure_all_finite": "allow-nan"}
        is_categorical = categorical_columns(X, self.categorical_features)
        before = self._categories if previous is not None else None
        if previous is not None:
            same = np.array_equal(
                [] if before is None else before.is_categorical,
                [] if is_categorical is None else is_categorical,
            )
            if not same:
                raise ValueError(
                    "warm_start=True continues from a network for other categorical "
                    "features: pass warm_start=False to begin anew."
                )
        refuse_dates(X, is_categorical)
        with named_columns(X, is_categorical):
            if is_categorical is None:
                self._categories = None
                checks |= {"accept_sparse": "csr", "dtype": DTYPES}
                return canonical(validate_data(self, X, **checks))
            validate_data(self, X, skip_check_array=True)
            if before is None:
                tables = [X] if X_target is None else [X, X_target]
                self._categories = Categories(tables, is_categorical)
            return self._categories.codes(X, self, **checks)

    def _check_X(self, X, method):
        categories = self._categories
        # A map of a file is an array, where categories need one.
        is_array = categories is not None and isinstance(X, np.memmap)
        stream = None if is_array else self._stream_of(X)
        if stream is not None:
            array = stream.array()
            return stream if array is None else array
        with named_columns(X, categories and categories.is_categorical):
            if categories is None:
                return checked_rows(self, X, method)
            validate_data(self, X, reset=False, skip_check_array=True)
            return categories.encode(categories.codes(X, self))

    def _check_width(self, X, name, dtype):
        check_flat(X, name, self)
        stream = self._stream_of(X)
        if stream is not None:
            X = stream.array()
            if X is None:
                raise ValueError(
                    f"{name} has {len(stream)} rows, too many to be read into memory: "
                    "pass some of them."
                )
        check_feature_names(self, X, reset=False)
        categories = self._categories
        with named_columns(X, categories and categories.is_categorical):
            if categories is not None:
                return categories.codes(X, self, name).astype(dtype, copy=False)
            # What is too large for the precision of X is refused by name.
            with np.errstate(over="ignore"):
                X = check_array(
                    X,
                    accept_sparse="csr",
                    dtype=dtype,
                    input_name=name,
                    estimator=self,
                    ensure_all_finite="allow-nan",
                )
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"{name} has {X.shape[1]} features, but X has {self.n_features_in_}: "
                "both must have the same features."
            )
        return canonical(X)

    def _check_columns(self, empty, name):
        """Check that each column has a value, that is, that none is empty."""
        if self._categories is not None:
            empty = empty[self._categories.blocks.first]
        if empty.any():
            names = getattr(self, "feature_names_in_", None)
            columns = np.flatnonzero(empty)
            columns = columns.tolist() if names is None else names[columns].tolist()
            raise ValueError(
                f"{name} has columns without any value: {columns}. Nothing can be "
                "learnt of them: drop them, or fill them with a constant."
            )

    def _check_target(self, target, name, X, of):
        if target is None:
            return None
        if X is None:
            raise ValueError(f"{name} was given without {of}.")
        target = self._check_width(target, name, X.dtype)
        if target.shape[0] != X.shape[0]:
            raise ValueError(
                f"{name} has {target.shape[0]} rows, but {of} has {X.shape[0]}: both "
                "must have one row per sample."
            )
        return target


def _selected(kept, X, X_target, holdout):
    """Return some of the rows, of their targets, and how these may be held out."""
    return X[kept], None if X_target is None else X_target[kept], holdout.of(kept)


def warn_of_target(X, y, method="fit"):
    """Warn of a table in the place of ``y`` that may be meant as target."""
    if getattr(y, "shape", None) != np.shape(X) or np.shape(X)[1] == 1:
        return
    if issparse(X):
        same = (X != csr_array(y)).nnz == 0
    else:
        same = not issparse(y) and np.array_equal(np.asarray(y), np.asarray(X))
    if not same:
        warn_user(
            "y has the shape of X, but is ignored, as by PCA: to reconstruct y from X, "
            f"call {method}(X, X_target=y).",
            IgnoredTargetWarning,
        )


class named_columns:
    """Name the columns of rows that are refused because they are not numbers.

    A class: a generator that an interrupt has left half way would restore the errors of
    NumPy when it is collected.
    """

    def __init__(self, X, is_categorical):
        self._given = X, is_categorical

    def __enter__(self):
        # scikit-learn looks at the sum of all values first: infinity less infinity, of
        # large ones.
        self._errors = np.seterr(invalid="ignore")

    def __exit__(self, kind, error, traceback):
        np.seterr(**self._errors)
        if isinstance(error, (TypeError, ValueError)):
            explain_refusal(*self._given, error)
