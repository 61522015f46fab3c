"""Penalties: what shapes the code or the map to it. Penalties add with ``+``.

A penalty counts in the training objective, on held-out rows too, never in scores.
"""

from math import inf
from numbers import Real

import torch

from ._compat.sklearn import Interval
from ._component import Component, weakest

__all__ = ["L1", "Contractive", "Decorrelation", "KLSparsity", "Penalty", "Sum"]

_ALPHA = [Interval(Real, 0, None, closed="left")]
# Up to this width of the code its Jacobian is computed whole; one pass back through the
# encoder for each component.
_MAX_EXACT = 8


class Penalty(Component):
    """Base of all penalties.

    A subclass implements `per_sample`, or, if it judges the batch as a whole,
    `per_batch`; it may implement `draw`.

    Attributes
    ----------
    symmetry : {"rotation", "scaling", "permutation", None}
        What may be done to the code after training: any rotation (the penalty
        does not see the axes), a positive factor for each component and a new order, a
        new order only, or nothing.
    code_domain : tuple of (float, float)
        The closed interval in which the code must lie. `fit` refuses a bottleneck that
        does not keep to it.
    """

    symmetry: str | None = None
    code_domain = (-inf, inf)

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

    @property
    def code_domain(self):
        """Where both domains meet."""
        lows, highs = zip(self.left.code_domain, self.right.code_domain, strict=True)
        return max(lows), min(highs)

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

    Small entries are driven towards zero, not to it exactly, unless the code passes
    ``Plain(activation="relu")``. A decoder can make up for a small code by large
    weights; :class:`~skae.bottlenecks.TopK` has a sparsity that nothing can evade.

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

    _parameter_constraints: dict = {"alpha": _ALPHA}

    symmetry = "scaling"

    def __init__(self, alpha=1e-3):
        self.alpha = alpha

    def per_sample(self, x, code, encode, draw):
        """Return the scaled absolute sum of each code; see `Penalty.per_sample`."""
        return self.alpha * code.abs().sum(dim=1)


class KLSparsity(Penalty):
    r"""Sparse code: components that are active in a given share of the rows [1]_.

    The mean activation :math:`\hat\rho_k` of each component over the batch is drawn
    to a target :math:`\rho` by the Kullback-Leibler divergence between Bernoulli
    distributions,

    .. math:: \alpha \sum_k \rho \log \frac{\rho}{\hat\rho_k}
              + (1 - \rho) \log \frac{1 - \rho}{1 - \hat\rho_k}.

    Parameters
    ----------
    target : float, default=0.05
        The mean activation :math:`\rho` to reach, in (0, 1).

    alpha : float, default=1.0
        Strength, in units of the loss per nat.

    Raises
    ------
    ValueError
        On ``fit``, if the code does not lie in [0, 1]; that of
        ``Plain(activation="sigmoid")`` does.

    References
    ----------
    .. [1] Ng, "Sparse Autoencoder", CS294A lecture notes, 2011; after Lee, Ekanadham &
       Ng, "Sparse Deep Belief Net Model for Visual Area V2", NeurIPS 2007.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import KLSparsity
    >>> code = torch.tensor([[0.1, 0.9], [0.1, 0.9]])
    >>> KLSparsity(0.1).per_batch(code[:, :1], None)
    tensor(0.)
    >>> KLSparsity(0.1).per_batch(code, None)
    tensor(1.7578)
    """

    _parameter_constraints: dict = {
        "target": [Interval(Real, 0, 1, closed="neither")],
        "alpha": _ALPHA,
    }

    symmetry = "permutation"
    code_domain = (0.0, 1.0)

    def __init__(self, target=0.05, *, alpha=1.0):
        self.target = target
        self.alpha = alpha

    def per_batch(self, code, weight):
        """Return the divergence, summed over components; see `Penalty.per_batch`."""
        mean = torch.tensordot(_shares(code, weight), code, 1)
        # A component at 0 or 1 in all rows has a large price, not an infinite one.
        mean = mean.clamp(1e-6, 1 - 1e-6)
        target = torch.full_like(mean, self.target)
        divergence = target * (target / mean).log()
        divergence = divergence + (1 - target) * ((1 - target) / (1 - mean)).log()
        return self.alpha * divergence.sum()


