"""The autoencoder: where the components of a model meet."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from math import isfinite

import torch
from torch import nn

from .._component import Affine, Component, weakest
from .._data.affine import AffineMap
from ..architectures import MLP
from ..architectures._networks import BatchNorm
from ..bottlenecks import Plain
from ..losses import SquaredError
from .portable import Portable

__all__ = ["Autoencoder", "Objective", "Parts"]

# Rows to which a link is fitted, and numbers in them where there are more columns than
# a few thousand.
_MIN_LINK_ROWS = 256
_MAX_LINK_ENTRIES = 2**22


@dataclass(frozen=True)
class Parts:
    """The components of one model, with the plain ones where none was given."""

    architecture: Component
    bottleneck: Component
    loss: Component
    corruption: Component | None = None
    penalty: Component | None = None

    @classmethod
    def of(cls, architecture=None, bottleneck=None, loss=None, **others):
        """Return the components; None stands for the plain one."""
        if architecture is None:
            architecture = MLP()
            # Parameters are checked by `fit` only.
            if getattr(bottleneck, "nested", False):
                # From random weights large sizes may stay worse than PCA.
                # Compared in tests/benchmarks/bench_nested.py.
                architecture = MLP(activation="elu", norm=None, start="pca")
        return cls(
            architecture=architecture,
            bottleneck=Plain() if bottleneck is None else bottleneck,
            loss=SquaredError() if loss is None else loss,
            **others,
        )

    @property
    def symmetry(self):
        """Which affine maps of the code are allowed after training; see `weakest`."""
        if self.penalty is None:
            return self.bottleneck.symmetry
        return weakest(self.bottleneck.symmetry, self.penalty.symmetry)

    def check(self):
        """Check the parameters of the components, and that they go together.

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
                "For example, Plain(activation='sigmoid') gives codes in [0, 1]."
            )

    @property
    def has_bounded_loss(self):
        """Whether the loss takes data of a part of the real line only, unscaled."""
        return any(map(isfinite, self.loss.domain))

    @property
    def is_regularized(self):
        """Whether an overcomplete code is kept from being a copy of the data."""
        return (
            self.corruption is not None
            or self.penalty is not None
            or self.bottleneck.guards
        )

    @property
    def is_plain(self):
        """Whether the model differs from PCA by its networks only."""
        return not self.is_regularized and self.has_pca_start

    @property
    def has_dense_code(self):
        """Whether the code is of the kind of PCA's, neither sparse nor of symbols."""
        return self.bottleneck.symmetry in ("rotation", "triangular", "permutation")

    @property
    def has_pca_start(self):
        """Whether the start of bottleneck and loss, if the networks have it, is PCA."""
        of_pca = self.bottleneck.symmetry in ("rotation", "triangular")
        return of_pca and not self.has_bounded_loss

    def build(self, n_features, n_components, seed):
        """Return a new `Autoencoder`, with weights drawn from ``seed``."""
        generator = torch.Generator().manual_seed(seed)
        width = self.bottleneck.encoder_width(n_components)
        n_inputs = self.bottleneck.decoder_width(n_components)
        encoder, decoder = self.architecture.build(
            n_features, width, n_inputs, generator
        )
        bottleneck = self.bottleneck.build(n_components, generator)
        standardization = None
        if self.has_bounded_loss:
            # Counts, which must not be scaled, would saturate the encoder.
            standardization = AffineMap.identity(n_features)
        module = Autoencoder(
            encoder,
            bottleneck,
            decoder,
            self.loss,
            self.corruption,
            self.penalty,
            standardization,
            self.loss.build(n_features),
        )
        return module.float()


