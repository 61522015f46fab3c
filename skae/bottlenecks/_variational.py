"""The variational code."""

from math import log
from numbers import Real

import torch
from torch import nn

from .._compat.sklearn import Interval, StrOptions
from .._component import Affine
from ._base import Bottleneck

__all__ = ["Variational"]

# The logarithm of a posterior variance is kept in this range. The prior has variance
# one, and data can only make it smaller: e ** 4 is already far out.
_LOG_VARIANCE = (-30.0, 4.0)
# Smallest learned variance of the decoder, in scaled units: a model without any
# residual would otherwise send its likelihood to infinity.
_MIN_VARIANCE = 1e-6
# A component is active if its posterior mean varies over the rows by more than this
# (Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, 5.2).
_ACTIVE = 0.01


class Variational(Bottleneck):
    r"""Normal code with a standard normal prior: the variational autoencoder [1]_ [2]_.

    The encoder gives a mean and a variance per component. Training draws the code from
    them and pays the Kullback-Leibler divergence to the prior; `transform`, scores and
    reconstructions use the mean, so that two calls agree. The objective is the negative
    evidence lower bound in nats, up to a constant,

    .. math:: \sigma^{-p} \, \ell(x, \hat x) + \frac{d}{2} \log \sigma^2
              + \beta \, \mathrm{KL}(q(z \mid x) \,\|\, N(0, I)),

    with :math:`\ell` the loss, homogeneous of degree :math:`p` (2 for the squared
    error), :math:`d` the number of features and :math:`\sigma^2` the variance of the
    decoder. How much the reconstruction counts beside the divergence is therefore not a
    number that you choose, and ``beta=1`` is the bound whatever the scaling.

    With ``MLP(start="pca")`` and the squared error the model starts as probabilistic
    PCA [3]_, the optimum among linear ones [4]_: posterior, decoder and noise variance.
    (For another ``beta``, as the linear optimum with that noise variance.)

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the divergence; 1 is the evidence lower bound, more asks for codes
        that are more independent of each other, at the price of the reconstruction
        [5]_.

    warm_up : float, default=0.0
        Share of the planned training steps (``max_epochs`` times those of an epoch)
        over which the weight of the divergence rises from zero to ``beta`` [6]_. It
        keeps networks that start at random from giving up components before they are
        of use; a model that starts as probabilistic PCA needs none. Held-out rows are
        judged by the full ``beta`` throughout.

    free_bits : float, default=0.0
        Nats per component and row below which the divergence has no gradient [7]_.
        NOTE[DIFF]: the paper takes the mean of the batch first; here each row counts
        alone, so that prices stay per row.

    decoder_variance : "auto", "learned" or float, default="auto"
        The variance :math:`\sigma^2`, in squared units of the scaled data; for
        :class:`~skae.losses.AbsoluteError` the square of the scale. "learned"
        starts at the noise variance of probabilistic PCA and follows the gradient of
        the bound. "auto" does so for ``beta=1``, and otherwise stays at that start: a
        larger ``beta`` leaves larger residuals, a variance that follows them makes the
        divergence count for still more, and one component after the other is lost. A
        number fixes it. Without effect with losses that have no free scale: Bernoulli,
        Poisson, Huber.

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
    A component that the data do not pay for is left to the prior, and does not count as
    active. (If any is left, `fit` warns.)

    >>> import numpy as np
    >>> from skae import AutoencoderTransformer
    >>> from skae.bottlenecks import Variational
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 8))
    >>> X += 0.3 * rng.normal(size=X.shape)
    >>> vae = AutoencoderTransformer(2, bottleneck=Variational(), random_state=0).fit(X)
    >>> vae.active_units_
    2
    >>> vae.sample(3, random_state=0).shape
    (3, 8)
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
        """Return twice the components: means and variances; see `Bottleneck`."""
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
            # A number that was given is not part of the state.
            log_noise = torch.tensor(log(variance))
            self.register_buffer("log_noise", log_noise, persistent=False)
        # Not part of the state: it is where training is, not what was learnt.
        warmth = torch.tensor(1.0 if warm_up == 0 else 0.0)
        self.register_buffer("warmth", warmth, persistent=False)

    def draw(self, n_rows, generator):
        """Draw the standard normal numbers of one pass."""
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
        """Return mean and logarithm of the variance of each component."""
        mean, log_variance = h.chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def likelihood(self, loss, n_features, degree):
        """Turn a loss into a negative log-likelihood, up to a constant."""
        if degree is None:
            return loss
        scale = (-degree / 2 * self.log_noise).exp()
        return loss * scale + n_features / 2 * self.log_noise

    def start(self, statistics):
        """Return the posterior and the decoder of probabilistic PCA."""
        axes, mean, variances = statistics.axes, statistics.mean, statistics.variances
        if not self.fixed:
            noise = max(statistics.noise_variance, _MIN_VARIANCE)
            with torch.no_grad():
                self.log_noise.fill_(log(noise))
        # Divided by beta, the objective is that of a decoder with so much more noise.
        noise = self.beta * self.log_noise.detach().cpu().double().exp()
        # A direction that varies less than the noise is left to the prior.
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
        if self.warm_up > 0:
            self.warmth.fill_(min(1.0, progress / self.warm_up))
        if self.log_noise.requires_grad:
            self.log_noise.clamp_(min=log(_MIN_VARIANCE))

    @property
    def warming(self):
        """Whether the weight of the divergence still rises."""
        return bool(self.warmth < 1)

    def prior(self, n_rows, generator):
        """Draw codes from the prior."""
        return self.draw(n_rows, generator)

    def report(self, code, weight):
        """Count the components that say anything of the rows."""
        mean = weight @ code
        variance = weight @ (code - mean).square()
        return {"active_units_": int((variance > _ACTIVE).sum())}
