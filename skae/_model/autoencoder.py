"""The model: the only place where the parts meet."""

from dataclasses import dataclass, fields
from math import isfinite

import torch
from torch import nn

from .._component import Affine, Component, weakest

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

    def check(self):
        """Check the parts alone and together.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not accepted, or the penalty does not suit the code.
        """
        for part in (getattr(self, field.name) for field in fields(self)):
            if part is not None:
                part.validate()
        if self.penalty is None:
            return
        (low, high), (least, most) = (
            self.penalty.code_domain,
            self.bottleneck.code_range,
        )
        if least < low or most > high:
            raise ValueError(
                f"penalty={self.penalty!r} is for codes in [{low}, {high}], but "
                f"bottleneck={self.bottleneck!r} gives codes in [{least}, {most}]. "
                "Plain(activation='sigmoid'), for one, gives codes in [0, 1]."
            )

    @property
    def guarded(self):
        """Whether something keeps a code wider than the data from being a copy."""
        return (
            self.corruption is not None
            or self.penalty is not None
            or self.bottleneck.guards
        )

    @property
    def plain(self):
        """Whether only its networks distinguish the model from PCA."""
        return (
            not self.guarded
            and self.bottleneck.symmetry == "rotation"
            and not any(map(isfinite, self.loss.domain))
        )

    def build(self, n_features, n_components, seed):
        """Return a new `Autoencoder`, with weights drawn from ``seed``."""
        generator = torch.Generator().manual_seed(seed)
        width = self.bottleneck.encoder_width(n_components)
        encoder, decoder = self.architecture.build(
            n_features, width, n_components, generator
        )
        middle = self.bottleneck.build(n_components, generator)
        module = Autoencoder(
            encoder, middle, decoder, self.loss, self.corruption, self.penalty
        )
        if any(map(isfinite, self.loss.domain)):
            module.standardize_input(n_features)
        return module.float()


