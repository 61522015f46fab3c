"""Diagnosis of a fitted model: errors beside those of PCA, and warnings."""

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from .._model.coordinates import LEAST_SPREAD
from .._model.model import Model
from .._warning import warn_user
from ..exceptions import (
    CollapsedCodeWarning,
    DecoderRangeWarning,
    DivergenceWarning,
    InitialWeightsWarning,
    OvercompleteWarning,
    WorseThanPCAWarning,
)
from ..losses import SquaredError
from . import remedies
from .affine_pass import is_linear
from .better_loss import better_loss
from .comparison import on_training_rows, on_unseen_rows
from .final_pass import explained_variance_ratio, pca_residual
from .outcome import Unchanged, describe, why_unchanged
from .prefixes import reconstruction_curve, training_errors

__all__ = ["diagnose", "measure"]

# Error above that of PCA, as a share, from which a model counts as worse: the noise of
# float32 weights and of approximate axes stays below it.
_TOLERANCE = 0.005
# Shares of what PCA gains over one row for all, in the loss of the model, that a model
# may lose: any; one whose code has a price, such as a corruption; and such a one with
# more columns than rows. On validation rows of breast cancer, digits, iris and wine,
# components at their defaults lost at most 0.062, and `Masking()` 0.12 on digits with a
# small network; on made tables of 500 and 2,000 columns it lost 0.11 and 0.14.
_MAX_LOST = 0.05
_MAX_PRICE = 0.25
_MAX_PRICE_WIDE = 0.1
# Spread of the reconstructed rows, as a share of that of the rows, up to which they
# count as one row repeated; and the share of the variance that PCA must explain, so
# that this is a fault of the model.
_MIN_SPREAD = 0.005
_EXPLICABLE = 0.05
# Columns that a warning of divergence names.
_N_COLUMNS = 3
# Share of components that no row uses from which a warning says so.
_MAX_DEAD = 0.1


def diagnose(fit, names=None):
    """Return fitted attributes that say how good a model is; warn of what is wrong.

    Parameters
    ----------
    fit : Fit
    names : ndarray of shape (n_features,), default=None
        Names of the features, for warnings. None are their positions.

    Returns
    -------
    dict
        Fitted attributes by name, as the estimators document them.
    """
    pca_error = pca_residual(fit.plan, fit.axes)
    found = _measured(fit, pca_error) | {"kept_weights_": describe(fit.net)}
    problems = [*_problems(fit, found, pca_error, names)]
    for text, category in problems:
        warn_user(text, category)
    found["diagnostics_"]["warnings"] = [text for text, _ in problems]
    return found


def measure(fit):
    """Return fitted attributes that say how good a model is; see `diagnose`."""
    return _measured(fit, pca_residual(fit.plan, fit.axes))


def _measured(fit, pca_error):
    plan, net, model = fit.plan, fit.net, fit.model
    units = np.square(model.units.cpu().numpy())
    blocks = plan.settings.blocks
    n_features = len(units) if blocks is None else blocks.n_features
    error, variance = fit.final.error, fit.axes.variance
    deviation = np.sqrt(np.maximum(fit.final.variance, 0.0))
    if fit.axes.rank == 0:
        deviation[:] = 0.0  # up to rounding
    reported = _report(fit)
    n_active = reported.get(
        "active_units_",
        int(np.count_nonzero(deviation > LEAST_SPREAD * deviation.max())),
    )
    components = _linear_components(fit)
    if components is not None:
        reported["components_"] = components
    if plan.parts.bottleneck.nested:
        errors = training_errors(plan, model, fit.final)
        explained = _gains(errors[0], variance @ units)
        reported["_by_size"] = {
            "error": errors[0],
            "pca_reconstruction_error_": errors[1] / n_features,
            "r2": [_share(error, variance @ units) for error in errors[0]],
            "pca_r2": [_share(error, variance @ units) for error in errors[1]],
        }
        if plan.n_validation:
            reported["reconstruction_curve_"] = reconstruction_curve(fit)
    else:
        explained = explained_variance_ratio(plan, model, fit.final)
    return reported | {
        "pca_reconstruction_error_": float(pca_error @ units / n_features),
        "explained_variance_ratio_": explained,
        "diagnostics_": {
            "n_held_out": plan.n_validation,
            "initial_loss": net.initial_loss_,
            "best_loss": net.best_loss_,
            "n_encoder_steps": net.encoder_steps_,
            "diverged": net.diverged_,
            "starts_at_pca": fit.starts_at_pca,
            "n_active_components": n_active,
            "step": net.step_name_,
            "batch_size": net.batch_size,
            "r2": _share(error @ units, variance @ units),
            "pca_r2": _share(pca_error @ units, variance @ units),
            "hint": better_loss(fit),
            "warnings": [],
        },
    }


