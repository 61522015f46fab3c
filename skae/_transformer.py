"""The transformer: dimensionality reduction by an autoencoder."""

from dataclasses import replace
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state, check_scalar

from ._base import BaseAutoencoder
from ._compat.sklearn import Interval
from ._model.coordinates import LEAST_SPREAD
from ._model.density import CodeDensity
from .losses import SquaredError

__all__ = ["AutoencoderTransformer"]


class AutoencoderTransformer(BaseAutoencoder):
    """Nonlinear dimensionality reduction by an autoencoder, a drop-in for PCA.

    Rows are scaled, encoded into ``n_components_`` numbers and decoded again, by two
    neural networks that are trained to minimise the reconstruction error [1]_. With the
    default architecture, bottleneck and loss, the model before the first step *is* PCA
    of all training rows. The trained weights are kept only if a validation set shows an
    improvement beyond noise; otherwise the model stays PCA.

    As with PCA, the components of the code are centred, uncorrelated, in the order of
    decreasing variance and in the units of the data, with PCA's signs. A bottleneck or
    penalty that depends on the axes of the code allows only a part of this.

    Parameters
    ----------
    n_components : "auto", int, float or None, default="auto"
        Number of components of the latent code. A float in (0, 1) is the smallest
        number with which PCA explains more than that share of the variance of the
        scaled data. "auto" is the same as 0.9, but at most half of
        ``min(n_samples, n_features)`` and at least 1 (rounded up, if there are
        categorical features); and at most 128 for a sparse table that has more than
        4,096 rows and more than 4,096 columns. None is
        ``min(n_samples, n_features)``, the default of PCA, which then loses nothing: a
        network cannot improve on it. An int may exceed the number of features.

    whiten : bool, default=False
        Whether each component of the code is centred and divided by its standard
        deviation, the root of ``explained_variance_``, so that the codes of the
        training rows have mean 0 and variance 1. As for PCA, this loses the relative
        scale of the components, which helps a next step that assumes equal variances.
        `inverse_transform` undoes it; reconstructions do not change. A component that
        is constant is not divided. Not accepted with a bottleneck whose code is sparse.

    n_projection_steps : int, default=0
        Number of Gauss-Newton steps [3]_ that move the code of each row towards that of
        the nearest row that the decoder can return. PCA's code is the nearest one; an
        encoder only predicts it, and predicts it worse for new rows than for the
        training rows. The squared error of a row, scaled, is never larger than without.
        It applies wherever rows are encoded after training: `transform`, `reconstruct`,
        `score`, `reconstruction_error` and the fitted attributes. Weights are the same.
        Rows with missing entries, and models that are linear or stayed PCA, keep the
        code of the encoder. It needs the squared error, rows of numbers, and the
        bottleneck :class:`~skae.bottlenecks.Plain` without activation. Corruptions and
        ``X_target`` are refused: the steps would fit the noise of a row, or the row
        instead of its target. Encoder and autoencoder cannot be exported then. See
        :ref:`projection` for gains and costs.

    max_encoder_steps : int, default=0
        Largest number of steps of a second stage of training, in which the encoder is
        trained alone and the decoder does not change. It begins when the validation
        error no longer falls. Half of the rows of each batch are generated: the decoder
        decodes codes near those of training rows, and residuals of other training rows
        are added. So the encoder learns to predict the codes of new rows. 4,000 lowered
        the error on new rows by 5 % on average. The stage is about as long as the first
        one, but may take some seconds in any case. 0, the default, omits it. It needs
        :class:`~skae.losses.SquaredError` and a first stage that stopped by itself. It
        is also omitted with a corruption, a penalty, a nested, sparse or discrete code,
        ``X_target``, categories, missing values, callbacks in ``net_params``, a warm
        start, several processes, and in `partial_fit`. See :ref:`encoder-stage` for
        gains and costs.

    architecture : Architecture, default=None
        The encoder and decoder networks; see :mod:`skae.architectures`. None is
        :class:`~skae.architectures.MLP` with its default parameters.

    bottleneck : Bottleneck, default=None
        What the output of the encoder passes through to become the latent code, for
        example a quantiser; see :mod:`skae.bottlenecks`. None is
        :class:`~skae.bottlenecks.Plain`, which leaves it unchanged.

    corruption : Corruption, default=None
        Random corruption of the input of the encoder during training, for a denoising
        autoencoder; see :mod:`skae.corruptions`. The loss compares with the clean rows.
        None leaves the input unchanged.

    penalty : Penalty, default=None
        Cost of the latent code or of the encoder that is added to the loss during
        training; see :mod:`skae.penalties`. Penalties are combined with ``+``. None
        adds no cost.

    loss : Loss, default=None
        Distance between a row and its reconstruction, in scaled units, summed over
        the features; see :mod:`skae.losses`. None is
        :class:`~skae.losses.SquaredError`.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Which features are categories, with the meanings of scikit-learn's
        :class:`~sklearn.ensemble.HistGradientBoostingClassifier`.

        - "from_dtype": columns of a data frame with a categorical or enumerated dtype
          (pandas, Polars, PyArrow). In arrays none.
        - array-like of names, indices, or of one bool per feature. The values may be
          strings or numbers.
        - None: none. Categories that are numbers are then taken as numbers.

        Inside the model a category is a block of indicators, in a metric in which all
        features weigh the same; the decoder gives probabilities, with cross-entropy as
        loss. Categories that fewer than two training rows have, and missing ones, are
        missing values. At most 1,000 categories per feature. See the user guide.

    scaling : {"auto", "global", "standard", "minmax", "robust"} or None, default="auto"
        Scaling of the data inside the model. Results are converted back to the units
        of the data.

        - "global": each feature is centred, then all features are divided by *one*
          number, the root of their mean variance. As for PCA, features with a larger
          variance have more weight.
        - "standard": each feature is centred and divided by its standard deviation.
        - "minmax": the range of each feature is mapped to [-1, 1].
        - "robust": each feature is centred at its median and divided by 0.741 times its
          interquartile range, which is the standard deviation if it is normally
          distributed. Features whose quartiles are equal are scaled as by "standard".
        - None: the data are not scaled.
        - "auto": "global"; None for a loss that is defined on a part of the real line
          only, such as :class:`~skae.losses.Bernoulli`, which accepts no other value.

        With "standard", "minmax" and "robust" a constant feature is centred, and only
        divided where all others are divided by less than one: then by the largest of
        these numbers.

    optimizer : {"adam", "adamw", "nadam", "radam", "sgd"} or class, default="adamw"
        Optimiser, by name or as a subclass of :class:`torch.optim.Optimizer`.

    lr : float, default=5e-3
        Learning rate. It is constant: a running average of the weights is evaluated and
        kept, which replaces learning-rate decay. The default is compared with others
        in ``tests/benchmarks/search_default.py``.

    weight_decay : float, default=0.0
        Weight decay, passed to the optimiser. It applies to the weights of layers only,
        not to biases, normalisation parameters and variances. Weights decay towards
        zero; those of a linear path that started at PCA decay towards that start.

    gradient_clip : float or None, default=1.0
        Maximum norm of the gradient of all weights together: larger ones are scaled
        down to it (Pascanu, Mikolov & Bengio, 2013). The gradient of a row far from all
        others has any size; a step for it is then no longer than others. None does not
        clip. The default: ``tests/benchmarks/search_default.py``.

    batch_size : "auto" or int, default="auto"
        Maximum number of rows per training step. "auto" is the power of two nearest to
        ``n_samples / 32``, at least 32 and at most 256. The rows of an epoch are split
        into batches whose sizes differ by at most one row.

    max_epochs : int or "auto", default="auto"
        Maximum number of epochs. "auto" is 300, and more where an epoch has fewer than
        23 steps, as in tables of fewer than 700 rows: as many epochs as have 6,900
        steps, at most 900.

    early_stopping : bool, default=True
        Whether to hold out a validation set, to stop when the objective on it no longer
        improves, and to keep the weights that are best on it. Initial weights that are
        a usable model, such as those of PCA or of a warm start, are kept unless the
        mean gain exceeds two standard errors. If False, training stops when the
        training objective no longer improves, and the last weights are kept.

        With fewer than 500 rows the validation set takes a large share of them. It then
        only chooses the number of epochs, and a network is trained on all rows for that
        number. If the gain on the validation set is not clear, the initial weights are
        judged by 5-fold cross-validation: the mean gain over all rows must exceed three
        standard errors, and the number of epochs is the median over the folds. The
        losses in ``history_`` are those of the training with the validation set. With
        ``callbacks`` in ``net_params`` there is only this one training.

    validation_fraction : float, default=0.1
        Share of the rows to hold out as validation set, but at least 50 rows, or 20 if
        50 are more than a quarter of all. Fewer than 20 rows could not tell a gain from
        noise, and none are held out: with the default, for fewer than 80 training rows.
        A model that starts at PCA then stays PCA. With a corruption, a penalty,
        ``Variational`` or a loss with a bounded domain, the initial weights are kept
        unless 5-fold cross-validation of at least 20 rows finds a clear gain. Random
        initial weights, symbols and sparse codes are trained on all rows until the
        training objective no longer improves. To train in any case, pass ``X_val`` to
        `fit`, a larger share, or ``early_stopping=False``.

    validation_split : {"random", "last"} or cross-validation splitter, default="random"
        Which rows are held out. Where rows depend on each other, rows that are held out
        at random are nearly known to the model: its errors on them are too small, and
        it is trained for too long.

        - "random": any rows; whole groups if ``groups`` is passed to `fit`.
        - "last": the last rows of the table, for rows in the order of time; whole
          groups if ``groups`` is passed.
        - A splitter such as :class:`~sklearn.model_selection.TimeSeriesSplit`: the test
          rows of its last split. ``validation_fraction`` is then not used. It is given
          the ``groups`` of `fit`, and only rows of positive weight.

    n_iter_no_change : int or "auto", default="auto"
        Number of epochs without an improvement of more than ``tol`` after which
        training stops. "auto" is 15, and more where an epoch has fewer than 23 steps:
        as many epochs as have 345 steps, at most 45.

    tol : float, default=1e-3
        Smallest improvement that counts, as a share of the objective.

    warm_start : bool, default=False
        Whether a further call of `fit` continues from the fitted weights, with the
        scaling and the number of components of the first call.

    random_state : int, RandomState instance or None, default=None
        Determines the validation set, the initial weights, the order of the rows and
        all noise. With an int, fits are equal bit for bit on one CPU; large networks
        also need the same number of threads. No global random generator is then read or
        changed. With None, seeds are drawn from NumPy's global generator.

    verbose : int, default=0
        0 is silent, 1 shows a progress bar with the losses.

    checkpoint : str or path-like, default=None
        Folder for the state of a fit, from which it goes on if the process is killed:
        the same call in a new process ends as if nothing had happened. It is written
        after each epoch, or less often where that would take more than a fiftieth of
        the time, and removed when the fit ends. A fit with other rows or parameters
        finds none of it. It needs a seed as ``random_state``. None: nothing is
        written. See :ref:`checkpoints`.

    device : str or torch.device, default="cpu"
        Device for training and inference: "cpu", "cuda", "cuda:1", "mps". "auto" is
        CUDA if it is available, else the CPU.

    precision : {"float32", "bf16"}, default="float32"
        Precision of the activations in training. With "bf16", products are computed
        with 8 significant bits instead of 24, by torch's autocast; weights, losses,
        validation and inference stay in single precision. It is faster for wide
        networks on GPUs that support it, and slower on most CPUs.

    net_params : dict, default=None
        Further parameters of the skorch net that trains the model, such as
        ``callbacks`` or ``optimizer__betas``, and ``averaging``: the decay per step of
        the running average of the weights, 0.995 by default. Parameters that `fit` sets
        itself are refused. Callbacks find "train_loss" and "valid_loss" of each epoch
        in the history. skorch's ``EpochScoring`` must be given a function; other
        callbacks that collect the outputs of batches are refused.

    Attributes
    ----------
    n_components_ : int
        Number of components of the latent code.

    mean_ : ndarray of shape (n_features_in_,)
        Weighted mean of the training rows. A categorical feature has one
        entry for each category instead, its share of the rows.

    scale_ : ndarray of shape (n_features_in_,)
        Number by which each feature is divided inside the model. A
        categorical feature has one entry for each category instead.

    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each component of the code over the training rows, before
        whitening. For a linear network with ``scaling="global"``, and for a model that
        stayed PCA, these are the values of PCA, with the divisor ``n_samples - 1``. For
        other networks it is the same statistic of the nonlinear code: it measures
        spread in units of the code, and not a share of the variance of the data, which
        is ``explained_variance_ratio_``. With sample weights it is the diagonal of
        ``numpy.cov(code.T, aweights=sample_weight)``.

    singular_values_ : ndarray of shape (n_components_,)
        2-norm of each column of the centred code of the training rows, before
        whitening: the singular values of that code if its columns are uncorrelated, as
        for PCA. Sample weights are divided by their mean, and multiply the squares.

    noise_variance_ : float
        Variance of the residual per direction that the code leaves out, as in
        probabilistic PCA [2]_, in squared units of the data: the squared residuals of a
        training row, summed over the features and averaged over the rows, divided by
        ``min(n_samples, n_features) - n_components_``. The mean over the rows is
        (weighted and) corrected as ``explained_variance_`` is. For PCA this is the mean
        of the eigenvalues that are left out. It is 0 if no direction is left out.

    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Increase of R² on the training rows when ``k + 1`` instead of ``k`` components
        are decoded. For a linear network these are the values of PCA; for other
        networks they need not decrease. Their sum is the R² of the model. If all rows
        would take long, its division among the components is measured on a random draw
        of rows, one per stratum of the table, which does not depend on
        ``random_state``: the fewer, the more components and features there are, but at
        least 40.

    reconstruction_curve_ : dict of ndarray of shape (n_components_,)
        R² on the validation set when the first 1, 2, ... ``n_components_`` components
        are decoded: "r2" of the model, and "pca_r2" of PCA of the training rows with as
        many. On tables of less than 500 rows the model is the one before it was trained
        anew on all rows. Only available with :class:`~skae.bottlenecks.Nested` and a
        validation set.

    components_ : ndarray of shape (n_components_, n_features_in_)
        Change of the reconstruction per unit of each component, before whitening, in
        the units of the training data. Only available if the decoder is linear: without
        hidden layers, or if the model stayed PCA.

    active_units_ : int
        Number of components whose posterior mean has a variance of more than 0.01 over
        the training rows. Only available with :class:`~skae.bottlenecks.Variational`.

    dead_fraction_ : float
        Share of the components that no training row uses. Only available with
        :class:`~skae.bottlenecks.TopK` and :class:`~skae.bottlenecks.BatchTopK`.

    perplexity_ : float
        exp(entropy) of code usage over the training rows: the effective number of
        codes. It is the mean over groups or components. Only available with
        :class:`~skae.bottlenecks.VectorQuantized` and
        :class:`~skae.bottlenecks.FiniteScalar`.

    pca_reconstruction_error_ : float
        Mean squared residual of PCA on the training rows, in squared units of the data,
        for comparison with the mean of `reconstruction_error`. PCA is that of the
        scaled rows, with as many components as the model.

    history_ : dict of ndarray of shape (n_iter_,)
        Values of each epoch: "train_loss", the mean training objective per row;
        "valid_loss", the same on the validation set, if there is one; "seconds", the
        duration.

    loss_curve_ : ndarray of shape (n_iter_,)
        The same as ``history_["train_loss"]``, as in scikit-learn's ``MLPRegressor``.

    validation_loss_curve_ : ndarray of shape (n_iter_,)
        The same as ``history_["valid_loss"]``. Only available if there is a validation
        set.

    n_iter_ : int
        Number of epochs trained.

    best_epoch_ : int
        Epoch whose weights were kept, counted from 1; 0 means the initial weights.

    kept_weights_ : str
        Which weights were kept, for people: "epoch 42 of 57, then 1000 steps of the
        encoder", or "initial weights:" followed by the reason. The HTML diagram shows
        it below the name.

    diagnostics_ : dict
        Facts about the fit.

        - "n_held_out": number of validation rows.
        - "initial_loss", "best_loss": objective on the validation set before the first
          step, and with the weights that were kept. If training does not use one:
          infinity, and the training objective of the last epoch.
        - "diverged": whether the loss became infinite or NaN in an epoch. Training
          then goes on once, from the best weights, with a tenth of ``lr``.
        - "starts_at_pca": whether the weights before the first step were those of PCA.
          False for warm starts, random starts, and bottlenecks or losses that start
          elsewhere.
        - "n_encoder_steps": number of steps that the encoder was trained alone, up to
          the weights that were kept. Detectors have no such stage.
        - "n_active_components": number of components that vary over the training rows.
        - "r2", "pca_r2": R² of the model and of PCA on the training rows.
        - "step": how gradients were computed, "closed form", "autograd, with networks
          in closed form" or "autograd" (for any model), followed by "in a CUDA graph"
          if steps were captured on a GPU. None if no step was taken.
        - "batch_size": maximum number of rows per step.
        - "hint": which loss may fit the data better than the default, and why: where
          all values are in [0, 1] and many near the ends, or are counts. None if there
          is nothing to say.
        - "warnings": texts of the warnings about the result.

    device_ : str
        Device of the network.

    net_ : skorch.NeuralNet
        The trained net: ``net_.module_``, ``net_.history``. Its optimiser is available
        to callbacks during training only.

    categories_ : list
        The categories of each categorical feature that at least two training rows
        have, an array in the order of their entries in ``mean_``; None for numbers.
        Only available if there are categorical features.

    n_samples_seen_ : int
        Number of rows in all calls of `partial_fit`, and in the `fit` before, if any.
        Only available after `partial_fit`, when attributes that are measured on
        training rows are those of the rows that it keeps.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features. Only available if all column names of ``X`` are strings.

    Raises
    ------
    ValueError, TypeError
        On `fit`, if a parameter is not accepted; the message names it.

    Warns
    -----
    skae.exceptions.FitWarning
        On `fit`, if the initial weights were kept, so that the model is PCA; if the
        loss became infinite or NaN, if components are constant, if the code is wider
        than the data and not regularised, if the model reconstructs worse than PCA or
        the mean, if the decoder cannot return values that the rows have, or if the
        device ran out of memory. Each problem has a subclass of its own in
        :mod:`skae.exceptions`.
    sklearn.exceptions.ConvergenceWarning
        On `fit`, if ``max_epochs`` was reached before training stopped by itself. Not
        with ``early_stopping=False``, where this is expected.

    See Also
    --------
    AutoencoderOutlierDetector : The same model as an outlier detector.
    sklearn.decomposition.PCA : The linear model that training starts from.
    skae.metrics.reconstruction_scorer : A score that compares both.

    Notes
    -----
    Training is in single precision. `transform` and the other methods compute in the
    precision of ``X``, float32 or float64. The user guide describes the steps of a fit.

    References
    ----------
    .. [1] Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural
       Networks", Science 313, 2006.
    .. [2] Tipping & Bishop, "Probabilistic Principal Component Analysis", Journal of
       the Royal Statistical Society B 61, 1999.
    .. [3] Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear
       Parameters", Journal of the Society for Industrial and Applied Mathematics 11,
       1963.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import AutoencoderTransformer
    >>> X = load_digits().data
    >>> autoencoder = AutoencoderTransformer(n_components=8, random_state=0).fit(X)
    >>> autoencoder.transform(X).shape
    (1797, 8)
    >>> error = autoencoder.reconstruction_error(X).mean()
    >>> bool(error < 0.6 * autoencoder.pca_reconstruction_error_)
    True

    Without hidden layers the model is PCA:

    >>> import numpy as np
    >>> from skae.architectures import MLP
    >>> linear = AutoencoderTransformer(2, architecture=MLP(()), random_state=0).fit(X)
    >>> bool(np.allclose(linear.transform(X), PCA(2).fit_transform(X), atol=1e-2))
    True
    """

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "whiten": ["boolean"],
        "n_projection_steps": [Interval(Integral, 0, None, closed="left")],
        "max_encoder_steps": [Interval(Integral, 0, None, closed="left")],
    }

    _auto_scaling = "global"

    def __init__(
        self,
        n_components="auto",
        *,
        whiten=False,
        n_projection_steps=0,
        max_encoder_steps=0,
        architecture=None,
        bottleneck=None,
        corruption=None,
        penalty=None,
        loss=None,
        categorical_features="from_dtype",
        scaling="auto",
        optimizer="adamw",
        lr=5e-3,
        weight_decay=0.0,
        gradient_clip=1.0,
        batch_size="auto",
        max_epochs="auto",
        early_stopping=True,
        validation_fraction=0.1,
        validation_split="random",
        n_iter_no_change="auto",
        tol=1e-3,
        warm_start=False,
        random_state=None,
        verbose=0,
        checkpoint=None,
        device="cpu",
        precision="float32",
        net_params=None,
    ):
        self.n_components = n_components
        self.whiten = whiten
        self.n_projection_steps = n_projection_steps
        self.max_encoder_steps = max_encoder_steps
        self.architecture = architecture
        self.bottleneck = bottleneck
        self.corruption = corruption
        self.penalty = penalty
        self.loss = loss
        self.categorical_features = categorical_features
        self.scaling = scaling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.validation_split = validation_split
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision
        self.net_params = net_params

    def sample(self, n_samples=1, random_state=None):
        """Draw new rows that resemble the training rows.

        Codes are drawn and then decoded. With :class:`~skae.bottlenecks.Variational`
        they are drawn from the prior of the bottleneck. Otherwise they are drawn from a
        mixture of normal distributions [1]_ and moved to the nearest code that the
        bottleneck can return: a codebook row, or ``k`` nonzero components. The mixture
        is fitted to the codes of at most 2,000 training rows, once, when the method is
        first called.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows to draw.
        random_state : int, RandomState instance or None, default=None
            Source of the random numbers. With an int, every call returns the same rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), float64, or data frame
            Rows in the units of the training data. They are reconstructions of the
            codes, without the noise of the data around them: with
            :class:`~skae.losses.Bernoulli` and :class:`~skae.losses.Poisson`,
            probabilities and rates. Categories are drawn by their probabilities; with
            them rows are as they were given to `fit`, without them a data frame if
            `set_output` asks for one.

        Raises
        ------
        ValueError, TypeError
            If ``n_samples`` is not a positive integer.
        MemoryError
            If so many rows do not fit into memory.

        References
        ----------
        .. [1] Ghosh, Sajjadi, Vergari, Black & Schölkopf, "From Variational to
           Deterministic Autoencoders", ICLR 2020.

        Examples
        --------
        >>> from sklearn.datasets import make_s_curve
        >>> from skae import AutoencoderTransformer
        >>> X, _ = make_s_curve(500, random_state=0)
        >>> model = AutoencoderTransformer(2, random_state=0).fit(X)
        >>> model.sample(5, random_state=0).shape
        (5, 3)
        """
        model = self._fitted_model()
        check_scalar(n_samples, "n_samples", Integral, min_val=1, max_val=2**48)
        random_state = check_random_state(random_state)
        try:
            rows = model.sample(n_samples, random_state, self._density)
        except (MemoryError, RuntimeError) as error:
            if "allocate" not in str(error):
                raise
            raise MemoryError(
                f"n_samples={n_samples} rows of {self.n_features_in_} features do not "
                "fit into memory: draw fewer at a time."
            ) from error
        if self._categories is None:
            return self._framed(rows)
        return self._categories.restore(self._categories.drawn(rows, random_state))

    def _settings(self):
        settings = super()._settings()
        bottleneck = settings.parts.bottleneck
        if self.whiten and bottleneck.sparse_output:
            raise ValueError(
                "whiten=True centres the code, which is then not sparse, but "
                f"{type(bottleneck).__name__} has sparse_output=True: pass "
                "whiten=False or sparse_output=False."
            )
        if self.n_projection_steps > 0:
            self._check_projection(settings)
        return replace(
            settings,
            n_projection_steps=int(self.n_projection_steps),
            max_encoder_steps=int(self.max_encoder_steps),
        )

    def _check_projection(self, settings):
        """Check that the code of the nearest row can be any, and is one by squares."""
        parts, reason = settings.parts, None
        if not isinstance(parts.loss, SquaredError):
            reason = f"loss={parts.loss!r} is not the squared error"
        elif parts.bottleneck.symmetry != "rotation":
            reason = f"the code of bottleneck={parts.bottleneck!r} may not be moved"
        elif parts.corruption is not None:
            reason = f"with corruption={parts.corruption!r} noise would be fitted again"
        elif settings.blocks is not None:
            reason = "X has categorical features"
        if reason is not None:
            raise ValueError(
                f"n_projection_steps={self.n_projection_steps} needs SquaredError, "
                "Plain() without an activation, no corruption, and rows of numbers, "
                f"but {reason}: pass n_projection_steps=0."
            )

    def _finish(self, fit, progress, given=None):
        self._set_variances(fit)
        if self.whiten:
            self._whiten(fit)
        self._density = None
        if not hasattr(fit.model.autoencoder.bottleneck, "prior"):
            coordinates, weight = fit.model.coordinates, fit.plan.weight
            self._density = CodeDensity(fit.final.code, coordinates, weight)
        # No further network is to be trained.
        yield from ()

    def _set_variances(self, fit):
        """Set the attributes of PCA that are variances, from the final pass."""
        final, weight = fit.final, fit.plan.weight
        n_samples, n_features = fit.plan.rows.shape
        # Makes variances unbiased: n / (n - 1) for equal weights, else as numpy.cov.
        squares = 1.0 if weight is None else np.square(weight).mean()
        unbiased = 1 / (1 - squares / n_samples)
        variance = np.maximum(final.variance, 0.0)
        self.explained_variance_ = unbiased * variance
        self.singular_values_ = np.sqrt(n_samples * variance)
        n_components = fit.axes.n_components
        error = final.error @ np.square(fit.model.units.cpu().numpy())

        def noise_variance(error, n_components):
            left_out = min(n_samples, n_features) - n_components
            return float(unbiased * error / left_out) if left_out > 0 else 0.0

        self.noise_variance_ = noise_variance(error, n_components)
        if fit.plan.parts.bottleneck.nested:
            sizes = range(1, n_components + 1)
            of_size = map(noise_variance, self._by_size["error"], sizes)
            self._by_size["noise_variance_"] = list(of_size)

    def _whiten(self, fit):
        """Standardise the code of the model, over the training rows."""
        coordinates = fit.model.coordinates
        mean = torch.from_numpy(fit.final.mean).to(coordinates.center)
        deviation = np.sqrt(self.explained_variance_)
        # What is only rounding is not made as large as the others.
        deviation[deviation <= LEAST_SPREAD * deviation.max()] = 1.0
        fit.model.coordinates = coordinates.standardized(
            coordinates(mean[None])[0], deviation
        )
