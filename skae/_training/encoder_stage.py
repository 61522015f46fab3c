"""The second stage of training: the encoder alone, on rows near those of the decoder.

An encoder predicts the code from which the decoder returns the nearest row. It learns
this from the training rows, and predicts worse for others. The decoder can return as
many rows as one likes: on these the encoder learns to predict better.
"""

from copy import deepcopy
from itertools import repeat
from math import ceil

import torch
from torch import nn

from .._warning import warn_user
from ..exceptions import OutOfMemoryWarning
from ..losses import SquaredError
from .affine_pass import is_linear
from .batches import Batch, Batches
from .device import multiplications
from .net import Net
from .together import Training, trained

__all__ = ["train_encoder"]

# Standard deviation of the noise on codes of training rows, as a share of theirs, and
# what the residuals that are added are multiplied by: those of new rows are larger.
# These, the averaging and the smallest batch: tests/benchmarks/search_default.py.
_NOISE = 0.2
_RESIDUALS = 2.0
_AVERAGING = 0.98
_BATCH = 128
# Steps that the second stage may take if the first took fewer, and rows and
# multiplications in all of them: some seconds.
_LEAST_STEPS = 1000
_MOST_ROWS = 2**19
_MOST_WORK = 2**35
# Layers of torch that do something else in training.
_OF_TRAINING = nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd
# Steps between two looks at the validation set, numbers in the rows for them, and rows
# that are generated at once.
_ROUND = 100
_MOST_NUMBERS = 2**24
_AT_ONCE = 1024


def train_encoder(net, plan, progress=None):
    """Train the encoder of a trained net on, with the decoder as it is.

    A generator, as a part of a fit; see `train`. A half of each batch are training
    rows. The others are generated: rows that the decoder returns for codes near those
    of training rows, with the residual of another training row added. The encoder
    learns codes from which the decoder returns all of them. (The wake-sleep algorithm
    of Hinton, Dayan, Frey & Neal, 1995, trains an encoder on generated rows, too.)
    The learning rate falls to zero. If there is a validation set, the weights with the
    lowest error on it are kept, and those of before if none is lower.

    Parameters
    ----------
    net : Net
        Its module receives the weights.
    plan : Plan
    progress : NetworkProgress, default=None
    """
    if not _is_possible(net, plan):
        return
    try:
        data = plan.data()
        second = _encoder_net(net, plan, data)
        rounds = None if progress is None else progress.second_stage(second.max_epochs)
        yield from trained(Training(second, data, progress=rounds))
    except torch.cuda.OutOfMemoryError:
        warn_user(
            "Training the encoder alone ran out of the memory of "
            f"device={plan.device!r}, and was left out: max_encoder_steps had no "
            "effect.",
            OutOfMemoryWarning,
        )
        return
    if second.best_epoch_ == 0 or second.diverged_:
        return
    net.module_.load_state_dict(second.module_.state_dict())
    net.encoder_steps_ = second.best_epoch_ * second.round_steps
    if plan.is_validated:
        net.best_loss_ = second.best_loss_


def _is_possible(net, plan):
    """Return whether there is an encoder to train, and a loss to train it with."""
    parts = plan.parts
    return (
        plan.settings.max_encoder_steps > 0
        # They follow one training, as rates and weights that hooks change.
        and not plan.has_callbacks
        and not net.module_.has_step_hooks
        and parts.is_plain
        and not parts.bottleneck.nested
        and type(parts.loss) is SquaredError
        and plan.known is None
        and not plan.has_pairs
        and plan.share is None
        and net.best_epoch_ > 0
        and net.stop_reason_ == "no gain"
        and not net.diverged_
        and not is_linear(net.module_)
        and _is_apart(net.module_)
    )


def _is_apart(module):
    """Return whether there is something to train that the decoder has no part in."""
    of_decoder = {id(p) for p in module.decoder.parameters()}
    of_encoder = [p for p in module.encoder.parameters() if p.requires_grad]
    return bool(of_encoder) and of_decoder.isdisjoint(map(id, of_encoder))


