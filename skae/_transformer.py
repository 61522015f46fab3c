"""The transformer: an autoencoder where PCA would stand."""

from numbers import Integral

from sklearn.utils import check_random_state, check_scalar

from ._base import BaseAutoencoder
from ._model.density import CodeDensity

__all__ = ["AutoencoderTransformer"]


class AutoencoderTransformer(BaseAutoencoder):
    """Nonlinear dimensionality reduction by an autoencoder, a drop-in for PCA.

    The rows are scaled, encoded into ``n_components_`` numbers and decoded again by
    two neural networks that are trained to make the difference small [1]_. Before the
    first step the model *is* PCA, on all training rows; held-out rows then say whether
    training has improved on it beyond noise, and if not it stays PCA. The code is
    that of PCA in all that a user sees: centred, uncorrelated, by falling variance,
    in the data's units, with PCA's signs.

    Parameters
    ----------
    n_components : "auto", int or float, default="auto"
        Width of the code. A float in (0, 1) is the smallest width with which PCA
        explains more than that share of the variance of the scaled data. "auto" is
        0.9, but at most half of ``min(n_samples, n_features)`` and at least 1. More
        components than features are allowed.

    architecture : Architecture, default=None
        The two networks. None is :class:`~skae.architectures.MLP` with its defaults.

    bottleneck : Bottleneck, default=None
        What stands between them. None is :class:`~skae.bottlenecks.Plain`.

    corruption : Corruption, default=None
        What is done to the input in training, for a denoising autoencoder; see
        :mod:`skae.corruptions`. None leaves it as it is.

    penalty : Penalty, default=None
        What shapes the code in training; see :mod:`skae.penalties`. Penalties add
        with ``+``.

    loss : Loss, default=None
        Distance between a row and its reconstruction, in scaled units, summed over
        the features. None is :class:`~skae.losses.SquaredError`.

    scaling : {"auto", "global", "standard", "minmax"} or None, default="auto"
        How the data are scaled inside the model, and back on the way out.

        - "global": each feature is centred, then all are divided by *one* number, the
          root of their mean variance. Errors stay those of the data, up to that one
          number, as they do for PCA.
        - "standard": each feature is centred and divided by its standard deviation.
        - "minmax": the range of each feature is mapped to [-1, 1].
        - None: the data are left as they are.
        - "auto": "global"; None for a loss that is only defined on part of the real
          line, which takes no other.

        A feature that does not vary is centred, not divided.

    optimizer : {"adam", "adamw", "nadam", "radam", "sgd"} or class, default="adamw"
        How the weights are trained; a class is a subclass of
        :class:`torch.optim.Optimizer`.

    lr : float, default=5e-3
        Learning rate. It is constant: a running average of the weights is what is
        judged and kept, and is as quiet as the end of a falling rate would be.

    weight_decay : float, default=0.0
        Passed to the optimiser: decay of the weights towards zero, of a linear path
        that started at PCA towards that start.

    gradient_clip : float, default=None
        Largest norm of the gradient of all weights together. None for no bound.

    batch_size : "auto" or int, default="auto"
        Rows per step. "auto" is the power of two nearest to ``n_samples / 32``, at
        least 32 and at most 256. The rows of an epoch are dealt into batches of equal
        size, never more than this.

    max_epochs : int, default=300
        Most passes over the training rows.

    early_stopping : bool, default=True
        Whether to hold out rows, to stop when they no longer gain, and to keep the
        weights that were best for them, those before the first step included. If
        False, training goes on until the training objective no longer falls, and the
        last weights are kept.

    validation_fraction : float, default=0.1
        Share of the rows to hold out, or 50 rows where that is more of them and no
        more than a quarter. Fewer than 50 could not tell a gain from noise, and none
        are held out: with the default, for fewer than 200 rows. A model that starts
        as PCA, with no corruption or penalty, then stays PCA; others train on all
        rows until the training objective no longer falls. Give ``X_val`` to `fit`, a
        larger share or ``early_stopping=False`` to train all the same.

    n_iter_no_change : int, default=15
        Epochs without an improvement of more than ``tol`` before training stops.

    tol : float, default=1e-3
        Smallest improvement that counts, as a share of the objective.

    warm_start : bool, default=False
        Whether another `fit` continues from the fitted weights, with the scaling and
        the number of components of the first.

    random_state : int, RandomState instance or None, default=None
        Source of the held-out rows, the initial weights, the order of the rows and all
        noise. With an int, fits are equal bit by bit on one CPU, those of large
        networks with the same number of threads. No global generator is read or
        written.

    verbose : int, default=0
        0 is silent, 1 shows a progress bar with the losses.

    device : str or torch.device, default="cpu"
        Where to train and to compute: "cpu", "cuda", "cuda:1", "mps". "auto" is CUDA
        where it is available, else the CPU.

    precision : {"float32", "bf16"}, default="float32"
        Numbers that pass through the networks in training. With "bf16" products
        are taken with 8 significant bits instead of 24, by torch's autocast; weights,
        losses, held-out rows and inference stay in single precision. It is faster on
        GPUs that have units for it, where networks are wide, and slower on most CPUs.

    net_params : dict, default=None
        Further parameters of the skorch net that trains the model, such as
        ``callbacks`` or ``optimizer__betas``, and ``averaging``: the decay per step of
        the running average of the weights, 0.995 by default. Callbacks see
        "train_loss" and "valid_loss" of each epoch; skorch's ``EpochScoring``
        takes a function here, and others that gather outputs of batches are refused.

    Attributes
    ----------
    n_components_ : int
        Width of the code.

    mean_ : ndarray of shape (n_features_in_,)
        Weighted mean of the training rows.

    scale_ : ndarray of shape (n_features_in_,)
        What each feature is divided by inside the model.

    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Gain in R² on the training rows from decoding ``k + 1`` instead of ``k``
        components. For a linear network these are the numbers of PCA, for others they
        need not fall. Their sum is the R² of the model. Where that would
        take long, it is measured on evenly spaced rows only.

    components_ : ndarray of shape (n_components_, n_features_in_)
        How a row moves with each component, in the data's units. Only there if the
        decoder is linear: without hidden layers, or left at PCA.

    active_units_ : int
        Components whose posterior mean varies over the training rows by more than 0.01.
        Only there with :class:`~skae.bottlenecks.Variational`.

    dead_fraction_ : float
        Share of the components that no training row uses. Only there with
        :class:`~skae.bottlenecks.TopK` and :class:`~skae.bottlenecks.BatchTopK`.

    perplexity_ : float
        e to the entropy of the symbols of the training rows, the mean over groups or
        components: how many of them are in use, as if all that are were equally often.
        Only there with :class:`~skae.bottlenecks.VectorQuantized` and
        :class:`~skae.bottlenecks.FiniteScalar`.

    pca_reconstruction_error_ : float
        Mean squared residual on the training rows of PCA with as many components, of
        the rows as they are scaled, in squared units of the data; to be compared with
        the mean of `reconstruction_error`.

    history_ : dict of ndarray of shape (n_iter_,)
        "train_loss" and, where rows judge the training, "valid_loss": the objective
        per row and epoch; "seconds" per epoch.

    n_iter_ : int
        Epochs trained.

    best_epoch_ : int
        Epoch whose weights were kept, counted from 1; 0 is the start.

    diagnostics_ : dict
        "n_held_out": rows that judged the training. "initial_loss", "best_loss": their
        objective before the first step and with the weights that were kept; where
        there are none, infinite and the training objective. "diverged": whether the
        loss stopped being finite. "n_active_components": components that vary. "r2",
        "pca_r2": R² of model and PCA on the training rows. "step": how gradients
        were computed, "closed form" or "autograd" (any model), on a GPU maybe "in a
        CUDA graph"; None where no step was taken. "batch_size": rows per step, at most.

    device_ : str
        Where the network is.

    net_ : skorch.NeuralNet
        The trained net: ``net_.module_``, ``net_.history``. Its optimiser is there for
        callbacks during training only.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where ``X`` has string names for all of them.

    Raises
    ------
    ValueError, TypeError
        On `fit`, for a parameter that is not accepted; the message names it.

    Warns
    -----
    skae.exceptions.FitWarning
        On `fit`, if the loss stopped being finite, components are constant, the code is
        wider than the data with nothing to keep it from being a copy, or the model is
        worse than PCA or the mean; each has a class of its own there.
    sklearn.exceptions.ConvergenceWarning
        On `fit`, if ``max_epochs`` was reached before training stopped by itself, but
        not with ``early_stopping=False``, which asks for these epochs.

    See Also
    --------
    AutoencoderOutlierDetector : The same model where outliers are looked for.
    sklearn.decomposition.PCA : The linear model that this one starts as.
    skae.metrics.reconstruction_scorer : One score for both.

    Notes
    -----
    Training is in single precision; `transform` and the others compute in the precision
    of ``X``. How a fit goes is told in the user guide.

    References
    ----------
    .. [1] Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural
       Networks", Science 313, 2006.

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

    With a handful of rows there is nothing to judge a network by, and it stays PCA:

    >>> import numpy as np
    >>> few = AutoencoderTransformer(n_components=2, random_state=0).fit(X[:20])
    >>> bool(np.allclose(few.transform(X), PCA(2).fit(X[:20]).transform(X), atol=1e-3))
    True
    """

    _auto_scaling = "global"

    def __init__(
        self,
        n_components="auto",
        *,
        architecture=None,
        bottleneck=None,
        corruption=None,
        penalty=None,
        loss=None,
        scaling="auto",
        optimizer="adamw",
        lr=5e-3,
        weight_decay=0.0,
        gradient_clip=None,
        batch_size="auto",
        max_epochs=300,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=15,
        tol=1e-3,
        warm_start=False,
        random_state=None,
        verbose=0,
        device="cpu",
        precision="float32",
        net_params=None,
    ):
        self.n_components = n_components
        self.architecture = architecture
        self.bottleneck = bottleneck
        self.corruption = corruption
        self.penalty = penalty
        self.loss = loss
        self.scaling = scaling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.precision = precision
        self.net_params = net_params

    def sample(self, n_samples=1, random_state=None):
        """Draw new rows like those of the training.

        With :class:`~skae.bottlenecks.Variational` codes are drawn from the prior that
        it was trained for. Otherwise they come from a mixture of normal distributions,
        fitted to the ordered codes of at most 2,000 training rows, and are moved to the
        nearest code that is possible: a row of the codebook, ``k`` components that are
        not zero. The decoder makes rows of them.

        Parameters
        ----------
        n_samples : int, default=1
            How many rows to draw.
        random_state : int, RandomState instance or None, default=None
            Source of the randomness; an int gives the same rows at every call.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), float64
            Rows in the data's own units: what the decoder expects for a code, without
            the noise that data have around it. With
            :class:`~skae.losses.Bernoulli` and :class:`~skae.losses.Poisson` these are
            probabilities and rates.
        """
        model = self._fitted_model()
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        return model.sample(n_samples, check_random_state(random_state), self._density)

    def _finish(self, fit, progress):
        self._density = None
        if not hasattr(fit.model.autoencoder.bottleneck, "prior"):
            coordinates, weight = fit.model.coordinates, fit.plan.weight
            self._density = CodeDensity(fit.final.code, coordinates, weight)
