"""From fitted models to one score per row, and to what makes it up."""

from typing import NamedTuple

import numpy as np

from .._fitting import train
from .._model import Model
from .._subsample import subsample
from ..anomaly_scores import Scorer
from ..anomaly_scores._base import deviation, spread

__all__ = ["Ensemble", "cross_fitted"]

# Rows that a scorer may learn from, of training and of held-out ones each.
_MAX_ROWS = 8192
# Parts into which few rows are cut, each scored by a model of the others.
_N_FOLDS = 5


class Member(NamedTuple):
    """A model with the scorer that reads it.

    Attributes
    ----------
    model : Model
    scorer : Scorer
    scale : float
        What its scores are divided by.
    spread : ndarray of shape (n_features,)
        Of the residual over held-out rows, scaled.
    """

    model: Model
    scorer: Scorer
    scale: float
    spread: np.ndarray


class Ensemble:
    """Models whose scores are averaged, each in units of its own spread.

    Parameters
    ----------
    members : list of Member
    """

    def __init__(self, members):
        self.members = members

    @classmethod
    def fit(cls, fit, score, n_estimators=1, sizes="same", previous=()):
        """Train what is missing, and let the scorers learn.

        Parameters
        ----------
        fit : Fit
            Of the first member.
        score : AnomalyScore
        n_estimators : int
            How many members there are.
        sizes : {"same", "smaller"}
            Whether further members have as many components, or from as many down to
            half of them.
        previous : sequence of Member
            Of an ensemble that the members continue from.
        """
        k = fit.axes.n_components
        last = k if sizes == "same" else -(-k // 2)
        fits = [fit]
        for i, size in enumerate(np.linspace(k, last, n_estimators).round()[1:], 1):
            before = previous[i].model if i < len(previous) else None
            fits.append(train(fit.training, int(size), before))
        members = [_member(fit, score) for fit in fits]
        if n_estimators == 1:
            # One score needs no unit: it is what its documentation says.
            members = [member._replace(scale=1.0) for member in members]
        return cls(members)

    def score(self, X):
        """Return how abnormal rows are, float64."""
        total = np.zeros(len(X))
        for model, scorer, scale, _ in self.members:
            total += model.score(X, scorer).astype(np.float64) / scale
        return total / len(self.members)

    def contributions(self, X):
        """Return what the features, and in a last column the code, add to the score."""
        total = 0.0
        for model, scorer, scale, _ in self.members:
            parts = model.contributions(X, scorer).astype(np.float64)
            total = total + parts / scale
        return total / len(self.members)

    def expected(self, X):
        """Return the mean reconstruction of rows, in the data's units."""
        members = self.members
        return sum(model.reconstruct(X) for model, *_ in members) / len(members)

    @property
    def residual_spread(self):
        """Usual size of a residual of each feature, in the data's units."""
        scale = self.members[0].model.scaling.scale
        return scale * np.mean([member.spread for member in self.members], axis=0)


def cross_fitted(fit, **how):
    """Return a score of every training row by an ensemble that has not seen it.

    Parameters
    ----------
    fit : Fit
        Of the first member of the ensemble of all rows.
    **how
        As `Ensemble.fit` takes it.
    """
    training = fit.training
    # As long as turned out to be right for all rows: a model that stayed at its start
    # costs next to nothing.
    max_epochs = fit.model.net.best_epoch_
    scores = np.empty(len(training.X))
    order = training.random_state.permutation(len(scores))
    for rows in np.array_split(order, _N_FOLDS):
        first = train(training.without(rows, max_epochs))
        scores[rows] = Ensemble.fit(first, **how).score(training.X[rows])
    return scores


def _member(fit, score):
    rows, weight = fit.judges()
    seen = _view(fit.model, fit.X, fit.weight)
    held_out = _view(fit.model, rows, weight) if len(rows) else seen
    scorer = score.build(fit.parts.loss)
    scorer.start(seen, held_out)
    scale = float(deviation(scorer(held_out)))
    return Member(
        fit.model,
        scorer,
        scale if scale > 0 else 1.0,
        spread(held_out.residual).numpy(),
    )


def _view(model, X, weight):
    return model.view(X[subsample(len(X), _MAX_ROWS, weight)])