# Each of these yields what is wrong, as texts of warnings and their categories.


def _problems(fit, found, pca_error, names):
    n_active = found["diagnostics_"]["n_active_components"]
    yield from _problems_of_code(fit, n_active, found.get("dead_fraction_", 0.0))
    mismatch = None if fit.net.diverged_ else remedies.range_mismatch(fit)
    if mismatch is not None:
        # More training would not help.
        yield mismatch, DecoderRangeWarning
        return
    yield from _problems_of_training(fit, names)
    if fit.axes.rank == 0:
        return  # Rows that do not vary: nothing could be gained, errors are rounding.
    # Worse or better is judged in scaled units, those of the objective.
    sums = fit.final.error.sum(), pca_error.sum(), fit.axes.variance.sum()
    yield from _problems_of_start(fit, *sums[1:])
    yield from _problems_of_error(fit, *sums, n_active)


def _problems_of_code(fit, n_active, dead_fraction):
    parts, axes = fit.plan.parts, fit.axes
    n_components, n_features = axes.n_components, fit.plan.rows.shape[1]
    guarded = parts.is_regularized or fit.plan.has_pairs
    if n_components > n_features and not guarded:
        yield (
            f"n_components={n_components} is more than the {n_features} features, and "
            "nothing keeps the code from being a copy of them: add a corruption, a "
            "penalty or a sparse bottleneck.",
            OvercompleteWarning,
        )
    elif n_active < min(n_components, n_features) and not (
        # Whoever asks for all knows no number, and gets as many as from PCA.
        fit.plan.settings.n_components is None and axes.rank < n_components
    ):
        if axes.rank == 0:
            remedy = "The training rows do not vary."
        elif parts.is_plain and axes.rank < n_components:
            remedy = (
                f"To numerical precision the training rows vary in {axes.rank} "
                f"directions: pass n_components={axes.rank}."
            )
        else:
            remedy = remedies.cheaper_code(fit)
        yield (
            f"{n_components - n_active} of the {n_components} components of the code "
            f"are constant over the training rows. {remedy}",
            CollapsedCodeWarning,
        )
    if dead_fraction > _MAX_DEAD:
        yield (
            f"{dead_fraction:.0%} of the {n_components} components of the code are not "
            "used by any training row: train longer (max_epochs, n_iter_no_change), "
            "raise k or revival of the bottleneck, or lower n_components.",
            CollapsedCodeWarning,
        )


def _problems_of_training(fit, names):
    net = fit.net
    if net.diverged_:
        first, *again = net.divergences_
        said = f"The loss was not finite in epoch {first}"
        if again:
            said += f", and with a tenth of lr in epoch {again[0]}"
        elif net.stop_reason_ != "diverged":
            said += ", after which training went back and on with a tenth of lr"
        yield (
            f"{said}; the weights of epoch {net.best_epoch_} were kept. Lower lr, "
            f"{'set' if net.gradient_clip is None else 'lower'} gradient_clip, or look "
            "at the columns with the largest scaled values: "
            f"{_largest_columns(fit.plan, names)}.",
            DivergenceWarning,
        )
    elif net.unfinished_:
        settings = fit.plan.settings
        yield (
            f"max_epochs={settings.max_epochs} was reached before training stopped by "
            f"itself, for which n_iter_no_change={settings.n_iter_no_change} epochs "
            "without an improvement are needed: raise max_epochs or lr.",
            ConvergenceWarning,
        )


def _largest_columns(plan, names):
    """Return the names of the columns with the largest scaled values, with these."""
    largest = np.zeros(plan.x.shape[1])
    for _, x in plan.x.chunks():
        np.maximum(largest, x.abs().amax(dim=0).cpu().numpy(), out=largest)
    blocks = plan.settings.blocks
    if blocks is not None:
        largest = np.maximum.reduceat(largest, blocks.first)
    names = range(len(largest)) if names is None else names
    order = np.argsort(-largest, kind="stable")[:_N_COLUMNS]
    return ", ".join(f"{names[j]!s} ({largest[j]:.3g})" for j in order)


