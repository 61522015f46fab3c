"""The skorch net inside every estimator, and its epoch loop.

The only module that imports skorch. skorch gives initialisation, devices, callbacks,
history and checkpoints; where the net differs, its docstrings say why.
"""

import math
import pickle
from copy import deepcopy

import numpy as np
import torch
from skorch import NeuralNet
from skorch import callbacks as skc
from skorch.history import History

from .._data.source import chunk_rows
from .._gradient.flat_weights import FlatWeights
from .._gradient.step import choose_step
from .._model.autoencoder import Objective
from .._model.portable import is_available
from .batches import Batches, Rows, SharedBatches
from .device import multiplications, threads_for
from .progress import NetworkProgress
from .selection import Selection
from .state_file import holds

__all__ = ["OPTIMIZERS", "Net", "lower_rate"]

# Batches whose rows may pass through the model at once when it is evaluated: where only
# small batches fit into memory, so do only small chunks.
_CHUNK_BATCHES = 32
# Training rows on which the weights of an epoch are checked to be finite.
_CHECKED = 256
# What the learning rate is multiplied by after an epoch whose loss was not finite.
_LOWER = 0.1
# Training rows from which the statistics of batch normalisation are estimated.
_NORM_ROWS = 1024

# Draws over which the objective of a row is averaged if its code is nested: the error
# depends on the size that is drawn more than on the weights.
_NESTED_DRAWS = 4

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
        Whether the initial weights are a model worth keeping, to be replaced only after
        a gain that is clear of noise.
    leaves_start : bool
        Whether networks with the hook ``leave_start`` use it.
    early_stopping : bool
        Whether to stop, and to keep the best weights, by the objective on the
        validation set.
    n_iter_no_change : int
        Epochs without an improvement of more than ``tol`` before training stops.
    tol : float
        Smallest improvement that counts, as a share of the objective.
    gradient_clip : float or None
        Maximum norm of the total gradient.
    precision : {"float32", "bf16"}
        Precision of the activations in training.
    averaging : float
        Decay per step of the running average of the weights that is evaluated and kept
        (Polyak & Juditsky, 1992); 0 keeps the weights themselves. It replaces a decay
        of the learning rate. The default: tests/benchmarks/bench_constants.py.
    **kwargs
        As in :class:`skorch.NeuralNet`.
    """

    # Attributes that only training needs.
    _transient = (
        *("batches_", "generator_", "pass_", "selection_", "step_", "weights_"),
    )
    # Whether the learning rate falls to zero over the planned steps.
    lowers_rate = False
    # Steps that the encoder was then trained alone, up to the weights that were kept.
    encoder_steps_ = 0
    # What this process trains on, where several train together: see `Share`.
    share_ = None
    # Attributes that change from epoch to epoch, beside the parts that have a state.
    _changing = (
        *("diverged_", "divergences_", "step_name_"),
        *("stop_reason_", "stop_training_"),
    )

    def __init__(
        self,
        module,
        criterion=Objective,
        *,
        optimizer="adamw",
        seed=0,
        starts_fitted=False,
        leaves_start=False,
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
        self.leaves_start = leaves_start
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.gradient_clip = gradient_clip
        self.precision = precision
        self.averaging = averaging

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
        Weight decay is for the weights of layers only, not for biases, norms and
        variances.
        """
        parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
        self.weights_ = FlatWeights(parameters, self.averaging)
        named, known = None, isinstance(self.optimizer, str)
        if known or not parameters:
            self.weights_.attach_gradient()
        else:
            named = list(self.get_all_learnable_params())
        cls, fused = OPTIMIZERS[self.optimizer] if known else (self.optimizer, False)
        weight_decay = vars(self).get("optimizer__weight_decay", 0)
        groups = []
        for number, group in enumerate(self.weights_.groups(named, weight_decay)):
            if group:
                args, kwargs = self.get_params_for_optimizer("optimizer", group)
                groups += args[0]
                if number:
                    groups[-1].setdefault("weight_decay", 0.0)
        self.optimizer_ = cls(groups, **({"fused": True} if fused else {}) | kwargs)
        return self

    # Data: tensors that are already where they are needed, no DataLoader

    def get_iterator(self, dataset, training=False):
        """Iterate over rows: in a new order and in equal batches for training."""
        if not isinstance(dataset, Rows):
            return super().get_iterator(dataset, training=training)
        if training:
            return Batches(dataset, self.batch_size, self.generator_)
        n_rows = min(
            chunk_rows(dataset.source.shape[1]), _CHUNK_BATCHES * self.batch_size
        )
        return Batches(dataset, n_rows)

    # Training

    def training(self, X, epochs=None, progress=None, checkpoint=None):
        """Train: a generator that yields before each epoch, for its steps to be taken.

        `pass_once` takes them. At the end the module holds the weights to keep, and
        what only training needs is gone: gradients, optimiser, order of rows. A
        callback that sets ``net.stop_training_ = True`` ends it after the epoch.
        After the first epoch whose loss is not finite it goes on from the weights that
        would be kept, with a lower learning rate; after a second one it ends.
        ``divergences_`` lists both.

        Parameters
        ----------
        X : Data
        epochs : int, default=None
            Largest number of epochs, where that is not ``max_epochs``, which annealed
            penalties count by.
        progress : NetworkProgress, default=None
            Receives progress events.
        checkpoint : Checkpoint, default=None
            Receives the state after epochs. If it has one of an earlier process,
            training goes on from there.
        """
        state = None if checkpoint is None else checkpoint.load()
        if state is not None:
            # Callbacks look at these when training begins.
            self.history_ = History(state["history"])
            self.optimizer_.load_state_dict(state["optimizer"])
        self.notify("on_train_begin", X=X, y=None)
        self.check_training_readiness()
        train, validation, self.share_ = X
        if validation is not None:
            validation = self._hidden(validation)
        epochs = self.max_epochs if epochs is None else epochs
        if not self.weights_.parameters:
            epochs = 0  # nothing to train
        progress = NetworkProgress() if progress is None else progress
        share = self.share_
        seed = self.seed if share is None else share.workers.seed(self.seed)
        self.generator_ = torch.Generator(self.device).manual_seed(seed)
        self.stop_training_ = self.diverged_ = False
        self.divergences_ = []
        self.stop_reason_ = self.step_name_ = None
        if share is None:
            self.batches_ = self.get_iterator(train, training=True)
        else:
            self.batches_ = SharedBatches(share, self.batch_size, self.generator_)
        self.n_planned_steps_ = self.max_epochs * len(self.batches_)
        for _, callback in self.callbacks_:
            _check_works_here(callback)
            if epochs and validation is None:
                self._check_needs_no_validation(callback)
        self.has_batch_callbacks_ = any(
            _has_batch_hooks(callback) for _, callback in self.callbacks_
        )
        self.has_step_hooks_ = self.module_.has_step_hooks
        watched = self.has_batch_callbacks_ or self.weights_.flat.grad is None
        if share is not None and self.module_.has_batch_norm:
            self.module_.share_norms(share.workers)
            watched = True  # by the other processes
        self.step_ = None
        self.weights_.start_average()
        estimate_norms = self._norm_estimator(train)
        estimate_norms()
        self.selection_ = self._start_selection(validation)
        self._leave_start()
        first = 0
        if state is not None:
            self._load_state(state)
            first = epochs if self.stop_training_ else len(state["history"])
        datasets = {"dataset_train": train, "dataset_valid": validation}
        for number in range(first, epochs):
            progress.begin_epoch(number)
            if share is not None:
                # Processors of another kind round in another way.
                share.workers.copy_first(*self.weights_.buffers)
            self.notify("on_epoch_begin", **datasets)
            # Callbacks may have replaced or frozen weights, or set hooks, by now.
            self.weights_.bind()
            self.step_ = choose_step(self, watched, self.step_)
            self.step_name_ = self.step_.name
            self.weights_.hold_frozen()
            self.pass_ = progress.batches(self.batches_)
            yield
            with self.weights_.averaged():
                estimate_norms()
                self._validate(train, validation)
                self.notify("on_epoch_end", **datasets)
                if progress.end_epoch(number, self):
                    self.stop_training_ = True
                if share is not None:
                    self.stop_training_ = share.workers.of_first(self.stop_training_)
            last = self.stop_training_ or number + 1 == epochs
            if not last and self.divergences_[-1:] == [len(self.history)]:
                self._go_back()
            if checkpoint is not None:
                checkpoint.save(self._state, last)
            if last:
                break
        self.selection_.finish()
        if share is not None:
            state = {n: t.cpu() for n, t in self.module_.state_dict().items()}
            self.module_.load_state_dict(share.workers.of_first(state))
        if self.stop_reason_ is None:
            self.stop_reason_ = "callback" if self.stop_training_ else "max_epochs"
        self.trial_ = self.selection_.trial
        self.best_epoch_ = self.selection_.best_epoch
        self.initial_loss_ = self.selection_.initial_loss
        self.best_loss_ = self.selection_.best_loss
        self.unfinished_ = (
            self.early_stopping and 0 < epochs and not self.stop_training_
        )
        self.notify("on_train_end", X=X, y=None)
        self._release()

    def _set_training(self, training=True):
        # It goes through all modules, which takes as long as a small one of them.
        if self.module_.training != training:
            super()._set_training(training)

    def pass_once(self):
        """Take the steps of an epoch."""
        self.run_single_epoch(self.pass_, True, "train", self.train_step)

    def work(self, X):
        """Return the approximate number of multiplications of a step."""
        self._set_training(False)
        rows = min(self.batch_size, len(X.train))
        return multiplications(self.module_, X.train[:1].x) * rows

    def _state(self):
        """Return what training goes on from after an epoch, not copied."""
        return {
            "net": {name: getattr(self, name) for name in self._changing},
            "history": list(self.history),
            "weights": self.weights_.state_dict(),
            "buffers": dict(self.module_.named_buffers()),
            "optimizer": self.optimizer_.state_dict(),
            "selection": self.selection_.state_dict(),
            "batches": self.batches_.state_dict(),
            "callbacks": {
                name: _callback_state(callback) for name, callback in self.callbacks_
            },
        }

    def _load_state(self, state):
        """Go on from a state; that of the history is there already."""
        vars(self).update(state["net"])
        self.weights_.load_state_dict(state["weights"])
        for name, buffer in self.module_.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.optimizer_.load_state_dict(state["optimizer"])
        self.selection_.load_state_dict(state["selection"])
        self.batches_.load_state_dict(state["batches"])
        for name, callback in self.callbacks_:
            _load_callback_state(callback, state["callbacks"][name])

    def _check_needs_no_validation(self, callback):
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not monitor.startswith("valid_"):
            return
        why = "too few rows to hold any out"
        if not self.early_stopping:
            why = "with early_stopping=False none are held out"
        raise ValueError(
            f"{type(callback).__name__} monitors {monitor!r}, but there are no "
            f"validation rows ({why}): pass X_val to fit, or {type(callback).__name__}"
            f"(monitor={monitor.replace('valid_', 'train_')!r})."
        )

    def _norm_estimator(self, train):
        """Return a function that estimates what batch normalisation does in inference.

        Always from the same rows, so that two epochs differ by the weights only.
        """
        if not self.module_.has_batch_norm:
            return lambda: None
        generator = torch.Generator().manual_seed(self.seed + 2)
        index = torch.randperm(len(train), generator=generator)[:_NORM_ROWS]
        x = train.take(index).hidden()[:].seen

        def estimate():
            self._set_training(False)
            self.module_.estimate_norms(x)

        return estimate

    def _start_selection(self, validation):
        used = validation is not None and self.early_stopping
        return Selection(
            self.module_,
            self.evaluate(validation) if used else None,
            validation.weight_array() if used else None,
            starts_fitted=self.starts_fitted,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
        )

    def _leave_start(self):
        """Move weights that are a model off a point where no gradient reaches them.

        What was evaluated is kept if training does not lead to less.
        """
        if self.leaves_start:
            if self._draw_start():
                self.selection_.leave_start()
            self.weights_.start_average()

    def _draw_start(self):
        """Draw the weights that training begins with; return whether they differ."""
        generator = torch.Generator().manual_seed(self.seed + 3)
        return self.module_.leave_start(generator)

    def _go_back(self):
        """Begin anew at the best weights so far, with a lower learning rate."""
        self.selection_.restore()
        if self.selection_.best_epoch == 0:
            self._leave_start()
        self.weights_.start_average()
        # Its moments are not finite either.
        self.optimizer_.state.clear()
        for group in self.optimizer_.param_groups:
            if "lr" in group:
                group["lr"] = _LOWER * group["lr"]

    def _validate(self, train, validation):
        """Record the objective on the validation set; decide whether to stop."""
        # The training loss is from before the last step of the epoch: evaluate the
        # weights as they are now.
        checked = validation
        if validation is None:
            checked = train.take(torch.arange(min(len(train), _CHECKED)))
        rows = self.evaluate(checked)
        loss = self.history[-1, "train_loss"]
        finite = math.isfinite(loss) and bool(np.isfinite(rows).all())
        if validation is not None:
            valid_loss = float(np.average(rows, weights=validation.weight_array()))
            self._record("valid_loss", valid_loss)
        if validation is None or not self.early_stopping:
            rows = None
        else:
            loss = valid_loss
        if not finite:
            self.diverged_ = True
            if self.divergences_ or not self.selection_.starts_finite:
                self.stop_training_, self.stop_reason_ = True, "diverged"
            self.divergences_.append(len(self.history))
        elif self.selection_.update(
            len(self.history), loss, rows, counts=not self.module_.warming
        ):
            self.stop_training_ = True
            self.stop_reason_ = "no gain"

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Pass once over the rows.

        Unlike skorch's, it records one loss per epoch instead of one per batch, and
        reads it once, so that the processor does not wait for the device in every step.
        """
        self._set_training(training)
        total, n_rows = torch.zeros((), dtype=torch.float32, device=self.device), 0
        for batch in iterator:
            if self.has_batch_callbacks_:
                self.notify("on_batch_begin", batch=batch, training=training)
                self.weights_.bind()
            step = step_fn(batch)
            if len(batch.x):
                total.add_(step["loss"], alpha=len(batch.x))
            n_rows += len(batch.x)
            if self.has_batch_callbacks_:
                self.notify("on_batch_end", batch=batch, training=training, **step)
        total = float(total)
        if self.share_ is not None:
            total, n_rows = self.share_.workers.sums(total, n_rows)
        self.record_epoch(f"{prefix}_loss", total / n_rows)

    def record_epoch(self, name, loss):
        """Record the loss of an epoch, when all of its steps have been taken."""
        self._record(name, loss)
        # What skorch keeps per batch; ``Checkpoint`` looks at the last one.
        self.history.new_batch()

    def _record(self, name, loss):
        """Record a loss of the epoch, and whether it is the lowest so far.

        skorch's own scoring does the same, and ``Checkpoint`` reads it.
        """
        before = (epoch[name] for epoch in self.history[:-1])
        lowest = min((x for x in before if math.isfinite(x)), default=math.inf)
        self.history.record(name, loss)
        self.history.record(f"{name}_best", loss < lowest)

    def train_step(self, batch, **fit_params):
        """Take one step of the optimiser."""
        draws = self.module_.draw(batch.x.shape, self.generator_)
        if self.lowers_rate:
            lower_rate(self.optimizer_, self.weights_.n_steps / self.n_planned_steps_)
        loss = output = None

        def closure():
            nonlocal loss, output
            # Without rows, too, where others normalise batches with this process.
            loss, output = self.step_(batch, draws)
            if self.share_ is not None:
                gradient = self.weights_.flat.grad
                if len(batch.x):
                    gradient.mul_(batch.share)
                else:
                    gradient.zero_()  # of no rows the mean is NaN
                self.share_.workers.add(gradient)
            if self.gradient_clip is not None:
                self.weights_.clip_gradient(self.gradient_clip)
            if self.has_batch_callbacks_:
                self.notify(
                    "on_grad_computed",
                    named_parameters=list(self.get_all_learnable_params()),
                    batch=batch,
                    training=True,
                )
                self.weights_.bind()
            return loss

        self.optimizer_.step(closure)
        self.weights_.after_step()
        if self.has_step_hooks_:
            progress = min(1.0, self.weights_.n_steps / self.n_planned_steps_)
            self.module_.after_step(progress, batch, draws, output)
        return {"loss": loss, "y_pred": output, "draws": draws}

    def _hidden(self, rows):
        """Return rows with entries hidden, always the same ones; see `Rows.hidden`."""
        return rows.hidden(torch.Generator(self.device).manual_seed(self.seed + 4))

    @torch.no_grad()
    def evaluate(self, rows):
        """Return the training objective of each row, float64.

        Penalties and corruption are included, schedules have their final value, and
        every call has the same random draws: two calls differ by the weights only.
        """
        self._set_training(False)
        rows = self._hidden(rows)
        generator = torch.Generator(self.device).manual_seed(self.seed + 1)
        if self.share_ is not None:
            workers = self.share_.workers
            parts = np.array_split(np.arange(len(rows)), workers.size)
            rows = rows.take(parts[workers.rank])
        terms = [torch.zeros(0)]
        n_draws = _NESTED_DRAWS if self.module_.is_nested else 1
        for x, weight, mask, given in self.get_iterator(rows):
            of_batch = 0.0
            for _ in range(n_draws):
                draws = self.module_.draw(x.shape, generator)
                output = self.module_(x, draws, mask, given)
                cost = self.criterion_.per_batch(output, weight)
                of_batch += self.criterion_.per_sample(output, weight) + cost
            terms.append(of_batch / n_draws)
        terms = torch.cat([each.double().cpu() for each in terms]).numpy()
        if self.share_ is not None:
            terms = np.concatenate(self.share_.workers.of_all(terms))
        return terms

    def partial_fit(
        self,
        X,
        y=None,
        classes=None,
        epochs=None,
        progress=None,
        checkpoint=None,
        **fit_params,
    ):
        """Train without initialising anew; see `training`.

        Unlike skorch's, it lets every ``KeyboardInterrupt`` through.
        """
        if not self.initialized_:
            self.initialize()
        with threads_for(self.work(X)):
            for _ in self.training(X, epochs, progress, checkpoint):
                self.pass_once()
        return self

    def train_pass(self, rows, sample, state=None):
        """Train for one pass over rows, from the end of an earlier pass.

        The module then has the running average of the weights.

        Parameters
        ----------
        rows : Rows or None
            None trains on nothing.
        sample : Rows
            From which the statistics of batch normalisation are estimated.
        state : dict, default=None
            What an earlier pass of a net of the same parameters has returned. None
            begins with the weights of the module.

        Returns
        -------
        loss : float or None
            Mean of the objective over the rows.
        state : dict
            Tensors, numbers and lists of such.
        """
        self.generator_ = torch.Generator(self.device).manual_seed(self.seed)
        self.has_batch_callbacks_ = False
        self.has_step_hooks_ = self.module_.has_step_hooks
        self.n_planned_steps_ = 1  # nobody knows how many will come
        if state is None:
            if self.leaves_start:
                self._draw_start()
            self.weights_.start_average()
        else:
            self.module_.load_state_dict(state["module"])
            self.weights_.resume(state["average"], state["n_steps"])
            if state["of"] == type(self.optimizer_).__name__:
                whole, parts = self.optimizer_.state_dict(), state["optimizer"]
                whole["state"] = dict(enumerate(parts))
                self.optimizer_.load_state_dict(whole)
        self.step_ = choose_step(self, self.weights_.flat.grad is None)
        self._set_training(False)
        work = multiplications(self.module_, sample[:1].x)
        loss = None
        with threads_for(work * self.batch_size):
            self.notify("on_epoch_begin", dataset_train=rows, dataset_valid=None)
            if rows is not None and self.weights_.parameters:
                batches = self.get_iterator(rows, training=True)
                self.run_single_epoch(batches, True, "train", self.train_step)
                loss = self.history[-1, "train_loss"]
            module = self.module_.state_dict()
            state = {
                "module": {name: t.detach().clone() for name, t in module.items()},
                "average": self.weights_.average,
                "n_steps": self.weights_.n_steps,
                "of": type(self.optimizer_).__name__,
                "optimizer": list(self.optimizer_.state_dict()["state"].values()),
            }
            self.weights_.settle()
            self._norm_estimator(sample)()
            self._set_training(False)
            self.notify("on_epoch_end", dataset_train=rows, dataset_valid=None)
        self.step_name_ = self.step_.name
        self._release()
        return loss, state

    def _release(self):
        """Drop what only training needs."""
        self.weights_.release()
        self.share_ = None
        self.module_.share_norms(None)
        self.module_.eval()
        self.optimizer_ = None
        self.initialize_virtual_params()  # which are those of the optimiser
        for name in self._transient:
            vars(self).pop(name, None)

    def snapshot(self):
        """Return a net with a copy of the current weights and history."""
        module, history = deepcopy((self.module_, self.history))
        net = self.with_module(module)
        net.history_, net.best_epoch_ = history, len(history)
        return net

    def with_module(self, module):
        """Return a net with the same history and another, trained module."""
        net = type(self).__new__(type(self))
        vars(net).update(vars(self), optimizer_=None)
        for name in self._transient:
            vars(net).pop(name, None)
        net.module_ = module
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

    def __getstate__(self):
        # skorch would pickle the module apart from the model that shares it. The module
        # finds its way to another device by itself.
        state = {k: v for k, v in vars(self).items() if k not in self._transient}
        state["__cuda_dependent_attributes__"] = pickle.dumps({})
        return state

    def _after_loading(self):
        # From a file of `skae.save`, whose reader calls it.
        if not is_available(torch.device(self.device)):
            self.device = "cpu"


def lower_rate(optimizer, done):
    """Lower the learning rate, which is zero when all is done.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    done : float
        Share of the steps.
    """
    for group in optimizer.param_groups:
        if "lr" not in group:
            continue
        group["lr"] = (1 - done) * group.setdefault("initial_lr", group["lr"])


def _check_works_here(callback):
    of_outputs = (skc.BatchScoring, skc.EpochScoring, skc.PassthroughScoring)
    own = type(callback) is skc.EpochScoring and callable(callback.scoring)
    if isinstance(callback, of_outputs) and not own:
        raise ValueError(
            f"{type(callback).__name__} needs outputs of validation batches, which are "
            "not gathered here. Give EpochScoring a function (net, X, y) with rows of "
            "its own, or call set_callbacks with scikit-learn's ScoringMonitor."
        )


def _callback_state(callback):
    """Return the attributes of a callback that it sets in training, if they are data.

    Of objects that have a ``state_dict``, as torch's schedulers, that.
    """
    state = {}
    for name, value in vars(callback).items():
        if not name.endswith("_") or name.startswith("_"):
            continue
        if hasattr(value, "state_dict") and not isinstance(value, type):
            value = {"state_dict": value.state_dict()}
        if holds(value):
            state[name] = value
    return state


def _load_callback_state(callback, state):
    for name, value in state.items():
        current = getattr(callback, name, None)
        if hasattr(current, "load_state_dict"):
            current.load_state_dict(value["state_dict"])
        else:
            setattr(callback, name, value)


def _has_batch_hooks(callback):
    hooks = ("on_batch_begin", "on_batch_end", "on_grad_computed")
    kind, none = type(callback), skc.Callback
    return any(getattr(kind, hook) is not getattr(none, hook) for hook in hooks)
