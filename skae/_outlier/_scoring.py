"""From fitted models to one score per row, and to what makes it up."""

from typing import NamedTuple

import numpy as np

from .._data.arrays import as_double
from .._data.subsample import subsample
from .._model.inference import Model
from .._training.fit import train
from ..anomaly_scores import Scorer
from ..anomaly_scores._base import deviation, spread

__all__ = ["N_PARTS", "Ensemble", "cross_fitted", "few_rows"]

# Rows that a scorer may learn from, of training and of held-out ones each.
_MAX_ROWS = 8192
# Rows that count as few, in all, and per component and column up to as many in all.
_FEW = 500
_MAX_CROSS_FITTED = 2000
_ROWS_PER_COMPONENT = 20
_ROWS_PER_COLUMN = 10
# Parts into which few rows are cut, each scored by a model of the others, but not
# fewer than this.
N_PARTS = 5
_MIN_CROSS_FITTED = 10


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
            before = None
            if i < len(previous):
                before = previous[i].model
                size = len(before.coordinates.center)
            fits.append(train(fit.training, int(size), before))
        members = [_member(fit, score) for fit in fits]
        if n_estimators == 1:
            # One score needs no unit: it is what its documentation says.
            members = [member._replace(scale=1.0) for member in members]
        return cls(members)

    def score(self, X):
        """Return how abnormal rows are, float64."""
        total = 0.0
        for model, scorer, scale, _ in self.members:
            total = total + as_double(model.score(X, scorer)) / scale
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


def few_rows(training):
    """Return whether training rows are better scored by models of each other.

    Either there are so few that those which judged the training say little, or so few
    for each component or column that principal axes fit the rows that they are learnt
    from much better than others. Rows that are given to judge by need no such help.
    """
    n, width = training.X.shape
    k = training.axes.n_components
    needed = max(_ROWS_PER_COMPONENT * k, _ROWS_PER_COLUMN * width)
    few = _MIN_CROSS_FITTED <= n < max(_FEW, min(needed, _MAX_CROSS_FITTED))
    return few and training.X_val is None


def cross_fitted(fit, ensemble, **how):
    """Return a score of every training row by an ensemble that has not seen it.

    Parameters
    ----------
    fit : Fit
        Of the first member of the ensemble of all rows.
    ensemble : Ensemble
        Of all rows.
    **how
        As `Ensemble.fit` takes it.
    """
    training = fit.training
    # Models that stayed at the start with all rows do with fewer, and cost nothing.
    nets = [member.model.net for member in ensemble.members]
    stay = all(net.best_epoch_ == 0 for net in nets)
    stay = stay and not training.settings.warm_start
    max_epochs = 0 if stay else training.max_epochs
    scores = np.empty(len(training.X))
    order = training.random_state.permutation(len(scores))
    for rows in np.array_split(order, N_PARTS):
        first = train(training.without(rows, max_epochs))
        scores[rows] = Ensemble.fit(first, **how).score(training.X[rows])
    return scores


def _member(fit, score):
    rows, weight = fit.judges()
    seen = _view(fit.model, fit.X, fit.weight)
    if len(rows) == 0 or (fit.training.X_val is None and len(fit.X) < _FEW):
        # A few dozen rows are no measure of a spread; and all parts that few rows are
        # cut into must have the same one.
        held_out = seen
    else:
        held_out = _view(fit.model, rows, weight)
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
