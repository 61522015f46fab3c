"""Corruptions of the input in training; the loss compares with the clean rows.

Random numbers are drawn in a separate step, so that a corruption is a pure function of
the rows and its draw.
"""

from abc import abstractmethod
from numbers import Real

import torch

from ._compat.sklearn import Interval
from ._component import Component

__all__ = ["Corruption", "Dropout", "Gaussian", "Masking", "SaltAndPepper", "Swap"]

_RATE = [Interval(Real, 0, 1, closed="both")]


class Corruption(Component):
    """Base of all corruptions.

    A subclass implements `draw`, which draws random numbers, and ``__call__``, which
    applies them to rows.

    Attributes
    ----------
    replaces_cells : bool
        Whether an entry either is replaced or stays. All columns of a categorical
        feature then share the random numbers of one: a category is replaced as a whole.
    """

    replaces_cells = False

    @abstractmethod
    def draw(self, shape, generator):
        """Draw the random numbers of one application.

        Parameters
        ----------
        shape : tuple of (int, int)
            Number of rows and features of the batch.
        generator : torch.Generator
            Source of randomness; its device is that of the batch.

        Returns
        -------
        Tensor or tuple of Tensor
            Passed to ``__call__``.
        """

    @abstractmethod
    def __call__(self, x, draw):
        """Return corrupted rows; ``x`` itself is not changed.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Clean rows, scaled.
        draw : Tensor or tuple of Tensor
            The value that `draw` returned.

        Returns
        -------
        Tensor of shape (n_samples, n_features)
        """


class Gaussian(Corruption):
    """Add independent normal noise to every entry.

    The corruption of denoising autoencoders for continuous data [1]_.

    Parameters
    ----------
    scale : float, default=0.1
        Standard deviation of the noise, in units of the scaled data: with
        ``scaling="standard"``, in standard deviations of each feature.

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio & Manzagol, "Stacked Denoising
       Autoencoders", JMLR 11, 2010.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import Gaussian
    >>> x = torch.zeros(1000, 20)
    >>> corruption = Gaussian(scale=0.5)
    >>> noise = corruption.draw(x.shape, torch.Generator().manual_seed(0))
    >>> round(corruption(x, noise).std().item(), 1)
    0.5
    """

    _parameter_constraints: dict = {"scale": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, scale=0.1):
        self.scale = scale

    def draw(self, shape, generator):
        """Draw standard normal noise; see `Corruption.draw`."""
        return torch.randn(
            shape, generator=generator, device=generator.device, dtype=torch.float32
        )

    def __call__(self, x, draw):
        """Return the rows plus the scaled noise; see `Corruption.__call__`."""
        return x + self.scale * draw


class Masking(Corruption):
    """Set random entries to zero.

    The corruption of the first denoising autoencoders [1]_. In units of the data, zero
    is the mean of the training rows with the scalings "global" and "standard", the
    defaults, the middle of the range with "minmax", and zero itself with
    ``scaling=None``: in grey images on black, a lost pixel.

    Parameters
    ----------
    rate : float, default=0.3
        Probability with which an entry is set to zero, independent of all others.

    See Also
    --------
    Dropout : Also scales up the other entries.
    Swap : Replaces entries by values of other rows instead.

    References
    ----------
    .. [1] Vincent, Larochelle, Bengio & Manzagol, "Extracting and Composing Robust
       Features with Denoising Autoencoders", ICML 2008.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import Masking
    >>> x = torch.ones(1000, 20)
    >>> corruption = Masking(0.3)
    >>> masked = corruption(x, corruption.draw(x.shape, torch.Generator()))
    >>> round(masked.mean().item(), 1)
    0.7
    """

    replaces_cells = True
    _parameter_constraints: dict = {"rate": _RATE}

    def __init__(self, rate=0.3):
        self.rate = rate

    def draw(self, shape, generator):
        """Draw which entries are set to zero; see `Corruption.draw`."""
        return _uniform(shape, generator)

    def __call__(self, x, draw):
        """Return the rows with zeros; see `Corruption.__call__`."""
        return x * (draw >= self.rate)


