"""What a fitted model is worth: its baseline, its components, its health."""

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from .._data.moments import chunks, moments, squares
from .._data.scaling import as_tensor
from .._data.subsample import subsample
from ..exceptions import (
    CollapsedCodeWarning,
    DivergenceWarning,
    OvercompleteWarning,
    WorseThanPCAWarning,
    warn_user,
)
from ..losses import SquaredError

__all__ = ["diagnose", "explained_variance_ratio", "linear_components"]

# Decoding with 1, 2, ... components takes that many passes. Together they may cost as
# much as this many passes over all rows, and give as many numbers as this, and one as
# many as that, beyond which fewer rows are used.
_MAX_PASSES = 40
_MAX_ENTRIES = 2**24
_MAX_HELD = 2**22
_MIN_ROWS = 200
# Error above that of PCA, as a share, from which a model counts as worse.
_TOLERANCE = 0.005
# Spread of a component, as a share of the largest, below which it says nothing.
_DEAD = 1e-6
# Share of components that no row uses from which a dictionary is too wide.
_MAX_DEAD = 0.1


def diagnose(fit):
    """Measure a fitted model, and warn of what is wrong with it.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    pca_error : float
        Mean squared residual of PCA of the same size on the training rows, in the
        data's units.
    diagnostics : dict
        As the estimators document ``diagnostics_``.
    reported : dict
        Fitted attributes of the estimator, from the bottleneck.
    """
    model, net = fit.model, fit.model.net
    # Worse or better is judged in the units of the network, whose loss it minimised.
    error, pca_error, variance = _mean_squares(fit)
    units = model.scaling.scale**2
    spread = np.sqrt(np.maximum(moments(fit.code, fit.weight)[1], 0.0))
    reported = _report(fit)
    n_active = reported.get(
        "active_units_", int(np.count_nonzero(spread > _DEAD * spread.max()))
    )
    diagnostics = {
        "n_held_out": fit.n_held_out,
        "initial_loss": net.initial_loss_,
        "best_loss": net.best_loss_,
        "diverged": net.diverged_,
        "n_active_components": n_active,
        "step": net.step_name_,
        "batch_size": net.batch_size,
        "r2": _share(error @ units, variance @ units),
        "pca_r2": _share(pca_error @ units, variance @ units),
    }
    _warn(
        fit,
        n_active,
        reported.get("dead_fraction_", 0.0),
        error=error.sum(),
        pca_error=pca_error.sum(),
        variance=variance.sum(),
    )
    return float((pca_error * units).mean()), diagnostics, reported


def _mean_squares(fit):
    """Return what the model, PCA and the mean leave of each feature, in scaled units.

    All three in one pass, from the codes that are there already.
    """
    model, mean = fit.model, _scaled_mean(fit)
    total = np.zeros((3, fit.X.shape[1]))
    for rows in chunks(*fit.X.shape):
        x = _scaled(fit, rows)
        decoded = model.run(
            lambda module, z: model.loss.inverse_link(module.decoder(z)),
            fit.raw_code[rows],
        )
        weight = None if fit.weight is None else fit.weight[rows]
        total += [
            _sum_of_squares(left, weight)
            for left in (x - decoded, fit.axes.residual(x), x - mean)
        ]
    return total / len(fit.X)


def _warn(fit, n_active, dead_fraction, error, pca_error, variance):
    parts, net = fit.parts, fit.model.net
    n_components, n_features = fit.axes.n_components, fit.X.shape[1]
    if n_components > n_features and not parts.guarded:
        warn_user(
            f"n_components={n_components} is more than the {n_features} features, and "
            "nothing keeps the code from being a copy of them: add a corruption, a "
            "penalty or a sparse bottleneck.",
            OvercompleteWarning,
        )
    elif n_active < min(n_components, n_features):
        rank = fit.axes.rank
        if rank == 0:
            remedy = "the training rows do not vary"
        elif parts.plain and rank < n_components:
            remedy = (
                f"to numerical precision the training rows vary in {rank} directions: "
                f"pass n_components={rank}"
            )
        else:
            remedy = "lower n_components, the penalty or the price of the bottleneck"
        warn_user(
            f"{n_components - n_active} of the {n_components} components of the code "
            f"are constant over the training rows: {remedy}.",
            CollapsedCodeWarning,
        )
    if dead_fraction > _MAX_DEAD:
        warn_user(
            f"{dead_fraction:.0%} of the {n_components} components of the code are not "
            "used by any training row: train longer (max_epochs, n_iter_no_change), "
            "raise k or revival of the bottleneck, or lower n_components.",
            CollapsedCodeWarning,
        )
    if net.diverged_:
        warn_user(
            f"The loss was not finite in epoch {len(net.history)}; the weights of "
            f"epoch {net.best_epoch_} were kept. Lower lr, set gradient_clip, or look "
            "for columns with values far out.",
            DivergenceWarning,
        )
    elif net.unfinished_:
        warn_user(
            f"max_epochs={net.max_epochs} was reached before training stopped by "
            f"itself, for which n_iter_no_change={net.n_iter_no_change} epochs without "
            "an improvement are needed: raise max_epochs or lr.",
            ConvergenceWarning,
        )
    rounding = np.finfo(np.float32).eps ** 2 * variance
    if error > variance * (1 + _TOLERANCE) + rounding:
        warn_user(
            "The reconstruction is worse than the mean of the training rows. Train "
            "longer (max_epochs), lower lr, or weaken penalty and corruption.",
            WorseThanPCAWarning,
        )
    elif (
        parts.plain
        and n_components <= n_features
        and isinstance(parts.loss, SquaredError)
        and error > pca_error * (1 + _TOLERANCE) + rounding
    ):
        warn_user(
            "The reconstruction of the training rows is worse than that of PCA with as "
            f"many components, with an error of {error:.6g} instead of {pca_error:.6g} "
            "in scaled units. Train longer (max_epochs), lower lr, or start there: "
            "MLP(start='pca').",
            WorseThanPCAWarning,
        )


