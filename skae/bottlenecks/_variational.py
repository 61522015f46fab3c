"""Variational bottleneck."""

from math import log
from numbers import Real

import torch
from torch import nn

from .._compat.sklearn import Interval, StrOptions
from .._component import Affine
from ._base import Bottleneck

__all__ = ["Variational"]

# Range to which the logarithm of a posterior variance is clipped, for numerical safety.
# It does not restrict the model: the prior has variance 1, and the data can only make
# the posterior variance smaller.
_LOG_VARIANCE = (-30.0, 4.0)
# Smallest learned variance of the decoder, in units of the scaled data, for numerical
# safety: without residuals the likelihood would diverge.
_MIN_VARIANCE = 1e-6
# A component is active if the variance of its posterior mean over the rows is larger
# (Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section
# 5.2).
_ACTIVE = 0.01


class Variational(Bottleneck):
    r"""Normally distributed code with a standard normal prior (VAE).

    The variational autoencoder [1]_ [2]_. The encoder returns a mean and a variance for
    each component. In training, the code is drawn from this normal distribution, and
    the cost of a row is its Kullback-Leibler divergence from the prior. `transform`,
    scores and reconstructions use the mean and are deterministic. The objective is the
    negative evidence lower bound in nats, up to a constant,

    .. math:: \sigma^{-p} \, \ell(x, \hat x) + \frac{d}{2} \log \sigma^2
              + \beta \, \mathrm{KL}(q(z \mid x) \,\|\, N(0, I)),

    where :math:`\ell` is the loss, homogeneous of degree :math:`p` (2 for the squared
    error), :math:`d` the number of features and :math:`\sigma^2` the variance of the
    decoder. The relative weight of reconstruction and divergence is therefore not a
    free hyperparameter, and ``beta=1`` gives the bound for every scaling of the data.

    With ``MLP(start="pca")`` and the squared error the model starts as probabilistic
    PCA [3]_, including its posterior and its noise variance; this is the optimum of
    linear models [4]_. (If ``beta`` is not 1, it starts at the optimum of linear models
    with that noise variance.)

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the divergence. With 1 the objective is the evidence lower bound;
        larger values encourage components that are more independent of each other, at
        the cost of a worse reconstruction [5]_.

    warm_up : float, default=0.0
        Fraction of the planned training steps (``max_epochs`` times the steps of an
        epoch), in [0, 1], over which the weight of the divergence increases linearly
        from 0 to ``beta`` [6]_. It prevents randomly initialised networks from
        switching off components early in training; a model that starts as
        probabilistic PCA does not need it. The validation loss always uses ``beta``.

    free_bits : float, default=0.0
        Divergence per component and row, in nats, below which it has no gradient in
        training [7]_. Unlike [7]_, which applies the minimum to the mean over the
        batch, it is applied to each row, so that the cost of a row does not depend on
        other rows.

    decoder_variance : "auto", "learned" or float, default="auto"
        Variance :math:`\sigma^2` of the decoder, in squared units of the scaled data;
        with :class:`~skae.losses.AbsoluteError` the square of the scale of the Laplace
        distribution. "learned" starts at the noise variance of probabilistic PCA and
        optimises it with the weights. "auto" does so for ``beta=1`` and otherwise keeps
        the initial value: a larger ``beta`` causes larger residuals, a variance that
        follows them increases the relative weight of the divergence further, and the
        components collapse one after the other. A float fixes the variance. It has no
        effect with losses without a free scale: Bernoulli, Poisson and Huber.

    References
    ----------
    .. [1] Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    .. [2] Rezende, Mohamed & Wierstra, "Stochastic Backpropagation and Approximate
       Inference in Deep Generative Models", ICML 2014.
    .. [3] Tipping & Bishop, "Probabilistic Principal Component Analysis", JRSS B 61,
       1999.
    .. [4] Lucas, Tucker, Grosse & Norouzi, "Don't Blame the ELBO! A Linear VAE
       Perspective on Posterior Collapse", NeurIPS 2019.
    .. [5] Higgins et al., "beta-VAE", ICLR 2017.
    .. [6] Sønderby, Raiko, Maaløe, Sønderby & Winther, "Ladder Variational
       Autoencoders", NeurIPS 2016.
    .. [7] Kingma et al., "Improved Variational Inference with Inverse Autoregressive
       Flow", NeurIPS 2016.

    Examples
    --------
    A component whose cost exceeds its benefit collapses to the prior and does not count
    as active. (`fit` warns if there are such components.)

    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> from skae.bottlenecks import Variational
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(-3, 3, size=(600, 2))
    >>> X = np.hstack([t, np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(600, 6))
    >>> vae = AutoencoderTransformer(2, bottleneck=Variational(), random_state=0).fit(X)
    >>> vae.active_units_
    2
    >>> vae.sample(3, random_state=0).shape
    (3, 6)
    """

    _parameter_constraints: dict = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "warm_up": [Interval(Real, 0, 1, closed="both")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "decoder_variance": [
            StrOptions({"auto", "learned"}),
            Interval(Real, 0, None, closed="neither"),
        ],
    }

    symmetry = "permutation"
    guards = True

    def __init__(
        self, beta=1.0, *, warm_up=0.0, free_bits=0.0, decoder_variance="auto"
    ):
        self.beta = beta
        self.warm_up = warm_up
        self.free_bits = free_bits
        self.decoder_variance = decoder_variance

    def encoder_width(self, n_components):
        """Return ``2 * n_components``, for means and variances; see `Bottleneck`."""
        return 2 * n_components

    def build(self, n_components, generator):
        """Return the module that draws the code; see `Bottleneck.build`."""
        variance, learned = self.decoder_variance, False
        if isinstance(variance, str):
            learned = variance == "learned" or self.beta == 1
            variance = None
        return _Variational(
            n_components, self.beta, self.warm_up, self.free_bits, variance, learned
        )


