"""Fitted models with their scorers: one score per row, and its parts."""

from dataclasses import dataclass

import numpy as np
import torch

from .._compat.torch import InferenceMode
from .._data.arrays import as_double
from .._data.subsample import subsample
from .._model.inference import RowModule
from .._model.model import Model
from .._training.fit import train
from .._training.plan import FEW_ROWS
from .._training.together import together
from ..anomaly_scores import View
from ..anomaly_scores._base import deviation, residual_spread
from ._absence import fit_absence

__all__ = ["Ensemble", "FittedEnsemble", "Member", "fit_ensemble"]

# Rows that a scorer may learn from: of the training rows and of the validation rows.
_MAX_ROWS = 8192
# Scaled value from which an entry is no measurement but, for example, a fill value.
_NO_VALUE = 1e12
# Where a sparse table is wide: entries of these rows, and how many there are anyway.
_MAX_ENTRIES = 2**24
_MIN_ROWS = 512
# Entries of stored rows that an explanation gets.
_MAX_SHOWN = 2**20


class Member(RowModule):
    """A model with the scorer that reads its output.

    Parameters
    ----------
    model : Model
    scorer : Scorer
        In double precision.
    scale : float
        Divides the scores.
    spread : ndarray of shape (n_features,)
        RMS of the residual on validation rows, scaled.
    absence : Absence
        What missing entries count. None: they do not.
    """

    def __init__(self, model, scorer, scale, spread, absence):
        super().__init__()
        self.model = model
        self.scorer = scorer
        self.scale = scale
        self.spread = spread
        self.absence = absence
        self.width = model.width

    @property
    def device(self):
        """Where the model is; the scorer is on the CPU until it is copied."""
        return self.model.device

    def in_precision(self, dtype, device=None):
        """Return a copy with model and scorer in one dtype; see `RowModule`."""
        if dtype == torch.float32:
            # Not this one, whose scorer is in double precision.
            return self.copy_in(dtype, self.device if device is None else device)
        return super().in_precision(dtype, device)

    def forward(self, x):
        """Return the score of rows."""
        return self.score_rows(self.model.view(x), x)

    def score_rows(self, view, x):
        """Return the score of rows, of which the output of the model is known."""
        score = self.score_view(view)
        return score if self.absence is None else self.absence(score, x)

    def score_view(self, view):
        """Return the score of the model's output for rows.

        It is infinite where the network or the scorer leaves the range of numbers.
        """
        score = self.scorer(view) / self.scale
        return torch.where(score.isnan(), torch.inf, score)

    def explain(self, x):
        """Return the contributions to the score, and the expected rows.

        Returns
        -------
        parts : Tensor of shape (n_samples, n_features + 1)
            Of each feature, then of the code.
        expected : Tensor of shape (n_samples, n_features)
            The reconstruction.
        """
        view = self.model.view(x)
        by_feature, by_code = self.scorer.contributions(view)
        parts = torch.cat([by_feature, by_code[:, None]], dim=1) / self.scale
        score = self.score_view(view)
        least = score if self.absence is None else self.absence(score, x)
        if least is not score:
            added = self.absence.contributions(least - score, x)
            parts[:, :-1] = parts[:, :-1] + added.to(parts.dtype)
        parts = _of_fill_values(parts, view.x)
        expected = self.model.loss.inverse_link(view.raw)
        return parts, self.model.scaling.inverse(expected)


def _of_fill_values(parts, x):
    """Return contributions to the score, those of fill values by their squares.

    The networks carry such an entry to all columns, whose residuals are then as large:
    they would name any of them.
    """
    far = x.abs()
    largest = far.amax(dim=1, keepdim=True)
    rows = (largest > _NO_VALUE).squeeze(1)
    if not rows.any():
        return parts
    squares = (far[rows] / largest[rows]).square().to(parts.dtype)
    limit = torch.finfo(parts.dtype).max ** 0.9  # sums of it are finite, too
    total = parts[rows].sum(dim=1, keepdim=True).nan_to_num(limit, limit)
    parts = parts.clone()
    parts[rows, :-1] = total * squares / squares.sum(dim=1, keepdim=True)
    parts[rows, -1] = 0.0
    return parts


