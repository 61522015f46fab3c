"""The base of all parts, and what the parts may know of the data before training."""

from abc import ABC
from dataclasses import dataclass
from typing import NamedTuple

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._compat.sklearn import validate_parameter_constraints

__all__ = ["Affine", "Component", "Statistics", "weakest"]


class Component(BaseEstimator, ABC):
    """Base of all pluggable parts: a value, hyperparameters and nothing else.

    A component is a scikit-learn ``BaseEstimator``, so that ``clone``,
    ``set_params``, ``repr`` and nested names such as ``penalty__alpha`` are
    inherited. Whatever is learnt, or remembered, lives in the ``torch.nn.Module``
    that a component builds; one component can therefore serve many fits.
    """

    # Parameters that are not listed are not checked: third parties need none.
    _parameter_constraints: dict = {}

    def validate(self):
        """Check the parameters, those of nested components included.

        Raises
        ------
        InvalidParameterError
            A ``ValueError`` and ``TypeError`` that names the component, the
            parameter, what was got and what is accepted.
        """
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(
            self._parameter_constraints, parameters, type(self).__name__
        )
        for value in parameters.values():
            if isinstance(value, Component):
                value.validate()


class Affine(NamedTuple):
    """The map ``x -> x @ weight.T + bias``, as ``torch.nn.Linear`` keeps it."""

    weight: Tensor  # shape: (n_outputs, n_inputs)
    bias: Tensor  # shape: (n_outputs,)


@dataclass(frozen=True)
class Statistics:
    """What the parts may know of the scaled training rows before training.

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
        The weighted mean.
    axes : Tensor of shape (n_components, n_features)
        Orthonormal principal axes, by falling variance, with the signs that
        :class:`~sklearn.decomposition.PCA` gives them. Rows beyond the rank of
        the data are zero.
    variances : Tensor of shape (n_components,)
        The variance along each axis (divided by ``n``, not ``n - 1``).
    noise_variance : float
        The mean variance along the axes left out, as in probabilistic PCA
        (Tipping & Bishop, 1999).
    rows : Tensor of shape (n_rows, n_features)
        Some of the rows, at most a few thousand, each about as often as it counts.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    noise_variance: float
    rows: Tensor

    def pca(self, spread=None):
        """Return the maps of PCA from rows to codes and back.

        Parameters
        ----------
        spread : float, default=None
            Standard deviation that each component of the code has, if it has any. None
            leaves the components as PCA has them.

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


# What may be done to a fitted code without changing the model, from much to little.
_SYMMETRIES = ("rotation", "scaling", "permutation", None)


def weakest(*symmetries):
    """Return what all of several parts allow to be done to the code.

    Examples
    --------
    >>> weakest("rotation", "permutation", "rotation")
    'permutation'
    """
    return max(symmetries, key=_SYMMETRIES.index)
