"""Base class of all components, and statistics of the training rows for their start."""

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._compat.sklearn import validate_parameter_constraints
from ._slots import check_integers, check_slots

__all__ = ["Affine", "Component", "Statistics", "weakest"]


class Component(BaseEstimator, ABC):
    """Base class of all components: holds hyperparameters and no other state.

    A component is a scikit-learn ``BaseEstimator`` and inherits ``clone``,
    ``set_params``, ``repr`` and nested parameter names such as ``penalty__alpha``.
    Everything that is learnt is stored in the ``torch.nn.Module`` that the component
    builds, so that one component can be used in many fits.
    """

    # Constraints in the format of scikit-learn. Parameters that are not listed are not
    # checked, so that third-party components need none.
    _parameter_constraints: dict = {}

    def validate(self):
        """Check the parameters, including those of nested components.

        Raises
        ------
        InvalidParameterError
            If a parameter is not accepted. It is a ``ValueError`` and a ``TypeError``;
            the message names the component and the parameter, the value that was
            given, and the values that are accepted.
        """
        parameters = self.get_params(deep=False)
        constraints, name = self._parameter_constraints, type(self).__name__
        check_slots(constraints, parameters, name)
        check_integers(parameters, name)
        validate_parameter_constraints(constraints, parameters, name)
        for value in parameters.values():
            if isinstance(value, Component):
                value.validate()


class Affine(NamedTuple):
    """The affine map ``x -> x @ weight.T + bias``, stored as in ``torch.nn.Linear``."""

    weight: Tensor  # shape: (n_outputs, n_inputs)
    bias: Tensor  # shape: (n_outputs,)


@dataclass(frozen=True)
class Statistics:
    """Statistics of the scaled training rows, from which the weights are initialised.

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
        Weighted mean.
    axes : Tensor of shape (n_components, n_features)
        Orthonormal principal axes in the order of decreasing variance, with the signs
        of :class:`~sklearn.decomposition.PCA`. Those beyond the rank of the data are
        directions of variance zero, in which new rows may vary; those beyond
        ``n_features`` are zero.
    variances : Tensor of shape (n_components,)
        Variance along each axis (divided by ``n``, not ``n - 1``).
    noise_variance : float
        Mean variance along the axes that are not kept, as in probabilistic PCA
        (Tipping & Bishop, 1999).
    read : callable
        Returns ``rows``; not called if nobody asks for them.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    noise_variance: float
    read: Callable[[], Tensor]

    @cached_property
    def rows(self):
        """Subsample of at most a few thousand rows, (n_rows, n_features).

        The number of times a row is in it is about proportional to its sample weight.
        """
        return self.read()

    def pca(self, spread=None):
        """Return the affine maps of PCA from rows to codes and from codes to rows.

        Parameters
        ----------
        spread : float, default=None
            Standard deviation to which each component of the code is scaled; those of
            variance zero are taken as of variance one. None does not scale any.

        Returns
        -------
        encoding, reconstruction : Affine
        """
        scale = torch.ones_like(self.variances)
        if spread is not None:
            deviation = self.variances.sqrt()
            scale = spread / torch.where(deviation > 0, deviation, 1.0)
        weight = scale[:, None] * self.axes
        return Affine(weight, -(weight @ self.mean)), Affine(
            self.axes.T / scale, self.mean
        )


# Transformations of a fitted code that leave the model equivalent, from the least to
# the most restrictive; "triangular" maps are some of the rotations.
_SYMMETRIES = ("rotation", "scaling", "permutation", None)


def weakest(*symmetries):
    """Return the most restrictive of several symmetries of the code.

    Examples
    --------
    >>> weakest("rotation", "permutation", "rotation")
    'permutation'
    >>> weakest("rotation", "triangular")
    'triangular'
    """
    if "triangular" in symmetries:
        # It keeps the order, which the others may change.
        return "triangular" if set(symmetries) <= {"rotation", "triangular"} else None
    return max(symmetries, key=_SYMMETRIES.index)
