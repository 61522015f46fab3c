"""Codes whose decoded rows are nearest to given rows: Gauss-Newton steps."""

from functools import partial

import torch

from ..anomaly_scores._ranks import is_traced

__all__ = ["projected"]

# Share of the diagonal that is added to the normal equations (Marquardt, 1963);
# compared with others in tests/benchmarks/bench_constants.py.
_DAMPING = 0.01
# Of a step that does not bring the decoded row nearer, this share is tried.
_SHORTER = 1 / 3
# Derivatives that are held at once.
_MAX_ENTRIES = 2**21


def projected(autoencoder, code, x, known, n_steps):
    """Return codes whose decoded rows are nearer to rows than those of given codes.

    Each step solves the least-squares problem in which the decoder is replaced by its
    tangent (Gauss-Newton, damped as by Marquardt, 1963). A row for which a step, or a
    third of it, does not lower the squared error keeps its code: so no error is larger
    than that of the given code.

    Parameters
    ----------
    autoencoder : Autoencoder
    code : Tensor of shape (n_samples, n_components)
    x : Tensor of shape (n_samples, n_features)
        Scaled rows.
    known : Tensor of bool of shape (n_samples, n_features) or None
        Entries that count. None is all of them.
    n_steps : int
    """
    if is_traced():
        raise NotImplementedError(
            "With n_projection_steps > 0 an encoder computes derivatives of the "
            "decoder, which cannot be exported: pass n_projection_steps=0."
        )
    n_rows = max(1, _MAX_ENTRIES // (code.shape[1] * x.shape[1]))
    codes, rows = code.split(n_rows), x.split(n_rows)
    masks = [x.new_ones(1, x.shape[1])] * len(codes)
    if known is not None:
        masks = known.to(x).split(n_rows)
    affine = getattr(autoencoder.decoder, "affine", None)
    if affine is None or hasattr(autoencoder.bottleneck, "expand"):
        derivatives = partial(_derivatives, autoencoder.decode)
    else:
        # PCA, if the initial weights were kept: one matrix for all rows.
        derivatives = partial(_constant, affine.weight.T)
    pieces = zip(codes, rows, masks, strict=True)
    how = autoencoder.decode, derivatives, n_steps
    return torch.cat([_nearer(*piece, *how) for piece in pieces])


def _derivatives(decode, code):
    """Return those of decoded rows, of shape (n_samples, n_components, n_features)."""

    def derivative(direction):
        return torch.func.jvp(decode, (code,), (direction.expand_as(code),))[1]

    basis = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
    return torch.func.vmap(derivative)(basis).transpose(0, 1)


def _constant(weight, code):
    return weight[None]


def _nearer(code, x, mask, decode, derivatives, n_steps):
    residual = mask * (x - decode(code))
    error = residual.square().sum(dim=1)
    for _ in range(n_steps):
        step = _gauss_newton(derivatives(code) * mask[:, None], residual)
        stays = torch.ones_like(error, dtype=torch.bool)
        for share in (1.0, _SHORTER):
            tried = code + share * step
            left = mask * (x - decode(tried))
            found = left.square().sum(dim=1)
            better = stays & (found < error)
            code = torch.where(better[:, None], tried, code)
            residual = torch.where(better[:, None], left, residual)
            error = torch.where(better, found, error)
            stays &= ~better
            if not stays.any():
                break
    return code


def _gauss_newton(tangents, residual):
    """Return the step to the least-squares solution by the tangents of the decoder."""
    products = tangents @ tangents.mT
    diagonal = products.diagonal(dim1=1, dim2=2)
    largest = diagonal.amax(dim=1, keepdim=True)
    # Positive for components that the decoder does not use.
    least = torch.finfo(residual.dtype).eps * largest + (largest == 0)
    damped = products + torch.diag_embed(_DAMPING * diagonal + least)
    factor, _ = torch.linalg.cholesky_ex(damped)
    slope = tangents @ residual[..., None]
    return torch.cholesky_solve(slope, factor)[..., 0]
