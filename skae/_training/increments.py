"""What `partial_fit` knows of the rows that it has seen, and a pass over further ones.

While all rows that were seen are kept, the model is young: scaling, principal axes and
the size of the code are those of all of them, and training begins anew, at PCA. Then
they stay, and training goes on with each call.
"""

from copy import deepcopy
from dataclasses import replace
from time import perf_counter

import numpy as np

from .._data.holdout import Holdout
from .._data.moments import Moments, products
from .._data.principal_axes import PrincipalAxes
from .._data.reservoir import Reservoir
from .._data.scaling import quartiles_of, scaling_of
from .._data.source import scaled_rows, source_of
from .batches import Rows
from .final_pass import final_pass
from .fit import Fit
from .initial import load_state, make_net
from .plan import batch_rows, draw_seeds, prepare
from .selection import is_clear_gain

__all__ = ["MOST_COLUMNS", "Increments", "advance", "summary"]

# Columns up to which all covariances are kept.
MOST_COLUMNS = 4096
# Rows that are kept, at most, numbers in them, and how many rows in any case.
_MOST, _MAX_ENTRIES, _LEAST = 4096, 2**22, 512
# Rows before the first that is held out; and held-out rows from which networks are
# judged, as by `fit`.
_FIRST, _JUDGED = 20, 20
# Steps after which the running average has its full length.
_MANY_STEPS = 10**4
# Rows that must come before a model that `fit` has fitted is changed.
_COLLECTED = 1000


