"""Who is told how far a fit is: callbacks of scikit-learn, and a bar."""

from tqdm.auto import tqdm

from .._compat.sklearn import CALLBACK_STATE

__all__ = ["Progress", "callback_state"]


def callback_state(estimator):
    """Return the attributes by which scikit-learn ends the callbacks of a fit."""
    return {
        name: vars(estimator)[name]
        for name in CALLBACK_STATE
        if name in vars(estimator)
    }


class Progress:
    """Tells whoever wants to know how far a fit is.

    A fit is a number of networks, trained one after the other, each for a number of
    epochs. Training that begins anew, with smaller batches, is the same network, and
    its epochs are the same ones. As a context it is the end of the fit.

    Parameters
    ----------
    estimator : BaseAutoencoder, default=None
        Which has callbacks, or wants a bar. By default nobody is told.
    """

    def __init__(self, estimator=None):
        self._listeners = []
        if estimator is not None and estimator.verbose:
            self._listeners.append(_Bar())
        if hasattr(estimator, "_skl_callbacks"):
            self._listeners.append(_Callbacks(estimator))

    def begin_fit(self, training, n_networks):
        """Say how many networks there will be, and of what."""
        for listener in self._listeners:
            listener.begin_fit(training, n_networks)

    def begin_network(self, training, max_epochs, attributes):
        """Say that the next network is at its start.

        Parameters
        ----------
        training : Training
        max_epochs : int
        attributes : callable
            From a net to the fitted attributes of an estimator with that network.
        """
        for listener in self._listeners:
            listener.begin_network(training, max_epochs, attributes)

    def begin_epoch(self, number):
        """Say that an epoch begins, counted from 0."""
        for listener in self._listeners:
            listener.begin_epoch(number)

    def end_epoch(self, number, net):
        """Say that an epoch has ended; return whether somebody wants no more."""
        # Everyone hears of it, whoever wants it to be the last.
        answers = [listener.end_epoch(number, net) for listener in self._listeners]
        return any(answers)

    def end_network(self, net):
        """Say that a net has the weights to keep."""
        for listener in self._listeners:
            listener.end_network(net)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        for listener in self._listeners:
            listener.end_fit(failed=failure is not None)


class _Callbacks:
    """The tasks of a fit, as callbacks of scikit-learn hear of them.

    Epochs are tasks below the fit where that is one network, else below one task per
    network. What an autoencoder is trained to return is ``X``, which is their ``y``:
    ``ScoringMonitor`` would not score without.
    """

    def __init__(self, estimator):
        self._estimator = estimator

    def begin_fit(self, training, n_networks):
        self._nested = n_networks > 1
        self._fit = self._estimator._init_callback_context(
            max_subtasks=n_networks if self._nested else training.max_epochs
        )
        self._fit_data = self._data(training)
        self._fit.call_on_fit_task_begin(**self._fit_data)

    def _data(self, training):
        weight = training.weight
        return {
            "estimator": self._estimator,
            "X": training.X,
            "y": training.X,
            "metadata": None if weight is None else {"sample_weight": weight},
        }

    def begin_network(self, training, max_epochs, attributes):
        self._attributes, self._epochs = attributes, []
        self._network, self._network_data = self._fit, self._data(training)
        if self._nested:
            self._network = self._fit.subcontext("network", max_subtasks=max_epochs)
            self._network.call_on_fit_task_begin(**self._network_data)

    def begin_epoch(self, number):
        if number == len(self._epochs):
            self._epochs.append(self._network.subcontext("epoch"))
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
    """One bar for all networks of a fit.

    Its total is the most epochs there can be; what a network leaves over is taken off
    when it ends, so that the bar is full in the end.
    """

    def begin_fit(self, training, n_networks):
        self._left = self._n_networks = n_networks
        self._done = 0  # epochs of the networks that have ended
        self._bar = tqdm(total=n_networks * training.max_epochs, bar_format=_FORMAT)

    def begin_network(self, training, max_epochs, attributes):
        self._max_epochs = max_epochs
        self._bar.total = self._done + self._left * max_epochs
        if self._n_networks > 1:
            number = self._n_networks - self._left + 1
            self._bar.set_description(f"network {number}/{self._n_networks}", False)

    def begin_epoch(self, number):
        self._bar.n = self._done + number

    def end_epoch(self, number, net):
        record = net.history[-1]
        losses = [f"{n}={record[n]:.4g}" for n in _LOSSES if n in record]
        # Beside the number of the network there is room for the one that judges.
        shown = losses if self._n_networks == 1 else losses[-1:]
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
        self._bar.update()

    def end_network(self, net):
        self._done += len(net.history)
        self._left -= 1
        self._bar.n = self._done
        self._bar.total = self._done + self._left * self._max_epochs
        self._bar.set_postfix_str(_ending(net), refresh=False)

    def end_fit(self, failed):
        if not hasattr(self, "_bar"):
            return
        if not failed and self._n_networks > 1:
            self._bar.set_description(f"{self._n_networks} networks", refresh=False)
            self._bar.set_postfix_str("", refresh=False)
        self._bar.close()


_LOSSES = ("train_loss", "valid_loss")
_FORMAT = (
    "{desc}{percentage:3.0f}%|{bar}| epoch {n_fmt}/{total_fmt} "
    "[{elapsed}<{remaining}{postfix}]"
)


def _ending(net):
    """Return the loss of the weights that a net kept, and why it was trained no more.

    As short as it can be: all of it is to fit into a line of 80 characters.
    """
    if len(net.history) == 0:
        return "kept the start"
    since = f"since epoch {net.best_epoch_}" if net.best_epoch_ else "over the start"
    why = {
        "no gain": f"no gain {since}",
        "diverged": "loss not finite",
        "callback": "stopped by a callback",
        "max_epochs": "",
    }[net.stop_reason_]
    name = _LOSSES["valid_loss" in net.history[-1]]
    return f"{name}={net.best_loss_:.4g}" + (f", {why}" if why else "")