def _problems_of_start(fit, pca_error, variance):
    """Yield that the networks have no part in the model.

    Networks that the user has not chosen may be judged and left out: that is what the
    default promises.

    The text is the same for all fits with one reason, so that those of a search can be
    recognised as one.
    """
    why = why_unchanged(fit.net)
    remedy = remedies.OF_UNCHANGED.get(why)
    if remedy is None and fit.plan.settings.has_chosen_networks:
        remedy = remedies.OF_JUDGED.get(why)
    went_on = len(fit.net.history) > 0 and not fit.net.leaves_start
    converged = went_on and fit.net.starts_fitted
    if (
        remedy is None
        or (converged and why is Unchanged.LOW_RATE)
        or (fit.starts_at_pca and not _exceeds_pca(fit, pca_error, variance))
    ):
        return
    of_pca = ", those of PCA," if fit.starts_at_pca else ""
    no_effect = (
        "Parameters of the networks and of their training had no effect. "
        if fit.net.starts_fitted
        else ""
    )
    yield (
        f"The initial weights{of_pca} were kept: {why.value}. {no_effect}{remedy}",
        InitialWeightsWarning,
    )


def _exceeds_pca(fit, pca_error, variance):
    """Return whether something better than PCA could have been learnt."""
    module, parts = fit.net.module_, fit.plan.parts
    if is_linear(module) and parts.is_plain and isinstance(parts.loss, SquaredError):
        return False
    return pca_error > _rounding(fit, variance)


def _problems_of_error(fit, error, pca_error, variance, n_active):
    """Yield that a model is worse than PCA or one row repeated, in its own loss."""
    said = _worse_on_training_rows(fit, error, pca_error, variance, n_active)
    if said is not None:
        yield f"{said} {remedies.lower_error(fit)}", WorseThanPCAWarning
        return
    said = _worse_on_unseen_rows(fit)
    if said is not None:
        yield f"{said} {remedies.generalize(fit)}", WorseThanPCAWarning


def _worse_on_training_rows(fit, error, pca_error, variance, n_active):
    """Return what is wrong on the rows that the model was trained on, or None."""
    parts, rounding = fit.plan.parts, _rounding(fit, variance)
    squared = isinstance(parts.loss, SquaredError)
    # The squared error is known of all rows; other losses are computed for some.
    own = None if squared else on_training_rows(fit)
    if squared:
        if error > variance * (1 + _TOLERANCE) + rounding:
            return "The reconstruction is worse than the mean of the training rows."
    elif own.worse_than_constant(_TOLERANCE):
        model, _, constant = own.means()
        return (
            "The reconstruction is worse than the mean or the median of the training "
            f"rows, with {_losses(parts, model, constant)}."
        )
    if (
        n_active > 0  # otherwise there is a warning of the code
        and pca_error < (1 - _EXPLICABLE) * variance
        and _is_one_row(fit)
    ):
        return (
            "The reconstruction is nearly the same for all rows, like their mean, "
            f"while PCA explains {1 - pca_error / variance:.0%} of the variance."
        )
    if _is_regularized(fit) or not _has_code_of_pca(fit):
        return None
    than_pca = (
        "The reconstruction of the training rows is worse than that of PCA with as many"
    )
    if squared and parts.is_plain:
        if error > pca_error * (1 + _TOLERANCE) + rounding:
            return (
                f"{than_pca} components, with an error of {error:.6g} instead of "
                f"{pca_error:.6g} in scaled units."
            )
    elif not squared and own.lost() > _MAX_LOST:
        model, pca, _ = own.means()
        return f"{than_pca} components, with {_losses(parts, model, pca)}."
    return None


