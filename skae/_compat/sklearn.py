"""Private API of scikit-learn: one import for each name, so that one file breaks."""

from sklearn.base import _fit_context as fit_context
from sklearn.impute._base import _BaseImputer as BaseImputer
from sklearn.model_selection._validation import _fit_and_score as fit_and_score
from sklearn.utils import _array_api as array_api
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_container_adapter
from sklearn.utils.metaestimators import _safe_split as safe_split
from sklearn.utils.validation import (
    _check_feature_names as check_feature_names,
)
from sklearn.utils.validation import (
    _check_method_params as check_method_params,
)
from sklearn.utils.validation import (
    _check_sample_weight as check_sample_weight,
)
from sklearn.utils.validation import (
    _get_feature_names as get_feature_names,
)
from sklearn.utils.validation import (
    _num_samples as num_samples,
)

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock
except ImportError:  # older scikit-learn, which draws a plain block instead
    _VisualBlock = None

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""


__all__ = [
    "HAS_ARRAY_API",
    "BaseImputer",
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "RealNotInt",
    "StrOptions",
    "array_api",
    "callback_context",
    "callback_state",
    "check_feature_names",
    "check_matplotlib_support",
    "check_method_params",
    "check_sample_weight",
    "fit_and_score",
    "fit_context",
    "get_feature_names",
    "has_callbacks",
    "html_block",
    "input_indices",
    "num_samples",
    "safe_indexing",
    "safe_split",
    "set_output_frame",
    "validate_parameter_constraints",
]

# Since scikit-learn 1.9 the rows given to a method must be of the array library and on
# the device of those given to `fit`, and scikit-learn has the function that checks it.
HAS_ARRAY_API = hasattr(array_api, "check_same_namespace")


def input_indices(column_transformer, name):
    """Return the positions of the input columns of a part of a ColumnTransformer."""
    return column_transformer._transformer_to_input_indices[name]


def html_block(estimator, caption):
    """Return the block of an estimator in HTML diagrams, with a line below its name."""
    block = _VisualBlock(
        "single",
        estimator,
        names=type(estimator).__name__,
        name_details=str(estimator),
    )
    block.name_caption = caption  # scikit-learn before 1.7 shows none
    return block


def set_output_frame(estimator, rows, names, given=None):
    """Return rows as the frame that `set_output` asks for, else as they are.

    Parameters
    ----------
    estimator : estimator
    rows : ndarray
    names : array-like of str
        Names of the columns.
    given : array-like or data frame, default=None
        Rows whose index is taken.
    """
    adapter = _get_container_adapter("transform", estimator)
    if adapter is None:
        return rows
    return adapter.create_container(rows, given, columns=names)


def has_callbacks(estimator):
    """Return whether callbacks were set on an estimator."""
    return hasattr(estimator, "_skl_callbacks")


def callback_context(estimator, max_subtasks):
    """Return the root of the tasks of a fit, which callbacks follow."""
    return estimator._init_callback_context(max_subtasks=max_subtasks)


def callback_state(estimator):
    """Return the attributes by which scikit-learn ends the callbacks of a fit."""
    names, state = ("_callback_fit_ctx", "_skl_callbacks_to_teardown"), vars(estimator)
    return {name: state[name] for name in names if name in state}
