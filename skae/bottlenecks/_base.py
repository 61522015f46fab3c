"""Base class of all bottlenecks."""

from abc import abstractmethod
from math import inf

from .._component import Component

__all__ = ["Bottleneck"]


class Bottleneck(Component):
    """Base class of all bottlenecks: maps the output of the encoder to the code.

    A subclass stores hyperparameters and implements `build`. Everything that is learnt
    is stored in the module that `build` returns, so that one bottleneck can be used in
    many fits.

    Attributes
    ----------
    symmetry : {"rotation", "triangular", "scaling", "permutation", None}
        Transformations of the code after training that leave the model equivalent.
        "rotation": any rotation (the code is linear in the output of the encoder, and
        nothing depends on its axes). "triangular": maps of which each component depends
        on those before it only. "scaling": a positive factor for each component,
        and permutations. "permutation": permutations only. None: no transformation.
        `fit` uses them to bring the code to a standard form. Default: None.
    guards : bool
        Whether the bottleneck regularises an overcomplete code, so that a code that is
        wider than the data is not a copy of them. Without it, and without a corruption
        or penalty, `fit` warns if ``n_components`` exceeds the number of features.
        Default: False.
    code_range : tuple of (float, float)
        Closed interval that contains all components of all codes. Default:
        ``(-inf, inf)``.
    nested : bool
        Whether the first components of a code are a code, too. The built module then
        must have ``truncate``, and estimators have the method `truncate` and the
        attribute ``reconstruction_curve_``. Default: False.
    discrete : bool
        Whether the code has finitely many values, named by integers. The built module
        then must have ``symbols``, ``codes`` and ``symbols_shape``, and estimators have
        the methods `quantize` and `dequantize`. Default: False.
    sparse_output : bool
        Whether `transform` returns a sparse matrix. Default: False.

    Notes
    -----
    **Hooks of the built module.** Only ``forward`` is required. The other methods are
    optional hooks, which are called if the module has them. In the shapes below,
    ``n_rows`` is the number of rows of a batch and ``encoder_width`` what the method
    `encoder_width` returns.

    ``forward(h)`` or ``forward(h, draw)``
        Compute the code.

        - ``h``: Tensor of shape ``(n_rows, encoder_width)``, output of the encoder.
        - ``draw``: what ``draw`` returned for this batch. It is passed only if the
          module has the hook ``draw`` and that did not return None.
        - Returns: tuple of the code, Tensor of shape ``(n_rows, n_components)``, and
          its cost, Tensor of shape ``(n_rows,)``. The cost is added to the loss of each
          row.

        Without ``draw`` the module must be deterministic. ``forward`` must not change
        buffers or global state: the same rows may be passed several times in one step,
        also inside transformations of ``torch.func``.

    ``draw(n_rows, generator)``
        Draw the random numbers of one pass of the training objective. Called before
        every training step, and for every batch on which the objective is evaluated
        (that of the validation set, for example). Never called in inference.

        - ``n_rows``: int, number of rows of the batch.
        - ``generator``: :class:`torch.Generator` on the device of the module. The
          random numbers must be drawn from it and be on its device.
        - Returns: Tensor, or tuple, list or dict of Tensors, passed as ``draw`` to
          ``forward`` and ``observe``; None if there is nothing to draw. Other objects,
          such as a seed, are passed on too, but such a step is not captured in a CUDA
          graph.

    ``start(statistics)``
        Return the affine maps at which encoder and decoder start, and set the state of
        the module accordingly. Called once before training. Without this hook the
        networks keep the weights with which they were built.

        - ``statistics``: object with statistics of the scaled training rows, on the
          CPU:

          - ``mean``: float64 Tensor of shape ``(n_features,)``, weighted mean.
          - ``axes``: float64 Tensor of shape ``(n_components, n_features)``,
            orthonormal principal axes in the order of decreasing variance. Those beyond
            the rank of the data are directions of variance zero, in which new rows may
            vary; those beyond ``n_features`` are zero.
          - ``variances``: float64 Tensor of shape ``(n_components,)``, variances along
            the axes (divided by ``n``, not ``n - 1``).
          - ``noise_variance``: float, mean variance along the axes that are not kept.
          - ``rows``: Tensor of shape ``(n_subsample, n_features)``, at most a few
            thousand of the rows, each about as often as its weight says.
          - ``pca(spread=None)``: method that returns the two affine maps of PCA;
            ``spread`` is the standard deviation to which the components are scaled, or
            None.

        - Returns: two pairs of ``weight`` and ``bias``, as in :class:`torch.nn.Linear`.
          The first is for the encoder, of shapes ``(encoder_width, n_features)`` and
          ``(encoder_width,)``; the second for the decoder, of shapes
          ``(n_features, decoder_width)`` and ``(n_features,)``. The decoder pair is in
          units of the scaled data; the loss then adapts it to its link.

        The maps are passed to the hook ``start`` of the networks, see
        :class:`~skae.architectures.Architecture`. Networks without this hook keep their
        weights.

    ``expand(code)``
        Return the input of the decoder for codes. Without this hook it is the code.
        It must accept any codes, not only those that the bottleneck returns.

        - ``code``: Tensor of shape ``(n_rows, n_components)``.
        - Returns: Tensor of shape ``(n_rows, decoder_width)``.

    ``observe(h, code, draw, weight)``
        Update what is not learnt by gradient descent, such as codebooks or counts of
        use. Called after every training step, without recording gradients.

        - ``h``: Tensor of shape ``(n_rows, encoder_width)``, input of the module in
          this step.
        - ``code``: Tensor of shape ``(n_rows, n_components)``, code that it returned.
        - ``draw``: what ``draw`` returned for this step, or None.
        - ``weight``: Tensor of shape ``(n_rows,)`` with the sample weights, whose mean
          over all training rows is 1; None without sample weights.
        - Returns: None.

    ``after_step(progress)``
        Update schedules, such as a warm-up. Called after every training step, after
        ``observe``. In evaluation mode (``self.training`` is False) the module must use
        the final value of everything that it schedules.

        - ``progress``: float in (0, 1], fraction of the planned training steps
          (``max_epochs`` times the steps of an epoch) that are done.
        - Returns: None.

    ``warming``
        Attribute or property, bool: whether a schedule has not reached its final value.
        While it is True, epochs without improvement do not count for early stopping.

    ``likelihood(loss, n_features, degree)``
        Convert the loss of rows to the term that is added to the objective, such as a
        negative log-likelihood with a learnt variance. Called in every pass.

        - ``loss``: Tensor of shape ``(n_rows,)``, loss of each row.
        - ``n_features``: int, number of features.
        - ``degree``: int or None, the attribute ``degree`` of the loss
          (:class:`~skae.losses.Loss`).
        - Returns: Tensor of shape ``(n_rows,)``.

    ``auxiliary(x, reconstruction, h, code, decode)``
        Compute a further cost of each row, which is added to the training objective
        only. It is also called when the objective of the validation set is evaluated,
        with ``self.training`` False.

        - ``x``: Tensor of shape ``(n_rows, n_features)``, scaled rows without
          corruption.
        - ``reconstruction``: Tensor of shape ``(n_rows, n_features)``, output of the
          decoder after the inverse link of the loss, in units of ``x``.
        - ``h``: Tensor of shape ``(n_rows, encoder_width)``, input of the module.
        - ``code``: Tensor of shape ``(n_rows, n_components)``, code that it returned.
        - ``decode``: callable that maps codes of shape ``(n_rows, n_components)`` to
          the output of the decoder, of shape ``(n_rows, n_features)``, before the
          inverse link. It uses the same random numbers as the pass itself.
        - Returns: Tensor of shape ``(n_rows,)``.

    ``prior(n_rows, generator)``
        Draw codes from the prior, for the method `sample` of estimators. Without this
        hook `sample` draws from a density that is fitted to the codes of the training
        rows.

        - ``n_rows``: int, number of codes.
        - ``generator``: :class:`torch.Generator` on the CPU.
        - Returns: Tensor of shape ``(n_rows, n_components)`` on the CPU.

    ``project(code)``
        Return the nearest codes that the bottleneck can return, for the method
        `sample`. A code that it can return must not be changed.

        - ``code``: Tensor of shape ``(n_rows, n_components)``.
        - Returns: Tensor of shape ``(n_rows, n_components)``.

    ``symbols(h)``
        Return the symbols that name a discrete code, for the method `quantize`.

        - ``h``: Tensor of shape ``(n_rows, encoder_width)``, output of the encoder.
        - Returns: int64 Tensor of shape ``(n_rows, n_symbols)`` with values from 0 to
          ``n_values - 1``.

    ``codes(symbols)``
        Return the codes that symbols stand for, for the method `dequantize`. It is the
        inverse of ``symbols``: ``codes(symbols(h))`` is the code of ``h``, bit for bit.

        - ``symbols``: int64 Tensor of shape ``(n_rows, n_symbols)``.
        - Returns: Tensor of shape ``(n_rows, n_components)``.

    ``symbols_shape``
        Attribute or property, tuple of int: ``(n_symbols, n_values)``, the number of
        symbols of a row and the number of values of each symbol.

    ``truncate(n_components)``
        Return only the first components of codes from now on. The module must then
        accept codes of that width, in ``expand`` above all, and does so before for all
        smaller ones.

        - ``n_components``: int.
        - Returns: None.

    ``report(code, weight)``
        Compute fitted attributes of the estimator, such as the number of active
        components. Called once after training.

        - ``code``: float64 Tensor of shape ``(n_samples, n_components)``, codes of all
          training rows as the module returned them.
        - ``weight``: float64 Tensor of shape ``(n_samples,)``, sample weights divided
          by their sum.
        - Returns: dict of attribute name, with a trailing underscore, to value. `fit`
          also uses ``active_units_`` (int) and ``dead_fraction_`` (float in [0, 1]) in
          its diagnostics and warnings.
    """

    symmetry: str | None = None
    guards = False
    code_range = (-inf, inf)
    nested = False
    discrete = False
    sparse_output = False

    def encoder_width(self, n_components):
        """Return the number of outputs of the encoder.

        Parameters
        ----------
        n_components : int
            Width of the code.

        Returns
        -------
        int
            Equal to ``n_components`` unless a subclass overrides the method.
        """
        return n_components

    def decoder_width(self, n_components):
        """Return the number of inputs of the decoder.

        Parameters
        ----------
        n_components : int
            Width of the code.

        Returns
        -------
        int
            Equal to ``n_components`` unless a subclass overrides the method. The built
            module then must have the hook ``expand``.
        """
        return n_components

    @abstractmethod
    def build(self, n_components, generator):
        """Return the module that maps the output of the encoder to the code.

        Parameters
        ----------
        n_components : int
            Width of the code.
        generator : torch.Generator
            Generator on the CPU, from which initial values must be drawn. Global
            generators must not be used.

        Returns
        -------
        torch.nn.Module
            Module that maps ``h`` of shape ``(n_rows, encoder_width)`` to a tuple of
            the code, of shape ``(n_rows, n_components)``, and its cost, of shape
            ``(n_rows,)``. It may have any of the optional hooks that the notes of
            :class:`Bottleneck` describe.

        Raises
        ------
        ValueError
            If a code of this width is not possible.
        """
