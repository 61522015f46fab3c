"""Progress reporting: scikit-learn callbacks and a tqdm bar."""

from tqdm.auto import tqdm

from .._compat.sklearn import callback_context, has_callbacks
from .outcome import describe

__all__ = ["Progress"]


class Progress:
    """Passes progress events of a fit on to callbacks and to a progress bar.

    A fit trains a number of networks, one after the other, each for a number of epochs.
    Training that begins anew with smaller batches is the same network, and its epochs
    are the same ones. As a context manager it ends the fit.

    Parameters
    ----------
    estimator : BaseAutoencoder, default=None
        Has the callbacks and ``verbose``. None has neither.
    """

    def __init__(self, estimator=None):
        self._listeners = []
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
        """
        for listener in self._listeners:
            listener.begin_network(plan, max_epochs, attributes)

    def begin_epoch(self, number):
        """Begin an epoch, counted from 0."""
        for listener in self._listeners:
            listener.begin_epoch(number)

    def end_epoch(self, number, net):
        """End an epoch; return whether a callback asks to stop."""
        # All of them are called, whichever asks to stop.
        answers = [listener.end_epoch(number, net) for listener in self._listeners]
        return any(answers)

    def end_network(self, net):
        """End a network, whose net has the weights to keep."""
        for listener in self._listeners:
            listener.end_network(net)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        for listener in self._listeners:
            listener.end_fit(failed=failure is not None)


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
        self._attributes, self._epochs = attributes, {}
        self._network, self._network_data = self._fit, self._fit_data
        if self._nested:
            self._network_data = self._data(plan)
            self._network = self._fit.subcontext("network", max_subtasks=max_epochs)
            self._network.call_on_fit_task_begin(**self._network_data)

    def begin_epoch(self, number):
        if number not in self._epochs:
            self._epochs[number] = self._network.subcontext("epoch")
        self._epochs[number].call_on_fit_task_begin(**self._network_data)

    def end_epoch(self, number, net):
        return self._epochs[number].call_on_fit_task_end(
            **self._network_data,
            reconstruction_attributes=lambda: self._attributes(net.snapshot()),
        )

    def end_network(self, net):
        if self._nested:
            self._network.call_on_fit_task_end(
                **self._network_data,
                reconstruction_attributes=lambda: self._attributes(net),
            )

    def end_fit(self, failed):
        if not failed:
            self._fit.call_on_fit_task_end(
                **self._fit_data, reconstruction_attributes={}
            )


class _Bar:
    """One bar per network, which says at its end why training ended; the last stays."""

    def begin_fit(self, plan, n_networks):
        self._n_networks, self._number, self._bar = n_networks, 0, None

    def begin_network(self, plan, max_epochs, attributes):
        self._number += 1
        several, last = self._n_networks > 1, self._number == self._n_networks
        name = f"network {self._number}/{self._n_networks}" if several else None
        self._bar = tqdm(total=max_epochs, desc=name, leave=last, bar_format=_FORMAT)

    def begin_epoch(self, number):
        self._bar.n = number

    def end_epoch(self, number, net):
        record = net.history[-1]
        losses = [f"{n}={record[n]:.4g}" for n in _LOSSES if n in record]
        self._bar.set_postfix_str(", ".join(losses), refresh=False)
        self._bar.update()

    def end_network(self, net):
        self._bar.n = self._bar.total = len(net.history)
        self._bar.set_postfix_str(_ending(net), refresh=False)
        self._bar.close()

    def end_fit(self, failed):
        if getattr(self, "_bar", None) is not None:
            self._bar.close()


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
