"""Fits that ask for networks to be trained, and the training of several at once.

A fit is a generator: it yields lists of `Training` and goes on when these are done. So
one fit, all members of an ensemble and all candidates of a search are written in the
same way, whether their networks are trained one after the other or as a stack.
"""

import math
from copy import deepcopy
from time import perf_counter

import torch

from .._data.source import Resident
from .._global_state import in_default_state
from .._gradient.flat_weights import FlatWeights
from .._gradient.stacked import StackedForm, parts_of, shape_of, stacked
from .batches import Batch
from .device import threads_for
from .net import OPTIMIZERS, lower_rate

__all__ = ["Training", "run", "together", "trained"]

# Numbers in the weights of a stack: 256 MiB, and with gradients, averages and the state
# of the optimiser five times as much. As many in the rows of an epoch.
_MAX_NUMBERS = 2**26
# Multiplications of a step from which a network is trained alone: the time that
# operations take to start is then a small part of it.
_LARGE = 2**25


class Training:
    """A net that a fit wants to be trained.

    Parameters
    ----------
    net : Net
        Initialised.
    data : Data
    epochs : int, default=None
    progress : NetworkProgress, default=None
    checkpoint : Checkpoint, default=None
        As `Net.training` takes them. With a checkpoint a net is trained alone.

    Attributes
    ----------
    work : int
        Approximate number of multiplications of a step.
    failure : Exception or None
        What ended it, when it is done.
    seconds : float
        Time that it took; of a stack, its share of it.
    n_together : int
        Number of networks in the stack, 1 if it was trained alone.
    is_for_itself : bool
        Whether it is to be trained alone.
    done : bool
    """

    def __init__(self, net, data, epochs=None, progress=None, checkpoint=None):
        self.net = net
        self.work = net.work(data)
        self.is_for_itself = self.work > _LARGE or checkpoint is not None
        self._epochs = net.training(data, epochs, progress, checkpoint)
        self.failure, self.seconds, self.n_together = None, 0.0, 1
        self.done = False

    def advance(self):
        """Go on to the next epoch, whose steps are then to be taken, or to the end."""
        begin = perf_counter()
        try:
            next(self._epochs)
        except StopIteration:
            self.done = True
        except Exception as failure:
            self.failure, self.done = failure, True
        self.seconds += perf_counter() - begin

    def finish(self):
        """Train to the end, alone."""
        begin = perf_counter()
        try:
            self.net.pass_once()
            for _ in self._epochs:
                self.net.pass_once()
        except Exception as failure:
            self.failure = failure
        self.done = True
        self.seconds += perf_counter() - begin


def run(fit):
    """Return the value of a fit, for which all networks are trained.

    Parameters
    ----------
    fit : generator
        Yields lists of `Training`.
    """
    try:
        trainings = next(fit)
        while True:
            try:
                _train(trainings)
            except BaseException as interrupt:
                # The fit has to restore what it has changed, now.
                trainings = fit.throw(interrupt)
            else:
                trainings = fit.send(None)
    except StopIteration as end:
        return end.value


def trained(*trainings):
    """Ask for trainings, as a part of a fit, and raise what made one of them fail."""
    yield list(trainings)
    for training in trainings:
        if training.failure is not None:
            raise training.failure


def together(fits):
    """Advance several fits at once, as a part of another one.

    Parameters
    ----------
    fits : iterable of generator
        Of which each yields lists of `Training`.

    Returns
    -------
    list
        Their values.
    """
    fits, values, asked = list(fits), {}, {}
    begun = dict.fromkeys(range(len(fits)))
    try:
        while begun:
            for i in begun:
                try:
                    asked[i] = next(fits[i])
                except StopIteration as end:
                    values[i] = end.value
            begun, asked = asked, {}
            if begun:
                yield [training for of_fit in begun.values() for training in of_fit]
    finally:
        # Those that have not ended restore what they have changed.
        for fit in fits:
            fit.close()
    return [values[i] for i in range(len(fits))]


