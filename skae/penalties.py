"""Penalties: what shapes the code or the map to it. Penalties add with ``+``.

A penalty counts in the training objective, on held-out rows too, never in scores.
"""

from numbers import Real

from sklearn.utils._param_validation import Interval

from ._component import Component, weakest

__all__ = ["L1", "Penalty", "Sum"]


class Penalty(Component):
    """Base of all penalties.

    A subclass implements `per_sample`, or, if it judges the batch as a whole,
    `per_batch`; it may implement `draw`.

    Attributes
    ----------
    symmetry : {"rotation", "permutation", None}
        What may be done to the code after training: any rotation (the penalty
        does not see the axes), a permutation only, or nothing.
    """

    symmetry: str | None = None

    def draw(self, shape, generator):
        """Draw what is random in one application: nothing here.

        Parameters
        ----------
        shape : tuple of (int, int)
            Rows and features of the batch.
        generator : torch.Generator
            Where randomness comes from.

        Returns
        -------
        None, Tensor or tuple
        """
        return None

    def per_sample(self, x, code, encode, draw):
        """Return the price of each row.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            What the encoder saw.
        code : Tensor of shape (n_samples, n_components)
            Its code.
        encode : callable
            The map from ``x`` to ``code``, with every random draw held fixed.
        draw : None, Tensor or tuple
            What `draw` returned.

        Returns
        -------
        Tensor of shape (n_samples,), or 0
        """
        return 0

    def per_batch(self, code, weight):
        """Return the price of the batch.

        Parameters
        ----------
        code : Tensor of shape (n_samples, n_components)
            The code of the batch.
        weight : Tensor of shape (n_samples,) or None
            Sample weights, of mean one over the training rows.

        Returns
        -------
        Tensor of shape (), or 0
        """
        return 0

    def __add__(self, other):
        """Return the penalty that charges both prices."""
        if not isinstance(other, Penalty):
            return NotImplemented
        return Sum(self, other)


class Sum(Penalty):
    """Two penalties at once; what ``left + right`` returns.

    Parameters
    ----------
    left, right : Penalty
        The two. Nested names lead to their parameters: ``left__alpha``.

    Examples
    --------
    >>> from skae.penalties import L1
    >>> (L1(0.1) + L1(0.2)).get_params()["right__alpha"]
    0.2
    """

    _parameter_constraints: dict = {"left": [Penalty], "right": [Penalty]}

    def __init__(self, left, right):
        self.left = left
        self.right = right

    @property
    def symmetry(self):
        """What both allow to be done to the code."""
        return weakest(self.left.symmetry, self.right.symmetry)

    def draw(self, shape, generator):
        """Draw for both; see `Penalty.draw`."""
        return self.left.draw(shape, generator), self.right.draw(shape, generator)

    def per_sample(self, x, code, encode, draw):
        """Return the sum of both prices; see `Penalty.per_sample`."""
        left, right = draw
        return self.left.per_sample(x, code, encode, left) + self.right.per_sample(
            x, code, encode, right
        )

    def per_batch(self, code, weight):
        """Return the sum of both prices; see `Penalty.per_batch`."""
        return self.left.per_batch(code, weight) + self.right.per_batch(code, weight)


class L1(Penalty):
    r"""Sparse code: :math:`\alpha \sum_k |z_k|`, summed over components.

    Parameters
    ----------
    alpha : float, default=1e-3
        Strength, in units of the loss per unit of the code of the scaled data.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import L1
    >>> L1(0.5).per_sample(None, torch.tensor([[1.0, -3.0]]), None, None)
    tensor([2.])
    """

    _parameter_constraints: dict = {"alpha": [Interval(Real, 0, None, closed="left")]}

    symmetry = "permutation"

    def __init__(self, alpha=1e-3):
        self.alpha = alpha

    def per_sample(self, x, code, encode, draw):
        """Return the scaled absolute sum of each code; see `Penalty.per_sample`."""
        return self.alpha * code.abs().sum(dim=1)