class _Variational(nn.Module):
    def __init__(self, n_components, beta, warm_up, free_bits, variance, learned):
        super().__init__()
        self.n_components = n_components
        self.beta = beta
        self.warm_up = warm_up
        self.free_bits = free_bits
        self.fixed = variance is not None
        if variance is None:
            self.log_noise = nn.Parameter(torch.zeros(()), requires_grad=learned)
        else:
            # A hyperparameter, and therefore not part of the state dict.
            log_noise = torch.tensor(log(variance))
            self.register_buffer("log_noise", log_noise, persistent=False)
        # Not part of the state dict: it is needed in training only.
        warmth = torch.tensor(1.0 if warm_up == 0 else 0.0)
        self.register_buffer("warmth", warmth, persistent=False)

    def draw(self, n_rows, generator):
        """Draw standard normal numbers of shape (n_rows, n_components)."""
        return torch.randn(
            n_rows,
            self.n_components,
            generator=generator,
            device=generator.device,
            dtype=torch.float32,
        )

    def forward(self, h, draw=None):
        mean, log_variance = self.posterior(h)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        if draw is None:
            return mean, self.beta * kl.sum(dim=1)
        if self.free_bits > 0:
            kl = kl.clamp(min=self.free_bits)
        weight = self.beta * self.warmth if self.training else self.beta
        return mean + (0.5 * log_variance).exp() * draw, weight * kl.sum(dim=1)

    def posterior(self, h):
        """Return the mean and the logarithm of the variance of each component."""
        mean, log_variance = h.chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def likelihood(self, loss, n_features, degree):
        """Convert a loss to a negative log-likelihood, up to a constant."""
        if degree is None:
            return loss
        scale = (-degree / 2 * self.log_noise).exp()
        return loss * scale + n_features / 2 * self.log_noise

    def start(self, statistics):
        """Return probabilistic PCA, and set the noise variance to its own."""
        axes, mean, variances = statistics.axes, statistics.mean, statistics.variances
        if not self.fixed:
            noise = max(statistics.noise_variance, _MIN_VARIANCE)
            with torch.no_grad():
                self.log_noise.fill_(log(noise))
        # With a fixed noise variance, the objective divided by beta is that of beta = 1
        # with a noise variance that is larger by the factor beta.
        noise = self.beta * self.log_noise.detach().cpu().double().exp()
        # A direction whose variance is below that of the noise collapses to the prior.
        shrunk = (1 - noise / variances.clamp(min=1e-30)).clamp(min=0)
        alive = shrunk > 0
        spread = torch.where(alive, variances, 1.0).sqrt()
        to_mean = (shrunk.sqrt() / spread)[:, None] * axes
        log_variance = torch.where(alive, (noise / variances).log(), 0.0)
        log_variance = log_variance.clamp(*_LOG_VARIANCE)
        encoding = Affine(
            torch.cat([to_mean, torch.zeros_like(to_mean)]),
            torch.cat([-(to_mean @ mean), log_variance]),
        )
        return encoding, Affine(axes.T * (shrunk.sqrt() * spread), mean)

    @torch.no_grad()
    def after_step(self, progress):
        """Update the warm-up, and clip the learned noise variance."""
        if self.warm_up > 0:
            self.warmth.fill_(min(1.0, progress / self.warm_up))
        if self.log_noise.requires_grad:
            self.log_noise.clamp_(min=log(_MIN_VARIANCE))

    @property
    def warming(self):
        """Whether the weight of the divergence is still increasing."""
        return bool(self.warmth < 1)

    def prior(self, n_rows, generator):
        """Draw codes from the standard normal prior."""
        return self.draw(n_rows, generator)

    def report(self, code, weight):
        """Return the number of active components."""
        mean = weight @ code
        variance = weight @ (code - mean).square()
        return {"active_units_": int((variance > _ACTIVE).sum())}
