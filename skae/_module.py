"""The model: the only place where the parts meet."""

from dataclasses import dataclass

import torch
from torch import nn

from ._component import Component, weakest

__all__ = ["Autoencoder", "Objective", "Parts"]


@dataclass(frozen=True)
class Parts:
    """The components of one model, with the plain ones where none was given."""

    architecture: Component
    bottleneck: Component
    loss: Component
    corruption: Component | None = None
    penalty: Component | None = None

    @property
    def symmetry(self):
        """What may be done to the code after training; see `weakest`."""
        if self.penalty is None:
            return self.bottleneck.symmetry
        return weakest(self.bottleneck.symmetry, self.penalty.symmetry)

    @property
    def guarded(self):
        """Whether something keeps a code wider than the data from being a copy."""
        return (
            self.corruption is not None
            or self.penalty is not None
            or self.bottleneck.guards
        )

    def build(self, n_features, n_components, seed):
        """Return a new `Autoencoder`, with weights drawn from ``seed``."""
        generator = torch.Generator().manual_seed(seed)
        width = self.bottleneck.encoder_width(n_components)
        encoder, decoder = self.architecture.build(
            n_features, width, n_components, generator
        )
        middle = self.bottleneck.build(n_components)
        return Autoencoder(
            encoder, middle, decoder, self.corruption, self.penalty
        ).float()


class Autoencoder(nn.Module):
    """Corruption, encoder, bottleneck, decoder and penalty, put together.

    Parameters
    ----------
    encoder, bottleneck, decoder : torch.nn.Module
        As built by an architecture and a bottleneck.
    corruption : Corruption or None
        What is done to the input in training.
    penalty : Penalty or None
        What shapes the code in training.

    Notes
    -----
    A built module may offer these hooks; each is called from one place, here.

    ``draw(n_rows, generator)``
        Draws what is random in one training step. What it returns comes back as
        the second argument of ``forward``; without a second argument the module
        is deterministic.
    ``start``
        Called once before training: ``bottleneck.start(statistics)`` returns the
        affine maps that encoder and decoder should start from, ``start(affine)``
        of a network makes it equal to one.
    ``after_step(progress)``
        Called after every step with the share of the planned steps done, for
        warm-ups, running averages and projections. In evaluation mode a module uses
        the final value of what it schedules.
    ``auxiliary(x, raw, code, decoder)``
        Of the bottleneck: a further price per row, in the training objective only.
    """

    def __init__(self, encoder, bottleneck, decoder, corruption=None, penalty=None):
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.corruption = corruption
        self.penalty = penalty

    def draw(self, shape, generator):
        """Draw all that is random in one pass over a batch of this shape."""
        draws = {
            name: module.draw(shape[0], generator)
            for name, module in self.named_children()
            if hasattr(module, "draw")
        }
        for name in ("corruption", "penalty"):
            part = getattr(self, name)
            if part is not None:
                draws[name] = part.draw(shape, generator)
        return draws

    def forward(self, x, draws=None):
        """Pass rows through the model.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Clean rows, scaled.
        draws : dict or None
            What `draw` returned: with it the pass is that of the training
            objective, corrupted and penalised; without, it is plain inference.

        Returns
        -------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder; the loss has the link to the data.
        code : Tensor of shape (n_samples, n_components)
        cost : Tensor of shape (n_samples,)
            Price per row, to be added to the loss. (A plain tuple: skorch cannot
            move a named one to a device.)
        """
        if draws is None:
            code, cost = self._encode(x, {})
            return self.decoder(code), code, cost
        if self.corruption is not None:
            x = self.corruption(x, draws["corruption"])
        code, cost = self._encode(x, draws)
        raw = _call(self.decoder, code, draws.get("decoder"))
        if self.penalty is not None:
            cost = cost + self.penalty.per_sample(
                x, code, lambda x: self._encode(x, draws)[0], draws["penalty"]
            )
        if hasattr(self.bottleneck, "auxiliary"):
            cost = cost + self.bottleneck.auxiliary(x, raw, code, self.decoder)
        return raw, code, cost

    def _encode(self, x, draws):
        h = _call(self.encoder, x, draws.get("encoder"))
        return _call(self.bottleneck, h, draws.get("bottleneck"))

    def encode(self, x):
        """Return the code of rows, in inference."""
        return self._encode(x, {})[0]

    def start(self, statistics, loss):
        """Set the weights before training from what is known of the rows.

        Parameters
        ----------
        statistics : Statistics
            Of the scaled training rows.
        loss : Loss
            Has the link between the decoder and the data.

        Returns
        -------
        bool
            Whether the whole model was set, so that it is one worth keeping before
            its first step.
        """
        if not hasattr(self.bottleneck, "start"):
            return False
        encoding, reconstruction = self.bottleneck.start(statistics)
        starts = (
            (self.encoder, encoding),
            (self.decoder, loss.start(reconstruction)),
        )
        for network, affine in starts:
            if hasattr(network, "start"):
                network.start(affine)
        return all(hasattr(network, "start") for network, _ in starts)

    def after_step(self, progress):
        """Tell the modules that listen that a step was taken."""
        for module in self.children():
            if hasattr(module, "after_step"):
                module.after_step(progress)


def _call(module, x, draw):
    return module(x) if draw is None else module(x, draw)


class Objective(nn.Module):
    """What training minimises: weighted mean over rows, plus the price of the batch.

    Parameters
    ----------
    loss : Loss
        Distance between a row and its reconstruction.
    penalty : Penalty or None
        Only its price of the batch counts here; the price per row is part of the
        model's ``cost``.
    """

    def __init__(self, loss, penalty=None):
        super().__init__()
        self.loss = loss
        self.penalty = penalty

    def forward(self, output, x, weight=None):
        """Return the objective of a batch, shape ``()``.

        Weights have mean one over the *training rows*, and the mean is over the
        rows of the batch: its expectation over batches is then the weighted mean
        over all rows, which dividing by the batch's own weight would not give.
        """
        terms = self.per_sample(output, x)
        mean = terms.mean() if weight is None else (terms * weight).mean()
        return mean + self.per_batch(output, weight)

    def per_sample(self, output, x):
        """Return the terms that belong to one row each, shape ``(n_samples,)``."""
        raw, _, cost = output
        return self.loss(raw, x) + cost

    def per_batch(self, output, weight=None):
        """Return the price of the batch as a whole, shape ``()``."""
        if self.penalty is None:
            return 0.0
        _, code, _ = output
        return self.penalty.per_batch(code, weight)