class Dropout(Corruption):
    """Set random entries to zero and scale up the others.

    Dropout of the input layer [1]_. The other entries are divided by ``1 - rate``, so
    that the expected input of the first layer does not change. It is a regulariser;
    :class:`Masking` is closer to real missing entries.

    Parameters
    ----------
    rate : float, default=0.2
        Probability with which an entry is set to zero, independent of all others;
        less than 1. The default is that of [1]_ for inputs.

    References
    ----------
    .. [1] Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout",
       JMLR 15, 2014.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import Dropout
    >>> x = torch.ones(1000, 20)
    >>> corruption = Dropout(0.5)
    >>> dropped = corruption(x, corruption.draw(x.shape, torch.Generator()))
    >>> dropped.unique(), round(dropped.mean().item(), 1)
    (tensor([0., 2.]), 1.0)
    """

    replaces_cells = True
    _parameter_constraints: dict = {"rate": [Interval(Real, 0, 1, closed="left")]}

    def __init__(self, rate=0.2):
        self.rate = rate

    def draw(self, shape, generator):
        """Draw which entries are set to zero; see `Corruption.draw`."""
        return _uniform(shape, generator)

    def __call__(self, x, draw):
        """Return the rows with zeros, scaled up; see `Corruption.__call__`."""
        return x * (draw >= self.rate) / (1 - self.rate)


class SaltAndPepper(Corruption):
    """Set random entries to the smallest or the largest value.

    Salt-and-pepper noise, as for stacked denoising autoencoders [1]_.

    Parameters
    ----------
    rate : float, default=0.1
        Probability with which an entry is replaced, independent of all others. Half of
        the replaced entries become the smallest value, half the largest.

    low, high : float, default=None
        The smallest and the largest value, in units of the scaled data. None takes the
        minimum and maximum of the feature over the batch, which suits tables. For
        images, give both, as black and white pixels need not occur in every position of
        the training rows: ``low=0, high=1`` with ``scaling=None``.

    Raises
    ------
    ValueError
        On ``fit``, if ``low`` is greater than ``high``.

    References
    ----------
    .. [1] Vincent, Larochelle, Lajoie, Bengio & Manzagol, "Stacked Denoising
       Autoencoders", JMLR 11, 2010.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import SaltAndPepper
    >>> x = torch.rand(1000, 20, generator=torch.Generator())
    >>> corruption = SaltAndPepper(0.1, low=0, high=1)
    >>> noisy = corruption(x, corruption.draw(x.shape, torch.Generator()))
    >>> round((noisy == 0).float().mean().item(), 2)
    0.05
    """

    _parameter_constraints: dict = {
        "rate": _RATE,
        "low": [Real, None],
        "high": [Real, None],
    }

    def __init__(self, rate=0.1, *, low=None, high=None):
        self.rate = rate
        self.low = low
        self.high = high

    def validate(self):
        """Check the parameters, and that low <= high; see `Component.validate`."""
        super().validate()
        if None not in (self.low, self.high) and self.low > self.high:
            raise ValueError(
                f"SaltAndPepper has low={self.low} above high={self.high}."
            )

    def draw(self, shape, generator):
        """Draw which entries are replaced and how; see `Corruption.draw`."""
        return _uniform(shape, generator)

    def __call__(self, x, draw):
        """Return the rows with extreme values; see `Corruption.__call__`."""
        low = x.amin(dim=0) if self.low is None else self.low
        high = x.amax(dim=0) if self.high is None else self.high
        x = torch.where(draw < self.rate / 2, low, x)
        return torch.where(draw >= 1 - self.rate / 2, high, x)


class Swap(Corruption):
    """Replace random entries by those of other rows, column by column.

    New entries are drawn from the values of the same column, so that they are valid
    whatever its distribution. Suited to tables with skewed, bounded or one-hot columns,
    in which additive noise would be easy to recognise. A simple variant of the
    corruption of SCARF, which draws from the marginal distributions [1]_.

    Parameters
    ----------
    rate : float, default=0.15
        Probability with which an entry is replaced by the entry of a random row of the
        batch in the same column, independent of all others.

    References
    ----------
    .. [1] Bahri, Jiang, Tay & Metzler, "SCARF: Self-Supervised Contrastive Learning
       using Random Feature Corruption", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import Swap
    >>> x = torch.arange(12.0).reshape(6, 2)
    >>> swapped = Swap(1.0)(x, Swap(1.0).draw(x.shape, torch.Generator()))
    >>> bool((swapped[:, 0] % 2 == 0).all()), bool((swapped[:, 1] % 2 == 1).all())
    (True, True)
    """

    replaces_cells = True
    _parameter_constraints: dict = {"rate": _RATE}

    def __init__(self, rate=0.15):
        self.rate = rate

    def draw(self, shape, generator):
        """Draw which entries are replaced and by which rows; see `Corruption.draw`."""
        rows = torch.randint(
            shape[0], shape, generator=generator, device=generator.device
        )
        return _uniform(shape, generator), rows

    def __call__(self, x, draw):
        """Return the rows with entries of other rows; see `Corruption.__call__`."""
        uniform, rows = draw
        return torch.where(uniform < self.rate, x.gather(0, rows), x)


def _uniform(shape, generator):
    return torch.rand(
        shape, generator=generator, device=generator.device, dtype=torch.float32
    )
