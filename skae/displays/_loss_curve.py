"""How the training went."""

import math

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._base import BaseAutoencoder
from ..bottlenecks import Plain
from ._plotting import (
    BASELINE,
    INK,
    MODEL,
    NORMAL,
    check_matplotlib_support,
    legend,
    merged,
    prepared_axes,
    tidy,
)

__all__ = ["LossCurveDisplay"]

# Largest loss over smallest from which a logarithmic axis shows more.
_LOG_FROM = 10


class LossCurveDisplay:
    """The objective of each epoch, on training rows and on those that judged them.

    The level of the start and the epoch whose weights were kept are marked. The loss of
    an epoch is the training objective, with corruption and penalty; that of the
    training rows is the mean while the weights change, that of the held-out rows comes
    after the epoch. The axis is logarithmic where all losses are positive and differ by
    a factor of ten or more.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    train_loss : array-like of shape (n_epochs,)
        Objective per training row.
    valid_loss : array-like of shape (n_epochs,), default=None
        Objective per held-out row. None if no rows judged the training.
    initial_loss : float, default=None
        That of the held-out rows before the first step. None if there is none.
    best_epoch : int, default=None
        Epoch whose weights were kept, counted from 1; 0 is the start.
    n_held_out : int, default=None
        How many rows judged the training, for the legend.
    start_name : str, default=None
        What the model is before the first step, for the legend. None if it has no name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : list of matplotlib Line2D
        Training, and held-out where there is one. Empty without an epoch.
    start_ : matplotlib Line2D or None
        The level of the start.
    best_ : matplotlib Line2D or None
        The mark of the epoch that was kept.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.displays import LossCurveDisplay
    >>> model = AutoencoderTransformer(8, random_state=0).fit(load_digits().data)
    >>> display = LossCurveDisplay.from_estimator(model)
    >>> display.start_.get_label()
    'start: PCA'
    """

    def __init__(
        self,
        *,
        train_loss,
        valid_loss=None,
        initial_loss=None,
        best_epoch=None,
        n_held_out=None,
        start_name=None,
    ):
        self.train_loss = train_loss
        self.valid_loss = valid_loss
        self.initial_loss = initial_loss
        self.best_epoch = best_epoch
        self.n_held_out = n_held_out
        self.start_name = start_name

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, line_kw=None):
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : estimator or Pipeline
            A fitted estimator of skae, or a pipeline with exactly one of them. Of a
            detector with several networks it is the first.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        line_kw : dict, default=None
            Keywords for ``Axes.plot``, for both curves.

        Returns
        -------
        display : LossCurveDisplay
            Has what was drawn.

        Raises
        ------
        TypeError
            If there is not exactly one estimator of skae.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        model = _trained(estimator)
        history, initial = model.history_, model.diagnostics_["initial_loss"]
        display = cls(
            train_loss=history["train_loss"],
            valid_loss=history.get("valid_loss"),
            initial_loss=initial if math.isfinite(initial) else None,
            best_epoch=model.best_epoch_,
            n_held_out=model.diagnostics_["n_held_out"],
            start_name="PCA" if _started_at_pca(model) else None,
        )
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax=None, *, line_kw=None):
        """Draw the losses.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        line_kw : dict, default=None
            Keywords for ``Axes.plot``, for both curves.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        ax = prepared_axes(self, ax)
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.start_, self.best_ = [], None, None
        n_epochs = len(self.train_loss)
        epochs = np.arange(1, n_epochs + 1)
        ax.set(xlabel="epoch", ylabel="objective per row")
        tidy(ax)
        curves = [("training", BASELINE, self.train_loss)]
        if self.valid_loss is not None:
            held_out = "held out"
            if self.n_held_out:
                held_out += f" ({self.n_held_out} rows)"
            curves.append((held_out, MODEL, self.valid_loss))
        style = merged(
            {"linewidth": 1.8, "marker": "o" if n_epochs == 1 else ""}, line_kw, Line2D
        )
        for label, colour, loss in curves if n_epochs else []:
            self.lines_ += ax.plot(
                epochs, loss, **{"color": colour, "label": label} | style
            )
        if self.initial_loss is not None:
            self.start_ = ax.axhline(
                self.initial_loss,
                color=NORMAL,
                linestyle=(0, (4, 3)),
                linewidth=1.2,
                label=f"start: {self.start_name}" if self.start_name else "start",
                zorder=1,
            )
        if not n_epochs:
            self._say_that_nothing_happened()
            return self
        self._mark_best(curves[-1][2])
        losses = np.concatenate([loss for _, _, loss in curves])
        if self.initial_loss is not None:
            losses = np.append(losses, self.initial_loss)
        losses = losses[np.isfinite(losses)]
        if len(losses) and losses.min() > 0 and losses.max() > _LOG_FROM * losses.min():
            ax.set_yscale("log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        legend(ax)
        return self

    def _mark_best(self, judged):
        if self.best_epoch is None:
            return
        if self.best_epoch:
            level, label = judged[self.best_epoch - 1], f"kept: epoch {self.best_epoch}"
        else:
            level, label = self.initial_loss, "kept: the start"
        if level is None:
            return
        (self.best_,) = self.ax_.plot(
            self.best_epoch,
            level,
            color=INK,
            marker="o",
            markersize=7,
            linestyle="",
            label=label,
            zorder=3,
        )

    def _say_that_nothing_happened(self):
        text = "no step was taken"
        if self.start_name is not None:
            text += f"\nthe model is {self.start_name}"
        self.ax_.text(
            0.5,
            0.5,
            text,
            ha="center",
            va="center",
            color=INK,
            transform=self.ax_.transAxes,
        )
        self.ax_.set(xticks=[0], xlim=(-1, 1))
        if self.initial_loss is None:
            self.ax_.set(yticks=[])


def _trained(estimator):
    """Return the estimator itself, or the one step that was trained."""
    steps = [estimator]
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps]
    trained = [step for step in steps if isinstance(step, BaseAutoencoder)]
    if len(trained) != 1:
        raise TypeError(
            "LossCurveDisplay needs an estimator of skae, or a Pipeline with one of "
            f"them. Got {len(trained)} in {estimator!r}."
        )
    check_is_fitted(trained[0])
    return trained[0]


def _started_at_pca(model):
    """Return whether it is certain that the model was PCA before its first step."""
    bottleneck = Plain() if model.bottleneck is None else model.bottleneck
    domain = (math.inf,) if model.loss is None else model.loss.domain
    return (
        model.net_.starts_fitted
        and not model.warm_start
        and isinstance(bottleneck, Plain)
        and bottleneck.activation is None
        and not any(map(math.isfinite, domain))
    )
