"""Fits of several processes, each with its own rows; see `skae.distributed`."""

from functools import partial
from numbers import Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from ._compat.sklearn import has_callbacks
from ._data.arrays import unwrapped
from ._data.categories import categorical_columns
from ._data.source import source_of
from ._data.stream import Stream
from ._data.validation import DTYPES, check_flat, checked_weights, has_missing
from ._input import named_columns
from ._training.fit import train
from ._training.increments import MOST_COLUMNS
from ._training.plan import FEW_ROWS
from ._training.shared import prepare_shared

__all__ = ["SharedFitMixin"]


class SharedFitMixin:
    """A fit as one of several processes."""

    def _fit_shared(
        self,
        workers,
        X,
        sample_weight,
        X_val,
        X_target,
        X_val_target,
        groups,
        y,
        progress,
    ):
        """Fit as one of several processes: a generator; see `skae.distributed`."""
        others = {"X_target": X_target, "X_val_target": X_val_target, "groups": groups}
        with workers.agreed():
            self._check_shared(others)
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
            settings, rows, weight, X_val = self._rows_of_worker(
                X, sample_weight, X_val
            )
        n_all, weight = self._agreed_rows(workers, rows, weight, X_val)
        names = vars(self).get("feature_names_in_")
        if n_all < FEW_ROWS:
            # Nothing is gained by several processes.
            tables = [
                None if table is None else np.concatenate(workers.of_all(table))
                for table in (_in_memory(rows), weight, X_val)
            ]
            fitting = self._fit(*tables, None, None, None, None, progress)
        else:
            rows = self._cleaned(rows)
            rows = source_of(rows) if isinstance(rows, np.ndarray) else rows
            X_val = None if X_val is None else source_of(self._cleaned(X_val))
            self._withheld = None
            plan = prepare_shared(
                workers,
                settings,
                rows,
                weight,
                X_val,
                check_random_state(self.random_state),
            )
            progress.begin_fit(plan, self._n_networks(plan))
            fit = yield from train(
                plan, progress=progress, attributes=self._attributes_of
            )
            fitting = self._complete(fit, progress)
        with workers.agreed():
            if workers.is_first:
                yield from fitting
        if names is not None:
            self.feature_names_in_ = names
        parameters = self.get_params(deep=False)
        fitted = {n: v for n, v in vars(self).items() if n not in parameters}
        vars(self).update(workers.of_first(fitted))

    def _agreed_rows(self, workers, rows, weight, X_val):
        """Return the number of rows of all processes, and the weights of these rows.

        They are on one scale; None if all are equal.
        """
        plain = int, float, str, bool, type(None)
        parameters = {
            name: value if isinstance(value, plain) else type(value).__name__
            for name, value in self.get_params(deep=False).items()
        }
        names = getattr(self, "feature_names_in_", None)
        what = {
            "estimator": type(self).__name__,
            "parameters": parameters,
            "number of columns": rows.shape[1],
            "names of the columns": None if names is None else names.tolist(),
            "use of sample_weight": weight is not None,
            "use of X_val": X_val is not None,
        }
        n_val = 0 if X_val is None else len(X_val)
        bounds = np.inf, -np.inf
        if weight is not None and len(weight):
            bounds = weight.min(), weight.max()
        agreed, sizes, n_vals, lows, highs = zip(
            *workers.of_all((what, len(rows), n_val, *bounds)), strict=True
        )
        for name in what:
            values = [each[name] for each in agreed]
            different = [value for value in values if value != values[0]]
            if different:
                raise ValueError(
                    f"All processes must have the same {name}. Got {values[0]} and "
                    f"{different[0]}."
                )
        if sum(sizes) < 2:
            raise ValueError(
                f"X has {sum(sizes)} rows with a positive weight in all processes "
                "together: at least 2 are required."
            )
        if X_val is not None and not any(n_vals):
            raise ValueError("X_val has no rows in any process.")
        if weight is not None:
            weight = None if min(lows) == max(highs) else weight / max(highs)
        return sum(sizes), weight

    def _check_shared(self, others):
        """Check that parameters are supported by fits of several processes."""
        unsupported = [name for name, value in others.items() if value is not None]
        for name, supported in {
            "n_estimators": (1,),
            "validation_split": ("random",),
            "checkpoint": (None,),
            "calibration_fraction": (0, 0.0),
        }.items():
            value = getattr(self, name, supported[0])
            if not isinstance(value, str | Real | None) or value not in supported:
                unsupported.append(f"{name}={value!r}")
        if self.warm_start and hasattr(self, "_model"):
            unsupported.append("warm_start=True with a fitted model")
        if not isinstance(self.optimizer, str):
            unsupported.append("a class as optimizer")
        if has_callbacks(self) or "callbacks" in (self.net_params or {}):
            unsupported.append("callbacks")
        if unsupported:
            raise ValueError(
                f"Not supported with several processes: {', '.join(unsupported)}."
            )

    def _rows_of_worker(self, X, sample_weight, X_val):
        """Return settings, and the rows of one of several processes, checked.

        Returns
        -------
        settings : Settings
        rows : ndarray or Stream
        weight : ndarray or None
        X_val : ndarray or None
        """
        check_flat(X, "X", self)
        self._categories = None
        settings = self._settings()
        domain = partial(settings.parts.loss.check_domain, name="X")
        stream = self._stream_of(X, reset=True)
        if stream is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Not supported for rows that are read in chunks: sample_weight."
                )
            stream = stream.checked_by(domain)
            stream.survey()
            missing, rows = stream.missing.any(), stream
        else:
            if categorical_columns(X, self.categorical_features) is not None:
                raise ValueError(
                    "Not supported with several processes: categories. Encode them, "
                    "and pass categorical_features=None."
                )
            how = {"dtype": DTYPES, "ensure_all_finite": "allow-nan"}
            with named_columns(X, None):
                X = validate_data(self, unwrapped(X), ensure_min_samples=0, **how)
            missing = X.size and has_missing(X)
            if X.size:
                domain(X)
            if sample_weight is not None:
                sample_weight = checked_weights(sample_weight, X)
                kept = sample_weight > 0
                X, sample_weight = X[kept], sample_weight[kept]
            rows = X
        if X_val is not None and not len(X_val):
            X_val = np.empty((0, self.n_features_in_))  # others may have some
        elif X_val is not None:
            X_val = self._check_width(X_val, "X_val", DTYPES)
            settings.parts.loss.check_domain(X_val, "X_val")
            missing = missing or has_missing(X_val)
        if rows.shape[1] > MOST_COLUMNS:
            raise ValueError(
                "With several processes the covariances of all columns are kept, of "
                f"which X has {rows.shape[1]}: at most {MOST_COLUMNS} are supported."
            )
        if missing:
            raise ValueError(
                "Not supported with several processes: missing values (NaN). Impute "
                "them first."
            )
        return settings, rows, sample_weight, X_val


def _in_memory(rows):
    return rows.take(slice(None)).numpy() if isinstance(rows, Stream) else rows
