"""The pass over the training rows after training: codes, coordinates, errors."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from .._data.affine import AffineMap
from .._data.moments import Moments, products, squares
from .._data.scaling import unit_of
from .._data.source import Dense
from .._data.subsample import subsample
from .._model.coordinates import N_PROBES, fit_coordinates
from .._model.model import Model
from .affine_pass import AffinePass, affine_maps

__all__ = ["FinalPass", "explained_variance_ratio", "final_pass", "pca_residual"]

# Limits of the rows that `explained_variance_ratio` decodes once for each component:
_MAX_PASSES = 40  # rows decoded in all, in passes over the table
_MAX_ENTRIES = 2**24  # numbers decoded in all
_MAX_HELD = 2**22  # numbers in the rows that are kept for it
_MIN_ROWS = 40  # so many are taken in any case
_FEW_ROWS = 16  # where it is known without, for `FinalPass.x`
# Copies of rows that it decodes at once: each call prepares the weights of the decoder.
_AT_ONCE = 512
# Reconstructions of missing entries before the last one, where none were missing in
# training. With more, they move towards what the network says of any row.
_PASSES = 2


@dataclass(frozen=True)
class FinalPass:
    """What one pass over the training rows found.

    Attributes
    ----------
    code : Dense
        Codes of the training rows, in the coordinates of the network; of rows that are
        read in chunks only those of the sample.
    mean : ndarray of shape (n_components,)
        Weighted mean of the codes of all training rows.
    variance : ndarray of shape (n_components,)
        Weighted variance of the code, in the coordinates of the model.
    error : ndarray of shape (n_features,)
        Weighted mean squared residual of each feature of the target, scaled; of the
        entries that are known.
    sample : ndarray of int of shape (n_sampled,)
        Indices of the rows that follow.
    x : ndarray of shape (n_sampled, n_features)
        Some of the rows of the target, scaled.
    missing : ndarray of bool of shape (n_sampled, n_features) or None
        Which of their entries were missing. None: none is in the table.
    gains : ndarray of shape (n_components,) or None
        What `explained_variance_ratio` returns, where it is known.
    """

    code: Dense
    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray
    sample: np.ndarray
    x: np.ndarray
    missing: np.ndarray | None = None
    gains: np.ndarray | None = None

    @property
    def sampled_code(self):
        """Codes of the rows of the sample, a Tensor."""
        sampled = len(self.code) == len(self.sample)
        return self.code.take(slice(None) if sampled else self.sample)


def final_pass(plan, autoencoder, k):
    """Pass the training rows through a trained network once.

    Parameters
    ----------
    plan : Plan
    autoencoder : Autoencoder
    k : int
        Width of the code.

    Returns
    -------
    model : Model
        The network with the scaling of the plan and the coordinates of its code.
    final : FinalPass
    """
    parts, weight = plan.parts, plan.weight
    n_samples, width = plan.rows.shape
    scaling = deepcopy(plan.scaling)
    completion = deepcopy(plan.completion)
    maps = affine_maps(autoencoder)
    # The code of PCA is the nearest one.
    n_steps = plan.settings.n_projection_steps if maps is None else 0
    raw = Model(
        scaling,
        autoencoder,
        AffineMap.identity(k),
        completion,
        n_projection_steps=n_steps,
    )
    raw = raw.to(plan.device)
    table = None if plan.has_pairs else plan.x.stored()
    if table is not None and maps is not None:
        return _affine_pass(plan, raw, AffinePass.of(table, weight, maps))
    mixes = parts.symmetry in ("rotation", "triangular")
    moments = Moments(products if mixes else squares)
    affordable = min(
        _MAX_PASSES * n_samples // k, _MAX_ENTRIES // (k * width), _MAX_HELD // width
    )
    sample = subsample(n_samples, max(_MIN_ROWS, affordable))
    code, error, kept, unknown = None, 0.0, [], []
    streamed = plan.rows.streamed
    for rows, (x, z, residual, missing) in raw.chunks(_outputs, plan.rows):
        if plan.has_pairs:
            target = plan.target.take(rows).to(x)
            missing, target = target.isnan(), raw.scaled(target)
            x, residual = target, residual + (target - x)
        if plan.known is not None:
            residual = residual.masked_fill(missing, 0.0)
        x, z, residual = (part.cpu().numpy() for part in (x, z, residual))
        counts = None if weight is None else weight[rows]
        moments.add(z, counts)
        error = error + sum_of_squares(residual, counts)
        first, last = np.searchsorted(sample, [rows.start, rows.start + len(x)])
        drawn = sample[first:last] - rows.start
        kept.append(x[drawn])
        if plan.known is not None:
            unknown.append(missing[drawn].cpu().numpy())
        if code is None:
            code = np.empty((len(sample) if streamed else n_samples, k), z.dtype)
        code[slice(first, last) if streamed else rows] = z[drawn] if streamed else z
    x = np.concatenate(kept)
    coordinates = fit_coordinates(
        parts.symmetry,
        lambda code: raw.map(_decoder, code),
        moments,
        code[subsample(len(code), N_PROBES)],
        unit_of(scaling),
    )
    sparse_output = parts.bottleneck.sparse_output
    coordinates = coordinates.to(raw.device)
    n_passes = 0 if plan.hides_entries else _PASSES
    model = Model(
        scaling,
        autoencoder,
        coordinates,
        raw.completion,
        n_passes=n_passes,
        sparse_output=sparse_output,
        n_projection_steps=n_steps,
    )
    final = FinalPass(
        code=Dense(code),
        mean=moments.mean,
        variance=_variance(moments, coordinates),
        error=error / plan.n_known,
        sample=sample,
        x=x,
        missing=None if plan.known is None else np.concatenate(unknown),
    )
    return model, final


def _affine_pass(plan, raw, found):
    """Return the model and the final pass of an affine model of sparse rows."""
    coordinates = found.coordinates(unit_of(raw.scaling)).to(raw.device)
    model = Model(
        raw.scaling, raw.autoencoder, coordinates, raw.completion, n_passes=_PASSES
    )
    sample = subsample(len(found.code), _FEW_ROWS)
    missing = None
    if plan.known is not None:
        missing = plan.target.take(sample).isnan().cpu().numpy()
    dtype = np.float32 if plan.rows.dtype.itemsize == 4 else np.float64
    final = FinalPass(
        code=Dense(found.code.astype(dtype)),
        mean=found.moments.mean,
        variance=_variance(found.moments, coordinates),
        error=found.error,
        sample=sample,
        x=plan.x.take(sample).cpu().numpy(),
        missing=missing,
        gains=found.gains(coordinates, np.square(raw.scaling.scale.cpu().numpy())),
    )
    return model, final


def _outputs(model, x):
    """Return scaled rows, their codes and residuals, and which entries are missing."""
    missing = x.isnan()
    x, code = model.coded(x)
    return x, code, x - model.decode_scaled(code), missing


def _decoder(model, code):
    return model.autoencoder.decoded(code)


def _variance(code, coordinates):
    """Return the variance of each component, in coordinates."""
    if coordinates.matrix is not None:
        matrix = coordinates.matrix.cpu().numpy()
        return np.einsum("ij,ik,kj->j", matrix, code.second, matrix, optimize=True)
    order, scale = coordinates.order, coordinates.scale.cpu().numpy()
    variance = code.second
    variance = np.diag(variance) if variance.ndim == 2 else variance
    return (variance if order is None else variance[order.cpu().numpy()]) / scale**2


def sum_of_squares(values, weight):
    """Return the weighted sum of squares of each column; ``values`` is overwritten."""
    if weight is not None:
        values *= np.sqrt(weight).astype(values.dtype)[:, np.newaxis]
    total = squares(values)
    if not 1e-30 < total.sum() < np.inf:
        # Single precision does not hold squares of what is very small or large.
        total = squares(values.astype(np.float64))
    return total


def pca_residual(plan, axes):
    """Return the mean squared residual of PCA, which the model is compared with.

    With pairs, it is the PCA of the target, applied to the rows.

    Parameters
    ----------
    plan : Plan
    axes : PrincipalAxes

    Returns
    -------
    ndarray of shape (n_features,)
        Scaled.
    """
    # Of a sample, the error of the same rows.
    if not plan.has_pairs and plan.known is None and plan.share is None:
        return axes.residual_variance
    encode, decode = axes.statistics(plan.x).pca()
    error = 0.0
    for rows, x in plan.rows.chunks():
        target = plan.target.take(rows) if plan.has_pairs else x
        missing = target.isnan()
        x, target = (
            plan.completion(plan.scaling(part.double())) for part in (x, target)
        )
        code = x @ encode.weight.T + encode.bias
        residual = target - (code @ decode.weight.T + decode.bias)
        if plan.known is not None:
            residual[missing] = 0.0
        weight = None if plan.weight is None else plan.weight[rows]
        error = error + sum_of_squares(residual.numpy(), weight)
    return error / plan.n_known


def explained_variance_ratio(plan, model, final):
    """Return the gain in R² from decoding ``k + 1`` instead of ``k`` components.

    Components that are left out are set to their mean, and the decoded rows are shifted
    so that their mean is that of the rows; no component at all is that mean. For a
    linear network the gains are those of PCA; for others they need not fall, nor be
    positive. Their sum is the R² of the model.

    If only a part of the rows is decoded, the gains are divided by the variance of the
    component among these, and multiplied by that among all, which is known: a ratio
    estimator, which is exact for a linear network. Nonlinear ones explain a little more
    or less of a few rows than of all: what their R² differs by from the sum is divided
    among the components, in proportion to the size of their gains. So is that of rows
    with missing entries, which have no part in R², and are decoded completed.

    Parameters
    ----------
    plan : Plan
    model : Model
    final : FinalPass

    Returns
    -------
    ndarray of shape (n_components,)
    """
    if final.gains is not None:
        return final.gains
    x = final.x
    weight = None if plan.weight is None else plan.weight[final.sample]
    units = np.square(model.units.cpu().numpy())
    code = final.sampled_code.to(model.device)
    code = model.coordinates(code).cpu().numpy()
    k = code.shape[1]
    total = plan.axes.variance @ units
    if total == 0:
        return np.zeros(k)
    is_part = len(x) < len(plan.rows) or plan.known is not None
    mean = np.average(code, axis=0, weights=weight).astype(code.dtype)
    left = [_spread(x, weight) @ units]
    # Few rows are decoded with several numbers of components at once.
    n_at_once = max(1, min(_AT_ONCE, _MAX_HELD // x.shape[1]) // len(x))
    for start in range(0, k, n_at_once):
        sizes = np.arange(start, min(start + n_at_once, k)) + 1
        is_kept = np.arange(k) < sizes[:, np.newaxis, np.newaxis]
        truncated = np.where(is_kept, code, mean).reshape(-1, k)
        decoded = model.map(_decode_scaled, truncated)
        for size, rows in zip(sizes, decoded.reshape(-1, *x.shape), strict=True):
            residual = x - rows
            if size < k or is_part:
                left.append(_spread(residual, weight) @ units)
            else:
                left.append(sum_of_squares(residual, weight) @ units)
    gains = -np.diff(left) / len(x)
    if is_part:
        variance = _spread(code, weight) / len(x)
        gains *= final.variance / np.where(variance > 0, variance, np.inf)
        rest = total - final.error @ units - gains.sum()
        share = np.abs(gains)
        gains += rest * share / max(share.sum(), np.finfo(float).tiny)
    return gains / total


def _spread(rows, weight):
    """Return the weighted sum of squared distances to the mean, column by column."""
    return sum_of_squares(rows - np.average(rows, axis=0, weights=weight), weight)


def _decode_scaled(model, code):
    return model.autoencoder.decode(model.coordinates.inverse(code))
