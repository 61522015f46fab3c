"""Explanations of rows in the columns and units of the rows."""

import numpy as np

from .._data.categories import as_objects, is_missing
from .._global_state import in_default_state
from ._explanation import Explanation
from ._steps import Column, tables_of, transformers, undo_all
from ._table import Table

__all__ = ["explain"]


@in_default_state
def explain(estimator, X):
    """Explain the anomaly scores of rows in the columns and units of the rows.

    For a pipeline that ends in a detector, the explanation of the detector is taken
    back through the steps before it:

    - *Columns that are rescaled* one by one, such as by
      :class:`~sklearn.preprocessing.StandardScaler` or
      :class:`~sklearn.preprocessing.QuantileTransformer`: the expected value is that of
      ``inverse_transform``. Other transformers are treated alike if they have
      ``inverse_transform``, and ``get_feature_names_out`` returns the names of their
      input. :class:`~sklearn.preprocessing.FunctionTransformer` needs ``inverse_func``,
      and a NumPy function of single numbers as ``func`` or
      ``feature_names_out="one-to-one"``.
    - *Encoded columns*, by :class:`~sklearn.preprocessing.OneHotEncoder`,
      :class:`~sklearn.preprocessing.OrdinalEncoder` or
      :class:`~sklearn.preprocessing.KBinsDiscretizer`: the share of a column is the sum
      of the shares of its codes, and the expected value is the category with the
      largest expected code, or the nearest one of ordinal codes.
    - *Imputed columns*: the value is missing, and the share includes that of the
      missing indicator.
    - :class:`~sklearn.compose.ColumnTransformer`,
      :class:`~sklearn.pipeline.FeatureUnion` and pipelines: each part. The shares of a
      column that goes into several parts are summed, and its expected value is that of
      the first part. Columns that the detector does not see are left out.

    Steps that mix columns, such as :class:`~sklearn.decomposition.PCA`, or that have no
    inverse, are not undone. Their output columns remain as features, in the units of
    this output and with the name of the step in front, such as ``"pca__pca0"``.

    Parameters
    ----------
    estimator : Pipeline or AutoencoderOutlierDetector
        Fitted. A pipeline whose last step has ``explain``, or a detector, for which
        this is its method ``explain``.

    X : array-like or data frame of shape (n_samples, n_features)
        Rows, as they are passed to ``estimator.predict``.

    Returns
    -------
    explanation : Explanation
        Value, expected value, residual and share of each column and row, and
        ``to_frame`` and ``plot``. Values are those of ``X``. An expected value is NaN
        if the model expects what the inverse of a step is not defined for.

    Raises
    ------
    TypeError
        If the estimator or the last step of the pipeline has no ``explain``.
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If a step does not accept the rows.

    See Also
    --------
    skae.AutoencoderOutlierDetector.explain : Explains the input of the detector.
    skae.displays.ExplanationDisplay : Draws the explanation of one row.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import OneHotEncoder, StandardScaler
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.inspection import explain
    >>> rng = np.random.RandomState(0)
    >>> usual = pd.Series({"lathe": 30.0, "mill": 60.0})
    >>> X = pd.DataFrame({"machine": rng.choice(usual.index, size=300)})
    >>> X["temperature"] = usual[X["machine"]].to_numpy() + rng.normal(size=300)
    >>> pipeline = make_pipeline(
    ...     make_column_transformer(
    ...         (StandardScaler(), ["temperature"]),
    ...         (OneHotEncoder(sparse_output=False), ["machine"]),
    ...     ),
    ...     AutoencoderOutlierDetector(
    ...         1, scaling="global", calibration_fraction=0.2, random_state=0
    ...     ),
    ... ).fit(X)
    >>> rows = pd.DataFrame({"machine": ["lathe"], "temperature": [61.0]})
    >>> explanation = explain(pipeline, rows)
    >>> explanation.feature_names
    array(['machine', 'temperature'], dtype=object)
    >>> explanation.value
    array([['lathe', 61.0]], dtype=object)
    """
    *steps, (detector, _) = transformers(estimator)
    if not hasattr(detector, "explain"):
        raise TypeError(
            "explain needs a fitted detector with explain, such as "
            "AutoencoderOutlierDetector, or a Pipeline that ends in one. Got "
            f"{estimator!r}."
        )
    if not steps:
        return detector.explain(X)
    *tables, last = tables_of(steps, Table.of(X))
    found = detector.explain(last.rows)
    of_detector = {
        j: Column(found.share[:, j], found.residual[:, j], found.expected[:, j])
        for j in range(found.share.shape[1])
    }
    columns, outputs = undo_all(steps, tables, of_detector)
    source = tables[0]
    names = [source.names[j] for j in columns] + _names(outputs)
    values = [source.column(j) for j in columns] + [o.value for o in outputs]
    columns = [*columns.values(), *(output.column for output in outputs)]
    pairs = [_same_kind(v, c.expected) for v, c in zip(values, columns, strict=True)]
    return Explanation(
        value=_stacked([value for value, _ in pairs]),
        expected=_stacked([expected for _, expected in pairs]),
        residual=np.column_stack([column.residual for column in columns]),
        share=np.column_stack([column.share for column in columns]),
        code_share=found.code_share,
        feature_names=np.array(names, dtype=object),
        index=X.index if hasattr(X, "iloc") else np.arange(len(found.share)),
    )


def _names(outputs):
    """Return the names of outputs of steps, unique ones."""
    short = [f"{o.step.rpartition('__')[2]}__{o.name}" for o in outputs]
    return [
        name if short.count(name) == 1 else f"{output.step}__{output.name}"
        for name, output in zip(short, outputs, strict=True)
    ]


def _same_kind(value, expected):
    """Return both as floats, or both as objects if one is not of numbers."""
    if expected is None:
        expected = np.full(len(value), np.nan)
    if expected.dtype.kind in "fiub":
        filled = [np.nan if is_missing(v) else v for v in value.tolist()]
        try:
            return np.array(filled, dtype=np.float64), expected.astype(np.float64)
        except (TypeError, ValueError):
            pass
    return _objects(value), _objects(expected)


def _objects(values):
    """Return values as Python objects; missing ones are None."""
    # `tolist` would make integers of dates.
    items = list(values) if values.dtype.kind in "mM" else values.tolist()
    return as_objects(items)


def _stacked(columns):
    """Return columns as a matrix, of objects if one of them has objects."""
    dtype = np.result_type(*columns)
    return np.column_stack([column.astype(dtype) for column in columns])
