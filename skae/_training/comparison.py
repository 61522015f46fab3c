"""Comparison of a model with PCA and with one row repeated, in its own loss."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from .._data.principal_axes import PrincipalAxes
from .._data.subsample import subsample
from .._model.autoencoder import Parts
from ..architectures import MLP
from .fit import train
from .initial import statistics
from .plan import FEW_ROWS
from .selection import is_clear_gain
from .together import run

__all__ = ["Comparison", "on_training_rows", "on_unseen_rows"]

# Rows for which models are compared: numbers in them, and how many in any case.
_MAX_ENTRIES = 2**22
_MIN_ROWS = 200
# Rows per column from which a few rows hardly turn the axes of PCA.
_MANY_ROWS = 10


class Comparison(NamedTuple):
    """Losses of the same rows by three models.

    Attributes
    ----------
    model, pca, constant : ndarray of shape (n_rows,)
        Loss of each row: by the model, by PCA, and by the one row that suits all best.
    weight : ndarray of shape (n_rows,) or None
        Sample weights.
    """

    model: np.ndarray
    pca: np.ndarray
    constant: np.ndarray
    weight: np.ndarray | None

    def means(self):
        """Return the mean losses of the model, of PCA and of the constant row."""
        return tuple(np.average(rows, weights=self.weight) for rows in self[:3])

    def worse_than_constant(self, share):
        """Return whether the model is worse than the constant row, clear of noise.

        Parameters
        ----------
        share : float
            Of what PCA gains over the constant row, that the model must lose in
            addition. Losses too large to be compared do not count as worse.
        """
        model, pca, constant = self.means()
        if not np.isfinite(constant):
            return False
        worse = model - constant > share * max(constant - pca, 0.0)
        return worse and is_clear_gain(self.model - self.constant, self.weight)

    def lost(self):
        """Return which share of what PCA gains over the constant row the model loses.

        It is 0 if the model is not worse than PCA, clear of noise, and where losses are
        too large to be compared.
        """
        model, pca, constant = self.means()
        if not (
            np.isfinite(constant)
            and pca < constant
            and is_clear_gain(self.model - self.pca, self.weight)
        ):
            return 0.0
        return (model - pca) / (constant - pca)


def on_training_rows(fit):
    """Return the `Comparison` for rows that the model was trained on."""
    rows = fit.plan.on_all_rows().data().train
    return _compare(fit.plan, fit.axes, fit.net, fit.net.module_, rows)


def on_unseen_rows(fit):
    """Return the `Comparison` for rows that neither the model nor PCA has seen.

    These are the validation rows; the model is the network before it was trained anew
    on all rows, and PCA is learnt from the others. (Training begins with weights that
    are learnt from all rows. If anything, the model looks better than it is.)

    Without validation rows, if the rows are few and fewer than the columns, a further
    network is trained on four fifths of them, for as many epochs as the model. From
    more rows this would take long, and a network of few columns is less prone to be far
    below PCA.

    Returns
    -------
    Comparison or None
        None if there are no such rows.
    """
    plan, axes, net = fit.plan, fit.axes, fit.net
    if plan.n_validation:
        rows = plan.data().validation
        if plan.validation is not None and _turns_axes(plan):
            x = plan.x.without(plan.validation)
            weight = plan.weight
            weight = None if weight is None else np.delete(weight, plan.validation)
            weight = None if weight is None else weight / weight.mean()
            plan = replace(plan, x=x, weight=weight)
            axes = PrincipalAxes(x, weight, axes.n_components, _random_state())
        return _compare(plan, axes, net, fit.validated, rows)
    settings, (n_rows, n_features) = plan.settings, plan.rows.shape
    has_callbacks = "callbacks" in (settings.net_params or {})
    if (
        settings.early_stopping
        or settings.warm_start
        or has_callbacks
        or n_rows >= min(FEW_ROWS, n_features)
    ):
        return None
    # Of its own: a check must not change the fit.
    plan = replace(plan, random_state=_random_state())
    kept, held_out = plan.folds()[0]
    fold = replace(plan.validated_on(kept, held_out), n_epochs=len(net.history))
    trained = run(train(fold))
    return _compare(
        fold, fold.axes, trained.net, trained.net.module_, fold.data().validation
    )


def _random_state():
    return np.random.RandomState(0)


def _turns_axes(plan):
    """Return whether the axes are others without the validation rows."""
    n_rows, n_features = plan.rows.shape
    return n_rows < max(FEW_ROWS, _MANY_ROWS * n_features)


def _compare(plan, axes, net, autoencoder, rows):
    """Compare a network with PCA and the best constant row.

    PCA is the linear network that training with the loss starts at: for losses of the
    whole real line PCA itself, for others what their link makes of it. Each feature of
    the constant row is its mean or its median, whichever has the smaller loss.

    Parameters
    ----------
    plan : Plan
        Of the rows that PCA and the constant row are learnt from.
    axes : PrincipalAxes
        Of these rows.
    net : Net
        Which iterates over rows.
    autoencoder : Autoencoder
    rows : Rows
        To compare for.

    Returns
    -------
    Comparison
    """
    n_kept = max(_MIN_ROWS, _MAX_ENTRIES // plan.rows.shape[1])
    rows = rows.take(torch.from_numpy(subsample(len(rows), n_kept)))
    loss = plan.parts.loss
    found, units = statistics(plan, axes, 0)
    none = {"axes": 0 * found.axes, "variances": 0 * found.variances}
    mean = replace(found, **none)
    median = replace(mean, mean=found.rows.double().median(dim=0).values)

    def started(statistics):
        parts = Parts.of(architecture=MLP(hidden_layer_sizes=()), loss=loss)
        module = parts.build(plan.rows.shape[1], axes.n_components, 0)
        module.start(statistics, units)
        return module.to(net.device).eval()

    @torch.no_grad()
    def entries(module):
        terms = []
        for x, _, known, given in net.get_iterator(rows):
            raw, *_ = module(x, input=given)
            entries = loss.per_entry(raw, x)
            terms.append(entries if known is None else entries * known)
        terms = torch.cat(terms).cpu().double()
        return terms if loss.blocks is None else loss.blocks.sums(terms)

    weight = None if rows.weight is None else rows.weight.cpu().double()
    of_mean, of_median = entries(started(mean)), entries(started(median))
    share = 1.0 if weight is None else weight[:, None]
    better = (share * of_median).sum(dim=0) < (share * of_mean).sum(dim=0)
    constant = torch.where(better, of_median, of_mean)
    terms = (
        loss.trusted(terms.sum(dim=1), weight).numpy()
        for terms in (
            entries(autoencoder.eval()),
            entries(started(found)),
            constant,
        )
    )
    return Comparison(*terms, rows.weight_array())
