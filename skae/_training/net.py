"""The skorch net inside every estimator, and its epoch loop.

The only module that imports skorch. skorch gives initialisation, devices, callbacks,
history and checkpoints; what differs is said where it does.
"""

import math
from copy import deepcopy

import numpy as np
import torch
from skorch import NeuralNet
from skorch import callbacks as skc

from .._compat.torch import modules_of
from .._data.copies import Copies, portable
from .._data.source import Batches, Rows
from .._gradient.flat_weights import FlatWeights
from .._gradient.step import choose_step
from .._model.autoencoder import Objective
from .device import multiplications, threads_for
from .progress import Progress
from .selection import Selection

__all__ = ["OPTIMIZERS", "Net"]

# Held-out rows, and numbers in them, and batches, that pass through the model at once.
_CHUNK = 8192
_CHUNK_ENTRIES = 2**20
_CHUNK_BATCHES = 32
# Training rows that tell whether the weights are still good for anything.
_WATCHED = 256

# Optimisers by name: class, and whether one fused kernel does the whole step.
OPTIMIZERS = {
    "adam": (torch.optim.Adam, True),
    "adamw": (torch.optim.AdamW, True),
    "nadam": (torch.optim.NAdam, False),
    "radam": (torch.optim.RAdam, False),
    "sgd": (torch.optim.SGD, True),
}