class Increments:
    """The rows that `partial_fit` has seen, as far as they are remembered.

    Parameters
    ----------
    seed : int
    width : int
        Number of columns.

    Attributes
    ----------
    n_calls, n_seen : int
        Calls, and rows in them.
    moments : tuple
        Of all rows but those held back for calibration; see `Moments.parts`.
    low, high : ndarray of shape (n_columns,)
        Their smallest and largest values.
    kept, held_out, calibration : Reservoir
        Rows that were trained on, that networks are judged by, and that nothing is
        learnt from.
    waiting : ndarray of shape (n_rows, n_columns) or None
        Rows that are still to be trained on: less than a batch.
    settled : bool
        Whether scaling and size of the code stay.
    scaling : AffineMap or None
    n_components : int or None
    training : dict or None
        State of the training; see `Net.train_pass`.
    is_trained : bool
        Whether the model is the trained network, and not PCA.
    least : int
        Rows to train on that must have come before the model changes.
    losses : list of tuple of (float, float, float)
        Training loss, validation loss and seconds of each pass.
    """

    def __init__(self, seed, width):
        most = int(max(_LEAST, min(_MOST, _MAX_ENTRIES // width)))
        self.seed = seed
        self.n_calls = self.n_seen = self.least = 0
        self.moments = self.low = self.high = self.waiting = None
        self.kept, self.held_out, self.calibration = (Reservoir(most) for _ in range(3))
        self.settled = self.is_trained = False
        self.scaling = self.n_components = self.training = None
        self.losses = []

    @classmethod
    def after(cls, model, seen, seed):
        """Return what is known after `fit`.

        Parameters
        ----------
        model : Model
        seen : tuple
            What `summary` has returned.
        seed : int
        """
        n_seen, mean, axes, variances, variance, low, high = seen
        scaling = deepcopy(model.scaling).cpu()
        made = cls(seed, len(mean))
        explained = (axes.T * variances) @ axes
        rest = np.maximum(variance - np.diag(explained), 0.0)
        scale, center = scaling.scale.numpy(), scaling.center.numpy()
        covariance = (explained + np.diag(rest)) * np.outer(scale, scale)
        moments = Moments.of(float(n_seen), mean * scale + center, covariance, products)
        made.n_seen, made.moments = n_seen, moments.parts()
        made.low, made.high = low, high
        made.scaling, made.n_components = scaling, len(model.coordinates)
        made.settled = made.is_trained = True
        made.least = _COLLECTED
        module = model.autoencoder.state_dict()
        made.training = {
            "module": {name: t.detach().clone() for name, t in module.items()},
            # What is fitted is an average of many steps already.
            "average": None,
            "n_steps": _MANY_STEPS,
            "of": "",
            "optimizer": [],
        }
        return made

    def _moments(self):
        if self.moments is None:
            return Moments(products)
        return Moments.of_parts(self.moments, products)

    def add(self, rows, shares, random_state, half_life):
        """Take rows into account; return those to train on.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)
        shares : tuple of (float, float)
            Of rows that are held out, and held back for calibration.
        random_state : RandomState
        half_life : float or None
            In rows.
        """
        drawn = random_state.uniform(size=len(rows))
        drawn[: max(0, _FIRST - self.n_seen)] = 1.0
        out, back = shares
        held_back = drawn < back
        held_out = ~held_back & (drawn < back + out)
        self.calibration.add(rows[held_back], random_state, half_life)
        self.held_out.add(rows[held_out], random_state, half_life)
        train = rows[~held_back & ~held_out]
        self.kept.add(train, random_state, half_life)
        self.n_seen += len(rows)
        rows = rows[~held_back].astype(np.float64)
        if len(rows):
            moments = self._moments()
            if half_life is not None:
                moments.fade(0.5 ** (len(rows) / half_life))
            moments.add(rows)
            self.moments = moments.parts()
            low, high = rows.min(axis=0), rows.max(axis=0)
            self.low = low if self.low is None else np.minimum(low, self.low)
            self.high = high if self.high is None else np.maximum(high, self.high)
        return train

    def attributes(self, starts_at_pca):
        """Return the fitted attributes that are counted by calls.

        Parameters
        ----------
        starts_at_pca : bool
            Whether the network before the first step is PCA.
        """
        train, valid, seconds = np.reshape(self.losses, (-1, 3)).T
        kept = "weights of the last call"
        if not self.is_trained:
            kept = "PCA of all rows" if starts_at_pca else "initial weights"
        history = {"train_loss": train, "valid_loss": valid, "seconds": seconds}
        if np.isnan(valid).all():
            del history["valid_loss"]
        return {
            "history_": history,
            "n_iter_": len(self.losses),
            "kept_weights_": kept,
        }

    def scaled_moments(self, settings):
        """Return scaling, mean, and the principal axes of all rows."""
        moments = self._moments()
        mean, covariance = moments.mean, moments.second
        scaling = self.scaling
        if not self.settled:
            scaling, _ = scaling_of(
                settings.scaling,
                (mean, np.diag(covariance), self.low, self.high),
                self.n_seen,
                lambda: quartiles_of(self.kept.rows.astype(np.float64)),
                marks_changes=settings.marks_changes,
            )
        scale, center = scaling.scale.numpy(), scaling.center.numpy()
        axes = PrincipalAxes.of_moments(
            (mean - center) / scale,
            covariance / np.outer(scale, scale),
            self.n_seen,
            self.n_components if self.settled else settings.n_components,
        )
        return scaling, mean, axes


def advance(before, settings, rows, calibration_fraction=0.0, half_life=None):
    """Train on further rows, in one pass.

    Parameters
    ----------
    before : Increments
        It is left as it is.
    settings : Settings
    rows : ndarray of shape (n_rows, n_columns)
    calibration_fraction : float, default=0.0
    half_life : float, default=None
        Number of rows after which the weight of earlier rows in all statistics is a
        half.

    Returns
    -------
    seen : Increments
    fit : Fit or None
        None where the model has not changed.
    """
    begin = perf_counter()
    seen = deepcopy(before)
    random_state = np.random.RandomState([seen.seed, seen.n_calls])
    seen.n_calls += 1
    # While all rows are kept, training begins anew with all of them.
    earlier = seen.waiting if seen.settled else seen.kept.rows
    out = settings.validation_fraction if settings.early_stopping else 0.0
    shares = out, calibration_fraction
    train = seen.add(rows, shares, random_state, half_life)
    if earlier is not None:
        train = np.concatenate([earlier, train.astype(earlier.dtype)])
    if seen.kept.n_added < seen.least:
        seen.waiting = train
        return seen, None
    seen.least = 0
    plan, axes = _plan(seen, settings, random_state)
    seeds = plan.seeds[0], plan.seeds[1] + seen.n_calls
    start, net = (make_net(plan, axes, seeds) for _ in range(2))
    state = seen.training if seen.settled else None
    loss = _pass(seen, net, plan, train, state)
    _judge(seen, net, start, plan, loss)
    if loss is not None:
        valid = net.best_loss_ if np.isfinite(net.best_loss_) else np.nan
        seen.losses.append((loss, valid, perf_counter() - begin))
    if not seen.settled:
        seen.scaling, seen.n_components = plan.scaling, axes.n_components
        seen.settled = not seen.kept.has_all
    if not seen.is_trained:
        net = net.with_module(start.module_.eval())
    model, final = final_pass(plan, net.module_, axes.n_components)
    at_pca = plan.parts.has_pca_start and net.starts_fitted
    return seen, Fit(plan, axes, net, model, final, at_pca, net.module_)


def _plan(seen, settings, random_state):
    """Return a plan of the rows that are kept, with the statistics of all."""
    scaling, mean, axes = seen.scaled_moments(settings)
    judged = len(seen.held_out) >= _JUDGED
    plan = prepare(
        settings,
        source_of(seen.kept.rows),
        X_val=source_of(seen.held_out.rows) if judged else None,
        holdout=Holdout(),
        random_state=random_state,
        scaling=(scaling, mean),
        n_components=axes.n_components,
        axes=axes,
    )
    return replace(
        plan,
        validation=None,
        batch_size=batch_rows(settings.batch_size, seen.n_seen),
        seeds=draw_seeds(np.random.RandomState(seen.seed)),
    ), axes


def _pass(seen, net, plan, train, state):
    """Train a net; return the loss, or None where there is less than a batch."""
    few = len(train) < (plan.batch_size if seen.settled else 1)
    seen.waiting = train if few else None
    rows = None if few else _rows(plan, train)
    if state is not None:
        load_state(net.module_, state["module"], "partial_fit", "call fit")
    loss, state = net.train_pass(rows, _rows(plan, seen.kept.rows), state)
    if loss is None or np.isfinite(loss):
        seen.training = state
    return loss


def _rows(plan, rows):
    return Rows(scaled_rows(source_of(rows), plan.scaling)).to(plan.device)


def _judge(seen, net, start, plan, loss):
    """Decide whether the model is the network or PCA of all rows that were seen."""
    net.diverged_ = loss is not None and not np.isfinite(loss)
    net.divergences_, net.stop_reason_, net.trial_ = [], "max_epochs", None
    net.unfinished_ = False
    net.initial_loss_ = net.best_loss_ = np.inf
    validation = plan.data().validation
    if net.diverged_:
        seen.is_trained = False
    elif not start.starts_fitted or not plan.settings.early_stopping:
        seen.is_trained = True
    elif validation is not None:
        of_pca, of_net = start.evaluate(validation), net.evaluate(validation)
        gains = of_pca - of_net
        seen.is_trained = bool(np.isfinite(of_net).all() and is_clear_gain(gains))
        net.initial_loss_ = float(of_pca.mean())
        net.best_loss_ = float((of_net if seen.is_trained else of_pca).mean())
    net.best_epoch_ = len(seen.losses) + (loss is not None) if seen.is_trained else 0


def summary(fit):
    """Return what a model that was fitted by `fit` has to remember of its rows.

    Returns
    -------
    tuple or None
        None where `partial_fit` could not go on: with missing entries, categories,
        pairs, or very many columns.
    """
    plan, axes = fit.plan, fit.axes
    width = plan.rows.shape[1]
    plain = plan.known is None and not plan.has_pairs and plan.settings.blocks is None
    if not plain or width > MOST_COLUMNS:
        return None
    leading, variances = axes.whole() or axes.leading(axes.n_components)
    low, high = (
        bound.cpu().numpy()
        for bound in (fit.plan.completion.low, fit.plan.completion.high)
    )
    scale, center = plan.scaling.scale.numpy(), plan.scaling.center.numpy()
    return (
        plan.n_rows,
        axes.mean,
        leading.copy(),
        variances.copy(),
        axes.variance,
        low * scale + center,
        high * scale + center,
    )
