"""Codes whose decoded rows are nearest to given rows: Gauss-Newton steps."""

import torch

from .._compat.torch import is_traced

__all__ = ["check_projection", "projected"]

# Share of the diagonal that is added to the normal equations (Marquardt, 1963);
# compared with others in tests/benchmarks/bench_constants.py.
_DAMPING = 0.01
# Of a step that does not bring the decoded row nearer, this share is tried.
_SHORTER = 1 / 3
# Derivatives in one layer that are held at once, and the least number of rows, without
# which products of wide layers are slow.
_MAX_ENTRIES = 2**20
_LEAST_ROWS = 128


def projected(autoencoder, code, x, n_steps):
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
    n_steps : int
    """
    if is_traced():
        raise NotImplementedError(
            "With n_projection_steps > 0 an encoder computes derivatives of the "
            "decoder, which cannot be exported: pass n_projection_steps=0."
        )
    weights = (p.shape[0] for p in autoencoder.decoder.parameters())
    width = max(x.shape[1], *weights)
    n_rows = max(_LEAST_ROWS, _MAX_ENTRIES // (code.shape[1] * width))
    pieces = zip(code.split(n_rows), x.split(n_rows), strict=True)
    return torch.cat([_nearer(autoencoder.decode, *p, n_steps) for p in pieces])


def check_projection(autoencoder, n_components, n_features):
    """Check that the decoder has the derivatives that `projected` computes.

    Raises
    ------
    ValueError
        If torch cannot compute them.
    """
    like = next(autoencoder.parameters())
    code, x = like.new_zeros(2, n_components), like.new_ones(2, n_features)
    training = autoencoder.training
    try:
        with torch.no_grad():
            projected(autoencoder.eval(), code, x, n_steps=1)
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(
            "n_projection_steps > 0 needs a decoder of which torch.func.jvp computes "
            f"derivatives: pass n_projection_steps=0, or change it. {error}"
        ) from error
    finally:
        autoencoder.train(training)


def _nearer(decode, code, x, n_steps):
    # Rows that are far out are scaled down: their squares would be infinite.
    residual = x - decode(code)
    unit = residual.abs().amax(dim=1, keepdim=True).clamp_min(1)
    error = (residual / unit).square().sum(dim=1)
    for _ in range(n_steps):
        step = _gauss_newton(decode, code, residual)
        stays = torch.ones_like(error, dtype=torch.bool)
        for share in (1.0, _SHORTER):
            tried = code + share * step
            left = x - decode(tried)
            found = (left / unit).square().sum(dim=1)
            better = stays & (found < error)
            code = torch.where(better[:, None], tried, code)
            residual = torch.where(better[:, None], left, residual)
            error = torch.where(better, found, error)
            stays &= ~better
            if not stays.any():
                break
    return code


def _gauss_newton(decode, code, residual):
    """Return the step to the least-squares solution by the tangent of the decoder."""

    def derivative(direction):
        return torch.func.jvp(decode, (code,), (direction.expand_as(code),))[1]

    basis = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
    tangents = torch.func.vmap(derivative)(basis).transpose(0, 1)
    products = tangents @ tangents.mT
    diagonal = products.diagonal(dim1=1, dim2=2)
    largest = diagonal.amax(dim=1, keepdim=True)
    # Positive for components that the decoder does not use.
    least = torch.finfo(code.dtype).eps * largest + (largest == 0)
    damped = products + torch.diag_embed(_DAMPING * diagonal + least)
    factor, _ = torch.linalg.cholesky_ex(damped)
    return torch.cholesky_solve(tangents @ residual[..., None], factor)[..., 0]
