"""What a file may name: classes of objects, and functions and types as values.

A file is data. It says of which class an object is by a name of these tables, and
`skae.load` looks the name up here: it imports nothing else, and calls nothing.

Attributes of an object come from the file, whatever they are. So a class may be here if
an instance with any attributes does no harm when its methods are called: NumPy and
torch check shapes and indices. That is why trees, support vector machines and
neighbours of scikit-learn are not here: their compiled code trusts its own arrays.
Nor are vectorizers of text: indices of their vocabulary go unchecked into sparse
matrices, a pattern from the file may take any time, and they can read other files.
"""

import sys
from functools import cache
from importlib import import_module

from sklearn.base import BaseEstimator
from torch import nn

from .._component import Component
from .._data.blocks import Blocks
from .._data.categories import Categories
from .._data.frames import FrameKind
from .._data.reservoir import Reservoir
from .._imputer import AutoencoderImputer
from .._model.density import CodeDensity
from .._outlier import AutoencoderOutlierDetector
from .._outlier._ensemble import Ensemble
from .._outlier._thresholds import Reference
from .._training.increments import Increments
from .._training.net import Net
from .._training.selection import Trial
from .._transformer import AutoencoderTransformer

__all__ = ["known_objects", "known_values", "must_be_none", "version_sensitive"]

# Components, and modules of torch, are found where they are defined. Other classes of
# which a fitted estimator has instances:
_OWN = (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    Blocks,
    Categories,
    CodeDensity,
    Ensemble,
    Increments,
    FrameKind,
    Net,
    Reference,
    Reservoir,
    Trial,
)
_ROOT = __name__.partition(".")[0]

# Classes of others, by the modules that have them; torch.nn has all of its own.
_FOREIGN = {
    "skorch.callbacks": ["EpochTimer"],
    "skorch.history": ["History"],
    "sklearn.compose": ["ColumnTransformer", "TransformedTargetRegressor"],
    "sklearn.covariance": [
        "EllipticEnvelope",
        "EmpiricalCovariance",
        "LedoitWolf",
        "MinCovDet",
        "OAS",
        "ShrunkCovariance",
    ],
    "sklearn.decomposition": [
        "FactorAnalysis",
        "FastICA",
        "IncrementalPCA",
        "NMF",
        "PCA",
        "SparsePCA",
        "TruncatedSVD",
    ],
    "sklearn.discriminant_analysis": [
        "LinearDiscriminantAnalysis",
        "QuadraticDiscriminantAnalysis",
    ],
    "sklearn.dummy": ["DummyClassifier", "DummyRegressor"],
    "sklearn.feature_selection": [
        "SelectFdr",
        "SelectFpr",
        "SelectKBest",
        "SelectPercentile",
        "VarianceThreshold",
    ],
    "sklearn.impute": ["MissingIndicator", "SimpleImputer"],
    "sklearn.kernel_approximation": ["Nystroem", "RBFSampler"],
    "sklearn.linear_model": [
        "ElasticNet",
        "ElasticNetCV",
        "Lasso",
        "LassoCV",
        "LinearRegression",
        "LogisticRegression",
        "LogisticRegressionCV",
        "Ridge",
        "RidgeCV",
        "RidgeClassifier",
        "RidgeClassifierCV",
    ],
    "sklearn.mixture": ["BayesianGaussianMixture", "GaussianMixture"],
    "sklearn.model_selection": [
        "GroupKFold",
        "GroupShuffleSplit",
        "KFold",
        "LeaveOneGroupOut",
        "PredefinedSplit",
        "RepeatedKFold",
        "RepeatedStratifiedKFold",
        "ShuffleSplit",
        "StratifiedGroupKFold",
        "StratifiedKFold",
        "StratifiedShuffleSplit",
        "TimeSeriesSplit",
    ],
    "sklearn.naive_bayes": ["BernoulliNB", "GaussianNB", "MultinomialNB"],
    "sklearn.pipeline": ["FeatureUnion", "Pipeline"],
    "sklearn.preprocessing": [
        "Binarizer",
        "FunctionTransformer",
        "KBinsDiscretizer",
        "LabelBinarizer",
        "LabelEncoder",
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "OneHotEncoder",
        "OrdinalEncoder",
        "PolynomialFeatures",
        "PowerTransformer",
        "QuantileTransformer",
        "RobustScaler",
        "StandardScaler",
        "TargetEncoder",
    ],
    "sklearn.random_projection": [
        "GaussianRandomProjection",
        "SparseRandomProjection",
    ],
}

# Functions and types that occur as values of attributes. The functions compute with
# arrays, or print, and do nothing else.
_VALUES = {
    "builtins": ["bool", "float", "int", "object", "print", "str"],
    "numpy": [
        *("abs", "cbrt", "exp", "expm1", "log", "log10", "log1p", "log2", "sqrt"),
        *("arcsinh", "sinh", "square", "tanh"),
        *("bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    ],
    "skorch.dataset": ["Dataset"],
    "sklearn.feature_selection": [
        *("chi2", "f_classif", "f_regression", "mutual_info_classif"),
        *("mutual_info_regression", "r_regression"),
    ],
    "torch": ["relu", "sigmoid", "tanh"],
    "torch.utils.data": ["DataLoader"],
}

# With a folder as `memory`, a pipeline loads pickles from there when it is fitted; with
# one as `checkpoint`, an estimator writes to it.
_MUST_BE_NONE = {
    "sklearn.pipeline.Pipeline": {"memory"},
    "skae.AutoencoderOutlierDetector": {"checkpoint"},
    "skae.AutoencoderTransformer": {"checkpoint"},
}


def _named(table):
    """Yield the name of each entry of a table, and the object."""
    for module, names in table.items():
        for name in names:
            # What this version of scikit-learn does not have is not known.
            found = getattr(import_module(module), name, None)
            if found is not None:
                yield f"{module}.{name}", found


def _of_skae():
    """Yield the names of our own classes, and the classes.

    Private modules are not in the names: classes may move between them.
    """
    found = set(_OWN)
    for name, module in list(sys.modules.items()):
        if module is not None and name.startswith(f"{_ROOT}."):
            found |= {
                value
                for value in vars(module).values()
                if isinstance(value, type)
                and value.__module__ == name
                and issubclass(value, (Component, nn.Module))
            }
    for cls in found:
        package = cls.__module__.split(".")[1]
        parts = [_ROOT, cls.__qualname__]
        if not package.startswith("_"):
            parts.insert(1, package)
        yield ".".join(parts), cls


@cache
def known_objects():
    """Return the classes of which a file may have instances, by name."""
    known = dict(_of_skae())
    known |= {
        f"torch.nn.{name}": value
        for name, value in vars(nn).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__name__ == name
    }
    return known | dict(_named(_FOREIGN))


@cache
def known_values():
    """Return the functions and types that a file may have as values, by name."""
    return dict(_named(_VALUES)) | known_objects()


def must_be_none(name):
    """Return the attributes that instances of a class must have as None."""
    return _MUST_BE_NONE.get(name, set())


def version_sensitive(name):
    """Return whether the attributes of a class are scikit-learn's to change."""
    cls = known_objects().get(name)
    return name.startswith("sklearn.") and issubclass(cls, BaseEstimator)
