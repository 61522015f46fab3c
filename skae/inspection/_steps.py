"""What is known of columns, taken back through the steps of a pipeline."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline

from .._compat.sklearn import input_indices
from .._pipelines import named_steps
from ._explanation import furthest
from ._inverse import inverse_of
from ._table import Table, names_out

__all__ = ["Column", "Output", "tables_of", "transformers", "undo_all"]


@dataclass(frozen=True)
class Column:
    """What is known of a column of a table, for each row.

    Attributes
    ----------
    share, residual : ndarray of shape (n_samples,)
    expected : ndarray of shape (n_samples,) or None
        None if only marks of what is missing are seen of the column.
    """

    share: np.ndarray
    residual: np.ndarray
    expected: np.ndarray | None


@dataclass(frozen=True)
class Output:
    """A column that a step returns and that is not taken back further.

    Attributes
    ----------
    step : str
        Name of the step, behind those of the steps that it is a part of.
    name : str
    value : ndarray of shape (n_samples,)
    column : Column
    """

    step: str
    name: str
    value: np.ndarray
    column: Column


def transformers(estimator, name=""):
    """Return the steps of a pipeline with their names, those of inner ones as well."""
    return [
        (step, key)
        for step, key in named_steps(estimator, name)
        if step not in (None, "passthrough")
    ]


def tables_of(steps, table):
    """Return the input of each step, and the output of the last one.

    The names of the first table are those that the first step was fitted to.
    """
    tables = []
    for step, _ in steps:
        tables.append(Table.of(table.rows, step, table.names))
        table = _output(step, tables[-1])
    return [*tables, table]


def _output(step, table):
    return Table.of(step.transform(table.rows), names=names_out(step, table.names))


def undo_all(steps, tables, columns):
    """Do what `undo` does, for steps one behind the other.

    Parameters
    ----------
    steps : list of (transformer, str)
    tables : list of Table
        Their inputs.
    columns : dict of int to Column
    """
    outputs = []
    for (step, name), table in zip(reversed(steps), reversed(tables), strict=True):
        columns, left = undo(step, name, table, columns)
        outputs = left + outputs
    return columns, outputs


def undo(step, name, table, columns):
    """Take what is known of the output of a step back to its input.

    Parameters
    ----------
    step : transformer or "passthrough"
    name : str
    table : Table
        Input of the step.
    columns : dict of int to Column
        Output columns by their position, those that the detector sees.

    Returns
    -------
    columns : dict of int to Column
        Input columns by their position.
    outputs : list of Output
        Output columns that remain.
    """
    if isinstance(step, FrozenEstimator):
        step = step.estimator
    if isinstance(step, str) or not columns:
        return columns, []
    if isinstance(step, Pipeline):
        steps = transformers(step, name)
        return undo_all(steps, tables_of(steps, table)[:-1], columns)
    if isinstance(step, ColumnTransformer):
        return _undo_parts(step, name, _column_parts(step, table), columns)
    if isinstance(step, FeatureUnion):
        return _undo_parts(step, name, _union_parts(step, table), columns)
    out = _output(step, table)
    inverse = inverse_of(step, table, out)
    if inverse is not None:
        given = {k: c.expected for k, c in columns.items() if c.expected is not None}
        try:
            expected = inverse.expected_of(given)
        except (IndexError, TypeError, ValueError):
            pass  # A step may be unable to invert what the model expects.
        else:
            made = {}
            for k, column in columns.items():
                made.setdefault(int(inverse.origin[k]), []).append(column)
            return {j: _merged(made[j], expected.get(j)) for j in sorted(made)}, []
    return {}, [
        Output(name, out.names[k], out.column(k), column)
        for k, column in columns.items()
    ]


def _undo_parts(step, name, parts, columns):
    """Do what `undo` does, for a step whose parts are side by side.

    ``parts`` has for each part its name, transformer, input, the positions of its input
    columns, and the position of its first output column and of the one after its last.
    """
    found, outputs = {}, []
    for key, part, table, origin, start, stop in parts:
        weight = (step.transformer_weights or {}).get(key, 1)
        inner = {k - start: columns[k] for k in range(start, stop) if k in columns}
        if weight != 1:
            inner = {
                k: replace(column, expected=column.expected / weight)
                for k, column in inner.items()
            }
        inner, left = undo(part, f"{name}__{key}", table, inner)
        outputs += left
        for j, column in inner.items():
            found.setdefault(origin[j], []).append(column)
    back = {}
    for j in sorted(found):
        known = [c.expected for c in found[j] if c.expected is not None]
        back[j] = _merged(found[j], known[0] if known else None)
    return back, outputs


def _column_parts(step, table):
    """Yield the parts of a ColumnTransformer; see `_undo_parts`."""
    for name, part, key in step.transformers_:
        places = step.output_indices_[name]
        if places.start == places.stop:
            continue
        origin = list(input_indices(step, name))
        inner = table.select(origin)
        if np.isscalar(key):
            # A single column, such as texts, comes without a second axis.
            inner = table.texts(origin[0])
        yield name, part, inner, origin, places.start, places.stop


def _union_parts(step, table):
    """Yield the parts of a FeatureUnion; see `_undo_parts`."""
    start = 0
    for name, part in step.transformer_list:
        if part == "drop":
            continue
        out = table if part == "passthrough" else _output(part, table)
        stop = start + len(out.names)
        yield name, part, table, range(len(table.names or ())), start, stop
        start = stop


def _merged(columns, expected):
    """Return what is known of a column, from all columns that are computed from it."""
    return Column(
        share=sum(column.share for column in columns),
        residual=furthest(np.column_stack([column.residual for column in columns])),
        expected=expected,
    )