def _encoder_net(net, plan, data):
    params = net.get_params(deep=False)
    del params["_params_to_validate"]
    batch_size = net.batch_size
    if plan.settings.batch_size == "auto" and not plan.is_short_of_memory:
        batch_size = max(batch_size, _BATCH)
    n_steps = _n_steps(net, plan.settings.max_encoder_steps, batch_size, data)
    n_numbers = min(batch_size, len(data.train)) * plan.rows.shape[1]
    most = min(max(_MOST_NUMBERS // n_numbers, 1), _ROUND)
    n_rounds = ceil(n_steps / most)
    second = EncoderNet(
        **params
        | {
            "module": deepcopy(net.module_),
            "round_steps": n_steps // n_rounds,
            "batch_size": batch_size,
            "max_epochs": n_rounds,
            "n_iter_no_change": n_rounds,
            "early_stopping": plan.is_validated,
            "averaging": min(net.averaging, _AVERAGING),
            "seed": net.seed + 5,
            "starts_fitted": False,
            "leaves_start": False,
            "callbacks": None,
        }
    )
    return second.initialize()


def _n_steps(net, most, batch_size, data):
    """Return the number of steps.

    They pass no more rows through the network than the first stage, unless that takes
    some seconds only, as many steps as there were, or 1,000.
    """
    n_epochs, n_rows = len(net.history), len(data.train)
    rows = min(batch_size, n_rows)
    work = multiplications(net.module_, data.train[:1].x) * rows
    short = min(
        max(n_epochs * ceil(n_rows / net.batch_size), _LEAST_STEPS),
        _MOST_ROWS // rows,
        _MOST_WORK // work,
    )
    return min(most, max(n_epochs * n_rows // rows, short, 1))


class EncoderNet(Net):
    """A net that trains the encoder of a trained module, and leaves the decoder.

    The learning rate falls to zero. Batch normalisation has the statistics for
    inference, which stay the same.

    Parameters
    ----------
    module : Autoencoder
        Its encoder is changed.
    round_steps : int
        Number of steps between two looks at the validation set, which are its epochs.
    **kwargs
        As in `Net`.
    """

    lowers_rate = True

    def __init__(self, *args, round_steps, **kwargs):
        super().__init__(*args, **kwargs)
        self.round_steps = round_steps

    def initialize_module(self):
        """Freeze what is not the encoder."""
        super().initialize_module()
        self.module_.freeze_all_but_encoder()
        return self

    def get_iterator(self, dataset, training=False):
        """Iterate over rows; for training, over rounds with generated rows."""
        if not training:
            return super().get_iterator(dataset)
        how = self.batch_size, self.generator_, self.round_steps, self.module_
        return _Rounds(dataset, *how)

    def _set_training(self, training=True):
        super()._set_training(training)
        # Layers of the user's, which would change statistics and drop outputs.
        for module in self.module_.modules():
            if isinstance(module, _OF_TRAINING):
                module.eval()

    def _norm_estimator(self, train):
        return lambda: None


class _Rounds(Batches):
    """Rounds of so many batches, of which every second row is generated.

    Parameters
    ----------
    rows, batch_size, generator
        As in `Batches`.
    n_batches : int
    module : Autoencoder
        Its weights at the beginning of a round generate the rows.
    """

    def __init__(self, rows, batch_size, generator, n_batches, module):
        super().__init__(rows, batch_size, generator)
        self._n_batches, self._module = n_batches, module
        self._endless = self._passes()

    def __len__(self):
        return self._n_batches

    def __iter__(self):
        rows = self.shuffled()
        parts = (None if t is None else t.tensor_split(len(self)) for t in rows[:2])
        x, weight = parts
        yield from map(Batch, x, repeat(None) if weight is None else weight)

    @property
    def least_rows(self):
        """Number of rows of each batch."""
        return min(self._batch_size, len(self.rows))

    @torch.no_grad()
    def shuffled(self):
        """Return the rows of the next round."""
        x, weight = self._drawn(self.least_rows * len(self))
        generator = self._generator
        code = self._in_pieces(self._module.encode, x)
        residual = x - self._in_pieces(self._module.decode, code)
        noise = torch.randn(code.shape, generator=generator, device=generator.device)
        others = torch.randperm(len(x), generator=generator, device=generator.device)
        code += _NOISE * code.std(dim=0, correction=0) * noise
        decoded = self._in_pieces(self._module.decode, code[1::2])
        x[1::2] = decoded + _RESIDUALS * residual[others[1::2]]
        return Batch(x, weight)

    def _in_pieces(self, function, rows):
        n_rows = max(_AT_ONCE, self._batch_size)
        return torch.cat([function(piece) for piece in rows.split(n_rows)])

    def _drawn(self, n_rows):
        """Return so many training rows and their weights."""
        drawn, n_drawn = [], 0
        while n_drawn < n_rows:
            drawn.append(next(self._endless))
            n_drawn += len(drawn[-1].x)
        x, weight, *_ = zip(*drawn, strict=True)
        weight = None if weight[0] is None else torch.cat(weight)[:n_rows]
        return torch.cat(x)[:n_rows], weight

    def _passes(self):
        n_batches = super().__len__()
        while True:
            yield from self.rows.shuffled(n_batches, self._generator)