def _worse_on_unseen_rows(fit):
    """Return what is wrong on rows that the model was not trained on, or None.

    Initial weights and PCA are learnt from the same rows, and compared on those.
    """
    net, parts = fit.net, fit.plan.parts
    is_initial = net.best_epoch_ == 0
    is_pca = fit.starts_at_pca and is_initial
    # What starts at PCA is left for what is better on validation rows only.
    is_judged = net.starts_fitted and fit.plan.settings.early_stopping
    if is_pca or (is_judged and not _is_regularized(fit)) or not _has_code_of_pca(fit):
        return None
    found = on_training_rows(fit) if is_initial else on_unseen_rows(fit)
    n_rows, n_features = fit.plan.rows.shape
    most = _MAX_LOST
    if _is_regularized(fit):
        most = _MAX_PRICE_WIDE if n_rows < n_features else _MAX_PRICE
    if found is None or found.lost() <= most:
        return None
    rows = "the training rows" if is_initial else "rows that were not trained on"
    model, pca, _ = found.means()
    return (
        f"The reconstruction of {rows} is worse than that of PCA with as many "
        f"components, with {_losses(parts, model, pca)}: {found.lost():.0%} of what "
        "PCA gains over one row for all is lost."
    )


def _is_regularized(fit):
    """Return whether more than the loss of whole rows was minimised."""
    # Where entries are missing, others are hidden in training, as by a corruption.
    return fit.plan.parts.is_regularized or fit.plan.hides_entries


def _has_code_of_pca(fit):
    """Return whether the code could be that of PCA: a few numbers of any value."""
    fewer = fit.axes.n_components <= fit.plan.rows.shape[1]
    return fewer and fit.plan.parts.has_dense_code


def _losses(parts, loss, other):
    return f"a mean loss ({parts.loss.name}) of {loss:.6g} instead of {other:.6g}"


def _is_one_row(fit):
    """Return whether the reconstruction hardly depends on the row, whatever the loss.

    The squared error does not tell: with another loss, a useful model may have that of
    the mean, or one far below it owing to a few extreme rows. The spread from the 10th
    to the 90th percentile is that of ordinary rows.
    """
    code = fit.final.sampled_code.numpy()
    spread = _spread(fit.model.map(Model.decode_scaled, code))
    of_rows = _spread(fit.final.x)
    return 0 < of_rows and spread <= _MIN_SPREAD * of_rows


def _spread(rows):
    low, high = np.quantile(rows, [0.1, 0.9], axis=0)
    return (high - low).sum()


def _rounding(fit, variance):
    """Return the error of a reconstruction that is exact, but for float32 weights."""
    # Of the sum over the components.
    return fit.axes.n_components * np.finfo(np.float32).eps ** 2 * variance


def _linear_components(fit):
    """Return how a row changes with each component, where that is a constant.

    Returns
    -------
    ndarray of shape (n_components, n_features) or None
        In the data's units; None unless the decoder is affine, inverse link included.
    """
    model = fit.model.in_precision(torch.float64)
    affine = getattr(model.autoencoder.decoder, "affine", None)
    if affine is None:
        return None
    weight = affine.weight.detach()
    has_link = model.autoencoder.link is not None
    if has_link or model.loss.inverse_link(weight) is not weight:
        return None
    steps = torch.eye(fit.axes.n_components, dtype=weight.dtype, device=weight.device)
    # From ones, so that no component is absent.
    ahead, origin = (
        model.autoencoder.expanded(model.coordinates.inverse(code))
        for code in (1 + steps, torch.ones_like(steps[:1]))
    )
    steps = ahead - origin
    return (steps @ weight.T * model.scaling.scale.to(weight)).cpu().numpy()


def _report(fit):
    """Return the fitted attributes that the bottleneck reports, by name."""
    bottleneck = fit.model.in_precision(torch.float64).autoencoder.bottleneck
    if not hasattr(bottleneck, "report"):
        return {}
    code, weight = fit.final.code, fit.plan.weight
    weight = np.ones(len(code)) if weight is None else weight
    device = fit.model.in_precision(torch.float64).device
    weight = torch.from_numpy(weight / weight.sum()).to(device)
    with torch.no_grad():
        return bottleneck.report(code.take(slice(None)).to(device).double(), weight)


def _gains(errors, variance):
    """Return the gain in R² from each component, given the error with each number."""
    gains = -np.diff(errors, prepend=variance)
    return gains / variance if variance > 0 else np.zeros_like(gains)


def _share(error, variance):
    """Return R²; of rows that do not vary, a model explains everything."""
    return float(1 - error / variance) if variance > 0 else 1.0
