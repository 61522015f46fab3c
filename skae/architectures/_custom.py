"""Networks that the user builds."""

from contextlib import contextmanager
from inspect import signature

import torch
from torch import nn

from ._base import Architecture

__all__ = ["Custom"]


class Custom(Architecture):
    """Use encoder and decoder networks that you build yourself.

    Training starts from the weights that your functions return, not from PCA. The
    decoder must not end with an activation that the loss applies itself: with
    :class:`~skae.losses.Bernoulli`, for example, it returns logits.

    Parameters
    ----------
    encoder, decoder : callable
        ``encoder(n_in, n_out)`` returns a :class:`torch.nn.Module` that maps a Tensor
        of shape ``(n_rows, n_in)`` to one of shape ``(n_rows, n_out)``, and
        ``decoder(n_in, n_out)`` likewise. For the encoder, ``n_in`` is the number of
        features and ``n_out`` the ``encoder_width`` of the bottleneck
        (``n_components``, or twice as many with
        :class:`~skae.bottlenecks.Variational`). For the decoder, ``n_in`` is
        ``n_components`` and ``n_out`` the number of features. All weights are
        converted to single precision. Fitted estimators can be pickled only if the
        functions are defined at the top level of a module.

    Raises
    ------
    TypeError
        On ``fit``, if a function does not take two arguments or does not return a
        module, or if the module does not return a single Tensor.
    ValueError
        On ``fit``, if the module does not take rows of ``n_in`` columns or returns a
        Tensor of the wrong shape.

    Notes
    -----
    The layers of torch draw their initial weights from its global generator; layers
    such as :class:`torch.nn.Dropout` use it in training too. Both run with this
    generator seeded from ``random_state``, and its state is restored afterwards, so
    that fits are reproducible and other code is not affected. Fits in several threads
    share the global generator and are therefore not reproducible.

    Layers that change their state in the forward pass, such as
    :class:`torch.nn.BatchNorm1d`, cannot be combined with
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
        """Return encoder and decoder; see `Architecture.build`."""
        encoder = self._network("encoder", n_features, encoder_width, generator)
        return encoder, self._network("decoder", n_components, n_features, generator)

    def _network(self, name, n_in, n_out, generator):
        function = getattr(self, name)
        if isinstance(function, nn.Module):
            raise TypeError(
                f"The {name!r} parameter of Custom must be a function that returns a "
                "new torch.nn.Module for every fit. "
                f"Got the module {function!r} instead."
            )
        _check_signature(name, function)
        with _global_generator(_seed(generator)):
            module = function(n_in, n_out)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"The {name!r} parameter of Custom must return a torch.nn.Module. "
                f"Got {module!r} instead."
            )
        expected = (
            f"The {name!r} parameter of Custom must return a torch.nn.Module that maps "
            f"a Tensor of shape (n_rows, {n_in}) to one Tensor of shape "
            f"(n_rows, {n_out})."
        )
        with torch.no_grad(), _global_generator(0):
            training = module.training
            try:
                output = module.float().eval()(torch.zeros(2, n_in))
            except RuntimeError as error:
                raise ValueError(f"{expected} It failed: {error}.") from error
            module.train(training)
        if not isinstance(output, torch.Tensor):
            raise TypeError(
                f"{expected} The module returned an object of type "
                f"{type(output).__name__} instead."
            )
        if output.shape != (2, n_out):
            raise ValueError(
                f"{expected} For 2 rows the output has shape {tuple(output.shape)}."
            )
        return _Repeatable(module)


def _check_signature(name, function):
    try:
        accepted = signature(function)
    except ValueError:  # some functions in C have none
        return
    try:
        accepted.bind(1, 1)
    except TypeError as error:
        raise TypeError(
            f"The {name!r} parameter of Custom must be a function of two numbers, "
            f"(n_in, n_out). Got one of {accepted} instead: {error}."
        ) from None


class _Repeatable(nn.Module):
    """Wrap a module so that its random numbers are determined by the draw.

    The draw is a seed for the global generators of torch, which layers such as
    ``Dropout`` use.
    """

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
    """Context manager: seed the global generators of torch, restore them on exit."""
    on_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        # Not torch.manual_seed, which seeds the generators of all devices.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
