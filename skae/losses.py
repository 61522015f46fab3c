"""Losses: the distance between a row and its reconstruction, with an inverse link.

A loss gives one term per entry; the terms are summed over the features to one number
per row. Where this is the negative log-likelihood of a distribution, up to a constant,
costs of the bottleneck such as the Kullback-Leibler divergence are added to it with
weight one.
"""

from abc import abstractmethod
from math import inf
from numbers import Real

import torch
from torch import nn

from ._compat.sklearn import Interval
from ._component import Affine, Component
from ._data.sparse_table import entries

__all__ = [
    "AbsoluteError",
    "Bernoulli",
    "Huber",
    "Loss",
    "Poisson",
    "SquaredError",
    "Trimmed",
]

# Means are kept this far from the edge of the domain, where the link is infinite.
_NEAR_ZERO = 1e-3
# Smallest slope of the logistic function that `start` divides by. Where a probability
# hardly varies, the weights of its logit would grow without bound.
_MIN_SLOPE = 0.1
# The exponential of twice this is still finite in single precision.
_MAX_LOG_RATE = 40.0
# Units of a rate, as shares of the mean of the column, that a start tries.
_UNITS = (0.01, 0.03, 0.1, 0.3, 1.0)
# Newton steps for the slope and the intercept of the logits of a column, and the
# strength of the prior, in rows at which the probability is a half.
_N_STEPS = 8
_PRIOR_ROWS = 4.0


class Loss(Component):
    """Base of all losses.

    A subclass implements `per_entry`. If ``raw`` is not in the units of the data
    (logits, log rates), it implements `inverse_link` too, and `start` or `build`.

    Attributes
    ----------
    domain : tuple of (float, float)
        The closed interval in which the data must lie. The estimators scale the data
        only for a loss on the whole real line.
    degree : int or None
        The degree of homogeneity: ``loss(t * r) == t**degree * loss(r)`` for a residual
        ``r`` and ``t > 0``. A homogeneous loss is the negative log-likelihood of a
        distribution with a free scale parameter. None if the loss is not homogeneous.
    blocks : Blocks or None
        Which columns are indicators of categories. None: no column is.
    """

    domain = (-inf, inf)
    degree: int | None = None
    blocks = None

    @property
    def name(self):
        """Name of the loss in messages."""
        return type(self).__name__

    def check_domain(self, X, name):
        """Check that rows lie in the domain of the loss.

        Parameters
        ----------
        X : ndarray or sparse matrix of shape (n_samples, n_features)
            Rows, at least one. NaN, where an entry is missing, is in every domain.
        name : str
            Name of ``X`` in the error message.

        Raises
        ------
        ValueError
            If an entry lies outside `domain`.
        """
        low, high = self.domain
        if (low, high) == (-inf, inf):
            return
        X = entries(X)
        least, most = X.min(), X.max()
        if least != least:
            known = X[X == X]
            if not len(known):
                return
            least, most = known.min(), known.max()
        if least < low or most > high:
            # In full: what is outside may be a rounding error.
            raise ValueError(
                f"{type(self).__name__} is a loss for data in [{low}, {high}], but "
                f"{name} ranges from {least:.16g} to {most:.16g}."
            )

    @abstractmethod
    def per_entry(self, raw, x):
        """Return the loss of each entry.

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder, or of the module that `build` returns.
        x : Tensor of shape (n_samples, n_features)
            The clean rows.

        Returns
        -------
        Tensor of shape (n_samples, n_features)
        """

    def __call__(self, raw, x, mask=None):
        """Return the loss of each row: the sum of `per_entry` over the features.

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder.
        x : Tensor of shape (n_samples, n_features)
            The clean rows. Entries that the mask leaves out must be finite.
        mask : Tensor of bool of shape (n_samples, n_features), default=None
            Entries that are False count as zero. None counts all entries.

        Returns
        -------
        Tensor of shape (n_samples,)
        """
        terms = self.per_entry(raw, x)
        if mask is not None:
            terms = torch.where(mask, terms, 0.0)
        return terms.sum(dim=1)

    def inverse_link(self, raw):
        """Return reconstructions from what `per_entry` takes (identity by default).

        Parameters
        ----------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder, or of the module that `build` returns.

        Returns
        -------
        Tensor of shape (n_samples, n_features)
            The reconstruction, in units of the scaled data.
        """
        return raw

    def start(self, reconstruction):
        """Return a decoder whose inverse link is ``reconstruction``, to first order.

        Training starts from this decoder. By default it is ``reconstruction`` itself.

        Parameters
        ----------
        reconstruction : Affine
            Map from the code to the data.

        Returns
        -------
        Affine
            Map from the code to the output of the decoder.
        """
        return Affine(*reconstruction)

    def build(self, n_features):
        """Return a module between the decoder and the loss (None by default).

        It is for links with parameters per column that are estimated from the training
        rows. Such a module maps the output of the decoder, shape ``(n_samples,
        n_features)``, to ``raw``.
        Its method ``start(reconstruction, rows, fitted)`` sets the constants, and is
        called in place of `start`, before training. ``reconstruction`` and the result
        are as in `start`; ``rows`` are training rows and ``fitted`` their
        reconstructions by PCA, both of shape ``(n_rows, n_features)``.

        Parameters
        ----------
        n_features : int
            Number of columns of the rows.

        Returns
        -------
        torch.nn.Module or None
            The module, with the method ``start``.
        """
        return None

    def variance(self, mean):
        """Return the variance of entries with this mean, for axes weighted by it.

        If it depends on the mean, training starts at principal axes for which columns
        are divided by the standard deviation at their mean, and rows are weighted by
        the inverse of the variance of their sum. By default it does not.

        Parameters
        ----------
        mean : Tensor
            Means of entries.

        Returns
        -------
        Tensor of the shape of ``mean``, or None
            The variances, up to a factor.
        """
        return None

    def trusted(self, terms, weight=None):
        """Return the per-row terms after trimming (identity by default).

        Parameters
        ----------
        terms : Tensor of shape (n_samples,)
            Loss and cost of the bottleneck for each row of a batch.
        weight : Tensor of shape (n_samples,) or None
            Sample weights.

        Returns
        -------
        Tensor of shape (n_samples,)
            Training minimises their weighted mean.
        """
        return terms


