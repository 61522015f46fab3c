"""Slots: the parameters that take a component, and what may be put into them.

And what no parameter takes.
"""

import sys
from inspect import Parameter, isabstract, signature
from itertools import takewhile
from numbers import Integral

from sklearn.base import BaseEstimator

from ._compat.sklearn import InvalidParameterError

__all__ = ["check_integers", "check_slots", "stand_in"]


def check_slots(constraints, parameters, owner):
    """Check that slots hold components, not classes, names or numbers.

    scikit-learn checks the same, but names the private module of the base class.

    Parameters
    ----------
    constraints : dict
        Constraints of scikit-learn, by parameter.
    parameters : dict
        Values, by parameter.
    owner : str
        Name of the class whose parameters they are.

    Raises
    ------
    InvalidParameterError
        The message lists the public components that the slot accepts.
    """
    for name, value in parameters.items():
        kind = _kind(constraints.get(name, ()))
        if kind is None or isinstance(value, kind):
            continue
        optional = None in constraints[name]
        if optional and value is None:
            continue
        got = repr(value)
        if isinstance(value, type):
            got = f"the class {value.__name__}"
            if issubclass(value, kind):
                got += f", not {_call(value)},"
        raise InvalidParameterError(
            f"The {name!r} parameter of {owner} must be {'None or ' * optional}a "
            f"component of {_public_module(kind)}: {_one_of(_choices(kind))}. "
            f"Got {got} instead."
        )


def check_integers(parameters, owner):
    """Check that integers have at most 64 bits, as those of NumPy and torch.

    Parameters
    ----------
    parameters : dict
        Values, by parameter.
    owner : str
        Name of the class whose parameters they are.

    Raises
    ------
    InvalidParameterError
        The message names the parameter.
    """
    numbers = [
        (name, number)
        for name, value in parameters.items()
        for number in (value if isinstance(value, (list, tuple)) else [value])
    ]
    for name, value in numbers:
        if isinstance(value, Integral) and not -(2**63) <= value < 2**63:
            got = repr(value) if abs(value) < 10**40 else "a longer integer"
            raise InvalidParameterError(
                f"The {name!r} parameter of {owner} must be less than 2**63. Got {got} "
                "instead."
            )


def stand_in(name, plain, parameters, constraints):
    """Return the component whose parameters are to be set, where a slot is None.

    Parameters
    ----------
    name : str
        The slot.
    plain : Component or None
        What None stands for.
    parameters : list of str
        Parameters of a component.
    constraints : dict
        Constraints of scikit-learn, by parameter.

    Returns
    -------
    Component
        ``plain``.

    Raises
    ------
    ValueError
        If other public components have the parameters, or None stands for nothing. The
        message lists the components that can be meant.
    """
    choices = _choices(_kind(constraints[name]))
    having = [c for c in choices if set(parameters) <= set(c._get_param_names())]
    if plain is not None and (type(plain) in having or not having):
        return plain
    meaning = "" if plain is None else f", which stands for {plain!r},"
    raise ValueError(
        f"{name}=None{meaning} has no parameter {' and '.join(map(repr, parameters))}: "
        f"set {name} to a component first, for example {_one_of(having or choices)}."
    )


def _kind(constraints):
    """Return the base class of the components that constraints accept, or None."""
    for constraint in constraints:
        if isinstance(constraint, type) and issubclass(constraint, BaseEstimator):
            return constraint
    return None


def _public_module(cls):
    package, *names = cls.__module__.split(".")
    public = takewhile(lambda name: not name.startswith("_"), names)
    return ".".join([package, *public])


def _choices(kind):
    """Return the public components of a kind; the kind itself if there are none."""
    module = sys.modules[_public_module(kind)]
    public = [getattr(module, name) for name in sorted(getattr(module, "__all__", ()))]
    components = [c for c in public if isinstance(c, type) and issubclass(c, kind)]
    return [c for c in components if c is not kind and not isabstract(c)] or [kind]


def _call(cls):
    """Return how a component is made: its class and the parameters it must have."""
    parameters = signature(cls).parameters.values()
    required = [p.name for p in parameters if p.default is Parameter.empty]
    return f"{cls.__name__}({', '.join(f'{name}=...' for name in required)})"


def _one_of(classes):
    *others, last = map(_call, classes)
    return f"{', '.join(others)} or {last}" if others else last
