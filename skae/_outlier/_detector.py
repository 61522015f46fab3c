"""The outlier detector."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state

from .._base import BaseAutoencoder
from .._compat.sklearn import Interval, StrOptions
from .._data.arrays import check_namespace, like, on_host, sides
from .._data.holdout import group_codes, neighbours_are_alike
from .._data.labels import outlier_labels
from .._data.stream import Stream
from .._data.subsample import subsample
from .._data.winsorizing import Winsorized, winsorized
from .._model.export import exported_score
from .._warning import warn_user
from ..anomaly_scores import AnomalyScore, Combined
from ..architectures import MLP
from ..exceptions import ContaminatedRowsWarning, DependentRowsWarning
from ..inspection import Explanation
from ..inspection._explanation import furthest
from . import _thresholds
from ._cross_fitting import cross_fits, cross_fitted
from ._ensemble import fit_ensemble

__all__ = ["AutoencoderOutlierDetector"]

# Training rows that a threshold is set from, at most, where rows are read in chunks.
_MAX_SCORED = 2**17


class AutoencoderOutlierDetector(OutlierMixin, BaseAutoencoder):
    """Outlier detection with an autoencoder.

    The model is that of :class:`AutoencoderTransformer`, trained on rows that are all
    or mostly normal [1]_. A row is scored by the distance of its residual and code to
    those of training rows; `explain` returns the contribution of each feature to the
    score. Conventions are those of :class:`~sklearn.ensemble.IsolationForest`: normal
    rows have higher scores, and `predict` returns +1 for them and -1 for outliers.

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

    contamination : "auto" or float, default="auto"
        Whether there are outliers among the training rows, and how the threshold is
        set.

        - float in (0, 0.5]: share of the rows given to `fit` that `predict` calls
          outliers, as in IsolationForest. For training data that contain about that
          share of outliers: the default score then leaves suspected rows out of those
          that it stores (see :class:`~skae.anomaly_scores.Neighbors`). New rows are a
          little farther from training rows than these are from each other, so a larger
          share of them is below the threshold. Only the networks of the ensemble are
          trained, none for cross-fitting.
        - "auto": for training data that are normal. The threshold is set for a false
          alarm rate of about 1 % on new normal rows, or one in ``n + 1`` if it is set
          from the scores of ``n < 100`` rows.

        With "auto" the threshold is set from scores of rows that training has not used:

        - The rows held back by ``calibration_fraction``, if there are any.
        - Without these, for 10 to 499 training rows, cross-fitting scores: the rows are
          split into five parts, and each is scored by a model of the other four, with
          scaling and principal axes of its own. It is also used for up to 1,999
          training rows if these are fewer than 20 per component or 10 per column, but
          not with ``X_val``. `fit` then takes about six times as long, unless training
          keeps the initial weights. With ``groups``, ``validation_split="last"`` or a
          splitter it is used for any number of rows: a tenth of thirty machines, or of
          a year, does not show how much they differ.
        - Otherwise the validation set.
        - Without one (fewer than 10 rows, or ``early_stopping=False``), the training
          rows, scored by the model that was trained on them.

        The 1 % quantile of a few dozen scores is uncertain. Therefore an exponential
        tail is fitted to the most abnormal tenth of the scores. In case these are
        outliers, a second threshold is computed from the less abnormal rows, and the
        stricter one is used. The second one is left out in tables of few distinct
        values if most of the rows that it flags have copies. The most abnormal of these
        rows is always called an outlier, unless more than 1 % of them share its score.
        The false alarm rate is usually 2 to 3 % with 500 to 2,000 training rows, whose
        validation set is small. It may exceed that with 2,000 rows or more, but fewer
        than 20 per component or 10 per column, and in some tables of few distinct
        values. Then pass ``false_positive_rate`` to `calibrate`, which sets another
        threshold without fitting again.

    anomaly_score : AnomalyScore, default=None
        How the score of a row is computed from its code and residual; see
        :mod:`skae.anomaly_scores`. None is :class:`~skae.anomaly_scores.Combined`, with
        ``contamination`` if that is a float: the distance to stored training rows, in
        residual and code and in the data.

    n_estimators : int, default=1
        Number of autoencoders in the ensemble. Each has its own random weights and
        order of rows; scaling, principal axes and validation set are shared. The score
        is the mean of their scores, each divided by its mean absolute deviation from
        the median over the validation set, or over the training rows if there are
        fewer than 500. With ``n_components="auto"`` the further ones have fewer
        components, down to half as many. Codes, reconstructions and fitted attributes
        are those of the first.

    calibration_fraction : float, default=0.0
        Share of the rows, in [0, 1), that are not used for training at all, but to set
        the threshold and for `p_values`: at random, whole groups or the last rows, see
        ``validation_split``. At least two rows must remain. It must be 0 when
        ``warm_start`` continues from fitted weights, which may have seen any row.

    architecture : Architecture, default=None
        The encoder and decoder networks; see :mod:`skae.architectures`. None is
        ``MLP(activation="tanh", norm=None, start="pca")``: with bounded activations,
        rows that are far off are reconstructed as by PCA; batch normalisation would let
        outliers among the training rows change its statistics.

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
        - "auto": "standard"; None for a loss that is defined on a part of the real line
          only, such as :class:`~skae.losses.Bernoulli`, which accepts no other value.

        With a scale for each feature, a value that differs from that of a constant
        feature by more than rounding (a millionth) counts as the root of ``n_samples``
        standard deviations, whatever its unit.

        A few wild values, such as a missing value that was coded as -9999, would set
        the scale of a feature and the principal axes. Training, with any scaling, takes
        them for the largest or smallest of the other values: up to 1 % of the values of
        a feature (of 20 to 199 rows, one) that are ten times as far from its median as
        all others and at least double its variance, if there are ten or more different
        other values. `score_samples` and `predict` take rows as they are.

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
        it is trained for too long, and `predict` flags far more new rows than promised.

        - "random": any rows; whole groups if ``groups`` is passed to `fit`.
        - "last": the last rows of the table, for rows in the order of time; whole
          groups if ``groups`` is passed. Cross-fitting, as for
          ``contamination="auto"``, splits into consecutive parts.
        - A splitter such as :class:`~sklearn.model_selection.TimeSeriesSplit`: the test
          rows of its last split. ``validation_fraction`` is then not used. It is given
          the ``groups`` of `fit`, and only rows of positive weight. Cross-fitting uses
          all its splits.

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
    offset_ : float
        The threshold: ``decision_function(X) = score_samples(X) - offset_``. Rows whose
        score is below it are outliers.

    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores of the calibration rows, as returned by `score_samples`. Only available
        with ``calibration_fraction``, or after `calibrate` was given such rows.

    n_components_ : int
        Number of components of the latent code.

    mean_ : ndarray of shape (n_features_in_,)
        Weighted mean of the training rows. A categorical feature has one
        entry for each category instead, its share of the rows.

    scale_ : ndarray of shape (n_features_in_,)
        Number by which each feature is divided inside the model. A
        categorical feature has one entry for each category instead.

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
        Change of the reconstruction per unit of each component, in the units of the
        training data. Only available if the decoder is linear: without hidden layers,
        or if the model stayed PCA.

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
        Which weights were kept, for people: "epoch 42 of 57", or "initial weights:"
        followed by the reason. The HTML diagram shows it below the name.

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
    AutoencoderTransformer : The same model as a transformer.
    sklearn.ensemble.IsolationForest : Needs no scaling and no network; often as good.
    sklearn.neighbors.LocalOutlierFactor : Needs no network, but stores all rows.
    skae.metrics.make_outlier_scorer : Scorer for labelled outliers.

    References
    ----------
    .. [1] Hawkins, He, Williams & Baxter, "Outlier Detection Using Replicator Neural
       Networks", DaWaK 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(-3, 3, size=500)
    >>> X = np.c_[t, np.sin(t), np.cos(t)] + 0.05 * rng.normal(size=(500, 3))
    >>> detector = AutoencoderOutlierDetector(1, random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    array([ 1, -1])
    """

    _auto_scaling = "standard"
    _marks_changes = True
    _torch_parts = (*BaseAutoencoder._torch_parts, "score")

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "anomaly_score": [AnomalyScore, None],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "calibration_fraction": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        contamination="auto",
        anomaly_score=None,
        n_estimators=1,
        calibration_fraction=0.0,
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
        self.contamination = contamination
        self.anomaly_score = anomaly_score
        self.n_estimators = n_estimators
        self.calibration_fraction = calibration_fraction
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

    def score_samples(self, X):
        """Return the scores of rows: the lower, the more abnormal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Minus the anomaly score.

        Raises
        ------
        ValueError
            If rows are outside the domain of the loss, where it is not defined.
        """
        X = self._check_rows(X, "score_samples")
        return -self._ensemble.score(X)

    def decision_function(self, X):
        """Return the scores of rows minus the threshold: negative for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            ``score_samples(X) - offset_``.
        """
        check_namespace(X, self, "decision_function")
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return +1 for normal rows and -1 for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray of shape (n_samples,), int64
            -1 where `decision_function` is negative, +1 elsewhere.
        """
        check_namespace(X, self, "predict")
        return sides(self.decision_function(X))

    def calibrate(
        self,
        X=None,
        y=None,
        *,
        quantile=None,
        false_positive_rate=None,
        n_alerts=None,
        rule=None,
        metric=None,
        groups=None,
    ):
        """Set another threshold without fitting the model again.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            Rows that were not used in `fit`, such as the last weeks of a stream. All
            are normal, unless ``y`` or ``n_alerts`` is given. The normal ones become
            the calibration rows of `p_values`, except with ``n_alerts``.

            None uses the rows of the last such call; without one, the rows held back by
            ``calibration_fraction``; without these, the rows from which `fit` set the
            threshold. These are the training rows with a float ``contamination``, which
            is read by `fit` only: to change it later, pass it as ``quantile``.

        y : array-like of shape (n_samples,), default=None
            Labels of the rows, of which some are outliers: True (others False), 1
            (others 0) or -1 (others 1). The threshold is the one with the best
            ``metric``.

        quantile : float, default=None
            Share of the rows whose score is below the threshold, in (0, 1).

        false_positive_rate : float, default=None
            Maximum probability, in (0, 1), that a new normal row is called an outlier,
            averaged over the draw of the new row and of the ``n`` given ones (split
            conformal prediction [1]_). The threshold is the
            ``floor(false_positive_rate * (n + 1))``-th lowest score, less what rounding
            may change. Rows that training has used cannot promise this: without ``X``
            there must be calibration rows, as for `p_values`. Sample weights are not
            used.

        n_alerts : int, default=None
            Number of the rows to call outliers, less than the number of rows; fewer are
            if scores are equal. Of as many new rows, at most so many are on average.
            (With 0, one is.) With ``groups``, such as days, it is the mean number per
            group. For batches of which a fixed number can be inspected. These rows need
            not be normal, and `p_values` does not use them.

        rule : callable, default=None
            Function from the scores of the rows, an ndarray as returned by
            `score_samples`, to the threshold, a finite number.

            At most one of the four rules can be given, and none with ``y``. Without
            any, the threshold is set as with ``contamination="auto"``, for a false
            alarm rate of about 1 %.

        metric : callable, default=None
            ``metric(is_outlier, is_called_outlier)`` of two boolean arrays returns a
            number, higher for better labels; for ``y`` only. None is
            :func:`~sklearn.metrics.balanced_accuracy_score`, as for scikit-learn's
            ``TunedThresholdClassifierCV``. Thresholds between two rows that differ in
            their label are tried; of equally good ones the one with the fewest alarms
            is taken.

        groups : array-like of shape (n_samples,), default=None
            Label of the machine, patient or day of each row of ``X``, where the rows of
            one depend on each other. ``false_positive_rate`` and `p_values` are then
            for a row of a new group, and go by the number of groups in the place of
            ``n`` (hierarchical conformal prediction [2]_).

        Returns
        -------
        self : object
            The detector, with a new ``offset_``.

        Raises
        ------
        ValueError
            If more than one of the four rules is given, if one is not accepted, if
            ``false_positive_rate`` is less than ``1 / (n + 1)``, the smallest rate that
            ``n`` rows can guarantee, or if it is given without any calibration rows.
            The detector is then unchanged.

        Warns
        -----
        InvertedLabelsWarning
            If the outliers of ``y`` are scored as clearly more normal than the others.

        References
        ----------
        .. [1] Laxhammar & Falkman, "Conformal Prediction for Distribution-Independent
           Anomaly Detection in Streaming Vessel Data", StreamKDD 2010.
        .. [2] Lee, Barber & Willett, "Distribution-free inference with hierarchical
           data", arXiv:2306.06342, 2023.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> X, X_later = rng.normal(size=(500, 5)), rng.normal(size=(400, 5))
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> int(np.sum(detector.calibrate(X_later, n_alerts=4).predict(X_later) == -1))
        4

        With labels of a few rows, by the metric that counts:

        >>> from sklearn.metrics import f1_score
        >>> rows = np.r_[X_later[:50], X_later[50:60] + 8.0]
        >>> is_outlier = [0] * 50 + [1] * 10
        >>> detector = detector.calibrate(rows, is_outlier, metric=f1_score)
        >>> f1_score(is_outlier, detector.predict(rows) == -1)
        1.0
        """
        threshold = _thresholds.given(
            quantile=quantile,
            false_positive_rate=false_positive_rate,
            n_alerts=n_alerts,
            rule=rule,
        )
        if y is not None:
            taken = quantile, false_positive_rate, n_alerts, rule
            if X is None or any(value is not None for value in taken):
                raise ValueError(
                    "calibrate(X, y) needs the rows of y, and sets the threshold by "
                    "metric: pass X, and none of the four rules."
                )
            threshold = _thresholds.for_labels(outlier_labels(y), metric)
        elif metric is not None:
            raise ValueError(
                "metric compares with the labels y: pass both, or neither."
            )
        if X is None:
            self._fitted_model()
            if groups is not None:
                raise ValueError("groups are those of the rows X: pass both.")
            if false_positive_rate is not None:
                self._check_calibrated("calibrate(false_positive_rate=...)")
            reference = self._reference
        else:
            scores = on_host(self.score_samples(X))
            codes = group_codes(on_host(groups), scores)
            reference = _thresholds.Reference(scores, groups=codes)
        self.offset_ = threshold(reference)
        if X is not None and n_alerts is None:
            if y is not None:
                reference = reference.of(~outlier_labels(y))
            self._reference = reference
            self.calibration_scores_ = like(reference.scores, X)
        return self

    def p_values(self, X):
        """Return conformal p-values: the share of normal rows at least as abnormal.

        For a new row from the distribution of the calibration rows, the probability of
        a p-value of at most ``p`` is at most ``p``, whatever the model [1]_. The
        calibration rows are those given to `calibrate`, or else those held back by
        ``calibration_fraction``, which training has not used. The smallest possible
        p-value is ``1 / (n + 1)`` with ``n`` calibration rows. If these came with
        ``groups``, it is for rows of a new group, and ``n`` is their number.

        To bound the share of false alarms among the alarms for many rows, pass the
        p-values to :func:`scipy.stats.false_discovery_control`. Conformal p-values are
        not independent, but their dependence is one for which this is valid [1]_.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            P-values in (0, 1].

        Raises
        ------
        ValueError
            If there are no calibration rows.

        References
        ----------
        .. [1] Bates, Candès, Lei, Romano & Sesia, "Testing for Outliers with Conformal
           p-values", Annals of Statistics 51, 2023.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> detector = AutoencoderOutlierDetector(
        ...     calibration_fraction=0.4, random_state=0
        ... ).fit(rng.normal(size=(1000, 5)))
        >>> X = np.r_[rng.normal(size=(95, 5)), np.full((5, 5), 6.0)]
        >>> p = detector.p_values(X)
        >>> np.flatnonzero(false_discovery_control(p) < 0.1)
        array([95, 96, 97, 98, 99])
        """
        self._fitted_model()
        self._check_calibrated("p_values")
        scores = on_host(self.score_samples(X))
        return like(_thresholds.p_values(scores, self._reference), X)

    def explain(self, X):
        """Return the contribution of each feature to the anomaly score of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows in the units of the training data.

        Returns
        -------
        explanation : Explanation
            Arrays of shape (n_samples, n_features); see
            :class:`~skae.inspection.Explanation`:

            - ``value``: the rows, NaN or None where a value is missing.
            - ``expected``: their reconstruction, the mean of those of the ensemble, in
              the units of the training data; of categories the most probable one.
            - ``residual``: ``value - expected``, divided by the root mean square of the
              residual of the feature over the validation set, or over the training rows
              if there are fewer than 500. Of a category it is that of the indicator
              furthest from zero.
            - ``share``: share of the feature in the anomaly score.

            ``code_share``, of shape (n_samples,), is the share of the score that is due
            to the code and not to a single feature. All shares of a row sum to one.
            ``normal_rows`` are training rows to compare with, if the score stores any.
            ``explanation.to_frame(top_k)`` returns a data frame with the ``top_k``
            features of each row that have the largest shares, by name;
            ``explanation.plot(row=0)`` draws a row.

        Raises
        ------
        ValueError
            If rows are outside the domain of the loss, where it is not defined.

        See Also
        --------
        skae.inspection.explain : Explains rows of a pipeline that ends in a detector.

        Notes
        -----
        Shares show where a row differs from the stored training rows. A wrong value
        also changes the reconstruction of correlated features. These then have a share,
        too, but usually a smaller one.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.RandomState(0)
        >>> t = rng.uniform(-2, 2, size=(500, 1))
        >>> X = np.hstack([t, t**2, np.sin(t), np.cos(t), np.tanh(t)])
        >>> X += 0.05 * rng.normal(size=X.shape)
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> fault = X[:1].copy()
        >>> fault[0, 4] += 2
        >>> explanation = detector.explain(fault)
        >>> int(explanation.share[0].argmax())
        4
        >>> round(float(explanation.share.sum() + explanation.code_share.sum()), 6)
        1.0
        """
        index = X.index if hasattr(X, "iloc") else None
        given, X = X, on_host(self._check_rows(X, "explain"))
        if isinstance(X, Stream):
            X = X.take(slice(None)).numpy()
        X = X.toarray() if issparse(X) else X
        parts, expected = self._ensemble.explain(X)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            n_features = self.n_features_in_
            names = np.array([f"x{j}" for j in range(n_features)], dtype=object)
        normal = self._ensemble.normal_rows
        with np.errstate(over="ignore"):
            residual = (X - expected) / self._ensemble.residual_spread
        if (categories := self._categories) is not None:
            blocks = categories.blocks
            parts = np.column_stack([blocks.sums(parts[:, :-1]), parts[:, -1]])
            residual = np.column_stack(
                [furthest(residual[:, blocks.columns(j)]) for j in range(len(names))]
            )
            X = categories.table(categories.codes(given, self), given)
            expected = categories.table(categories.probable(expected))
            if normal is not None:
                normal = categories.table(categories.probable(normal))
        # Where the network leaves the range of numbers, so may its parts.
        most = np.finfo(np.float64).max / (2 * parts.shape[1])
        parts = np.minimum(np.nan_to_num(parts, nan=most, posinf=most), most)
        total = parts.sum(axis=1, keepdims=True)
        parts = np.divide(
            parts, total, out=np.full_like(parts, 1 / parts.shape[1]), where=total > 0
        )
        return Explanation(
            value=X,
            expected=expected,
            residual=residual,
            share=parts[:, :-1],
            code_share=parts[:, -1],
            feature_names=names,
            index=np.arange(len(X)) if index is None else index,
            normal_rows=normal,
        )

    def _exported(self, model, part):
        if part == "score":
            return exported_score(self._ensemble.members)
        return super()._exported(model, part)

    def _check_calibrated(self, name):
        if not hasattr(self, "calibration_scores_"):
            raise ValueError(
                f"{name} needs calibration rows, that is normal rows that fit has not "
                "used, and there are none: call calibrate(X) first, or fit with "
                f"calibration_fraction=0.2. Got {self.calibration_fraction!r}."
            )

    def _check_rows(self, X, method):
        model = self._fitted_model()
        X = self._check_X(X, method)
        check = partial(model.loss.check_domain, name="X")
        if isinstance(X, Stream):
            return X.checked_by(check)
        check(X)
        return X

    @staticmethod
    def _meaning_of_none(bottleneck=None):
        # Bounded activations and PCA's linear path reconstruct what is far off as PCA
        # does; batch normalisation would let outliers among the training rows into its
        # statistics, without a gain in ranking: tests/benchmarks/bench_outliers.py.
        network = MLP(activation="tanh", norm=None, start="pca")
        own = {"architecture": network, "anomaly_score": Combined()}
        return BaseAutoencoder._meaning_of_none() | own

    def _score(self):
        if self.anomaly_score is not None:
            return self.anomaly_score
        default = self._meaning_of_none()["anomaly_score"]
        if self.contamination == "auto":
            return default
        return default.set_params(contamination=self.contamination)

    def _withhold(self, n_samples, holdout):
        """Return the calibration rows, which nothing is learnt from, or None."""
        self._score().validate()
        self._withheld = None
        if not self.calibration_fraction:
            return None
        if self.warm_start and hasattr(self, "_ensemble"):
            raise ValueError(
                "warm_start=True continues from weights that may have been trained on "
                "the rows that would be held back by "
                f"calibration_fraction={self.calibration_fraction}: pass "
                "calibration_fraction=0, and new rows to calibrate."
            )
        n_withheld = max(1, round(self.calibration_fraction * n_samples))
        if n_samples - n_withheld < 2:
            raise ValueError(
                f"calibration_fraction={self.calibration_fraction} leaves "
                f"{n_samples - n_withheld} of {n_samples} rows to train on: at least 2 "
                "are required."
            )
        if holdout.is_splitter:
            raise ValueError(
                "calibration_fraction holds back rows at random, the last ones or "
                "whole groups, not those of a splitter: pass validation_split='last', "
                f"or calibration_fraction=0. Got {self.validation_split!r}."
            )
        random_state = check_random_state(self.random_state)
        out = holdout.draw(n_samples, n_withheld, random_state)
        if out is None or n_samples - len(out) < 2:
            raise ValueError(
                f"calibration_fraction={self.calibration_fraction} would hold back all "
                "of the groups: pass a smaller one."
            )
        return out

    def _cleaned(self, rows):
        return Winsorized(rows) if isinstance(rows, Stream) else winsorized(rows)

    def _validate_params(self):
        share = self.contamination
        if isinstance(share, Real) and share == 0:
            raise ValueError(
                "contamination=0 would call no row an outlier: pass 'auto' if all "
                "training rows are normal, or set the threshold after fit, for example "
                "by calibrate(X, false_positive_rate=0.001)."
            )
        super()._validate_params()

    def _n_networks(self, plan):
        return self.n_estimators * (1 + plan.n_folds * self._cross_fits(plan))

    def _cross_fits(self, plan):
        """Return whether the threshold is set from scores of cross-fitted models."""
        automatic = self.contamination == "auto" and self._withheld is None
        return automatic and cross_fits(plan)

    def _finish(self, fit, progress, given=None):
        warm = self.warm_start and hasattr(self, "_ensemble")
        previous = self._ensemble.members if warm else ()
        how = {
            "score": self._score(),
            "n_estimators": 1 if progress is None else self.n_estimators,
            "sizes": "smaller" if self.n_components == "auto" else "same",
        }
        events = {"progress": progress, "attributes": self._attributes_of}
        fitted = yield from fit_ensemble(fit, **how, previous=previous, **events)
        self._ensemble = fitted.ensemble
        withheld, self._withheld = self._withheld, None
        vars(self).pop("calibration_scores_", None)
        if withheld is not None:
            X, weight, groups = withheld
            if self._categories is not None:
                X = self._categories.encode(X)
            scores = -self._ensemble.score(X)
            self._reference = _thresholds.Reference(scores, weight, groups)
            self.calibration_scores_ = self._reference.scores
        if self.contamination != "auto":
            scores, weight = self._row_scores(fit, fitted, given)
            if withheld is None:
                self._reference = _thresholds.Reference(scores, weight)
            else:
                scores = np.append(scores, self.calibration_scores_)
                weight = None if weight is None else np.append(weight, withheld[1])
            share = self.contamination
            self.offset_ = _thresholds.at_quantile(scores, share, weight)
            return
        if progress is not None:
            self._warn_of_dependence(fit.plan)
        if withheld is None:
            unseen = yield from self._unseen_scores(fit, fitted, how, events)
            self._reference = _thresholds.Reference(*unseen)
        self.offset_ = _thresholds.given()(self._reference)
        if progress is not None:
            self._warn_of_contamination()

    def _warn_of_contamination(self):
        share = _thresholds.suspicious(self._reference, self.offset_)
        if share > 0:
            warn_user(
                f"{share:.0%} of the rows that set the threshold are flagged, where "
                f"{_thresholds.FALSE_ALARMS:.0%} is usual. If there are outliers among "
                f"the training rows, pass their share, contamination={share:.2f} or "
                "more, to find more of them. Other possible reasons are that normal "
                "rows have heavy tails or few distinct values.",
                ContaminatedRowsWarning,
            )

    @staticmethod
    def _warn_of_dependence(plan):
        random = plan.X_val is None and plan.holdout.is_plain
        if random and neighbours_are_alike(plan.x):
            warn_user(
                "Consecutive rows are nearly equal, but the threshold was set from "
                "rows held out at random: far more new rows may be flagged than "
                "promised. Pass groups, validation_split='last' if rows are "
                "in the order of time, or X_val; shuffle rows that are only sorted.",
                DependentRowsWarning,
            )

    def _row_scores(self, fit, fitted, given=None):
        """Return the scores of all training rows and their sample weights.

        Of rows that are read in chunks some are drawn.
        """
        scores, rows = fitted.row_scores, fit.plan.rows
        if given is not None:
            # `predict` takes rows as they are, wild values and all.
            scores, rows = None, given
        if scores is None:
            if rows.streamed:
                rows = rows.subset(subsample(len(rows), _MAX_SCORED))
            scores = fitted.ensemble.score(rows)
        return -scores, fit.plan.weight

    def _unseen_scores(self, fit, fitted, how, events):
        """Return scores and sample weights of the rows that "auto" calibrates on.

        These are rows that training has not used, or all training rows if there are
        none.
        """
        plan = fit.plan
        if events["progress"] is not None and cross_fits(plan):
            scores, weight = yield from cross_fitted(fit, fitted.unchanged, how, events)
            return -scores, weight
        rows, weight = plan.validation_rows()
        if rows is None:
            return self._row_scores(fit, fitted)
        scores = fitted.validation_scores
        return -(fitted.ensemble.score(rows) if scores is None else scores), weight