class Autoencoder(Portable):
    """Corruption, encoder, bottleneck, decoder, penalty and loss, put together.

    The hooks that built modules may have (``draw``, ``start``, ``observe``,
    ``after_step``, ``warming`` and those of bottlenecks) are documented in
    :class:`skae.architectures.Architecture` and :class:`skae.bottlenecks.Bottleneck`.
    Each is called from one place, here.

    Parameters
    ----------
    encoder, bottleneck, decoder : torch.nn.Module
        As built by an architecture and a bottleneck.
    loss : Loss
        Distance between a row and its reconstruction.
    corruption : Corruption or None
        Applied to the input in training.
    penalty : Penalty or None
        Cost of the code in training.
    standardization : AffineMap or None
        Applied to rows before the encoder, where the data are not scaled.
    link : torch.nn.Module or None
        Applied to the output of the decoder; as built by the loss.
    """

    def __init__(
        self,
        encoder,
        bottleneck,
        decoder,
        loss,
        corruption=None,
        penalty=None,
        standardization=None,
        link=None,
    ):
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.loss = loss
        self.corruption = corruption
        self.penalty = penalty
        self.standardization = standardization
        self.link = link
        # Looked up once: in every step it would take longer than a layer does.
        self._drawing = [n for n, m in self.named_children() if hasattr(m, "draw")]

    def draw(self, shape, generator):
        """Draw everything random in one pass over a batch of this shape.

        Returns
        -------
        dict
            What each part drew, by the name of the part.
        """
        draws = {}
        for name in self._drawing:
            draw = getattr(self, name).draw(shape[0], generator)
            if draw is not None:
                draws[name] = draw
        if self.corruption is not None:
            draws["corruption"] = self._draw_corruption(shape, generator)
        if self.penalty is not None:
            draws["penalty"] = self.penalty.draw(shape, generator)
        return draws

    def _draw_corruption(self, shape, generator):
        blocks = self.loss.blocks
        if blocks is None or not self.corruption.replaces_cells:
            return self.corruption.draw(shape, generator)
        drawn = self.corruption.draw((shape[0], blocks.n_features), generator)
        return blocks.repeated(drawn)

    def forward(self, x, draws=None, mask=None, input=None, networks=None):
        """Pass rows through the model.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Clean rows, scaled.
        draws : dict, default=None
            What `draw` returned: with it the pass is that of the training objective,
            corrupted and penalised; without, it is plain inference.
        mask : Tensor of bool of shape (n_samples, n_features), default=None
            Which entries are known and count in the loss. None is all of them.
        input : Tensor of shape (n_samples, n_features), default=None
            Rows to reconstruct ``x`` from. None is ``x``.
        networks : tuple of (callable, callable), default=None
            Functions that compute what encoder and decoder do. None is these. Penalty
            and auxiliary term, which may need more than a first derivative, always use
            these.

        Returns
        -------
        raw : Tensor of shape (n_samples, n_features)
            Output of the decoder and the link, before the inverse link of the loss.
        code : Tensor of shape (n_samples, n_components)
        terms : Tensor of shape (n_samples,)
            Terms of the objective: loss and cost of the code of each row.
        h : Tensor of shape (n_samples, encoder_width)
            Output of the encoder. (A plain tuple: skorch cannot move a named one to a
            device.)
        """
        training = draws is not None
        seen = x if input is None else input
        if training:
            seen = self.corrupted(seen, draws)
        draws = draws or {}
        encoder, decoder = networks or (self.encoder, self.decoder)
        h = self._encode(seen, draws, encoder)
        code, terms = _call(self.bottleneck, h, draws.get("bottleneck"))
        raw = self._decode(code, draws, decoder)
        loss = self.loss(raw, x) if mask is None else self.loss(raw, x, mask)
        if hasattr(self.bottleneck, "likelihood"):
            n_known = x.shape[1] if mask is None else mask.sum(dim=1)
            loss = self.bottleneck.likelihood(loss, n_known, self.loss.degree)
        terms = terms + loss
        if training and self.penalty is not None:

            def encode(x):
                # Row by row: the statistics of a batch are not of one row. In single
                # precision: torch has no forward derivative of layer norms in another.
                precise = torch.autocast(x.device.type, enabled=False)
                with precise, self._norms("constant"):
                    return self._code(x, draws)

            terms = terms + self.penalty.per_sample(
                seen, code, encode, draws["penalty"]
            )
        if training and hasattr(self.bottleneck, "auxiliary"):
            reconstruction = self.loss.inverse_link(raw)
            terms = terms + self.bottleneck.auxiliary(
                x,
                reconstruction,
                h,
                code,
                lambda code: self._decode(code, draws, self.decoder),
            )
        return raw, code, terms, h

    def corrupted(self, x, draws):
        """Return what the encoder sees of rows in training."""
        if self.corruption is None:
            return x
        return self.corruption(x, draws["corruption"])

    def _standardized(self, x):
        return x if self.standardization is None else self.standardization(x)

    # What the networks return is cast to the dtype of the rows: half precision is
    # enough for their products, not for sums of losses.

    def _encode(self, x, draws, encoder):
        h = _call(encoder, self._standardized(x), draws.get("encoder"))
        return h.to(x.dtype)

    def _decode(self, code, draws, decoder):
        draw = draws.get("decoder")
        output = _call(decoder, self.expanded(code), draw).to(code.dtype)
        return output if self.link is None else self.link(output)

    @property
    def is_nested(self):
        """Whether the first components of a code are a code, too."""
        return hasattr(self.bottleneck, "truncate")

    def expanded(self, code):
        """Return the input of the decoder for codes."""
        expand = _hook(self.bottleneck, "expand")
        return code if expand is None else expand(code)

    def _code(self, x, draws):
        h = self._encode(x, draws, self.encoder)
        code, _ = _call(self.bottleneck, h, draws.get("bottleneck"))
        return code

    def encode(self, x):
        """Return the code of rows, without corruption or noise."""
        return self._code(x, {})

    def decoded(self, code):
        """Return the output of the decoder for codes, without any link."""
        return self.decoder(self.expanded(code))

    def decode(self, code):
        """Return scaled rows from codes, inverse link included."""
        raw = self.decoded(code)
        return self.loss.inverse_link(raw if self.link is None else self.link(raw))

    def reconstruct(self, x):
        """Return the reconstruction of scaled rows, without corruption or noise."""
        return self.decode(self.encode(x))

    def symbols(self, x):
        """Return the integers that name the discrete code of rows."""
        return self.bottleneck.symbols(self._encode(x, {}, self.encoder))

    @torch.no_grad()
    def start(self, statistics, units=None):
        """Set the initial weights from statistics of the training rows.

        Parameters
        ----------
        statistics : Statistics
            Of the scaled training rows, divided by ``units``.
        units : Tensor of shape (n_features,), default=None
            The standard deviations of the noise of the columns. None is one.

        Returns
        -------
        bool
            Whether both networks were set, so that the initial weights are a model
            worth keeping.
        """
        standardization = self.standardization
        if standardization is not None:
            mean = statistics.mean
            spread = (statistics.rows - mean).square().mean().sqrt()
            spread = spread if spread > 0 else 1.0
            standardization.center.copy_(mean)
            standardization.scale.fill_(spread)
            if units is not None:
                standardization.center.mul_(units)
                standardization.scale.mul_(units)
        has_start = hasattr(self.bottleneck, "start")
        if not has_start and self.link is None:
            return False
        # A link has constants to set even where networks start at random.
        maps = self.bottleneck.start(statistics) if has_start else statistics.pca()
        encoding, reconstruction = (Affine(*pair) for pair in maps)
        if standardization is not None:
            weight, bias = encoding
            encoding = Affine(weight * spread, bias + weight @ statistics.mean)
        decoding = self._start_link(reconstruction, statistics, units)
        if not has_start:
            return False
        starts = ((self.encoder, encoding), (self.decoder, decoding))
        for network, affine in starts:
            if hasattr(network, "start"):
                network.start(affine)
        return all(hasattr(network, "start") for network, _ in starts)

    @torch.no_grad()
    def leave_start(self, generator):
        """Change the initial weights to those that training begins with.

        Parameters
        ----------
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        bool
            Whether they differ from the initial weights.
        """
        networks = (self.encoder, self.decoder)
        hooks = [hook for n in networks if (hook := _hook(n, "leave_start"))]
        for leave in hooks:
            leave(generator)
        return bool(hooks)

    def _start_link(self, reconstruction, statistics, units):
        """Return the start of the decoder, from codes to the input of the link."""
        if units is not None:
            weight, bias = reconstruction
            reconstruction = Affine(weight * units[:, None], bias * units)
        if self.link is None:
            return self.loss.start(reconstruction)
        # Few constants per column: on a wide table some of the rows are enough.
        n_rows = max(_MIN_LINK_ROWS, _MAX_LINK_ENTRIES // len(statistics.mean))
        step = max(1, len(statistics.rows) // n_rows)
        rows = statistics.rows[::step].double()
        encode, decode = statistics.pca()
        code = rows @ encode.weight.T + encode.bias
        fitted = code @ decode.weight.T + decode.bias
        if units is not None:
            rows, fitted = rows * units, fitted * units
        return self.link.start(reconstruction, rows, fitted)

    @torch.no_grad()
    def estimate_norms(self, x):
        """Estimate the statistics of batch normalisation for inference.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
            Scaled rows. They pass through the model as in inference, with codes of the
            sizes that it is trained for.
        """
        draws = {}
        if self.is_nested:
            generator = torch.Generator(x.device).manual_seed(0)
            draws["bottleneck"] = self.bottleneck.draw(len(x), generator)
        with self._norms("estimate"):
            self.decode(self._code(x, draws))

    @contextmanager
    def _norms(self, mode):
        with ExitStack() as stack:
            for module in self.modules():
                if isinstance(module, BatchNorm):
                    stack.enter_context(module.mode(mode))
            yield

    @property
    def has_batch_norm(self):
        """Whether `estimate_norms` has something to estimate."""
        return any(isinstance(module, BatchNorm) for module in self.modules())

    def share_norms(self, workers):
        """Normalise training batches over the parts that several processes have.

        Parameters
        ----------
        workers : Workers or None
            None ends it.
        """
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.workers = workers

    def freeze_all_but_encoder(self):
        """Leave all but the encoder as it is in training, which cannot be undone.

        Batch normalisation has the statistics for inference.
        """
        of_encoder = {id(p) for p in self.encoder.parameters()}
        for p in self.parameters():
            if id(p) not in of_encoder:
                p.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.fixed = True

    @property
    def warming(self):
        """Whether the warm-up of some part has not ended."""
        return any(getattr(module, "warming", False) for module in self.children())

    @property
    def has_step_hooks(self):
        """Whether some part is called after every step."""
        return any(
            _hook(module, name) is not None
            for module in self.children()
            for name in ("observe", "after_step")
        )

    @torch.no_grad()
    def after_step(self, progress, batch, draws, output):
        """Call the hooks of the parts after a step.

        Parameters
        ----------
        progress : float
            Share of the planned steps done, in (0, 1].
        batch : Batch
        draws, output
            Of the step: what `forward` got and returned. None of no rows.
        """
        if output is not None:
            self._observe(batch, draws, output)
        for module in self.children():
            if (after_step := _hook(module, "after_step")) is not None:
                after_step(progress)

    def _observe(self, batch, draws, output):
        _, code, _, h = output
        if (observe := _hook(self.encoder, "observe")) is not None:
            seen = self.corrupted(batch.seen, draws)
            observe(self._standardized(seen), draws.get("encoder"))
        if (observe := _hook(self.bottleneck, "observe")) is not None:
            observe(h, code, draws.get("bottleneck"), batch.weight)
        if (observe := _hook(self.decoder, "observe")) is not None:
            observe(self.expanded(code), draws.get("decoder"))

    @property
    def observes(self):
        """Whether some part looks at the rows of every step."""
        return any(_hook(m, "observe") is not None for m in self.children())


def _hook(module, name):
    """Return a hook of a built module; None if it has none, or has it switched off."""
    return getattr(module, name, None)


def _call(module, x, draw):
    return module(x) if draw is None else module(x, draw)


class Objective(nn.Module):
    """The training objective: weighted mean over rows, plus the cost of the batch.

    Parameters
    ----------
    loss : Loss
        Only trims the terms here; the loss of a row is in the model's ``terms``.
    penalty : Penalty or None
        Only its cost per batch counts here; its cost per row is in the model's
        ``terms``.
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
        """Return the terms of the rows, shape ``(n_samples,)``."""
        _, _, terms, _ = output
        return self.loss.trusted(terms, weight)

    def per_batch(self, output, weight=None):
        """Return the cost of the batch as a whole, shape ``()``."""
        if self.penalty is None:
            return 0.0
        _, code, _, _ = output
        return self.penalty.per_batch(code, weight)
