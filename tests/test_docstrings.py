"""The manual: what is documented is what there is."""

import ast
import importlib
import inspect
from fractions import Fraction

import pandas as pd
import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate

import skae
from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.bottlenecks import Nested, TopK, Variational, VectorQuantized

# Not every docstring needs an extended summary (ES01), a See Also section (SA01),
# examples (EX01: asked for below where users need them), or words about a return
# value that its type (RT03) or name (RT02) explains.
NOT_ASKED = {"ES01", "EX01", "RT02", "RT03", "SA01"}
# What an implementation need not repeat if it says where it is documented.
INHERITED = {"PR01", "RT01"}


def _public():
    """Return all public classes and functions by their full names."""
    found = {}
    for name in skae.__all__:
        value = getattr(skae, name)
        if inspect.ismodule(value):
            found |= {
                f"skae.{name}.{inner}": getattr(value, inner) for inner in value.__all__
            }
        else:
            found[f"skae.{name}"] = value
    return found


PUBLIC = _public()
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
# Public methods by full name, each with the class of ours that implements it.
METHODS = {
    f"{name}.{key}": owner
    for name, cls in CLASSES.items()
    for owner in cls.__mro__
    if owner.__module__.partition(".")[0] == "skae"
    for key, value in vars(owner).items()
    if inspect.isfunction(value)
    and (key == "__call__" or not key.startswith("_"))
    and getattr(cls, key) is value
}
ESTIMATORS = [AutoencoderTransformer, AutoencoderOutlierDetector]


def _errors(name):
    return {
        code: message
        for code, message in validate(name)["errors"]
        if code not in NOT_ASKED
    }


def _wrong(names, errors_of):
    """Return the names that have errors, so that a failure lists all of them."""
    return {name: errors for name in names if (errors := errors_of(name))}


def test_public_names_follow_numpydoc():
    assert PUBLIC
    assert _wrong(PUBLIC, _errors) == {}


def _errors_of_method(name):
    errors = _errors(name)
    key = name.rpartition(".")[2]
    bases = [base.__name__ for base in METHODS[name].__mro__[1:] if key in vars(base)]
    doc = getattr(METHODS[name], key).__doc__ or ""
    # The name of a method, or of the class where the method is what the class does.
    if any(f"see `{base}.{key}`" in doc or f"see `{base}`" in doc for base in bases):
        errors = {code: text for code, text in errors.items() if code not in INHERITED}
    return errors


def test_methods_follow_numpydoc():
    assert METHODS
    assert _wrong(METHODS, _errors_of_method) == {}


def test_what_users_call_has_an_example():
    called = [
        name
        for name, value in PUBLIC.items()
        if not inspect.isabstract(value)
        and name != "skae.penalties.Penalty"  # a base, though nothing in it is abstract
        and not name.startswith("skae.exceptions.")
    ]
    assert called
    assert [
        name
        for name in called
        if ">>>" not in "\n".join(FunctionDoc(PUBLIC[name])["Examples"])
    ] == []


def _wrong_defaults(name):
    """Return the parameters whose default is not the one of the signature."""
    head, _, key = name.rpartition(".")
    value = getattr(CLASSES[head], key) if name in METHODS else PUBLIC[name]
    if inspect.isclass(value) and issubclass(value, Exception):
        return []
    wrong = []
    documented = {p.name: p.type for p in FunctionDoc(value)["Parameters"]}
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name not in documented:
            continue
        _, says_default, default = documented[parameter.name].partition("default=")
        if parameter.default is inspect.Parameter.empty:
            if says_default:
                wrong.append(parameter.name)
        elif not (parameter.default is None and not says_default):
            expected = getattr(parameter.default, "__name__", parameter.default)
            try:
                default = ast.literal_eval(default)
            except ValueError:
                if "/" in default:
                    default = float(Fraction(default))
                # else a name
            if default != expected:
                wrong.append(parameter.name)
    return wrong


def test_documented_defaults_are_those_of_the_signature():
    assert _wrong([*PUBLIC, *METHODS], _wrong_defaults) == {}


def _parameters(estimator):
    return {p.name: p for p in ClassDoc(estimator)["Parameters"]}


def test_both_estimators_document_shared_parameters_in_the_same_words():
    first, second = (_parameters(estimator) for estimator in ESTIMATORS)
    assert first
    for name in first.keys() & second.keys():
        # Each estimator has networks of its own; the detector bears wild values and
        # cross-fits.
        if name in ("architecture", "scaling", "validation_split"):
            continue
        words = "\n".join(second[name].desc).replace(
            '"auto": "standard"', '"auto": "global"'
        )
        assert "\n".join(first[name].desc) == words
        assert first[name].type == second[name].type


def test_both_estimators_have_the_same_defaults_in_the_same_order():
    first, second = (
        inspect.signature(estimator).parameters for estimator in ESTIMATORS
    )
    own = {"contamination", "anomaly_score", "n_estimators", "calibration_fraction"}
    assert set(second) - set(first) == own
    of_first = {"whiten", "n_projection_steps", "max_encoder_steps"}
    assert set(first) - set(second) == of_first
    shared = [p for name, p in first.items() if name not in of_first]
    assert shared == [p for n, p in second.items() if n not in own]


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_fitted_attributes_are_documented(estimator, X):
    # A table whose columns have names, and few rows: PCA, which has components_.
    table = pd.DataFrame(X).rename(columns=str)
    with_category = table.assign(c=pd.Categorical(["a", "b"] * (len(X) // 2)))
    fitted = set()
    for bottleneck, rows in (
        (None, table),
        (None, with_category),
        (Nested(), table),
        (Variational(), table),
        (TopK(1), table),
        (VectorQuantized(4), table),
    ):
        model = estimator(2, bottleneck=bottleneck, max_epochs=2, random_state=0)
        if estimator is AutoencoderOutlierDetector:
            model.set_params(calibration_fraction=0.2)
        model.fit(rows)
        fitted |= {*vars(model), *dir(model)}
    fitted |= set(vars(estimator(2, random_state=0).partial_fit(table)))
    fitted = {n for n in fitted if n.endswith("_") and not n.startswith("_")}
    assert {a.name for a in ClassDoc(estimator)["Attributes"]} == fitted


def _not_listed(name):
    """Return what a public module defines and does not list, or the reverse."""
    module = importlib.import_module(f"skae.{name}")
    defined = {
        key
        for key, item in vars(module).items()
        # A package has its own in modules of its own.
        if f"{getattr(item, '__module__', '')}.".startswith(f"{module.__name__}.")
        and not key.startswith("_")
    }
    return defined ^ set(module.__all__)


def test_all_names_what_there_is():
    modules = [name for name in skae.__all__ if inspect.ismodule(getattr(skae, name))]
    assert modules
    assert _wrong(modules, _not_listed) == {}