@in_default_state
def _train(trainings):
    """Train nets: those of one shape as stacks, the others one after the other."""
    groups = {}
    for training in trainings:
        with threads_for(training.work):
            training.advance()
            alone = len(trainings) == 1 or training.is_for_itself
            key = None if training.done or alone else _key(training.net)
            if key is not None:
                groups.setdefault(key, []).append(training)
            elif not training.done:
                training.finish()
    for group in groups.values():
        nets = [training.net for training in group]
        n_numbers = max(net.weights_.flat.numel() for net in nets)
        n_numbers = max(n_numbers, math.prod(nets[0].batches_.rows.source.shape))
        size = max(1, _MAX_NUMBERS // n_numbers)
        # Equal rates side by side: the optimiser has one group for each.
        group.sort(key=lambda training: _rates(training.net))
        for start in range(0, len(group), size):
            _train_stack(group[start : start + size])


def _train_stack(trainings):
    """Train nets of one shape; if the stack fails, all of them fail."""
    try:
        _advance_stack(trainings)
    except Exception as failure:
        for training in trainings:
            if not training.done:
                training.failure, training.done = failure, True


def _advance_stack(trainings):
    n_together = len(trainings)
    for training in trainings:
        training.n_together = n_together
    with threads_for(trainings[0].work * n_together):
        stack = None
        while trainings:
            if len(trainings) == 1 and stack is None:
                trainings[0].finish()
                break
            begin = perf_counter()
            nets = [training.net for training in trainings]
            if stack is None or len(nets) < len(stack.nets):
                stack = _Stack(nets, stack)
            stack.pass_once()
            share = (perf_counter() - begin) / len(nets)
            for training in trainings:
                training.seconds += share
                n_divergences = len(training.net.divergences_)
                training.advance()
                if not training.done and len(training.net.divergences_) > n_divergences:
                    # It goes on with another learning rate and another average.
                    training.finish()
            trainings = [training for training in trainings if not training.done]


def _key(net):
    """Return what nets of one stack have in common; None if a net is trained alone."""
    shape = shape_of(net.module_)
    others = vars(net)
    if (
        shape is None
        or net.step_.name != StackedForm.name
        or net.callbacks
        or net.precision != "float32"
        or not isinstance(net.optimizer, str)
        or str(net.device) != "cpu"
    ):
        return None
    rows = net.batches_.rows
    if not isinstance(rows.source, Resident):
        return None  # the rows of an epoch may be too many
    if net.batches_.least_rows < 2:
        return None  # normalised as in inference, by what each epoch estimates anew
    batch = rows[:1]
    options = {n: v for n, v in others.items() if n.startswith("optimizer__")}
    for rate in ("optimizer__weight_decay", "optimizer__lr"):
        options.pop(rate, None)
    return (
        shape,
        (type(net), len(rows), net.batch_size, len(net.batches_), batch.x.shape[1]),
        tuple(part is None for part in batch),
        (net.optimizer, repr(sorted(options.items()))),
        (net.averaging, net.gradient_clip),
        net.n_planned_steps_ if net.lowers_rate else None,
    )


def _rates(net):
    """Return the learning rate and the weight decay of a net, as skorch finds them."""
    lr = getattr(net, "optimizer__lr", net.lr)
    return lr, getattr(net, "optimizer__weight_decay", 0.0)


class _Stack:
    """Nets whose weights are trained by the same operations.

    Each keeps its own order of rows, random draws, validation and selection: the stack
    only takes the steps, and gives every net its weights after each epoch.

    Parameters
    ----------
    nets : list of Net
        Each before an epoch, those with equal rates side by side.
    before : _Stack, default=None
        A stack that had these nets and others, whose optimiser goes on.
    """

    def __init__(self, nets, before=None):
        self.nets = nets
        modules = [net.module_ for net in nets]
        whole = stacked(modules)
        net = nets[0]
        trained = [p for p in whole.parameters() if p.requires_grad]
        self._weights = FlatWeights(trained, net.averaging, ndim=3)
        self._weights.attach_gradient()
        self._weights.start_average()
        self._weights.n_steps = net.weights_.n_steps
        # All numbers of the nets, and their places in the stack.
        self._own, self._joint = [], []
        each = zip(*(net.weights_.tensors() for net in nets), strict=True)
        for joint, values in zip(self._weights.tensors(), each, strict=True):
            self._own += values
            self._joint += parts_of(joint, values)
        torch._foreach_copy_(self._joint, self._own)
        self._form, self._no_draws = StackedForm(modules, whole), None
        self._gradients = [p.grad for p in self._weights.parameters]
        self._optimizer = self._make_optimizer(net)
        if before is not None:
            self._go_on_from(before)

    def _make_optimizer(self, net):
        """Return an optimiser with groups for each learning rate and weight decay."""
        cls, fused = OPTIMIZERS[net.optimizer]
        rates = [_rates(net) for net in self.nets]
        self._parts, groups = {}, []
        for rate in dict.fromkeys(rates):
            first = rates.index(rate)
            rows = slice(first, first + rates.count(rate))
            lr, weight_decay = rate
            # As in `FlatWeights.groups`, only weights of layers decay.
            rate = {"lr": lr, "weight_decay": weight_decay}
            decayed, others = {"params": [], **rate}, {"params": [], **rate}
            others["weight_decay"] = 0.0
            for number, p in enumerate(self._weights.parameters):
                part = torch.nn.Parameter(p.data[rows], requires_grad=False)
                part.grad = p.grad[rows]
                group = decayed if p.ndim >= 3 or not weight_decay else others
                group["params"].append(part)
                self._parts.setdefault(number, []).append((rows, part))
            groups += [group for group in (decayed, others) if group["params"]]
        _, options = net.get_params_for_optimizer("optimizer", [])
        return cls(groups, **options | ({"fused": True} if fused else {}))

    def _go_on_from(self, before):
        """Take over the state of the optimiser of another stack."""
        kept = [before.nets.index(net) for net in self.nets]
        for number, parts in self._parts.items():
            states = [before._optimizer.state[p] for _, p in before._parts[number]]
            for name, value in states[0].items():
                # One number for all networks, or one for each of theirs.
                of_each = isinstance(value, torch.Tensor) and value.ndim
                if of_each:
                    value = torch.cat([state[name] for state in states])[kept]
                for rows, p in parts:
                    own = value[rows] if of_each else deepcopy(value)
                    self._optimizer.state[p][name] = own

    def pass_once(self):
        """Take the steps of an epoch of all nets."""
        rows = self._shuffled()
        n_rows, total = rows.x.shape[1], torch.zeros(len(self.nets))
        for index in torch.arange(n_rows).tensor_split(len(self.nets[0].batches_)):
            part = slice(int(index[0]), int(index[-1]) + 1)
            batch = Batch(*(None if t is None else t[:, part] for t in rows))
            total.add_(self._step(batch), alpha=len(index))
        torch._foreach_copy_(self._own, self._joint)
        for net, loss in zip(self.nets, total.tolist(), strict=True):
            net.weights_.n_steps = self._weights.n_steps
            net.record_epoch("train_loss", loss / n_rows)

    def _shuffled(self):
        """Return all rows of the next pass, each net's in its own order."""
        rows = [net.batches_.shuffled() for net in self.nets]
        if any(each.input is not None for each in rows):
            rows = [each._replace(input=each.seen) for each in rows]
        parts = zip(*rows, strict=True)
        return Batch(*(None if p[0] is None else torch.stack(p) for p in parts))

    def _step(self, batch):
        draws = self._no_draws
        if draws is None:
            shape = batch.x.shape[1:]
            draws = [net.module_.draw(shape, net.generator_) for net in self.nets]
            if not any(draws):
                # Nothing is random in any step, which would take longer to ask again.
                self._no_draws = draws
        objectives, net = self._form(batch, draws), self.nets[0]
        if net.lowers_rate:
            lower_rate(self._optimizer, self._weights.n_steps / net.n_planned_steps_)
        if (max_norm := net.gradient_clip) is not None:
            self._clip_gradients(max_norm)
        self._optimizer.step()
        self._weights.after_step()
        return objectives

    def _clip_gradients(self, max_norm):
        """Scale the gradient of each net down to a norm, as torch does it for one."""
        norm = torch.linalg.vector_norm
        norms = norm(
            torch.stack([norm(g.flatten(1), dim=1) for g in self._gradients]), dim=0
        )
        factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        if (factors < 1).any():
            for gradient in self._gradients:
                gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
