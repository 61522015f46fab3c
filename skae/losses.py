"""Losses: the distance between a row and its reconstruction, with its link.

A loss is summed over the features and returned per row. Where it is the negative
log-likelihood of a distribution, up to a constant, ``bottleneck`` prices such as
the Kullback-Leibler divergence add to it with weight one.
"""

from abc import abstractmethod
from math import inf
from numbers import Real

import torch
from torch import nn

from ._compat.sklearn import Interval
from ._component import Affine, Component

__all__ = [
    "AbsoluteError",
    "Bernoulli",
    "Huber",
    "Loss",
    "Poisson",
    "SquaredError",
    "Trimmed",
]

# Means this close to the edge of the domain start as if they were there.
_NEAR_ZERO = 1e-3
# Least slope of the logistic function that the start divides by: where a probability
# hardly varies, its logit would have to vary without bound.
_MIN_SLOPE = 0.1
# The exponential of twice this is still finite in single precision.
_MAX_LOG_RATE = 40.0


class Loss(Component):
    """Base of all losses.

    A subclass implements ``__call__``; one whose decoder does not output the data
    themselves (logits, log rates) implements `inverse_link` and `start` too.

    Attributes
    ----------
    domain : tuple of (float, float)
        The closed interval in which the data must lie. Only a loss on the whole
        real line lets the estimators scale the data.
    degree : int or None
        The power with which the loss grows: ``loss(t * r) == t**degree * loss(r)`` of
        a residual. With one it is the negative log-likelihood of a distribution with a
        free scale. None for a loss that has none.
    """

    domain = (-inf, inf)
    degree: int | None = None

    def check_domain(self, X, name):
        """Check that rows are what the loss is for.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Rows, at least one.
        name : str
            What the caller calls them.

        Raises
        ------
        ValueError
            If an entry lies outside `domain`.
        """
        low, high = self.domain
        if (low, high) == (-inf, inf):
            return
        least, most = X.min(), X.max()
        if least < low or most > high:
            raise ValueError(
                f"{type(self).__name__} is a loss for data in [{low}, {high}], but "
                f"{name} ranges from {least:.6g} to {most:.6g}."
            )

    @abstractmethod
    def __call__(self, raw, x):
        """Return the loss of each row.

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder.
        x : Tensor of shape (n_samples, n_features)
            The clean rows.

        Returns
        -------
        Tensor of shape (n_samples,)
        """

    def inverse_link(self, raw):
        """Map the output of the decoder to the data: the identity here.

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder.

        Returns
        -------
        Tensor of shape (n_samples, n_features)
            What the loss takes for the reconstruction.
        """
        return raw

    def start(self, reconstruction):
        """Return the decoder whose inverse link is ``reconstruction``, to first order.

        Parameters
        ----------
        reconstruction : Affine
            Map from the code to the data.

        Returns
        -------
        Affine
            Map from the code to the output of the decoder: the same here.
        """
        return Affine(*reconstruction)

    def trusted(self, terms, weight=None):
        """Return what the terms of a batch count in the objective: all, here.

        Parameters
        ----------
        terms : Tensor of shape (n_samples,)
            Loss and price of each row of a batch.
        weight : Tensor of shape (n_samples,) or None
            Sample weights.

        Returns
        -------
        Tensor of shape (n_samples,)
            Their weighted mean is what is minimised.
        """
        return terms


class SquaredError(Loss):
    r"""Half the squared distance, :math:`\frac{1}{2} \|x - \hat x\|^2`.

    It is the negative log-likelihood of a normal distribution with unit variance
    around the reconstruction, up to a constant, and the loss that PCA minimises.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import SquaredError
    >>> SquaredError()(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([2.5000])
    """

    degree = 2

    def __call__(self, raw, x):
        """Return half the squared distance of each row; see `Loss`."""
        return 0.5 * nn.functional.mse_loss(raw, x, reduction="none").sum(dim=1)


class AbsoluteError(Loss):
    r"""The absolute distance, :math:`\sum_j |x_j - \hat x_j|`.

    Up to a constant it is the negative log-likelihood of a Laplace distribution with
    unit scale around the reconstruction, which is then the median: entries far out
    count in proportion to their distance, not to its square.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import AbsoluteError
    >>> AbsoluteError()(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([3.])
    """

    degree = 1

    def __call__(self, raw, x):
        """Return the absolute distance of each row; see `Loss`."""
        return (raw - x).abs().sum(dim=1)


class Huber(Loss):
    r"""Squared for small residuals, absolute for large ones [1]_.

    .. math:: \sum_j \begin{cases} \frac{1}{2} r_j^2 & |r_j| \le \delta \\
              \delta (|r_j| - \frac{1}{2} \delta) & \text{otherwise} \end{cases}

    Parameters
    ----------
    delta : float, default=1.0
        Where one turns into the other, in units of the scaled data.

    References
    ----------
    .. [1] Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical
       Statistics 35, 1964.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Huber
    >>> Huber(1.0)(torch.tensor([[0.5, 3.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([2.6250])
    """

    _parameter_constraints: dict = {
        "delta": [Interval(Real, 0, None, closed="neither")]
    }

    def __init__(self, delta=1.0):
        self.delta = delta

    def __call__(self, raw, x):
        """Return the Huber loss of each row; see `Loss`."""
        loss = nn.functional.huber_loss(raw, x, reduction="none", delta=self.delta)
        return loss.sum(dim=1)


