"""Remedies: what to change about a fit whose reconstruction is poor.

Advice that names what is already so does not help: each remedy is listed only where it
would change something.
"""

import numpy as np
import torch

from ..corruptions import Masking
from .outcome import Unchanged, why_unchanged

__all__ = [
    "OF_JUDGED",
    "OF_UNCHANGED",
    "cheaper_code",
    "generalize",
    "lower_error",
    "range_mismatch",
]

# By the reason for which initial weights were kept.
OF_UNCHANGED = {
    Unchanged.FEW_ROWS: (
        "Pass more rows (in a halving search: min_resources) or validation rows "
        "(X_val)."
    ),
    Unchanged.DIVERGED: "Lower lr.",
    Unchanged.LOW_RATE: "Raise lr.",
}
# The same, where trained networks were judged by validation rows and were not better.
OF_JUDGED = dict.fromkeys(
    (Unchanged.NO_GAIN, Unchanged.NO_CLEAR_GAIN),
    "Pass more rows, lower lr or try smaller networks; PCA may be all there is to "
    "learn.",
)

# Factors of normal codes that the decoder gets: with large ones a last layer that is
# bounded comes close to its bounds.
_PROBES = (1.0, 10.0, 1e2, 1e3, 1e4)
_N_PROBES = 64
# Distance to a bound, as a share of 1, that counts as none.
_AT = 1e-3
# Share of the entries of rows beyond the bounds of the decoder from which a warning
# says so.
_MAX_BEYOND = 0.05


def lower_error(fit):
    """Return what may help a model that is worse than PCA or the mean."""
    if not any(p.requires_grad for p in fit.net.module_.parameters()):
        return (
            "No network has weights to train: pass networks with layers that have, or "
            "architecture=None, which starts at PCA."
        )
    settings, parts = fit.plan.settings, fit.plan.parts
    too_low = why_unchanged(fit.net) is Unchanged.LOW_RATE
    remedies = ["raise lr" if too_low else "lower lr"]
    longer = {"max_epochs": "max_epochs", "no gain": "n_iter_no_change"}
    if fit.net.stop_reason_ in longer:
        remedies.insert(0, f"train longer ({longer[fit.net.stop_reason_]})")
    if not fit.starts_at_pca and parts.has_pca_start:
        remedies.append(_start(settings))
    if not settings.early_stopping:
        remedies.append("keep the best weights (early_stopping=True)")
    elif not fit.plan.n_validation:
        remedies.append("pass validation rows (X_val)")
    return _sentence([*remedies, *_weaken(parts)])


def generalize(fit):
    """Return what may help a model that is worse than PCA on new rows."""
    settings, parts = fit.plan.settings, fit.plan.parts
    remedies = _weaken(parts)
    if isinstance(parts.corruption, Masking):
        # What masked rows teach the encoder is too much for whole ones.
        remedies.append("replace Masking by Dropout, which keeps the sums of the input")
    if not settings.early_stopping:
        remedies.append("keep the best weights (early_stopping=True)")
    if not fit.starts_at_pca and parts.has_pca_start:
        remedies.append(_start(settings))
    return _sentence([*remedies, "lower n_components"])


def cheaper_code(fit):
    """Return what may help a code with constant components."""
    return _sentence(["lower n_components", *_weaken(fit.plan.parts)])


def range_mismatch(fit):
    """Return what to say of a decoder that cannot return values that rows have.

    Networks that the user builds may end in an activation, such as a sigmoid, whose
    values are not those of the scaled rows. The bounds are measured on codes far from
    those of rows, so that they are those of the last layer, however it was trained.

    Returns
    -------
    str or None
        None if the rows are within the bounds, up to a few entries.
    """
    decoder = fit.model.autoencoder.decoder
    if hasattr(decoder, "start"):
        return None  # it ends in a linear layer
    low, high = _bounds(fit)
    if low == -np.inf and high == np.inf:
        return None
    says = f"The decoder returns values in [{low:g}, {high:g}] only"
    linear = "let the decoder end in a linear layer"
    if _has_link(fit.model):
        return (
            f"{says}, but {fit.plan.parts.loss.name} takes any number and "
            f"applies an activation itself: {linear}."
        )
    settings, x = fit.plan.settings, fit.final.x
    beyond = np.mean((x < low - _AT) | (x > high + _AT))
    if beyond <= _MAX_BEYOND:
        return None
    rows = fit.plan.target.take(fit.final.sample)
    least, most = float(rows.min()), float(rows.max())
    remedies = [linear]
    if low <= least and most <= high and settings.scaling is not None:
        remedies.append("pass scaling=None")
    if low == -1 and high == 1 and settings.scaling != "minmax":
        remedies.append("pass scaling='minmax'")
    if least >= 0 and most <= 1:
        remedies[0] += " (with loss=Bernoulli(), which applies the sigmoid itself)"
    return (
        f"{says}, but {beyond:.0%} of the entries of the training rows, scaled by "
        f"scaling={settings.scaling!r} to [{x.min():.3g}, {x.max():.3g}], are outside. "
        f"{_sentence(remedies)}"
    )


def _start(settings):
    """Return how to start at PCA, where a fit did not."""
    architecture = settings.parts.architecture
    name, start = type(architecture).__name__, getattr(architecture, "start", None)
    if start == "random" or (start == "auto" and not architecture.linear_path):
        linear = "" if architecture.linear_path else "linear_path=True, "
        return f"start at PCA: {name}({linear}start='pca')"
    if start in ("auto", "mixed", "pca") and settings.warm_start:
        return "begin anew, at PCA: warm_start=False"
    return f"start at PCA, as architecture=None does and {name} does not"


def _weaken(parts):
    """Return how to lower the costs of the code that there are."""
    present = {
        "the corruption": parts.corruption is not None,
        "the penalty": parts.penalty is not None,
        f"the bottleneck ({parts.bottleneck!r})": parts.bottleneck.guards,
    }
    return [f"weaken {name}" for name, there in present.items() if there]


def _bounds(fit):
    """Return the bounds of the values that the decoder can return, or infinities."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(_N_PROBES, fit.axes.n_components, generator=generator)
    codes = torch.cat([factor * codes for factor in _PROBES])
    output = fit.model.map(_decoded, codes.numpy())
    if not np.isfinite(output).all():
        return -np.inf, np.inf
    least, most = output.min(axis=0), output.max(axis=0)
    low, high = -np.inf, np.inf
    # Values of a linear layer may be small, but are not all of one sign, and do not end
    # at one in most columns.
    if least.min() >= 0:
        low = 0.0
    elif least.min() >= -1 and np.median(least) <= -1 + _AT:
        low = -1.0
    if most.max() <= 1 and (low == 0 or np.median(most) >= 1 - _AT):
        high = 1.0
    return low, high


def _has_link(model):
    raw = torch.zeros(1, len(model.scaling))
    return model.autoencoder.link is not None or model.loss.inverse_link(raw) is not raw


def _decoded(model, code):
    return model.autoencoder.decoded(code)


def _sentence(remedies):
    *others, last = remedies
    text = f"{', '.join(others)} or {last}" if others else last
    return f"{text[0].upper()}{text[1:]}."