class Net(NeuralNet):
    """A :class:`skorch.NeuralNet` for autoencoders.

    Parameters
    ----------
    optimizer : str or subclass of torch.optim.Optimizer
        A name of `OPTIMIZERS`, or a class.
    seed : int
        Seed of everything random in training: order, draws, held-out draws.
    starts_fitted : bool
        Whether the weights before the first step are a model worth keeping, to be
        left only for a gain that is clear of noise.
    early_stopping : bool
        Whether to stop, and to keep the best weights, by the held-out objective.
    n_iter_no_change : int
        Epochs without an improvement of more than ``tol`` before training stops.
    tol : float
        Smallest improvement that counts, as a share of the objective.
    gradient_clip : float or None
        Largest norm of the gradient of all weights together.
    precision : {"float32", "bf16"}
        Of the numbers that pass through the networks in training.
    averaging : float
        Decay of the running average of the weights that is evaluated and kept
        (Polyak & Juditsky, 1992), per step; 0 keeps the weights themselves. With it
        a constant learning rate ends as quietly as a falling one, wherever it stops.
    **kwargs
        As in :class:`skorch.NeuralNet`.
    """

    def __init__(
        self,
        module,
        criterion=Objective,
        *,
        optimizer="adamw",
        seed=0,
        starts_fitted=False,
        early_stopping=True,
        n_iter_no_change=15,
        tol=1e-3,
        gradient_clip=None,
        precision="float32",
        averaging=0.995,
        train_split=None,
        **kwargs,
    ):
        super().__init__(
            module, criterion, optimizer=optimizer, train_split=train_split, **kwargs
        )
        self.seed = seed
        self.starts_fitted = starts_fitted
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.gradient_clip = gradient_clip
        self.precision = precision
        self.averaging = averaging

    # Who hears of the epochs; only there while it is trained.
    progress_ = Progress()

    # Initialisation

    @property
    def _default_callbacks(self):
        # The loop records the losses of an epoch, and the bar replaces skorch's log.
        return [("epoch_timer", skc.EpochTimer())]

    def initialize_optimizer(self, triggered_directly=None):
        """Move the parameters into one buffer, then build the optimiser on it.

        Known optimisers act on each number alone, so that one parameter that holds
        all of them gives the same steps and costs one kernel instead of dozens. A
        class of the user's may look at the shapes: it gets the parameters themselves.
        """
        parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
        self.weights_ = FlatWeights(parameters, self.averaging)
        if isinstance(self.optimizer, str):
            cls, fused = OPTIMIZERS[self.optimizer]
            named = [("flat", self.weights_.attach_gradient())]
        else:
            cls, fused = self.optimizer, False
            named = list(self.get_all_learnable_params())
        args, kwargs = self.get_params_for_optimizer("optimizer", named)
        self.optimizer_ = cls(*args, **({"fused": True} if fused else {}) | kwargs)
        return self

    # Data: tensors that are already where they are needed, no DataLoader

    def get_iterator(self, dataset, training=False):
        """Iterate over rows: in a new order and in equal batches for training."""
        if not isinstance(dataset, Rows):
            return super().get_iterator(dataset, training=training)
        if training:
            return Batches(dataset, self.batch_size, self.generator_)
        # Where only small batches fit into memory, so do only small chunks.
        n_rows = min(
            _CHUNK,
            _CHUNK_ENTRIES // dataset.x.shape[1],
            _CHUNK_BATCHES * self.batch_size,
        )
        return Batches(dataset, max(1, n_rows))

    # Training

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train; at the end the module holds the weights to keep.

        A callback that sets ``net.stop_training_ = True`` ends it after the epoch.
        """
        self.check_training_readiness()
        train, valid = X
        epochs = self.max_epochs if epochs is None else epochs
        self.generator_ = torch.Generator(self.device).manual_seed(self.seed)
        self.stop_training_ = self.diverged_ = False
        self.stop_reason_ = None
        self.n_planned_steps_ = epochs * math.ceil(len(train) / self.batch_size)
        for _, callback in self.callbacks_:
            _check_works_here(callback)
        self.listens_ = any(_listens_to_batches(cb) for _, cb in self.callbacks_)
        self.module_listens_ = self.module_.listens
        self.step_ = None
        self.weights_.start_average()
        self._set_training(False)
        work = multiplications(self.module_, train[:1][0]) * min(
            self.batch_size, len(train)
        )
        with threads_for(work):
            self.selection_ = self._start_selection(valid)
            batches = self.get_iterator(train, training=True)
            datasets = {"dataset_train": train, "dataset_valid": valid}
            for number in range(epochs):
                self.progress_.begin_epoch(number)
                self.notify("on_epoch_begin", **datasets)
                # Callbacks may have frozen weights, or may look into them, by now.
                self.step_ = choose_step(self, self.step_)
                self.weights_.hold_frozen()
                self.run_single_epoch(batches, True, "train", self.train_step)
                with self.weights_.averaged():
                    self._judge(train, valid)
                    self.notify("on_epoch_end", **datasets)
                    if self.progress_.end_epoch(number, self):
                        self.stop_training_ = True
                if self.stop_training_:
                    break
            self.selection_.finish()
        if self.stop_reason_ is None:
            self.stop_reason_ = "callback" if self.stop_training_ else "max_epochs"
        self.step_name_ = None if self.step_ is None else self.step_.name
        self.best_epoch_ = self.selection_.best_epoch
        self.initial_loss_ = self.selection_.initial_loss
        self.best_loss_ = self.selection_.best_loss
        self.unfinished_ = (
            self.early_stopping and 0 < epochs and not self.stop_training_
        )
        return self

    def _start_selection(self, valid):
        judged = valid is not None and self.early_stopping
        return Selection(
            self.module_,
            self.evaluate(valid) if judged else None,
            valid.weight_array() if judged else None,
            starts_fitted=self.starts_fitted,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
        )

    def _judge(self, train, valid):
        """Record what held-out rows say of the epoch; stop if it was one too many."""
        # The loss of an epoch is from before its last step: look at what is there now.
        rows = self.evaluate(Rows(*train[:_WATCHED]) if valid is None else valid)
        loss = self.history[-1, "train_loss"]
        finite = math.isfinite(loss) and bool(np.isfinite(rows).all())
        if valid is not None:
            valid_loss = float(np.average(rows, weights=valid.weight_array()))
            self._record("valid_loss", valid_loss)
        if valid is None or not self.early_stopping:
            rows = None
        else:
            loss = valid_loss
        if not finite:
            self.diverged_ = self.stop_training_ = True
            self.stop_reason_ = "diverged"
        elif self.selection_.update(
            len(self.history), loss, rows, counts=not self.module_.warming
        ):
            self.stop_training_ = True
            self.stop_reason_ = "no gain"

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Pass once over the rows.

        Unlike skorch's, it records one loss per epoch instead of one per batch, and
        reads it once, so that an accelerator is not waited for in every step.
        """
        self._set_training(training)
        total, n_rows = torch.zeros((), dtype=torch.float32, device=self.device), 0
        for batch in iterator:
            if self.listens_:
                self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            total.add_(step["loss"], alpha=len(batch[0]))
            n_rows += len(batch[0])
            if self.listens_:
                self.notify("on_batch_end", batch=batch, training=training, **step)
        self._record(f"{prefix}_loss", float(total) / n_rows)
        # What skorch keeps per batch; ``Checkpoint`` looks at the last one.
        self.history.new_batch()

    def _record(self, name, loss):
        """Write a loss of the epoch down, and whether it is the lowest so far.

        That is what skorch's own scoring records, and what ``Checkpoint`` looks for.
        """
        lowest = min((epoch[name] for epoch in self.history[:-1]), default=math.inf)
        self.history.record(name, loss)
        self.history.record(f"{name}_best", loss < lowest)

    def train_step(self, batch, **fit_params):
        """Take one step of the optimiser."""
        x, weight = batch
        draws = self.module_.draw(x.shape, self.generator_)
        loss = output = None

        def closure():
            nonlocal loss, output
            loss, output = self.step_(x, weight, draws)
            if self.gradient_clip is not None:
                self.weights_.clip_gradient(self.gradient_clip)
            if self.listens_:
                self.notify(
                    "on_grad_computed",
                    named_parameters=list(self.get_all_learnable_params()),
                    batch=batch,
                    training=True,
                )
            return loss

        self.optimizer_.step(closure)
        self.weights_.after_step()
        if self.module_listens_:
            progress = min(1.0, self.weights_.n_steps / self.n_planned_steps_)
            self.module_.after_step(progress, x, draws, output, weight)
        return {"loss": loss, "y_pred": output, "draws": draws}

    @torch.no_grad()
    def evaluate(self, rows):
        """Return the training objective of each row, float64.

        Penalties and corruption count, schedules have their final value, and every
        call sees the same draws: what differs between two calls is the weights.
        """
        self._set_training(False)
        generator = torch.Generator(self.device).manual_seed(self.seed + 1)
        terms = []
        for x, weight in self.get_iterator(rows):
            output = self.module_(x, self.module_.draw(x.shape, generator))
            batch = self.criterion_.per_batch(output, weight)
            terms.append(self.criterion_.per_sample(output, weight) + batch)
        return torch.cat(terms).double().cpu().numpy()

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train without initialising anew.

        Unlike skorch's, it lets every ``KeyboardInterrupt`` through, and leaves
        nothing behind that only training needs: gradients, optimiser, order of rows.
        """
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)
        self.weights_.release()
        self.optimizer_ = None
        for name in _PASSING:
            vars(self).pop(name, None)
        return self

    def snapshot(self):
        """Return a net that has the weights as they are now for its own."""
        net = type(self).__new__(type(self))
        vars(net).update(vars(self), optimizer_=None)
        for name in _PASSING:
            vars(net).pop(name, None)
        net.module_, net.history_ = deepcopy((self.module_, self.history))
        net.best_epoch_ = len(net.history)
        return net

    def notify(self, method_name, **cb_kwargs):
        """Call a method of the net and of its callbacks.

        skorch's ``EarlyStopping`` asks for the end by raising ``KeyboardInterrupt``,
        as if the user had; here it sets `stop_training_`.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                if not isinstance(callback, skc.EarlyStopping):
                    raise
                self.stop_training_ = True

    # Inference

    def module_in(self, dtype, device=None):
        """Return the module in evaluation mode with weights of ``dtype``.

        A copy in double precision, or elsewhere, is made once and kept, not pickled.
        Double precision lives on the CPU where the device has none.
        """
        original = self.module_
        if device == next(original.parameters()).device:
            device = None
        if dtype == torch.float32 and device is None:
            if any(module.training for module in modules_of(original)):
                original.eval()
            return original
        if device is None:
            device = "cpu" if torch.device(self.device).type == "mps" else self.device
        if "copies_" not in vars(self):
            self.copies_ = Copies()
        return self.copies_.get(
            original, dtype, device, lambda: deepcopy(original).to(device, dtype).eval()
        )

    def __getstate__(self):
        state = {k: v for k, v in vars(self).items() if k not in _PASSING}
        prefixes = tuple(self.cuda_dependent_attributes_)
        apart = {k: state.pop(k) for k in [*state] if k.startswith(prefixes)}
        state["__cuda_dependent_attributes__"] = portable(apart)
        return state


# What training needs for itself, and what can be made again.
_PASSING = ("copies_", "generator_", "progress_", "selection_", "step_", "weights_")


def _check_works_here(callback):
    of_outputs = (skc.BatchScoring, skc.EpochScoring, skc.PassthroughScoring)
    own = type(callback) is skc.EpochScoring and callable(callback.scoring)
    if isinstance(callback, of_outputs) and not own:
        raise ValueError(
            f"{type(callback).__name__} needs outputs of held-out batches, which are "
            "not gathered here. Give EpochScoring a function (net, X, y) with rows of "
            "its own, or call set_callbacks with scikit-learn's ScoringMonitor."
        )


def _listens_to_batches(callback):
    hooks = ("on_batch_begin", "on_batch_end", "on_grad_computed")
    kind, none = type(callback), skc.Callback
    return any(getattr(kind, hook) is not getattr(none, hook) for hook in hooks)