def explained_variance_ratio(fit):
    """Return the gain in R² from decoding ``k + 1`` instead of ``k`` components.

    Components that are left out stand at their mean, and what is decoded is shifted so
    that the mean of the rows stays right; no component at all is that mean. For a
    linear network the gains are those of PCA; for others they need not fall, nor be
    positive. Their sum is the R² of the model on these rows.
    """
    model = fit.model
    (n_samples, width), k = fit.X.shape, fit.axes.n_components
    affordable = min(
        _MAX_PASSES * n_samples // k, _MAX_ENTRIES // (k * width), _MAX_HELD // width
    )
    rows = subsample(n_samples, max(_MIN_ROWS, affordable))
    x, weight = _scaled(fit, rows), None if fit.weight is None else fit.weight[rows]
    code, units = fit.code[rows], model.scaling.scale**2
    truncated = np.empty_like(code)
    truncated[:] = np.average(code, axis=0, weights=weight)
    left = [_sum_of_squares(x - _scaled_mean(fit), weight) @ units]
    for component in range(k):
        truncated[:, component] = code[:, component]
        residual = x - model.run(
            lambda module, z: model.loss.inverse_link(
                module.decoder(model.coordinates.invert(z))
            ),
            truncated,
        )
        if component < k - 1:
            residual -= np.average(residual, axis=0, weights=weight)
        left.append(_sum_of_squares(residual, weight) @ units)
    return -np.diff(left) / left[0] if left[0] > 0 else np.zeros(k)


def linear_components(fit):
    """Return how the rows move with each component, if that is the same everywhere.

    Returns
    -------
    ndarray of shape (n_components, n_features) or None
        In the data's units; None unless the decoder is affine, link included.
    """
    model = fit.model
    affine = getattr(model.net.module_in(torch.float64).decoder, "affine", None)
    if affine is None:
        return None
    weight = affine.weight.detach().cpu()
    if fit.parts.loss.inverse_link(weight) is not weight:
        return None
    steps = torch.eye(fit.axes.n_components, dtype=weight.dtype)
    origin = model.coordinates.invert(torch.zeros_like(steps[:1]))
    steps = model.coordinates.invert(steps) - origin
    return (steps @ weight.T).numpy() * model.scaling.scale


def _report(fit):
    """Return what the bottleneck has to say of its codes, fitted attributes by name."""
    module = fit.model.net.module_in(torch.float64)
    if not hasattr(module.bottleneck, "report"):
        return {}
    device = next(module.parameters()).device
    code = torch.from_numpy(fit.raw_code).to(device, torch.float64)
    weight = np.ones(len(fit.X)) if fit.weight is None else fit.weight
    weight = torch.from_numpy(weight / weight.sum()).to(device)
    return module.bottleneck.report(code, weight)


def _scaled(fit, rows):
    """Return rows, of a slice or an index, as the network sees them."""
    return fit.model.scaling.apply(as_tensor(fit.X[rows])).numpy()


def _scaled_mean(fit):
    scaling = fit.model.scaling
    return ((fit.mean - scaling.center) / scaling.scale).astype(fit.X.dtype)


def _sum_of_squares(left, weight):
    """Return the weighted sum of squares of each column; ``left`` is overwritten."""
    if weight is not None:
        left *= np.sqrt(weight).astype(left.dtype)[:, np.newaxis]
    total = squares(left)
    if not 1e-30 < total.sum() < np.inf:
        # Single precision does not hold squares of what is very small or large.
        total = squares(left.astype(np.float64))
    return total


def _share(error, variance):
    """Return R²; a model of rows that do not vary explains all there is."""
    return float(1 - error / variance) if variance > 0 else 1.0
