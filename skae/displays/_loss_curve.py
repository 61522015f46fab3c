"""Training and validation loss of each epoch."""

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._base import BaseAutoencoder
from .._pipelines import split_pipeline
from . import _plotting
from ._plotting import Display, keywords

__all__ = ["LossCurveDisplay"]

# Ratio of the largest to the smallest loss from which the axis is logarithmic.
_LOG_FROM = 10


class LossCurveDisplay(Display):
    """Training and validation loss of each epoch.

    The loss before the first step and the epoch whose weights were kept are marked. The
    loss is the training objective, with corruption and penalty. That of the training
    rows is the mean over an epoch, during which the weights change. That of the
    held-out rows, the validation set, is computed after the epoch. The axis is
    logarithmic if all losses are positive and the largest is at least ten times the
    smallest.

    It is recommended to use `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    train_loss : array-like of shape (n_epochs,)
        Objective per training row.
    valid_loss : array-like of shape (n_epochs,), default=None
        Objective per held-out row. None if there were no held-out rows.
    initial_loss : float, default=None
        Objective per held-out row before the first step. None if it is not known.
    best_epoch : int, default=None
        Epoch whose weights were kept, counted from 1; 0 means the initial weights. None
        marks no epoch.
    n_held_out : int, default=None
        Number of held-out rows, for the legend.
    start_name : str, default=None
        Name of the model before the first step, for the legend. None draws no name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : list of matplotlib Line2D
        Training loss, then validation loss if there is one. Empty without an epoch.
    start_ : matplotlib Line2D or None
        Horizontal line at the loss before the first step.
    best_ : matplotlib Line2D or None
        Mark of the epoch whose weights were kept.

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
        """Draw the losses of a fitted estimator.

        Parameters
        ----------
        estimator : estimator or Pipeline
            A fitted estimator of skae, or a pipeline with exactly one of them. The
            losses of a detector with several networks are those of the first network.
            The start is named PCA if the weights before the first step were those of
            PCA (``diagnostics_["starts_at_pca"]``).
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for both curves.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If there is not exactly one estimator of skae.
        """
        cls._check()
        before, last, _ = split_pipeline(estimator)
        models = [s for s in [*before, last] if isinstance(s, BaseAutoencoder)]
        if len(models) != 1:
            raise TypeError(
                "LossCurveDisplay needs an estimator of skae, or a Pipeline with one "
                f"of them. Got {len(models)} in {estimator!r}."
            )
        (model,) = models
        check_is_fitted(model)
        diagnostics = model.diagnostics_
        initial = diagnostics["initial_loss"]
        display = cls(
            train_loss=model.history_["train_loss"],
            valid_loss=model.history_.get("valid_loss"),
            initial_loss=initial if math.isfinite(initial) else None,
            best_epoch=model.best_epoch_,
            n_held_out=diagnostics["n_held_out"],
            # Models that were pickled by earlier versions lack it.
            start_name="PCA" if diagnostics.get("starts_at_pca", False) else None,
        )
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax=None, *, line_kw=None):
        """Draw the losses.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        line_kw : dict, default=None
            Keyword arguments for ``Axes.plot``, for both curves.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        ax = self._axes(ax)
        from matplotlib.ticker import MaxNLocator

        self.lines_, self.start_, self.best_ = [], None, None
        n_epochs = len(self.train_loss)
        ax.set(xlabel="epoch", ylabel="objective per row")
        curves = [("training", _plotting.BASELINE, self.train_loss)]
        if self.valid_loss is not None:
            rows = f" ({self.n_held_out} rows)" if self.n_held_out else ""
            curves.append((f"held out{rows}", _plotting.MODEL, self.valid_loss))
        style = {"linewidth": 1.8, "marker": "o" if n_epochs == 1 else ""}
        for label, colour, loss in curves if n_epochs else []:
            line = keywords("line", line_kw, color=colour, label=label, **style)
            self.lines_ += ax.plot(np.arange(1, n_epochs + 1), loss, **line)
        if self.initial_loss is not None:
            label = f"start: {self.start_name}" if self.start_name else "start"
            style = {"color": _plotting.NORMAL, "zorder": 1} | _plotting.DASHED
            self.start_ = ax.axhline(self.initial_loss, label=label, **style)
        if not n_epochs:
            self._plot_no_step()
            return self
        # The loss by which an epoch was selected, by epoch; epoch 0 is the start.
        levels = [self.initial_loss, *curves[-1][2]]
        best = self.best_epoch
        if best is not None and levels[best] is not None:
            label = f"kept: epoch {best}" if best else "kept: the start"
            style = {"color": _plotting.INK, "markersize": 7, "zorder": 3}
            self.best_ = ax.plot(best, levels[best], "o", label=label, **style)[0]
        if _plotting.spans_decades([*levels, *self.train_loss], _LOG_FROM):
            ax.set_yscale("log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.legend(**_plotting.LEGEND)
        return self

    def _plot_no_step(self):
        text = "no step was taken"
        if self.start_name is not None:
            text += f"\nthe model is {self.start_name}"
        style = {"ha": "center", "va": "center", "color": _plotting.INK}
        self.ax_.text(0.5, 0.5, text, transform=self.ax_.transAxes, **style)
        self.ax_.set(xticks=[0], xlim=(-1, 1))
        if self.initial_loss is None:
            self.ax_.set(yticks=[])