class Ensemble:
    """Members whose scores are averaged, each in units of its own spread.

    Parameters
    ----------
    members : list of Member
    """

    def __init__(self, members):
        self.members = members

    def score(self, X):
        """Return how abnormal rows are, float64 of shape (n_samples,)."""
        scores = (as_double(m.map(Member.forward, X)) for m in self.members)
        return sum(scores) / len(self.members)

    def explain(self, X):
        """Return contributions to the score and expected rows; see `Member.explain`."""
        parts, expected = zip(
            *(member.map(Member.explain, X) for member in self.members), strict=True
        )
        n = len(self.members)
        return sum(p.astype(np.float64) for p in parts) / n, sum(expected) / n

    @property
    def normal_rows(self):
        """Rows that the score has stored, in the units of the training data, or None.

        An ndarray of shape (n_stored, n_features).
        """
        first = self.members[0]
        rows = first.scorer.stored_rows
        if rows is None:
            return None
        kept = subsample(len(rows), max(1, _MAX_SHOWN // rows.shape[1]))
        scaling = first.model.scaling
        rows = scaling.inverse(rows[kept].to(scaling.center))
        return as_double(rows.cpu().numpy())

    @property
    def residual_spread(self):
        """RMS of the residual of each feature, in the units of the training data."""
        scale = self.members[0].model.scaling.scale.cpu().numpy()
        return scale * np.mean([member.spread for member in self.members], axis=0)


@dataclass(frozen=True)
class FittedEnsemble:
    """An ensemble, and what is known of its training rows without another pass.

    Attributes
    ----------
    ensemble : Ensemble
    row_scores : ndarray of shape (n_samples,) or None
        Scores of all training rows, if there are few enough.
    validation_scores : ndarray of shape (n_validation,) or None
        Scores of all validation rows, if there are any and few enough.
    unchanged : bool
        Whether all networks kept their initial weights.
    """

    ensemble: Ensemble
    row_scores: np.ndarray | None
    validation_scores: np.ndarray | None
    unchanged: bool


def fit_ensemble(
    fit,
    score,
    n_estimators=1,
    sizes="same",
    previous=(),
    progress=None,
    attributes=None,
):
    """Train the further members of an ensemble, and fit the scorers.

    A generator, as a part of a fit; see `train`.

    Parameters
    ----------
    fit : Fit
        Of the first member.
    score : AnomalyScore
    n_estimators : int
        Number of members.
    sizes : {"same", "smaller"}
        Whether further members have as many components, or from as many down to half.
    previous : sequence of Member
        Of an ensemble that the members continue from.
    progress, attributes
        As `train` takes them.

    Returns
    -------
    FittedEnsemble
    """
    k = fit.axes.n_components
    last = k if sizes == "same" else -(-k // 2)
    further = []
    for i, size in enumerate(np.linspace(k, last, n_estimators).round()[1:], 1):
        before = None
        if i < len(previous):
            before = previous[i].model
            size = len(before.coordinates)
        further.append(train(fit.plan, int(size), before, progress, attributes))
    fits = [fit, *(yield from together(further))]
    # One score needs no unit: it is what its documentation says.
    fitted = [_fit_member(each, score, unit=n_estimators > 1) for each in fits]
    members, of_rows, of_validation = zip(*fitted, strict=True)
    return FittedEnsemble(
        ensemble=Ensemble(list(members)),
        row_scores=_mean(of_rows),
        validation_scores=_mean(of_validation),
        unchanged=all(each.net.best_epoch_ == 0 for each in fits),
    )


def _mean(scores):
    return None if scores[0] is None else sum(scores) / len(scores)


def _fit_member(fit, score, unit):
    """Fit a scorer to the rows of a fit.

    Returns
    -------
    member : Member
    row_scores, validation_scores : ndarray or None
        As `FittedEnsemble` has them.
    """
    model, plan = fit.model, fit.plan
    rows, sample = _views(model, plan.rows, plan.weight)
    validation = held_out = None
    others, weight = plan.validation_rows()
    if plan.validation is not None and rows is not None:
        # They are some of the training rows, which have passed already.
        validation = _pick(rows, plan.validation)
        held_out = _sampled(validation, weight)
    elif others is not None:
        validation, held_out = _views(model, others, weight)
    if held_out is None or (plan.X_val is None and len(plan.rows) < FEW_ROWS):
        # A few dozen rows are no measure of a spread; and all parts that few rows are
        # split into must have the same one.
        held_out = sample
    sample, held_out = (View(*(t.double() for t in v)) for v in (sample, held_out))
    scorer = score.build(plan.parts.loss)
    scorer.start(sample, held_out)
    scores = scorer(held_out)
    scale = float(deviation(scores))
    scale = scale if scale > 0 and unit else 1.0
    has_missing = plan.settings.has_missing
    absence = fit_absence(
        plan.rows, plan.weight, scores / scale, has_missing, plan.settings.blocks
    )
    usual = residual_spread(sample, held_out, plan.settings.blocks).numpy()
    member = Member(model, scorer, scale, usual, absence)
    in_precision = member.in_precision(plan.rows.dtype, torch.device("cpu"))
    with InferenceMode(True):
        scores = (
            None
            if view is None
            else in_precision.score_rows(view, x.take(slice(None))).double().numpy()
            for view, x in ((rows, plan.rows), (validation, others))
        )
        return member, *scores


def _views(model, rows, weight):
    """Return the output of a model for rows, and for a sample of them.

    Returns
    -------
    view : View or None
        Of all rows; None where there are too many.
    sample : View
        Each row about as often as its weight says.
    """
    n_rows, most = len(rows), _MAX_ROWS
    if rows.stored() is not None:
        most = min(most, max(_MIN_ROWS, _MAX_ENTRIES // rows.shape[1]))
    if n_rows > most:
        return None, _view(model, rows.subset(subsample(n_rows, most, weight)))
    view = _view(model, rows)
    return view, _sampled(view, weight)


def _view(model, rows):
    return View(*map(torch.from_numpy, model.map(Model.view, rows)))


def _sampled(view, weight):
    if weight is None:
        return view
    return _pick(view, subsample(len(view.x), _MAX_ROWS, weight))


def _pick(view, index):
    return View(*(tensor[index] for tensor in view))
