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

    Attributes
    ----------
    n_steps : int
        Steps taken since the average began.
    """

    def __init__(self, parameters, decay):
        self.parameters = parameters
        self.flat = nn.Parameter(
            torch.cat([p.detach().flatten() for p in parameters]), requires_grad=False
        )
        self._views(lambda p, piece: setattr(p, "data", piece), self.flat.data)
        self._decay = decay
        self._average = None
        self._frozen = []
        self.n_steps = 0

    def _views(self, assign, buffer):
        pieces = buffer.split([p.numel() for p in self.parameters])
        for p, piece in zip(self.parameters, pieces, strict=True):
            assign(p, piece.view_as(p))

    def attach_gradient(self):
        """Make all gradients views of one buffer too, and return the one parameter."""
        self.flat.grad = torch.zeros_like(self.flat)
        self._views(lambda p, piece: setattr(p, "grad", piece), self.flat.grad)
        return self.flat

    def zero_gradient(self, optimizer):
        """Forget the gradient; in place where it is a view, which must stay one."""
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
        """Begin the running average at the weights as they are."""
        self.n_steps = 0
        if self._decay > 0:
            self._average = self.flat.detach().clone()

    def after_step(self):
        """Count a step, and take the weights after it into the average.

        Its memory grows with the steps taken, up to ``decay``, so that it does not
        linger at the start.
        """
        self.n_steps += 1
        for weights, held in self._frozen:
            weights.copy_(held)
        if self._average is not None:
            decay = min(self._decay, self.n_steps / (self.n_steps + 10))
            self._average.lerp_(self.flat, 1 - decay)

    @contextmanager
    def averaged(self):
        """Let the model have the averaged weights for a while."""
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
