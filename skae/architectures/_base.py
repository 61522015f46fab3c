"""Base class of all architectures."""

from abc import abstractmethod

from .._component import Component

__all__ = ["Architecture"]


class Architecture(Component):
    """Base class of all architectures: builds an encoder and a decoder.

    A subclass stores hyperparameters and implements `build`. Everything that is learnt
    is stored in the modules that `build` returns, so that one architecture can be used
    in many fits.

    Notes
    -----
    **Hooks of the networks.** Only ``forward`` is required. The other methods are
    optional hooks, which are called if a network has them. In the shapes below,
    ``n_rows`` is the number of rows of a batch; for the encoder ``n_in`` is
    ``n_features`` and ``n_out`` is ``encoder_width``, for the decoder ``n_in`` is
    ``n_components``, the width of the code but for a few bottlenecks, and ``n_out`` is
    ``n_features``.

    ``forward(x)`` or ``forward(x, draw)``
        Map rows to rows.

        - ``x``: Tensor of shape ``(n_rows, n_in)``. For the encoder, these are scaled
          rows, corrupted in the training objective. With a loss that has a bounded
          domain, such as :class:`~skae.losses.Bernoulli`, they are also centred and
          divided by one number; with :class:`~skae.losses.Poisson`, each column is
          divided by the square root of its mean too.
        - ``draw``: what ``draw`` returned for this batch. It is passed only if the
          network has the hook ``draw`` and that did not return None.
        - Returns: Tensor of shape ``(n_rows, n_out)``. For the decoder, this is the
          input of the inverse link of the loss; logits, for example, with
          :class:`~skae.losses.Bernoulli`. With :class:`~skae.losses.Poisson`, it is
          approximately the deviation of the rate from the mean of the column, in
          standard deviations of the noise.

        Without ``draw`` the network must be deterministic. ``forward`` must not change
        buffers or global state: the same rows may be passed several times in one step,
        also inside transformations of ``torch.func``.

    ``draw(n_rows, generator)``
        Draw the random numbers of one pass of the training objective, dropout masks
        for example. Called before every training step, and for every batch on which
        the objective is evaluated (that of the validation set, for example). Never
        called in inference.

        - ``n_rows``: int, number of rows of the batch.
        - ``generator``: :class:`torch.Generator` on the device of the network. The
          random numbers must be drawn from it and be on its device.
        - Returns: Tensor, or tuple, list or dict of Tensors, passed as ``draw`` to
          ``forward`` and ``observe``; None if there is nothing to draw. Other objects,
          such as a seed, are passed on too, but such a step is not captured in a CUDA
          graph.

    ``start(affine)``
        Set the weights so that the network is equal to an affine map. Called once
        before training, if the bottleneck has the hook ``start``
        of :class:`~skae.bottlenecks.Bottleneck`, which returns the maps. If the
        bottleneck and both networks have this hook, the initial weights are kept unless
        the trained weights are clearly better on the validation set.

        - ``affine``: named tuple of ``weight``, Tensor of shape ``(n_out, n_in)``, and
          ``bias``, Tensor of shape ``(n_out,)``, as in :class:`torch.nn.Linear`. Both
          are on the CPU and usually in double precision: copy them with
          :meth:`torch.Tensor.copy_`.
        - Returns: None.

    ``leave_start(generator)``
        Change the weights that ``start`` has set to those that training begins with.
        Called once, after the start has been evaluated on the validation set; not
        without a validation set, nor with ``warm_start=True``.

        - ``generator``: torch.Generator on the CPU, for random numbers.
        - Returns: None.

    ``observe(x, draw)``
        Update what is not learnt by gradient descent, such as running statistics of
        batch normalisation. Called after every training step, without recording
        gradients.

        - ``x``: Tensor of shape ``(n_rows, n_in)``, the input of the network in this
          step.
        - ``draw``: what ``draw`` returned for this step, or None.
        - Returns: None.

    ``after_step(progress)``
        Update schedules, such as a warm-up. Called after every training step, after
        ``observe``. In evaluation mode (``self.training`` is False) the network must
        use the final value of everything that it schedules.

        - ``progress``: float in (0, 1], fraction of the planned training steps
          (``max_epochs`` times the steps of an epoch) that are done.
        - Returns: None.

    ``warming``
        Attribute or property, bool: whether a schedule has not reached its final value.
        While it is True, epochs without improvement do not count for early stopping.
    """

    @abstractmethod
    def build(self, n_features, encoder_width, n_components, generator):
        """Return the encoder and the decoder network.

        Parameters
        ----------
        n_features : int
            Number of features: inputs of the encoder and outputs of the decoder.
        encoder_width : int
            Number of outputs of the encoder, as returned by
            :meth:`Bottleneck.encoder_width
            <skae.bottlenecks.Bottleneck.encoder_width>`.
        n_components : int
            Number of inputs of the decoder: the width of the code, or what
            :meth:`Bottleneck.decoder_width
            <skae.bottlenecks.Bottleneck.decoder_width>` returns for it.
        generator : torch.Generator
            Generator on the CPU, from which the initial weights must be drawn. Global
            generators must not be used.

        Returns
        -------
        encoder, decoder : torch.nn.Module
            The networks, with ``forward`` and any of the optional hooks that the notes
            of :class:`Architecture` describe.
        """
