"""The weights of a model in one buffer while it is trained."""

from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["FlatWeights"]


class FlatWeights:
    """All parameters as views of one buffer, with a running average of it.

    An optimiser that treats each number alone then takes its step in one kernel
    instead of several per parameter: on small networks that is half the time of a
    step. Averaging costs one kernel too.

    Parameters
    ----------
    parameters : list of torch.nn.Parameter
        Of one dtype on one device; their data is moved into the buffer.
    decay : float
        Weight of the past in the running average, per step; 0 for no average.
    ndim : int, default=2
        Least number of axes of the weights of layers; one more for those of a stack.

    Attributes
    ----------
    n_steps : int
        Steps taken since the average began.
    """

    def __init__(self, parameters, decay, ndim=2):
        # Weights of layers first, the others (biases, norms, variances) last: weight
        # decay is for the first part of the buffer only.
        weights = [p for p in parameters if p.ndim >= ndim]
        self._n_weights = sum(p.numel() for p in weights)
        self.parameters = weights + [p for p in parameters if p.ndim < ndim]
        pieces = [p.detach().flatten() for p in self.parameters]
        self.flat = nn.Parameter(
            torch.cat(pieces) if pieces else torch.zeros(0), requires_grad=False
        )
        self._views = self._pieces(self.flat.data)
        self._gradients = None
        self._decay = decay
        self._average = None
        self._frozen = []
        self.n_steps = 0
        self.bind()

    def _pieces(self, buffer):
        pieces = buffer.split([p.numel() for p in self.parameters])
        return [
            piece.view_as(p) for p, piece in zip(self.parameters, pieces, strict=True)
        ]

    def attach_gradient(self):
        """Make all gradients views of one buffer too."""
        self.flat.grad = torch.zeros_like(self.flat)
        self._gradients = self._pieces(self.flat.grad)
        self.bind()

    def groups(self, named, weight_decay):
        """Return the groups of named parameters; only the first is to be decayed.

        Parameters
        ----------
        named : list of tuple of (str, Parameter) or None
            None is the flat buffer.
        weight_decay : float
            Where it is 0, the parameters need no groups.
        """
        if not weight_decay:
            return [named or [("flat", self.flat)]]
        if named is not None:
            return [
                [(name, p) for name, p in named if p.ndim >= 2],
                [(name, p) for name, p in named if p.ndim < 2],
            ]
        n = self._n_weights
        groups = []
        for name, part in ("weights", slice(n)), ("others", slice(n, None)):
            piece = nn.Parameter(self.flat.data[part], requires_grad=False)
            piece.grad = self.flat.grad[part]
            groups.append([(name, piece)])
        return groups

    def bind(self):
        """Make parameters and gradients views of the buffers, if they are not.

        A callback may have replaced ``p.data``, or ``p.grad`` by
        ``module.zero_grad()``: what it wrote is taken over.
        """
        for p, view in zip(self.parameters, self._views, strict=True):
            if p.data_ptr() != view.data_ptr():
                view.copy_(p.data)
                p.data = view
        if self._gradients is None:
            return
        for p, view in zip(self.parameters, self._gradients, strict=True):
            if p.grad is not view:
                if p.grad is None:
                    view.zero_()
                else:
                    view.copy_(p.grad)
                p.grad = view

    def zero_gradient(self, optimizer):
        """Set the gradient to zero, in place where it is a view of the buffer."""
        if self.flat.grad is None:
            optimizer.zero_grad()
        else:
            self.flat.grad.zero_()

    def clip_gradient(self, max_norm):
        """Scale the gradient of all weights together down to a norm."""
        clipped = self.parameters if self.flat.grad is None else [self.flat]
        nn.utils.clip_grad_norm_(clipped, max_norm)

    def hold_frozen(self):
        """Let parameters that are no longer to be trained stay as they are.

        The optimiser does not know of them: momentum would carry them on.
        """
        frozen = [p for p in self.parameters if not p.requires_grad]
        self._frozen = [(p.data, p.detach().clone()) for p in frozen]

    def start_average(self):
        """Begin the running average at the current weights."""
        self.n_steps = 0
        if self._decay > 0:
            self._average = self.flat.detach().clone()

    def resume(self, average, n_steps):
        """Go on with a running average, a Tensor or None, after so many steps."""
        self.start_average()
        self.n_steps = n_steps
        if self._average is not None and average is not None:
            self._average.copy_(average)

    @property
    def average(self):
        """The running average, a Tensor, or None."""
        return self._average

    @property
    def buffers(self):
        """The weights and, if there is one, their running average."""
        average = [] if self._average is None else [self._average]
        return [self.flat.data, *average]

    def settle(self):
        """Replace the weights by their running average."""
        if self._average is not None:
            self.flat.copy_(self._average)

    def state_dict(self):
        """Return weights, average and number of steps, not copied."""
        average = self._average
        return {"flat": self.flat.data, "average": average, "n_steps": self.n_steps}

    def load_state_dict(self, state):
        """Go on from a state."""
        self.flat.data.copy_(state["flat"])
        self.resume(state["average"], state["n_steps"])

    def after_step(self):
        """Count a step, and take the weights after it into the average.

        The weight of the past grows with the steps taken, up to ``decay``, so that the
        average does not linger at the initial weights.
        """
        self.n_steps += 1
        for weights, held in self._frozen:
            weights.copy_(held)
        if self._average is not None:
            decay = min(self._decay, self.n_steps / (self.n_steps + 10))
            self._average.lerp_(self.flat, 1 - decay)

    def tensors(self):
        """Return views of all parameters, then of all their averages, if there are."""
        averages = [] if self._average is None else self._pieces(self._average)
        return [*self._views, *averages]

    @contextmanager
    def averaged(self):
        """Swap in the averaged weights; the trained ones are restored on exit."""
        if self._average is None:
            yield
            return
        trained = self.flat.detach().clone()
        self.flat.copy_(self._average)
        try:
            yield
        finally:
            self.flat.copy_(trained)

    def release(self):
        """Give every parameter memory of its own again, and no gradient."""
        for p in self.parameters:
            p.data = p.data.clone()
            p.grad = None
