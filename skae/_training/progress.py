"""Progress reporting: scikit-learn callbacks and a tqdm bar."""

from time import perf_counter

from tqdm.auto import tqdm

from .._compat.sklearn import callback_context, has_callbacks
from .outcome import describe

__all__ = ["NetworkProgress", "Progress"]


class Progress:
    """Passes progress events of a fit on to callbacks and to a progress bar.

    A fit trains a number of networks, one after the other or several at once. Training
    that begins anew with smaller batches is the same network, and its epochs are the
    same ones. As a context manager it ends the fit.

    Parameters
    ----------
    estimator : BaseAutoencoder, default=None
        Has the callbacks and ``verbose``. None has neither.
    listener : object, default=None
        Receives all events, too: it has the methods of this class, ``end_fit`` and,
        for the networks, those of `NetworkProgress`.
    """

    def __init__(self, estimator=None, listener=None):
        self._listeners = [] if listener is None else [listener]
        if estimator is not None and estimator.verbose:
            self._listeners.append(_Bar())
        if has_callbacks(estimator):
            self._listeners.append(_Callbacks(estimator))

    def begin_fit(self, plan, n_networks):
        """Begin a fit of a number of networks."""
        for listener in self._listeners:
            listener.begin_fit(plan, n_networks)

    def begin_network(self, plan, max_epochs, attributes):
        """Begin the next network.

        Parameters
        ----------
        plan : Plan
        max_epochs : int
        attributes : callable
            From a net to the fitted attributes of an estimator with that network.

        Returns
        -------
        NetworkProgress
        """
        return NetworkProgress(
            listener.begin_network(plan, max_epochs, attributes)
            for listener in self._listeners
        )

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        for listener in self._listeners:
            listener.end_fit(failed=failure is not None)


class NetworkProgress:
    """Passes progress events of one network on.

    Parameters
    ----------
    listeners : iterable, default=()
        What listeners of the fit returned when the network began.
    """

    def __init__(self, listeners=()):
        self._listeners = list(listeners)

    def begin_epoch(self, number):
        """Begin an epoch, counted from 0."""
        for listener in self._listeners:
            listener.begin_epoch(number)

    def batches(self, batches):
        """Return the batches of an epoch, so that listeners see them pass."""
        for listener in self._listeners:
            batches = listener.batches(batches)
        return batches

    def end_epoch(self, number, net):
        """End an epoch; return whether a callback asks to stop."""
        # All of them are called, whichever asks to stop.
        answers = [listener.end_epoch(number, net) for listener in self._listeners]
        return any(answers)

    def end(self, net):
        """End the network, whose net has the weights to keep."""
        for listener in self._listeners:
            listener.end(net)

    def second_stage(self, n_rounds):
        """Return the progress of the second stage of training, of so many rounds."""
        return _SecondStage(self._listeners, n_rounds)


class _SecondStage:
    """How far the second stage is. Its rounds are no epochs."""

    def __init__(self, listeners, n_rounds):
        self._listeners, self._n_rounds = listeners, n_rounds

    def begin_epoch(self, number):
        pass

    def batches(self, batches):
        return batches

    def end_epoch(self, number, net):
        for listener in self._listeners:
            listener.end_round((number + 1) / self._n_rounds)
        return False


class _Callbacks:
    """The tasks of a fit for callbacks of scikit-learn.

    Epochs are tasks below the fit where that is one network, else below one task per
    network. The target of an autoencoder, ``X`` unless pairs are given, is what
    callbacks get as ``y``: ``ScoringMonitor`` would not score without.
    """

    def __init__(self, estimator):
        self._estimator = estimator

    def begin_fit(self, plan, n_networks):
        self._nested = n_networks > 1
        n_tasks = n_networks if self._nested else plan.settings.max_epochs
        self._fit = callback_context(self._estimator, n_tasks)
        self._fit_data = self._data(plan)
        self._fit.call_on_fit_task_begin(**self._fit_data)

    def _data(self, plan):
        X, weight = plan.rows.take(slice(None)).numpy(), plan.weight
        target = plan.target.take(slice(None)).numpy() if plan.has_pairs else X
        return {
            "estimator": self._estimator,
            "X": X,
            "y": target,
            "metadata": None if weight is None else {"sample_weight": weight},
        }

    def begin_network(self, plan, max_epochs, attributes):
        if not self._nested:
            return _NetworkTasks(self._fit, self._fit_data, attributes)
        data = self._data(plan)
        network = self._fit.subcontext("network", max_subtasks=max_epochs)
        network.call_on_fit_task_begin(**data)
        return _NetworkTasks(network, data, attributes, ends=True)

    def end_fit(self, failed):
        if not failed:
            self._fit.call_on_fit_task_end(
                **self._fit_data, reconstruction_attributes={}
            )


