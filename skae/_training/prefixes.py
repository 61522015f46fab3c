"""Nested codes: errors with each number of components, beside those of PCA."""

import numpy as np
import torch

from .._model.model import Model
from .final_pass import pca_residual, sum_of_squares
from .initial import make_net

__all__ = ["prefer_start", "reconstruction_curve", "training_errors"]

# Loss above that of PCA, as a share of it and of that with one component, from which a
# size counts as worse: noise of float32 weights stays below.
_TOLERANCE = 1e-3
_ROUNDING = 1e-6


def training_errors(plan, model, final):
    """Return the errors with each number of components.

    If only a part of the rows is decoded, errors are multiplied by what makes the last
    one, which is known of all rows, right.

    Parameters
    ----------
    plan : Plan
    model : Model
    final : FinalPass

    Returns
    -------
    error, pca_error : ndarray of shape (n_components,)
        Squared residuals, summed over the features and averaged over the rows, in
        squared units of residuals: of the model, and of PCA.
    """
    units = np.square(model.units.cpu().numpy())
    weight = None if plan.weight is None else plan.weight[final.sample]
    known = None if plan.known is None else plan.known[final.sample].numpy()
    code = final.sampled_code.numpy()
    error = np.empty(code.shape[1])
    for k in range(1, len(error) + 1):
        residual = final.x - model.map(
            Model.decode_scaled, np.ascontiguousarray(code[:, :k])
        )
        if known is not None:
            residual[~known] = 0.0
        error[k - 1] = sum_of_squares(residual, weight) @ units
    whole = final.error @ units
    error *= whole / error[-1] if error[-1] > 0 else 0.0
    pca_error = [
        pca_residual(plan, plan.axes.cut(k)) @ units for k in range(1, len(error) + 1)
    ]
    return error, np.array(pca_error)


def reconstruction_curve(fit):
    """Return R² on the validation rows with each number of components.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    dict of ndarray of shape (n_components,)
        As the estimators document it: "r2" and "pca_r2".
    """
    plan, net, model = fit.plan, fit.net, fit.model
    rows = plan.data().validation
    units = model.units.double().square()
    mean = torch.from_numpy(plan.mean).to(model.device)
    mean = model.scaling(mean[None]).to(rows.source.dtype)
    found = plan.axes.statistics(plan.x)
    axes = found.axes.to(model.device)
    center = found.mean.to(model.device)
    module = fit.validated.eval()
    n_sizes = len(axes)
    left, of_pca, total = np.zeros(n_sizes), np.zeros(n_sizes), 0.0

    def squares(residual, mask, weight):
        # Scaled rows are in single precision, sums of them are not.
        terms = residual.double().square()
        terms = (terms if mask is None else terms * mask) @ units.to(terms)
        return float(terms.sum() if weight is None else terms @ weight.to(terms))

    with torch.inference_mode():
        for x, weight, mask, given in net.get_iterator(rows):
            seen = x if given is None else given
            code = module.encode(seen)
            scores = (seen.double() - center) @ axes.T
            linear = center.expand(len(x), -1).clone()
            total += squares(x - mean, mask, weight)
            for k in range(n_sizes):
                residual = x - module.decode(code[:, : k + 1])
                left[k] += squares(residual, mask, weight)
                linear += scores[:, k, None] * axes[k]
                of_pca[k] += squares(x - linear, mask, weight)
    r2 = {"r2": left, "pca_r2": of_pca}
    if total == 0:
        return {name: (error == 0).astype(float) for name, error in r2.items()}
    return {name: 1 - error / total for name, error in r2.items()}


def prefer_start(net, plan, axes, seeds):
    """Return to the initial weights if some size is better with them.

    That of the validation rows, in the loss of the model. The initial weights are those
    of PCA, which a nested code so is not worse than with any number of components.

    Parameters
    ----------
    net : Net
        Trained with the validation set of the plan.
    plan : Plan
    axes : PrincipalAxes
    seeds : tuple of int
    """
    net.worse_size_ = None
    if not net.starts_fitted or net.best_epoch_ == 0 or not net.early_stopping:
        return
    start = make_net(plan, axes, seeds).module_.eval()
    found, least = (_losses(net, m, plan) for m in (net.module_.eval(), start))
    worse = found > least * (1 + _TOLERANCE) + _ROUNDING * least[0]
    if worse.any():
        net.worse_size_ = int(np.argmax(worse)) + 1
        net.module_.load_state_dict(start.state_dict())
        net.best_epoch_, net.best_loss_ = 0, net.initial_loss_


@torch.no_grad()
def _losses(net, module, plan):
    """Return the mean loss of the validation rows with each number of components."""
    rows = plan.data().validation
    terms = []
    for x, _, mask, given in net.get_iterator(rows):
        code = module.encode(x if given is None else given)
        losses = []
        for k in range(1, code.shape[1] + 1):
            raw = module.decoded(code[:, :k])
            raw = raw if module.link is None else module.link(raw)
            args = (raw, x) if mask is None else (raw, x, mask)
            losses.append(module.loss(*args))
        terms.append(torch.stack(losses, dim=1))
    terms, weight = torch.cat(terms).double(), rows.weight
    weight = None if weight is None else weight.double()
    trusted = [module.loss.trusted(column, weight) for column in terms.T]
    means = torch.stack(trusted).cpu().numpy()
    return np.average(means, axis=1, weights=rows.weight_array())