class Contractive(Penalty):
    r"""Locally constant code: :math:`\alpha \|\partial z / \partial x\|_F^2` [1]_.

    The price of a row is the squared Frobenius norm of the encoder's Jacobian there, so
    that small shifts of the input move the code little. It is computed whole for codes
    of up to eight components. For wider ones it is estimated from the movement along
    one random direction per row and step, which is right on average [2]_ and costs
    about as much as a second pass through the encoder. It works for every architecture.

    A code that is merely scaled down pays less too, and the decoder can scale it up
    again. What counts is therefore how far the code moves in units of its own spread.

    Parameters
    ----------
    alpha : float, default=0.1
        Strength, in units of the loss per squared unit of the code, both of the scaled
        data. As a start: a linear code of unit directions (PCA) pays ``alpha`` times
        the number of components.

    Notes
    -----
    With :class:`~skae.bottlenecks.Variational` the code is one with its noise held
    fixed. With batch normalisation the rows of a batch move each other, which is
    counted too.

    References
    ----------
    .. [1] Rifai, Vincent, Muller, Glorot & Bengio, "Contractive Auto-Encoders:
       Explicit Invariance During Feature Extraction", ICML 2011.
    .. [2] Hutchinson, "A Stochastic Estimator of the Trace of the Influence Matrix",
       Communications in Statistics 18, 1989.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import Contractive
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    >>> penalty = Contractive(0.5)
    >>> draw = penalty.draw(x.shape, torch.Generator())
    >>> penalty.per_sample(x, x**2, lambda x: x**2, draw)
    tensor([10., 18.])
    """

    _parameter_constraints: dict = {"alpha": _ALPHA}

    symmetry = "rotation"

    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def draw(self, shape, generator):
        """Draw a random direction per row; see `Penalty.draw`."""
        # Signs, not normal numbers: of all independent entries they vary least.
        return (
            torch.randint(2, shape, generator=generator, device=generator.device)
            .float()
            .mul_(2)
            .sub_(1)
        )

    def per_sample(self, x, code, encode, draw):
        """Return the scaled squared norm of each Jacobian; see `Penalty.per_sample`."""
        if code.shape[1] <= _MAX_EXACT:
            _, pull = torch.func.vjp(encode, x)
            axes = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
            along = axes[:, None].expand(-1, len(code), -1)
            (rows,) = torch.func.vmap(pull)(along)
            return self.alpha * rows.square().sum(dim=(0, 2))
        _, moved = torch.func.jvp(encode, (x,), (draw.to(x.dtype),))
        return self.alpha * moved.square().sum(dim=1)


class Decorrelation(Penalty):
    r"""Uncorrelated code: :math:`\alpha \sum_{j \ne k} r_{jk}^2` over the batch.

    The price of a batch are the squared correlations of all pairs of components. Unlike
    the covariances of [1]_ they do not change when the decoder makes up for a smaller
    code. For codes that cannot be turned, such as that of ``Plain(activation="tanh")``:
    a linear code comes out of `fit` uncorrelated without any price.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength, in units of the loss; a pair that is fully correlated costs twice
        that.

    References
    ----------
    .. [1] Cogswell, Ahmed, Girshick, Zitnick & Batra, "Reducing Overfitting in Deep
       Networks by Decorrelating Representations", ICLR 2016.

    Examples
    --------
    >>> import torch
    >>> from skae.penalties import Decorrelation
    >>> code = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> Decorrelation().per_batch(code, None)
    tensor(0.)
    >>> Decorrelation().per_batch(code[:, [0, 0]], None)
    tensor(2.)
    """

    _parameter_constraints: dict = {"alpha": _ALPHA}

    # Turning a linear code to its principal axes makes the price zero.
    symmetry = "rotation"

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def per_batch(self, code, weight):
        """Return the sum of squared correlations; see `Penalty.per_batch`."""
        share = _shares(code, weight)
        centered = code - torch.tensordot(share, code, 1)
        covariance = (centered * share[:, None]).T @ centered
        variance = covariance.diagonal()
        # Components that do not vary, beyond rounding, correlate with nothing.
        rounding = 4 * torch.finfo(code.dtype).eps * code.detach().abs().amax(dim=0)
        varies = variance > rounding.square()
        scale = torch.where(varies, variance, 1.0).rsqrt() * varies
        correlation = covariance * scale[:, None] * scale
        squares = correlation.square()
        return self.alpha * (squares.sum() - squares.diagonal().sum())


def _shares(code, weight):
    """Return the share of each row in a mean over the batch."""
    if weight is None:
        return code.new_full((len(code),), 1 / len(code))
    return weight / weight.sum()