class _NetworkTasks:
    """The epochs of a network, as tasks below another one, which may end with them."""

    def __init__(self, task, data, attributes, ends=False):
        self._task, self._data, self._attributes = task, data, attributes
        self._ends, self._epochs = ends, {}

    def begin_epoch(self, number):
        if number not in self._epochs:
            self._epochs[number] = self._task.subcontext("epoch")
        self._epochs[number].call_on_fit_task_begin(**self._data)

    def batches(self, batches):
        return batches

    def end_epoch(self, number, net):
        return self._epochs[number].call_on_fit_task_end(
            **self._data,
            reconstruction_attributes=lambda: self._attributes(net.snapshot()),
        )

    def end_round(self, share):
        pass

    def end(self, net):
        if self._ends:
            self._task.call_on_fit_task_end(
                **self._data, reconstruction_attributes=lambda: self._attributes(net)
            )


class _Bar:
    """One bar for the networks that are trained at once; the last one stays.

    It follows the last of them, and says at its end why training ended.
    """

    def begin_fit(self, plan, n_networks):
        self._n_networks, self._number, self._open = n_networks, 0, 0
        self._bar = None

    def begin_network(self, plan, max_epochs, attributes):
        self._number += 1
        self._open += 1
        first = self._number - self._open + 1
        which = f"{first}" if self._open == 1 else f"{first}-{self._number}"
        name = f"network {which}/{self._n_networks}" if self._n_networks > 1 else None
        last = self._number == self._n_networks
        self._streamed = plan.rows.streamed
        if self._open == 1:
            self._bar = tqdm(total=max_epochs, leave=last, bar_format=_FORMAT)
        self._bar.set_description_str(name)
        self._bar.leave = last
        return self

    def begin_epoch(self, number):
        self._bar.n = number

    def batches(self, batches):
        number, start, shown, n_rows = self._bar.n, perf_counter(), 0.0, 0
        for i, batch in enumerate(batches, 1):
            yield batch
            n_rows += len(batch.x)
            seconds = perf_counter() - start
            rate = tqdm.format_sizeof(n_rows / max(seconds, 1e-9))
            self._rate = f"{rate} rows/s"
            if seconds - shown > _SECONDS:
                # Within a long epoch.
                shown = seconds
                self._bar.n = round(number + i / len(batches), 2)
                self._bar.set_postfix_str(self._rate)
        self._bar.n = number

    def end_epoch(self, number, net):
        record = net.history[-1]
        losses = [f"{n}={record[n]:.4g}" for n in _LOSSES if n in record]
        if self._streamed:
            losses = [*losses[-1:], self._rate]  # no longer than a line
        self._bar.set_postfix_str(", ".join(losses), refresh=False)
        self._bar.update()

    def end_round(self, share):
        self._bar.set_postfix_str(f"encoder alone: {share:.0%}")

    def end(self, net):
        self._open -= 1
        if self._open:
            return
        self._bar.n = self._bar.total = len(net.history)
        ending = _ending(net)
        if self._streamed and len(net.history):
            ending += f", {self._rate}"
        self._bar.set_postfix_str(ending, refresh=False)
        self._bar.close()

    def end_fit(self, failed):
        if getattr(self, "_bar", None) is not None:
            self._bar.close()


# Seconds after which the bar moves within an epoch.
_SECONDS = 1.0
_LOSSES = ("train_loss", "valid_loss")
_FORMAT = (
    "{desc}{percentage:3.0f}%|{bar}| epoch {n_fmt}/{total_fmt} "
    "[{elapsed}<{remaining}{postfix}]"
)


def _ending(net):
    """Return the loss of the weights that a net kept, and why training ended."""
    if net.best_epoch_ == 0:
        return describe(net)
    why = {
        "no gain": f"no gain since epoch {net.best_epoch_}",
        "diverged": "loss not finite",
        "callback": "stopped by a callback",
        "max_epochs": "",
    }[net.stop_reason_]
    name = _LOSSES["valid_loss" in net.history[-1]]
    return f"{name}={net.best_loss_:.4g}" + (f", {why}" if why else "")
