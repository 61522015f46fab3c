"""Networks of the user's."""

from contextlib import contextmanager

import torch
from torch import nn

from ._base import Architecture

__all__ = ["Custom"]


class Custom(Architecture):
    """Networks that you build yourself.

    The modules start as your functions leave them, not at PCA: nothing is known of what
    they do. Output must not pass an activation that belongs to the loss:
    :class:`~skae.losses.Bernoulli`, for one, wants logits.

    Parameters
    ----------
    encoder, decoder : callable
        ``encoder(n_in, n_out)`` returns a :class:`torch.nn.Module` that maps rows of
        ``n_in`` numbers to rows of ``n_out``. For the encoder ``n_in`` is the number
        of features and ``n_out`` what the bottleneck asks for, for the decoder they are
        ``n_components`` and the number of features. Functions that are defined at the
        top of a module can be pickled, others cannot.

    Raises
    ------
    TypeError
        On ``fit``, if a function does not return a module.
    ValueError
        On ``fit``, if a module does not return rows of the width asked for.

    Notes
    -----
    torch's layers draw their weights from its global generator, and so do layers such
    as :class:`torch.nn.Dropout` in training. Both are run with that generator seeded
    from ``random_state`` and put back afterwards, so that fits can be repeated. Fits in
    several threads at once share the global generator, and their weights are then a
    matter of timing.

    Layers that change their state in a forward pass, such as
    :class:`torch.nn.BatchNorm1d`, do not go together with
    :class:`~skae.penalties.Contractive`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from torch import nn
    >>> from skae import AutoencoderTransformer
    >>> from skae.architectures import Custom
    >>> def network(n_in, n_out):
    ...     return nn.Sequential(nn.Linear(n_in, 32), nn.ELU(), nn.Linear(32, n_out))
    >>> X = load_digits().data
    >>> model = AutoencoderTransformer(
    ...     8, architecture=Custom(network, network), max_epochs=5,
    ...     early_stopping=False, random_state=0,
    ... ).fit(X)
    >>> model.transform(X).shape
    (1797, 8)
    """

    _parameter_constraints: dict = {"encoder": [callable], "decoder": [callable]}

    def __init__(self, encoder, decoder):
        self.encoder = encoder
        self.decoder = decoder

    def build(self, n_features, encoder_width, n_components, generator):
        """Return both networks; see `Architecture.build`."""
        encoder = self._network("encoder", n_features, encoder_width, generator)
        return encoder, self._network("decoder", n_components, n_features, generator)

    def _network(self, name, n_in, n_out, generator):
        function = getattr(self, name)
        if isinstance(function, nn.Module):
            raise TypeError(
                f"The {name!r} parameter of Custom must be a function that returns a "
                f"module, so that every fit has a new one. Got the module {function!r}."
            )
        with _global_generator(_seed(generator)):
            module = function(n_in, n_out)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"The {name!r} parameter of Custom must return a torch.nn.Module. "
                f"Got {module!r} instead."
            )
        with torch.no_grad(), _global_generator(0):
            training = module.training
            given = module.float().eval()(torch.zeros(2, n_in)).shape
            module.train(training)
        if given != (2, n_out):
            raise ValueError(
                f"The {name!r} parameter of Custom must return a module from rows of "
                f"{n_in} numbers to rows of {n_out}. Two rows came out with shape "
                f"{tuple(given)}."
            )
        return _Repeatable(module)


class _Repeatable(nn.Module):
    """A module whose use of the global generator repeats with the draw."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def draw(self, n_rows, generator):
        return _seed(generator)

    def forward(self, x, draw=None):
        if draw is None:
            return self.module(x)
        with _global_generator(draw, x.device):
            return self.module(x)


def _seed(generator):
    return torch.randint(2**31, (), generator=generator, device=generator.device).item()


@contextmanager
def _global_generator(seed, device=None):
    """Seed torch's global generators for a while."""
    on_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        # Not torch.manual_seed, which seeds every device there is.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
