"""What notebooks show of a fitted estimator: how good it is, and how training went."""

import inspect
import re
from html import escape

import numpy as np

__all__ = ["caption", "fit_card", "with_tooltips"]

# Size of the curve and of the margin around it, in pixels.
_WIDTH, _HEIGHT, _MARGIN = 260, 90, 16
_MODEL, _BASELINE, _START = "#d1495b", "#8a8f98", "#30638e"
# More points than pixels cannot be seen.
_MAX_POINTS = 260


def caption(model):
    """Return the line below the name in a diagram; None if the model is not fitted."""
    if not hasattr(model, "kept_weights_"):
        return None
    return f"{model.kept_weights_}; {_scores(model)}"


def with_tooltips(page, estimator):
    """Return a diagram in which the names of parameters have tooltips.

    scikit-learn has them for its own estimators, as part of links to their pages on its
    site. Here they are the type and the first paragraph of the docstring.
    """
    docs = inspect.getdoc(type(estimator)) or ""
    texts = {
        name: f"{kind}\n\n{inspect.cleandoc(text)}"
        for name, kind, text in re.findall(
            r"^(\w+) : (.+)\n((?:    .+\n)+)", docs, flags=re.MULTILINE
        )
    }

    def add(cell):
        name = cell["name"]
        if name not in texts:
            return cell[0]
        return f'<td class="param" title="{escape(texts[name])}">{cell["rest"]}'

    return re.sub(r'<td class="param">(?P<rest>(?P<name>\w+)\b)', add, page)


def fit_card(model):
    """Return the HTML of a card about a fit; an empty string if there was none."""
    if not hasattr(model, "kept_weights_"):
        return ""
    facts = model.diagnostics_
    lines = [
        f"<b>{escape(_scores(model))}</b> on the training rows",
        f"Kept {escape(model.kept_weights_)}{_meaning(model)}",
        f"{model.n_components_} components, {facts['n_held_out']} validation rows",
    ]
    if hasattr(model, "offset_"):
        lines.append(f"Outliers have a score below {model.offset_:.4g}")
    if facts.get("hint") is not None:
        lines.append(f"Hint: {escape(facts['hint'])}")
    texts = "".join(f"<div>{line}</div>" for line in lines)
    texts += "".join(
        f'<div style="color:#9a5b00">Warning: {escape(text)}</div>'
        for text in facts.get("warnings", [])
    )
    return (
        '<div class="skae-card" style="display:flex;flex-wrap:wrap;gap:1.5em;'
        'align-items:center;font-size:0.9em;margin:0.5em 0;max-width:60em">'
        f'<div style="flex:1 1 22em">{texts}</div>{_curve(model)}</div>'
    )


def _scores(model):
    facts = model.diagnostics_
    return f"R² {facts['r2']:.3f}, PCA {facts['pca_r2']:.3f}"


def _meaning(model):
    is_pca = model.best_epoch_ == 0 and model.diagnostics_["starts_at_pca"]
    return ", so that the model is PCA" if is_pca else ""


def _curve(model):
    """Return a drawing of the losses of the epochs, without scripts or files."""
    history, facts = model.history_, model.diagnostics_
    curves = {
        "training": (np.asarray(history.get("train_loss", []), dtype=float), _BASELINE),
        "validation": (np.asarray(history.get("valid_loss", []), dtype=float), _MODEL),
    }
    start = facts["initial_loss"]
    drawn = {name: c for name, c in curves.items() if np.isfinite(c[0]).any()}
    if not drawn:
        return ""
    values = np.concatenate([losses for losses, _ in drawn.values()] + [[start]])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    n_epochs = max(len(losses) for losses, _ in drawn.values())

    def x(epoch):
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * epoch / max(n_epochs, 1)

    def y(loss):
        share = (loss - low) / (high - low) if high > low else 0.5
        return _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * share

    parts = []
    if np.isfinite(start):
        name = "start: PCA" if facts["starts_at_pca"] else "start"
        parts.append(
            f'<line x1="{x(0):.1f}" x2="{x(n_epochs):.1f}" y1="{y(start):.1f}" '
            f'y2="{y(start):.1f}" stroke="{_START}" stroke-dasharray="4 3">'
            f"<title>{name}: {start:.4g}</title></line>"
        )
    for name, (losses, colour) in drawn.items():
        epochs = np.flatnonzero(np.isfinite(losses))
        epochs = epochs[:: -(-len(epochs) // _MAX_POINTS)]
        points = " ".join(f"{x(k + 1):.1f},{y(losses[k]):.1f}" for k in epochs)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            f'stroke-width="1.5"><title>{name} loss</title></polyline>'
        )
    losses = curves["validation"][0]
    best = model.best_epoch_
    if 0 < best <= len(losses) and np.isfinite(losses[best - 1]):
        parts.append(
            f'<circle cx="{x(best):.1f}" cy="{y(losses[best - 1]):.1f}" r="3" '
            f'fill="currentColor"><title>kept: epoch {best}</title></circle>'
        )
    small = 'font-size="9" fill="currentColor"'
    legend = " ".join(
        f'<tspan fill="{colour}">{name}</tspan>' for name, (_, colour) in drawn.items()
    )
    parts += [
        f'<text x="{_WIDTH - _MARGIN}" y="10" {small} '
        f'text-anchor="end">{legend}</text>',
        f'<text x="{_MARGIN}" y="10" {small}>loss, {high:.3g} to {low:.3g}</text>',
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 3}" {small} '
        f'text-anchor="end">{n_epochs} epochs</text>',
    ]
    described = "Losses of the epochs: training grey, validation red, start dashed"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{described}">'
        f"{''.join(parts)}</svg>"
    )
