"""A hint at a loss that may fit the data better than the squared error."""

import numpy as np

__all__ = ["better_loss"]

# Variance of values in [0, 1] as a share of the most that their means allow, from which
# they gather at the ends. It is one for binary values, a third for uniform ones, and
# about a half for the grey values of images. Of tables that were scaled to [0, 1] it is
# at most 0.3: breast cancer, diabetes, iris and wine.
_AT_ENDS = 0.4
# Share of the columns that reach the largest value of all, up to which that is no bound
# such as the white of an image.
_AT_MOST = 0.5
# Noise variance of counts as a share of their mean, in the median over the columns. It
# is one for a good model, more for a poor one.
_COUNTS = (0.25, 4.0)
# Departure from an integer that is rounding of single precision, relative and absolute,
# and the most of it: of larger numbers it is not known whether they are integers.
_ROUNDING, _MOST_ROUNDING = (1e-5, 1e-4), 0.01


def better_loss(fit):
    """Return a hint at `Bernoulli` or `Poisson`, where the data look like it.

    The loss must be the default. What the data look like is told by the means and
    variances that the fit has, and by the known entries of the rows of the sample of
    its final pass.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    str or None
        None if there is nothing to say.
    """
    settings, mean = fit.plan.settings, fit.plan.mean
    if settings.has_chosen_loss or settings.blocks is not None:
        return None
    scaling = fit.plan.scaling
    center, scale = (t.double().cpu().numpy() for t in (scaling.center, scaling.scale))
    x = fit.final.x * scale + center
    near = np.round(x)
    rounding = np.minimum(_ROUNDING[0] * np.abs(x) + _ROUNDING[1], _MOST_ROUNDING)
    x = np.where(np.abs(x - near) <= rounding, near, x)
    if fit.final.missing is not None:
        # Completed ones are those of the model: zero is a count, and in any range.
        x[fit.final.missing] = near[fit.final.missing] = 0.0
    if x.min() < 0:
        return None
    variance = fit.axes.variance * scale**2
    if x.max() <= 1:
        most = (mean * (1 - mean)).sum()
        if variance.sum() <= _AT_ENDS * most:
            return None
        return _text("the values are in [0, 1], and many near the ends", "Bernoulli()")
    # Of a warm start, the mean is that of the first rows: zero where they were.
    varies = (variance > 0) & (mean > 0)
    if (x != near).any() or not varies.any():
        return None
    largest = x.max(axis=0)
    noise = (fit.final.error * scale**2)[varies] / mean[varies]
    bounded = np.mean(largest[varies] == largest.max()) > _AT_MOST
    if bounded or not _COUNTS[0] <= np.median(noise) <= _COUNTS[1]:
        return None
    return _text("the values are counts, with noise near their means", "Poisson()")


def _text(why, loss):
    return f"loss={loss} may fit better: {why}. Compare both on new rows."