class Bernoulli(Loss):
    r"""Negative log-likelihood of independent coins, for data in [0, 1].

    The decoder gives logits; reconstructions are probabilities. For numbers between 0
    and 1, such as grey values, the loss is the cross-entropy, smallest where the
    reconstruction is right, but not zero there. The data are not scaled; the encoder
    sees them centred and divided by one number.

    Raises
    ------
    ValueError
        On ``fit``, if data lie outside [0, 1], or a scaling is asked for.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Bernoulli
    >>> Bernoulli()(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([1.3863])
    """

    domain = (0.0, 1.0)

    def __call__(self, raw, x):
        """Return minus the log-likelihood of each row; see `Loss`."""
        return (nn.functional.softplus(raw) - x * raw).sum(dim=1)

    def inverse_link(self, raw):
        """Return probabilities from logits; see `Loss.inverse_link`."""
        return raw.sigmoid()

    def start(self, reconstruction):
        """Return logits, linear in the code around the mean; see `Loss.start`."""
        weight, mean = reconstruction
        mean = mean.clamp(_NEAR_ZERO, 1 - _NEAR_ZERO)
        slope = (mean * (1 - mean)).clamp(min=_MIN_SLOPE)
        return Affine(weight / slope[:, None], mean.logit())


class Poisson(Loss):
    r"""Negative log-likelihood of independent counts, for data that are not negative.

    The decoder gives logarithms of rates; reconstructions are rates. The data are not
    scaled; the encoder sees them centred and divided by one number.

    Raises
    ------
    ValueError
        On ``fit``, if data are negative, or a scaling is asked for.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Poisson
    >>> Poisson()(torch.tensor([[0.0]]), torch.tensor([[2.0]]))
    tensor([1.6931])
    """

    domain = (0.0, inf)

    def __call__(self, raw, x):
        """Return minus the log-likelihood of each row; see `Loss`."""
        rate = self.inverse_link(raw)
        return (rate - x * raw + torch.lgamma(x + 1)).sum(dim=1)

    def inverse_link(self, raw):
        """Return the exponential; see `Loss.inverse_link`.

        Where it would leave the range of single precision it goes on as a line, so
        that a gradient leads back from there.
        """
        bounded = raw.clamp(max=_MAX_LOG_RATE)
        return bounded.exp() * (1 + raw - bounded)

    def start(self, reconstruction):
        """Return the logarithm of the mean, for any code; see `Loss.start`.

        A rate that is exponential in the code would have no bound on rows far out.
        """
        weight, mean = reconstruction
        return Affine(torch.zeros_like(weight), mean.clamp(min=_NEAR_ZERO).log())


class Trimmed(Loss):
    """A loss that leaves out the worst rows of every batch, for contaminated data.

    An autoencoder that is trained on rows among which outliers hide learns these too.
    Here the rows with the largest terms of the objective do not count in a step: the
    least trimmed squares of robust regression [1]_, batch by batch. Scores and
    reconstruction errors are those of the loss inside, for all rows.

    Parameters
    ----------
    loss : Loss
        What is trimmed.

    fraction : float, default=0.1
        Share of the rows of a batch, or of their weight, to leave out, in [0, 1),
        rounded up to whole rows, but never all. A little more than the share of
        outliers to expect.

    References
    ----------
    .. [1] Rousseeuw, "Least Median of Squares Regression", JASA 79, 1984.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import SquaredError, Trimmed
    >>> trimmed = Trimmed(SquaredError(), fraction=0.25)
    >>> terms = torch.tensor([1.0, 2.0, 3.0, 100.0])
    >>> trimmed.trusted(terms).mean()
    tensor(2.)
    """

    _parameter_constraints: dict = {
        "loss": [Loss],
        "fraction": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, loss, fraction=0.1):
        self.loss = loss
        self.fraction = fraction

    @property
    def domain(self):
        """That of the loss inside."""
        return self.loss.domain

    @property
    def degree(self):
        """That of the loss inside."""
        return self.loss.degree

    def __call__(self, raw, x):
        """Return the loss inside; see `Loss`."""
        return self.loss(raw, x)

    def inverse_link(self, raw):
        """Map as the loss inside does; see `Loss.inverse_link`."""
        return self.loss.inverse_link(raw)

    def start(self, reconstruction):
        """Start as the loss inside does; see `Loss.start`."""
        return self.loss.start(reconstruction)

    def trusted(self, terms, weight=None):
        """Return the terms, zero for the worst rows; see `Loss.trusted`."""
        weight = torch.ones_like(terms) if weight is None else weight
        order = terms.detach().argsort(stable=True)
        passed = weight[order].cumsum(dim=0)
        # The least is what the best row has; a little more, for the sake of rounding.
        most = torch.maximum((1 - self.fraction) * passed[-1] * (1 + 1e-6), passed[0])
        kept = torch.zeros_like(terms).scatter(0, order, (passed <= most).to(terms))
        total = self.loss.trusted(terms, weight)
        scale = passed[-1] / (weight * kept).sum()
        return torch.where(kept > 0, total * scale, 0.0)
