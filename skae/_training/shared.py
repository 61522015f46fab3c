"""The plan of a fit that several processes share, each with rows of its own.

Mean, scaling and principal axes are those of all rows: moments are merged. What looks
at single rows, before and after training, sees a sample of them, the same everywhere,
with the validation rows of all processes. Each process trains on its own rows.
"""

from dataclasses import replace

import numpy as np
import torch

from .._data.holdout import most_held_out
from .._data.moments import Moments, products
from .._data.principal_axes import PrincipalAxes
from .._data.scaling import quartiles_of, scaling_of
from .._data.source import scaled_rows, source_of
from .._data.subsample import subsample
from .batches import Rows, Share
from .plan import batch_rows, n_held_out, prepare

__all__ = ["prepare_shared"]

# Rows of the sample: the largest number, numbers in them, and how many in any case.
_MOST, _MAX_ENTRIES, _LEAST = 2**14, 2**22, 512


def prepare_shared(workers, settings, rows, weight, X_val, random_state):
    """Make the plan of a fit of several processes; called by all of them.

    Parameters
    ----------
    workers : Workers
    settings : Settings
    rows : Source
        The rows of this process, possibly none.
    weight : ndarray of shape (n_rows,) or None
        Their sample weights, on a scale that all processes share.
    X_val : Source or None
        Validation rows of this process that the user has given.
    random_state : RandomState
        That of the first process is used by all.

    Returns
    -------
    Plan
    """
    random_state = workers.of_first(random_state)
    sizes = workers.of_all(len(rows))
    n_all, width = sum(sizes), rows.shape[1]
    settings = settings.for_rows(n_all)
    scaling, mean, axes = _statistics(workers, settings, rows, weight, n_all)
    held_out = np.empty(0, dtype=np.int64)
    given = X_val is not None
    if settings.early_stopping and not given:
        n_rows = n_held_out(n_all, settings.validation_fraction)
        n_rows = min(n_rows, most_held_out(width))
        n_rows = _part(n_rows, sizes, workers.rank)
        own = np.random.RandomState([random_state.randint(2**31), workers.rank])
        held_out = np.sort(own.permutation(len(rows))[:n_rows])
    train, train_weight = rows, weight
    if len(held_out):
        train = rows.without(held_out)
        train_weight = None if weight is None else np.delete(weight, held_out)
    sizes = workers.of_all(len(train))
    n_rows = min(sum(sizes), max(_LEAST, min(_MOST, _MAX_ENTRIES // width)))
    index = subsample(len(train), _part(n_rows, sizes, workers.rank))
    # Each row of the sample counts for those that it was drawn from.
    represented = len(train) / max(len(index), 1)
    samples, outs, X_vals = zip(
        *workers.of_all(
            (
                (_read(train, index), _counts(train_weight, index) * represented),
                (_read(rows, held_out), _counts(weight, held_out)),
                _read(X_val, slice(None)) if given else None,
            )
        ),
        strict=True,
    )
    tables, counts = zip(*samples, *outs, strict=True)
    table, counts = np.concatenate(tables), np.concatenate(counts)
    n_out = sum(len(held) for held, _ in outs)
    plan = prepare(
        settings,
        source_of(table),
        None if np.ptp(counts) == 0 else counts,
        source_of(np.concatenate(X_vals)) if given else None,
        random_state=random_state,
        scaling=(scaling, mean),
        n_components=axes.n_components,
        axes=axes,
    )
    if train_weight is not None:
        total = workers.sums(train_weight.sum())[0]
        train_weight = torch.from_numpy(train_weight * (sum(sizes) / total)).float()
    own = Rows(scaled_rows(train, scaling), train_weight).to(plan.device)
    return replace(
        plan,
        validation=np.arange(len(table))[-n_out:] if n_out else None,
        batch_size=batch_rows(settings.batch_size, n_all),
        share=Share(workers, own, sizes),
    )


def _part(n_rows, sizes, rank):
    """Return the part of a number of rows that one process has, by its size."""
    ends = np.cumsum([0, *sizes])
    ends = ends * n_rows // max(ends[-1], 1)
    return int(ends[rank + 1] - ends[rank])


def _read(rows, index):
    return rows.take(index).numpy()


def _counts(weight, index):
    return np.ones(len(index)) if weight is None else weight[index]


def _statistics(workers, settings, rows, weight, n_all):
    """Return scaling, mean and principal axes of the rows of all processes."""
    own = Moments(products)
    low, high = (np.full(rows.shape[1], bound) for bound in (np.inf, -np.inf))
    with np.errstate(over="ignore", invalid="ignore"):
        for chunk, x in rows.chunks():
            x = x.double().numpy()
            low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
            own.add(x, None if weight is None else weight[chunk])
        merged = _merged(workers, own)
        lows, highs = zip(*workers.of_all((low, high)), strict=True)
        bounds = np.min(lows, axis=0), np.max(highs, axis=0)
        mean, covariance = merged.mean, merged.second
        statistics = mean, np.diag(covariance), *bounds
    scaling, mean = scaling_of(
        settings.scaling,
        statistics,
        n_all,
        lambda: _quartiles(workers, rows, weight),
        marks_changes=settings.marks_changes,
    )
    if all(workers.of_all(rows.dtype.itemsize == 4 or not len(rows))):
        scaling.scale.clamp_(min=float(np.finfo(np.float32).smallest_subnormal))
    scale, center = scaling.scale.numpy(), scaling.center.numpy()
    axes = PrincipalAxes.of_moments(
        (merged.mean - center) / scale,
        covariance / np.outer(scale, scale),
        n_all,
        settings.n_components,
    )
    return scaling, mean, axes


def _merged(workers, own):
    """Return the moments of all processes, of which each has its own."""
    total, origin, offset, scatter = own.parts()
    merged = Moments(products)
    for others in workers.of_all((total, origin, offset)):
        merged.merge(Moments.of_parts((*others, 0.0), products))
    # So far that of the means. The other part, which is large, is summed on the way.
    total, origin, offset, between = merged.parts()
    within = np.zeros((len(origin), len(origin))) if scatter is None else scatter
    workers.add(torch.from_numpy(within))
    return Moments.of_parts((total, origin, offset, between + within), products)


def _quartiles(workers, rows, weight):
    """Return median and interquartile range of a sample; see `scaling_of`."""
    counts = workers.of_all(len(rows) if weight is None else weight.sum())
    n_rows = _part(_MOST, counts, workers.rank)
    drawn = workers.of_all(_read(rows, subsample(len(rows), n_rows, weight)))
    return quartiles_of(np.concatenate(drawn).astype(np.float64))