class Autoencoder(nn.Module):
    """Corruption, encoder, bottleneck, decoder, penalty and loss, put together.

    Parameters
    ----------
    encoder, bottleneck, decoder : torch.nn.Module
        As built by an architecture and a bottleneck.
    loss : Loss
        Distance between a row and its reconstruction.
    corruption : Corruption or None
        What is done to the input in training.
    penalty : Penalty or None
        What shapes the code in training.

    Notes
    -----
    A built module may offer these hooks; each is called from one place, here.

    ``draw(n_rows, generator)``
        Draws what is random in one training step. What it returns comes back as
        the second argument of ``forward``; without a second argument, or if it is
        None, the module is deterministic.
    ``start``
        Called once before training: ``bottleneck.start(statistics)`` returns the
        affine maps that encoder and decoder should start from, each a pair of
        ``weight`` and ``bias`` as :class:`torch.nn.Linear` has them, and
        ``start(affine)`` of a network makes it equal to one.
    ``observe``
        Called after every step, to learn by other ways than a gradient what belongs
        to the state: ``bottleneck.observe(h, code, draw, weight)`` with what entered
        and left it and the sample weights or None, ``observe(x, draw)`` of a network.
        A forward pass only computes.
    ``after_step(progress)``
        Called after that with the share of the planned steps done, for warm-ups and
        windows. In evaluation mode a module uses the final value of what it schedules;
        while it has a true ``warming``, epochs without a gain do not count.

    Of the bottleneck alone:

    ``likelihood(loss, n_features, degree)``
        Turns the loss of rows into what it counts in the objective.
    ``auxiliary(x, reconstruction, h, code, decode)``
        A further price per row, in the training objective only; ``decode`` maps as many
        codes to the decoder's output, with its draw held fixed.
    ``prior(n_rows, generator)``
        Draws codes that the decoder was trained for.
    ``project(code)``
        Returns the nearest possible codes.
    ``symbols(h)``
        Returns integers that name a discrete code, shape ``(n_samples, n_symbols)``.
    ``codes(symbols)``, ``symbols_shape``
        Returns the codes that they name; how many there are in a row, and of how many
        values each is.
    ``report(code, weight)``
        Returns fitted attributes of the estimator by name, from the codes of the
        training rows and their weights, which sum to one.
    """

    def __init__(
        self, encoder, bottleneck, decoder, loss, corruption=None, penalty=None
    ):
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.loss = loss
        self.corruption = corruption
        self.penalty = penalty
        self.register_buffer("center", None)
        self.register_buffer("spread", None)
        # Asked once: in every step it would take longer than a layer does.
        self._drawing = [n for n, m in self.named_children() if hasattr(m, "draw")]

    def standardize_input(self, n_features):
        """Let the encoder see rows centred and divided by one number.

        For losses whose data must not be scaled: counts would saturate a network.
        """
        self.center, self.spread = torch.zeros(n_features), torch.ones(())

    def draw(self, shape, generator):
        """Draw all that is random in one pass over a batch of this shape."""
        draws = {}
        for name in self._drawing:
            draw = getattr(self, name).draw(shape[0], generator)
            if draw is not None:
                draws[name] = draw
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
        terms : Tensor of shape (n_samples,)
            What each row adds to the objective: its loss and the price of its code.
        h : Tensor of shape (n_samples, encoder_width)
            What the bottleneck made the code of. (A plain tuple: skorch cannot move a
            named one to a device.)
        """
        training = draws is not None
        draws = draws or {}
        seen = x
        if training and self.corruption is not None:
            seen = self.corruption(x, draws["corruption"])
        h = self._encode(seen, draws)
        code, terms = _call(self.bottleneck, h, draws.get("bottleneck"))
        raw = self._decode(code, draws)
        loss = self.loss(raw, x)
        if hasattr(self.bottleneck, "likelihood"):
            loss = self.bottleneck.likelihood(loss, x.shape[1], self.loss.degree)
        terms = terms + loss
        if training and self.penalty is not None:
            terms = terms + self.penalty.per_sample(
                seen, code, lambda x: self._code(x, draws), draws["penalty"]
            )
        if training and hasattr(self.bottleneck, "auxiliary"):
            reconstruction = self.loss.inverse_link(raw)
            terms = terms + self.bottleneck.auxiliary(
                x,
                reconstruction,
                h,
                code,
                lambda code: self._decode(code, draws),
            )
        return raw, code, terms, h

    def _standardized(self, x):
        return x if self.center is None else (x - self.center) / self.spread

    # What the networks return has the precision of the rows, if not of the networks:
    # half of it is enough for their products, not for what comes after.

    def _encode(self, x, draws):
        h = _call(self.encoder, self._standardized(x), draws.get("encoder"))
        return h.to(x.dtype)

    def _decode(self, code, draws):
        return _call(self.decoder, code, draws.get("decoder")).to(code.dtype)

    def _code(self, x, draws):
        h = self._encode(x, draws)
        code, _ = _call(self.bottleneck, h, draws.get("bottleneck"))
        return code

    def encode(self, x):
        """Return the code of rows, in inference."""
        return self._code(x, {})

    def symbols(self, x):
        """Return the integers that name the discrete code of rows."""
        return self.bottleneck.symbols(self._encode(x, {}))

    def reconstruct(self, x):
        """Return rows as the decoder gives them back, in inference."""
        return self.loss.inverse_link(self.decoder(self.encode(x)))

    def start(self, statistics):
        """Set the weights before training from what is known of the rows.

        Parameters
        ----------
        statistics : Statistics
            Of the scaled training rows.

        Returns
        -------
        bool
            Whether the whole model was set, so that it is one worth keeping before
            its first step.
        """
        if self.center is not None:
            self.center.copy_(statistics.mean)
            spread = (statistics.rows - statistics.mean).square().mean().sqrt()
            self.spread.fill_(spread if spread > 0 else 1.0)
        if not hasattr(self.bottleneck, "start"):
            return False
        encoding, reconstruction = (
            Affine(*pair) for pair in self.bottleneck.start(statistics)
        )
        if self.center is not None:
            weight, bias = encoding
            center, spread = self.center.to(weight), self.spread.to(weight)
            encoding = Affine(weight * spread, bias + weight @ center)
        starts = (
            (self.encoder, encoding),
            (self.decoder, self.loss.start(reconstruction)),
        )
        for network, affine in starts:
            if hasattr(network, "start"):
                network.start(affine)
        return all(hasattr(network, "start") for network, _ in starts)

    @property
    def warming(self):
        """Whether some schedule has not come to its end."""
        return any(getattr(module, "warming", False) for module in self.children())

    @property
    def listens(self):
        """Whether some module wants to be told of the steps."""
        return any(
            getattr(module, hook, None) is not None
            for module in self.children()
            for hook in ("observe", "after_step")
        )

    @torch.no_grad()
    def after_step(self, progress, x, draws, output, weight=None):
        """Tell the modules that listen that a step was taken.

        Parameters
        ----------
        progress : float
            Share of the planned steps done, in (0, 1].
        x, draws, output
            Of the step: what `forward` got and returned.
        weight : Tensor of shape (n_samples,) or None
            Sample weights.
        """
        _, code, _, h = output
        if getattr(self.encoder, "observe", None) is not None:
            seen = x
            if self.corruption is not None:
                seen = self.corruption(x, draws["corruption"])
            self.encoder.observe(self._standardized(seen), draws.get("encoder"))
        if hasattr(self.bottleneck, "observe"):
            self.bottleneck.observe(h, code, draws.get("bottleneck"), weight)
        if getattr(self.decoder, "observe", None) is not None:
            self.decoder.observe(code, draws.get("decoder"))
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
        Only says here which rows it trusts; the loss of a row is part of the model's
        ``terms``.
    penalty : Penalty or None
        Only its price of the batch counts here; the price per row is part of the
        model's ``terms``.
    """

    def __init__(self, loss, penalty=None):
        super().__init__()
        self.loss = loss
        self.penalty = penalty

    def forward(self, output, weight=None):
        """Return the objective of a batch, shape ``()``.

        Weights have mean one over the *training rows*, and the mean is over the
        rows of the batch: its expectation over batches is then the weighted mean
        over all rows, which dividing by the batch's own weight would not give.
        """
        terms = self.per_sample(output, weight)
        mean = terms.mean() if weight is None else (terms * weight).mean()
        # On a small table the time of a step is that of starting its operations: none
        # here that adds nothing.
        return mean if self.penalty is None else mean + self.per_batch(output, weight)

    def per_sample(self, output, weight=None):
        """Return the terms that belong to one row each, shape ``(n_samples,)``."""
        _, _, terms, _ = output
        return self.loss.trusted(terms, weight)

    def per_batch(self, output, weight=None):
        """Return the price of the batch as a whole, shape ``()``."""
        if self.penalty is None:
            return 0.0
        _, code, _, _ = output
        return self.penalty.per_batch(code, weight)
