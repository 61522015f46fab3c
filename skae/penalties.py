"""Penalties on the latent code or on the encoder; ``+`` adds penalties.

A penalty is part of the training objective, also on validation rows, but not of scores.
"""

from math import inf
from numbers import Real

import torch

from ._compat.sklearn import Interval
from ._component import Component, weakest

__all__ = ["L1", "Contractive", "Decorrelation", "KLSparsity", "Penalty", "Sum"]

_ALPHA = [Interval(Real, 0, None, closed="left")]
# Codes of up to this many components have their exact Jacobian computed: one backward
# pass through the encoder per component.
_MAX_EXACT = 8


class Penalty(Component):
    """Base of all penalties.

    A subclass implements `per_sample`, or `per_batch` if the cost is a function of the
    batch as a whole. If it is random, it implements `draw`, too.

    Attributes
    ----------
    symmetry : {"rotation", "scaling", "permutation", None}
        Transformations of the code that are allowed after training: any rotation (the
        penalty does not depend on the axes), a positive factor for each component and a
        new order, a new order only, or none.
    code_domain : tuple of (float, float)
        The closed interval in which the code must lie. `fit` raises an error if codes
        of the bottleneck may lie outside.
    """

    symmetry: str | None = None
    code_domain = (-inf, inf)

    def draw(self, shape, generator):
        """Draw the random numbers of one application (none by default).

        Parameters
        ----------
        shape : tuple of (int, int)
            Number of rows and features of the batch.
        generator : torch.Generator
            Source of randomness; its device is that of the batch.

        Returns
        -------
        None, Tensor or tuple
            Passed to `per_sample`.
        """
        return None

    def per_sample(self, x, code, encode, draw):
        """Return the cost of each row (0 by default).

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Input of the encoder: scaled rows, corrupted if there is a corruption.
        code : Tensor of shape (n_samples, n_components)
            Their code.
        encode : callable
            The map from ``x`` to ``code``, with all random draws and the statistics of
            batch normalisation held fixed.
        draw : None, Tensor or tuple
            The value that `draw` returned.

        Returns
        -------
        Tensor of shape (n_samples,), or 0
        """
        return 0

    def per_batch(self, code, weight):
        """Return the cost of the batch (0 by default).

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
        """Return the sum of two penalties."""
        if not isinstance(other, Penalty):
            return NotImplemented
        return Sum(self, other)


class Sum(Penalty):
    """The sum of two penalties; ``left + right`` returns it.

    Parameters
    ----------
    left, right : Penalty
        The two penalties. Nested names such as ``left__alpha`` refer to their
        parameters.

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
        """Transformations of the code that both allow."""
        return weakest(self.left.symmetry, self.right.symmetry)

    @property
    def code_domain(self):
        """The intersection of both domains."""
        lows, highs = zip(self.left.code_domain, self.right.code_domain, strict=True)
        return max(lows), min(highs)

    def draw(self, shape, generator):
        """Draw for both; see `Penalty.draw`."""
        return self.left.draw(shape, generator), self.right.draw(shape, generator)

    def per_sample(self, x, code, encode, draw):
        """Return the sum of both costs; see `Penalty.per_sample`."""
        left, right = draw
        return self.left.per_sample(x, code, encode, left) + self.right.per_sample(
            x, code, encode, right
        )

    def per_batch(self, code, weight):
        """Return the sum of both costs; see `Penalty.per_batch`."""
        return self.left.per_batch(code, weight) + self.right.per_batch(code, weight)


class L1(Penalty):
    r"""Sparse code: :math:`\alpha \sum_k |z_k|`, summed over components.

    Small entries shrink towards zero. They become exactly zero only with
    ``Plain(activation="relu")``. A decoder with large weights can compensate for a
    small code; :class:`~skae.bottlenecks.TopK` guarantees sparsity instead.

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
    r"""Sparse code: components that are active in a given share of the rows.

    The mean activation :math:`\hat\rho_k` of each component over the batch is pulled
    towards a target :math:`\rho` by the Kullback-Leibler divergence between Bernoulli
    distributions [1]_,

    .. math:: \alpha \sum_k \rho \log \frac{\rho}{\hat\rho_k}
              + (1 - \rho) \log \frac{1 - \rho}{1 - \hat\rho_k}.

    Parameters
    ----------
    target : float, default=0.05
        The target :math:`\rho` of the mean activation, in (0, 1).

    alpha : float, default=1.0
        Strength, in units of the loss per nat.

    Raises
    ------
    ValueError
        On ``fit``, if codes may lie outside [0, 1]. Use
        ``Plain(activation="sigmoid")``, for instance.

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
        # The cost of a component that is 0 or 1 in all rows is large, but finite.
        mean = mean.clamp(1e-6, 1 - 1e-6)
        target = torch.full_like(mean, self.target)
        divergence = target * (target / mean).log()
        divergence = divergence + (1 - target) * ((1 - target) / (1 - mean)).log()
        return self.alpha * divergence.sum()