class SquaredError(Loss):
    r"""Half the squared distance, :math:`\frac{1}{2} \|x - \hat x\|^2`.

    Up to a constant it is the negative log-likelihood of a normal distribution with
    unit variance around the reconstruction. PCA minimises this loss.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import SquaredError
    >>> SquaredError()(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([2.5000])
    """

    degree = 2

    def per_entry(self, raw, x):
        """Return half the squared residuals; see `Loss.per_entry`."""
        return 0.5 * nn.functional.mse_loss(raw, x, reduction="none")


class AbsoluteError(Loss):
    r"""The absolute distance, :math:`\sum_j |x_j - \hat x_j|`.

    Up to a constant it is the negative log-likelihood of a Laplace distribution with
    unit scale around the reconstruction, which then estimates the median. Large
    residuals count in proportion to their size, not to its square.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import AbsoluteError
    >>> AbsoluteError()(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor([3.])
    """

    degree = 1

    def per_entry(self, raw, x):
        """Return the absolute residuals; see `Loss.per_entry`."""
        return (raw - x).abs()


class Huber(Loss):
    r"""Squared for small residuals, absolute for large ones.

    The loss of robust regression [1]_,

    .. math:: \sum_j \begin{cases} \frac{1}{2} r_j^2 & |r_j| \le \delta \\
              \delta (|r_j| - \frac{1}{2} \delta) & \text{otherwise} \end{cases}

    Parameters
    ----------
    delta : float, default=1.0
        Size of the residual, in units of the scaled data, above which the loss grows
        linearly.

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

    def per_entry(self, raw, x):
        """Return the Huber loss of each entry; see `Loss.per_entry`."""
        return nn.functional.huber_loss(raw, x, reduction="none", delta=self.delta)


class Bernoulli(Loss):
    r"""Negative log-likelihood of Bernoulli variables, for data in [0, 1].

    The decoder gives logits; reconstructions are probabilities. For values between 0
    and 1, such as grey values, the loss is the cross-entropy. It is smallest, but not
    zero, where the reconstruction equals the data. The data are not scaled; the encoder
    sees them centred and divided by one number.

    Raises
    ------
    ValueError
        On ``fit``, if data lie outside [0, 1], or if ``scaling`` is neither None nor
        "auto".

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Bernoulli
    >>> Bernoulli()(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([1.3863])
    """

    domain = (0.0, 1.0)

    def per_entry(self, raw, x):
        """Return the negative log-likelihood of each entry; see `Loss.per_entry`."""
        return nn.functional.softplus(raw) - x * raw

    def inverse_link(self, raw):
        """Return probabilities from logits; see `Loss.inverse_link`."""
        return raw.sigmoid()

    def start(self, reconstruction):
        """Return logits, linear in the code around the mean; see `Loss.start`."""
        weight, mean = reconstruction
        mean = mean.clamp(_NEAR_ZERO, 1 - _NEAR_ZERO)
        slope = (mean * (1 - mean)).clamp(min=_MIN_SLOPE)
        return Affine(weight / slope[:, None], mean.logit())

    def build(self, n_features):
        """Return a module that fits the start to the rows; see `Loss.build`."""
        return _Logits(self)


class _Logits(nn.Module):
    """Output of the decoder as logits, with a start that is fitted to rows.

    The logits that are linear around the mean are too flat away from it, where the
    logistic function saturates. Each column gets the slope and the intercept of a
    logistic regression on them.
    """

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, output):
        return output

    def start(self, reconstruction, rows, fitted):
        """Return the start of the decoder; see `Loss.build`."""
        weight, bias = self.loss.start(reconstruction)
        # The same, as a map from reconstructions.
        columns = self.loss.start(
            Affine(torch.ones_like(bias)[:, None], reconstruction.bias)
        )
        t = (fitted - reconstruction.bias) * columns.weight[:, 0]
        slope, shift = _logistic(t, bias, rows)
        return Affine(slope[:, None] * weight, bias + shift)


def _logistic(t, bias, x):
    """Return by column the slope and shift of logits ``bias + shift + slope * t``.

    Newton's method for the likelihood of ``x`` times a prior, which keeps both finite
    where a column is separated. Columns that it does not improve keep 1 and 0.
    """
    prior = _PRIOR_ROWS / 4
    spread = t.square().mean(dim=0) + torch.finfo(t.dtype).tiny
    slope, shift = torch.ones_like(bias), torch.zeros_like(bias)

    def cost(slope, shift):
        raw = bias + shift + slope * t
        terms = nn.functional.softplus(raw) - x * raw
        penalty = spread * (slope - 1).square() + shift.square()
        return terms.sum(dim=0) + prior / 2 * penalty

    best = cost(slope, shift)
    step = torch.ones_like(bias)
    for _ in range(_N_STEPS):
        p = (bias + shift + slope * t).sigmoid()
        curvature = p * (1 - p)
        g_shift = (p - x).sum(dim=0) + prior * shift
        g_slope = ((p - x) * t).sum(dim=0) + prior * spread * (slope - 1)
        aa = curvature.sum(dim=0) + prior
        bb = (curvature * t * t).sum(dim=0) + prior * spread
        ab = (curvature * t).sum(dim=0)
        determinant = aa * bb - ab * ab
        d_shift = (bb * g_shift - ab * g_slope) / determinant
        d_slope = (aa * g_slope - ab * g_shift) / determinant
        found = slope - step * d_slope, shift - step * d_shift
        value = cost(*found)
        lower = value < best  # false where it is not a number
        slope, shift = (
            torch.where(lower, new, old)
            for new, old in zip(found, (slope, shift), strict=True)
        )
        best = torch.where(lower, value, best)
        step = torch.where(lower, 1.0, step / 4)
    return slope, shift


class Poisson(Loss):
    r"""Negative log-likelihood of Poisson counts, for data that are not negative.

    Reconstructions are rates. With :math:`h` the output of the decoder for a column,
    the rate is

    .. math:: \lambda = \tfrac{1}{2} u \left(v + \sqrt{v^2 + 4}\right), \qquad
              v = (\mu + h \sqrt{\mu}) / u,

    the squareplus link [1]_. Above the unit :math:`u` it is close to
    :math:`\mu + h \sqrt{\mu}`; below, it remains positive. For rows far from the
    training rows, rates grow linearly, not exponentially. :math:`\mu` is the mean of
    the column, so that :math:`h` is in standard deviations of the noise. :math:`u` is
    the share of :math:`\mu`, between one and 100 percent, at which the start fits best.

    Training starts at a principal component analysis weighted by the noise [2]_:
    columns are divided by :math:`\sqrt{\mu}`, and rows are weighted by the inverse of
    about their sum. The data are not scaled; the encoder sees columns that are centred,
    divided by :math:`\sqrt{\mu}` and by one number.

    The methods of this class take logarithms of rates.

    Raises
    ------
    ValueError
        On ``fit``, if data are negative, or if ``scaling`` is neither None nor "auto".

    References
    ----------
    .. [1] Barron, "Squareplus: A Softplus-Like Algebraic Rectifier", 2021,
       arXiv:2112.11687.
    .. [2] Keenan & Kotula, "Accounting for Poisson Noise in the Multivariate Analysis
       of ToF-SIMS Spectrum Images", Surface and Interface Analysis 36, 2004.

    Examples
    --------
    >>> import torch
    >>> from skae.losses import Poisson
    >>> Poisson()(torch.tensor([[0.0]]), torch.tensor([[2.0]]))
    tensor([1.6931])
    """

    domain = (0.0, inf)

    def per_entry(self, raw, x):
        """Return the negative log-likelihood of each entry; see `Loss.per_entry`."""
        return self.inverse_link(raw) - x * raw + torch.lgamma(x + 1)

    def inverse_link(self, raw):
        """Return rates from their logarithms; see `Loss.inverse_link`.

        Log rates above 40 are continued linearly, so that the rate and its gradient
        stay finite in single precision.
        """
        bounded = raw.clamp(max=_MAX_LOG_RATE)
        return bounded.exp() * (1 + raw - bounded)

    def start(self, reconstruction):
        """Return the logarithm of the mean, whatever the code; see `Loss.start`.

        For decoders of logarithms. The module that `build` returns has its own start.
        """
        weight, mean = reconstruction
        return Affine(torch.zeros_like(weight), mean.clamp(min=_NEAR_ZERO).log())

    def build(self, n_features):
        """Return the squareplus link to logarithms of rates; see `Loss.build`."""
        return _LogRates(n_features)

    def variance(self, mean):
        """Return the mean; see `Loss.variance`."""
        return mean.clamp(min=_NEAR_ZERO)


class _LogRates(nn.Module):
    """Logarithms of rates that are about linear in the output of the decoder.

    The logarithm of the rate ``unit / 2 * (v + sqrt(v**2 + 4))`` is
    ``asinh(v / 2) + log(unit)``. Where the output is zero the rate is about the mean,
    so that networks with random weights start there.

    Parameters
    ----------
    n_features : int
    """

    def __init__(self, n_features):
        super().__init__()
        self.register_buffer("slope", torch.ones(n_features))
        self.register_buffer("offset", torch.zeros(n_features))
        self.register_buffer("log_unit", torch.zeros(n_features))

    def forward(self, output):
        return (self.slope * output + self.offset).asinh() + self.log_unit

    def start(self, reconstruction, rows, fitted):
        """Set the units; return the start of the decoder, see `Loss.build`."""
        weight, bias = reconstruction
        mean = rows.mean(dim=0).clamp(min=_NEAR_ZERO)
        least = torch.full_like(mean, inf)
        unit = mean
        for share in _UNITS:
            log_rate = (fitted / (2 * share * mean)).asinh() + (share * mean).log()
            cost = (log_rate.exp() - rows * log_rate).mean(dim=0)
            unit = torch.where(cost < least, share * mean, unit)
            least = torch.minimum(cost, least)
        noise = mean.sqrt()
        self.slope.copy_(noise / (2 * unit))
        self.offset.copy_(mean / (2 * unit))
        self.log_unit.copy_(unit.log())
        return Affine(weight / noise[:, None], (bias - mean) / noise)


class Trimmed(Loss):
    """A loss that leaves out the worst rows of every batch, for contaminated data.

    An autoencoder that is trained on contaminated data learns to reconstruct the
    outliers, too. With this loss, the rows with the largest terms of the objective do
    not count in a training step: least trimmed squares [1]_, batch by batch. Scores and
    reconstruction errors use the wrapped loss, for all rows.

    The statistics of batch normalisation are those of all rows of a batch, outliers
    included. Combine this loss with an architecture that has ``norm="layer"`` or
    ``norm=None``.

    Parameters
    ----------
    loss : Loss
        The loss to trim.

    fraction : float, default=0.1
        Share of the rows of a batch (with sample weights: of their total weight) to
        leave out, in [0, 1). It is rounded up to whole rows; at least one row is kept.
        Choose a little more than the expected share of outliers.

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
        """Domain of the wrapped loss; see `Loss.domain`."""
        return self.loss.domain

    @property
    def degree(self):
        """Degree of the wrapped loss; see `Loss.degree`."""
        return self.loss.degree

    def per_entry(self, raw, x):
        """Return the terms of the wrapped loss; see `Loss.per_entry`."""
        return self.loss.per_entry(raw, x)

    def inverse_link(self, raw):
        """Apply the inverse link of the wrapped loss; see `Loss.inverse_link`."""
        return self.loss.inverse_link(raw)

    def start(self, reconstruction):
        """Return the start of the wrapped loss; see `Loss.start`."""
        return self.loss.start(reconstruction)

    def build(self, n_features):
        """Return the module of the wrapped loss; see `Loss.build`."""
        return self.loss.build(n_features)

    def variance(self, mean):
        """Return the variance of the wrapped loss; see `Loss.variance`."""
        return self.loss.variance(mean)

    def trusted(self, terms, weight=None):
        """Return the terms, zero for the worst rows; see `Loss.trusted`."""
        weight = torch.ones_like(terms) if weight is None else weight
        order = terms.detach().argsort(stable=True)
        passed = weight[order].cumsum(dim=0)
        # At least the best row is kept; the factor allows for rounding errors.
        most = torch.maximum((1 - self.fraction) * passed[-1] * (1 + 1e-6), passed[0])
        kept = torch.zeros_like(terms).scatter(0, order, (passed <= most).to(terms))
        total = self.loss.trusted(terms, weight)
        scale = passed[-1] / (weight * kept).sum()
        return torch.where(kept > 0, total * scale, 0.0)