class Contractive(Penalty):
    r"""Locally constant code: :math:`\alpha \|\partial z / \partial x\|_F^2`.

    The cost of a row is the squared Frobenius norm of the Jacobian of the encoder at
    this row [1]_, so that small changes of the input change the code little. It is
    exact for codes of up to eight components. For wider ones it is estimated from the
    derivative along one random direction per row and step. The estimate is unbiased
    [2]_ and takes about as long as a second pass through the encoder. It works for
    every architecture.

    A code on a smaller scale costs less, too, and the decoder can undo the scale.
    Therefore compare changes of the code with its own spread.

    Parameters
    ----------
    alpha : float, default=0.1
        Strength, in units of the loss per squared unit of the code, both of the scaled
        data. For orientation: the cost of a linear code with orthonormal axes (PCA) is
        ``alpha`` times the number of components.

    Notes
    -----
    With :class:`~skae.bottlenecks.Variational` the code includes its noise, which is
    held fixed. With batch normalisation the rows of a batch influence each other's
    codes, which is counted, too.

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
        # Random signs: their estimate has a smaller variance than that of normal
        # numbers (Hutchinson, 1989).
        return (
            torch.randint(2, shape, generator=generator, device=generator.device)
            .float()
            .mul_(2)
            .sub_(1)
        )

    def per_sample(self, x, code, encode, draw):
        """Return the scaled squared norm of each Jacobian; see `Penalty.per_sample`."""
        try:
            return self.alpha * _squared_norm(x, code, encode, draw)
        except RuntimeError as error:
            if "mutate a captured Tensor" not in str(error):
                raise
            raise ValueError(
                f"penalty={self!r} needs an encoder that keeps no statistics of the "
                "rows, as torch.nn.BatchNorm1d does: use torch.nn.LayerNorm, or the "
                "norm of MLP or Conv."
            ) from error


class Decorrelation(Penalty):
    r"""Uncorrelated code: :math:`\alpha \sum_{j \ne k} r_{jk}^2` over the batch.

    The cost of a batch is the sum of the squared correlations of all pairs of
    components. Unlike the covariances of [1]_, they do not depend on the scale of the
    code, for which the decoder could compensate. Use it for codes that cannot be
    rotated, such as that of ``Plain(activation="tanh")``. A linear code is uncorrelated
    after `fit` without this penalty.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength, in units of the loss. A fully correlated pair costs twice as much,
        since both orders count.

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

    # Rotating a linear code to its principal axes makes the cost zero.
    symmetry = "rotation"

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def per_batch(self, code, weight):
        """Return the sum of squared correlations; see `Penalty.per_batch`."""
        share = _shares(code, weight)
        centered = code - torch.tensordot(share, code, 1)
        covariance = (centered * share[:, None]).T @ centered
        variance = covariance.diagonal()
        # Components that vary by rounding errors only have correlation zero.
        rounding = 4 * torch.finfo(code.dtype).eps * code.detach().abs().amax(dim=0)
        varies = variance > rounding.square()
        scale = torch.where(varies, variance, 1.0).rsqrt() * varies
        correlation = covariance * scale[:, None] * scale
        squares = correlation.square()
        return self.alpha * (squares.sum() - squares.diagonal().sum())


def _squared_norm(x, code, encode, draw):
    """Return the squared norm of the Jacobian of each row, estimated for wide codes."""
    if code.shape[1] <= _MAX_EXACT:
        _, pull = torch.func.vjp(encode, x)
        axes = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
        along = axes[:, None].expand(-1, len(code), -1)
        (rows,) = torch.func.vmap(pull)(along)
        return rows.square().sum(dim=(0, 2))
    _, moved = torch.func.jvp(encode, (x,), (draw.to(x.dtype),))
    return moved.square().sum(dim=1)


def _shares(code, weight):
    """Return the share of each row in a mean over the batch."""
    if weight is None:
        return code.new_full((len(code),), 1 / len(code))
    return weight / weight.sum()
